//! Everything that a plan needs before it can be carried out: weights on this machine, and the keys
//! of endpoints. It changes nothing, so that a plan that cannot be had leaves the one before alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use pilotage_plan::{EndpointSpec, KeySource, Plan, ProcessSpec, World};
use pilotage_shell::secret::Secret;
use pilotage_shell::{env, files};

use super::manifests;
use crate::args::Up;
use crate::exit::Wrong;
use crate::progress::Shown;
use crate::store;

/// A plan, and what it needs.
pub(super) struct Prepared {
    pub(super) plan: Plan,
    /// Processes with the paths of their weights.
    pub(super) processes: Vec<(ProcessSpec, PathBuf)>,
    /// Endpoints with the keys that they ask for.
    pub(super) endpoints: Vec<(EndpointSpec, Option<Secret>)>,
}

/// Reads the manifests and prepares what they ask for.
pub(super) async fn again(args: Arc<Up>, world: Arc<World>) -> anyhow::Result<Prepared> {
    prepare(manifests::plan(&args, &world)?).await
}

/// Fetches weights and reads keys.
pub(super) async fn prepare(plan: Plan) -> anyhow::Result<Prepared> {
    check(&plan)?;
    let endpoints = plan.endpoints.iter().map(endpoint).collect::<anyhow::Result<_>>()?;
    let store = store::open()?;
    let mut processes = Vec::new();
    for process in &plan.processes {
        let path = store.ensure(&process.weights, &Shown::default()).await?;
        processes.push((process.clone(), path));
    }
    Ok(Prepared { plan, processes, endpoints })
}

/// Refuses what the gateway would answer otherwise than the plan says, and tells what it leaves out.
fn check(plan: &Plan) -> anyhow::Result<()> {
    for route in &plan.routes {
        let name = &route.name;
        if route.adapter.is_some() {
            return Err(Wrong::new(format!("Route {name}: spec.adapter is not supported yet"))
                .hint("let clients ask for NAME:ADAPTER")
                .into());
        }
    }
    Ok(())
}

fn endpoint(spec: &EndpointSpec) -> anyhow::Result<(EndpointSpec, Option<Secret>)> {
    if let Some(path) = &spec.ca_file {
        return Err(Wrong::new(format!(
            "{}: certificates for one endpoint ({path}) are not supported yet",
            spec.name
        ))
        .hint("add them to a file with the system's, and name that in SSL_CERT_FILE")
        .into());
    }
    let key = spec.key.as_ref().map(key).transpose();
    Ok((spec.clone(), key.with_context(|| format!("no key for {}", spec.name))?))
}

fn key(source: &KeySource) -> anyhow::Result<Secret> {
    match source {
        KeySource::File(path) => files::read_key(Path::new(path))
            .map_err(|error| Wrong::new(format!("cannot use the key in {path}: {error}")).into()),
        KeySource::Env(name) => env::named(name).map(Secret::new).ok_or_else(|| {
            Wrong::new(format!("the environment variable {name} is not set"))
                .hint("set it for `pilotage up`, or use keyFile, which can be read again")
                .into()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_answered_otherwise_is_refused() {
        let expect = |more: &str, good: bool| {
            let text = format!(
                "{{apiVersion: pilotage.dev/v1alpha1, kind: Model, metadata: {{name: a}}, spec: \
                 {{endpoints: [{{url: 'http://h'}}], adapters: [law]}}}}\n---\n{{apiVersion: \
                 pilotage.dev/v1alpha1, kind: Route, metadata: {{name: r}}, spec: {{targets: \
                 [{{model: a}}]{more}}}}}\n"
            );
            let resources = pilotage_plan::parse_all([("f", text.as_str())]).unwrap();
            let plan = pilotage_plan::plan(&resources, &World::with_cores(1)).unwrap();
            assert_eq!(check(&plan).is_ok(), good, "{more}");
        };
        expect("", true);
        expect(", cache: {enabled: true}", true);
        expect(", adapter: law", false);
    }

    #[test]
    fn keys_are_found_or_said_to_be_missing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let source = KeySource::File(path.display().to_string());
        let error = key(&source).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
        files::write_secret(&path, b"sk-1\n").unwrap();
        assert_eq!(key(&source).unwrap().expose(), "sk-1");
        let error = key(&KeySource::Env("NO_SUCH_KEY_ANYWHERE".to_owned())).unwrap_err();
        assert!(error.to_string().contains("NO_SUCH_KEY_ANYWHERE"), "{error}");
    }
}
