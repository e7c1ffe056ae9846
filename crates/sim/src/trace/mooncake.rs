//! Mooncake's traces: lines of JSON that say which blocks of 512 tokens a prompt consists of.

use serde::Deserialize;

use super::{Row, TOKENS_MAX, TraceError, json, wrong};

/// Tokens in one block.
const BLOCK_TOKENS: u32 = 512;

const EXPECTED: &str =
    "an object with the numbers timestamp, input_length and output_length, and the list hash_ids";

const MILLIS_PER_SECOND: f64 = 1000.0;

#[derive(Deserialize)]
struct Line {
    /// Milliseconds.
    timestamp: f64,
    input_length: u32,
    output_length: u32,
    hash_ids: Vec<u64>,
}

pub(super) fn rows(text: &str) -> Result<Vec<Row>, TraceError> {
    json::records(text, EXPECTED)
        .map(|next| next.and_then(|(line, row)| whole(line, row)))
        .collect()
}

fn whole(number: usize, line: Line) -> Result<Row, TraceError> {
    let Line { timestamp, input_length: input, output_length: output, hash_ids } = line;
    if input.max(output) > TOKENS_MAX || timestamp < 0.0 {
        let found = "a number out of range".to_owned();
        return Err(wrong(number, 1, found, "lengths up to 10000000, times from zero"));
    }
    // Every prompt of these traces begins with the same block; turns of a conversation share the next.
    let conversation = hash_ids.get(1).copied();
    // The last block may be partly filled, and only whole ones can be found again.
    let full = hash_ids.into_iter().take((input / BLOCK_TOKENS) as usize);
    Ok(Row {
        at: timestamp / MILLIS_PER_SECOND,
        input,
        output,
        blocks: full.collect(),
        block_tokens: BLOCK_TOKENS,
        conversation,
        ..Row::default()
    })
}
