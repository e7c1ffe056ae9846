//! The subscriber's side of ZMTP 3, the protocol of ZeroMQ's sockets, without security (mechanism
//! NULL): what is sent, and a decoder that is fed bytes as they come.
//!
//! The order: both send their [`greeting`], then [`ready`]; the subscriber says [`subscribe`]; from
//! then on messages come. Whatever is larger than the limits here ends the connection.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};
use thiserror::Error;

/// Bytes of one message, its frames together: more than an engine's batch of a whole step has.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Frames of one message.
pub const FRAMES_MAX: usize = 16;

/// Bytes of a greeting.
const GREETING_BYTES: usize = 64;

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// What comes from the publisher.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Item {
    /// Its greeting, in order.
    Greeting,
    /// It is ready.
    Ready,
    /// A message, frame by frame.
    Message(Vec<Bytes>),
    /// It wants to know whether anybody is there: [`pong`] with this answers.
    Ping(Bytes),
}

/// Why a connection is not what it should be.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum ZmtpError {
    /// Somebody else's protocol.
    #[error("the other side does not speak ZMTP 3; is this the port of KV events?")]
    Greeting,
    /// It wants security.
    #[error("the publisher asks for another security mechanism than NULL; turn that off")]
    Mechanism,
    /// A frame that must not be there.
    #[error("the publisher broke the protocol")]
    Protocol,
    /// It does not publish.
    #[error("the socket is none that publishes (PUB or XPUB)")]
    SocketType,
    /// It refused.
    #[error("the publisher refused the connection")]
    Refused,
    /// Too much.
    #[error(
        "a message is larger than {MESSAGE_BYTES_MAX} bytes or has more than {FRAMES_MAX} frames"
    )]
    TooLarge,
}

/// What both sides begin with: the signature, version 3.0, mechanism NULL.
pub fn greeting() -> [u8; GREETING_BYTES] {
    let mut greeting = [0; GREETING_BYTES];
    greeting[0] = 0xff;
    greeting[8] = 1;
    greeting[9] = 0x7f;
    greeting[10] = 3;
    greeting[12..16].copy_from_slice(b"NULL");
    greeting
}

/// Says that a subscriber is ready.
pub fn ready() -> Vec<u8> {
    frame(COMMAND, b"\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB")
}

/// Asks for all messages whose first frame begins with this.
pub fn subscribe(topic: &[u8]) -> Vec<u8> {
    frame(0, &[b"\x01", topic].concat())
}

/// Answers [`Item::Ping`].
pub fn pong(context: &[u8]) -> Vec<u8> {
    frame(COMMAND, &[b"\x04PONG", context].concat())
}

fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 9);
    match u8::try_from(body.len()) {
        Ok(length) => out.extend([flags, length]),
        Err(_) => {
            out.push(flags | LONG);
            out.extend((body.len() as u64).to_be_bytes());
        }
    }
    out.extend(body);
    out
}

/// Cuts a connection's bytes into what the publisher says, wherever the pieces were cut.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
    state: State,
    /// Frames of the message that is not complete, and their bytes.
    frames: Vec<Bytes>,
    bytes: usize,
    ready: VecDeque<Item>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    #[default]
    Greeting,
    Handshake,
    Messages,
}

