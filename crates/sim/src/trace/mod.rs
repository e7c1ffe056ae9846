//! Requests that somebody recorded: public traces, and files of one's own.
//!
//! A reader turns text into rows and says of a bad line where it is and what was expected. Which rows
//! count, how fast they come and whose they are is the same for all formats. Most public traces do
//! not say who sent a request; then tenants are made up, by rules that a seed decides.

mod assignment;
mod azure;
mod csv;
mod json;
mod mooncake;
mod own;
mod selection;
mod vtc;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use assignment::Assignment;
pub use selection::Selection;
pub use vtc::served;

use crate::arrival::Arrival;

/// Most rows of one trace.
pub const ROWS_MAX: usize = 1_000_000;

/// Longest line, in bytes.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// Most tokens of a prompt or an answer.
pub const TOKENS_MAX: u32 = 10_000_000;

/// How a trace is written.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Format {
    /// Azure's public traces of 2023 and 2024: a table with `TIMESTAMP,ContextTokens,GeneratedTokens`.
    Azure,
    /// Mooncake's traces: lines of JSON with `timestamp`, `input_length`, `output_length` and the
    /// prompt's blocks of 512 tokens, `hash_ids`.
    Mooncake,
    /// Runs of the paper on the Virtual Token Counter, as in this crate's `traces/`.
    Vtc,
    /// One's own: a table, or lines of JSON, with `at_s`, `tenant`, `input`, `output` and, where one
    /// likes, `output_max`. Without `tenant`, tenants have to be assigned.
    Own,
}

impl Format {
    /// How a text seems to be written, by its first line.
    pub fn guess(text: &str) -> Option<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let first = text.lines().find(|line| !line.trim().is_empty())?;
        let has = |word: &str| first.contains(word);
        match first.trim_start().starts_with('{') {
            true if has("\"timestamp\"") && has("\"input_length\"") => Some(Self::Mooncake),
            true if has("\"at_s\"") => Some(Self::Own),
            false if has("ContextTokens") => Some(Self::Azure),
            false if has("req_time_s") => Some(Self::Vtc),
            false if has("at_s") => Some(Self::Own),
            _ => None,
        }
    }
}

/// What a trace came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// The tenants, by first appearance where the trace names them. Arrivals point in here.
    pub tenants: Vec<String>,
    /// The requests in order of time.
    pub arrivals: Vec<Arrival>,
}

/// Why a trace cannot be used.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum TraceError {
    /// A line is not as the format wants it.
    #[error("line {line}, column {column}: {found}, expected {expected}")]
    Line {
        /// Which one, from one.
        line: usize,
        /// Where in it, in characters from one.
        column: usize,
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
    },
    /// Too many lines.
    #[error("more than {ROWS_MAX} rows, cut the file into parts")]
    TooManyRows,
    /// No row, or none within the selected time.
    #[error("no request is left: {why}")]
    Empty {
        /// Why that is.
        why: &'static str,
    },
    /// The way of assigning tenants asks for something that the trace lacks.
    #[error("the trace has no {lacks}: {instead}")]
    Lacks {
        /// What it lacks.
        lacks: &'static str,
        /// What to use.
        instead: &'static str,
    },
    /// A setting that makes no sense.
    #[error("`{field}` must be {expected}")]
    Setting {
        /// Which one.
        field: &'static str,
        /// What it may be.
        expected: &'static str,
    },
}

/// Reads a trace. The seed decides where tenants are assigned by chance.
pub fn read(
    format: Format,
    text: &str,
    selection: &Selection,
    seed: u64,
) -> Result<Trace, TraceError> {
    selection.check()?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let rows = match format {
        Format::Azure => azure::rows(text),
        Format::Mooncake => mooncake::rows(text),
        Format::Vtc => vtc::rows(text),
        Format::Own => own::rows(text),
    }?;
    let rows = selection.select(rows)?;
    let (tenants, owners) = selection.tenants.assign(&rows, seed)?;
    let arrivals = rows.into_iter().zip(owners).map(|(row, tenant)| selection.arrival(row, tenant));
    Ok(Trace { tenants, arrivals: arrivals.collect() })
}

/// One request as a trace has it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Row {
    /// Seconds from the trace's origin.
    at: f64,
    tenant: Option<String>,
    input: u32,
    output: u32,
    output_max: Option<u32>,
    blocks: Arc<[u64]>,
    block_tokens: u32,
    conversation: Option<u64>,
}

/// The lines that hold something, each with its number from one.
fn lines(text: &str) -> impl Iterator<Item = Result<(usize, &str), TraceError>> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
    let lines = lines.filter(|(_, line)| !line.trim().is_empty()).enumerate();
    // One row more than allowed, for a table's head.
    lines.map(|(count, (number, line))| {
        if count > ROWS_MAX {
            return Err(TraceError::TooManyRows);
        }
        if line.len() > LINE_BYTES_MAX {
            let (found, expected) = (format!("{} bytes", line.len()), "at most 1048576");
            return Err(wrong(number, 1, found, expected));
        }
        Ok((number, line))
    })
}

fn wrong(line: usize, column: usize, found: String, expected: &str) -> TraceError {
    TraceError::Line { line, column, found, expected: expected.to_owned() }
}

#[cfg(test)]
mod tests;
