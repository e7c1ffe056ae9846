//! What starts one replica of a model, as one value: an executor makes a pod template of it, or a process of this
//! machine.
//!
//! Words in braces stand for what only an executor knows; it replaces them and chooses nothing else.

use serde::Serialize;

use super::flags::Finding;
use super::{Engine, LaunchError, Version};
use crate::Ground;
use crate::render::process::{HOST, ProcessSpec, Program, Readiness, WeightsSpec};

pub use crate::render::process::{EVENTS, METRICS, PORT, RENDEZVOUS, SCRATCH, Secret, WEIGHTS};

/// Stands for the address to listen on.
pub const LISTEN: &str = "{host}";
/// Stands for the address of the node that serves.
pub const LEADER: &str = "{leader}";
/// Stands for a node's number, the one that serves being 0.
pub const RANK: &str = "{rank}";
/// Stands for all nodes with their ports or places, as the program wants them, with commas between.
pub const PEERS: &str = "{peers}";

/// How to run one replica.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LaunchSpec {
    /// Which program.
    pub engine: Engine,
    /// Which release; none where the one that is there is taken as it is.
    pub version: Option<Version>,
    /// The container image, where there is a known one.
    pub image: Option<String>,
    /// The model's name in requests to this program.
    pub served: String,
    /// What runs on the node that serves.
    pub leader: Command,
    /// What runs on each of the others; none with one node.
    pub worker: Option<Command>,
    /// How many nodes.
    pub nodes: u32,
    /// Environment of all of them.
    pub env: Vec<Env>,
    /// Files to write before the start.
    pub files: Vec<File>,
    /// Where it listens.
    pub ports: Vec<Port>,
    /// How to see whether it works.
    pub probes: Probes,
    /// Shared memory in bytes between the program's processes, beyond what there is by default.
    pub shared_memory_bytes: Option<u64>,
    /// What is mounted.
    pub volumes: Vec<Volume>,
    /// What each node has to have.
    pub resources: Resources,
    /// Requests that it computes at once.
    pub slots: u32,
    /// Seconds from the word to stop until it is stopped by force.
    pub grace_seconds: u32,
    /// What is odd about the arguments without being wrong.
    pub findings: Vec<Finding>,
    /// What somebody who runs it had better know.
    pub notes: Vec<String>,
}

/// A program with its arguments.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Command {
    /// The program, found on the search path or in a virtual environment.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
}

/// One variable of the environment.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Env {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: EnvValue,
}

/// Where a variable's value comes from.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EnvValue {
    /// Written here.
    Plain(String),
    /// A secret that the executor has.
    Secret(Secret),
}

/// A file to write before the start.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct File {
    /// Its path, below [`SCRATCH`].
    pub path: String,
    /// What is in it, with the same words in braces.
    pub content: String,
}

/// A port.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Port {
    /// What it is for.
    pub role: PortRole,
    /// Its number where nobody else decides.
    pub default: u16,
}

/// What a port is for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PortRole {
    /// Requests.
    Http,
    /// Metrics, where they have a port of their own.
    Metrics,
    /// What the cache holds.
    KvEvents,
    /// Where nodes find each other.
    Rendezvous,
}

/// How to see whether a program works.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Probes {
    /// Whether it has started; nothing else is asked before.
    pub startup: Probe,
    /// Whether it takes requests.
    pub readiness: Probe,
    /// Whether it has to be started again.
    pub liveness: Probe,
}

/// One question, asked again and again.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Probe {
    /// The path on the port for requests.
    pub path: String,
    /// Seconds from one to the next.
    pub period_seconds: u32,
    /// Seconds that an answer may take.
    pub timeout_seconds: u32,
    /// How many have to fail in a row.
    pub failures: u32,
}

/// Something that is mounted.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Volume {
    /// What it is for.
    pub role: VolumeRole,
    /// Where.
    pub path: String,
    /// Whether nothing is written there.
    pub is_read_only: bool,
}

/// What a volume is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeRole {
    /// The weights.
    Weights,
    /// What it compiles and downloads, kept from one start to the next.
    Cache,
    /// Memory that its processes share.
    SharedMemory,
    /// Its own folder.
    Scratch,
}

