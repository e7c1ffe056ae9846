//! What was observed of the machine that models shall run on: the other half of what a plan is
//! made of, beside the manifests.
//!
//! Absent is not zero: a value nobody could observe is `None`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::size::ModelFacts;

/// One machine, as somebody with access to it found it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct World {
    /// Processor cores this process may use; at least one is assumed when it is zero.
    pub cores: u32,
    /// Memory in bytes that this process may use.
    pub memory_bytes: Option<u64>,
    /// Accelerators that were found.
    pub gpus: Vec<Gpu>,
    /// Runtimes that were looked for; none where nobody looked.
    #[serde(default)]
    pub runtimes: Option<Vec<Installed>>,
    /// The accelerators that processes have now, by the processes' names: they keep them.
    #[serde(default)]
    pub devices: BTreeMap<String, Vec<String>>,
    /// What was read of weights, by their sources as manifests have them.
    #[serde(default)]
    pub facts: BTreeMap<String, ModelFacts>,
}

/// A runtime that was looked for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Installed {
    /// What was looked for.
    pub sought: Sought,
    /// What was found.
    pub found: Found,
}

/// A runtime to look for.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sought {
    /// Its program's name.
    pub program: String,
    /// The Python package that it is, or belongs to.
    pub package: Option<String>,
    /// Where to look; none for the search path.
    pub home: Option<String>,
}

/// What was found of a runtime.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// It is there, in this release where that can be seen without running it.
    Release(Option<String>),
    /// It is not, and why.
    Nothing(String),
}

/// One accelerator.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// What it is told from others by, wherever it stands in a list: its UUID.
    #[serde(default)]
    pub id: Option<String>,
    /// What its driver calls it.
    pub name: String,
    /// Its memory in bytes.
    pub memory_bytes: Option<u64>,
}

impl World {
    /// A machine with that many cores of which nothing else is known.
    pub fn with_cores(cores: u32) -> Self {
        Self { cores, ..Self::default() }
    }
}
