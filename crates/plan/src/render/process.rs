//! One replica of a model as a process of this machine.
//!
//! An executor replaces [`WEIGHTS`] and [`PORT`] in the arguments, adds its secrets to the
//! environment, and chooses nothing else.

use serde::Serialize;

use crate::api::{Dialect, Model};
use crate::{Digest, Ground, Signer, WeightsSource};

/// Stands in the arguments for the path of the weights file.
pub const WEIGHTS: &str = "{weights}";

/// Stands in the arguments for the TCP port the process listens on.
pub const PORT: &str = "{port}";

/// Stands for a folder of the process's own, where its [`ProcessSpec::files`] are.
pub const SCRATCH: &str = "{scratch}";

/// Stands for a second TCP port, where the process tells what its KV cache holds.
pub const EVENTS: &str = "{events}";

/// Stands for a TCP port where the parts of a process find each other.
pub const RENDEZVOUS: &str = "{rendezvous}";

/// Stands for a TCP port where the process tells its metrics, where that is not [`PORT`].
pub const METRICS: &str = "{metrics}";

/// Where replicas listen: nobody outside of this machine can reach them past the gateway.
pub const HOST: &str = "127.0.0.1";

/// A process to run, and to keep running.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct ProcessSpec {
    /// Its name, unique in the plan: the model's and the replica's number.
    pub name: String,
    /// What to start.
    pub program: Program,
    /// Its arguments, with [`WEIGHTS`] and [`PORT`] to be replaced.
    pub args: Vec<String>,
    /// Environment to set, by name and value.
    pub env: Vec<(String, String)>,
    /// Secrets to set there, by name and by what they are for.
    pub secrets: Vec<(String, Secret)>,
    /// Files to write before each start: paths below [`SCRATCH`], and what is in them.
    pub files: Vec<(String, String)>,
    /// The address it listens on, at the port that replaces [`PORT`].
    pub host: String,
    /// The path that answers with status 200 once the process takes requests.
    pub health_path: String,
    /// What else it has to show before it gets requests.
    pub readiness: Readiness,
    /// Seconds that it gets to end before it is killed; the executor's own number without.
    pub stop_seconds: Option<u32>,
    /// The Model that it is a replica of.
    pub lane: String,
    /// The model's name in requests to this process.
    pub served_model: String,
    /// Which server it is.
    pub dialect: Dialect,
    /// Whose metrics it tells, at its port for requests: a front end may tell those of what is behind it.
    pub metrics_of: Dialect,
    /// Requests that may be in flight there: what it computes at once, so that waiting happens in
    /// the gateway, where it is fair.
    pub slots: u32,
    /// Threads it computes with.
    pub threads: u32,
    /// What must be on this machine before it starts.
    pub weights: WeightsSpec,
    /// The release of its program, where that can be seen: another one is another process.
    pub release: Option<String>,
    /// The accelerators that it has to itself.
    pub devices: Vec<String>,
    /// Adapters to load while it runs: another list changes nothing about the process itself.
    pub adapters: Vec<AdapterSpec>,
    /// What it runs on: what that costs changes nothing about the process itself.
    pub ground: Ground,
}

/// An adapter to load.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct AdapterSpec {
    /// Its name in requests.
    pub name: String,
    /// Its files.
    pub weights: WeightsSpec,
}

/// What to start.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// The running binary itself.
    Own,
    /// The one at that path.
    Path(String),
    /// One that is installed.
    Named {
        /// Its name.
        name: String,
        /// Where it is: a virtual environment, a folder or the program itself; on the search path
        /// without.
        home: Option<String>,
    },
}

/// A secret by what it is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Secret {
    /// The key between the gateway and this process, of which no other process knows.
    EngineKey,
    /// The token for the hub that weights come from.
    HubToken,
}

/// What a process has to show before it gets requests, beyond health: what somebody else's program
/// says of itself is not enough.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Readiness {
    /// Seconds from its start; the executor's own number without.
    pub start_seconds: Option<u32>,
    /// Whether it has to list its model.
    pub lists_model: bool,
    /// Whether it has to answer a short request first, so that no client waits for what is compiled
    /// or loaded at the first one.
    pub warms_up: bool,
}

impl ProcessSpec {
    /// Whether it asks its clients for a key.
    pub fn takes_key(&self) -> bool {
        self.secrets.iter().any(|(_, secret)| *secret == Secret::EngineKey)
    }
}

/// Weights that must be present.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Serialize)]
pub struct WeightsSpec {
    /// Where they come from.
    pub source: WeightsSource,
    /// What they must be; weights that differ are refused.
    pub digest: Option<Digest>,
    /// Who must have signed them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<Signer>,
    /// Their size in bytes, where the manifest says.
    pub size_bytes: Option<u64>,
}

/// The name of a model's replica `index`.
pub fn name(model: &Model, index: u32) -> String {
    format!("{}-{index}", model.name())
}

/// The same for a replica of the version with that tag; one without a tag has the name of [`name`]. No Model
/// has a name with a `+`.
pub fn name_of(model: &Model, tag: &str, index: u32) -> String {
    if tag.is_empty() { name(model, index) } else { format!("{}+{tag}-{index}", model.name()) }
}

/// The process of a model's replica `index`, computing these weights with `threads` threads.
pub fn replica(model: &Model, source: &WeightsSource, index: u32, threads: u32) -> ProcessSpec {
    let served = model.name();
    let spec = &model.spec;
    let mut args = vec!["engine".to_owned()];
    let mut flag = |name: &str, value: String| args.extend([format!("--{name}"), value]);
    flag("model", WEIGHTS.to_owned());
    flag("served-name", served.to_owned());
    flag("listen", format!("{HOST}:{PORT}"));
    flag("parallel", spec.parallel.to_string());
    flag("context", spec.context.to_string());
    flag("threads", threads.to_string());
    flag("batch-tokens", spec.batch_tokens.to_string());
    flag("queue-max", spec.queue_max.to_string());
    args.extend(spec.runtime_args.iter().cloned());
    ProcessSpec {
        name: name(model, index),
        program: Program::Own,
        args,
        env: Vec::new(),
        secrets: vec![("PILOTAGE_ENGINE_KEY".to_owned(), Secret::EngineKey)],
        files: Vec::new(),
        host: HOST.to_owned(),
        health_path: "/health".to_owned(),
        readiness: Readiness::default(),
        stop_seconds: None,
        lane: served.to_owned(),
        served_model: served.to_owned(),
        dialect: Dialect::Pilotage,
        metrics_of: Dialect::Pilotage,
        slots: spec.parallel,
        threads,
        weights: WeightsSpec {
            source: source.clone(),
            digest: spec.digest,
            signed_by: spec.signed_by,
            size_bytes: spec.size_bytes,
        },
        release: None,
        devices: Vec::new(),
        adapters: Vec::new(),
        ground: Ground::default(),
    }
}
