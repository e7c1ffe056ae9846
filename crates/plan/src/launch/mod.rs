//! How each program is started for a model: command, environment, ports, probes, memory, volumes.
//!
//! ```text
//! Launch (model, shape, hardware, features) ──spec(engine)──▶ LaunchSpec ──▶ process here, or pod template
//! ```
//!
//! One file a program. All arguments, ours and the user's, are checked against the flags that the program's
//! release is known to have ([`flags`]); one that it does not know is an error here and not in a log later.

mod arguments;
mod base;
mod deepspeed;
mod embedded;
mod engine;
pub mod flags;
mod image;
mod llama_cpp;
mod ollama;
mod probe;
mod request;
mod sglang;
mod spec;
mod tgi;
mod triton;
mod trtllm;
mod version;
mod vllm;

#[cfg(test)]
mod tests;

use thiserror::Error;

pub use engine::Engine;
pub use flags::{Fault, Finding, Severity};
pub(crate) use probe::start_seconds;
pub use request::{Adapter, Features, Launch, Weights};
pub use spec::{
    Command, EVENTS, Env, EnvValue, File, LEADER, LISTEN, LaunchSpec, METRICS, PEERS, PORT, Port,
    PortRole, Probe, Probes, RANK, RENDEZVOUS, Resources, SCRATCH, Secret, Volume, VolumeRole,
    WEIGHTS,
};
pub use version::Version;

use arguments::Arguments;

/// Adapters that one step may compute with. Room for each is taken of the accelerator's memory, and requests for
/// more of them take turns; how many there are is another matter.
pub(crate) const ADAPTERS_AT_ONCE: u32 = 4;

/// Why a program cannot be started so.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum LaunchError {
    /// The program has no such thing.
    #[error("{} {what}; {instead}", engine.title())]
    Unsupported {
        /// Which program.
        engine: Engine,
        /// What it does not do.
        what: String,
        /// What to do about it.
        instead: String,
    },
    /// Arguments that the release does not take.
    #[error("{}", .0.join("; "))]
    Arguments(Vec<String>),
    /// One machine cannot run it.
    #[error("{nodes} nodes are needed to run this with {}, and a process has one; choose a smaller shape", engine.title())]
    Nodes {
        /// Which program.
        engine: Engine,
        /// How many nodes.
        nodes: u32,
    },
}

/// How to start a program for a model.
///
/// # Errors
/// [`LaunchError`] when the program cannot do what is asked, or does not know an argument.
pub fn spec(engine: Engine, launch: &Launch) -> Result<LaunchSpec, LaunchError> {
    let mut spec = match engine {
        Engine::Embedded => embedded::spec(launch),
        Engine::Vllm => vllm::spec(launch),
        Engine::Sglang => sglang::spec(launch),
        Engine::Tgi => tgi::spec(launch),
        Engine::TensorRtLlm => trtllm::spec(launch),
        Engine::Triton => triton::spec(launch),
        Engine::DeepSpeed => deepspeed::spec(launch),
        Engine::LlamaCpp => llama_cpp::spec(launch),
        Engine::Ollama => ollama::spec(launch),
    }?;
    let extra = check_extra(engine, launch.version, &launch.extra);
    let (errors, warnings): (Vec<_>, Vec<_>) =
        extra.into_iter().partition(|finding| finding.severity() == Severity::Error);
    if !errors.is_empty() {
        let words = |finding: &Finding| finding.describe(engine, launch.version);
        return Err(LaunchError::Arguments(errors.iter().map(words).collect()));
    }
    spec.findings.extend(warnings);
    Ok(spec)
}

/// The share of an accelerator's memory that a program is told to take for the shape of a launch, as its memory is
/// to be reckoned: SGLang's does not hold what a step needs.
pub fn memory_share(engine: Engine, launch: &Launch) -> f64 {
    match engine {
        Engine::Sglang => sglang::static_share(launch),
        _ => launch.shape.utilisation,
    }
}

/// What is odd or wrong about a user's own arguments for a program, given beside those that Pilotage sets.
pub fn check_extra(engine: Engine, version: Option<Version>, extra: &[String]) -> Vec<Finding> {
    if extra.is_empty() {
        return Vec::new();
    }
    flags::check(engine, extra, version, ours(engine))
}

/// The flags that are Pilotage's matter, with what to write instead.
const fn ours(engine: Engine) -> &'static [(&'static str, &'static str)] {
    match engine {
        Engine::Embedded => embedded::OURS,
        Engine::Vllm => vllm::OURS,
        Engine::Sglang => sglang::OURS,
        Engine::Tgi => tgi::OURS,
        Engine::TensorRtLlm => trtllm::OURS,
        Engine::Triton => triton::OURS,
        Engine::DeepSpeed => deepspeed::OURS,
        Engine::LlamaCpp => llama_cpp::OURS,
        Engine::Ollama => ollama::OURS,
    }
}

/// What to write instead of a flag that Pilotage sets.
mod instead {
    pub(super) const REMOVE: &str = "remove it";
    pub(super) const CONTEXT: &str = "write `spec.context`";
    pub(super) const PARALLEL: &str = "write `spec.parallel`";
    pub(super) const BATCH: &str = "write `spec.batchTokens`";
    pub(super) const SOURCE: &str = "write `spec.source`";
    pub(super) const THREADS: &str = "write `spec.threads`";
    pub(super) const SHAPE: &str = "it follows from the shape";
}
