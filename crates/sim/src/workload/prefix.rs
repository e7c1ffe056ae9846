//! What prompts begin with in common, such as a system prompt, so that caches have something to find.

use std::sync::Arc;

use pilotage_chance::{hash, mix};
use serde::{Deserialize, Serialize};

use super::{LENGTH_MAX, WorkloadError, within};

/// Most blocks of all prefixes of one tenant's part of a workload together.
pub const PREFIX_BLOCKS_MAX: u32 = 1_000_000;

/// Some beginnings, one of which each prompt has. It comes before the prompt's own tokens.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Prefix {
    /// How many there are.
    pub groups: u32,
    /// Tokens of each.
    pub tokens: u32,
    /// Tokens in one block. What does not fill a block cannot be found again.
    #[serde(default = "block")]
    pub block_tokens: u32,
    /// Whether each group is one session, by which some routers go.
    #[serde(default)]
    pub session: bool,
    /// Prefixes of one name are the same text for every tenant; without it they are the tenant's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Prefix {
    /// The blocks of each group.
    pub(super) fn blocks(&self, tenant: &str) -> Vec<Arc<[u64]>> {
        let salt = match &self.name {
            Some(name) => hash(&format!("name {name}")),
            None => hash(&format!("tenant {tenant}")),
        };
        let count = self.tokens / self.block_tokens.max(1);
        let group = |group: u32| {
            let first = mix(salt ^ u64::from(group));
            let blocks = std::iter::successors(Some(first), |block| Some(mix(*block)));
            blocks.take(count as usize).collect()
        };
        (0..self.groups).map(group).collect()
    }

    pub(super) fn check(&self) -> Result<(), WorkloadError> {
        within("groups", self.groups.into(), 1.0, PREFIX_BLOCKS_MAX.into())?;
        within("tokens", self.tokens.into(), 1.0, LENGTH_MAX.into())?;
        within("blockTokens", self.block_tokens.into(), 1.0, LENGTH_MAX.into())?;
        let blocks = f64::from(self.groups) * f64::from(self.tokens / self.block_tokens);
        within("groups · tokens / blockTokens", blocks, 0.0, PREFIX_BLOCKS_MAX.into())
    }
}

fn block() -> u32 {
    16
}
