//! A process of the plan with where its files are on this machine.

use std::path::PathBuf;

use pilotage_plan::{Ground, ProcessSpec};

/// What a process is started with.
#[derive(Clone, Debug)]
pub struct Placed {
    /// What the plan says.
    pub spec: ProcessSpec,
    /// Its weights: a file or a folder.
    pub weights: PathBuf,
    /// The folders of its adapters, by name.
    pub adapters: Vec<(String, PathBuf)>,
}

impl Placed {
    /// Whether another one would be the same process: adapters are loaded while it runs, and whose requests it
    /// gets and what it costs is the gateway's to know.
    pub(super) fn is_same_process(&self, other: &Self) -> bool {
        let bare = |spec: &ProcessSpec| ProcessSpec {
            adapters: Vec::new(),
            lane: String::new(),
            ground: Ground::default(),
            ..spec.clone()
        };
        self.weights == other.weights && bare(&self.spec) == bare(&other.spec)
    }
}
