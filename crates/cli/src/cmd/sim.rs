//! `pilotage sim`: plays scenarios with simulated engines, and explains what came out.

mod scaled;

use std::fs;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use pilotage_shell::files;
use pilotage_sim::compare::{self, Comparison, Row};
use pilotage_sim::report::{self, Report, Rounded, Tenant};
use pilotage_sim::rival::Route;
use pilotage_sim::{Options, Run, Scenario, outcome, scenario};
use serde_json::json;

use crate::args::{Sim, SimCommand, SimCompare, SimExplain, SimList, SimRun, Which};
use crate::exit::Wrong;
use crate::installation::Installation;
use crate::output::{self, Format};

/// Scenarios of fewer requests are over before a bar is drawn.
const BAR_REQUESTS_MIN: usize = 20_000;

/// Bytes of a scenario, or of a trace or calibration that it names, at most: the largest traces that are published,
/// of weeks, have some more, and are cut before.
const TEXT_BYTES_MAX: u64 = 1 << 29;

/// Runs what was typed.
pub(crate) fn run(args: Sim) -> anyhow::Result<()> {
    match args.command {
        SimCommand::Run(args) => play(&args),
        SimCommand::Explain(args) => explain(&args),
        SimCommand::Compare(args) => compare(&args),
        SimCommand::List(args) => list(&args),
    }
}

fn play(args: &SimRun) -> anyhow::Result<()> {
    let scenario = read(&args.which)?;
    let run =
        simulate(&scenario, Options { check: args.check, explain: None, ..Options::default() });
    let replay =
        format!("pilotage sim run {} --seed {}", quoted(&args.which.scenario), scenario.seed);
    let report = outcome::report(&scenario, &run, &replay);
    if let Some(path) = &args.report {
        fs::write(path, report::html(&report))
            .with_context(|| format!("cannot write {}", path.display()))?;
        output::note(&format!("wrote {}", path.display()));
    }
    match args.which.output {
        Format::Json => output::json(&report)?,
        Format::Table => show(&report),
    }
    if let Some(first) = run.violations.first() {
        anyhow::bail!("{} invariants were broken, the first {first}", run.violations.len());
    }
    Ok(())
}

fn explain(args: &SimExplain) -> anyhow::Result<()> {
    let scenario = read(&args.which)?;
    let count = scenario.arrivals.len();
    if args.request > count as u64 {
        let message = format!("there is no request {}, the scenario has {count}", args.request);
        return Err(Wrong::new(message).into());
    }
    let run = simulate(
        &scenario,
        Options { check: false, explain: Some(args.request), ..Options::default() },
    );
    let explained = run.explanation.context("the run explained nothing")?;
    match args.which.output {
        Format::Json => output::json(&explained)?,
        Format::Table => output::line(explained.text().trim_end()),
    }
    Ok(())
}

