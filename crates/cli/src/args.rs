//! What can be typed: flags as data, with help that teaches. What they mean is in `cmd/`.

mod adapters;
mod bench;
mod calibrate;
mod cost;
mod epp;
mod explain;
mod front;
mod gateway;
mod install;
mod key;
mod kubernetes;
mod model;
mod nights;
mod plan;
mod probe;
mod reach;
mod scripted;
mod triage;
mod tune;
mod usage;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use crate::output::Format;

pub(crate) use adapters::Adapters;
pub(crate) use bench::{
    Asked, Bench, BenchCommand, BenchDiff, BenchFind, BenchFormat, BenchReport, BenchRun,
    BenchSweep, Each, LoadArgs, ResultArgs,
};
pub(crate) use calibrate::BenchCalibrate;
pub(crate) use cost::Cost;
pub(crate) use epp::Epp;
pub(crate) use explain::{Explain, ExplainCommand, ExplainRoute};
pub(crate) use front::{FrontArgs, MetricsCompat};
pub(crate) use gateway::Gateway;
pub(crate) use install::{Diff, DiffForm, Install, Uninstall};
pub(crate) use key::{Key, KeyCommand, KeyList, KeyNew, KeyRotate};
pub(crate) use kubernetes::{Crd, Form, Lint, Manifests, Operator, Render, overlaid};
pub(crate) use model::{List, Model, ModelCommand, Prune, Pull, bytes};
pub(crate) use nights::{Check, Only, Tap, Top, Why};
pub(crate) use plan::{Goal, Plan, PlanCommand, PlanModel};
pub(crate) use probe::Probe;
pub(crate) use reach::Reach;
pub(crate) use scripted::{BenchEngine, EngineKind};
pub(crate) use triage::Triage;
pub(crate) use tune::{PlanTune, TuneGoal};
pub(crate) use usage::{
    Usage, UsageBudgets, UsageCommand, UsageCost, UsageFormat, UsageRows, UsageSums, UsageWhen,
};

/// Serves large language models for many teams: gateway, scheduler and engine in one binary.
#[derive(Debug, Parser)]
#[command(name = "pilotage", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  pilotage up                        serve the built-in model on this machine
  pilotage chat                      talk to it in the terminal
  pilotage status                    see what is running";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(Box<Up>),
    Epp(Box<Epp>),
    Chat(Chat),
    Status(Status),
    Check(Check),
    Top(Top),
    Tap(Tap),
    Why(Why),
    Usage(Box<Usage>),
    Explain(Explain),
    Probe(Probe),
    Model(Model),
    Plan(Box<Plan>),
    Render(Box<Render>),
    Lint(Box<Lint>),
    Diff(Box<Diff>),
    Cost(Box<Cost>),
    Install(Box<Install>),
    Uninstall(Uninstall),
    Gateway(Box<Gateway>),
    Operator(Box<Operator>),
    Crd(Crd),
    Key(Key),
    Sim(Sim),
    Bench(Bench),
    Triage(Box<Triage>),
    Engine(Box<Engine>),
    Completions(Completions),
    #[command(hide = true)]
    Reference(Reference),
    #[command(hide = true)]
    Adapters(Adapters),
    #[command(hide = true)]
    Warden(Warden),
}

/// Try out in seconds what would happen in hours: simulated engines, and the scheduler that serves.
///
/// A scenario is a YAML file, or one that is built in: who sends what to which engines, under which
/// scheduler, and what fails meanwhile. The same scenario and seed give the same result, byte for byte.
#[derive(Debug, clap::Args)]
#[command(after_help = SIM_EXAMPLES)]
pub(crate) struct Sim {
    #[command(subcommand)]
    pub(crate) command: SimCommand,
}

const SIM_EXAMPLES: &str = "\
Examples:
  pilotage sim list                                       the scenarios that are built in
  pilotage sim run vtc/overload --report overload.html    play one, and write a page about it
  pilotage sim run mine.yaml --seed 7 -o json             play your own
  pilotage sim explain vtc/real-vtc --request 700         why did that request wait?
  pilotage sim compare routing/live-reference             the same requests, placed in all ways there are";

