//! `pilotage plan tune`: its flags.

use std::path::PathBuf;

use clap::ValueEnum;

use crate::output::Format;

/// Try shapes of a model in the simulator, or servers that run already, and say which are worth their hardware.
///
/// Plays the same requests with every shape that fits: accelerators that divide layers, stages, experts in parallel,
/// replicas, tokens a step, sequences at once, the cache's type. Engines are as fast as the roofline says, calibrated
/// where `pilotage bench calibrate` kept measurements of the same model, hardware and runtime. A shape is best when
/// no other is as good in what it costs, TTFT, TPOT and good requests, and better in one of them. One of the best is
/// recommended, by --goal.
///
/// With --endpoint the requests are sent to servers instead, one after the other, each at the times of the scenario,
/// and latencies count from those times. With MODEL and --hardware the simulator's prediction stands beside what was
/// measured. Nobody else should use the servers meanwhile.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PlanTune {
    /// The model: a folder, a GGUF file, hf:OWNER/REPO or https://…; not needed with --endpoint
    #[arg(value_name = "MODEL", required_unless_present = "endpoints", requires = "hardware")]
    pub(crate) model: Option<String>,
    /// The hardware class, and how many of them one node has: h100-sxm, l4x2
    #[arg(long, value_name = "ID[xN]", required_unless_present = "endpoints", requires = "model")]
    pub(crate) hardware: Option<String>,
    /// Nodes there are
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) nodes: u32,
    /// Accelerators there are; those of all nodes without
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) accelerators: Option<u32>,
    /// The runtime
    #[arg(long, value_name = "NAME", default_value = "vllm")]
    pub(crate) runtime: String,
    /// A server that runs already, by what it is to be called. May be given several times. After its address: cost
    /// (an hour), accelerators, tp, pp, dp, replicas, sequences, step-tokens, cache (bf16, f16 or fp8), model, key-env
    #[arg(long = "endpoint", value_name = "[NAME=]URL[,cost=N][,accelerators=N]…")]
    pub(crate) endpoints: Vec<String>,
    #[command(flatten)]
    pub(crate) live: Live,
    /// Requests a second
    #[arg(long, value_name = "N", default_value_t = 4.0)]
    pub(crate) rate: f64,
    /// Tokens of a prompt
    #[arg(long, value_name = "TOKENS", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=(1 << 20)))]
    pub(crate) prompt: u32,
    /// Tokens of an answer
    #[arg(long, value_name = "TOKENS", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=(1 << 20)))]
    pub(crate) answer: u32,
    /// Seconds of requests
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) seconds: u32,
    /// Play the requests of a scenario instead; see `pilotage sim`
    #[arg(long, value_name = "FILE|NAME", conflicts_with_all = ["rate", "prompt", "answer", "seconds"])]
    pub(crate) scenario: Option<String>,
    #[command(flatten)]
    pub(crate) recorded: Recorded,
    /// Milliseconds until the first token of a good request, at most
    #[arg(long, value_name = "MS")]
    pub(crate) ttft: Option<f64>,
    /// Milliseconds for each further token of a good request, at most
    #[arg(long, value_name = "MS")]
    pub(crate) tpot: Option<f64>,
    /// What one accelerator costs in an hour
    #[arg(long, value_name = "PRICE")]
    pub(crate) price: Option<f64>,
    /// What matters most in the one that is recommended, of those that hold --ttft and --tpot
    #[arg(long, value_enum, default_value_t)]
    pub(crate) goal: TuneGoal,
    /// The seed of the requests
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Show all shapes, not only the best
    #[arg(long)]
    pub(crate) all: bool,
    /// Write a page with plots
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Where calibrations are kept [default: the user's data directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// A table for people or JSON for machines
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// How servers are asked.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Live {
    /// The model to ask servers for; the first that each serves without
    #[arg(long, value_name = "NAME", requires = "endpoints")]
    pub(crate) served_model: Option<String>,
    /// What servers are asked
    #[arg(long, value_name = "KIND", default_value = "chat", value_parser = ["chat", "completions"])]
    pub(crate) ask: String,
    /// The environment variable that holds the API key of servers without key-env; none is sent without
    #[arg(long, value_name = "NAME", requires = "endpoints")]
    pub(crate) key_env: Option<String>,
    /// Requests that warm each server up and do not count
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) warm_up: u64,
    /// How long a request may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) timeout: u64,
}

/// A recorded trace, and what of it is played.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Recorded {
    /// Play the requests of a recorded trace instead: Azure's CSV, Mooncake's JSONL, or one's own
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rate", "prompt", "answer", "seconds", "scenario"])]
    pub(crate) trace: Option<PathBuf>,
    /// How it is written, where its first line does not tell
    #[arg(long, value_name = "FORMAT", requires = "trace", value_parser = ["azure", "mooncake", "vtc", "own"])]
    pub(crate) trace_format: Option<String>,
    /// How many times faster than it was recorded
    #[arg(long, value_name = "N", requires = "trace")]
    pub(crate) speedup: Option<f64>,
    /// Requests of it, at most
    #[arg(long, value_name = "N", requires = "trace", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: Option<u32>,
}

/// What matters most.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum TuneGoal {
    /// How soon an answer is there
    Latency,
    /// How little it costs
    Cost,
    /// How soon it is there for what it costs
    #[default]
    Balance,
}

const EXAMPLES: &str = "\
Examples:
  pilotage plan tune hf:Qwen/Qwen2.5-7B-Instruct --hardware h100-sxm --rate 20
  pilotage plan tune ./model --hardware l4x4 --rate 2 --ttft 1000 --tpot 50 --goal cost --report tune.html
  pilotage plan tune ./model --hardware a100-80 --nodes 2 --scenario mine.yaml --price 1.8 -o json
  pilotage plan tune ./model --hardware l4 --trace AzureLLMInferenceTrace_conv.csv --limit 2000
  pilotage plan tune --endpoint two=http://gpu-1:8000,cost=6 --endpoint one=http://gpu-2:8000,cost=3 --rate 4
  pilotage plan tune ./model --hardware l4 --endpoint http://gpu-1:8000,tp=2 --endpoint http://gpu-2:8000,replicas=2

Exit codes:
  0  something was tried
  1  the model could not be read, or no server could be measured
  2  what was typed is wrong";