impl Decoder {
    /// Takes in the next bytes.
    ///
    /// # Errors
    /// [`ZmtpError`]; the connection is then of no more use.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), ZmtpError> {
        self.buffer.extend_from_slice(bytes);
        if self.state == State::Greeting && !self.greeted()? {
            return Ok(());
        }
        while let Some((flags, body)) = self.frame()? {
            self.take(flags, body)?;
        }
        Ok(())
    }

    /// What came, in order.
    #[expect(clippy::should_implement_trait, reason = "more may come after `None`")]
    pub fn next(&mut self) -> Option<Item> {
        self.ready.pop_front()
    }

    /// Reads the greeting; whether it is there.
    fn greeted(&mut self) -> Result<bool, ZmtpError> {
        // What is no ZMTP at all is known by its first byte, and may never send as much as a greeting.
        if self.buffer.first().is_some_and(|first| *first != 0xff) {
            return Err(ZmtpError::Greeting);
        }
        if self.buffer.len() < GREETING_BYTES {
            return Ok(false);
        }
        let greeting = self.buffer.split_to(GREETING_BYTES);
        if greeting[9] & 1 == 0 || greeting[10] < 3 {
            return Err(ZmtpError::Greeting);
        }
        if !greeting[12..32].starts_with(b"NULL\0") {
            return Err(ZmtpError::Mechanism);
        }
        self.state = State::Handshake;
        self.ready.push_back(Item::Greeting);
        Ok(true)
    }

    /// The next whole frame: its flags and its body.
    fn frame(&mut self) -> Result<Option<(u8, Bytes)>, ZmtpError> {
        let Some((flags, rest)) = self.buffer.split_first() else { return Ok(None) };
        let flags = *flags;
        if flags & !(MORE | LONG | COMMAND) != 0 || flags & (MORE | COMMAND) == MORE | COMMAND {
            return Err(ZmtpError::Protocol);
        }
        let (length, head) = if flags & LONG == 0 {
            (rest.first().map(|length| u64::from(*length)), 2)
        } else {
            (rest.first_chunk().map(|length| u64::from_be_bytes(*length)), 9)
        };
        let Some(length) = length else { return Ok(None) };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length.saturating_add(self.bytes) > MESSAGE_BYTES_MAX {
            return Err(ZmtpError::TooLarge);
        }
        if self.buffer.len() < head + length {
            return Ok(None);
        }
        self.buffer.advance(head);
        Ok(Some((flags, self.buffer.split_to(length).freeze())))
    }

    fn take(&mut self, flags: u8, body: Bytes) -> Result<(), ZmtpError> {
        if flags & COMMAND != 0 {
            return self.command(&body);
        }
        if self.state != State::Messages {
            return Err(ZmtpError::Protocol);
        }
        if self.frames.len() == FRAMES_MAX {
            return Err(ZmtpError::TooLarge);
        }
        self.bytes += body.len();
        self.frames.push(body);
        if flags & MORE == 0 {
            self.bytes = 0;
            self.ready.push_back(Item::Message(std::mem::take(&mut self.frames)));
        }
        Ok(())
    }

    fn command(&mut self, body: &Bytes) -> Result<(), ZmtpError> {
        if body.starts_with(b"\x05ERROR") {
            return Err(ZmtpError::Refused);
        }
        if let Some(metadata) = body.strip_prefix(b"\x05READY") {
            if self.state != State::Handshake {
                return Err(ZmtpError::Protocol);
            }
            if !publishes(metadata) {
                return Err(ZmtpError::SocketType);
            }
            self.state = State::Messages;
            self.ready.push_back(Item::Ready);
        } else if self.state != State::Messages {
            return Err(ZmtpError::Protocol);
        } else if body.starts_with(b"\x04PING") {
            // After the name two bytes say how long it waits for an answer.
            self.ready.push_back(Item::Ping(body.slice(7.min(body.len())..)));
        }
        // Other commands are extensions that nobody has to know.
        Ok(())
    }
}

