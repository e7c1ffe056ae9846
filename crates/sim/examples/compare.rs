//! Places the requests of scenarios in every way there is, or in those named after `--`, and prints
//! what each came to: `compare SCENARIO[,SCENARIO] [POLICY…] [--seeds N] [--first SEED] [--rate PERCENT]`.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "prints a table")]

use pilotage_sim::compare::{Row, compare};
use pilotage_sim::rival::Route;
use pilotage_sim::{Scenario, scenario};

fn main() {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let mut option = |name: &str, other: u64| {
        let Some(at) = words.iter().position(|word| word == name) else { return other };
        let value = words[at + 1].parse().unwrap();
        words.drain(at..at + 2);
        value
    };
    let (seeds, first) = (option("--seeds", 1), option("--first", 0));
    let rate = option("--rate", 100);
    let names: Vec<String> = words[0].split(',').map(str::to_owned).collect();
    let mut routes: Vec<Route> = words[1..].iter().map(|name| Route::find(name).unwrap()).collect();
    if routes.is_empty() {
        routes = Route::all().collect();
    }
    for name in names {
        let text = scenario::find(&name)
            .map_or_else(|| std::fs::read_to_string(&name).unwrap(), |one| one.text.to_owned());
        println!("{name}");
        for seed in first..first + seeds {
            let read = |file: &str| {
                let folder = std::path::Path::new(&name).parent().unwrap();
                std::fs::read_to_string(folder.join(file)).map_err(|error| error.to_string())
            };
            let seed = (seed > 0).then_some(seed);
            let mut scenario = Scenario::read(&name, &text, seed, &read).unwrap();
            for arrival in &mut scenario.arrivals {
                let at = arrival.at.as_nanos() / rate * 100;
                arrival.at = pilotage_core::Time::from_nanos(at);
            }
            let warm = scenario.warm.as_nanos() / rate * 100;
            scenario.warm = pilotage_core::Time::from_nanos(warm);
            compare(&scenario, &routes, "", &mut |_, _| {}).rows.iter().for_each(show);
        }
    }
}

fn show(row: &Row) {
    let ms = |time: pilotage_sim::report::Rounded| time.get() * 1000.0;
    let (first, last) = (row.first_token, row.last_token);
    println!(
        "{:24} {:5} req {:3} ref {:3} unf  ttft {:6.0} {:6.0} {:6.0}  e2e {:6.0} {:6.0}  hit {:.3} ({:.3})  {:6.0} tok/s  imb {:.2}",
        row.policy,
        row.requests,
        row.refused,
        row.unfinished,
        ms(first.p50),
        ms(first.p95),
        ms(first.p99),
        ms(last.p50),
        ms(last.p99),
        row.hit_rate.get(),
        row.hoped.map_or(0.0, |part| part.get()),
        row.tokens_per_second.get(),
        row.imbalance.get(),
    );
}
