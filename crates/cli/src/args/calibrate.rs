//! `pilotage bench calibrate`: its flags.

use std::path::PathBuf;

use crate::output::Format;

/// Measure what a server's prompts and steps take, so that plans, simulations and the gateway know it.
///
/// Sends single prompts of several lengths, and bursts of several answers, each several times, and fits lines to
/// the medians; with --weights and --hardware also what of the hardware's rates is reached, which then holds for
/// other shapes of the model. Every third measurement is held out of a first fit: how far off that is there is how
/// far off to expect it to be. Nobody else should use the server meanwhile.
///
/// With --save the result is kept as calibrations/MODEL.json in the data directory. `pilotage plan` takes it for
/// the same model, hardware and runtime; a scenario of `pilotage sim` with engine: {calibration: MODEL}; and the
/// gateway of `pilotage up` begins with it for a Model of that name, until it has measurements of its own.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchCalibrate {
    /// The server: http://HOST:PORT, with or without /v1
    #[arg(value_name = "URL")]
    pub(crate) url: String,
    /// The model; the first one served when not given
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// The environment variable that holds the API key [default: PILOTAGE_API_KEY]
    #[arg(long, value_name = "NAME")]
    pub(crate) key_env: Option<String>,
    /// The model's files, as `pilotage plan` takes them: a folder, a GGUF file, hf:OWNER/REPO
    #[arg(long, value_name = "MODEL", requires = "hardware")]
    pub(crate) weights: Option<String>,
    /// The hardware class it runs on; `pilotage plan hardware` lists them
    #[arg(long, value_name = "ID[xN]", requires = "weights")]
    pub(crate) hardware: Option<String>,
    /// The runtime, where it cannot be told from its answers
    #[arg(long, value_name = "NAME")]
    pub(crate) runtime: Option<String>,
    /// Accelerators that divide each layer there
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) tensor_parallel: u32,
    /// Stages that divide the layers there
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) pipeline_parallel: u32,
    /// What is asked: chat or completions
    #[arg(long, value_name = "KIND", default_value = "chat", value_parser = ["chat", "completions"])]
    pub(crate) endpoint: String,
    /// Tokens of prompts that are sent alone
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "32,64,128,256,512,1024,2048,4096", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) prompts: Vec<u32>,
    /// Answers at once
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,2,4,8,16,32,64", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) concurrencies: Vec<u32>,
    /// Tokens of the prompts of those
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "64,512", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) contexts: Vec<u32>,
    /// Tokens of their answers, more where their prompts take steps to be read
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(8..=4096))]
    pub(crate) answer: u32,
    /// How often each is measured
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) repeats: u32,
    /// Seconds that it may take in all, about: of what is to be measured, what would take longer is left out and named
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(10..=86_400))]
    pub(crate) within: u64,
    /// How long a request may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) timeout: u64,
    /// The seed of the prompts; a new one each time without, since the server may still have the prompts of the last
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Keep the result
    #[arg(long)]
    pub(crate) save: bool,
    /// Keep it under that name instead of the model's
    #[arg(long, value_name = "NAME", requires = "save")]
    pub(crate) name: Option<String>,
    /// Keep it also where measurements are in doubt
    #[arg(long, requires = "save")]
    pub(crate) force: bool,
    /// Where to keep it [default: the user's data directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// A table for people or JSON for machines
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

const EXAMPLES: &str = "\
Examples:
  pilotage bench calibrate http://127.0.0.1:8000 --save
  pilotage bench calibrate http://127.0.0.1:8000 --weights hf:Qwen/Qwen2.5-7B-Instruct --hardware rtx-4090 --save
  pilotage bench calibrate https://gpu.example --key-env GPU_KEY --prompts 256,1024,4096 --concurrencies 1,8,64 --within 1200
  pilotage bench calibrate http://127.0.0.1:8080 --repeats 10 -o json | jq .fit.heldOut

Exit codes:
  0  measured, and kept where that was asked for
  1  the server could not be measured, or what was measured is in doubt and was not kept
  2  what was typed is wrong";
