//! One batch of KV events: `[seconds, [event…], rank]`, in MessagePack. Engines' releases differ: an
//! event is an array of its fields, the kind first, or a map of them with the kind under `type`.
//!
//! Events and fields that nobody here knows are passed over; a batch that is none is an error.

use thiserror::Error;

use super::msgpack::{Head, Reader};

/// Events of one batch, at most: what is beyond is not read.
pub const EVENTS_MAX: usize = 1 << 16;

/// Fields of one event, at most.
const FIELDS_MAX: u32 = 64;

/// What happened since the batch before.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Batch {
    /// In the order in which it happened.
    pub events: Vec<Event>,
    /// The data-parallel rank of the engine; none where it does not say.
    pub rank: Option<u64>,
}

/// One change of a KV cache.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// Blocks came into the cache.
    Stored {
        /// How many.
        blocks: u32,
        /// Tokens of each; none where it does not say.
        block_tokens: Option<u32>,
        /// Where.
        medium: Medium,
    },
    /// Blocks left it.
    Removed {
        /// How many.
        blocks: u32,
        /// Where.
        medium: Medium,
    },
    /// Everything left it.
    Cleared,
    /// Something else.
    Unknown,
}

/// Where blocks lie.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Medium {
    /// In the accelerator's memory; also where nothing is said.
    #[default]
    Device,
    /// In the host's.
    Host,
    /// On a disk or elsewhere.
    Other,
}

/// Bytes that are no batch.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("a message is no batch of KV events")]
pub struct BatchError;

/// Reads a batch.
///
/// # Errors
/// [`BatchError`].
pub fn batch(bytes: &[u8]) -> Result<Batch, BatchError> {
    read(bytes).ok_or(BatchError)
}

fn read(bytes: &[u8]) -> Option<Batch> {
    let mut reader = Reader::new(bytes);
    let Head::Array(parts @ 2..) = reader.head()? else { return None };
    if !matches!(reader.head()?, Head::Float(_) | Head::Uint(_)) {
        return None;
    }
    let Head::Array(count) = reader.head()? else { return None };
    let count = usize::try_from(count).ok()?;
    let mut events = Vec::new();
    for _ in 0..count.min(EVENTS_MAX) {
        events.push(event(&mut reader)?);
    }
    for _ in EVENTS_MAX..count {
        reader.skip()?;
    }
    let rank = match (parts > 2).then(|| reader.head()) {
        Some(Some(Head::Uint(rank))) => Some(rank),
        _ => None,
    };
    Some(Batch { events, rank })
}

fn event(reader: &mut Reader<'_>) -> Option<Event> {
    match reader.head()? {
        Head::Array(fields @ 1..=FIELDS_MAX) => listed(reader, fields),
        Head::Map(fields @ 1..=FIELDS_MAX) => named(reader, fields),
        head => {
            reader.skip_rest(head)?;
            Some(Event::Unknown)
        }
    }
}

/// An event's fields in the order of vLLM's structs.
fn listed(reader: &mut Reader<'_>, count: u32) -> Option<Event> {
    let mut fields = Fields::default();
    fields.kind(reader)?;
    let names: &[&[u8]] = match fields.kind {
        Some(b"BlockStored") => &[
            b"block_hashes",
            b"parent_block_hash",
            b"token_ids",
            b"block_size",
            b"lora_id",
            b"medium",
        ],
        Some(b"BlockRemoved") => &[b"block_hashes", b"medium"],
        _ => &[],
    };
    for at in 1..count {
        let name = names.get(usize::try_from(at).ok()? - 1).copied().unwrap_or_default();
        fields.take(reader, name)?;
    }
    Some(fields.event())
}

fn named(reader: &mut Reader<'_>, count: u32) -> Option<Event> {
    let mut fields = Fields::default();
    for _ in 0..count {
        match reader.head()? {
            Head::Text(b"type") => fields.kind(reader)?,
            Head::Text(name) => fields.take(reader, name)?,
            head => {
                reader.skip_rest(head)?;
                reader.skip()?;
            }
        }
    }
    Some(fields.event())
}

/// What of an event matters.
#[derive(Default)]
struct Fields<'a> {
    kind: Option<&'a [u8]>,
    blocks: u32,
    block_tokens: Option<u32>,
    medium: Medium,
}

impl<'a> Fields<'a> {
    fn kind(&mut self, reader: &mut Reader<'a>) -> Option<()> {
        let head = reader.head()?;
        if let Head::Text(kind) = head {
            self.kind = Some(kind);
        }
        reader.skip_rest(head)
    }

