//! `pilotage install`: gateway and operator in a cluster.
//!
//! What is installed is a list of objects in order. It is printed, compared with what is there, or applied.

use std::collections::BTreeSet;

use anyhow::bail;
use pilotage_operator::install::{Done, InstallError, Installer, Said, Surroundings, Wish};
use pilotage_operator::kubernetes;
use pilotage_plan::render::kubernetes::install::{self, Installation, Scope, UsageDatabase};
use pilotage_plan::render::kubernetes::{IMAGE, Platform};
use serde_json::Value;

use super::{crd, diff, render};
use crate::args::{DiffForm, Form, Install, overlaid};
use crate::exit::{Ended, Wrong};
use crate::output;

/// Lines of each object that --diff shows.
const LINES_MAX: usize = 200;

/// Prints, compares or applies.
pub(crate) async fn run(args: Install) -> anyhow::Result<()> {
    if args.dry_run {
        return print(&args);
    }
    if args.diff {
        let form = if args.output == Form::Json { DiffForm::Json } else { DiffForm::Text };
        return diff::ended(compare(&args).await, |changes| diff::show(changes, LINES_MAX, form));
    }
    match apply(&args).await {
        Ok((done, about_usage)) => {
            tell(&args.namespace, done);
            output::note(&about_usage);
            Ok(())
        }
        Err(error) => Err(told(error)),
    }
}

/// Prints what would be applied, resource definitions first.
fn print(args: &Install) -> anyhow::Result<()> {
    let said = said(args);
    check(&said)?;
    let installation = installation(args, &said);
    let about_usage = install::about_usage(&installation);
    let mut objects = wish(args, said.clone(), installation).objects();
    if said.namespaced == Some(true) {
        // Who has rights in a namespace alone cannot write it, and it is there.
        objects.retain(|object| object["kind"] != "Namespace");
        output::note(&format!("the namespace {} has to be there", args.namespace));
    }
    objects.sort_by_key(|object| object["kind"] != "CustomResourceDefinition");
    crd::show(&objects, args.output)?;
    render::tell(&install::secrets());
    output::note(&about_usage);
    Ok(())
}

async fn compare(args: &Install) -> anyhow::Result<Vec<kubernetes::Change>> {
    let (installer, wish) = prepare(args).await?;
    Ok(installer.preview(&wish).await?)
}

async fn apply(args: &Install) -> anyhow::Result<(Done, String)> {
    let (installer, wish) = prepare(args).await?;
    let about_usage = install::about_usage(&wish.installation);
    Ok((installer.install(&wish).await?, about_usage))
}

/// What is wished for, as the cluster is and as it was said before.
async fn prepare(args: &Install) -> anyhow::Result<(Installer, Wish)> {
    let client = kubernetes::connect().await?;
    let installer = Installer::new(client, Box::new(output::note));
    let found = installer.surroundings().await?;
    let before = match args.reset {
        true => None,
        false => installer.said(&args.namespace).await?,
    };
    let (said, taken) = said(args).over(&before.unwrap_or_default());
    let flags = taken.flags();
    if !flags.is_empty() {
        let flags = flags.join(" ");
        output::note(&format!("as it was installed before: {flags} (--reset takes nothing over)"));
    }
    check(&said)?;
    let mut installation = installation(args, &said);
    fit(&mut installation, &said, found);
    Ok((installer, wish(args, said, installation)))
}

/// Makes it fit the cluster.
fn fit(installation: &mut Installation, said: &Said, found: Surroundings) {
    let cluster = &mut installation.cluster;
    (cluster.minor, cluster.has) = (found.minor, found.has);
    if found.is_openshift && cluster.platform == Platform::Plain {
        output::note("this is OpenShift: --overlay openshift is taken");
        cluster.platform = Platform::OpenShift;
    }
    if said.api_server_ports.is_empty() {
        let all: BTreeSet<u16> = install::API_PORTS.into_iter().chain(found.api_ports).collect();
        installation.api_ports = all.into_iter().collect();
    }
}

fn wish(args: &Install, said: Said, installation: Installation) -> Wish {
    Wish {
        installation,
        definitions: definitions(args),
        force: args.force_conflicts,
        wait: args.wait,
        said,
    }
}

/// What is said now.
fn said(args: &Install) -> Said {
    Said {
        namespaced: args.namespaced,
        gateways_min: args.gateways_min,
        gateways_max: args.gateways_max,
        load_balancer: args.load_balancer,
        external_metrics: args.external_metrics,
        require_digest: args.require_digest,
        overlays: args.cluster.overlays.clone(),
        image: args.cluster.image.clone(),
        pull_secrets: args.pull_secrets.clone(),
        monitor_labels: args.monitor_labels.iter().cloned().collect(),
        api_server_ports: args.api_server_ports.clone(),
        usage_database_secret: args.usage_database_secret.clone(),
        usage_database_port: args.usage_database_port,
    }
}

/// The database of usage, where one is said and not taken back.
fn usage_database(said: &Said) -> Option<UsageDatabase> {
    let text = said.usage_database_secret.as_deref().filter(|text| *text != "none")?;
    let (secret, entry) = text.split_once('/').unwrap_or((text, UsageDatabase::ENTRY));
    let port = said.usage_database_port.unwrap_or(UsageDatabase::PORT);
    Some(UsageDatabase { secret: secret.to_owned(), entry: entry.to_owned(), port })
}

