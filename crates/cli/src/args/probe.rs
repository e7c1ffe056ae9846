//! `pilotage probe`: its flags.

use std::path::PathBuf;

use crate::output::Format;

/// Find out which runtime answers at an address, and what it can do.
///
/// Asks a short list of questions (GET only, nothing is computed) and says what the answers mean
/// together: which server it is, its version, the models it serves, their context, what it can do, and
/// which metrics are there or missing. A name proves nothing: every finding comes with its reasons.
///
/// What it prints as `dialect` is what belongs into a Model's manifest. Ends with 0 when a server was
/// recognized and serves the model that was named, with 1 when not.
#[derive(Debug, clap::Args)]
#[command(after_help = PROBE_EXAMPLES)]
pub(crate) struct Probe {
    /// Where it listens: http:// or https://, a host, perhaps a port, and what its paths begin with
    #[arg(value_name = "URL")]
    pub(crate) url: String,
    /// The environment variable that holds the key it asks for
    #[arg(long, value_name = "NAME")]
    pub(crate) key_env: Option<String>,
    /// The file with the certificates (PEM) that it is trusted by, instead of the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// The model that it should serve; Triton's and DeepSpeed's servers are recognized better with it
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// Seconds that each answer may take
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub(crate) timeout: u64,
    /// A table for people or JSON for machines
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

const PROBE_EXAMPLES: &str = "\
Examples:
  pilotage probe http://gpu-1:8000                            which server is it?
  pilotage probe http://gpu-1:8000 --model llama-3.1-8b       … and does it serve that?
  pilotage probe https://api.example.com --key-env API_KEY    one that asks for a key
  pilotage probe localhost:11434 -o json | jq .dialect        for a manifest";
