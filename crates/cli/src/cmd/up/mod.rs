//! `pilotage up`: everything on this machine, in one process that supervises the rest.
//!
//! manifests → plan → weights → engines and gateway → wait for a signal → drain. Listeners are bound
//! before anything slow happens, so that a busy port is known at once. SIGHUP reads the manifests again
//! and takes their tenants over: keys, shares, quotas.

mod banner;
mod budgets;
mod manifests;
mod serving;
mod setup;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use pilotage_shell::clock::Clock;
use pilotage_shell::{signals, telemetry};
use tokio::net::TcpListener;

use crate::args::Up;
use crate::exit::Wrong;
use crate::installation::Installation;
use crate::output;
use serving::Serving;

/// Serves until a signal.
pub(crate) async fn run(args: Up) -> anyhow::Result<()> {
    if args.print {
        output::piece(&manifests::text(&args.files)?);
        return Ok(());
    }
    let plan = manifests::plan(&args)?;
    if args.dry_run {
        output::piece(&plan.to_string());
        return Ok(());
    }
    if args.no_keys && !args.listen.ip().is_loopback() {
        return Err(Wrong::new(format!("--no-keys would let anybody use {}", args.listen))
            .hint("serve without keys on a loopback address only, such as --listen 127.0.0.1:8080")
            .into());
    }
    telemetry::init();
    let mut signals = signals::Shutdown::listen()?;
    let listener = bind(args.listen, "--listen").await?;
    let admin = bind(args.admin_listen, "--admin-listen").await?;
    let installation = Installation::at(args.data_dir.clone())?;
    let clock = Clock::start();
    let drain = Duration::from_secs(args.drain_timeout);
    let setup = tokio::select! {
        setup = setup::Setup::new(&args, &plan, &installation, clock) => setup?,
        signal = signals.next() => {
            output::note(&format!("{signal}: stopped before anything ran"));
            return Ok(());
        }
    };
    let mut serving = Serving::start(setup, listener, admin, drain)?;
    let mut reload = signals::Reload::listen()?;
    let stopped = loop {
        tokio::select! {
            stopped = serving.watch(&mut signals) => break stopped,
            () = reload.next() => serving.set_tenants(manifests::plan(&args)),
        }
    };
    output::note(&format!("{stopped}: finishing what runs; once more stops at once"));
    tokio::select! {
        () = serving.drain() => {}
        signal = signals.next() => output::note(&format!("{signal}: stopping at once")),
    }
    installation.retract();
    Ok(())
}

async fn bind(listen: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(listen)
        .await
        .map_err(|error| {
            if error.kind() == std::io::ErrorKind::AddrInUse {
                return Wrong::new(format!("{listen} is in use by another process"))
                    .hint(format!("stop that one, or choose another address with {flag}"))
                    .into();
            }
            anyhow::Error::new(error)
        })
        .with_context(|| format!("cannot listen on {listen}"))
}
