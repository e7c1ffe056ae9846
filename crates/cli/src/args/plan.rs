//! `pilotage plan`: its flags.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

use super::PlanTune;
use crate::output::Format;

/// Say how to run a model: with which runtime, in which shape, on how much hardware, and how fast it will be.
///
/// MODEL is a folder with config.json and safetensors, a GGUF file, hf:OWNER/REPO, hf:OWNER/REPO/FILE.gguf, or
/// an https:// address of a GGUF file or a config.json. Of remote files only the headers are read, kilobytes
/// of them. Nothing is started and nothing is downloaded.
///
/// Every runtime is asked whether it can, and says why it was not taken. Figures are predictions with a band,
/// from a roofline model that knows what hardware can do at best, calibrated where `pilotage bench calibrate` kept
/// measurements of the same model, hardware and runtime; measure before you promise.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct Plan {
    #[command(subcommand)]
    pub(crate) command: Option<PlanCommand>,
    #[command(flatten)]
    pub(crate) model: PlanModel,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PlanCommand {
    Hardware(PlanHardware),
    Tune(Box<PlanTune>),
}

#[derive(Debug, clap::Args)]
pub(crate) struct PlanModel {
    /// The model: a folder, a GGUF file, hf:OWNER/REPO or https://…
    #[arg(value_name = "MODEL", required = true)]
    pub(crate) model: Option<String>,
    /// The hardware class, and how many of them one node has: h100-sxm, l4x2. `pilotage plan hardware` lists them
    #[arg(long, value_name = "ID[xN]", default_value = "h100-sxm")]
    pub(crate) hardware: String,
    /// Nodes there are
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) nodes: u32,
    /// What matters most
    #[arg(long, value_enum, default_value_t)]
    pub(crate) goal: Goal,
    /// Milliseconds until the first token, at most
    #[arg(long, value_name = "MS")]
    pub(crate) ttft: Option<f64>,
    /// Milliseconds between tokens, at most
    #[arg(long, value_name = "MS")]
    pub(crate) tpot: Option<f64>,
    /// Tokens of context for each sequence, prompt and answer together; 8192, or less where the model has less
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u64).range(16..=(1 << 24)))]
    pub(crate) context: Option<u64>,
    /// Tokens of a typical prompt; three quarters of the context, at most 1024, without
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u64).range(1..=(1 << 24)))]
    pub(crate) prompt: Option<u64>,
    /// Tokens of a typical answer; a quarter of the context, at most 256, without
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u64).range(1..=(1 << 24)))]
    pub(crate) answer: Option<u64>,
    /// Tokens of answers a second, at least
    #[arg(long, value_name = "N")]
    pub(crate) tokens_per_second: Option<f64>,
    /// Requests a second, at least
    #[arg(long, value_name = "N")]
    pub(crate) requests_per_second: Option<f64>,
    /// Requests at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) concurrency: u32,
    /// Ranks that divide each layer, instead of as many as are best: TP8 is --tensor 8
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) tensor: Option<u32>,
    /// Stages that divide the layers, instead of as many as are best: PP2 is --pipeline 2
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) pipeline: Option<u32>,
    /// The runtime, instead of the best one: vllm, sglang, tgi, trtllm, triton, deepspeed, llama.cpp, ollama, embedded
    #[arg(long, value_name = "NAME")]
    pub(crate) runtime: Option<String>,
    /// The runtime's release, for its flags and what it supports; the newest known without
    #[arg(long, value_name = "VERSION")]
    pub(crate) version: Option<String>,
    /// Read the headers of all files of weights, also where an index tells the sum
    #[arg(long)]
    pub(crate) exact: bool,
    /// Where calibrations are kept [default: the user's data directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// A table for people or JSON for machines
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// What matters most.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum Goal {
    /// Nothing in particular
    #[default]
    Balance,
    /// Tokens a second for the hardware
    Throughput,
    /// The usual interfaces and most features
    Standard,
    /// Little hardware, few requests at once
    Edge,
}

/// List the hardware classes that `--hardware` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct PlanHardware {
    /// A table for people or JSON for machines
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

const EXAMPLES: &str = "\
Examples:
  pilotage plan hf:Qwen/Qwen2.5-7B-Instruct                      on one node of H100
  pilotage plan ./model --hardware l4 --concurrency 32           a folder, on one node of L4
  pilotage plan model.gguf --hardware cpu-avx2                   a GGUF file on a desktop
  pilotage plan hf:deepseek-ai/DeepSeek-V3 --hardware h200x8 --nodes 2 --goal throughput
  pilotage plan ./model --tensor 4 --pipeline 2                  in a shape that is decided: TP4 PP2
  pilotage plan hardware                                         what --hardware takes

Exit codes:
  0  there is a plan
  1  the model could not be read
  2  what was typed is wrong
  3  no runtime runs it, it fits nowhere, or no shape meets the goal: the message says by how much";
