//! `pilotage crd`, `render`, `lint`, `operator`: their flags.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::ValueEnum;
use pilotage_plan::render::kubernetes::{self, Cluster, Installed, Mesh, Platform, install};

/// Print the CustomResourceDefinitions: Model, Route, Tenant, Fleet.
///
/// They are made from the schemas that check manifests, with the parser's own checks as rules in CEL, so
/// that an API server takes and refuses what `pilotage up` does.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  pilotage crd | kubectl apply --server-side -f -")]
pub(crate) struct Crd {
    /// What the output looks like
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Form,
}

/// Print the Kubernetes objects that manifests become, offline.
///
/// What the operator would apply: workloads, services, policies, claims, autoscalers. The same manifests
/// and flags give the same bytes. Secrets are not made here: which ones are needed is said on stderr.
#[derive(Debug, clap::Args)]
#[command(after_help = RENDER_EXAMPLES)]
pub(crate) struct Render {
    #[command(flatten)]
    pub(crate) manifests: Manifests,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// The namespace of the objects
    #[arg(short, long, value_name = "NAME", default_value = "default", value_parser = namespace)]
    pub(crate) namespace: String,
    /// The namespace that Pilotage itself is in
    #[arg(long, value_name = "NAME", default_value = install::NAMESPACE, value_parser = namespace)]
    pub(crate) system_namespace: String,
    /// What the output looks like
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Form,
}

const RENDER_EXAMPLES: &str = "\
Examples:
  pilotage render -f models.yaml
  pilotage render -f models/ --overlay eks --overlay istio --kubernetes 1.31
  pilotage render -f models.yaml --lws absent | kubectl apply --server-side --dry-run=server -f -";

/// Find what is likely to go wrong with manifests on a cluster, though nothing is wrong with them.
///
/// Each finding has its file and line, why it matters and a way out. Ends with 1 where one is an error,
/// or with --strict where there is any but an info.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  pilotage lint -f models.yaml\n  pilotage lint -f models/ --sizes --strict -o json"
)]
pub(crate) struct Lint {
    #[command(flatten)]
    pub(crate) manifests: Manifests,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Fail for warnings, too
    #[arg(long)]
    pub(crate) strict: bool,
    /// What the output looks like
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: crate::output::Format,
}

/// Run what keeps a cluster as its resources say: one of several leads, the others take over.
///
/// Makes the objects of Models, keeps them as they are to be, and tells in their status and events what is
/// the case. Asks the cluster that KUBECONFIG names, or that it runs in.
#[derive(Debug, clap::Args)]
#[command(after_help = OPERATOR_EXAMPLES)]
pub(crate) struct Operator {
    /// Where metrics and health are served
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
    pub(crate) admin_listen: SocketAddr,
    /// Where KEDA asks for numbers of copies (gRPC); without it nowhere
    #[arg(long, value_name = "ADDR")]
    pub(crate) scaler_listen: Option<SocketAddr>,
    /// Where the API server asks for external metrics (TLS); without it nowhere
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics_api_listen: Option<SocketAddr>,
    /// Look at the resources of that namespace alone
    #[arg(short, long, value_name = "NAME", value_parser = namespace)]
    pub(crate) namespace: Option<String>,
    /// The namespace that Pilotage itself is in; that of the pod, or of the user's context, without
    #[arg(long, value_name = "NAME", value_parser = namespace)]
    pub(crate) system_namespace: Option<String>,
    /// Whose cluster it is, and its mesh. May be given several times
    #[arg(long = "overlay", value_name = "NAME", value_parser = overlays())]
    pub(crate) overlays: Vec<String>,
    /// Pilotage's own image, which runs embedded engines
    #[arg(long, value_name = "IMAGE", default_value = kubernetes::IMAGE)]
    pub(crate) image: String,
    /// A label of monitors of Models, by which Prometheus' operator chooses them. May be given several times
    #[arg(long = "monitor-label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) monitor_labels: Vec<(String, String)>,
    /// Print what would be done, write nothing, and stop
    #[arg(long)]
    pub(crate) dry_run: bool,
}

const OPERATOR_EXAMPLES: &str = "\
Examples:
  pilotage operator --dry-run                    what would be changed in this cluster
  pilotage operator --namespace team-a           for the resources of one namespace";

impl Operator {
    /// What is rendered for; which kinds there are is found out.
    pub(crate) fn cluster(&self, system: &str) -> Cluster {
        let (platform, mesh) = overlaid(&self.overlays);
        Cluster {
            system: system.to_owned(),
            platform,
            mesh,
            image: self.image.clone(),
            monitor_labels: self.monitor_labels.iter().cloned().collect(),
            ..Cluster::default()
        }
    }
}

/// Which manifests.
#[derive(Debug, clap::Args)]
pub(crate) struct Manifests {
    /// A manifest, or a folder of manifests (*.yaml, *.yml). May be given several times
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Read the heads of weights to know what they take, over the network where they are remote
    #[arg(long)]
    pub(crate) sizes: bool,
}

