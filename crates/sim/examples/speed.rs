//! How many requests a second a run simulates, on one core. Without arguments, for a few scenarios;
//! else for those named.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement, which reads the clock and prints"
)]

use std::time::Instant;

use pilotage_sim::run::Fate;
use pilotage_sim::{Options, Scenario, outcome, run, scenario};

fn main() {
    let mut names: Vec<String> = std::env::args().skip(1).collect();
    if names.is_empty() {
        let chosen = ["vtc/real-vtc", "vtc/overload", "vtc/poisson-short-long", "thousand-tenants"];
        names = chosen.map(str::to_owned).to_vec();
    }
    if names == ["all"] {
        names = scenario::builtins().iter().map(|one| one.name.to_owned()).collect();
    }
    for name in names {
        let text = scenario::find(&name).unwrap().text;
        let scenario = Scenario::read(&name, text, None, &|file| {
            std::fs::read_to_string(file).map_err(|error| error.to_string())
        })
        .unwrap();
        let begun = Instant::now();
        let run = run(&scenario, Options::default(), &mut |_, _| {});
        let took = begun.elapsed().as_secs_f64();
        let fair = outcome::fairness(&scenario, &run);
        let gap = run.gap.iter().map(|(_, gap)| *gap).fold(0.0, f64::max);
        let count = run.records.len();
        let served = run.records.iter().filter(|record| record.fate == Some(Fate::Served)).count();
        let mut firsts = Vec::new();
        let all = outcome::served(&scenario, &run);
        for at in 0..scenario.tenants.len().min(4) as u32 {
            let first = pilotage_sim::metrics::time_to_first_token(&all, |one| one == at);
            firsts.push(first.map_or_else(|| "-".to_owned(), |one| format!("{:.1}", one.mean)));
        }
        println!(
            "{name:28} {count:6} req {served:6} ok  {:>9.0} req/min  gap {gap:7.0}/{:7.0}  max {:6.1} avg {:6.1} acc {:8.0} tok/s {:6.1} ttft {:5.1} [{}] stops {}",
            count as f64 / took * 60.0,
            run.bound.unwrap_or(0.0),
            fair.difference.max,
            fair.difference.mean,
            fair.accumulated_max,
            fair.tokens_per_second,
            fair.time_to_first_token.map_or(0.0, |it| it.mean),
            firsts.join("/"),
            run.stops,
        );
    }
}
