//! News of a KV cache as vLLM publishes them. Its releases differ: older ones write each event as an
//! array of its fields, newer ones (0.28) as a map with their names.

use super::msgpack::{put_array, put_float, put_map, put_nil, put_text, put_uint};
use crate::engine::model::CacheEvent;

/// How events are written; a batch of them is an array in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// Events as arrays of their fields, the kind first.
    #[default]
    Array,
    /// Events as maps with their fields' names, the kind under `type`.
    Named,
}

/// What is the same for all batches of an engine.
#[derive(Clone, Debug)]
pub(super) struct Style {
    pub(super) layout: Layout,
    pub(super) block_tokens: usize,
    /// An adapter's number is its place here, from 1.
    pub(super) adapters: Vec<String>,
}

/// One batch of data-parallel rank 0.
pub(super) fn encode(style: &Style, seconds: f64, events: &[CacheEvent]) -> Vec<u8> {
    let mut out = Vec::new();
    put_array(&mut out, 3);
    put_float(&mut out, seconds);
    put_array(&mut out, events.len());
    for event in events {
        put_event(&mut out, style, event);
    }
    put_uint(&mut out, 0);
    out
}

fn put_event(out: &mut Vec<u8>, style: &Style, event: &CacheEvent) {
    match event {
        CacheEvent::Stored { hashes, parent, tokens, adapter } => {
            let mut fields = Fields::begin(out, style.layout, "BlockStored", 7);
            put_all(fields.next("block_hashes"), hashes.iter().copied());
            put_or_nil(fields.next("parent_block_hash"), parent.as_ref(), |out, hash| {
                put_uint(out, *hash);
            });
            put_all(fields.next("token_ids"), tokens.iter().map(|token| u64::from(*token)));
            put_uint(fields.next("block_size"), style.block_tokens as u64);
            let number = adapter
                .as_ref()
                .and_then(|name| style.adapters.iter().position(|other| other == name));
            put_or_nil(fields.next("lora_id"), number.as_ref(), |out, at| {
                put_uint(out, *at as u64 + 1);
            });
            put_text(fields.next("medium"), "GPU");
            put_or_nil(fields.next("lora_name"), adapter.as_ref(), |out, name| put_text(out, name));
        }
        CacheEvent::Removed { hashes } => {
            let mut fields = Fields::begin(out, style.layout, "BlockRemoved", 2);
            put_all(fields.next("block_hashes"), hashes.iter().copied());
            put_text(fields.next("medium"), "GPU");
        }
    }
}

fn put_all(out: &mut Vec<u8>, values: impl ExactSizeIterator<Item = u64>) {
    put_array(out, values.len());
    values.for_each(|value| put_uint(out, value));
}

fn put_or_nil<T>(out: &mut Vec<u8>, value: Option<&T>, put: impl Fn(&mut Vec<u8>, &T)) {
    match value {
        Some(value) => put(out, value),
        None => put_nil(out),
    }
}

/// An event being written.
struct Fields<'a> {
    out: &'a mut Vec<u8>,
    layout: Layout,
}

impl<'a> Fields<'a> {
    /// `kind`: of the event, which counts as a field beside the `count` others.
    fn begin(out: &'a mut Vec<u8>, layout: Layout, kind: &str, count: usize) -> Self {
        match layout {
            Layout::Array => put_array(out, count + 1),
            Layout::Named => put_map(out, count + 1),
        }
        let mut fields = Self { out, layout };
        put_text(fields.next("type"), kind);
        fields
    }

    /// Where the next field's value goes.
    fn next(&mut self, name: &str) -> &mut Vec<u8> {
        if self.layout == Layout::Named {
            put_text(self.out, name);
        }
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(layout: Layout, fixture: &str) {
        let style =
            Style { layout, block_tokens: 4, adapters: vec!["a".to_owned(), "sql".to_owned()] };
        let events = [
            CacheEvent::Stored {
                hashes: vec![1, 0xffff_ffff_ffff_fffe],
                parent: None,
                tokens: vec![10, 200, 3000, 70_000, 5, 6, 7, 8],
                adapter: None,
            },
            CacheEvent::Stored {
                hashes: vec![300],
                parent: Some(0xffff_ffff_ffff_fffe),
                tokens: vec![1, 2, 3, 4],
                adapter: Some("sql".to_owned()),
            },
            CacheEvent::Removed { hashes: vec![1] },
        ];
        let batch = encode(&style, 1_795_231_524.5, &events);
        let hex: String = batch.iter().map(|byte| format!("{byte:02x}")).collect();
        let lines = fixture.lines().filter(|line| !line.starts_with('#'));
        assert_eq!(hex, lines.flat_map(|line| line.split_whitespace()).collect::<String>());
    }

    #[test]
    fn writes_batches_as_vllm_does() {
        check(Layout::Array, include_str!("../../../fixtures/kv-batch-array.hex"));
        check(Layout::Named, include_str!("../../../fixtures/kv-batch-named.hex"));
    }
}
