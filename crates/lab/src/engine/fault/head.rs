//! Faults before the first byte of an answer's body: no answer, another one, or one whose head is not
//! HTTP.

use std::time::Duration;

use bytes::Bytes;

use super::Memory;
use crate::engine::piece::{Act, Part, Piece};
use crate::engine::render;

/// Bytes of the headers that flood a client.
const FLOOD_BYTES: usize = 1 << 20;

/// Does this instead of an answer.
fn instead(piece: &Piece, acts: impl FnOnce() -> Vec<Act>) -> Vec<Act> {
    if piece.part == Part::Begin { acts() } else { Vec::new() }
}

/// Sends this answer, whole, and leaves the connection open.
fn reply(piece: &Piece, status: u16, kind: &str, more: &str, body: &'static str) -> Vec<Act> {
    instead(piece, || {
        vec![
            Act::Raw(render::head(status, kind, body.len(), more)),
            Act::Raw(Bytes::from_static(body.as_bytes())),
            Act::Complete,
        ]
    })
}

fn raw(piece: &Piece, bytes: &'static [u8], then: Act) -> Vec<Act> {
    instead(piece, || vec![Act::Raw(Bytes::from_static(bytes)), then])
}

pub(super) fn reset(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    instead(piece, || vec![Act::Reset])
}

pub(super) fn close(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    instead(piece, || vec![Act::Close])
}

pub(super) fn half_head(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    raw(piece, b"HTTP/1.1 200 OK\r\ncontent-ty", Act::Close)
}

pub(super) fn hang(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    instead(piece, || vec![Act::Hang])
}

pub(super) fn reset_when_reused(piece: &Piece, memory: &mut Memory) -> Vec<Act> {
    if memory.reused { reset(piece, memory) } else { piece.acts() }
}

pub(super) fn engine_dead(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    let body = r#"{"error":{"message":"EngineCore encountered an issue. See stack trace (above) for the root cause.","type":"InternalServerError","param":null,"code":500}}"#;
    reply(piece, 500, "application/json", "", body)
}

pub(super) fn internal_html(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    reply(piece, 500, "text/html", "", "<html><body>Internal Server Error</body></html>")
}

pub(super) fn client_error(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    let body = r#"{"error":{"message":"temperature must be non-negative","type":"BadRequestError","param":"temperature","code":400}}"#;
    reply(piece, 400, "application/json", "", body)
}

pub(super) fn unauthorized(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    reply(piece, 401, "application/json", "", r#"{"error":"Unauthorized"}"#)
}

pub(super) fn not_found_html(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    reply(piece, 404, "text/html", "", "<html><body>Not Found</body></html>")
}

const BUSY: &str = r#"{"error":{"message":"too many requests","type":"rate_limit_error","param":null,"code":429}}"#;

pub(super) fn busy(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    reply(piece, 429, "application/json", "retry-after: 1\r\n", BUSY)
}

pub(super) fn busy_for_a_day(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    reply(piece, 429, "application/json", "retry-after: 86400\r\n", BUSY)
}

pub(super) fn unavailable(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    reply(piece, 503, "text/plain", "", "Service Unavailable")
}

pub(super) fn html(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    reply(piece, 200, "text/html", "", "<html><body>Welcome to nginx!</body></html>")
}

pub(super) fn empty(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    reply(piece, 200, "application/json", "", "")
}

pub(super) fn no_content_with_body(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    reply(piece, 204, "application/json", "", r#"{"choices":[]}"#)
}

pub(super) fn redirect(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    reply(piece, 302, "text/plain", "location: http://127.0.0.1:1/elsewhere\r\n", "")
}

pub(super) fn gzip(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    // What gzip makes of `{}`.
    const GZIPPED: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\x02\xff\xab\xae\x05\0C\xbf\xa6\xa3\x02\0\0\0";
    instead(piece, || {
        let head =
            render::head(200, "application/json", GZIPPED.len(), "content-encoding: gzip\r\n");
        vec![Act::Raw(head), Act::Raw(Bytes::from_static(GZIPPED)), Act::Complete]
    })
}

pub(super) fn header_flood(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    instead(piece, || {
        let line = "x-flood: abcdefghijklmnopqrstuvwxyz\r\n";
        let lines = line.repeat(FLOOD_BYTES / line.len());
        vec![
            Act::Raw(render::head(200, "application/json", 2, &lines)),
            Act::Raw(Bytes::from_static(b"{}")),
            Act::Complete,
        ]
    })
}

pub(super) fn not_http(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    raw(piece, b"SSH-2.0-OpenSSH_9.2\r\n\r\n", Act::Close)
}

pub(super) fn no_head(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    raw(piece, b"{\"choices\":[]}\r\n", Act::Close)
}

pub(super) fn odd_status(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    raw(piece, b"HTTP/1.1 9000 Over\r\ncontent-length: 2\r\n\r\n{}", Act::Close)
}

pub(super) fn nul_header(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    raw(piece, b"HTTP/1.1 200 OK\r\nx-nul: a\0b\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}", Act::Close)
}

pub(super) fn two_lengths(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    raw(piece, b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\ncontent-length: 40\r\n\r\n{}", Act::Close)
}

pub(super) fn negative_length(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    raw(
        piece,
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: -5\r\n\r\n{}",
        Act::Close,
    )
}

/// Sends hints first: answers that are none yet.
pub(super) fn informational(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    if piece.part == Part::Begin {
        let hints =
            b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n";
        return vec![Act::Raw(Bytes::from_static(hints))];
    }
    piece.acts()
}

/// Is slow, but not too slow.
pub(super) fn latency(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    let mut acts = piece.acts();
    acts.insert(0, Act::Pause(Duration::from_millis(10)));
    acts
}

/// Is too slow for whoever has little patience.
pub(super) fn late(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    if piece.part == Part::Begin {
        return vec![Act::Pause(Duration::from_secs(5))];
    }
    piece.acts()
}
