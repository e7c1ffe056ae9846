//! `pilotage plan tune`: its flags.

use std::path::PathBuf;

use crate::output::Format;

/// Try shapes of a model in the simulator, and say which are worth their hardware.
///
/// Plays the same requests with every shape that fits: accelerators that divide layers, replicas, tokens a step,
/// sequences at once, the cache's type. Engines are as fast as the roofline says, calibrated where
/// `pilotage bench calibrate` kept measurements of the same model, hardware and runtime. A shape is best when no
/// other is as good in accelerators, TTFT, TPOT and good requests, and better in one of them.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PlanTune {
    /// The model: a folder, a GGUF file, hf:OWNER/REPO or https://…
    #[arg(value_name = "MODEL")]
    pub(crate) model: String,
    /// The hardware class, and how many of them one node has: h100-sxm, l4x2
    #[arg(long, value_name = "ID[xN]")]
    pub(crate) hardware: String,
    /// Accelerators there are; those of one node without
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) accelerators: Option<u32>,
    /// The runtime
    #[arg(long, value_name = "NAME", default_value = "vllm")]
    pub(crate) runtime: String,
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
    /// Play the requests of a scenario instead, a recorded trace's among them; see `pilotage sim`
    #[arg(long, value_name = "FILE|NAME", conflicts_with_all = ["rate", "prompt", "answer", "seconds"])]
    pub(crate) scenario: Option<String>,
    /// Milliseconds until the first token of a good request, at most
    #[arg(long, value_name = "MS")]
    pub(crate) ttft: Option<f64>,
    /// Milliseconds for each further token of a good request, at most
    #[arg(long, value_name = "MS")]
    pub(crate) tpot: Option<f64>,
    /// What one accelerator costs in an hour
    #[arg(long, value_name = "PRICE")]
    pub(crate) price: Option<f64>,
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

const EXAMPLES: &str = "\
Examples:
  pilotage plan tune hf:Qwen/Qwen2.5-7B-Instruct --hardware h100-sxm --rate 20
  pilotage plan tune ./model --hardware l4x4 --rate 2 --ttft 1000 --tpot 50 --report tune.html
  pilotage plan tune ./model --hardware a100-80 --scenario mine.yaml --price 1.8 -o json";
