//! The result of a run as a value: what `-o json` prints and `--save` keeps, and what tables, pages
//! and other tools' formats are made from.

pub mod aiperf;
mod build;
pub mod page;
mod plot;
pub mod requests;
pub mod sweep;
pub mod vllm;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::record::Outcome;
use crate::slo::Slo;
use crate::stats::latency::Latency;
use crate::stats::timeline::Timeline;
use crate::verdict::{Finding, Severity, Stability, Steady};

pub use build::report;
pub use requests::Requests;
pub use sweep::Sweep;

/// The form of this JSON. Its number changes when a field changes its meaning or goes away.
pub const SCHEMA: &str = "pilotage.bench/v1";

/// The result of a run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Report {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// What was asked for.
    pub setting: Setting,
    /// Where and when it ran.
    pub environment: Environment,
    /// Whether the numbers are about the server.
    pub valid: bool,
    /// What a reader of the numbers must know, worst first.
    pub findings: Vec<Finding>,
    /// Whether there is a steady state.
    pub stability: Stability,
    /// How many requests ended how. Those that warmed up are not in here.
    pub counts: Counts,
    /// What was done in a second.
    pub throughput: Throughput,
    /// How long it took. Nothing where there is no steady state.
    pub latency: Option<Latencies>,
    /// How good that was, where objectives were given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goodput: Option<Goodput>,
    /// The same for each tenant.
    pub tenants: Vec<TenantResult>,
    /// The run over time.
    pub timeline: Timeline,
    /// Curves of the distributions.
    pub curves: Curves,
    /// Every request that is kept, where they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Requests>,
}

/// What was asked for.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Setting {
    /// The command that does the same again.
    pub command: String,
    /// The server.
    pub url: String,
    /// What was asked of it: `chat`, `completions`, `embeddings` or `raw:/path`.
    pub endpoint: String,
    /// The model.
    pub model: String,
    /// Whether answers came as streams.
    pub stream: bool,
    /// `open`, `closed`, `ramp` or `trace`.
    pub load: String,
    /// How gaps vary: `poisson`, `gamma:2`, `constant`, `trace:FILE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arrivals: Option<String>,
    /// Requests a second, as asked for; the highest, where the rate changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Requests under way, as asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<usize>,
    /// Connections at most.
    pub connections: usize,
    /// Tokens of prompts.
    pub input_tokens: String,
    /// Tokens of answers.
    pub output_tokens: String,
    /// Groups of prompts that begin alike, and how long that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_prefix: Option<(u32, u32)>,
    /// Turns of a conversation.
    pub turns: u32,
    /// Names of the tenants.
    pub tenants: Vec<String>,
    /// The seed.
    pub seed: u64,
    /// What a good answer is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slo: Option<Slo>,
    /// Answers that the server makes at once, where that was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<f64>,
}

/// Where and when it ran.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Environment {
    /// The version of this program.
    pub version: String,
    /// Operating system and processor.
    pub platform: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Threads that sent.
    pub threads: usize,
    /// When it began, in milliseconds since 1970.
    pub started_unix_ms: u64,
    /// Seconds from the first request to the end of sending.
    pub sending_seconds: f64,
    /// Seconds from the first request to the last answer.
    pub total_seconds: f64,
    /// Seconds at the begin that do not count.
    pub warm_up_seconds: f64,
    /// Seconds that this process computed for while it sent.
    pub client_cpu_seconds: f64,
}

/// How many requests ended how.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Counts {
    /// All that count.
    pub total: u64,
    /// Answered.
    pub ok: u64,
    /// Refused with 429 or 503.
    pub rejected: u64,
    /// Failed, in whatever way.
    pub failed: u64,
    /// Not ended when the run was over.
    pub unfinished: u64,
    /// Sent before counting began.
    pub warm_up: u64,
    /// Each way to end.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// Requests sent again on a new connection, as the server had closed one that was kept open: those that
    /// warmed up among them.
    #[serde(default)]
    pub reconnects: u64,
}

/// What was done in a second of those that count.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Throughput {
    /// Seconds that count.
    pub seconds: f64,
    /// Requests due.
    pub due: f64,
    /// Requests answered.
    pub requests: f64,
    /// Tokens of prompts answered.
    pub input_tokens: f64,
    /// Tokens of answers.
    pub output_tokens: f64,
}

/// How long it took. Times count from when a request was meant to be sent, unless named otherwise.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Latencies {
    /// To the first token.
    pub ttft_ms: Latency,
    /// For each token after the first.
    pub tpot_ms: Latency,
    /// Between two events with content.
    pub itl_ms: Latency,
    /// To the end.
    pub e2e_ms: Latency,
    /// From when it was sent to the first token.
    pub ttft_from_send_ms: Latency,
    /// From when it was sent to the end.
    pub e2e_from_send_ms: Latency,
    /// Waiting in the client for a connection, and opening it.
    pub client_queue_ms: Latency,
    /// How late the client was, with connections to spare.
    pub schedule_delay_ms: Latency,
}

/// How many answers held the objectives.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Goodput {
    /// Good answers a second.
    pub requests: f64,
    /// Good answers among all requests that count, failed and rejected ones among them.
    pub fraction: f64,
}

/// One tenant's part.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct TenantResult {
    /// Its name.
    pub name: String,
    /// Its requests that count.
    pub total: u64,
    /// Those answered.
    pub ok: u64,
    /// Those refused.
    pub rejected: u64,
    /// Those that failed.
    pub failed: u64,
    /// Requests answered in a second.
    pub requests: f64,
    /// Tokens of answers in a second.
    pub output_tokens: f64,
    /// To the first token; nothing where there is no steady state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttft_ms: Option<Latency>,
    /// For each token after the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpot_ms: Option<Latency>,
    /// To the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e2e_ms: Option<Latency>,
    /// How good that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goodput: Option<Goodput>,
}

/// Curves of the distributions: `(milliseconds, part that lies below)`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Curves {
    /// To the first token.
    pub ttft: Vec<(f64, f64)>,
    /// For each token after the first.
    pub tpot: Vec<(f64, f64)>,
    /// Between two events with content.
    pub itl: Vec<(f64, f64)>,
    /// To the end.
    pub e2e: Vec<(f64, f64)>,
}

impl Report {
    /// Why there are no percentiles, where there are none.
    pub fn refused(&self) -> Option<String> {
        self.latency.is_none().then(|| {
            let why = self.stability.reasons.join("; ");
            format!("no steady state, so no percentiles: {why}")
        })
    }

    /// Whether the load at this rate can go on: answers hold what is asked, and the queue does not
    /// grow.
    pub fn holds(&self, part: f64) -> bool {
        let good = self.goodput.map_or_else(
            || self.counts.ok as f64 >= part * self.counts.total as f64,
            |goodput| goodput.fraction >= part,
        );
        good && self.counts.ok > 0 && self.stability.steady != Steady::No
    }

    /// Whether it was the client that could do no more.
    pub fn is_client_bound(&self) -> bool {
        let client = |finding: &Finding| {
            finding.severity == Severity::Invalid && finding.id.starts_with("client_")
        };
        self.findings.iter().any(client)
    }
}
