//! Stands between the supervisor and a program that does not know of it: passes the wish to end on, and
//! ends the program, and all that it has started, when the supervisor is gone. A supervisor that is
//! killed cannot say so, and nobody else would ever give the accelerator free.

use std::ffi::OsString;
use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use pilotage_shell::signals::Shutdown;
use rustix::process::{Pid, Signal, getpgrp, getppid, kill_process, kill_process_group};
use tokio::process::{Child, Command};

/// How often it is looked whether the supervisor is still there.
const LOOK: Duration = Duration::from_millis(500);

/// How long a program without a supervisor gets to end.
const ORPHAN_LIFE: Duration = Duration::from_secs(10);

/// Runs a program until it ends, by itself or because it shall.
///
/// # Errors
/// It cannot be started or watched.
pub async fn watch_over(
    program: &OsString,
    args: &[OsString],
    supervisor: i32,
) -> io::Result<ExitStatus> {
    let mut signals = Shutdown::listen()?;
    let mut child = Command::new(program).args(args).kill_on_drop(true).spawn()?;
    loop {
        tokio::select! {
            ended = child.wait() => return ended,
            _ = signals.next() => pass_on(&child),
            () = orphaned(supervisor) => {
                pass_on(&child);
                let _ = tokio::time::timeout(ORPHAN_LIFE, child.wait()).await;
                // Ourselves included.
                let _ = kill_process_group(getpgrp(), Signal::KILL);
            }
        }
    }
}

fn pass_on(child: &Child) {
    let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    if let Some(pid) = pid {
        // An error means that it is gone already.
        let _ = kill_process(pid, Signal::TERM);
    }
}

async fn orphaned(supervisor: i32) {
    while getppid().map(|pid| pid.as_raw_nonzero().get()) == Some(supervisor) {
        tokio::time::sleep(LOOK).await;
    }
}
