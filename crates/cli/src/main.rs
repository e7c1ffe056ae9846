//! `pilotage`: serves language models for many teams, on a laptop and on Kubernetes.
//!
//! One file per command in `cmd/`; this is the only crate that sees all the others.

mod admin;
mod args;
mod calibrations;
mod cmd;
mod exit;
mod installation;
mod output;
mod progress;
mod sheets;
mod store;

use std::process::ExitCode;

use clap::Parser as _;
use pilotage_shell::access;

/// Requests are many small allocations on few threads, for which this one takes half the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = args::Args::parse();
    let ended = cmd::run(args);
    access::flush();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error),
    }
}
