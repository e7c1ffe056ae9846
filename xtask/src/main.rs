//! Chores of this repository, written in Rust so that they run wherever it builds.
//!
//! `cargo xtask tidy` holds the tree to its own rules; the same checks run as a test of this
//! package, so that nobody has to remember them.

mod graph;
mod ratchet;
mod repo;
mod rust;
mod tidy;

use std::process::ExitCode;

use anyhow::bail;

use repo::Repo;

const HELP: &str = "cargo xtask tidy          hold the tree to its own rules
cargo xtask tidy --rules  say which rules there are";

#[expect(clippy::print_stdout, reason = "its output is what a chore is for")]
fn main() -> anyhow::Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => tidy(),
        ["tidy", "--rules"] => {
            tidy::CHECKS.iter().for_each(|check| println!("{:<12} {}", check.name, check.rule));
            Ok(ExitCode::SUCCESS)
        }
        [] | ["help" | "--help" | "-h"] => {
            println!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("there is no chore `{}`; there are:\n{HELP}", args.join(" ")),
    }
}

#[expect(clippy::print_stdout, reason = "its output is what a chore is for")]
fn tidy() -> anyhow::Result<ExitCode> {
    let findings = tidy::check(&Repo::open()?);
    findings.iter().for_each(|(rule, finding)| println!("{finding} [{rule}]"));
    if findings.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("{} to put right", findings.len());
    Ok(ExitCode::FAILURE)
}
