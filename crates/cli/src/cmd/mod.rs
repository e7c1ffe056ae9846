//! The commands, one file each.

mod adapters;
mod bench;
mod chat;
mod check;
mod completions;
mod cost;
mod crd;
mod diff;
mod engine;
mod epp;
mod explain;
mod front;
mod gateway;
mod install;
mod key;
mod lint;
mod model;
mod operator;
mod plan;
mod probe;
mod reference;
mod render;
mod sim;
mod status;
mod tap;
mod top;
mod triage;
mod uninstall;
mod up;
mod usage;
mod warden;
mod why;

use std::future::Future;

use crate::args::{Args, Command};

/// Runs the command that was typed.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Up(args) => block_on(up::run(*args)),
        Command::Epp(args) => block_on(epp::run(*args)),
        Command::Engine(args) => engine::run(*args),
        Command::Model(args) => block_on(model::run(args)),
        Command::Plan(args) => block_on(plan::run(*args)),
        Command::Render(args) => block_on(render::run(*args)),
        Command::Lint(args) => block_on(lint::run(*args)),
        Command::Gateway(args) => block_on(gateway::run(*args)),
        Command::Cost(args) => block_on(cost::run(*args)),
        Command::Diff(args) => block_on(diff::run(*args)),
        Command::Install(args) => block_on(install::run(*args)),
        Command::Uninstall(args) => block_on(uninstall::run(args)),
        Command::Operator(args) => block_on(operator::run(*args)),
        Command::Crd(args) => crd::run(&args),
        Command::Key(args) => key::run(args),
        Command::Sim(args) => sim::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Triage(args) => block_on(triage::run(*args)),
        Command::Chat(args) => block_on(chat::run(args)),
        Command::Probe(args) => block_on(probe::run(args)),
        Command::Usage(args) => block_on(usage::run(*args)),
        Command::Explain(args) => block_on(explain::run(args)),
        Command::Status(args) => block_on(status::run(args)),
        Command::Check(args) => block_on(check::run(args)),
        Command::Top(args) => block_on(top::run(args)),
        Command::Tap(args) => block_on(tap::run(args)),
        Command::Why(args) => block_on(why::run(args)),
        Command::Completions(args) => completions::run(&args),
        Command::Reference(args) => reference::run(&args),
        Command::Adapters(args) => block_on(adapters::run(args)),
        Command::Warden(args) => warden::run(&args),
    }
}

fn block_on(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    // On one core, workers that hand tasks to each other have nobody to hand them to.
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut runtime = match cores {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    runtime.enable_all().build()?.block_on(command)
}
