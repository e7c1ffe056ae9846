//! One replica of a model as a process of this machine.
//!
//! An executor replaces [`WEIGHTS`] and [`PORT`] in the arguments, adds its secrets to the
//! environment, and chooses nothing else.

use serde::Serialize;

use crate::api::Model;
use crate::{Digest, WeightsSource};

/// Stands in the arguments for the path of the weights file.
pub const WEIGHTS: &str = "{weights}";

/// Stands in the arguments for the TCP port the process listens on.
pub const PORT: &str = "{port}";

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
    /// Environment to set, by name and value; secrets are the executor's matter.
    pub env: Vec<(String, String)>,
    /// The address it listens on, at the port that replaces [`PORT`].
    pub host: String,
    /// The path that answers with status 200 once the process takes requests.
    pub health_path: String,
    /// The model's name in requests to this process.
    pub served_model: String,
    /// Requests that may be in flight there: what it computes at once, so that waiting happens in
    /// the gateway, where it is fair.
    pub slots: u32,
    /// Threads it computes with.
    pub threads: u32,
    /// What must be on this machine before it starts.
    pub weights: WeightsSpec,
}

/// What to start.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// The running binary itself.
    Own,
    /// Another one.
    Path(String),
}

/// A weights file that must be present.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Serialize)]
pub struct WeightsSpec {
    /// Where it comes from.
    pub source: WeightsSource,
    /// What it must be; a file that differs is refused.
    pub digest: Option<Digest>,
    /// Its size in bytes, where the manifest says.
    pub size_bytes: Option<u64>,
}

/// The name of a model's replica `index`.
pub fn name(model: &Model, index: u32) -> String {
    format!("{}-{index}", model.name())
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
    ProcessSpec {
        name: name(model, index),
        program: Program::Own,
        args,
        env: Vec::new(),
        host: HOST.to_owned(),
        health_path: "/health".to_owned(),
        served_model: served.to_owned(),
        slots: spec.parallel,
        threads,
        weights: WeightsSpec {
            source: source.clone(),
            digest: spec.digest,
            size_bytes: spec.size_bytes,
        },
    }
}
