//! Plays scenarios of fleets that grow and shrink with every autoscaler, or with those named, and prints
//! what each came to: `autoscale SCENARIO[,SCENARIO] [SCALER…] [--seeds N] [--first SEED] [--why 1]`.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "prints a table")]

use pilotage_sim::scaled::{ScaledRow, row};
use pilotage_sim::scaler::Autoscaler;
use pilotage_sim::{Options, Scenario, run, scenario};

fn main() {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let mut option = |name: &str, other: u64| {
        let Some(at) = words.iter().position(|word| word == name) else { return other };
        let value = words[at + 1].parse().unwrap();
        words.drain(at..at + 2);
        value
    };
    let (seeds, first, why) = (option("--seeds", 1), option("--first", 0), option("--why", 0));
    let mut scalers: Vec<Autoscaler> =
        words[1..].iter().map(|name| Autoscaler::find(name).unwrap()).collect();
    if scalers.is_empty() {
        scalers = Autoscaler::all().collect();
    }
    for name in words[0].split(',') {
        let text = scenario::find(name)
            .map_or_else(|| std::fs::read_to_string(name).unwrap(), |one| one.text.to_owned());
        println!("{name}");
        for scaler in &scalers {
            let mut rows = Vec::new();
            for seed in first..first + seeds {
                let seed = (seed > 0).then_some(seed);
                let read = |_: &str| Err("no files here".to_owned());
                let mut scenario = Scenario::read(name, &text, seed, &read).unwrap();
                scenario.scaling.as_mut().unwrap().scaler = *scaler;
                let run = run(&scenario, Options::default(), &mut |_, _| {});
                let reasons = &run.fleet.as_ref().unwrap().reasons;
                for (at, reason) in reasons.iter().filter(|_| why > 0) {
                    println!("{:7.0} s {reason}", at.as_nanos() as f64 / 1e9);
                }
                rows.extend(row(&scenario, &run));
            }
            show(&rows);
        }
    }
}

fn show(rows: &[ScaledRow]) {
    let count = rows.len() as f64;
    let mean = |read: &dyn Fn(&ScaledRow) -> f64| rows.iter().map(read).sum::<f64>() / count;
    println!(
        "| {:20} | {:5.1} % | {:6.1} | {:7.1} | {:4.0} | {:6.2} | {:6.2} | {:4.1} | {:5.1} | {:5.1} |",
        rows[0].scaler,
        100.0 * mean(&|row| row.attained.get()),
        mean(&|row| row.first_token.p95.get()),
        mean(&|row| row.first_token.p99.get()),
        mean(&|row| row.lost as f64),
        mean(&|row| row.hours.get()),
        mean(&|row| row.cost.get()),
        mean(&|row| f64::from(row.replicas_max)),
        mean(&|row| row.changes as f64),
        mean(&|row| row.flaps as f64),
    );
}
