//! `pilotage bench`: what can be typed to measure a server.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

use super::{BenchCalibrate, BenchEngine};
use crate::output::Format;

/// Measure a server: how fast it is under a load, and whether the numbers can be trusted.
///
/// Requests are sent at their times, however the server does, and every latency counts from when its
/// request was meant to be sent. A queue that grows has no percentiles: it is said so instead. Works
/// with every server that speaks OpenAI's API.
#[derive(Debug, clap::Args)]
#[command(after_help = BENCH_EXAMPLES)]
pub(crate) struct Bench {
    #[command(subcommand)]
    pub(crate) command: BenchCommand,
}

const BENCH_EXAMPLES: &str = "\
Examples:
  pilotage bench run http://127.0.0.1:8080 --rate 10 --duration 60s    ten requests a second
  pilotage bench find http://127.0.0.1:8080 --slo ttft=500ms,tpot=50ms the most it can take
  pilotage bench run URL --rate 10 --save before.json                  keep a run …
  pilotage bench diff before.json after.json                           … and compare: exit code 1 when worse";

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    Run(Box<BenchRun>),
    Sweep(Box<BenchSweep>),
    Find(Box<BenchFind>),
    Calibrate(Box<BenchCalibrate>),
    Diff(BenchDiff),
    Report(BenchReport),
    Engine(Box<BenchEngine>),
}

/// Send one load, and say what came back.
///
/// The load is a rate (--rate, --ramp, a trace) or a number of requests under way (--concurrency).
/// With a rate the loop is open: a server that stands still for a second delays all who were due in
/// it, and their latencies say so. What is sent follows from --seed.
#[derive(Debug, clap::Args)]
#[command(after_help = RUN_EXAMPLES)]
pub(crate) struct BenchRun {
    #[command(flatten)]
    pub(crate) asked: Asked,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    #[command(flatten)]
    pub(crate) result: ResultArgs,
}

const RUN_EXAMPLES: &str = "\
Examples:
  pilotage bench run http://127.0.0.1:8080 --rate 10
  pilotage bench run URL --rate 4 --arrivals gamma:3 --input-tokens lognormal:400:0.8
  pilotage bench run URL --concurrency 16 --requests 500 --ignore-eos
  pilotage bench run URL --ramp 1:20 --duration 5m --html ramp.html
  pilotage bench run URL --arrivals trace:AzureLLMInferenceTrace_conv.csv --rate 5
  pilotage bench run URL --rate 8 --shared-prefix 20:1024 --turns 4 --think-time 2s
  pilotage bench run URL --rate 20 --tenants search=search.key:3,chat=chat.key:1
  pilotage bench run URL --rate 2000 --endpoint raw:/v1/models --duration 30s
  pilotage bench run URL --rate 10 --slo ttft=500ms,tpot=50ms -o json | jq .goodput";

/// Send several loads one after the other, and show what changes with the load.
#[derive(Debug, clap::Args)]
#[command(after_help = SWEEP_EXAMPLES)]
pub(crate) struct BenchSweep {
    #[command(flatten)]
    pub(crate) asked: Asked,
    /// Requests a second, one load each
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        required_unless_present = "concurrencies"
    )]
    pub(crate) rates: Vec<f64>,
    /// Requests under way at once, one load each
    #[arg(long, value_name = "N,…", value_delimiter = ',', conflicts_with = "rates", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) concurrencies: Vec<u32>,
    #[command(flatten)]
    pub(crate) each: Each,
}

const SWEEP_EXAMPLES: &str = "\
Examples:
  pilotage bench sweep http://127.0.0.1:8080 --rates 1,2,4,8
  pilotage bench sweep URL --concurrencies 1,4,16,64 --duration 30s --html sweep.html
  pilotage bench sweep URL --rates 1,2,4,8 --slo ttft=500ms -o json | jq .best";

