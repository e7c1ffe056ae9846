//! Which part of a trace is played, how fast, and for whom: the same for all formats.

use serde::{Deserialize, Serialize};

use super::{Assignment, Row, TraceError};
use crate::arrival::{Arrival, time};

/// What to take of a trace.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Selection {
    /// How many times faster than it was recorded; lengths stay as they are.
    pub speedup: f64,
    /// Seconds of the trace to leave out at its begin.
    pub start_seconds: f64,
    /// Seconds of the trace at which to stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_seconds: Option<f64>,
    /// Requests to take at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Tokens that an answer may have; longer ones are cut. Without it, what the trace says, or
    /// exactly as many as the answer has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_max: Option<u32>,
    /// Whose requests they are.
    pub tenants: Assignment,
}

impl Default for Selection {
    fn default() -> Self {
        Self {
            speedup: 1.0,
            start_seconds: 0.0,
            end_seconds: None,
            limit: None,
            output_max: None,
            tenants: Assignment::Own,
        }
    }
}

impl Selection {
    pub(super) fn check(&self) -> Result<(), TraceError> {
        let expect = |holds: bool, field: &'static str, expected: &'static str| match holds {
            true => Ok(()),
            false => Err(TraceError::Setting { field, expected }),
        };
        let finite = self.speedup.is_finite() && self.speedup > 0.0;
        expect(finite, "speedup", "above zero")?;
        let start = self.start_seconds;
        expect(start.is_finite() && start >= 0.0, "startSeconds", "zero or above")?;
        let later = self.end_seconds.is_none_or(|end| end > start);
        expect(later, "endSeconds", "after `startSeconds`")?;
        expect(self.limit != Some(0), "limit", "at least one")?;
        self.tenants.check()
    }

    /// The rows that count, in order of time.
    pub(super) fn select(&self, mut rows: Vec<Row>) -> Result<Vec<Row>, TraceError> {
        if rows.is_empty() {
            return Err(TraceError::Empty { why: "the trace has no rows" });
        }
        let end = self.end_seconds.unwrap_or(f64::INFINITY);
        rows.retain(|row| row.at >= self.start_seconds && row.at < end);
        rows.sort_by(|one, other| one.at.total_cmp(&other.at));
        rows.truncate(self.limit.unwrap_or(usize::MAX));
        if rows.is_empty() {
            let why = "no row lies between `startSeconds` and `endSeconds`";
            return Err(TraceError::Empty { why });
        }
        Ok(rows)
    }

    pub(super) fn arrival(&self, row: Row, tenant: u32) -> Arrival {
        let most = self.output_max.or(row.output_max);
        Arrival {
            at: time((row.at - self.start_seconds) / self.speedup),
            tenant,
            input: row.input,
            output: most.map_or(row.output, |most| row.output.min(most)),
            output_max: most.unwrap_or(row.output),
            prefix: row.blocks,
            block_tokens: row.block_tokens,
            conversation: row.conversation,
        }
    }
}
