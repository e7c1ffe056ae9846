//! `pilotage install`: gateway and operator in a cluster.
//!
//! What is installed is a list of objects in order; printing it is one thing to do with that list,
//! and the only one without a client for clusters.

use anyhow::bail;
use pilotage_plan::render::kubernetes::Object;
use pilotage_plan::render::kubernetes::install::{self, Installation, Scope};
use serde_json::Value;

use super::{crd, render};
use crate::args::Install;
use crate::exit::Wrong;

/// Prints what would be applied.
pub(crate) fn run(args: &Install) -> anyhow::Result<()> {
    if args.gateways_min > args.gateways_max {
        let wrong = Wrong::new("there would be fewer gateways at most than at least");
        bail!(wrong.hint("raise --gateways-max, or lower --gateways-min"));
    }
    if !args.dry_run {
        let wrong = Wrong::new(
            "nothing is applied without a client for clusters, which this is built without",
        );
        bail!(wrong.hint("pilotage install --dry-run | kubectl apply --server-side -f -"));
    }
    crd::show(&objects(args), args.output)?;
    render::tell(&install::secrets());
    Ok(())
}

/// What is applied, in order.
fn objects(args: &Install) -> Vec<Value> {
    let installation = Installation {
        cluster: args.cluster.cluster(&args.namespace, &args.namespace),
        scope: if args.namespaced { Scope::Namespace } else { Scope::Cluster },
        gateways: (args.gateways_min, args.gateways_max),
        external_metrics: args.external_metrics,
        requires_digest: args.require_digest,
        balanced: args.load_balancer,
        pull_secrets: Vec::new(),
    };
    let definitions = if args.no_crds { Vec::new() } else { pilotage_plan::crd::all() };
    let objects = install::objects(&installation);
    definitions.into_iter().chain(objects.iter().map(Object::value).cloned()).collect()
}
