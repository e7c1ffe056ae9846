//! Faults of streams, most of them after their first token; a whole answer is cut in its middle.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::Memory;
use crate::engine::piece::{Act, LAST_CHUNK, Part, Piece};

/// The token at which most of them strike.
const AT: u32 = 3;
/// Bytes of the event that is large.
const LARGE_BYTES: usize = 200_000;

/// Sends half a body, then does this.
fn half(piece: &Piece, then: Act) -> Vec<Act> {
    vec![Act::Raw(piece.bytes.slice(..piece.bytes.len() / 2)), then]
}

/// A stream is struck at its fourth token, a whole answer in the middle of its body.
fn midway(piece: &Piece, then: &[Act]) -> Vec<Act> {
    match piece.part {
        Part::Token(AT) => then.to_vec(),
        Part::Body => half(piece, then.last().cloned().unwrap_or(Act::Reset)),
        _ => piece.acts(),
    }
}

fn chunk(bytes: &'static [u8]) -> Act {
    Act::Chunk(Bytes::from_static(bytes))
}

/// The end of a chunked body, then the end of the connection.
fn ended() -> [Act; 2] {
    [Act::Raw(Bytes::from_static(LAST_CHUNK)), Act::Close]
}

pub(super) fn reset(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    midway(piece, &[Act::Reset])
}

pub(super) fn reset_after_first_token(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    if piece.part == Part::Token(1) { vec![Act::Reset] } else { piece.acts() }
}

pub(super) fn reset_before_first_token(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    if matches!(piece.part, Part::Token(0) | Part::Body) { vec![Act::Reset] } else { piece.acts() }
}

pub(super) fn stall(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    midway(piece, &[Act::Hang])
}

pub(super) fn stall_before_first_token(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    if matches!(piece.part, Part::Token(0) | Part::Body) { vec![Act::Hang] } else { piece.acts() }
}

pub(super) fn half_close(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    midway(piece, &[Act::HalfClose])
}

pub(super) fn slow_first_token(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    let mut acts = piece.acts();
    if matches!(piece.part, Part::Token(0) | Part::Body) {
        acts.insert(0, Act::Pause(Duration::from_millis(100)));
    }
    acts
}

/// Sends a byte now and then: never silent, never done.
pub(super) fn drip(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    let slow = |bytes: &Bytes, act: fn(Bytes) -> Act| {
        let byte = |at| [Act::Pause(Duration::from_millis(50)), act(bytes.slice(at..at + 1))];
        (0..bytes.len()).flat_map(byte).collect()
    };
    match piece.part {
        Part::Token(AT) => slow(&piece.bytes, Act::Chunk),
        Part::Body => slow(&piece.bytes, Act::Raw),
        _ => piece.acts(),
    }
}

/// Says that it is there, and nothing else.
pub(super) fn only_comments(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    if piece.part != Part::Token(AT) {
        return piece.acts();
    }
    let comment = [Act::Pause(Duration::from_millis(50)), chunk(b": ping\n\n")];
    comment.iter().cycle().take(2 * 2000).cloned().collect()
}

pub(super) fn truncated(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    if piece.part == Part::Token(AT) { ended().to_vec() } else { piece.acts() }
}

pub(super) fn no_done(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    if piece.part == Part::Done { Vec::new() } else { piece.acts() }
}

pub(super) fn reset_before_done(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    if piece.part == Part::Done { vec![Act::Reset] } else { piece.acts() }
}

pub(super) fn garbage(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    match piece.part {
        Part::Token(AT) => vec![chunk(b"data: {\"id\": oops\n\n")],
        // Of the same length, so that nothing but its reader can tell.
        Part::Body => vec![Act::Raw(vec![b'~'; piece.bytes.len()].into())],
        _ => piece.acts(),
    }
}

pub(super) fn binary(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    if piece.part == Part::Token(AT) {
        vec![chunk(b"data: \xff\xfe\x80\x00\n\n")]
    } else {
        piece.acts()
    }
}

pub(super) fn json_tail(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    if piece.part != Part::Token(AT) {
        return piece.acts();
    }
    let tail = chunk(b"{\"error\":{\"code\":503,\"message\":\"The model is overloaded.\",\"status\":\"UNAVAILABLE\"}}\n");
    [&[tail], ended().as_slice()].concat()
}

