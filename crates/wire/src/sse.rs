//! Server-sent events, as the WHATWG HTML standard (section 9.2) defines them: a decoder that is
//! fed bytes as they come, and the encoder of what OpenAI-shaped streams need.

use memchr::memchr2;
use thiserror::Error;

/// The event after the last chunk of a complete OpenAI stream.
pub const DONE: &[u8] = b"data: [DONE]\n\n";

/// Bytes of one event, its lines together, when nothing else is said.
pub const EVENT_BYTES_MAX: usize = 4 << 20;

/// One event.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Event {
    /// Its name, where it is not the default, `message`.
    pub name: Option<String>,
    /// Its data: the `data` lines, joined by line feeds.
    pub data: String,
}

/// Why a stream is not one of events.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum SseError {
    /// An event is larger than allowed.
    #[error("an event of the stream is larger than {0} bytes")]
    TooLarge(usize),
    /// The bytes are not UTF-8.
    #[error("the stream is not valid UTF-8")]
    Utf8,
    /// The stream ended inside an event.
    #[error("the stream ended in the middle of an event")]
    Truncated,
}

/// Cuts a stream of bytes into events, wherever the pieces were cut.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    /// Bytes not yet read; `read` of them are.
    buffer: Vec<u8>,
    read: usize,
    /// The last byte read was a carriage return: a line feed right after it belongs to it.
    after_return: bool,
    begun: bool,
    event: Event,
    has_data: bool,
    event_bytes: usize,
    ready: std::collections::VecDeque<Event>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(EVENT_BYTES_MAX)
    }
}

impl Decoder {
    /// A decoder for events of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            buffer: Vec::new(),
            read: 0,
            after_return: false,
            begun: false,
            event: Event::default(),
            has_data: false,
            event_bytes: 0,
            ready: std::collections::VecDeque::new(),
        }
    }

    /// Takes in the next bytes.
    ///
    /// # Errors
    /// [`SseError`]; the stream is then of no more use.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), SseError> {
        self.buffer.drain(..self.read);
        self.read = 0;
        self.buffer.extend_from_slice(bytes);
        self.skip_byte_order_mark();
        while let Some((line, next)) = self.next_line() {
            let text = std::str::from_utf8(&self.buffer[line]).map_err(|_| SseError::Utf8)?;
            let text = text.to_owned();
            self.read = next;
            self.take_line(&text)?;
        }
        if self.event_bytes + self.buffer.len() - self.read > self.limit {
            return Err(SseError::TooLarge(self.limit));
        }
        Ok(())
    }

    /// The next complete event.
    #[expect(clippy::should_implement_trait, reason = "more may come after `None`")]
    pub fn next(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }

    /// Says that the stream ended. By the standard an event without its blank line is dropped;
    /// here that is an error, because an answer would be cut short in silence.
    ///
    /// # Errors
    /// [`SseError::Truncated`].
    pub fn finish(&self) -> Result<(), SseError> {
        let rest = &self.buffer[self.read..];
        if self.event_bytes > 0 || !(rest.is_empty() || rest == b"\n") {
            return Err(SseError::Truncated);
        }
        Ok(())
    }

    fn skip_byte_order_mark(&mut self) {
        const MARK: &[u8] = b"\xef\xbb\xbf";
        if self.begun || self.buffer.len() < MARK.len() && MARK.starts_with(&self.buffer) {
            return;
        }
        self.begun = true;
        if self.buffer.starts_with(MARK) {
            self.read = MARK.len();
        }
    }

    /// The next line's range without its end, and where the one after begins.
    fn next_line(&mut self) -> Option<(std::ops::Range<usize>, usize)> {
        if !self.begun {
            return None;
        }
        if self.after_return && self.read < self.buffer.len() {
            self.after_return = false;
            if self.buffer[self.read] == b'\n' {
                self.read += 1;
            }
        }
        let end = self.read + memchr2(b'\r', b'\n', &self.buffer[self.read..])?;
        self.after_return = self.buffer[end] == b'\r';
        Some((self.read..end, end + 1))
    }

    fn take_line(&mut self, line: &str) -> Result<(), SseError> {
        if line.is_empty() {
            self.dispatch();
            return Ok(());
        }
        self.event_bytes += line.len() + 1;
        if self.event_bytes > self.limit {
            return Err(SseError::TooLarge(self.limit));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if self.has_data {
                    self.event.data.push('\n');
                }
                self.has_data = true;
                self.event.data.push_str(value);
            }
            "event" => self.event.name = (!value.is_empty()).then(|| value.to_owned()),
            // Comments, ids, retry times and unknown fields: nothing here needs them.
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self) {
        let event = std::mem::take(&mut self.event);
        if std::mem::take(&mut self.has_data) {
            self.ready.push_back(event);
        }
        self.event_bytes = 0;
    }
}

