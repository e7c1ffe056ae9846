//! A stream of chat chunks as the events of a message.
//!
//! Blocks follow each other: what opens one closes the one before. A stream ends with
//! `message_stop` where the engine's was complete, and with `error` where it was not.

use serde_json::{Value, json};

use super::answer::{call_id, stop, usage};
use super::error::error;
use crate::openai::answered::{Answered, Piece};
use crate::openai::usage::Usage;
use crate::sse::encode_event;

/// Tells chunks as events.
#[derive(Clone, Debug)]
pub struct Stream {
    id: String,
    model: String,
    begun: bool,
    over: bool,
    /// The block that is being written.
    open: Option<(Kind, u32)>,
    /// Blocks begun so far.
    blocks: u32,
    /// Calls of the answer and their blocks.
    calls: Vec<(u32, u32)>,
    reason: Option<&'static str>,
    stop_text: Option<String>,
    usage: Usage,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Thinking,
    Text,
    Call,
}

impl Stream {
    /// The events of the message with this id.
    pub fn new(id: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            model: model.into(),
            begun: false,
            over: false,
            open: None,
            blocks: 0,
            calls: Vec::new(),
            reason: None,
            stop_text: None,
            usage: Usage::default(),
        }
    }

    /// Takes in an event's data, and appends what it means to `out`; an error names the request.
    pub fn push(&mut self, data: &str, request_id: &str, out: &mut Vec<u8>) {
        if self.over {
            return;
        }
        if data == "[DONE]" {
            self.end(out);
            return;
        }
        let Some(chunk) = Answered::read(data.as_bytes()) else {
            self.fail(502, "the engine sent what is no part of an answer", request_id, out);
            return;
        };
        if let Some(said) = &chunk.error {
            let message = said["message"].as_str().unwrap_or("the engine failed");
            self.fail(502, message, request_id, out);
            return;
        }
        if let Some(usage) = chunk.usage {
            self.usage = usage;
        }
        self.begin(out);
        let Some(choice) = chunk.choices.first() else { return };
        for piece in choice.pieces() {
            self.piece(piece, out);
        }
        if let (Some(reason), text) = stop(choice, !self.calls.is_empty()) {
            self.reason = Some(reason);
            self.stop_text = text.map(str::to_owned);
        }
    }

    /// Ends the stream with an error, unless it has its end.
    pub fn fail(&mut self, status: u16, message: &str, request_id: &str, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.over, true) {
            encode_event(out, "error", &error(status, message, request_id));
        }
    }

    /// Whether it has its end, good or bad.
    pub const fn is_over(&self) -> bool {
        self.over
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let message = json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            "usage": usage(&self.usage),
        });
        write(out, "message_start", json!({"message": message}));
        write(out, "ping", json!({}));
    }

    fn piece(&mut self, piece: Piece<'_>, out: &mut Vec<u8>) {
        match piece {
            Piece::Thought(text) => {
                let empty = json!({"type": "thinking", "thinking": "", "signature": ""});
                let at = self.block(Kind::Thinking, &empty, out);
                delta(out, at, &json!({"type": "thinking_delta", "thinking": text}));
            }
            Piece::Text(text) => {
                let at = self.block(Kind::Text, &json!({"type": "text", "text": ""}), out);
                delta(out, at, &json!({"type": "text_delta", "text": text}));
            }
            Piece::Call { index, id, name, arguments } => {
                let known = self.calls.iter().find(|(call, _)| *call == index);
                let at = known.map(|(_, at)| *at).unwrap_or_else(|| {
                    let id = id.map_or_else(|| call_id(index), str::to_owned);
                    let name = name.unwrap_or_default();
                    let empty = json!({"type": "tool_use", "id": id, "name": name, "input": {}});
                    let at = self.begin_block(Kind::Call, &empty, out);
                    self.calls.push((index, at));
                    at
                });
                if !arguments.is_empty() {
                    let piece = json!({"type": "input_json_delta", "partial_json": arguments});
                    delta(out, at, &piece);
                }
            }
        }
    }

    /// The open block of that kind, or a new one.
    fn block(&mut self, kind: Kind, empty: &Value, out: &mut Vec<u8>) -> u32 {
        match self.open {
            Some((open, at)) if open == kind => at,
            _ => self.begin_block(kind, empty, out),
        }
    }

    fn begin_block(&mut self, kind: Kind, empty: &Value, out: &mut Vec<u8>) -> u32 {
        self.close(out);
        let at = self.blocks;
        self.blocks += 1;
        self.open = Some((kind, at));
        write(out, "content_block_start", json!({"index": at, "content_block": empty}));
        at
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if let Some((_, at)) = self.open.take() {
            write(out, "content_block_stop", json!({"index": at}));
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.begin(out);
        self.close(out);
        self.over = true;
        let reason = self.reason.unwrap_or("end_turn");
        let delta = json!({"stop_reason": reason, "stop_sequence": self.stop_text});
        write(out, "message_delta", json!({"delta": delta, "usage": usage(&self.usage)}));
        write(out, "message_stop", json!({}));
    }
}

fn delta(out: &mut Vec<u8>, at: u32, delta: &Value) {
    write(out, "content_block_delta", json!({"index": at, "delta": delta}));
}

/// An event has its name twice: for the stream, and in its data.
fn write(out: &mut Vec<u8>, name: &str, members: Value) {
    let mut event = json!({"type": name});
    if let (Value::Object(event), Value::Object(members)) = (&mut event, members) {
        event.extend(members);
    }
    encode_event(out, name, event.to_string().as_bytes());
}
