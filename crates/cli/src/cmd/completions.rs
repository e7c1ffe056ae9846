//! `pilotage completions`: a completion script, made from the same flags as the help.

use clap::CommandFactory as _;

use crate::args::{Args, Completions};
use crate::output;

/// Prints the script.
#[expect(clippy::unnecessary_wraps, reason = "every command has the same shape")]
pub(crate) fn run(args: &Completions) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "pilotage", &mut script);
    output::piece(&String::from_utf8_lossy(&script));
    Ok(())
}
