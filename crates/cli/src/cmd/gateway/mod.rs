//! `pilotage gateway`: clients of a Kubernetes cluster's Models; and the same for proxies that carry requests
//! themselves, which `pilotage epp` is.
//!
//! client → watch → what counts → plan → gateway, over and over. Nothing is written to the cluster: what is
//! wrong with resources is the operator's to tell in their status.

mod region;
mod serving;
mod view;

#[cfg(test)]
mod tests;

use std::time::Duration;

use anyhow::Context as _;
use pilotage_shell::clock::Clock;
use pilotage_shell::env::{self, Var};
use pilotage_shell::secret::Secret;
use pilotage_shell::{signals, telemetry};
use pilotage_watch::{Purpose, Scope, Watching};

use super::front::{Face, Keys, Weights, bind, certificates, entrance, metrics, traces};
use crate::args::Gateway;
use crate::exit::Wrong;
use crate::installation::{Installation, key_from_env};
use crate::output;
use serving::{Place, Serving};

/// What of a cluster is served, and how.
pub(super) struct Manner {
    pub(super) face: Face,
    pub(super) purpose: Purpose,
    /// Whether a request without a key is served.
    pub(super) open: bool,
}

/// Serves until a signal.
pub(crate) async fn run(args: Gateway) -> anyhow::Result<()> {
    run_as(args, Manner { face: Face::Clients, purpose: Purpose::Serve, open: false }).await
}

/// Serves whoever connects to that until a signal.
pub(super) async fn run_as(args: Gateway, manner: Manner) -> anyhow::Result<()> {
    telemetry::init();
    traces::check()?;
    let mut signals = signals::Shutdown::listen()?;
    let certificates = certificates(args.front.tls_cert.as_deref(), args.front.tls_key.as_deref())?;
    let listener = bind(args.listen, "--listen").await?;
    let admin = bind(args.front.admin_listen, "--admin-listen").await?;
    let client = client().await?;
    let installation = Installation::at(args.front.data_dir.clone())?;
    let clock = Clock::start();
    let watching = Watching::start(&client, &scope(&args, &manner.purpose), clock);
    let keys = Keys { open: manner.open, ..keys(&args, &installation)? };
    let place = Place {
        pod: args.pod.clone(),
        zone: zone(&args)?,
        drain: Duration::from_secs(args.front.drain_timeout),
        metrics: metrics(&args.front)?,
        face: manner.face,
        purpose: manner.purpose,
    };
    let what = told(&args, &place.purpose);
    let entrance = entrance(listener, certificates);
    let mut serving =
        Serving::start(watching, (keys, clock), place, &installation, (entrance, admin))?;
    output::note(&what);
    let stopped = tokio::select! {
        signal = signals.next() => signal,
        () = serving.serve() => "nothing to do",
    };
    if args.leave_after > 0 {
        let leave_after = args.leave_after;
        let until = clock.now_nanos().saturating_add(leave_after.saturating_mul(1_000_000_000));
        output::note(&format!("{stopped}: leaving in {leave_after} s; once more begins at once"));
        tokio::select! {
            () = clock.sleep_until_nanos(until) => {}
            () = serving.serve() => {}
            _ = signals.next() => {}
        }
    }
    output::note(&format!("{stopped}: finishing what runs; once more stops at once"));
    tokio::select! {
        () = serving.drain() => {}
        signal = signals.next() => output::note(&format!("{signal}: stopping at once")),
    }
    installation.retract();
    Ok(())
}

/// A client of the cluster.
pub(super) async fn client() -> anyhow::Result<pilotage_watch::Client> {
    let client = pilotage_watch::client().await.map_err(|error| {
        Wrong::new(format!("there is no cluster to be found: {error}"))
            .hint("set KUBECONFIG, or run in a pod with a service account")
    })?;
    Ok(client)
}

fn scope(args: &Gateway, purpose: &Purpose) -> Scope {
    Scope {
        namespace: Some(args.namespace.clone()).filter(|one| one != "all"),
        system: args.system_namespace.clone(),
        gateways: args.service.clone(),
        purpose: purpose.clone(),
    }
}

/// What is said at the start.
fn told(args: &Gateway, purpose: &Purpose) -> String {
    let Gateway { listen, namespace, .. } = args;
    let admin_listen = args.front.admin_listen;
    let of = match (purpose, namespace.as_str()) {
        (Purpose::Pool(namespace, name), _) => format!("the InferencePool {namespace}/{name}"),
        (_, "all") => "all namespaces".to_owned(),
        (_, one) => format!("namespace {one}"),
    };
    format!("gateway for {of}: clients at {listen}, operators at {admin_listen}")
}

fn keys(args: &Gateway, installation: &Installation) -> anyhow::Result<Keys> {
    let admin = match env::get(Var::AdminKey).filter(|key| !key.is_empty()) {
        Some(key) => Secret::new(key),
        None => installation.key("admin.key")?,
    };
    Ok(Keys {
        local: key_from_env(),
        admin,
        open: false,
        media_hosts: args.front.media_hosts.clone(),
        installation: installation.clone(),
        // Weights are in their pods; a gateway asks no hub for them.
        weights: Weights::default(),
    })
}

fn zone(args: &Gateway) -> anyhow::Result<Option<pilotage_core::traffic::Zone>> {
    if args.front.zone.is_some() {
        return Ok(args.front.zone.clone());
    }
    let said = env::get(Var::Zone).filter(|zone| !zone.is_empty());
    let named = || format!("{} is wrong", env::variable(Var::Zone).name);
    said.map(|zone| zone.parse().with_context(named)).transpose()
}
