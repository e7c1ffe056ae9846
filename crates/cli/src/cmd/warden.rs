//! `pilotage warden`: a program of somebody else, ended when `pilotage up` is gone. It ends with the
//! program's code, or with 128 and the number of the signal that the program died of: this process
//! handles some signals itself and cannot die of them.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use anyhow::Context as _;
use pilotage_operator::local;
use pilotage_shell::env::{self, Var};

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
    match code(ended) {
        0 => Ok(()),
        code => Err(Ended(code).into()),
    }
}

fn code(ended: ExitStatus) -> u8 {
    let signal = ended.signal().and_then(|signal| signal.checked_add(128));
    ended.code().or(signal).and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_told_by_the_code() {
        let check = |raw: i32, expect: u8| assert_eq!(code(ExitStatus::from_raw(raw)), expect);
        check(0, 0);
        check(3 << 8, 3);
        for signal in [2, 6, 7, 9, 11, 15] {
            check(signal, 128 + u8::try_from(signal).unwrap());
            // With a core dump.
            check(signal | 0x80, 128 + u8::try_from(signal).unwrap());
        }
    }
}
