//! `pilotage triage`: what a gateway, a Prometheus server or results of benchmarks say, to a verdict.

mod bench;
mod fetch;
mod gateway;
mod known;
mod prometheus;

use std::path::Path;

use anyhow::Context as _;
use pilotage_lens::triage::{Evidence, Report, Verdict, text, together, triage};
use pilotage_shell::files;

use crate::args::Triage;
use crate::exit::{Ended, Wrong};
use crate::output::{self, Format};

/// Longest file with evidence that is read.
const EVIDENCE_BYTES_MAX: u64 = 64 << 20;

/// What was seen, and of what where that is one of several.
type Seen = (Option<String>, Evidence);

/// Says what is wrong, and ends with 1 where anything is. Where nobody could look it ends with 2, so that what is
/// wrong with the question is not taken for what is wrong with the system.
pub(crate) async fn run(args: Triage) -> anyhow::Result<()> {
    match report(args).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Ended(1).into()),
        Err(error) if error.is::<Wrong>() => Err(error),
        Err(error) => Err(Wrong::new(format!("{error:#}")).into()),
    }
}

/// Whether nothing is wrong.
async fn report(args: Triage) -> anyhow::Result<bool> {
    let told = known::told(&args).await?;
    let mut seen = seen(&args).await?;
    if seen.len() > 1 {
        alone(&args, &seen)?;
    }
    if let Some(path) = &args.baseline {
        let before = Box::new(read(path)?);
        seen.iter_mut().for_each(|(_, evidence)| evidence.baseline = Some(before.clone()));
    }
    seen.iter_mut().for_each(|(_, evidence)| known::tell(evidence, &told));
    if let Some(path) = &args.save {
        let saved = serde_json::to_vec_pretty(&seen[0].1)?;
        std::fs::write(path, saved).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mut reports: Vec<(Option<String>, Report)> =
        seen.into_iter().map(|(of, evidence)| (of, triage(&evidence))).collect();
    let is_fine = |report: &Report| matches!(report.verdict, Verdict::NothingWrong { .. });
    let mut all_fine = reports.iter().all(|(_, report)| is_fine(report));
    if reports.len() > 1 {
        let all =
            reports.iter().map(|(of, report)| (of.clone().unwrap_or_default(), report.clone()));
        if let Some(all) = together(all.collect()) {
            all_fine = is_fine(&all);
            if args.output == Format::Json {
                reports = vec![(None, all)];
            }
        }
    }
    for (of, report) in &reports {
        match (args.output, of) {
            (Format::Json, _) => output::json(report)?,
            (Format::Table, Some(of)) => {
                output::piece(&format!("== {of}\n\n{}\n", text::text(report)));
            }
            (Format::Table, None) => output::piece(&text::text(report)),
        }
    }
    Ok(all_fine)
}

/// What there is to be seen; at least one.
async fn seen(args: &Triage) -> anyhow::Result<Vec<Seen>> {
    let source = &args.source;
    let one = if !source.bench.is_empty() {
        bench::evidence(&source.bench)?
    } else if let Some(path) = &source.evidence {
        read(path)?
    } else if let Some(url) = &source.prometheus {
        let all = prometheus::evidence(args, url).await?;
        let named = all.into_iter().map(|(of, evidence)| (Some(of.to_string()), evidence));
        let mut all: Vec<Seen> = named.collect();
        if let [(of, _)] = all.as_mut_slice() {
            *of = None;
        }
        return Ok(all);
    } else {
        return gateway::evidence(args).await;
    };
    Ok(vec![(None, one)])
}

/// Refuses several where what was asked for is about one.
fn alone(args: &Triage, seen: &[Seen]) -> Result<(), Wrong> {
    let flag = match args {
        Triage { save: Some(_), .. } => "--save",
        Triage { baseline: Some(_), .. } => "--baseline",
        Triage { weights: Some(_), .. } => "--weights",
        _ => return Ok(()),
    };
    let there: Vec<&str> = seen.iter().filter_map(|(of, _)| of.as_deref()).collect();
    Err(Wrong::new(format!("{flag} is about one model, and there are {}", seen.len())).hint(
        format!(
            "name one in --model, or its namespace in --selector; there are {}",
            there.join(", ")
        ),
    ))
}

fn read(path: &Path) -> anyhow::Result<Evidence> {
    let shown = path.display();
    let bytes = files::read_bounded(path, EVIDENCE_BYTES_MAX)
        .with_context(|| format!("{shown} cannot be read"))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Wrong::new(format!("{shown} is no evidence: {error}"))
            .hint("`pilotage triage --save` writes what is read")
            .into()
    })
}
