//! Flags of the commands for whoever is woken at night: `check`, `top`, `tap`, `why`.

use pilotage_core::Band;

use super::Reach;
use crate::output::Format;

/// Say why one request took as long as it did, or failed.
///
/// REQUEST_ID is what every answer has in its header x-request-id; clients may choose it. Shows where the time
/// went, phase by phase, beside what requests of the same model usually take, and what can be done. The gateway
/// remembers its last 10,000 requests, and knows those under way; its ledger has older ones.
///
/// Ends with 0 when it is explained, and with 1 when no such request is known.
#[derive(Debug, clap::Args)]
#[command(after_help = WHY_EXAMPLES)]
pub(crate) struct Why {
    /// The request's id
    #[arg(value_name = "REQUEST_ID")]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// Text for people or JSON for machines
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

const WHY_EXAMPLES: &str = "\
Examples:
  pilotage tap --min-ms 5000                 slow requests as they end, with their ids
  pilotage why 0197c3f2a81d4e55              why was that one slow?
  pilotage why 0197c3f2a81d4e55 -o json      the same for a program";

/// Show requests as they end, one line each.
///
/// Nothing of what they said: who asked for which model, how it ended, how long it took, how many tokens. With -o
/// json a line is the whole record. Ends with Ctrl-C, or after --count requests.
#[derive(Debug, clap::Args)]
#[command(after_help = TAP_EXAMPLES)]
pub(crate) struct Tap {
    #[command(flatten)]
    pub(crate) only: Only,
    /// End after so many, those of --last among them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Begin with so many that ended before
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub(crate) last: u32,
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// Lines for people or JSON lines for machines
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

const TAP_EXAMPLES: &str = "\
Examples:
  pilotage tap                                   everything
  pilotage tap --tenant research --min-ms 2000   slow requests of one tenant and those below it
  pilotage tap --termination upstream_error      what replicas failed at
  pilotage tap -o json | jq .ttft_ms             for programs";

/// Which requests.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Only {
    /// Of this tenant, and of those that belong to it
    #[arg(long, value_name = "NAME")]
    pub(crate) tenant: Option<String>,
    /// Of this Model
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// That this replica answered
    #[arg(long, value_name = "NAME")]
    pub(crate) replica: Option<String>,
    /// Of this band
    #[arg(long, value_name = "BAND", value_parser = Band::ALL.map(Band::name))]
    pub(crate) band: Option<String>,
    /// That ended so: ok, client_cancel, quota, upstream_error, …
    #[arg(long, value_name = "HOW")]
    pub(crate) termination: Option<String>,
    /// That took at least so many milliseconds
    #[arg(long, value_name = "MS")]
    pub(crate) min_ms: Option<u64>,
}

/// Watch models, tenants, replicas and requests, live.
///
/// On a terminal it fills the screen: 1 to 4 or tab choose what is shown, p pauses, q ends. Elsewhere, or with
/// --once, it prints one look.
#[derive(Debug, clap::Args)]
#[command(after_help = TOP_EXAMPLES)]
pub(crate) struct Top {
    /// Look once, and end
    #[arg(long)]
    pub(crate) once: bool,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub(crate) interval: u64,
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// Tables for people or one JSON object for machines
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

const TOP_EXAMPLES: &str = "\
Examples:
  pilotage top                     live
  pilotage top --once              one look, for a log or a ticket
  pilotage top -o json             one look, for programs";

/// Check that everything is well, and say what to do where it is not.
///
/// Asks the running gateway about itself, its configuration, replicas, queues, canaries, budgets, ledger, traces and
/// findings of triage. Each line is one question with its answer; lines that are not well have a hint.
///
/// Ends with 0 where all is well or only warned of, and with 1 where anything is wrong or the gateway does not answer.
#[derive(Debug, clap::Args)]
#[command(after_help = CHECK_EXAMPLES)]
pub(crate) struct Check {
    /// Warnings count as wrong
    #[arg(long)]
    pub(crate) strict: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// Lines for people or JSON for machines
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

const CHECK_EXAMPLES: &str = "\
Examples:
  pilotage check
  pilotage check --strict || alert          in a script";
