//! What triage says of every world in trouble: its verdict, and all that it found. Names of signatures on the
//! command line choose; with one, the whole report is printed. `table` prints the table of all.

#![expect(clippy::print_stdout, reason = "it is a program to be looked at")]

use pilotage_lens::triage::{text, triage};
use pilotage_sim::trouble::{SEEDS, Tried, all, table, try_all};

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if wanted.first().is_some_and(|word| word == "table") {
        print!("{}", table(&try_all()));
        return;
    }
    let chosen = all().iter().filter(|trouble| {
        wanted.is_empty() || wanted.iter().any(|id| id == trouble.id.unwrap_or("none"))
    });
    for trouble in chosen {
        for seed in 0..SEEDS {
            let tried = Tried::of(trouble, seed);
            let sign = if tried.first == trouble.id { "  " } else { "x " };
            println!(
                "{sign}{} {seed} {:?} {:?} beside {:?}",
                trouble.id.unwrap_or("none"),
                tried.first,
                tried.found,
                tried.beside
            );
        }
        if wanted.len() == 1 {
            print!("{}", text::text(&triage(&trouble.evidence(0))));
        }
    }
}
