//! `pilotage explain`: its flags.

use std::path::PathBuf;

use clap::Subcommand;

use super::Reach;
use crate::output::Format;

/// Ask a running gateway why it decides as it does.
#[derive(Debug, clap::Args)]
pub(crate) struct Explain {
    #[command(subcommand)]
    pub(crate) command: ExplainCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ExplainCommand {
    Route(Box<ExplainRoute>),
}

/// Say where a request would go now, and why: the Route's choice, and each replica's cost.
///
/// FILE is the body that a client sends, - is stdin; without it, --model asks for a chat with a few
/// words. The gateway reads it as in earnest and decides with the same code, but sends, books and
/// charges nothing, and what the request says is not printed. Finds the installation started by
/// `pilotage up` on this machine, or takes --url and the admin key in --key-file.
///
/// Costs are milliseconds until the answer is complete: QUEUE for prompts and places in front,
/// PREFILL for prompt tokens that its cache has not, DECODE for the answer, BURDEN for what others
/// wait longer, MEMORY as the KV cache fills, NETWORK for the way there, ADAPTER to load it.
/// `->` marks the chosen replica, `~` those as good as the best: among these chance decides.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExplainRoute {
    /// The request's body, JSON; - is stdin
    #[arg(value_name = "FILE|-", required_unless_present = "model")]
    pub(crate) file: Option<PathBuf>,
    /// The model that is asked for, instead of the body's
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// A header that the client sends, such as x-pilotage-band=bulk. May be given several times
    #[arg(long = "header", value_name = "NAME=VALUE")]
    pub(crate) headers: Vec<String>,
    /// Whose request it is; not needed where there is one tenant
    #[arg(long, value_name = "NAME")]
    pub(crate) tenant: Option<String>,
    /// The endpoint that the client sends it to
    #[arg(long, value_name = "PATH", default_value = "/v1/chat/completions")]
    pub(crate) path: String,
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// A table for people or JSON for machines
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

const EXAMPLES: &str = "\
Examples:
  pilotage explain route --model chat
  pilotage explain route request.json --tenant search --header x-pilotage-band=bulk
  pilotage explain route - --model chat -o json < request.json | jq '.lanes[].decision'
  pilotage explain route request.json --url http://10.0.0.5:8081 --key-file admin.key";
