//! What engines tell of their KV caches, as vLLM publishes it over ZeroMQ: [`zmtp`] cuts the bytes of
//! the connection into messages, [`batch`] reads one, whose numbers without gaps tell that none was
//! lost.
//!
//! Of blocks only their number is read: what their hashes stand for depends on the engine's own
//! tokens, which nobody else has.

mod event;
mod msgpack;
pub mod zmtp;

pub use event::{Batch, BatchError, EVENTS_MAX, Event, Medium, batch};

use bytes::Bytes;
use thiserror::Error;

/// One message of a publisher.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Numbered {
    /// Its number: one more than that of the message before.
    pub number: u64,
    /// The batch, not read yet.
    pub payload: Bytes,
}

/// A message that is none of KV events.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("a message has other frames than topic, number and batch; is this the port of KV events?")]
pub struct FramesError;

/// Reads a message's frames: topic, number, batch.
///
/// # Errors
/// [`FramesError`].
pub fn numbered(frames: &[Bytes]) -> Result<Numbered, FramesError> {
    let [_, number, payload] = frames else { return Err(FramesError) };
    let number: [u8; 8] = number.as_ref().try_into().map_err(|_| FramesError)?;
    Ok(Numbered { number: u64::from_be_bytes(number), payload: payload.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_topic_number_and_batch() {
        let frame = Bytes::from_static;
        let good = [frame(b"kv"), frame(&[0, 0, 0, 0, 0, 0, 1, 2]), frame(b"x")];
        assert_eq!(numbered(&good), Ok(Numbered { number: 258, payload: frame(b"x") }));
        assert_eq!(numbered(&good[..2]), Err(FramesError));
        assert_eq!(numbered(&[frame(b"kv"), frame(b"1"), frame(b"x")]), Err(FramesError));
    }
}
