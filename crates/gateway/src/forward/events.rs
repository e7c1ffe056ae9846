//! A stream cut into its events, each with the very bytes it came in: what is passed on to a client
//! is what the engine sent, down to its line ends and comments.
//!
//! A block is everything up to and with a blank line. Most hold one event; a comment that keeps
//! the connection open holds none, and is passed on all the same. A block that lies within one
//! piece of the stream is a slice of that piece: nothing is copied.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use memchr::memchr2;
use pilotage_wire::dialect::translate::Reader;
use pilotage_wire::sse::{self, Decoder, Event, SseError};

/// A part of a stream that ends with a blank line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Block {
    /// As the engine sent it.
    pub(super) bytes: Bytes,
    meaning: Meaning,
}

/// What a block means.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Meaning {
    /// Nothing: it only holds comments.
    Nothing,
    /// An event without a name, whose data lies there in its bytes.
    Data(Range<usize>),
    /// An event.
    Event(Event),
}

impl Block {
    /// The event's data; none when there is no event.
    pub(super) fn data(&self) -> Option<&str> {
        match &self.meaning {
            Meaning::Nothing => None,
            Meaning::Data(at) => std::str::from_utf8(self.bytes.get(at.clone())?).ok(),
            Meaning::Event(event) => Some(&event.data),
        }
    }

    /// Whether it is an event that says that the engine failed.
    pub(super) fn is_error(&self) -> bool {
        let named = match &self.meaning {
            Meaning::Event(event) => event.name.as_deref() == Some("error"),
            Meaning::Nothing | Meaning::Data(_) => false,
        };
        named || self.data().is_some_and(|data| data.starts_with("{\"error\""))
    }
}

/// Cuts a stream into blocks, wherever its pieces were cut.
pub(super) struct Blocks {
    decoder: Decoder,
    limit: usize,
    /// The begin of a block whose end has not come.
    rest: BytesMut,
    line: Line,
    /// The stream's first block, which may begin with a mark of its own, is over.
    begun: bool,
    /// Reads a stream that is told in another API.
    reader: Option<Box<Reader>>,
}

/// Where in a line the last byte was.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Line {
    /// Before its first byte.
    Empty,
    /// Before its first byte, and after a carriage return: a line feed still belongs to that.
    AfterReturn,
    /// After its first byte.
    Begun,
}