/// What kind of cluster it is.
#[derive(Debug, clap::Args)]
pub(crate) struct ClusterArgs {
    /// Whose cluster it is, and its mesh. May be given several times
    #[arg(long = "overlay", value_name = "NAME", value_parser = overlays())]
    pub(crate) overlays: Vec<String>,
    /// Its Kubernetes
    #[arg(long, value_name = "1.N", default_value = "1.32", value_parser = minor)]
    pub(crate) kubernetes: u32,
    /// Whether LeaderWorkerSet is installed; without it copies over several nodes are StatefulSets
    #[arg(long, value_enum, value_name = "WHETHER", default_value = "present")]
    pub(crate) lws: Presence,
    /// Whether KEDA is installed
    #[arg(long, value_enum, value_name = "WHETHER", default_value = "present")]
    pub(crate) keda: Presence,
    /// Whether Prometheus' operator is installed
    #[arg(long, value_enum, value_name = "WHETHER", default_value = "absent")]
    pub(crate) monitors: Presence,
    /// Whether the recommender of VerticalPodAutoscaler is installed
    #[arg(long, value_enum, value_name = "WHETHER", default_value = "absent")]
    pub(crate) vpa: Presence,
    /// Pilotage's own image; that of this release without
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,
}

/// Whether something is installed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Presence {
    /// It is.
    Present,
    /// It is not.
    Absent,
}

/// What objects look like.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum Form {
    /// Documents of YAML.
    #[default]
    Yaml,
    /// A List in JSON.
    Json,
}

impl ClusterArgs {
    /// The cluster with objects in that namespace, and Pilotage itself in the other.
    pub(crate) fn cluster(&self, namespace: &str, system: &str) -> Cluster {
        let is_there = |presence: Presence| presence == Presence::Present;
        let (platform, mesh) = overlaid(&self.overlays);
        Cluster {
            namespace: namespace.to_owned(),
            system: system.to_owned(),
            minor: self.kubernetes,
            platform,
            mesh,
            has: Installed {
                leader_worker_set: is_there(self.lws),
                keda: is_there(self.keda),
                monitors: is_there(self.monitors),
                vertical: is_there(self.vpa),
            },
            image: self.image.clone().unwrap_or_else(|| kubernetes::IMAGE.to_owned()),
            ..Cluster::default()
        }
    }
}

/// Whose cluster it is and its mesh, by the names of overlays; the last one of each counts.
pub(crate) fn overlaid(names: &[String]) -> (Platform, Option<Mesh>) {
    let platform = names.iter().filter_map(|name| Platform::parse(name)).next_back();
    let mesh = names.iter().filter_map(|name| Mesh::parse(name)).next_back();
    (platform.unwrap_or_default(), mesh)
}

/// A label as `KEY=VALUE`, of the form that API servers take.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let ends = |text: &str| {
        let ends = [text.bytes().next(), text.bytes().last()];
        ends.into_iter().flatten().all(|b| b.is_ascii_alphanumeric())
    };
    let is_word = |text: &str| text.len() <= 63 && text.bytes().all(inner) && ends(text);
    let is_key = |key: &str| {
        let (prefix, name) = key.split_once('/').unwrap_or(("x", key));
        !name.is_empty()
            && is_word(name)
            && !prefix.is_empty()
            && prefix.bytes().all(inner)
            && ends(prefix)
    };
    match text.split_once('=') {
        Some((key, value)) if is_key(key) && is_word(value) => {
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => Err("write a label such as release=prometheus".to_owned()),
    }
}

pub(super) fn overlays() -> clap::builder::PossibleValuesParser {
    let platforms = Platform::ALL.map(Platform::name).into_iter();
    platforms.chain(Mesh::ALL.map(Mesh::name)).collect::<Vec<_>>().into()
}

/// `1.32`, or `v1.32.4` as clusters say it.
fn minor(text: &str) -> Result<u32, String> {
    let number = text.trim_start_matches('v').strip_prefix("1.").and_then(|rest| {
        let digits = rest.split('.').next().unwrap_or(rest);
        digits.parse().ok()
    });
    let least = kubernetes::MINOR_MIN;
    match number {
        Some(minor) if (least..1000).contains(&minor) => Ok(minor),
        _ => Err(format!("write a release such as 1.32, at least 1.{least}")),
    }
}

/// A namespace is a DNS label.
pub(super) fn namespace(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = |b: Option<u8>| b.is_some_and(plain);
    let is_label = text.len() <= 63
        && ends(text.bytes().next())
        && ends(text.bytes().last())
        && text.bytes().all(|b| plain(b) || b == b'-');
    if is_label {
        return Ok(text.to_owned());
    }
    Err("a namespace has 1 to 63 lower-case letters, digits and `-`, a letter or digit at both ends".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{label, minor, namespace};

    #[test]
    fn labels_are_read() {
        let pair = |key: &str, value: &str| Ok((key.to_owned(), value.to_owned()));
        assert_eq!(label("release=prometheus"), pair("release", "prometheus"));
        assert_eq!(label("corp.io/team=a.b"), pair("corp.io/team", "a.b"));
        assert_eq!(label("a="), pair("a", ""));
        for bad in ["", "a", "=b", "a=b c", "-a=b", "/a=b", "a/=b", "a=b\n"] {
            assert!(label(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn releases_are_read() {
        let check =
            |text: &str, expect: Option<u32>| assert_eq!(minor(text).ok(), expect, "{text}");
        check("1.32", Some(32));
        check("v1.29.4", Some(29));
        for bad in ["1.28", "2.0", "32", "1.", "1.x", ""] {
            check(bad, None);
        }
    }

    #[test]
    fn namespaces_are_labels() {
        for good in ["a", "team-a", "0x"] {
            assert_eq!(namespace(good).as_deref(), Ok(good));
        }
        for bad in ["", "A", "-a", "a-", "a.b", &"a".repeat(64)] {
            assert!(namespace(bad).is_err(), "{bad}");
        }
    }
}
