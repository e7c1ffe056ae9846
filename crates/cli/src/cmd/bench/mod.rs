//! `pilotage bench`: sends load, and says what came back and what that is worth.

mod calibrate;
mod compare;
mod engine;
mod live;
mod setup;
mod show;
mod sweep;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use pilotage_lab::load::{self, Run};
use pilotage_lab::record::Outcome;
use pilotage_lab::report::{self, Environment, Report, Requests};
use pilotage_lab::workload::Spec;
use pilotage_shell::clock::Clock;
use pilotage_shell::date;

use crate::args::{Asked, Bench, BenchCommand, BenchFormat, BenchRun, ResultArgs};
use crate::output;

use setup::Prepared;

pub(super) use setup::{models, raise_open_files};

/// Runs what was typed.
pub(crate) fn run(args: Bench) -> anyhow::Result<()> {
    match args.command {
        BenchCommand::Run(args) => one(&args),
        BenchCommand::Sweep(args) => sweep::sweep(&args),
        BenchCommand::Find(args) => sweep::find(&args),
        BenchCommand::Calibrate(args) => calibrate::run(&args),
        BenchCommand::Diff(args) => compare::diff(&args),
        BenchCommand::Report(args) => compare::report(&args),
        BenchCommand::Engine(args) => engine::run(*args),
    }
}

fn one(args: &BenchRun) -> anyhow::Result<()> {
    let runtime = runtime(&args.asked)?;
    let (report, run) = runtime.block_on(async {
        let prepared = Prepared::new(&args.asked).await?;
        let spec = setup::spec(&args.asked, &args.load, &prepared)?;
        let setting = prepared.setting(&args.asked, &args.load, &spec)?;
        measure(&args.asked, &prepared, spec, setting).await
    })?;
    result(&args.result, report, &run)
}

/// One thread is enough for most loads, and disturbs a server on the same machine least.
fn runtime(asked: &Asked) -> anyhow::Result<tokio::runtime::Runtime> {
    raise_open_files();
    let mut builder = match asked.threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    Ok(builder.worker_threads(asked.threads as usize).enable_all().build()?)
}

/// Sends one load and adds up.
async fn measure(
    asked: &Asked,
    prepared: &Prepared,
    spec: Spec,
    setting: report::Setting,
) -> anyhow::Result<(Report, Run)> {
    let target = prepared.target(asked)?;
    let warm_up = spec.warm_up;
    let environment = environment(asked);
    let shown = live::Shown::new(&spec, &setting);
    let bench = load::Bench::new(Clock::start(), spec, target, prepared.limits)?;
    let run = shown.follow(bench).await?;
    let report = report::report(&run, setting, environment, warm_up);
    Ok((report, run))
}

fn environment(asked: &Asked) -> Environment {
    Environment {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        threads: asked.threads as usize,
        ..Environment::default()
    }
}

fn result(args: &ResultArgs, report: Report, run: &Run) -> anyhow::Result<()> {
    match args.output {
        BenchFormat::Table => show::report(&report),
        BenchFormat::Json => output::json(&report)?,
        BenchFormat::Vllm => output::json(&report::vllm::vllm(&report, run, &stamp(run)))?,
        BenchFormat::Aiperf => {
            let start = date::utc(run.started_unix_ms / 1_000);
            let end = date::utc((run.started_unix_ms + run.over / 1_000_000) / 1_000);
            output::json(&report::aiperf::aiperf(&report, run, (&start, &end)))?;
        }
    }
    if let Some(path) = &args.html {
        write(path, &report::page::run(&report))?;
    }
    if let Some(path) = &args.save {
        let requests = Some(Requests::of(&run.book.samples));
        let saved = Report { requests, ..report };
        write(path, &serde_json::to_string(&saved)?)?;
    }
    ensure!(run.book.count(Outcome::Ok) > 0, "no request that counts was answered");
    Ok(())
}

/// The date as vLLM writes it.
fn stamp(run: &Run) -> String {
    let utc = date::utc(run.started_unix_ms / 1_000);
    utc.replace(['-', ':', 'Z'], "").replace('T', "-")
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    output::note(&format!("wrote {}", path.display()));
    Ok(())
}
