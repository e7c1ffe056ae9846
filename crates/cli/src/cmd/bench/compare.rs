//! Results that were kept: compared with each other, or shown again.

use std::fs;
use std::path::Path;

use anyhow::bail;
use pilotage_lab::diff::{self, Diff, Verdict};
use pilotage_lab::report::{self, Report, Sweep};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::args::{BenchDiff, BenchReport};
use crate::exit::Wrong;
use crate::output::{self, Format};

use super::{show, write};

/// Fails where the second run is worse.
pub(super) fn diff(args: &BenchDiff) -> anyhow::Result<()> {
    if !(args.tolerance >= 0.0 && args.tolerance.is_finite()) {
        return Err(Wrong::new("--tolerance: give a part, as 0.05 for 5 %").into());
    }
    let first: Report = read(&args.first, report::SCHEMA)?;
    let second: Report = read(&args.second, report::SCHEMA)?;
    let found = diff::diff(&first, &second, args.tolerance);
    let found = found.map_err(|error| Wrong::new(error.to_string()))?;
    match args.output {
        Format::Json => output::json(&found)?,
        Format::Table => table(&found),
    }
    if found.worse {
        bail!("{} is worse than {}", args.second.display(), args.first.display());
    }
    Ok(())
}

fn table(diff: &Diff) {
    let row = |line: &diff::Line| {
        let percent = |ratio: f64| format!("{:+.1} %", (ratio - 1.0) * 100.0);
        let (low, high) = line.between;
        let verdict = match line.verdict {
            Verdict::Better => "better",
            Verdict::Same => "same",
            Verdict::Worse => "worse",
        };
        vec![
            line.metric.clone(),
            line.unit.to_owned(),
            show::number(Some(line.first)),
            show::number(Some(line.second)),
            percent(line.ratio),
            format!("{} to {}", percent(low), percent(high)),
            verdict.to_owned(),
        ]
    };
    let head = ["METRIC", "UNIT", "FIRST", "SECOND", "CHANGE", "BETWEEN", "VERDICT"];
    output::table(&head, &diff.lines.iter().map(row).collect::<Vec<_>>());
    for note in &diff.notes {
        output::note(&format!("note: {note}"));
    }
}

/// Shows a result again.
pub(super) fn report(args: &BenchReport) -> anyhow::Result<()> {
    let any: Value = read(&args.file, "pilotage.bench")?;
    let is_sweep = any["schema"] == report::sweep::SCHEMA;
    let page = if is_sweep {
        let sweep: Sweep = read(&args.file, report::sweep::SCHEMA)?;
        if args.html.is_none() {
            show::sweep(&sweep);
        }
        report::page::sweep(&sweep)
    } else {
        let run: Report = read(&args.file, report::SCHEMA)?;
        if args.html.is_none() {
            show::report(&run);
        }
        report::page::run(&run)
    };
    args.html.as_deref().map_or(Ok(()), |path| write(path, &page))
}

fn read<T: DeserializeOwned>(path: &Path, schema: &str) -> anyhow::Result<T> {
    let wrong = |why: String| Wrong::new(format!("{}: {why}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let value: Value = serde_json::from_str(&text).map_err(|error| {
        wrong(format!("this is no JSON: {error}"))
            .hint("make it with `pilotage bench run … --save FILE`")
    })?;
    let found = value["schema"].as_str().unwrap_or("none");
    if !found.starts_with(schema) {
        let why = format!("this is no result of the form {schema}: its schema is {found}");
        return Err(wrong(why).into());
    }
    serde_json::from_str(&text).map_err(|error| wrong(error.to_string()).into())
}
