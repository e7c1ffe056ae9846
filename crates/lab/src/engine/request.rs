//! Requests as they come in: framing by length or chunks, and the few facts an answer depends on. A
//! body that nobody asks for is read and thrown away.

use bytes::{Buf as _, Bytes, BytesMut};
use memchr::memmem;

use super::stats::Fingerprint;

/// Bytes of a request's head, at most.
const HEAD_BYTES_MAX: usize = 256 << 10;
/// Bytes of a request's body that are kept, at most.
const BODY_BYTES_MAX: u64 = 1 << 30;
/// Bytes looked at again where `"stream": true` may lie across two reads.
const OVERLAP_BYTES: usize = 48;

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Chat,
    Completions,
    Embeddings,
    Rerank,
    Models,
    Health,
    Metrics,
    /// What happened to the engine.
    Stats,
    /// A fault is switched on or off.
    Fault,
    Unknown,
}

impl Target {
    fn of(path: &[u8]) -> Self {
        let end = memchr::memchr(b'?', path).unwrap_or(path.len());
        match path.get(..end).unwrap_or(path) {
            b"/v1/chat/completions" => Self::Chat,
            b"/v1/completions" => Self::Completions,
            b"/v1/embeddings" => Self::Embeddings,
            b"/rerank" | b"/v1/rerank" | b"/v2/rerank" => Self::Rerank,
            b"/v1/models" => Self::Models,
            b"/health" | b"/ping" => Self::Health,
            b"/metrics" => Self::Metrics,
            b"/scripted/stats" => Self::Stats,
            b"/scripted/fault" => Self::Fault,
            _ => Self::Unknown,
        }
    }

    /// Whether it makes the engine work, and counts as a request.
    pub(super) const fn is_work(self) -> bool {
        matches!(self, Self::Chat | Self::Completions | Self::Embeddings | Self::Rerank)
    }
}

/// One request, whole.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) target: Target,
    /// Whether the body says `"stream": true`.
    pub(super) stream: bool,
    pub(super) keep_alive: bool,
    /// `x-request-id`, where bodies are kept.
    pub(super) id: Option<String>,
    /// Empty where bodies are thrown away.
    pub(super) body: Bytes,
    pub(super) fingerprint: u64,
}

/// Cuts what comes over a connection into requests.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) buffer: BytesMut,
    phase: Phase,
    pub(super) keep: bool,
    draft: Draft,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Head,
    Sized { left: u64 },
    ChunkSize,
    Chunk { left: u64 },
    Trailer,
}

/// A request whose body is still coming.
#[derive(Debug)]
struct Draft {
    target: Target,
    keep_alive: bool,
    wants_continue: bool,
    id: Option<String>,
    body: BytesMut,
    scan: StreamScan,
    print: Fingerprint,
}

/// The bytes are no request, or one that is too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotHttp;

impl Reader {
    /// `keep`: whether bodies and ids are wanted.
    pub(super) fn new(keep: bool) -> Self {
        Self {
            buffer: BytesMut::with_capacity(16 << 10),
            phase: Phase::Head,
            keep,
            draft: Draft::new(),
        }
    }

    /// Whether a request has begun to come in, or more than that is here.
    #[cfg(test)]
    pub(super) fn has_begun(&self) -> bool {
        !self.buffer.is_empty() || !matches!(self.phase, Phase::Head)
    }

    /// Whether the client waits for `100 Continue`; true once.
    pub(super) fn takes_continue(&mut self) -> bool {
        std::mem::take(&mut self.draft.wants_continue)
    }