fn compare(args: &SimCompare) -> anyhow::Result<()> {
    let scenario = read(&args.which)?;
    if scenario.scaling.is_some() {
        return scaled::compare(args, &scenario);
    }
    let find = |name: &String| {
        Route::find(name).ok_or_else(|| {
            let known = Route::names().collect::<Vec<_>>().join(", ");
            Wrong::new(format!("there is no policy `{name}`")).hint(format!("known: {known}"))
        })
    };
    let mut routes = args.policies.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    let mut replay =
        format!("pilotage sim compare {} --seed {}", quoted(&args.which.scenario), scenario.seed);
    if routes.is_empty() {
        routes = Route::all().collect();
    } else {
        replay.push_str(&format!(" --policies {}", args.policies.join(",")));
    }
    let bar = bar(scenario.arrivals.len() * routes.len());
    let comparison = compare::compare(&scenario, &routes, &replay, &mut |done, _| {
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    if let Some(path) = &args.report {
        fs::write(path, report::compared(&comparison))
            .with_context(|| format!("cannot write {}", path.display()))?;
        output::note(&format!("wrote {}", path.display()));
    }
    match args.which.output {
        Format::Json => output::json(&comparison)?,
        Format::Table => show_comparison(&comparison),
    }
    Ok(())
}

fn show_comparison(comparison: &Comparison) {
    output::line(&format!("{}: {}", comparison.scenario, comparison.setting));
    output::line("");
    let head = [
        "POLICY",
        "TTFT P50",
        "P95",
        "P99",
        "WHOLE P99",
        "HITS",
        "TOKENS/S",
        "REFUSED",
        "UNFINISHED",
        "BUSIEST/MEAN",
    ];
    let ms = |time: Rounded| format!("{:.0} ms", time.get() * 1000.0);
    let row = |row: &Row| {
        vec![
            row.policy.to_owned(),
            ms(row.first_token.p50),
            ms(row.first_token.p95),
            ms(row.first_token.p99),
            ms(row.last_token.p99),
            format!("{:.1} %", row.hit_rate.get() * 100.0),
            format!("{:.0}", row.tokens_per_second.get()),
            format!("{} of {}", row.refused, row.requests),
            format!("{} of {}", row.unfinished, row.requests),
            format!("{:.2}", row.imbalance.get()),
        ]
    };
    output::table(&head, &comparison.rows.iter().map(row).collect::<Vec<_>>());
    output::line("");
    output::line(&format!("again: {}", comparison.replay));
}

fn list(args: &SimList) -> anyhow::Result<()> {
    let read = |builtin: &scenario::Builtin| {
        Scenario::read(builtin.name, builtin.text, None, &|file| Err(format!("no file {file}")))
    };
    let all: Vec<Scenario> = scenario::builtins().iter().map(read).collect::<Result<_, _>>()?;
    match args.output {
        Format::Json => {
            let entry = |one: &Scenario| {
                json!({
                    "name": one.name,
                    "description": one.description,
                    "scheduler": one.policy,
                    "tenants": one.tenants.len(),
                    "requests": one.arrivals.len(),
                })
            };
            output::json(&all.iter().map(entry).collect::<Vec<_>>())
        }
        Format::Table => {
            let row = |one: &Scenario| {
                let (tenants, requests) = (one.tenants.len(), one.arrivals.len());
                vec![
                    one.name.clone(),
                    tenants.to_string(),
                    requests.to_string(),
                    one.policy.clone(),
                ]
            };
            let rows: Vec<Vec<String>> = all.iter().map(row).collect();
            output::table(&["SCENARIO", "TENANTS", "REQUESTS", "SCHEDULER"], &rows);
            Ok(())
        }
    }
}

/// A file wins over a built-in scenario of the same name. Traces lie where the file lies.
fn read(which: &Which) -> anyhow::Result<Scenario> {
    read_named(&which.scenario, which.seed, None)
}

/// The scenario of that name or in that file; calibrations are in `data_dir`, or where the user's are.
pub(super) fn read_named(
    name: &str,
    seed: Option<u64>,
    data_dir: Option<PathBuf>,
) -> anyhow::Result<Scenario> {
    let path = Path::new(name);
    let builtin = scenario::find(name).filter(|_| !path.is_file());
    let text = match builtin {
        Some(builtin) => builtin.text.to_owned(),
        None => read_text(path).map_err(|error| {
            Wrong::new(format!("cannot read the scenario {name}: {error}"))
                .hint("`pilotage sim list` shows the scenarios that are built in")
        })?,
    };
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    let file = |name: &str| {
        let found = read_text(&folder.join(name));
        // A name without a folder may be that of a calibration that was kept.
        let kept = |error: io::Error| {
            let path = Installation::at(data_dir.clone()).ok().map(|it| it.calibration_path(name));
            path.and_then(|path| read_text(&path).ok()).ok_or(error)
        };
        found.or_else(kept).map_err(|error| error.to_string())
    };
    let read = Scenario::read(name, &text, seed, &file);
    read.map_err(|error| Wrong::new(error.to_string()).into())
}

/// The text of a regular file that is not too large: devices and pipes may have no end.
pub(super) fn read_text(path: &Path) -> io::Result<String> {
    let about = fs::metadata(path)?;
    if !about.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    if about.len() > TEXT_BYTES_MAX {
        return Err(io::Error::other(format!("it has more than {TEXT_BYTES_MAX} bytes")));
    }
    let bytes = files::read_bounded(path, TEXT_BYTES_MAX)?;
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is no UTF-8"))
}

fn simulate(scenario: &Scenario, options: Options) -> Run {
    let bar = bar(scenario.arrivals.len());
    let run = pilotage_sim::run(scenario, options, &mut |done, _| bar.set_position(done as u64));
    bar.finish_and_clear();
    run
}

fn bar(count: usize) -> ProgressBar {
    let shown = count >= BAR_REQUESTS_MIN && io::stderr().is_terminal();
    let bar = if shown { ProgressBar::new(count as u64) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{bar:32} {pos} of {len} requests, {eta} left")
    {
        bar.set_style(style);
    }
    bar
}

fn show(report: &Report) {
    output::line(&format!("{}: {}", report.scenario, report.setting));
    output::line("");
    let head = [
        "TENANT", "WEIGHT", "REQUESTS", "SERVED", "SERVICE", "SHARE", "DUE", "TTFT", "P99",
        "REFUSED",
    ];
    let rows: Vec<Vec<String>> = report.tenants.iter().take(TENANTS_SHOWN).map(row).collect();
    output::table(&head, &rows);
    if let Some(more) = report.tenants.len().checked_sub(TENANTS_SHOWN).filter(|more| *more > 0) {
        output::line(&format!("and {more} more tenants, all of them with -o json"));
    }
    let fair = report.fairness;
    output::line("");
    output::line(&format!(
        "{:.0} tokens/s for {:.0} s; service differed by {:.0} tokens/s on average, {:.0} at most",
        fair.tokens_per_second.get(),
        report.seconds.get(),
        fair.difference_mean.get(),
        fair.difference_max.get(),
    ));
    if let Some(gap) = &report.counter_gap {
        let (max, bound) = (gap.max.get(), gap.bound.get());
        output::line(&format!(
            "counters of waiting tenants differed by {max:.0} at most, bound {bound:.0}"
        ));
    }
    for note in &report.notes {
        output::line(note);
    }
    output::line(&format!("again: {}", report.replay));
}

/// Tenants in the table on a terminal.
const TENANTS_SHOWN: usize = 40;

fn row(tenant: &Tenant) -> Vec<String> {
    let percent = |part: f64| format!("{:.1} %", part * 100.0);
    let times = tenant.time_to_first_token;
    let time = |seconds: Option<f64>| {
        seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1} s"))
    };
    let refused: Vec<String> =
        tenant.refused.iter().map(|(why, count)| format!("{count} {why}")).collect();
    vec![
        tenant.name.clone(),
        tenant.weight.get().to_string(),
        tenant.requests.to_string(),
        tenant.served.to_string(),
        format!("{:.0}", tenant.service.get()),
        percent(tenant.share.get()),
        percent(tenant.entitlement.get()),
        time(times.map(|times| times.mean.get())),
        time(times.map(|times| times.p99.get())),
        refused.join(", "),
    ]
}

/// An argument as a shell takes it.
pub(super) fn quoted(text: &str) -> String {
    let plain = |char: char| char.is_ascii_alphanumeric() || "/._-".contains(char);
    match text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrations::tests::{KEPT, keep};

    #[test]
    fn only_regular_files_of_some_size_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large");
        fs::File::create(&path).unwrap().set_len(TEXT_BYTES_MAX + 1).unwrap();
        let check = |path: &Path, expect: &str| {
            let error = read_text(path).unwrap_err();
            assert!(error.to_string().contains(expect), "{error}");
        };
        check(&path, "more than");
        check(folder.path(), "no regular file");
        check(Path::new("/dev/zero"), "no regular file");
        let error = read_named("/dev/zero", None, None).unwrap_err();
        assert!(error.to_string().contains("no regular file"), "{error}");
    }

    #[test]
    fn engines_are_as_fast_as_a_calibration_in_the_data_directory() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("data");
        let path = folder.path().join("mine.yaml");
        let text = "name: mine\nengine: {calibration: kept, kvTokens: 4096}\ntenants: [{name: all}]\nworkloads:\n- seconds: 9\n  \
                    arrivals: {poisson: {perSecond: 2}}\n  requests: [{tenant: all, input: 9, output: 3}]\n";
        fs::write(&path, text).unwrap();
        let read = || read_named(&path.display().to_string(), None, Some(data_dir.clone()));
        assert!(read().unwrap_err().to_string().contains("kept"), "it is not there yet");
        keep(&data_dir, "kept", KEPT);
        let scenario = read().unwrap();
        let engine = &scenario.replicas[0].engine;
        assert_eq!((engine.name.as_str(), engine.kv_tokens), ("calibrated tuned", 4096));
        let times = [engine.prefill_ms, engine.prefill_ms_per_token, engine.step_ms];
        for (found, expect) in times.into_iter().zip([2.0, 0.4, 30.0]) {
            assert!((found - expect).abs() < 1e-9, "{found} {expect}");
        }
    }
}