/// What each node has to have.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Resources {
    /// The accelerator's name in Kubernetes; none for processors.
    pub accelerator: Option<&'static str>,
    /// How many accelerators.
    pub accelerators: u32,
}

impl Probe {
    /// Seconds until it has failed, at most.
    pub const fn patience_seconds(&self) -> u32 {
        self.period_seconds.saturating_mul(self.failures)
    }
}

impl LaunchSpec {
    /// As a process of this machine, with its own name and the Model's.
    ///
    /// # Errors
    /// [`LaunchError::Nodes`] for what needs several machines.
    pub fn process(
        &self,
        (name, lane): (String, String),
        weights: WeightsSpec,
        threads: u32,
    ) -> Result<ProcessSpec, LaunchError> {
        if self.nodes > 1 {
            return Err(LaunchError::Nodes { engine: self.engine, nodes: self.nodes });
        }
        let host = |text: &String| text.replace(LISTEN, HOST);
        let plain = |env: &Env| match &env.value {
            EnvValue::Plain(value) => Some((env.name.clone(), host(value))),
            EnvValue::Secret(_) => None,
        };
        let secret = |env: &Env| match &env.value {
            EnvValue::Plain(_) => None,
            EnvValue::Secret(secret) => Some((env.name.clone(), *secret)),
        };
        let program = match self.engine {
            Engine::Embedded => Program::Own,
            _ => Program::Named { name: self.leader.program.clone(), home: None },
        };
        Ok(ProcessSpec {
            name,
            program,
            args: self.leader.args.iter().map(host).collect(),
            env: self.env.iter().filter_map(plain).collect(),
            secrets: self.env.iter().filter_map(secret).collect(),
            files: self.files.iter().map(|file| (file.path.clone(), host(&file.content))).collect(),
            host: HOST.to_owned(),
            health_path: self.probes.readiness.path.clone(),
            readiness: self.readiness(),
            stop_seconds: Some(self.grace_seconds),
            lane,
            served_model: self.served.clone(),
            dialect: self.engine.dialect(),
            metrics_of: self.engine.metrics_of(),
            slots: self.slots,
            threads,
            weights,
            release: self.version.map(|version| version.to_string()),
            devices: Vec::new(),
            adapters: Vec::new(),
            ground: Ground::default(),
        })
    }

    /// What it has to show before it gets requests.
    fn readiness(&self) -> Readiness {
        let is_ours = self.engine == Engine::Embedded;
        Readiness {
            start_seconds: Some(self.probes.startup.patience_seconds()).filter(|_| !is_ours),
            // Others list models by other names than those that they are asked by.
            lists_model: matches!(self.engine, Engine::Vllm | Engine::Sglang | Engine::LlamaCpp),
            warms_up: !is_ours,
        }
    }

    /// The variable in which the program wants its key; none where it takes none, or not in its environment.
    pub fn key_variable(&self) -> Option<&str> {
        let key = EnvValue::Secret(Secret::EngineKey);
        self.env.iter().find(|env| env.value == key).map(|env| env.name.as_str())
    }

    /// The command as somebody would type it, on the node that serves.
    pub fn command_line(&self) -> String {
        let env = self.env.iter().map(|env| match &env.value {
            EnvValue::Plain(value) => format!("{}={}", env.name, quoted(value)),
            EnvValue::Secret(_) => format!("{}=…", env.name),
        });
        env.chain([self.leader.command_line()]).collect::<Vec<_>>().join(" ")
    }
}

impl Command {
    /// The command as somebody would type it.
    pub fn command_line(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.args);
        words.map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }
}

/// A word as a shell wants it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,{}@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

impl Env {
    pub(super) fn plain(name: &str, value: impl Into<String>) -> Self {
        Self { name: name.to_owned(), value: EnvValue::Plain(value.into()) }
    }

    pub(super) fn secret(name: &str, secret: Secret) -> Self {
        Self { name: name.to_owned(), value: EnvValue::Secret(secret) }
    }
}