    /// The next request; none as long as it is not whole.
    pub(super) fn next(&mut self) -> Result<Option<Request>, NotHttp> {
        loop {
            let over = match self.phase {
                Phase::Head => {
                    if !self.head()? {
                        return Ok(None);
                    }
                    matches!(self.phase, Phase::Sized { left: 0 })
                }
                Phase::Sized { left } => {
                    let left = self.take(left);
                    self.phase = Phase::Sized { left };
                    if left > 0 {
                        return Ok(None);
                    }
                    true
                }
                Phase::ChunkSize => {
                    let Some(line) = self.line()? else { return Ok(None) };
                    let left = chunk_size(&line).ok_or(NotHttp)?;
                    self.phase = if left == 0 { Phase::Trailer } else { Phase::Chunk { left } };
                    false
                }
                Phase::Chunk { left } => {
                    let left = self.take(left);
                    if left > 0 || self.buffer.len() < 2 {
                        self.phase = Phase::Chunk { left };
                        return Ok(None);
                    }
                    self.buffer.advance(2);
                    self.phase = Phase::ChunkSize;
                    false
                }
                Phase::Trailer => {
                    let Some(line) = self.line()? else { return Ok(None) };
                    line.is_empty()
                }
            };
            if over {
                self.phase = Phase::Head;
                return Ok(Some(std::mem::replace(&mut self.draft, Draft::new()).finish()));
            }
        }
    }

    /// Reads the head, if it is all here.
    fn head(&mut self) -> Result<bool, NotHttp> {
        let Some(end) = memmem::find(&self.buffer, b"\r\n\r\n") else {
            return if self.buffer.len() > HEAD_BYTES_MAX { Err(NotHttp) } else { Ok(false) };
        };
        let head = self.buffer.split_to(end + 4);
        let mut lines = memchr::memchr_iter(b'\n', &head);
        let first = lines.next().ok_or(NotHttp)?;
        let mut words = head.get(..first).ok_or(NotHttp)?.splitn(3, |byte| *byte == b' ');
        let (Some(_), Some(path), Some(version)) = (words.next(), words.next(), words.next())
        else {
            return Err(NotHttp);
        };
        self.draft.target = Target::of(path);
        self.draft.keep_alive = version.starts_with(b"HTTP/1.1");
        self.phase = Phase::Sized { left: 0 };
        let mut from = first + 1;
        for end in lines {
            let line = head.get(from..end).unwrap_or_default();
            from = end + 1;
            let Some(colon) = memchr::memchr(b':', line) else { continue };
            let (name, value) = line.split_at(colon);
            self.header(name, value.get(1..).unwrap_or_default().trim_ascii())?;
        }
        Ok(true)
    }