/// Whether the other side's properties say that it publishes; one that says nothing may.
fn publishes(mut metadata: &[u8]) -> bool {
    while let Some((length, rest)) = metadata.split_first() {
        let Some((name, rest)) = rest.split_at_checked(usize::from(*length)) else { return false };
        let Some((length, rest)) = rest.split_first_chunk() else { return false };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let Some((value, rest)) = rest.split_at_checked(length) else { return false };
        if name.eq_ignore_ascii_case(b"Socket-Type") {
            return value == b"PUB" || value == b"XPUB";
        }
        metadata = rest;
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn publisher(socket: &[u8]) -> Vec<u8> {
        let mut body = b"\x05READY\x0bSocket-Type".to_vec();
        body.extend((socket.len() as u32).to_be_bytes());
        body.extend(socket);
        [&greeting()[..], &frame(COMMAND, &body)].concat()
    }

    fn message(frames: &[&[u8]]) -> Vec<u8> {
        let last = frames.len() - 1;
        let one = |(at, body): (usize, &&[u8])| frame(if at < last { MORE } else { 0 }, body);
        frames.iter().enumerate().flat_map(one).collect()
    }

    fn decode<'a>(
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> (Vec<Item>, Result<(), ZmtpError>) {
        let (mut decoder, mut items) = (Decoder::default(), Vec::new());
        for piece in pieces {
            let pushed = decoder.push(piece);
            items.extend(std::iter::from_fn(|| decoder.next()));
            if pushed.is_err() {
                return (items, pushed);
            }
        }
        (items, Ok(()))
    }

    fn whole() -> (Vec<u8>, Vec<Item>) {
        let long = vec![7; 300];
        let bytes = [
            publisher(b"XPUB"),
            message(&[b"kv", b"12345678", &long]),
            frame(COMMAND, b"\x04PING\x00\x0actx"),
            frame(COMMAND, b"\x05OTHER"),
            message(&[b""]),
        ];
        let items = vec![
            Item::Greeting,
            Item::Ready,
            Item::Message(vec!["kv".into(), "12345678".into(), long.into()]),
            Item::Ping("ctx".into()),
            Item::Message(vec![Bytes::new()]),
        ];
        (bytes.concat(), items)
    }

    #[test]
    fn what_is_not_a_publisher_is_named() {
        let check = |bytes: &[u8], expect: ZmtpError| {
            assert_eq!(decode([bytes]).1, Err(expect), "{bytes:?}");
        };
        check(b"HTTP/1.1 400 Bad Request", ZmtpError::Greeting);
        let mut other = greeting();
        other[12..17].copy_from_slice(b"CURVE");
        check(&other, ZmtpError::Mechanism);
        other = greeting();
        other[10] = 2;
        check(&other, ZmtpError::Greeting);
        check(&publisher(b"ROUTER"), ZmtpError::SocketType);
        check(&[&greeting()[..], &message(&[b"early"])].concat(), ZmtpError::Protocol);
        check(&[&greeting()[..], &frame(COMMAND, b"\x05ERROR\x02no")].concat(), ZmtpError::Refused);
        let ready = publisher(b"PUB");
        check(&[&ready[..], &[LONG, 0, 0, 0, 1, 0, 0, 0, 0]].concat(), ZmtpError::TooLarge);
        check(&[&ready[..], &message(&[&b"x"[..]; FRAMES_MAX + 1])].concat(), ZmtpError::TooLarge);
        check(&[&ready[..], &[0x80, 0]].concat(), ZmtpError::Protocol);
    }

    #[test]
    fn what_is_sent_is_as_the_standard_has_it() {
        assert_eq!(subscribe(b"kv"), b"\x00\x03\x01kv");
        assert_eq!(pong(b"c"), b"\x04\x06\x04PONGc");
        assert_eq!(ready()[..8], *b"\x04\x19\x05READY");
        assert_eq!(greeting()[..17], *b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0NULL\0");
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_bytes_are_cut(cuts in prop::collection::vec(1usize..40, 0..60)) {
            let (bytes, items) = whole();
            let (mut pieces, mut rest) = (Vec::new(), &bytes[..]);
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            pieces.push(rest);
            prop_assert_eq!(decode(pieces), (items, Ok(())));
        }

        #[test]
        fn garbage_ends_the_connection_at_worst(
            garbage in prop::collection::vec(any::<u8>(), 0..300),
            ready in any::<bool>(),
        ) {
            let begin = if ready { publisher(b"PUB") } else { Vec::new() };
            drop(decode([&begin[..], &garbage[..]]));
        }
    }
}