/// What to do with scenarios.
#[derive(Debug, Subcommand)]
pub(crate) enum SimCommand {
    /// Play a scenario, and say what came out
    Run(SimRun),
    /// Say why one request of a scenario waited
    Explain(SimExplain),
    /// Place the requests of a scenario in several ways, others' among them, and show what each came to
    Compare(SimCompare),
    /// List the scenarios that are built in
    List(SimList),
}

#[derive(Debug, clap::Args)]
pub(crate) struct SimRun {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Write a page with plots
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Check the scheduler's invariants after every event; slow
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SimExplain {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Its number among the arrivals, from 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) request: u64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SimCompare {
    #[command(flatten)]
    pub(crate) which: Which,
    /// The policies, or the autoscalers, to compare, with commas between; all of them without
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) policies: Vec<String>,
    /// Write a page with a plot
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SimList {
    /// What the output looks like
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// A scenario, and how to play it.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// A YAML file, or the name of a scenario that is built in
    #[arg(value_name = "SCENARIO")]
    pub(crate) scenario: String,
    /// The seed of everything that happens by chance, instead of the scenario's own
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// What the output looks like
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// Serve models on this machine: engines, supervised, with the gateway in front.
///
/// Reads resources (Model, Tenant, Route, Fleet) from the files given with -f, the same that
/// Kubernetes takes; without -f it serves a small built-in model. Missing weights are downloaded
/// once. Ctrl-C finishes running requests and stops; a second Ctrl-C stops at once. SIGHUP reads
/// the manifests again and carries out what differs; a mistake in them changes nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = UP_EXAMPLES)]
pub(crate) struct Up {
    /// A manifest, or a folder of manifests (*.yaml, *.yml). May be given several times
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR")]
    pub(crate) files: Vec<PathBuf>,
    /// Where clients connect
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    #[command(flatten)]
    pub(crate) front: FrontArgs,
    /// Engines for each model, instead of what its manifest says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) replicas: Option<u32>,
    /// Serve without API keys; only on a loopback address
    #[arg(long)]
    pub(crate) no_keys: bool,
    /// Read manifests, and key files that they name, again when they change; else on SIGHUP only
    #[arg(long)]
    pub(crate) watch: bool,
    /// Print the resources that would be used, and stop
    #[arg(long)]
    pub(crate) print: bool,
    /// Print the plan (processes, lanes, limits), and stop
    #[arg(long, conflicts_with = "print")]
    pub(crate) dry_run: bool,
}

const UP_EXAMPLES: &str = "\
Examples:
  pilotage up                                     the built-in model on http://127.0.0.1:8080
  pilotage up --print > models.yaml               start from the built-in resources …
  pilotage up -f models.yaml --replicas 2         … and serve your own
  pilotage up --listen 0.0.0.0:8080               serve the network (keys are required)
  PILOTAGE_API_KEY=pk-… pilotage up               choose the key of tenant `local`";

/// Talk to a model in the terminal, word by word as it answers.
///
/// Finds the installation started by `pilotage up` on this machine, or takes --url and --key.
/// Reads questions from stdin when it is not a terminal. Ctrl-C stops an answer; Ctrl-D ends.
#[derive(Debug, clap::Args)]
#[command(after_help = CHAT_EXAMPLES)]
pub(crate) struct Chat {
    /// Which model; the first one served when not given
    pub(crate) model: Option<String>,
    /// The gateway's address
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The API key [env: PILOTAGE_API_KEY]
    #[arg(long, value_name = "KEY", hide_env_values = true)]
    pub(crate) key: Option<String>,
    /// Instructions that come before the conversation
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// The most tokens for one answer
    #[arg(long, value_name = "N")]
    pub(crate) max_tokens: Option<u32>,
    /// 0 always takes the most likely token, 1 follows the model's distribution
    #[arg(long, value_name = "T")]
    pub(crate) temperature: Option<f32>,
    /// Where `pilotage up` keeps its data
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

const CHAT_EXAMPLES: &str = "\
Examples:
  pilotage chat
  pilotage chat smollm2 --system 'Answer in one sentence.'
  echo 'What is the capital of France?' | pilotage chat --max-tokens 40";

/// Show what is running: listeners, lanes, engines, queues.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  pilotage status\n  pilotage status -o json | jq .lanes")]
pub(crate) struct Status {
    /// A table for people or JSON for machines
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// Run one engine: a model behind an HTTP port, in this process.
///
/// `pilotage up` starts these; run one by hand to look at it alone, or to measure it. Every
/// request but GET /health needs the key in PILOTAGE_ENGINE_KEY.
#[derive(Debug, clap::Args)]
#[command(after_help = ENGINE_EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct Engine {
    #[command(subcommand)]
    pub(crate) command: Option<EngineCommand>,
    #[command(flatten)]
    pub(crate) serve: EngineServe,
}

const ENGINE_EXAMPLES: &str = "\
Examples:
  PILOTAGE_ENGINE_KEY=secret pilotage engine --model m.gguf --listen 127.0.0.1:9000
  pilotage engine bench --model m.gguf --parallel 1,4,8,16";

#[derive(Debug, Subcommand)]
pub(crate) enum EngineCommand {
    Bench(EngineBench),
}

/// What an engine runs and its limits.
#[derive(Debug, clap::Args)]
pub(crate) struct EngineServe {
    /// The weights, a GGUF file
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) model: Option<PathBuf>,
    /// The name clients use; the file's name when not given
    #[arg(long, value_name = "NAME")]
    pub(crate) served_name: Option<String>,
    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8000")]
    pub(crate) listen: SocketAddr,
    /// Sequences computed at once
    #[arg(long, value_name = "N")]
    pub(crate) parallel: Option<u32>,
    /// Tokens of each sequence, prompt and answer together
    #[arg(long, value_name = "TOKENS")]
    pub(crate) context: Option<u32>,
    /// Threads to compute with
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<u32>,
    /// Tokens computed in one step, prompts and answers together
    #[arg(long, value_name = "TOKENS")]
    pub(crate) batch_tokens: Option<u32>,
    /// Sequences that may wait
    #[arg(long, value_name = "N")]
    pub(crate) queue_max: Option<u32>,
    /// Layers computed on the GPU, in a build with the feature `cuda`
    #[arg(long, value_name = "N")]
    pub(crate) gpu_layers: Option<u32>,
}

/// Measure prefill and decode speed at several numbers of parallel sequences.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  pilotage engine bench --model m.gguf --threads 2 -o json")]
pub(crate) struct EngineBench {
    /// The weights; those of the built-in model when not given
    #[arg(long, value_name = "FILE")]
    pub(crate) model: Option<PathBuf>,
    /// Parallel sequences, one measurement each
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1, 4, 8, 16])]
    pub(crate) parallel: Vec<u32>,
    /// Tokens of each prompt
    #[arg(long, value_name = "TOKENS", default_value_t = 160)]
    pub(crate) prompt_tokens: u32,
    /// Tokens of each answer
    #[arg(long, value_name = "TOKENS", default_value_t = 128)]
    pub(crate) output_tokens: u32,
    /// Threads to compute with
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<u32>,
    /// Tokens computed in one step
    #[arg(long, value_name = "TOKENS")]
    pub(crate) batch_tokens: Option<u32>,
    /// A table for people or JSON for machines
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// Run a program that must not outlive `pilotage up`, which starts runtimes of others behind this.
#[derive(Debug, clap::Args)]
pub(crate) struct Warden {
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<OsString>,
}

/// Print a completion script for a shell.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  pilotage completions bash > ~/.local/share/bash-completion/completions/pilotage"
)]
pub(crate) struct Completions {
    /// Which shell
    pub(crate) shell: Shell,
}

/// Write the generated reference pages.
#[derive(Debug, clap::Args)]
pub(crate) struct Reference {
    /// The folder
    pub(crate) folder: PathBuf,
    /// Change nothing; fail when a page differs
    #[arg(long)]
    pub(crate) check: bool,
    /// Write the objects for Kubernetes and the Helm chart instead
    #[arg(long)]
    pub(crate) deploy: bool,
    /// Alert rules with windows and delays that are so many times shorter, to see them fire
    #[arg(long, value_name = "TIMES", requires = "deploy", default_value = "1", hide = true)]
    pub(crate) hurry: NonZeroU16,
}