/// Gateways at least and at most.
fn gateways(said: &Said) -> (u32, u32) {
    let (least, most) = Installation::default().gateways;
    (said.gateways_min.unwrap_or(least), said.gateways_max.unwrap_or(most))
}

/// What is said together and cannot be.
fn check(said: &Said) -> anyhow::Result<()> {
    let (least, most) = gateways(said);
    if least > most {
        let wrong = Wrong::new("there would be fewer gateways at most than at least");
        bail!(wrong.hint("raise --gateways-max, or lower --gateways-min"));
    }
    let of_cluster =
        [("--external-metrics", said.external_metrics), ("--require-digest", said.require_digest)];
    let both = of_cluster.into_iter().find(|(_, said)| *said == Some(true));
    if let (Some(true), Some((flag, _))) = (said.namespaced, both) {
        let wrong =
            Wrong::new(format!("{flag} is for the whole cluster, and --namespaced for none of it"));
        bail!(wrong.hint(format!("leave out {flag}, or write --namespaced=false")));
    }
    Ok(())
}

fn installation(args: &Install, said: &Said) -> Installation {
    let mut cluster = args.cluster.cluster(&args.namespace, &args.namespace);
    (cluster.platform, cluster.mesh) = overlaid(&said.overlays);
    cluster.image = said.image.clone().unwrap_or_else(|| IMAGE.to_owned());
    cluster.monitor_labels.clone_from(&said.monitor_labels);
    let is = |said: Option<bool>| said == Some(true);
    let ports = match said.api_server_ports.is_empty() {
        true => install::API_PORTS.to_vec(),
        false => said.api_server_ports.clone(),
    };
    Installation {
        cluster,
        scope: if is(said.namespaced) { Scope::Namespace } else { Scope::Cluster },
        gateways: gateways(said),
        external_metrics: is(said.external_metrics),
        requires_digest: is(said.require_digest),
        balanced: is(said.load_balancer),
        pull_secrets: said.pull_secrets.clone(),
        api_ports: ports,
        usage_database: usage_database(said),
    }
}

fn definitions(args: &Install) -> Vec<Value> {
    if args.no_crds { Vec::new() } else { pilotage_plan::crd::all() }
}

/// What there is now, and what to do next.
fn tell(namespace: &str, done: Done) {
    let Done { made, changed, kept, gone, .. } = done;
    output::note(&format!(
        "{made} objects made, {changed} changed, {kept} as they were, {gone} deleted"
    ));
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Command};

    fn parsed(flags: &str) -> Install {
        let words = ["pilotage", "install"].into_iter().chain(flags.split_whitespace());
        match Args::try_parse_from(words).unwrap().command {
            Command::Install(args) => *args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_say_no_more_than_they_do() {
        assert_eq!(said(&parsed("")), Said::default());
        let flags = "--namespaced=false --gateways-max 4 --load-balancer --external-metrics=false --image i \
                     --overlay eks --image-pull-secret s --monitor-label a=b --api-server-port 16443 --usage-database-secret usage/dsn --usage-database-port 6432";
        assert_eq!(said(&parsed(flags)).flags().len(), 11);
        let args = parsed(flags);
        let made = installation(&args, &said(&args));
        assert_eq!((made.gateways, made.balanced, made.external_metrics), ((2, 4), true, false));
        assert_eq!((made.scope, made.cluster.platform), (Scope::Cluster, Platform::Eks));
        assert_eq!((made.cluster.image.as_str(), made.api_ports), ("i", vec![16_443]));
        let database = made.usage_database.map(|one| (one.secret, one.entry, one.port));
        assert_eq!(database, Some(("usage".to_owned(), "dsn".to_owned(), 6432)));
        let args = parsed("--usage-database-secret usage");
        let database = usage_database(&said(&args)).map(|one| (one.entry, one.port));
        assert_eq!(database, Some(("url".to_owned(), 5432)));
        assert_eq!(usage_database(&said(&parsed("--usage-database-secret none"))), None);
        let words = ["pilotage", "install", "--usage-database-secret", "a b"];
        assert!(Args::try_parse_from(words).is_err());
        // As it is without a word.
        let args = parsed("-n pilotage");
        assert_eq!(installation(&args, &said(&args)), Installation::default());
    }

    #[test]
    fn what_cannot_be_together_is_said() {
        let check = |flags: &str, expect: Option<&str>| {
            let found = check(&said(&parsed(flags))).err().map(|error| error.to_string());
            assert!(found.as_deref().is_some() == expect.is_some(), "{flags}: {found:?}");
            assert!(found.unwrap_or_default().contains(expect.unwrap_or_default()), "{flags}");
        };
        check("", None);
        check("--gateways-min 11", Some("fewer gateways at most"));
        check("--namespaced --external-metrics", Some("--external-metrics"));
        check("--namespaced --require-digest", Some("--require-digest"));
        check("--namespaced=false --external-metrics", None);
        check("--namespaced --external-metrics=false", None);
    }

    #[test]
    fn the_clusters_own_port_is_beside_the_usual_ones() {
        let found = || Surroundings {
            minor: 33,
            has: Installation::default().cluster.has,
            is_openshift: false,
            api_ports: vec![16_443],
        };
        let ports = |flags: &str| {
            let said = said(&parsed(flags));
            let mut made = installation(&parsed(flags), &said);
            fit(&mut made, &said, found());
            made.api_ports
        };
        assert_eq!(ports(""), [443, 6443, 16_443]);
        assert_eq!(ports("--api-server-port 8443"), [8443]);
    }
}
