//! `pilotage warden`: a program of somebody else, ended when `pilotage up` is gone. It ends as the program
//! does, so that whoever started it sees why.

use std::os::unix::process::ExitStatusExt as _;

use anyhow::Context as _;
use pilotage_operator::local;
use pilotage_shell::env::{self, Var};
use rustix::process::{Signal, getpid, kill_process};

use crate::args::Warden;
use crate::exit::{Ended, Wrong};

pub(crate) fn run(args: &Warden) -> anyhow::Result<()> {
    let supervisor = env::get(Var::Supervisor).and_then(|pid| pid.parse().ok());
    let supervisor = supervisor
        .ok_or_else(|| Wrong::new("PILOTAGE_SUPERVISOR is not set; `pilotage up` starts this"))?;
    let (program, rest) = args.command.split_first().context("there is no program")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime
        .block_on(local::watch_over(program, rest, supervisor))
        .with_context(|| format!("{}", program.display()))?;
    if let Some(signal) = ended.signal().and_then(Signal::from_named_raw) {
        let _ = kill_process(getpid(), signal);
    }
    match ended.code().map(u8::try_from) {
        Some(Ok(0)) => Ok(()),
        Some(Ok(code)) => Err(Ended(code).into()),
        _ => Err(Ended(1).into()),
    }
}
