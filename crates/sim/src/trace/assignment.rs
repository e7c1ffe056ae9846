//! Whose request is it? As the trace says, or by a rule where it does not.

use std::collections::BTreeMap;

use pilotage_chance::{Draws, mix};
use serde::{Deserialize, Serialize};

use super::{Row, TraceError};

/// How requests get their tenants.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Assignment {
    /// As the trace says.
    #[default]
    Own,
    /// To these tenants in turn.
    RoundRobin(Vec<String>),
    /// To these tenants, with all turns of a conversation to the same one. The seed decides which.
    ByConversation(Vec<String>),
    /// By chance, in proportion to each tenant's share.
    Shares(BTreeMap<String, f64>),
}

impl Assignment {
    /// The tenants, and for each row a position among them.
    pub(super) fn assign(
        &self,
        rows: &[Row],
        seed: u64,
    ) -> Result<(Vec<String>, Vec<u32>), TraceError> {
        match self {
            Self::Own => own(rows),
            Self::RoundRobin(tenants) => {
                let turns = (0..position(tenants.len())).cycle().take(rows.len());
                Ok((tenants.clone(), turns.collect()))
            }
            Self::ByConversation(tenants) => {
                Ok((tenants.clone(), by_conversation(rows, seed, tenants.len())?))
            }
            Self::Shares(shares) => {
                let mut draws = Draws::new(seed, "tenants of a trace");
                let weights: Vec<f64> = shares.values().copied().collect();
                let owners = rows.iter().map(|_| position(draws.weighted(&weights)));
                Ok((shares.keys().cloned().collect(), owners.collect()))
            }
        }
    }

    pub(super) fn check(&self) -> Result<(), TraceError> {
        let (holds, field, expected) = match self {
            Self::Own => return Ok(()),
            Self::RoundRobin(tenants) => (!tenants.is_empty(), "roundRobin", "at least one tenant"),
            Self::ByConversation(tenants) => {
                (!tenants.is_empty(), "byConversation", "at least one tenant")
            }
            Self::Shares(shares) => {
                let numbers = shares.values().all(|share| share.is_finite() && *share >= 0.0);
                let some = shares.values().any(|share| *share > 0.0);
                (numbers && some, "shares", "numbers from zero, at least one of them above")
            }
        };
        if holds { Ok(()) } else { Err(TraceError::Setting { field, expected }) }
    }
}

fn own(rows: &[Row]) -> Result<(Vec<String>, Vec<u32>), TraceError> {
    let mut places: BTreeMap<&str, u32> = BTreeMap::new();
    let mut tenants = Vec::new();
    let mut owners = Vec::with_capacity(rows.len());
    for row in rows {
        let name = row.tenant.as_deref().ok_or(TraceError::Lacks {
            lacks: "tenant for every request",
            instead: "assign tenants by `roundRobin`, `byConversation` or `shares`",
        })?;
        owners.push(*places.entry(name).or_insert_with(|| {
            tenants.push(name.to_owned());
            position(tenants.len() - 1)
        }));
    }
    Ok((tenants, owners))
}

fn by_conversation(rows: &[Row], seed: u64, tenants: usize) -> Result<Vec<u32>, TraceError> {
    if rows.iter().all(|row| row.conversation.is_none()) {
        let instead = "assign tenants by `roundRobin` or `shares`";
        return Err(TraceError::Lacks { lacks: "conversations", instead });
    }
    let count = tenants.max(1) as u64;
    let owners = rows.iter().zip(0_u64..).map(|(row, number)| {
        // A prompt too short to tell its conversation is one of its own.
        let key = row.conversation.unwrap_or_else(|| mix(number));
        (mix(seed ^ mix(key)) % count) as u32
    });
    Ok(owners.collect())
}

fn position(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
