//! The quick way for chunks that hold nothing but text and counts, as nearly all do: what only going
//! on takes is cut out of their bytes.

use std::ops::Range;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::openai::chunk::Chunk;
use crate::sse;

/// How many tokens there are by now.
#[derive(Deserialize)]
pub(super) struct Counts {
    pub(super) prompt_tokens: Option<u64>,
    pub(super) completion_tokens: Option<u64>,
}

/// The counts of a chunk; an error where it has some that make no sense.
pub(super) fn counts(chunk: &Chunk<'_>) -> Result<Option<Counts>, serde_json::Error> {
    chunk.usage().map(|usage| serde_json::from_str(usage.get())).transpose()
}

/// Bytes that are to be left out of a chunk, in order.
#[derive(Default)]
pub(super) struct Cuts(Vec<Range<usize>>);

impl Cuts {
    /// Leaves out a field with that value; false where the bytes around it are not as JSON is written.
    pub(super) fn field(&mut self, data: &str, name: &str, value: &RawValue) -> bool {
        let cut = span(data, name, value);
        let there = cut.is_some();
        self.0.extend(cut);
        there
    }

    /// The event without them; none where there are none.
    pub(super) fn event(mut self, data: &str) -> Option<Vec<u8>> {
        if self.0.is_empty() {
            return None;
        }
        self.0.sort_by_key(|cut| cut.start);
        let mut event = Vec::with_capacity(data.len() + 8);
        let mut from = 0;
        event.extend_from_slice(sse::DATA);
        for cut in self.0 {
            event.extend_from_slice(&data.as_bytes()[from..cut.start]);
            from = cut.end;
        }
        event.extend_from_slice(&data.as_bytes()[from..]);
        event.extend_from_slice(b"\n\n");
        Some(event)
    }
}

/// A field with its name and one of the commas beside it.
fn span(data: &str, name: &str, value: &RawValue) -> Option<Range<usize>> {
    let from = value.get().as_ptr().addr().checked_sub(data.as_ptr().addr())?;
    let until = from + value.get().len();
    let before = data.get(..from)?.trim_end().strip_suffix(':')?.trim_end();
    let before = before.strip_suffix('"')?.strip_suffix(name)?.strip_suffix('"')?.trim_end();
    if let Some(before) = before.strip_suffix(',') {
        return Some(before.len()..until);
    }
    let after = data.get(until..)?.trim_start().strip_prefix(',')?;
    Some(before.len()..data.len() - after.len())
}
