//! Faults of framing, where a body is longer or shorter than its head says, and of what health and
//! metrics tell.

use std::time::Duration;

use bytes::Bytes;

use super::Memory;
use crate::engine::piece::{Act, LAST_CHUNK, Part, Piece};
use crate::engine::render;

/// What a client must never see: an answer that nobody asked for.
const STRAY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 17\r\n\r\n{\"stray\":\"answer\"}";
/// Bytes of the metrics that are too large.
const LARGE_BYTES: usize = 100 << 20;
const MEGABYTE: usize = 1 << 20;

/// The head of a whole answer, with another length.
fn relength(piece: &Piece, change: impl Fn(usize) -> usize) -> Vec<Act> {
    let Ok(head) = std::str::from_utf8(&piece.bytes) else { return piece.acts() };
    let lines = head.split("\r\n").map(|line| match line.strip_prefix("content-length: ") {
        Some(length) => format!("content-length: {}", change(length.parse().unwrap_or_default())),
        None => line.to_owned(),
    });
    vec![Act::Raw(lines.collect::<Vec<_>>().join("\r\n").into())]
}

/// Says that the body is shorter than it is: what is left looks like the next answer.
pub(super) fn short_length(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    if piece.part == Part::WholeHead {
        relength(piece, |length| length.saturating_sub(10))
    } else {
        piece.acts()
    }
}

/// Says that the body is longer than it is, then ends.
pub(super) fn long_length(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    match piece.part {
        Part::WholeHead => relength(piece, |length| length + 100),
        Part::Body => vec![Act::Raw(piece.bytes.clone()), Act::Close],
        _ => piece.acts(),
    }
}

/// A body that ends in its middle, and a head that agrees with it.
pub(super) fn half_json(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    match piece.part {
        Part::WholeHead => relength(piece, |length| length / 2),
        Part::Body => vec![Act::Raw(piece.bytes.slice(..piece.bytes.len() / 2))],
        _ => piece.acts(),
    }
}

/// A stream that is said to have a length as well as chunks.
pub(super) fn length_and_chunks(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    if piece.part != Part::StreamHead {
        return piece.acts();
    }
    let head =
        String::from_utf8_lossy(&piece.bytes).replacen("\r\n", "\r\ncontent-length: 5\r\n", 1);
    vec![Act::Raw(head.into())]
}

/// A chunk whose size is no number.
pub(super) fn bad_chunk_size(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    match piece.part {
        Part::Token(3) => vec![Act::Raw(Bytes::from_static(b"zz\r\ndata: {}\r\n")), Act::Hang],
        Part::WholeHead => {
            let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
            vec![Act::Raw(Bytes::from_static(head))]
        }
        Part::Body => vec![Act::Raw(Bytes::from_static(b"-1\r\n{}\r\n")), Act::Hang],
        _ => piece.acts(),
    }
}

/// Sends another answer after the one that was asked for.
pub(super) fn stray_answer(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    let mut acts = piece.acts();
    if matches!(piece.part, Part::End | Part::Body) {
        acts.push(Act::Raw(Bytes::from_static(STRAY)));
    }
    acts
}

/// Ends the connection after an answer without saying so before.
pub(super) fn close_after(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    let mut acts = piece.acts();
    if matches!(piece.part, Part::End | Part::Body) {
        acts.push(Act::Close);
    }
    acts
}

/// Headers after the last chunk.
pub(super) fn trailers(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    if piece.part == Part::End {
        return vec![Act::Raw(Bytes::from_static(
            b"0\r\nx-late: yes\r\ncontent-length: 3\r\n\r\n",
        ))];
    }
    piece.acts()
}

/// A whole answer as a stream's.
pub(super) fn stream_for_json(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    match piece.part {
        Part::WholeHead => vec![Act::Raw(render::stream_head())],
        Part::Body => vec![
            Act::Chunk(Bytes::from_static(render::DONE)),
            Act::Raw(Bytes::from_static(LAST_CHUNK)),
        ],
        _ => piece.acts(),
    }
}

/// No usage in a whole answer, or one that cannot be.
pub(super) fn body_without_usage(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    blank(piece, "\"usage\":{", "\"xsage\":{")
}

/// Says something else of the same length, so that the head stays true.
fn blank(piece: &Piece, from: &str, to: &str) -> Vec<Act> {
    match (piece.part, std::str::from_utf8(&piece.bytes)) {
        (Part::Body, Ok(body)) => vec![Act::Raw(body.replace(from, to).into())],
        _ => piece.acts(),
    }
}

pub(super) fn slow(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    let mut acts = piece.acts();
    if piece.part == Part::Begin {
        acts.push(Act::Pause(Duration::from_secs(3)));
    }
    acts
}

pub(super) fn failing(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    match piece.part {
        Part::Begin => vec![
            Act::Raw(render::json_head(500, 2)),
            Act::Raw(Bytes::from_static(b"{}")),
            Act::Complete,
        ],
        _ => Vec::new(),
    }
}

pub(super) fn large(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    match piece.part {
        Part::WholeHead => {
            vec![Act::Raw(render::head(200, "text/plain; version=1.0.0", LARGE_BYTES, ""))]
        }
        Part::Body => {
            let line = b"vllm:filler{engine=\"0\",model_name=\"scripted\"} 1.0\n";
            let mut block = line.repeat(MEGABYTE / line.len() + 1);
            block.truncate(MEGABYTE);
            let block = Bytes::from(block);
            vec![Act::Raw(block); LARGE_BYTES / MEGABYTE]
        }
        _ => piece.acts(),
    }
}

pub(super) fn garbage(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    match piece.part {
        Part::Body => {
            vec![Act::Raw((0..piece.bytes.len()).map(|at| (at * 31 % 256) as u8).collect())]
        }
        _ => piece.acts(),
    }
}

pub(super) fn not_numbers(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    change_metrics(piece, |line| match line.rsplit_once(' ') {
        Some((name, _)) if !line.starts_with('#') => format!("{name} NaN"),
        _ => line.to_owned(),
    })
}

pub(super) fn renamed(piece: &Piece, _: &mut Memory) -> Vec<Act> {
    change_metrics(piece, |line| line.replace("vllm:", "vllm:v2_"))
}

/// The metrics, line by line; their head goes with them, since it tells their length.
fn change_metrics(piece: &Piece, change: impl Fn(&str) -> String) -> Vec<Act> {
    match piece.part {
        Part::WholeHead => Vec::new(),
        Part::Body => {
            let text = String::from_utf8_lossy(&piece.bytes);
            let lines: Vec<String> = text.lines().map(change).collect();
            let body = Bytes::from(lines.join("\n") + "\n");
            let head =
                render::head(200, "text/plain; version=1.0.0; charset=utf-8", body.len(), "");
            vec![Act::Raw(head), Act::Raw(body)]
        }
        _ => piece.acts(),
    }
}
