//! What was observed of the machine that models shall run on: the other half of what a plan is
//! made of, beside the manifests.
//!
//! Absent is not zero: a value nobody could observe is `None`.

use serde::{Deserialize, Serialize};

/// One machine, as somebody with access to it found it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
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
}

/// A runtime that was looked for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Installed {
    /// Its program's name.
    pub program: String,
    /// Where it was looked for; none on the search path.
    pub home: Option<String>,
    /// What was found.
    pub found: Found,
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
