//! `pilotage up`: everything on this machine, in one process that supervises the rest.
//!
//! manifests → plan → weights → engines and gateway → wait for a signal → drain. Listeners are bound
//! before anything slow happens, so that a busy port is known at once. SIGHUP, and `--watch` when files
//! change, read the manifests again and carry out what differs; what is wrong with them changes
//! nothing.

mod banner;
mod budgets;
mod facts;
mod fleet;
mod load;
mod manifests;
mod prepare;
mod reload;
mod serving;
mod setup;
mod traffic;
mod trials;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use pilotage_plan::World;
use pilotage_shell::clock::Clock;
use pilotage_shell::serve::{Certificates, Entrance};
use pilotage_shell::{signals, tasks, telemetry};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::args::Up;
use crate::exit::Wrong;
use crate::installation::Installation;
use crate::output;
use facts::Known;
pub(crate) use manifests::read as texts;
use prepare::Prepared;
use serving::Serving;
use setup::Setup;
use watch::Watch;

/// Serves until a signal.
pub(crate) async fn run(args: Up) -> anyhow::Result<()> {
    if args.print {
        output::piece(&manifests::text(&args.files)?);
        return Ok(());
    }
    let world = Arc::new(manifests::world().await);
    let known = Arc::new(Known::default());
    if args.dry_run {
        output::piece(&manifests::plan(&args, &world, &known).await?.to_string());
        return Ok(());
    }
    if args.no_keys && !args.listen.ip().is_loopback() {
        return Err(Wrong::new(format!("--no-keys would let anybody use {}", args.listen))
            .hint("serve without keys on a loopback address only, such as --listen 127.0.0.1:8080")
            .into());
    }
    telemetry::init();
    let mut signals = signals::Shutdown::listen()?;
    let certificates = certificates(&args)?;
    let listener = bind(args.listen, "--listen").await?;
    let admin = bind(args.admin_listen, "--admin-listen").await?;
    let (args, clock) = (Arc::new(args), Clock::start());
    let (setup, mut watch) = tokio::select! {
        ready = make_ready(&args, &world, &known, clock) => ready?,
        signal = signals.next() => {
            output::note(&format!("{signal}: stopped before anything ran"));
            return Ok(());
        }
    };
    let installation = setup.installation.clone();
    let mut serving = Serving::start(setup, entrance(listener, certificates), admin)?;
    let mut reload = signals::Reload::listen()?;
    let mut reading: Option<Reading> = None;
    let stopped = loop {
        let files = serving.files(&args);
        let wanted = tokio::select! {
            stopped = serving.watch(&mut signals) => break stopped,
            () = reload.next() => true,
            () = watch.changed(files) => true,
            prepared = read(&mut reading) => {
                serving.set(prepared);
                false
            }
        };
        if wanted {
            // What is being read is not what there is by now: its reader stops.
            let world = World { devices: serving.devices(), ..(*world).clone() };
            reading = Some(Reading::start(&args, &Arc::new(world), &known));
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

/// Plans and has what that takes; the files are watched from before that, as it may take long.
async fn make_ready(
    args: &Arc<Up>,
    world: &World,
    known: &Known,
    clock: Clock,
) -> anyhow::Result<(Setup, Watch)> {
    let plan = manifests::plan(args, world, known).await?;
    let watch = Watch::new(args.watch, manifests::files(args, &plan));
    let installation = Installation::at(args.data_dir.clone())?;
    Ok((Setup::new(args, plan, &installation, clock).await?, watch))
}

/// Manifests being read and what they name being fetched, which may take long; dropped, it stops.
struct Reading(JoinHandle<Option<anyhow::Result<Prepared>>>);

impl Reading {
    fn start(args: &Arc<Up>, world: &Arc<World>, known: &Arc<Known>) -> Self {
        let work = prepare::again(Arc::clone(args), Arc::clone(world), Arc::clone(known));
        Self(tasks::spawn("manifests", work))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What was read, once it is; for ever when nothing is.
async fn read(reading: &mut Option<Reading>) -> anyhow::Result<Prepared> {
    let Some(Reading(task)) = reading else { return std::future::pending().await };
    let read = task.await;
    *reading = None;
    read.ok().flatten().unwrap_or_else(|| Err(anyhow::anyhow!("reading them was broken off")))
}

/// What clients' connections are encrypted with, if anything.
fn certificates(args: &Up) -> anyhow::Result<Option<Certificates>> {
    let Some((certificate, key)) = args.tls_cert.as_ref().zip(args.tls_key.as_ref()) else {
        return Ok(None);
    };
    let certificates = Certificates::read(certificate, key).map_err(|error| {
        Wrong::new(error.to_string()).hint("--tls-cert and --tls-key are of one certificate")
    })?;
    Ok(Some(certificates))
}

fn entrance(listener: TcpListener, certificates: Option<Certificates>) -> Entrance {
    let Some(certificates) = certificates else { return listener.into() };
    drop(tasks::spawn("certificates", certificates.clone().follow()));
    Entrance::encrypted(listener, certificates)
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