const ERROR: &[u8] = b"data: {\"error\":{\"message\":\"CUDA error: an illegal memory access was encountered\",\"type\":\"InternalServerError\",\"param\":null,\"code\":500}}\n\n";

/// Says that it failed, and then that it is done.
pub(super) fn error_then_done(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    if piece.part == Part::Token(AT) {
        return [&[chunk(ERROR), chunk(b"data: [DONE]\n\n")], ended().as_slice()].concat();
    }
    piece.acts()
}

pub(super) fn error_then_hang(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    if piece.part == Part::Token(AT) { vec![chunk(ERROR), Act::Hang] } else { piece.acts() }
}

/// Fails before its first token, inside of a stream that has begun.
pub(super) fn error_first(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    if piece.part == Part::Token(0) {
        return [&[chunk(ERROR)], ended().as_slice()].concat();
    }
    piece.acts()
}

/// Each byte a chunk.
pub(super) fn split(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    match piece.acts().as_slice() {
        [Act::Chunk(bytes)] => {
            (0..bytes.len()).map(|at| Act::Chunk(bytes.slice(at..at + 1))).collect()
        }
        other => other.to_vec(),
    }
}

pub(super) fn crlf(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    change(piece, |event| event.replace('\n', "\r\n"))
}

/// An event over two lines, which SSE puts together again.
pub(super) fn two_lines(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    change(piece, |event| event.replacen(",\"created\"", ",\ndata: \"created\"", 1))
}

pub(super) fn fields(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    change(piece, |event| format!(": a comment\nid: 1\nretry: 1000\n{event}: another\n\n"))
}

pub(super) fn large_event(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    if piece.part != Part::Token(AT) {
        return piece.acts();
    }
    let filler = format!("{{\"filler\":\"{}\",", "x".repeat(LARGE_BYTES));
    change(piece, |event| event.replacen('{', &filler, 1))
}

/// Two events in one chunk.
pub(super) fn two_events(piece: &Piece, memory: &mut Memory) -> Vec<Act> {
    if matches!(piece.part, Part::Token(_)) && memory.held.is_none() {
        memory.held = Some(piece.bytes.clone());
        return Vec::new();
    }
    match (memory.held.take(), piece.acts().as_slice()) {
        (Some(held), [Act::Chunk(bytes)]) => {
            let mut both = BytesMut::from(held);
            both.put_slice(bytes);
            vec![Act::Chunk(both.freeze())]
        }
        (_, other) => other.to_vec(),
    }
}

pub(super) fn reordered(piece: &Piece, memory: &mut Memory) -> Vec<Act> {
    match piece.part {
        Part::Token(AT) => {
            memory.held = Some(piece.bytes.clone());
            Vec::new()
        }
        _ => piece.acts().into_iter().chain(memory.held.take().map(Act::Chunk)).collect(),
    }
}

pub(super) fn repeated(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    twice(piece, Part::Token(AT))
}

pub(super) fn finished_twice(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    twice(piece, Part::Finish)
}

fn twice(piece: &Piece, part: Part) -> Vec<Act> {
    let mut acts = piece.acts();
    if piece.part == part {
        acts.extend(piece.acts());
    }
    acts
}

pub(super) fn goes_on_after_done(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    let mut acts = piece.acts();
    if piece.part == Part::Done {
        acts.push(chunk(
            b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"more\"}}]}\n\n",
        ));
    }
    acts
}

pub(super) fn no_usage(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    if piece.part == Part::Usage { Vec::new() } else { piece.acts() }
}

pub(super) fn negative_usage(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    if piece.part != Part::Usage {
        return piece.acts();
    }
    change(piece, |event| event.replace("_tokens\":", "_tokens\":-"))
}

pub(super) fn wrong_model(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    change(piece, |event| {
        let Some((before, after)) = event.split_once("\"model\":\"") else {
            return event.to_owned();
        };
        let after = after.split_once('"').map_or("", |(_, after)| after);
        format!("{before}\"model\":\"another\"{after}")
    })
}

/// The event, written otherwise; what is no event stays as it is.
fn change(piece: &Piece, change: impl Fn(&str) -> String) -> Vec<Act> {
    let acts = piece.acts();
    match (acts.as_slice(), std::str::from_utf8(&piece.bytes)) {
        ([Act::Chunk(_)], Ok(event)) => vec![Act::Chunk(change(event).into())],
        _ => acts,
    }
}
