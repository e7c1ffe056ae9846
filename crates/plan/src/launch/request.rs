//! What is asked of a launch: which model, in which shape, on which hardware, with which features.

use super::Version;
use crate::hardware::Accelerator;
use crate::size::{Shape, Task};

/// One model to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// The model's name in requests.
    pub served: String,
    /// Where the weights are.
    pub weights: Weights,
    /// Bytes of the weights, for the time that a start may take; none where nobody knows.
    pub weight_bytes: Option<u64>,
    /// How it is laid out; `replicas` are launches of their own.
    pub shape: Shape,
    /// What it runs on; `per_node` is what nodes really have.
    pub accelerator: Accelerator,
    /// Bytes of cache that each rank has room for; none leaves it to the program.
    pub cache_bytes: Option<u64>,
    /// Threads to compute with, on a processor.
    pub threads: Option<u32>,
    /// The release of the program; none takes the one that is there.
    pub version: Option<Version>,
    /// What it has to be able to do.
    pub features: Features,
    /// Whether requests bring a key.
    pub has_key: bool,
    /// Arguments of the user.
    pub extra: Vec<String>,
}

/// Where weights are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Weights {
    /// On the machine, at the path that replaces [`super::WEIGHTS`].
    Local,
    /// In a repository of the hub, which the program fetches itself.
    Repository {
        /// `OWNER/NAME`.
        id: String,
        /// Branch, tag or commit; the main branch without.
        revision: Option<String>,
    },
}

/// What a program has to be able to do.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Features {
    /// What the model is for.
    pub task: Task,
    /// Whether equal beginnings of prompts are computed once; none leaves it to the program.
    pub prefix_cache: Option<bool>,
    /// LoRA adapters to load at the start.
    pub adapters: Vec<Adapter>,
    /// Whether LoRA adapters are loaded while it runs: it is started with room for them, whichever they are.
    pub loads_adapters: bool,
    /// How tool calls are found in answers, by the program's name for it.
    pub tool_parser: Option<String>,
    /// How thinking is told from answers, by the program's name for it.
    pub reasoning_parser: Option<String>,
    /// Whether requests have priorities inside of the program.
    pub priority: bool,
    /// Whether it tells what its cache holds.
    pub kv_events: bool,
    /// A file with the template of chats.
    pub chat_template: Option<String>,
    /// Whether code that comes with the weights may run.
    pub trusts_remote_code: bool,
}

/// A LoRA adapter.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Adapter {
    /// Its name in requests.
    pub name: String,
    /// Its folder or file.
    pub path: String,
}

impl Launch {
    /// Nodes of the replica.
    pub fn nodes(&self) -> u32 {
        let per_node = self.accelerator.per_node.max(1);
        self.shape.accelerators_per_replica().div_ceil(per_node).max(1)
    }

    /// Accelerators of the replica on each node.
    pub fn accelerators_on_node(&self) -> u32 {
        self.shape.accelerators_per_replica().div_ceil(self.nodes())
    }

    /// The weights as a program is told them.
    pub(super) fn weights(&self) -> String {
        match &self.weights {
            Weights::Local => super::WEIGHTS.to_owned(),
            Weights::Repository { id, .. } => id.clone(),
        }
    }

    /// The branch, tag or commit of the repository.
    pub(super) fn revision(&self) -> Option<&str> {
        match &self.weights {
            Weights::Local => None,
            Weights::Repository { revision, .. } => revision.as_deref(),
        }
    }
}
