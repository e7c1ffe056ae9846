//! HTTP/2 written by hand, frame by frame, for clients that do what no library lets them do; and a
//! listener to send it to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use http::Request;
use pilotage_shell::serve::{Entrance, ServeLimits, serve};
use pilotage_shell::tasks;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::rig::{AT_ONCE, KEY, Rig};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RESET: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// Flags: the stream ends here, the block of headers does, and what says yes to settings and pings.
pub(crate) const END: u8 = 1;
pub(crate) const WHOLE: u8 = 4;
const ACK: u8 = 1;

/// Reasons why streams and connections end.
pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const FLOW_CONTROL_ERROR: u32 = 3;
pub(crate) const STREAM_CLOSED: u32 = 5;
pub(crate) const FRAME_SIZE_ERROR: u32 = 6;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const COMPRESSION_ERROR: u32 = 9;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const CHAT: &str =
    r#"{"model":"public","max_tokens":2,"messages":[{"role":"user","content":"x"}]}"#;

/// Like those of production, with little patience.
pub(crate) fn limits() -> ServeLimits {
    ServeLimits {
        header_timeout: Duration::from_secs(2),
        write_timeout: Duration::from_secs(2),
        ..ServeLimits::default()
    }
}

/// A gateway on a port, and what becomes of that.
pub(crate) struct Served {
    pub(crate) rig: Rig,
    pub(crate) at: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<Option<usize>>,
}

impl Served {
    pub(crate) async fn new() -> Self {
        Self::with(limits()).await
    }

    pub(crate) async fn with(limits: ServeLimits) -> Self {
        Self::of(Rig::new(1).await, limits, Entrance::from).await
    }

    /// Serves a gateway as it is in production.
    pub(crate) async fn of(
        rig: Rig,
        limits: ServeLimits,
        entrance: impl FnOnce(TcpListener) -> Entrance,
    ) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = socket.local_addr().unwrap();
        let stop = CancellationToken::new();
        let front = rig.gateway.front();
        let service = move |request: Request<hyper::body::Incoming>| {
            let front = front.clone();
            async move { Ok(front.answer(request.map(Body::new)).await) }
        };
        let serving = serve(entrance(socket), service, limits, stop.clone());
        let serving = tasks::spawn("listener", serving);
        Self { rig, at, stop, serving }
    }

    /// A request of somebody else is answered.
    pub(crate) async fn answers(&self) {
        assert_eq!(ask(self.at).await, 200);
    }

    pub(crate) fn requests(&self) -> u64 {
        self.rig.engines[0].as_ref().unwrap().stats().requests
    }

    pub(crate) fn active(&self) -> u64 {
        self.rig.engines[0].as_ref().unwrap().stats().active
    }

    /// Stops listening; whoever is there finishes.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// How many connections were cut, once all of them and their streams are over.
    pub(crate) async fn ended(self) -> usize {
        self.stop();
        self.serving.await.unwrap().unwrap()
    }

    /// Nothing is left of whoever was there: no request, no place of its tenant, no connection.
    pub(crate) async fn leaves_nothing(self) {
        assert_eq!(self.rig.left().await, None);
        let all = (0..AT_ONCE).map(|_| tasks::spawn("ask", ask(self.at)));
        for one in all.collect::<Vec<_>>() {
            assert_eq!(one.await.unwrap(), Some(200), "a place was not given back");
        }
        assert_eq!(self.rig.left().await, None);
        let cut = timeout(Duration::from_secs(1), self.ended()).await;
        assert_eq!(cut.ok(), Some(0), "a stream or connection went on");
    }
}