/// What the line with an event's data begins with.
pub const DATA: &[u8] = b"data: ";

/// Appends an event that holds `data`, which has no line breaks, as JSON on one line has none.
pub fn encode_data(out: &mut Vec<u8>, data: &[u8]) {
    debug_assert!(memchr2(b'\r', b'\n', data).is_none(), "W-1: a line break in one-line data");
    out.extend_from_slice(DATA);
    out.extend_from_slice(data);
    out.extend_from_slice(b"\n\n");
}

/// Appends an event with a name; the data has no line breaks.
pub fn encode_event(out: &mut Vec<u8>, name: &str, data: &[u8]) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.push(b'\n');
    encode_data(out, data);
}

/// Appends a comment, which readers skip: it keeps an idle connection open.
pub fn encode_comment(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(b": ");
    out.extend(text.bytes().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(pieces: &[&[u8]]) -> Result<Vec<Event>, SseError> {
        let mut decoder = Decoder::new(1 << 16);
        let mut events = Vec::new();
        for piece in pieces {
            decoder.push(piece)?;
            events.extend(std::iter::from_fn(|| decoder.next()));
        }
        decoder.finish()?;
        Ok(events)
    }

    fn data(data: &str) -> Event {
        Event { name: None, data: data.to_owned() }
    }

    #[test]
    fn reads_what_the_standard_shows() {
        let check = |text: &str, expect: &[Event]| {
            assert_eq!(decode(&[text.as_bytes()]).unwrap(), expect, "{text:?}");
        };
        check("data: one\n\n", &[data("one")]);
        check(
            "data:one\r\n\r\ndata: two\r\rdata:  three\n\n",
            &[data("one"), data("two"), data(" three")],
        );
        check("data: a\ndata: b\n\n", &[data("a\nb")]);
        check("data\n\ndata\ndata\n\n", &[data(""), data("\n")]);
        check(": comment\n\n", &[]);
        check("id: 1\nretry: 5\nunknown: x\n\n", &[]);
        check("\u{feff}data: x\n\n", &[data("x")]);
        check(
            "event: error\ndata: {}\n\n",
            &[Event { name: Some("error".to_owned()), data: "{}".to_owned() }],
        );
        check("event: gone\n\ndata: x\n\n", &[data("x")]);
    }

    #[test]
    fn a_stream_cut_inside_an_event_is_truncated() {
        for text in ["data: x", "data: x\n", "dat", "data: x\n\ndata: y\r\n"] {
            assert_eq!(decode(&[text.as_bytes()]), Err(SseError::Truncated), "{text:?}");
        }
    }

    #[test]
    fn limits_and_encoding_hold() {
        let long = format!("data: {}\n\n", "x".repeat(1 << 16));
        assert_eq!(decode(&[long.as_bytes()]), Err(SseError::TooLarge(1 << 16)));
        let endless = "data: x\n".repeat(1 << 14);
        assert_eq!(decode(&[endless.as_bytes()]), Err(SseError::TooLarge(1 << 16)));
        assert_eq!(decode(&[b"data: \xff\n\n"]), Err(SseError::Utf8));
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let mut out = Vec::new();
        encode_comment(&mut out, "keep\nalive");
        encode_data(&mut out, b"{\"a\":1}");
        out.extend_from_slice(DONE);
        assert_eq!(decode(&[&out]).unwrap(), [data("{\"a\":1}"), data("[DONE]")]);
    }

    proptest! {
        #[test]
        fn every_cut_gives_the_same_events(
            texts in prop::collection::vec("[a-zé€😀: ]{0,12}", 1..5),
            ends in prop::collection::vec(0usize..3, 8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let mut stream = Vec::new();
            for (text, end) in texts.iter().zip(ends) {
                for part in [&format!("data: {text}"), ": c", "data: more", ""] {
                    stream.extend_from_slice(part.as_bytes());
                    stream.extend_from_slice(["\n", "\r\n", "\r"][end].as_bytes());
                }
            }
            let whole = decode(&[&stream]).unwrap();
            prop_assert_eq!(&whole, &texts.iter().map(|text| data(&format!("{text}\nmore"))).collect::<Vec<_>>());
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
            at.push(0);
            at.push(stream.len());
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            prop_assert_eq!(&decode(&pieces).unwrap(), &whole);
            let bytes: Vec<&[u8]> = stream.chunks(1).collect();
            prop_assert_eq!(decode(&bytes).unwrap(), whole);
        }

        #[test]
        fn no_bytes_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8)) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let _ = decode(&pieces);
        }
    }
}
