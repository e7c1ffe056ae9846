//! `pilotage install`, `uninstall`, `diff`: their flags.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use pilotage_plan::render::kubernetes::install;

use super::kubernetes::{ClusterArgs, Form, label, namespace, overlays};

/// Install gateway and operator in the cluster that KUBECONFIG names.
///
/// Looks first what hinders (rights, the cluster's release, what Helm or another installation has, fields of others),
/// then applies the namespace, the resource definitions and the rest, makes the key of operators' listeners by chance
/// unless there is one, and waits until gateway and operator are available. Doing it again changes nothing: what was
/// said before holds until something else is said (--reset forgets it), and what is not wanted any more is deleted. A
/// namespace that was there before is left as it is. Which Kubernetes it is and which kinds it has is found out; flags
/// that say so are for --dry-run.
#[derive(Debug, clap::Args)]
#[command(after_help = INSTALL_EXAMPLES)]
pub(crate) struct Install {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Print the objects, resource definitions first; talk to no cluster
    #[arg(long, conflicts_with_all = ["diff", "force_conflicts"])]
    pub(crate) dry_run: bool,
    /// Show what would change in the cluster, and change nothing. Ends with 1 where anything would
    #[arg(long)]
    pub(crate) diff: bool,
    /// Take over fields that others have written
    #[arg(long)]
    pub(crate) force_conflicts: bool,
    /// How long to wait for gateway and operator to be available: 120s, 5m; 0s is not at all
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = seconds)]
    pub(crate) wait: Duration,
    /// The namespace that Pilotage is put into
    #[arg(short, long, value_name = "NAME", default_value = install::NAMESPACE, value_parser = namespace)]
    pub(crate) namespace: String,
    /// Take nothing over of what was said when it was installed before
    #[arg(long)]
    pub(crate) reset: bool,
    /// Look at the resources of that namespace alone, with rights there alone
    #[arg(long, value_name = "WHETHER", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) namespaced: Option<bool>,
    /// Gateways at least: 2 where nobody says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) gateways_min: Option<u32>,
    /// Gateways at most: 10 where nobody says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) gateways_max: Option<u32>,
    /// Reach the gateway by a load balancer of the platform
    #[arg(long, value_name = "WHETHER", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) load_balancer: Option<bool>,
    /// Tell HorizontalPodAutoscalers how many copies there should be; a cluster has one such API
    #[arg(long, value_name = "WHETHER", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) external_metrics: Option<bool>,
    /// Refuse Models that are downloaded without a digest; for the whole cluster
    #[arg(long, value_name = "WHETHER", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) require_digest: Option<bool>,
    /// A label of monitors, by which Prometheus' operator chooses them. May be given several times
    #[arg(long = "monitor-label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) monitor_labels: Vec<(String, String)>,
    /// A port of the API server that gateway and operator may reach; 443, 6443 and the one that the cluster names
    /// without. May be given several times
    #[arg(long = "api-server-port", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) api_server_ports: Vec<u16>,
    /// A Secret of the namespace that Pilotage's image is pulled with. May be given several times
    #[arg(long = "image-pull-secret", value_name = "NAME")]
    pub(crate) pull_secrets: Vec<String>,
    /// Keep usage in the PostgreSQL database that this Secret of the namespace names in its entry `url`, or in ENTRY:
    /// postgres://USER:PASSWORD@HOST/NAME?sslmode=require. Without one usage ends with each gateway's pod; `none` is as without
    #[arg(long, value_name = "NAME[/ENTRY]", value_parser = secret_entry)]
    pub(crate) usage_database_secret: Option<String>,
    /// The port of that database: 5432 where nobody says
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) usage_database_port: Option<u16>,
    /// Leave out the resource definitions
    #[arg(long)]
    pub(crate) no_crds: bool,
    /// What the output of --dry-run and --diff looks like
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Form,
}

/// The name of a Secret, and of an entry of it.
fn secret_entry(text: &str) -> Result<String, String> {
    let (name, entry) = text.split_once('/').unwrap_or((text, "url"));
    let is_name = |text: &str| {
        let fits =
            |one: char| one.is_ascii_lowercase() || one.is_ascii_digit() || "-.".contains(one);
        (1..=253).contains(&text.len()) && text.chars().all(fits) && !text.starts_with(['-', '.'])
    };
    let fits = |one: char| one.is_ascii_alphanumeric() || "-._".contains(one);
    match is_name(name) && (1..=253).contains(&entry.len()) && entry.chars().all(fits) {
        true => Ok(text.to_owned()),
        false => {
            Err("write the name of a Secret, and behind a / that of its entry: usage-database/url"
                .to_owned())
        }
    }
}

