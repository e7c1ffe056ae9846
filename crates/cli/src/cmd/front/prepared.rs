//! A plan with everything that carrying it out takes: files of weights, and the keys and certificates
//! of endpoints, which are read here.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use pilotage_operator::local::Placed;
use pilotage_operator::weights::Lease;
use pilotage_plan::{EndpointSpec, KeySource, Plan};
use pilotage_shell::client::Client;
use pilotage_shell::secret::Secret;
use pilotage_shell::{env, files};

use crate::exit::Wrong;

/// A plan, and what it needs.
pub(in crate::cmd) struct Prepared {
    pub(in crate::cmd) plan: Plan,
    /// Processes with the paths of their files.
    pub(in crate::cmd) processes: Vec<Placed>,
    /// Endpoints with what speaking to them takes.
    pub(in crate::cmd) endpoints: Vec<Reached>,
    /// What keeps the weights in the cache.
    pub(in crate::cmd) leases: Leases,
}

/// Keeps weights in the cache for as long as a copy of it lives.
pub(in crate::cmd) type Leases = Arc<Vec<Lease>>;

/// An endpoint, and what speaking to it takes.
#[derive(Clone)]
pub(in crate::cmd) struct Reached {
    pub(in crate::cmd) spec: EndpointSpec,
    /// The key that it asks for.
    pub(in crate::cmd) key: Option<Secret>,
    /// What it is trusted by, instead of the system's certificates.
    pub(in crate::cmd) trust: Option<Trust>,
}

/// Certificates, and a client that trusts no others.
#[derive(Clone)]
pub(in crate::cmd) struct Trust {
    pem: Arc<[u8]>,
    pub(in crate::cmd) client: Client,
}

impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        self.pem == other.pem
    }
}

/// Most bytes of a file with certificates: the system's own have a quarter of that.
const CA_BYTES_MAX: u64 = 1 << 20;

/// Endpoints that name the same certificates share a client, and with it connections.
pub(in crate::cmd) fn reach(endpoints: &[EndpointSpec]) -> anyhow::Result<Vec<Reached>> {
    let mut trusted: BTreeMap<&str, Trust> = BTreeMap::new();
    let mut reached = Vec::new();
    for spec in endpoints {
        let key = spec.key.as_ref().map(|source| key(spec, source)).transpose()?;
        let trust = match spec.ca_file.as_deref() {
            None => None,
            Some(path) => match trusted.get(path) {
                Some(known) => Some(known.clone()),
                None => {
                    let read = trust(Path::new(path)).map_err(|error| {
                        let at = spec.written.at("caFile");
                        Wrong::new(format!("{at}: cannot use the certificates in {path}: {error}"))
                    })?;
                    trusted.insert(path, read.clone());
                    Some(read)
                }
            },
        };
        reached.push(Reached { spec: spec.clone(), key, trust });
    }
    Ok(reached)
}

fn trust(path: &Path) -> std::io::Result<Trust> {
    let pem = files::read_bounded(path, CA_BYTES_MAX)?;
    let client = Client::trusting(&pem)?;
    Ok(Trust { pem: pem.into(), client })
}

fn key(spec: &EndpointSpec, source: &KeySource) -> anyhow::Result<Secret> {
    match source {
        KeySource::File(path) => files::read_key(Path::new(path)).map_err(|error| {
            let at = spec.written.at("keyFile");
            Wrong::new(format!("{at}: cannot use the key in {path}: {error}")).into()
        }),
        KeySource::Env(name) => env::named(name).map(Secret::new).ok_or_else(|| {
            let at = spec.written.at("keyEnv");
            Wrong::new(format!("{at}: the environment variable {name} is not set"))
                .hint("set it for `pilotage up`, or use keyFile, which can be read again")
                .into()
        }),
    }
}

#[cfg(test)]
mod tests {
    use pilotage_plan::World;

    use super::*;

    /// Endpoints as `f.yaml` has them, one a line from the fifth on.
    fn endpoints(lines: &[&str]) -> Vec<EndpointSpec> {
        let mut text =
            "apiVersion: pilotage.dev/v1alpha1\nkind: Model\nmetadata: {name: a}\nspec: \
                        {endpoints: [\n"
                .to_owned();
        for line in lines {
            text.push_str(&format!("{line},\n"));
        }
        text.push_str("]}\n");
        let resources = pilotage_plan::parse_all([("f.yaml", text.as_str())]).unwrap();
        pilotage_plan::plan(&resources, &World::with_cores(1)).unwrap().endpoints
    }

    fn refusal(line: &str) -> String {
        let error = reach(&endpoints(&["{url: 'http://first'}", line])).err().unwrap();
        error.to_string()
    }

    #[test]
    fn keys_are_found_or_said_to_be_missing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let line = format!("{{url: 'http://h', keyFile: '{}'}}", path.display());
        let error = refusal(&line);
        let expect = format!(
            "f.yaml:6: spec.endpoints[1].keyFile: cannot use the key in {}",
            path.display()
        );
        assert!(error.starts_with(&expect), "{error}");
        files::write_secret(&path, b"sk-1\n").unwrap();
        let reached = reach(&endpoints(&[&line])).unwrap();
        assert_eq!(reached[0].key.as_ref().unwrap().expose(), "sk-1");
        let error = refusal("{url: 'http://h', keyEnv: NO_SUCH_KEY_ANYWHERE}");
        assert!(error.starts_with("f.yaml:6: spec.endpoints[1].keyEnv: "), "{error}");
        assert!(error.contains("NO_SUCH_KEY_ANYWHERE"), "{error}");
    }

    #[test]
    fn certificates_are_read_or_said_to_be_missing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let line = format!("{{url: 'https://h', caFile: '{}'}}", path.display());
        let check = |expect: &str| {
            let error = refusal(&line);
            let begin = "f.yaml:6: spec.endpoints[1].caFile: cannot use the certificates in ";
            assert!(error.starts_with(begin) && error.contains(expect), "{error}");
        };
        check("No such file");
        std::fs::write(&path, "no certificate").unwrap();
        check("no certificate");
        std::fs::write(&path, vec![b'a'; CA_BYTES_MAX as usize + 1]).unwrap();
        check("more than");
    }

    #[test]
    fn the_same_certificates_are_the_same_trust() {
        let pem = |file: &str| {
            let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/certificates");
            tests.join(file).display().to_string()
        };
        let line =
            |host: &str, file: &str| format!("{{url: 'https://{host}', caFile: '{}'}}", pem(file));
        let lines = [line("a", "ca.pem"), line("b", "ca.pem"), line("c", "good.pem")];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let reached = reach(&endpoints(&lines)).unwrap();
        let trust = |at: usize| reached[at].trust.as_ref().unwrap();
        assert!(trust(0) == trust(1) && trust(0) != trust(2));
        assert!(Arc::ptr_eq(&trust(0).pem, &trust(1).pem), "one client for both");
    }
}
