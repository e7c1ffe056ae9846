//! One's own traces: a table or lines of JSON, with the same fields.

use serde::Deserialize;

use super::csv::{Record, records};
use super::{Row, TOKENS_MAX, TraceError, json, wrong};

const COLUMNS: [&str; 5] = ["at_s", "input", "output", "tenant", "output_max"];

/// How many of the columns have to be there.
const NEEDED: usize = 3;

const EXPECTED: &str = "an object with at_s, input and output, and perhaps tenant and output_max";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    at_s: f64,
    input: u32,
    output: u32,
    #[serde(default)]
    tenant: Option<String>,
    #[serde(default)]
    output_max: Option<u32>,
}

/// A text that begins with a brace is lines of JSON.
pub(super) fn rows(text: &str) -> Result<Vec<Row>, TraceError> {
    if text.trim_start().starts_with('{') {
        return json::records(text, EXPECTED)
            .map(|next| next.and_then(|(line, row)| checked(line, row)))
            .collect();
    }
    records(text, COLUMNS, NEEDED)?.iter().map(row).collect()
}

fn row(record: &Record<'_, 5>) -> Result<Row, TraceError> {
    Ok(Row {
        at: record.seconds(0, 0.0)?,
        input: record.tokens(1)?,
        output: record.tokens(2)?,
        tenant: record.has(3).then(|| record.text(3).to_owned()),
        output_max: record.has(4).then(|| record.tokens(4)).transpose()?,
        ..Row::default()
    })
}

fn checked(number: usize, line: Line) -> Result<Row, TraceError> {
    let Line { at_s: at, input, output, tenant, output_max } = line;
    if input.max(output).max(output_max.unwrap_or(0)) > TOKENS_MAX || at < 0.0 {
        let found = "a number out of range".to_owned();
        return Err(wrong(number, 1, found, "lengths up to 10000000, times from zero"));
    }
    let tenant = tenant.filter(|tenant| !tenant.is_empty());
    Ok(Row { at, input, output, tenant, output_max, ..Row::default() })
}
