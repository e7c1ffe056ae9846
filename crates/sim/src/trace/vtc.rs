//! Runs of the paper on the Virtual Token Counter: requests by client, and how they were served.

use super::csv::{Record, records};
use super::{Row, TraceError};
use crate::metrics::Served;

const COLUMNS: [&str; 6] =
    ["req_time_s", "client", "prompt_tokens", "output_tokens", "ttft_s", "e2e_s"];

/// How many of the columns a trace needs; the others are results.
const ARRIVAL_COLUMNS: usize = 4;

/// What stands for a request that was rejected.
const REJECTED: f64 = -1.0;

pub(super) fn rows(text: &str) -> Result<Vec<Row>, TraceError> {
    records(text, COLUMNS, ARRIVAL_COLUMNS)?.iter().map(row).collect()
}

/// How the requests were served, with clients numbered as in the file.
pub fn served(text: &str) -> Result<Vec<Served>, TraceError> {
    records(text, COLUMNS, COLUMNS.len())?.iter().map(outcome).collect()
}

fn row(record: &Record<'_, 6>) -> Result<Row, TraceError> {
    if !record.has(1) {
        return Err(record.wrong(1, "a client"));
    }
    Ok(Row {
        at: record.seconds(0, 0.0)?,
        tenant: Some(record.text(1).to_owned()),
        input: record.tokens(2)?,
        output: record.tokens(3)?,
        ..Row::default()
    })
}

fn outcome(record: &Record<'_, 6>) -> Result<Served, TraceError> {
    let arrived = record.seconds(0, 0.0)?;
    let client = record.text(1).parse();
    let first = record.seconds(4, REJECTED)?;
    let end = record.seconds(5, REJECTED)?;
    Ok(Served {
        arrived,
        tenant: client.map_err(|_| record.wrong(1, "a client's number"))?,
        input: record.tokens(2)?,
        output: record.tokens(3)?,
        first_token: (first >= 0.0).then_some(arrived + first),
        end: arrived + end.max(0.0),
    })
}
