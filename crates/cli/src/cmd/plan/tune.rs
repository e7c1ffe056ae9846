//! `pilotage plan tune`: shapes of a model, tried in the simulator.

use std::fs;
use std::io::IsTerminal as _;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use pilotage_plan::select::sizing;
use pilotage_plan::size::{Calibration, ModelFacts};
use pilotage_sim::tune::{self, Limits, Means, Tried};
use pilotage_sim::{Scenario, report};
use serde_json::json;

use crate::args::PlanTune;
use crate::cmd::sim;
use crate::exit::Wrong;
use crate::installation::Installation;
use crate::output::{self, Format};

use super::{Source, endpoint, engine, hardware, read};

/// Tries, shows and writes.
pub(super) async fn run(args: &PlanTune) -> anyhow::Result<()> {
    let source = Source::parse(&args.model, &endpoint())?;
    let facts = read(&source, false).await?;
    let scenario = scenario(args)?;
    let limits = limits(args)?;
    let (tried, calibrated) = tried(args, &facts, &scenario, limits)?;
    let about = about(args, &scenario, calibrated.as_deref());
    let replay = replay(args);
    if let Some(path) = &args.report {
        let page = report::tuned(&source.name(), &about, &replay, &tried, args.price);
        fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))?;
        output::note(&format!("wrote {}", path.display()));
    }
    if args.output == Format::Json {
        let calibrated = calibrated.as_deref();
        return output::json(&json!({
            "model": source.name(),
            "hardware": args.hardware,
            "requests": scenario.arrivals.len(),
            "limits": limits,
            "calibrated": calibrated,
            "price": args.price,
            "shapes": tried,
            "replay": replay,
        }));
    }
    output::line(&about);
    output::line("");
    show(args, &tried);
    output::line("");
    output::line(&format!("again: {replay}"));
    Ok(())
}

/// The requests that are played.
fn scenario(args: &PlanTune) -> anyhow::Result<Scenario> {
    if let Some(name) = &args.scenario {
        return sim::read_named(name, Some(args.seed));
    }
    if !(args.rate > 0.0 && args.rate.is_finite()) {
        return Err(Wrong::new("--rate must be above 0").into());
    }
    let text = format!(
        "name: tune\ntenants: [{{name: all}}]\nworkloads:\n- seconds: {}\n  arrivals: {{poisson: {{perSecond: {}}}}}\n  \
         requests: [{{tenant: all, input: {}, output: {}}}]\n",
        args.seconds, args.rate, args.prompt, args.answer
    );
    let read = Scenario::read("tune", &text, Some(args.seed), &|_| Err("there is none".to_owned()));
    read.map_err(|error| Wrong::new(error.to_string()).hint("raise --rate or --seconds").into())
}

fn limits(args: &PlanTune) -> Result<Limits, Wrong> {
    let seconds = |name: &str, given: Option<f64>| match given {
        Some(value) if !(value > 0.0 && value.is_finite()) => {
            Err(Wrong::new(format!("--{name} must be above 0")))
        }
        given => Ok(given.map(|ms| ms / 1e3)),
    };
    seconds("price", args.price)?;
    Ok(Limits {
        ttft_seconds: seconds("ttft", args.ttft)?,
        tpot_seconds: seconds("tpot", args.tpot)?,
    })
}

/// Every shape, the best marked; and what their speed was calibrated by.
fn tried(
    args: &PlanTune,
    facts: &ModelFacts,
    scenario: &Scenario,
    limits: Limits,
) -> anyhow::Result<(Vec<Tried>, Option<String>)> {
    let accelerator = hardware(&args.hardware)?;
    let engine = engine(&args.runtime)?;
    let installation = Installation::at(args.data_dir.clone())?;
    let stored = installation.calibration_of(facts, accelerator.id, engine.name());
    let found = stored.as_ref().and_then(|stored| stored.fit.calibration);
    let longest = scenario.arrivals.iter().map(|one| u64::from(one.input) + u64::from(one.output));
    let means = Means {
        facts,
        accelerator: &accelerator,
        runtime: sizing(engine, None),
        calibration: found.unwrap_or_else(|| Calibration::assumed(&accelerator)),
        accelerators_max: args.accelerators.unwrap_or(accelerator.per_node),
        context: longest.max().unwrap_or(1),
    };
    let ways = tune::ways(&means);
    if ways.is_empty() {
        let hint =
            format!("`pilotage plan {} --hardware {}` says by how much", args.model, args.hardware);
        return Err(Wrong::new("the model fits in no shape on that hardware").hint(hint).into());
    }
    let bar = bar(ways.len());
    let mut tried = Vec::with_capacity(ways.len());
    for way in &ways {
        tried.push(tune::try_out(scenario, way, limits));
        bar.inc(1);
    }
    bar.finish_and_clear();
    tune::mark_best(&mut tried);
    Ok((tried, stored.filter(|_| found.is_some()).map(|stored| stored.measured)))
}

