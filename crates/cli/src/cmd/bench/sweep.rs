//! Several loads one after the other: those that were named, or those that a search asks for.

use anyhow::{Context as _, bail};
use pilotage_lab::report::{Report, Sweep, page};
use pilotage_lab::search::Search;
use pilotage_lab::verdict::Steady;

use crate::args::{Asked, BenchFind, BenchSweep, Each, LoadArgs};
use crate::exit::Wrong;
use crate::output::{self, Format};

use super::setup::{self, Prepared};
use super::{measure, runtime, show, write};

/// The loads that were named.
pub(super) fn sweep(args: &BenchSweep) -> anyhow::Result<()> {
    let rates = args.rates.iter().map(|rate| LoadArgs { rate: Some(*rate), ..args.each.load() });
    let counts = args.concurrencies.iter().map(|count| LoadArgs {
        concurrency: Some(*count),
        arrivals: None,
        ..args.each.load()
    });
    let loads: Vec<LoadArgs> = rates.chain(counts).collect();
    let points = runtime(&args.asked)?.block_on(async {
        let prepared = Prepared::new(&args.asked).await?;
        let mut points = Vec::new();
        for load in &loads {
            points.push(point(&args.asked, &prepared, load, &args.each).await?);
        }
        anyhow::Ok(points)
    })?;
    result(&args.each, points)
}

/// The loads that a search asks for.
pub(super) fn find(args: &BenchFind) -> anyhow::Result<()> {
    let positive = |number: f64| number > 0.0 && number.is_finite();
    if ![args.from, args.to, args.precision].into_iter().all(positive) {
        return Err(Wrong::new("--from, --to and --precision are above 0").into());
    }
    let points = runtime(&args.asked)?.block_on(async {
        let prepared = Prepared::new(&args.asked).await?;
        let mut search = Search::new(args.from, args.to, args.precision);
        let mut points = Vec::new();
        while let Some(rate) = search.next() {
            let load = LoadArgs { rate: Some(rate), ..args.each.load() };
            let mut found = point(&args.asked, &prepared, &load, &args.each).await?;
            if found.is_client_bound() {
                // Something else on this machine may have been in the way: once is no proof.
                found = point(&args.asked, &prepared, &load, &args.each).await?;
            }
            if found.is_client_bound() {
                let what = found.findings.first().map_or("", |finding| finding.what.as_str());
                bail!("the client is the bottleneck at {rate:.1} requests/s: {what}");
            }
            search.tell(rate, found.holds(args.each.good));
            points.push(found);
        }
        anyhow::Ok(points)
    })?;
    result(&args.each, points)
}

impl Each {
    /// A load but for how much of it.
    fn load(&self) -> LoadArgs {
        LoadArgs {
            arrivals: Some(self.arrivals.clone()),
            duration: Some(self.duration.clone()),
            warm_up: self.warm_up.clone(),
            ..LoadArgs::default()
        }
    }
}

async fn point(
    asked: &Asked,
    prepared: &Prepared,
    load: &LoadArgs,
    each: &Each,
) -> anyhow::Result<Report> {
    let spec = setup::spec(asked, load, prepared)?;
    let setting = prepared.setting(asked, load, &spec)?;
    let (report, run) = measure(asked, prepared, spec, setting).await?;
    if run.interrupted {
        bail!("stopped at {} requests", report.asked());
    }
    let verdict = match (report.holds(each.good), report.stability.steady) {
        (_, Steady::No) => "the queue grows",
        (true, _) => "holds",
        (false, _) => "does not hold",
    };
    output::note(&format!("{:.2}: {verdict}", report.asked()));
    Ok(report)
}

fn result(each: &Each, points: Vec<Report>) -> anyhow::Result<()> {
    let command = points.first().context("nothing was measured")?.setting.command.clone();
    let sweep = Sweep::of(command, each.good, points);
    match each.output {
        Format::Table => show::sweep(&sweep),
        Format::Json => output::json(&sweep)?,
    }
    if let Some(path) = &each.save {
        write(path, &serde_json::to_string(&sweep)?)?;
    }
    if let Some(path) = &each.html {
        write(path, &page::sweep(&sweep))?;
    }
    Ok(())
}