/// The status of an ordinary request over HTTP/1.1.
async fn ask(at: SocketAddr) -> u16 {
    let mut socket = TcpStream::connect(at).await.unwrap();
    let length = CHAT.len();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\
         authorization: Bearer {KEY}\r\ncontent-length: {length}\r\n\r\n{CHAT}"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer.strip_prefix("HTTP/1.1 ").map_or(0, |rest| rest[..3].parse().unwrap())
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

pub(crate) fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// A block of headers, each in full, as nobody checked them.
pub(crate) fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(headers: &[(N, V)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        block.push(0);
        text(&mut block, name.as_ref());
        text(&mut block, value.as_ref());
    }
    block
}

/// A text that is not compressed.
pub(crate) fn text(block: &mut Vec<u8>, text: &[u8]) {
    let mut length = text.len();
    if length < 127 {
        block.push(u8::try_from(length).unwrap());
    } else {
        block.push(127);
        length -= 127;
        while length >= 128 {
            block.push(u8::try_from(length % 128 + 128).unwrap());
            length /= 128;
        }
        block.push(u8::try_from(length).unwrap());
    }
    block.extend_from_slice(text);
}

/// The headers of an ordinary request, whose body has that length.
pub(crate) fn head(length: Option<usize>) -> Vec<(String, String)> {
    let mut head = vec![
        (":method".to_owned(), "POST".to_owned()),
        (":scheme".to_owned(), "http".to_owned()),
        (":path".to_owned(), "/v1/chat/completions".to_owned()),
        (":authority".to_owned(), "a".to_owned()),
        ("authorization".to_owned(), format!("Bearer {KEY}")),
    ];
    head.extend(length.map(|length| ("content-length".to_owned(), length.to_string())));
    head
}

/// An ordinary request as the stream of that number.
pub(crate) fn request(stream: u32, body: &str) -> Vec<u8> {
    let head = block(&head(Some(body.len())));
    [frame(HEADERS, WHOLE, stream, &head), frame(DATA, END, stream, body.as_bytes())].concat()
}

/// One whose body does not come.
pub(crate) fn opened(stream: u32) -> Vec<u8> {
    frame(HEADERS, WHOLE, stream, &block(&head(Some(1000))))
}

/// A request for a stream of two tokens.
pub(crate) fn streamed(stream: u32) -> Vec<u8> {
    streamed_of(2, stream)
}

/// A request for a stream of so many tokens.
pub(crate) fn streamed_of(tokens: u32, stream: u32) -> Vec<u8> {
    let asked = format!("\"max_tokens\":{tokens},\"stream\":true");
    request(stream, &CHAT.replace("\"max_tokens\":2", &asked))
}

/// What came back so far.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) goaway: Option<u32>,
    /// Reasons by stream.
    pub(crate) resets: BTreeMap<u32, u32>,
    pub(crate) statuses: BTreeMap<u32, u16>,
    pub(crate) bodies: BTreeMap<u32, Vec<u8>>,
    /// Streams that ended well.
    pub(crate) ended: Vec<u32>,
    pub(crate) closed: bool,
    pub(crate) pings: usize,
}

/// A connection as it is on the wire.
pub(crate) struct Wire {
    pub(crate) socket: TcpStream,
    read: Vec<u8>,
    pub(crate) heard: Heard,
    /// Whether pings are answered.
    pub(crate) polite: bool,
}

impl Wire {
    pub(crate) async fn open(at: SocketAddr) -> Self {
        Self::with(at, &[]).await
    }

    /// A connection with these settings. Heads of answers come without a table, so that each can be
    /// read by itself.
    pub(crate) async fn with(at: SocketAddr, settings: &[u8]) -> Self {
        let socket = TcpStream::connect(at).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let mut wire = Self { socket, read: Vec::new(), heard: Heard::default(), polite: true };
        let settings = [&setting(1, 0), settings].concat();
        wire.send(&[PREFACE, &frame(SETTINGS, 0, 0, &settings)].concat()).await;
        wire
    }