const INSTALL_EXAMPLES: &str = "\
Examples:
  pilotage install                                   into the namespace `pilotage`, for the whole cluster
  pilotage install --diff                            what that would change
  pilotage install --external-metrics=false          as before, and that no more
  pilotage install --usage-database-secret usage     keep what was used, in a database of one's own
  pilotage install --namespaced -n team-a --no-crds  with rights in one namespace alone
  pilotage install --dry-run --overlay openshift | kubectl apply --server-side -f -";

/// Remove gateway and operator from the cluster that KUBECONFIG names.
///
/// Models and what runs for them stay, and nobody serves or looks after them, until Pilotage is installed again; budgets
/// that keep nodes from being drained until copies have moved go, since nobody moves them. The namespace goes where
/// `install` has made it and nothing of others is in it. With --crds all resources of the whole cluster go, and all that was made of them. Shows what goes and asks before.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  pilotage uninstall\n  pilotage uninstall --crds --yes    leaves nothing behind"
)]
pub(crate) struct Uninstall {
    /// The namespace that Pilotage is in
    #[arg(short, long, value_name = "NAME", default_value = install::NAMESPACE, value_parser = namespace)]
    pub(crate) namespace: String,
    /// Remove the resource definitions, too, with all Models, Routes, Tenants and Fleets of the cluster
    #[arg(long)]
    pub(crate) crds: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// Show what applying manifests would change in the cluster that KUBECONFIG names.
///
/// The resources themselves, and what the operator would then make of them: the API server is asked to apply each
/// object without writing, so that defaults, webhooks and policies have their say. What Secrets hold is never shown.
/// Ends with 0 where nothing would change, with 1 where something would, and with 2 or more where that cannot be said
/// or would be refused.
#[derive(Debug, clap::Args)]
#[command(after_help = DIFF_EXAMPLES)]
pub(crate) struct Diff {
    /// A manifest, or a folder of manifests (*.yaml, *.yml). May be given several times
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// The namespace of resources that name none; that of the context of KUBECONFIG without
    #[arg(short, long, value_name = "NAME", value_parser = namespace)]
    pub(crate) namespace: Option<String>,
    /// The namespace that Pilotage itself is in
    #[arg(long, value_name = "NAME", default_value = install::NAMESPACE, value_parser = namespace)]
    pub(crate) system_namespace: String,
    /// Whose cluster it is, and its mesh; as its operator was told without. May be given several times
    #[arg(long = "overlay", value_name = "NAME", value_parser = overlays())]
    pub(crate) overlays: Vec<String>,
    /// Lines of each object that are shown at most; 0 is all
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(crate) lines: usize,
    /// What the output looks like
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: DiffForm,
}

const DIFF_EXAMPLES: &str = "\
Examples:
  pilotage diff -f models.yaml
  pilotage diff -f models/ -n team-a -o json
  pilotage diff -f models.yaml || test $? -eq 1    fails where that cannot be said alone";

/// What differences look like.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum DiffForm {
    /// Lines that go and lines that come.
    #[default]
    Text,
    /// A list in JSON.
    Json,
}

/// `120s`, `5m`.
fn seconds(text: &str) -> Result<Duration, String> {
    let number = |digits: &str| digits.parse::<u32>().ok();
    let seconds = match (text.strip_suffix('s'), text.strip_suffix('m')) {
        (Some(digits), _) => number(digits),
        (None, Some(digits)) => number(digits).and_then(|minutes| minutes.checked_mul(60)),
        (None, None) => None,
    };
    match seconds {
        Some(seconds) if seconds <= 86_400 => Ok(Duration::from_secs(u64::from(seconds))),
        _ => Err("write a time such as 120s or 5m, at most a day".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        let check = |text: &str, expect: Option<u64>| {
            assert_eq!(seconds(text).ok(), expect.map(Duration::from_secs), "{text}");
        };
        check("120s", Some(120));
        check("5m", Some(300));
        check("0s", Some(0));
        for bad in ["", "5", "s", "-1s", "1h", "99999999m", "86401s"] {
            check(bad, None);
        }
    }
}