/// Find the highest rate that holds: answers as good as asked, and a queue that does not grow.
///
/// Doubles the rate until it does not hold, then halves the gap. What a good answer is, --slo says;
/// without it, one that came.
#[derive(Debug, clap::Args)]
#[command(after_help = FIND_EXAMPLES)]
pub(crate) struct BenchFind {
    #[command(flatten)]
    pub(crate) asked: Asked,
    /// The rate to begin with, in requests a second
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    pub(crate) from: f64,
    /// The highest rate to try
    #[arg(long, value_name = "N", default_value_t = 10_000.0)]
    pub(crate) to: f64,
    /// How exactly to find it, as a part of the rate
    #[arg(long, value_name = "PART", default_value_t = 0.05)]
    pub(crate) precision: f64,
    #[command(flatten)]
    pub(crate) each: Each,
}

const FIND_EXAMPLES: &str = "\
Examples:
  pilotage bench find http://127.0.0.1:8080 --slo ttft=500ms,tpot=50ms
  pilotage bench find URL --slo e2e=10s --good 0.95 --from 4 --duration 2m --html limit.html";

/// What each load of several has in common.
#[derive(Debug, clap::Args)]
pub(crate) struct Each {
    /// How times vary: poisson, gamma:CV or constant
    #[arg(long, value_name = "PROCESS", default_value = "poisson")]
    pub(crate) arrivals: String,
    /// How long to send each load
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub(crate) duration: String,
    /// What of each load does not count: a time, or a number of requests [default: a tenth, at most 10s]
    #[arg(long, value_name = "TIME|N")]
    pub(crate) warm_up: Option<String>,
    /// The part of requests that must be good for a load to hold
    #[arg(long, value_name = "PART", default_value_t = 0.99)]
    pub(crate) good: f64,
    /// A table for people or JSON for machines
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
    /// Keep the results, for `bench report`
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
    /// Write a page with plots
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

/// Compare two runs that were kept with --save.
///
/// Says of each number how far the second run is from the first, with bounds; all bounds of a
/// comparison together hold in 19 of 20. Ends with exit code 1 when the second run is worse by more
/// than --tolerance, beyond chance, or has lost its steady state.
#[derive(Debug, clap::Args)]
#[command(after_help = DIFF_EXAMPLES)]
pub(crate) struct BenchDiff {
    /// The run to compare with
    #[arg(value_name = "FIRST")]
    pub(crate) first: PathBuf,
    /// The run that may be worse
    #[arg(value_name = "SECOND")]
    pub(crate) second: PathBuf,
    /// The part by which numbers may be worse
    #[arg(long, value_name = "PART", default_value_t = 0.05)]
    pub(crate) tolerance: f64,
    /// A table for people or JSON for machines
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

const DIFF_EXAMPLES: &str = "\
Examples:
  pilotage bench diff before.json after.json
  pilotage bench diff before.json after.json --tolerance 0.1 && echo 'not worse'";

/// Show a result that was kept with --save: as a table, or as a page.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  pilotage bench report run.json --html run.html")]
pub(crate) struct BenchReport {
    /// The result of a run, a sweep or a search
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Write a page with plots instead of a table
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

/// Whom to ask, and what.
#[derive(Debug, clap::Args)]
pub(crate) struct Asked {
    /// The server: http://HOST:PORT, with or without /v1
    #[arg(value_name = "URL")]
    pub(crate) url: String,
    /// The model; the first one served when not given
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// A file with the API key [env: PILOTAGE_API_KEY]
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// What is asked: chat, completions, embeddings, or raw:/PATH
    #[arg(long, value_name = "KIND", default_value = "chat")]
    pub(crate) endpoint: String,
    /// What is posted to raw:/PATH; without it, it is a GET
    #[arg(long, value_name = "FILE")]
    pub(crate) body_file: Option<PathBuf>,
    /// Ask for whole answers instead of streams: there is no time to first token then
    #[arg(long, overrides_with = "stream")]
    pub(crate) no_stream: bool,
    /// Ask for streams, as is done when nothing is said
    #[arg(long)]
    pub(crate) stream: bool,
    /// Tokens of prompts: N, uniform:A:B, normal:MEAN:DEVIATION, lognormal:MEDIAN:SIGMA, exponential:MEAN
    #[arg(long, value_name = "LENGTH", default_value = "256")]
    pub(crate) input_tokens: String,
    /// Tokens of answers, as --input-tokens
    #[arg(long, value_name = "LENGTH", default_value = "128")]
    pub(crate) output_tokens: String,
    /// Ask for answers that do not end early; vLLM, SGLang and Pilotage know it
    #[arg(long)]
    pub(crate) ignore_eos: bool,
    /// Begin prompts alike: so many groups, so many tokens each, before --input-tokens of their own
    #[arg(long, value_name = "GROUPS:TOKENS")]
    pub(crate) shared_prefix: Option<String>,
    /// Turns of a conversation, each with all that was said before
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) turns: u32,
    /// Time between an answer and the next turn
    #[arg(long, value_name = "TIME", default_value = "0s")]
    pub(crate) think_time: String,
    /// Several who ask: each with a name, a file with its key, and its part of the requests
    #[arg(
        long,
        value_name = "NAME=KEY-FILE:WEIGHT,…",
        value_delimiter = ',',
        conflicts_with = "key_file"
    )]
    pub(crate) tenants: Vec<String>,
    /// A header added to every request
    #[arg(long, value_name = "NAME:VALUE")]
    pub(crate) header: Vec<String>,
    /// Fields added to every body, as a JSON object
    #[arg(long, value_name = "JSON")]
    pub(crate) extra: Option<String>,
    /// What a good answer is: limits on ttft, tpot and e2e
    #[arg(long, value_name = "ttft=500ms,tpot=50ms")]
    pub(crate) slo: Option<String>,
    /// Answers that the server makes at once, if you know: tells a full server from a growing queue
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) slots: Option<u32>,
    /// The seed of everything that is drawn
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Connections at most; requests beyond them wait in the client, and their latency says so
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) connections: Option<u32>,
    /// Threads that send
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) threads: u32,
    /// How long a request may take
    #[arg(long, value_name = "TIME", default_value = "5m")]
    pub(crate) timeout: String,
    /// How long to wait for answers once everything is sent
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub(crate) grace: String,
}

