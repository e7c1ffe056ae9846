//! `pilotage`: serves language models for many teams, on a laptop and on Kubernetes.
//!
//! One file per command in `cmd/`; this is the only crate that sees all the others.

mod args;
mod cmd;
mod exit;
mod installation;
mod output;
mod progress;
mod store;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let args = args::Args::parse();
    match cmd::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error),
    }
}
