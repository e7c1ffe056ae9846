//! `pilotage sim compare` for fleets that grow and shrink: the same requests, steered by one autoscaler
//! after the other.

use pilotage_sim::Scenario;
use pilotage_sim::report::Rounded;
use pilotage_sim::scaled::{self, ScaledComparison, ScaledRow};
use pilotage_sim::scaler::Autoscaler;

use super::{bar, quoted};
use crate::args::SimCompare;
use crate::exit::Wrong;
use crate::output::{self, Format};

pub(super) fn compare(args: &SimCompare, scenario: &Scenario) -> anyhow::Result<()> {
    if args.report.is_some() {
        let wrong = Wrong::new("there is no page for comparisons of autoscalers".to_owned());
        return Err(wrong.hint("`-o json` has all of its numbers".to_owned()).into());
    }
    let find = |name: &String| {
        Autoscaler::find(name).ok_or_else(|| {
            let known = Autoscaler::names().collect::<Vec<_>>().join(", ");
            Wrong::new(format!("there is no autoscaler `{name}`")).hint(format!("known: {known}"))
        })
    };
    let mut scalers = args.policies.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    let mut replay =
        format!("pilotage sim compare {} --seed {}", quoted(&args.which.scenario), scenario.seed);
    if scalers.is_empty() {
        scalers = Autoscaler::all().collect();
    } else {
        replay.push_str(&format!(" --policies {}", args.policies.join(",")));
    }
    let bar = bar(scenario.arrivals.len() * scalers.len());
    let compared = scaled::compare(scenario, &scalers, &replay, &mut |done, _| {
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let Some(compared) = compared else { return Ok(()) };
    match args.which.output {
        Format::Json => output::json(&compared),
        Format::Table => {
            show(&compared);
            Ok(())
        }
    }
}

fn show(compared: &ScaledComparison) {
    output::line(&format!("{}: {}", compared.scenario, compared.setting));
    output::line("");
    let head = [
        "AUTOSCALER",
        "WITHIN GOALS",
        "TTFT P50",
        "P95",
        "P99",
        "LOST",
        "REPLICA HOURS",
        "COST",
        "MOST",
        "CHANGES",
        "FLAPS",
    ];
    let seconds = |time: Rounded| format!("{:.2} s", time.get());
    let row = |row: &ScaledRow| {
        vec![
            row.scaler.to_owned(),
            format!("{:.1} %", row.attained.get() * 100.0),
            seconds(row.first_token.p50),
            seconds(row.first_token.p95),
            seconds(row.first_token.p99),
            format!("{} of {}", row.lost, row.requests),
            format!("{:.2}", row.hours.get()),
            format!("{:.2}", row.cost.get()),
            row.replicas_max.to_string(),
            row.changes.to_string(),
            row.flaps.to_string(),
        ]
    };
    output::table(&head, &compared.rows.iter().map(row).collect::<Vec<_>>());
    output::line("");
    output::line(&format!("again: {}", compared.replay));
}
