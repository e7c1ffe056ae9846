//! `pilotage up`: everything on this machine, in one process that supervises the rest.
//!
//! manifests → plan → weights → engines and gateway → wait for a signal → drain. Listeners are bound
//! before anything slow happens, so that a busy port is known at once. SIGHUP, and `--watch` when files
//! change, read the manifests again and carry out what differs; what is wrong with them changes
//! nothing.

mod banner;
mod facts;
mod fallback;
mod manifests;
mod prepare;
mod scaling;
mod serving;
mod setup;
mod versions;
mod watch;

use std::cell::Cell;
use std::sync::Arc;

use pilotage_plan::World;
use pilotage_plan::update::AllKept;
use pilotage_shell::clock::Clock;
use pilotage_shell::{signals, tasks, telemetry};
use tokio::task::JoinHandle;

use super::front::{Face, bind, certificates, entrance, traces};
use crate::args::Up;
use crate::exit::Wrong;
use crate::installation::Installation;
use crate::output;
use facts::Known;
pub(crate) use manifests::{facts, read as texts};
use prepare::Material;
use serving::Serving;
use setup::Setup;
use versions::Versions;
use watch::Watch;

/// Serves clients until a signal.
pub(crate) async fn run(args: Up) -> anyhow::Result<()> {
    if args.print {
        output::piece(&manifests::text(&args.files)?);
        return Ok(());
    }
    if args.dry_run {
        let world = manifests::world().await;
        output::piece(&manifests::plan(&args, &world, &Known::default()).await?.to_string());
        return Ok(());
    }
    if args.no_keys && !args.listen.ip().is_loopback() {
        return Err(Wrong::new(format!("--no-keys would let anybody use {}", args.listen))
            .hint("serve without keys on a loopback address only, such as --listen 127.0.0.1:8080")
            .into());
    }
    run_as(args, Face::Clients).await
}

/// Serves whoever connects to that until a signal.
pub(super) async fn run_as(args: Up, face: Face) -> anyhow::Result<()> {
    let world = Arc::new(manifests::world().await);
    let known = Arc::new(Known::default());
    telemetry::init();
    traces::check()?;
    let mut signals = signals::Shutdown::listen()?;
    // From the begin on, as weights may take long: nobody listening, the signal would end the process.
    let mut reload = signals::Reload::listen()?;
    let certificates = certificates(args.front.tls_cert.as_deref(), args.front.tls_key.as_deref())?;
    let listener = bind(args.listen, "--listen").await?;
    let admin = bind(args.front.admin_listen, "--admin-listen").await?;
    let (args, clock) = (Arc::new(args), Clock::start());
    let (setup, versions, mut watch) = tokio::select! {
        ready = make_ready(&args, &world, &known, clock) => ready?,
        signal = signals.next() => {
            output::note(&format!("{signal}: stopped before anything ran"));
            return Ok(());
        }
    };
    let installation = setup.installation.clone();
    let listeners = (entrance(listener, certificates), admin);
    let mut serving = Serving::start((setup, versions), face, listeners)?;
    let mut reading: Option<Reading> = None;
    let stopped = loop {
        let files = serving.files(&args);
        let wanted = tokio::select! {
            stopped = serving.watch(&mut signals) => break stopped,
            () = reload.next() => true,
            () = watch.changed(files) => true,
            material = read(&mut reading) => serving.set(material),
        };
        if wanted {
            // What is being read is not what there is by now: its reader stops.
            reading = Some(Reading::start(&args, &world, (&known, serving.kept())));
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
) -> anyhow::Result<(Setup, Versions, Watch)> {
    let installation = Installation::at(args.front.data_dir.clone())?;
    let kept = versions::kept(&installation, clock);
    let asked = manifests::asked(args, world, (known, &kept)).await?;
    let watch = Watch::new(args.watch, manifests::files(args, &asked.plan(&asked.resources)?));
    let changed = fallback::changed(&asked.resources, &kept);
    let first = Cell::new(Some(asked));
    let attempt = async |kept: AllKept| {
        let asked = match first.take() {
            Some(asked) => asked,
            None => manifests::asked(args, world, (known, &kept)).await?,
        };
        let material = Material::of(asked, &kept).await?;
        Versions::begin((material, kept), &installation, clock)
    };
    let (begun, is_less) = fallback::begin(&kept, &changed, attempt).await?;
    if is_less {
        versions::put_aside(&installation);
    }
    let (versions, prepared) = begun.take();
    Ok((Setup::new(args, prepared, &installation, clock)?, versions, watch))
}

/// Manifests being read and what they name being fetched, which may take long; dropped, it stops.
struct Reading(JoinHandle<Option<anyhow::Result<Material>>>);

impl Reading {
    fn start(args: &Arc<Up>, world: &Arc<World>, (known, kept): (&Arc<Known>, AllKept)) -> Self {
        let known = (Arc::clone(known), kept);
        let work = prepare::again(Arc::clone(args), Arc::clone(world), known);
        Self(tasks::spawn("manifests", work))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What was read, once it is; for ever when nothing is.
async fn read(reading: &mut Option<Reading>) -> anyhow::Result<Material> {
    let Some(Reading(task)) = reading else { return std::future::pending().await };
    let read = task.await;
    *reading = None;
    read.ok().flatten().unwrap_or_else(|| Err(anyhow::anyhow!("reading them was broken off")))
}
