//! The table of `docs/simulation.md`: what the VTC paper's authors measured beside what is simulated.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "prints a table")]

use pilotage_sim::published::PUBLISHED;
use pilotage_sim::{Options, Scenario, run, scenario};

fn main() {
    println!("| Scenario | tok/s | AvgDiff | Accumulated | TTFT by client, s | Apart |");
    println!("|---|---|---|---|---|---|");
    for published in PUBLISHED {
        let text = scenario::find(published.scenario).unwrap().text;
        let scenario = Scenario::read(published.scenario, text, None, &|_| Err(String::new()));
        let scenario = scenario.unwrap();
        let run = run(&scenario, Options::default(), &mut |_, _| {});
        let found = published.compare(&scenario, &run);
        let cell = |measure: &str, decimals: usize| {
            let of = found.iter().filter(|one| one.measure.starts_with(measure));
            let of = of
                .map(|one| format!("{:.decimals$} → {:.decimals$}", one.published, one.simulated));
            of.collect::<Vec<_>>().join(", ")
        };
        let apart = found.iter().filter(|one| one.holds == Some(false));
        let apart: Vec<&str> = apart.map(|one| one.measure.as_str()).collect();
        println!(
            "| {} | {} | {} | {} | {} | {} |",
            published.scenario.trim_start_matches("vtc/"),
            cell("tok/s", 0),
            cell("AvgDiff", 0),
            cell("acc", 0),
            cell("TTFT", 1),
            apart.join(", "),
        );
    }
}