    /// Whether the other side took it.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> bool {
        self.socket.write_all(bytes).await.is_ok()
    }

    /// Reads until that is so or the other side closes; for a while at most.
    pub(crate) async fn hear(&mut self, enough: impl Fn(&Heard) -> bool) -> &Heard {
        let listening = async {
            while !self.heard.closed && !enough(&self.heard) {
                self.next().await;
            }
        };
        let _ = timeout(Duration::from_secs(120), listening).await;
        &self.heard
    }

    /// Reads until the other side closes.
    pub(crate) async fn hear_all(&mut self) -> &Heard {
        self.hear(|_| false).await
    }

    /// Reads until a stream is over, however.
    pub(crate) async fn hear_of(&mut self, stream: u32) -> &Heard {
        self.hear(|heard| heard.ended.contains(&stream) || heard.resets.contains_key(&stream)).await
    }

    async fn next(&mut self) {
        let mut more = vec![0; 64 << 10];
        match self.socket.read(&mut more).await {
            Ok(0) | Err(_) => self.heard.closed = true,
            Ok(read) => self.read.extend_from_slice(&more[..read]),
        }
        while let Some(length) = self.read.first_chunk::<3>().copied() {
            let [high, middle, low] = length.map(usize::from);
            let end = 9 + (high << 16 | middle << 8 | low);
            if self.read.len() < end {
                break;
            }
            let rest = self.read.split_off(end);
            let whole = std::mem::replace(&mut self.read, rest);
            self.take(&whole).await;
        }
    }

    async fn take(&mut self, whole: &[u8]) {
        let (kind, flags, payload) = (whole[3], whole[4], &whole[9..]);
        let number = |at: usize| u32::from_be_bytes(whole[at..at + 4].try_into().unwrap());
        let stream = number(5);
        let heard = &mut self.heard;
        match kind {
            HEADERS => {
                heard.statuses.entry(stream).or_insert_with(|| status(payload));
            }
            DATA => heard.bodies.entry(stream).or_default().extend_from_slice(payload),
            RESET => {
                heard.resets.insert(stream, number(9));
            }
            GOAWAY => heard.goaway = Some(number(13)),
            SETTINGS if flags & ACK == 0 => {
                self.send(&frame(SETTINGS, ACK, 0, &[])).await;
            }
            PING if flags & ACK == 0 => {
                heard.pings += 1;
                if self.polite {
                    self.send(&frame(PING, ACK, 0, payload)).await;
                }
            }
            _ => {}
        }
        if matches!(kind, HEADERS | DATA) && flags & END != 0 {
            self.heard.ended.push(stream);
        }
    }
}

/// The status that a block of headers begins with.
fn status(block: &[u8]) -> u16 {
    // Sizes of the table come first.
    let block = &block[block.iter().take_while(|byte| **byte >> 5 == 1).count()..];
    match block[0] {
        at @ 0x88..=0x8e => [200, 204, 206, 304, 400, 404, 500][usize::from(at - 0x88)],
        // A literal under the name of one of those: three digits, compressed.
        _ => {
            let length = usize::from(block[1] & 0x7f);
            let text = &block[2..2 + length];
            if block[1] & 0x80 == 0 {
                return std::str::from_utf8(text).unwrap().parse().unwrap();
            }
            let mut bits =
                text.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
            (0..3).fold(0, |number, _| {
                let mut take =
                    |count| (0..count).fold(0, |code, _| code << 1 | bits.next().unwrap());
                let code = take(5);
                // 0, 1 and 2 have five bits, the others six.
                let digit = if code < 3 { code } else { (code << 1 | take(1)) - 0x19 + 3 };
                number * 10 + u16::from(digit)
            })
        }
    }
}

#[test]
fn statuses_are_read() {
    let check = |block: &[u8], expect: u16| assert_eq!(status(block), expect, "{block:?}");
    check(&[0x88], 200);
    check(&[0x20, 0x8d], 404);
    check(&[0x08, 0x03, b'4', b'3', b'1'], 431);
    // 408 and 431 as their codes stand in the specification.
    check(&[0x48, 0x83, 0b0110_1000, 0b0000_1111, 0b0111_1111], 408);
    check(&[0x48, 0x83, 0b0110_1001, 0b1001_0000, 0b1111_1111], 431);
}
