//! `pilotage triage`: its flags.

use std::path::PathBuf;

use clap::Args;

use crate::output::Format;

/// Say why it is slow, what to change, and what would come of that.
///
/// Reads results of `vllm bench serve --save-result` (with --save-detailed they tell more) or of `pilotage bench run
/// -o vllm`. Several results of one server at different rates tell where it stops growing. What limits it is
/// found by a model of its batch, its KV cache and its memory bandwidth, and each finding says what it rests on, which
/// flag to set for which runtime, and what would show that it is wrong.
///
/// Ends with 0 where nothing is wrong, and with 1 where something is, or where too little is known to tell.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Triage {
    /// Results of benchmarks
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    pub(crate) bench: Vec<PathBuf>,
    /// Text for people or JSON for machines
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

const EXAMPLES: &str = "\
Examples:
  vllm bench serve --model m --request-rate 4 --save-result --save-detailed --result-filename r4.json
  pilotage triage --bench r4.json
  pilotage triage --bench r1.json r2.json r4.json -o json";
