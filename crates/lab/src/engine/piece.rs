//! An answer in pieces, and what is done with each on its way out: what a healthy engine does, and
//! what a fault makes of it.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};

/// Which part of an answer a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The request is here, and nothing is sent.
    Begin,
    /// Status line and headers of a stream.
    StreamHead,
    /// The first event of a chat stream, without text.
    Role,
    /// The event with a token, counted from 0.
    Token(u32),
    /// The event that says why the answer ends.
    Finish,
    /// The event with the usage.
    Usage,
    /// The event `[DONE]`.
    Done,
    /// The end of the stream.
    End,
    /// Status line and headers of an answer that is no stream.
    WholeHead,
    /// The body of such an answer.
    Body,
}

/// A piece of an answer as a healthy engine sends it.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Which part it is.
    pub part: Part,
    /// Its bytes, without HTTP's framing of chunks.
    pub bytes: Bytes,
}

/// One thing that an engine does to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Sends the bytes.
    Raw(Bytes),
    /// Sends the bytes as one chunk of a chunked body.
    Chunk(Bytes),
    /// Does nothing for that long.
    Pause(Duration),
    /// Does nothing until the client goes away.
    Hang,
    /// Ends the connection with a reset.
    Reset,
    /// Ends the connection in order.
    Close,
    /// Says that it sends no more, and listens until the client goes away.
    HalfClose,
    /// Nothing more of this answer; the connection stays.
    Complete,
}

/// What ends a chunked body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

impl Piece {
    pub(super) const fn new(part: Part, bytes: Bytes) -> Self {
        Self { part, bytes }
    }

    /// What a healthy engine does with it.
    pub fn acts(&self) -> Vec<Act> {
        vec![match self.part {
            Part::Begin => return Vec::new(),
            Part::StreamHead | Part::WholeHead | Part::Body => Act::Raw(self.bytes.clone()),
            Part::End => Act::Raw(Bytes::from_static(LAST_CHUNK)),
            Part::Role | Part::Token(_) | Part::Finish | Part::Usage | Part::Done => {
                Act::Chunk(self.bytes.clone())
            }
        }]
    }
}

/// Writes the bytes as one chunk of a chunked body.
pub(super) fn put_chunk(out: &mut BytesMut, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut shift = (usize::BITS - bytes.len().leading_zeros()).div_ceil(4).max(1) * 4;
    while shift > 0 {
        shift -= 4;
        out.put_u8(DIGITS.get(bytes.len() >> shift & 15).copied().unwrap_or(b'0'));
    }
    out.put_slice(b"\r\n");
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_chunks() {
        let check = |length: usize, size: &str| {
            let mut out = BytesMut::new();
            put_chunk(&mut out, &vec![b'x'; length]);
            assert!(out.starts_with(format!("{size}\r\nx").as_bytes()), "{length}");
            assert_eq!(out.len(), length + size.len() + 4);
        };
        check(1, "1");
        check(15, "f");
        check(16, "10");
        check(255, "ff");
        check(4096, "1000");
    }
}
