//! `pilotage install`: gateway and operator in a cluster.
//!
//! What is installed is a list of objects in order. It is printed, compared with what is there, or applied.

use anyhow::bail;
use pilotage_operator::install::{Done, InstallError, Installer, Surroundings, Wish};
use pilotage_operator::kubernetes;
use pilotage_plan::render::kubernetes::install::{self, Installation, Scope};
use pilotage_plan::render::kubernetes::{Object, Platform};
use serde_json::Value;

use super::{crd, diff, render};
use crate::args::{DiffForm, Form, Install};
use crate::exit::{Ended, Wrong};
use crate::output;

/// Lines of each object that --diff shows.
const LINES_MAX: usize = 200;

/// Prints, compares or applies.
pub(crate) async fn run(args: Install) -> anyhow::Result<()> {
    if args.gateways_min > args.gateways_max {
        let wrong = Wrong::new("there would be fewer gateways at most than at least");
        bail!(wrong.hint("raise --gateways-max, or lower --gateways-min"));
    }
    if args.dry_run {
        crd::show(&objects(&args), args.output)?;
        render::tell(&install::secrets());
        return Ok(());
    }
    if args.diff {
        let form = if args.output == Form::Json { DiffForm::Json } else { DiffForm::Text };
        return diff::ended(compare(&args).await, |changes| diff::show(changes, LINES_MAX, form));
    }
    match apply(&args).await {
        Ok(done) => {
            tell(&args.namespace, done);
            Ok(())
        }
        Err(error) => Err(told(error)),
    }
}

async fn compare(args: &Install) -> anyhow::Result<Vec<kubernetes::Change>> {
    let (installer, wish) = prepare(args).await?;
    Ok(installer.preview(&wish).await?)
}

async fn apply(args: &Install) -> anyhow::Result<Done> {
    let (installer, wish) = prepare(args).await?;
    Ok(installer.install(&wish).await?)
}

async fn prepare(args: &Install) -> anyhow::Result<(Installer, Wish)> {
    let client = kubernetes::connect().await?;
    let installer = Installer::new(client, Box::new(output::note));
    let found = installer.surroundings().await?;
    let wish = wish(args, found);
    Ok((installer, wish))
}

/// What is wished for, as the cluster is.
fn wish(args: &Install, found: Surroundings) -> Wish {
    let mut installation = installation(args);
    let cluster = &mut installation.cluster;
    (cluster.minor, cluster.has) = (found.minor, found.has);
    if found.is_openshift && cluster.platform == Platform::Plain {
        output::note("this is OpenShift: --overlay openshift is taken");
        cluster.platform = Platform::OpenShift;
    }
    Wish {
        installation,
        definitions: definitions(args),
        force: args.force_conflicts,
        wait: args.wait,
    }
}

fn installation(args: &Install) -> Installation {
    Installation {
        cluster: args.cluster.cluster(&args.namespace, &args.namespace),
        scope: if args.namespaced { Scope::Namespace } else { Scope::Cluster },
        gateways: (args.gateways_min, args.gateways_max),
        external_metrics: args.external_metrics,
        requires_digest: args.require_digest,
        balanced: args.load_balancer,
        pull_secrets: args.pull_secrets.clone(),
    }
}

fn definitions(args: &Install) -> Vec<Value> {
    if args.no_crds { Vec::new() } else { pilotage_plan::crd::all() }
}

/// What is printed, in order.
fn objects(args: &Install) -> Vec<Value> {
    let objects = install::objects(&installation(args));
    definitions(args).into_iter().chain(objects.iter().map(Object::value).cloned()).collect()
}

/// What there is now, and what to do next.
fn tell(namespace: &str, done: Done) {
    let Done { made, changed, kept, .. } = done;
    output::note(&format!("{made} objects made, {changed} changed, {kept} as they were"));
    let secret = install::ADMIN_SECRET;
    output::line(&format!(
        "Pilotage is in the namespace {namespace}, and three things are worth knowing:\n  \
         Deployment pilotage-gateway    serves clients, at http://pilotage-gateway.{namespace}\n  \
         Deployment pilotage-operator   makes what Models say\n  \
         Secret {secret}          has the key of operators' listeners; to read it:\n    \
         kubectl -n {namespace} get secret {secret} -o jsonpath='{{.data.key}}' | base64 -d"
    ));
}

/// An error with its hint.
pub(super) fn told(error: anyhow::Error) -> anyhow::Error {
    let Some(why) = error.downcast_ref::<InstallError>() else { return error };
    let may_pass = matches!(
        why,
        InstallError::Server(_) | InstallError::NotServed(_) | InstallError::NotAvailable(_)
    );
    let hint = why.hint();
    if !may_pass {
        let wrong = Wrong::new(why.to_string());
        return hint.into_iter().fold(wrong, Wrong::hint).into();
    }
    output::failure(&why.to_string());
    hint.into_iter().for_each(output::hint);
    Ended(1).into()
}