impl Blocks {
    /// For blocks of at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        let (decoder, rest) = (Decoder::new(limit), BytesMut::new());
        Self { decoder, limit, rest, line: Line::Empty, begun: false, reader: None }
    }

    /// The same, for a stream that is told in another API.
    pub(super) fn told(self, reader: Option<Reader>) -> Self {
        Self { reader: reader.map(Box::new), ..self }
    }

    /// Takes in the next piece of the stream, and adds the blocks that it completes to `blocks`.
    ///
    /// # Errors
    /// A block is too large, or no text: the stream is of no more use.
    pub(super) fn push(&mut self, piece: Bytes, blocks: &mut Vec<Block>) -> Result<(), SseError> {
        let Some(reader) = &mut self.reader else { return self.cut(piece, blocks) };
        let mut told = Vec::new();
        let read = reader.push(&piece, &mut told);
        // What came before what cannot be read counts.
        self.cut(told.into(), blocks)?;
        read.map_err(|_| SseError::Utf8)
    }

    /// The stream ended. Of one in another API that may be the sign that it is complete: what is still
    /// to say is added to `blocks`. False where there is nothing.
    pub(super) fn end(&mut self, blocks: &mut Vec<Block>) -> bool {
        let Some(reader) = &mut self.reader else { return false };
        let mut told = Vec::new();
        let has_more = reader.end(&mut told).unwrap_or(false);
        has_more && self.cut(told.into(), blocks).is_ok()
    }

    /// What came after the last block, and stays for the next.
    pub(super) fn held(&self) -> &[u8] {
        &self.rest
    }

    /// What came after the last block.
    pub(super) fn take_rest(&mut self) -> Bytes {
        self.rest.split().freeze()
    }

    /// Cuts the next piece of a stream of OpenAI's.
    fn cut(&mut self, mut piece: Bytes, blocks: &mut Vec<Block>) -> Result<(), SseError> {
        loop {
            if let Some(end) = self.plain_end(&piece) {
                let bytes = piece.split_to(end);
                if bytes.len() > self.limit {
                    return Err(SseError::TooLarge(self.limit));
                }
                let at = sse::DATA.len()..end - 2;
                std::str::from_utf8(&bytes[at.clone()]).map_err(|_| SseError::Utf8)?;
                blocks.push(Block { bytes, meaning: Meaning::Data(at) });
                continue;
            }
            let Some(end) = self.block_end(&piece) else { break };
            let bytes = self.complete(piece.split_to(end));
            if bytes.len() > self.limit {
                return Err(SseError::TooLarge(self.limit));
            }
            self.decoder.push(&bytes)?;
            let meaning = self.decoder.next().map_or(Meaning::Nothing, Meaning::Event);
            blocks.push(Block { bytes, meaning });
            self.begun = true;
            debug_assert_eq!(self.decoder.next(), None, "a block holds at most one event");
        }
        if self.rest.len() + piece.len() > self.limit {
            return Err(SseError::TooLarge(self.limit));
        }
        self.rest.extend_from_slice(&piece);
        Ok(())
    }

    /// The block that ends with `end`.
    fn complete(&mut self, end: Bytes) -> Bytes {
        if self.rest.is_empty() {
            return end;
        }
        self.rest.extend_from_slice(&end);
        self.rest.split().freeze()
    }

    /// Where the first block of this piece ends, if it is all there and one line of data, as nearly
    /// all are.
    fn plain_end(&self, piece: &[u8]) -> Option<usize> {
        let whole = self.begun && self.rest.is_empty() && self.line == Line::Empty;
        if !whole || !piece.starts_with(sse::DATA) {
            return None;
        }
        let end = memchr2(b'\r', b'\n', piece)?;
        (piece[end] == b'\n' && piece.get(end + 1) == Some(&b'\n')).then_some(end + 2)
    }

    /// Where the first block of this piece ends, if it does. Goes on where the last piece ended.
    fn block_end(&mut self, piece: &[u8]) -> Option<usize> {
        for (at, byte) in piece.iter().enumerate() {
            let before = self.line;
            // The second half of the line end before: a block of its own, for the first half is
            // with the client by now.
            if at == 0 && self.rest.is_empty() && before == Line::AfterReturn && *byte == b'\n' {
                self.line = Line::Empty;
                return Some(1);
            }
            self.line = match byte {
                b'\r' => Line::AfterReturn,
                b'\n' => Line::Empty,
                _ => Line::Begun,
            };
            let ends_line = match byte {
                b'\r' => true,
                b'\n' => before != Line::AfterReturn,
                _ => false,
            };
            if !ends_line || before == Line::Begun {
                continue;
            }
            // The other half of the line's end goes with it, unless it has not come yet.
            let whole = *byte == b'\r' && piece.get(at + 1) == Some(&b'\n');
            if whole {
                self.line = Line::Empty;
            }
            return Some(at + 1 + usize::from(whole));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &[&str]) -> Vec<(String, Option<String>)> {
        let mut blocks = Vec::new();
        let mut stream = Blocks::new(64);
        for piece in pieces {
            stream.push(Bytes::copy_from_slice(piece.as_bytes()), &mut blocks).unwrap();
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        blocks
            .into_iter()
            .map(|block| (text(&block.bytes), block.data().map(str::to_owned)))
            .collect()
    }

    fn check(stream: &str, expect: &[(&str, Option<&str>)]) {
        let expect: Vec<_> = expect
            .iter()
            .map(|(bytes, data)| ((*bytes).to_owned(), data.map(str::to_owned)))
            .collect();
        assert_eq!(cut(&[stream]), expect, "{stream:?}");
    }

    #[test]
    fn every_line_end_of_the_standard_ends_a_block() {
        check("data: a\n\ndata:b\n\n", &[("data: a\n\n", Some("a")), ("data:b\n\n", Some("b"))]);
        check(
            "data: a\r\n\r\ndata: b\r\n\r\n",
            &[("data: a\r\n\r\n", Some("a")), ("data: b\r\n\r\n", Some("b"))],
        );
        check("data: a\r\rdata: b\r\r", &[("data: a\r\r", Some("a")), ("data: b\r\r", Some("b"))]);
        check(
            "data: a\n\r\ndata: b\r\n\n",
            &[("data: a\n\r\n", Some("a")), ("data: b\r\n\n", Some("b"))],
        );
    }

    #[test]
    fn comments_names_and_several_lines_stay_as_they_are() {
        check(": ping\n\n", &[(": ping\n\n", None)]);
        check(
            ": x\nevent: y\ndata: a\ndata: b\n\n",
            &[(": x\nevent: y\ndata: a\ndata: b\n\n", Some("a\nb"))],
        );
        check("\u{feff}data: a\n\n", &[("\u{feff}data: a\n\n", Some("a"))]);
        check("data: a\n", &[]);
    }

    #[test]
    fn a_stream_may_be_cut_anywhere() {
        let streams = [
            ": ping\n\ndata: hé\ndata: b\n\ndata: [DONE]\n\n",
            ": ping\r\n\r\ndata: hé\r\ndata: b\r\n\r\ndata: [DONE]\r\n\r\n",
            "data: hé\r\rdata: b\r\r",
        ];
        for stream in streams {
            let datas = |blocks: Vec<(String, Option<String>)>| -> Vec<String> {
                blocks.into_iter().filter_map(|(_, data)| data).collect()
            };
            let whole = datas(cut(&[stream]));
            let bytes = Bytes::from_static(stream.as_bytes());
            for (first, second) in (0..=bytes.len())
                .flat_map(|first| (first..=bytes.len()).map(move |second| (first, second)))
            {
                let mut blocks = Vec::new();
                let mut cutter = Blocks::new(64);
                for piece in
                    [bytes.slice(..first), bytes.slice(first..second), bytes.slice(second..)]
                {
                    cutter.push(piece, &mut blocks).unwrap();
                }
                let joined: Vec<u8> =
                    blocks.iter().flat_map(|block| block.bytes.to_vec()).collect();
                assert_eq!(joined, bytes, "{stream:?} cut at {first} and {second}");
                let found: Vec<String> =
                    blocks.iter().filter_map(|block| Some(block.data()?.to_owned())).collect();
                assert_eq!(found, whole, "{stream:?} cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn blocks_have_a_limit_wherever_they_are_cut() {
        let long = format!("data: {}\n\n", "x".repeat(64));
        for at in [0, 10, long.len() - 1, long.len()] {
            let mut stream = Blocks::new(64);
            let mut blocks = Vec::new();
            let pieces = [&long[..at], &long[at..]];
            let result = pieces.iter().try_for_each(|piece| {
                stream.push(Bytes::copy_from_slice(piece.as_bytes()), &mut blocks)
            });
            assert_eq!(result, Err(SseError::TooLarge(64)), "cut at {at}");
        }
        for before in ["", "data: x\n\n"] {
            let mut stream = Blocks::new(64);
            stream.push(Bytes::from_static(before.as_bytes()), &mut Vec::new()).unwrap();
            let wrong = stream.push(Bytes::from_static(b"data: \xff\n\n"), &mut Vec::new());
            assert_eq!(wrong, Err(SseError::Utf8), "{before:?}");
        }
    }
}