/// How much is sent, and how long.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct LoadArgs {
    /// Requests a second; with a trace, its times are stretched to that
    #[arg(long, value_name = "N", conflicts_with_all = ["concurrency", "ramp"])]
    pub(crate) rate: Option<f64>,
    /// Requests under way at once: the next when one is done
    #[arg(long, value_name = "N", conflicts_with = "ramp", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) concurrency: Option<u32>,
    /// Requests a second that grow (or fall) from one number to another over --duration
    #[arg(long, value_name = "FROM:TO")]
    pub(crate) ramp: Option<String>,
    /// How times vary: poisson, gamma:CV (above 1 in bursts), constant, or trace:FILE (Azure's CSV, Mooncake's JSONL) [default: poisson]
    #[arg(long, value_name = "PROCESS", conflicts_with = "concurrency")]
    pub(crate) arrivals: Option<String>,
    /// How long to send [default: 60s, unless --requests or a trace says when it is over]
    #[arg(long, value_name = "TIME")]
    pub(crate) duration: Option<String>,
    /// How many requests to send
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) requests: Option<u64>,
    /// What does not count: a time, or a number of requests [default: a tenth, at most 10s]
    #[arg(long, value_name = "TIME|N")]
    pub(crate) warm_up: Option<String>,
}

/// Where results go.
#[derive(Debug, clap::Args)]
pub(crate) struct ResultArgs {
    /// What is printed
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: BenchFormat,
    /// Keep the result with every request, for `bench diff` and `bench report`
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
    /// Write a page with plots
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

/// What the result of a run looks like.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum BenchFormat {
    /// A table for people.
    #[default]
    Table,
    /// JSON for machines: everything but the single requests.
    Json,
    /// The result file of vLLM's `bench serve`.
    Vllm,
    /// The summary of AIPerf (`profile_export_aiperf.json`).
    Aiperf,
}