    fn take(&mut self, reader: &mut Reader<'a>, name: &[u8]) -> Option<()> {
        let head = reader.head()?;
        match (name, head) {
            (b"block_hashes", Head::Array(blocks)) => self.blocks = blocks,
            (b"block_size", Head::Uint(tokens)) => self.block_tokens = u32::try_from(tokens).ok(),
            (b"medium", Head::Text(medium)) => self.medium = Medium::named(medium),
            _ => {}
        }
        reader.skip_rest(head)
    }

    fn event(&self) -> Event {
        let Self { blocks, block_tokens, medium, .. } = *self;
        match self.kind {
            Some(b"BlockStored") => Event::Stored { blocks, block_tokens, medium },
            Some(b"BlockRemoved") => Event::Removed { blocks, medium },
            Some(b"AllBlocksCleared") => Event::Cleared,
            _ => Event::Unknown,
        }
    }
}

impl Medium {
    fn named(name: &[u8]) -> Self {
        if name.eq_ignore_ascii_case(b"gpu") {
            Self::Device
        } else if name.eq_ignore_ascii_case(b"cpu") {
            Self::Host
        } else {
            Self::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(fixture: &str) -> Vec<u8> {
        let lines = fixture.lines().filter(|line| !line.starts_with('#'));
        let hex: String = lines.flat_map(str::split_whitespace).collect();
        (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect()
    }

    const ARRAY: &str = include_str!("../../fixtures/kv-batch-array.hex");
    const NAMED: &str = include_str!("../../fixtures/kv-batch-named.hex");

    fn stored(blocks: u32, block_tokens: u32) -> Event {
        Event::Stored { blocks, block_tokens: Some(block_tokens), medium: Medium::Device }
    }

    #[test]
    fn batches_of_both_layouts_say_the_same() {
        let removed = Event::Removed { blocks: 1, medium: Medium::Device };
        let expect = Batch { events: vec![stored(2, 4), stored(1, 4), removed], rank: Some(0) };
        for fixture in [ARRAY, NAMED] {
            assert_eq!(batch(&bytes(fixture)), Ok(expect.clone()));
        }
    }

    #[test]
    fn what_is_not_known_is_passed_over() {
        let check = |event: &[u8], expect: Event| {
            let text = [&[0x92, 0x01, 0x92][..], event, b"\x91\xb0AllBlocksCleared"].concat();
            let events = batch(&text).unwrap().events;
            assert_eq!(events, [expect, Event::Cleared], "{event:x?}");
        };
        check(b"\x92\xa3New\x93\x01\x02\x81\x01\x02", Event::Unknown);
        check(b"\x82\xa4type\xa3New\xa1x\x91\xc0", Event::Unknown);
        check(
            b"\x82\x07\x91\x01\xa4type\xacBlockRemoved",
            Event::Removed { blocks: 0, medium: Medium::Device },
        );
        check(b"\xc0", Event::Unknown);
        check(b"\x90", Event::Unknown);
        // Hashes may be bytes, the medium another, fields more.
        check(
            b"\x94\xacBlockRemoved\x92\xc4\x01a\xc4\x01b\xa3CPU\x91\x01",
            Event::Removed { blocks: 2, medium: Medium::Host },
        );
        // What came later than the first releases may be missing.
        check(b"\x95\xabBlockStored\x91\x01\xc0\x91\x01\x10", stored(1, 16));
        for none in [&b""[..], b"\x91\x01", b"\x92\xa1x\x90", b"\x92\x01\x91\x95", b"\x80"] {
            assert_eq!(batch(none), Err(BatchError), "{none:x?}");
        }
    }

    #[test]
    fn more_events_than_anybody_sends_are_not_kept() {
        let count = u32::try_from(EVENTS_MAX).unwrap() + 5;
        let mut text = vec![0x93, 0x01, 0xdd];
        text.extend(count.to_be_bytes());
        text.extend(std::iter::repeat_n(0xc0, count as usize));
        text.push(7);
        let batch = batch(&text).unwrap();
        assert_eq!((batch.events.len(), batch.rank), (EVENTS_MAX, Some(7)));
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_at_worst(garbage in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(batch(&garbage));
        }

        #[test]
        fn a_changed_batch_is_an_error_at_worst(at in 0usize..150, byte in any::<u8>(), end in 0usize..150) {
            let mut text = bytes(NAMED);
            let at = at % text.len();
            text[at] = byte;
            drop(batch(&text[..end.min(text.len())]));
        }
    }
}