fn about(args: &PlanTune, scenario: &Scenario, calibrated: Option<&str>) -> String {
    let speed = match calibrated {
        Some(when) => format!("speed calibrated by measurements of {when}"),
        None => "speed predicted without measurements".to_owned(),
    };
    format!(
        "{} requests of {}, on {} under {}; {speed}",
        scenario.arrivals.len(),
        scenario.name,
        args.hardware,
        args.runtime
    )
}

fn show(args: &PlanTune, tried: &[Tried]) {
    let head = [
        "SHAPE",
        "BEST",
        "ACCELERATORS",
        "COST/H",
        "TTFT P99",
        "TPOT P99",
        "GOOD/S",
        "GOOD",
        "LOST",
    ];
    let row = |one: &Tried| {
        let cost = args.price.map(|price| price * f64::from(one.accelerators));
        vec![
            one.name.clone(),
            if one.best { "*" } else { "" }.to_owned(),
            one.accelerators.to_string(),
            cost.map_or_else(|| "-".to_owned(), |cost| format!("{cost:.2}")),
            format!("{:.0} ms", one.ttft_p99.get() * 1e3),
            format!("{:.1} ms", one.tpot_p99.get() * 1e3),
            format!("{:.2}", one.goodput.get()),
            format!("{:.1} %", one.good.get() * 100.0),
            one.lost.to_string(),
        ]
    };
    let shown: Vec<&Tried> = tried.iter().filter(|one| one.best || args.all).collect();
    output::table(&head, &shown.iter().map(|one| row(one)).collect::<Vec<_>>());
    let hidden = tried.len() - shown.len();
    if hidden > 0 {
        output::note(&format!("{hidden} more shapes are no better in anything: --all shows them"));
    }
}

/// The command that gives this again.
fn replay(args: &PlanTune) -> String {
    let mut text = format!(
        "pilotage plan tune {} --hardware {} --runtime {} --seed {}",
        sim::quoted(&args.model),
        sim::quoted(&args.hardware),
        sim::quoted(&args.runtime),
        args.seed
    );
    match &args.scenario {
        Some(name) => text.push_str(&format!(" --scenario {}", sim::quoted(name))),
        None => text.push_str(&format!(
            " --rate {} --prompt {} --answer {} --seconds {}",
            args.rate, args.prompt, args.answer, args.seconds
        )),
    }
    let numbers = [("ttft", args.ttft), ("tpot", args.tpot), ("price", args.price)];
    for (name, number) in numbers {
        text.extend(number.map(|number| format!(" --{name} {number}")));
    }
    text.extend(args.accelerators.map(|count| format!(" --accelerators {count}")));
    text
}

fn bar(count: usize) -> ProgressBar {
    let shown = std::io::stderr().is_terminal();
    let bar = if shown { ProgressBar::new(count as u64) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{bar:32} {pos} of {len} shapes, {eta} left") {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Command, PlanCommand};

    fn typed(flags: &str) -> PlanTune {
        let line = format!("pilotage plan tune {flags}");
        let args = Args::try_parse_from(line.split_whitespace()).unwrap();
        let Command::Plan(plan) = args.command else { unreachable!() };
        let Some(PlanCommand::Tune(args)) = plan.command else { unreachable!() };
        *args
    }

    #[test]
    fn what_is_typed_is_played_and_repeated() {
        let args =
            typed("m --hardware l4x2 --rate 5 --prompt 100 --answer 20 --seconds 30 --ttft 500");
        let scenario = scenario(&args).unwrap();
        assert!((100..200).contains(&scenario.arrivals.len()), "{}", scenario.arrivals.len());
        assert!(scenario.arrivals.iter().all(|one| (one.input, one.output) == (100, 20)));
        let again = replay(&args);
        let again = typed(again.strip_prefix("pilotage plan tune ").unwrap());
        assert_eq!(replay(&again), replay(&args));
        assert_eq!(again.ttft, Some(500.0));
    }

    #[test]
    fn mistakes_name_their_flag() {
        let check = |flags: &str, expect: &str| {
            let args = typed(&format!("m --hardware l4 {flags}"));
            let error = scenario(&args).and_then(|_| Ok(limits(&args)?));
            assert!(error.unwrap_err().to_string().contains(expect), "{flags}");
        };
        check("--rate 0", "--rate");
        check("--ttft 0", "--ttft");
        check("--price 0", "--price");
        check("--scenario no-such-file", "no-such-file");
    }
}