    fn header(&mut self, name: &[u8], value: &[u8]) -> Result<(), NotHttp> {
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let left = decimal(value).filter(|left| *left <= BODY_BYTES_MAX).ok_or(NotHttp)?;
                self.phase = Phase::Sized { left };
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.phase = Phase::ChunkSize,
            10 if name.eq_ignore_ascii_case(b"connection") => {
                self.draft.keep_alive = !value.eq_ignore_ascii_case(b"close");
            }
            6 if name.eq_ignore_ascii_case(b"expect") => self.draft.wants_continue = true,
            12 if self.keep && name.eq_ignore_ascii_case(b"x-request-id") => {
                self.draft.id = Some(String::from_utf8_lossy(value).into_owned());
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes what is here of the body; what is left of it afterwards.
    fn take(&mut self, left: u64) -> u64 {
        let here = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let data = self.buffer.split_to(here);
        self.draft.scan.push(&data);
        // Orders are for the engine itself.
        if self.keep || self.draft.target == Target::Fault {
            self.draft.print.push(&data);
            self.draft.body.unsplit(data);
        }
        left - here as u64
    }

    fn line(&mut self) -> Result<Option<BytesMut>, NotHttp> {
        let Some(end) = memchr::memchr(b'\n', &self.buffer) else {
            return if self.buffer.len() > HEAD_BYTES_MAX { Err(NotHttp) } else { Ok(None) };
        };
        let mut line = self.buffer.split_to(end + 1);
        line.truncate(line.trim_ascii_end().len());
        Ok(Some(line))
    }
}

impl Draft {
    fn new() -> Self {
        Self {
            target: Target::Unknown,
            keep_alive: true,
            wants_continue: false,
            id: None,
            body: BytesMut::new(),
            scan: StreamScan::default(),
            print: Fingerprint::default(),
        }
    }

    fn finish(self) -> Request {
        Request {
            target: self.target,
            stream: self.scan.found == Some(true),
            keep_alive: self.keep_alive,
            id: self.id,
            body: self.body.freeze(),
            fingerprint: self.print.value(),
        }
    }
}

/// Looks for `"stream": true` without reading JSON. Inside a string its quotes are escaped.
#[derive(Debug, Default)]
struct StreamScan {
    found: Option<bool>,
    /// The end of what has been looked at.
    tail: Vec<u8>,
}

impl StreamScan {
    fn push(&mut self, data: &[u8]) {
        if self.found.is_some() {
            return;
        }
        if !self.tail.is_empty() {
            let mut seam = std::mem::take(&mut self.tail);
            seam.extend_from_slice(data.get(..OVERLAP_BYTES).unwrap_or(data));
            self.found = scan(&seam);
            if self.found.is_some() {
                return;
            }
            if data.len() < OVERLAP_BYTES {
                self.tail = seam.split_off(seam.len().saturating_sub(OVERLAP_BYTES));
                return;
            }
        }
        self.found = scan(data);
        if self.found.is_none() {
            self.tail =
                data.get(data.len().saturating_sub(OVERLAP_BYTES)..).unwrap_or(data).to_vec();
        }
    }
}

/// What `"stream"` is said to be; none where it is not said, or not to its end.
fn scan(data: &[u8]) -> Option<bool> {
    let at = memmem::find(data, b"\"stream\"")?;
    let value = data.get(at + 8..)?.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    (value.len() >= 4).then(|| value.starts_with(b"true"))
}

fn decimal(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let end = memchr::memchr(b';', line).unwrap_or(line.len());
    let digits = std::str::from_utf8(line.get(..end)?.trim_ascii()).ok()?;
    u64::from_str_radix(digits, 16).ok().filter(|size| *size <= BODY_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZED: &[u8] = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 17\r\nX-Request-Id: r1\r\n\r\n{\"stream\" : true}";
    const CHUNKED: &[u8] = b"POST /v1/embeddings HTTP/1.1\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n5;x=y\r\n{\"inp\r\n6\r\nut\":1}\r\n0\r\n\r\n";

    fn read(bytes: &[u8], piece: usize) -> Vec<Request> {
        let mut reader = Reader::new(true);
        let mut requests = Vec::new();
        for piece in bytes.chunks(piece) {
            reader.buffer.extend_from_slice(piece);
            while let Some(request) = reader.next().unwrap() {
                requests.push(request);
            }
        }
        assert!(!reader.has_begun());
        requests
    }

    #[test]
    fn cuts_requests_however_they_come() {
        let both = [SIZED, CHUNKED, b"GET /health HTTP/1.1\r\n\r\n"].concat();
        for piece in 1..=both.len() {
            let requests = read(&both, piece);
            let facts: Vec<_> = requests
                .iter()
                .map(|request| {
                    (request.target, request.stream, request.keep_alive, request.body.len())
                })
                .collect();
            assert_eq!(
                facts,
                [
                    (Target::Chat, true, true, 17),
                    (Target::Embeddings, false, false, 11),
                    (Target::Health, false, true, 0)
                ],
                "in pieces of {piece}"
            );
            assert_eq!(requests[0].id.as_deref(), Some("r1"));
            assert_eq!(requests[0].fingerprint, Fingerprint::of(b"{\"stream\" : true}"));
        }
    }

    #[test]
    fn reads_stream_only_where_it_is_a_field() {
        let check = |body: &str, stream: bool| {
            let bytes = format!(
                "POST /v1/chat/completions HTTP/1.1\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            for piece in [1, 3, 50, 1000] {
                assert_eq!(read(bytes.as_bytes(), piece)[0].stream, stream, "{body} by {piece}");
            }
        };
        check(r#"{"stream":true,"messages":[]}"#, true);
        check(
            r#"{"stream":false,"x":"a longer text so that the overlap has to move along, and then some"}"#,
            false,
        );
        check(r#"{"m":"say \"stream\":true"}"#, false);
        check(r#"{"stream_options":{"include_usage":true},"stream"  :  true}"#, true);
    }

    #[test]
    fn refuses_what_is_no_request() {
        let refused = |bytes: &[u8]| {
            let mut reader = Reader::new(false);
            reader.buffer.extend_from_slice(bytes);
            reader.next().is_err()
        };
        assert!(refused(b"nonsense\r\n\r\n"));
        assert!(refused(b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n"));
        assert!(refused(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"));
    }
}
