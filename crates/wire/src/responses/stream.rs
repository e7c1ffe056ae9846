//! A stream of chat chunks as the typed events of a response, numbered from zero.
//!
//! Items follow each other: what opens one closes the one before. The last event is
//! `response.completed`, `response.incomplete` or `response.failed`.

use serde_json::{Map, Value, json};

use super::answer::{self, Frame, Status};
use crate::openai::answered::{Answered, Piece};
use crate::openai::usage::Usage;
use crate::sse::encode_event;

/// Tells chunks as events.
#[derive(Clone, Debug)]
pub struct Stream {
    frame: Frame,
    sequence: u64,
    begun: bool,
    over: bool,
    open: Option<Open>,
    /// The items that are complete.
    output: Vec<Value>,
    status: Option<Status>,
    usage: Option<Usage>,
    /// The response, once it is complete.
    response: Option<Value>,
}

/// The item that is being written.
#[derive(Clone, Debug)]
struct Open {
    item: Item,
    id: String,
    text: String,
}

#[derive(Clone, Debug)]
enum Item {
    Thought,
    Message { logprobs: Vec<Value> },
    Call { index: u32, id: String, name: String },
}

impl Stream {
    /// The events of the response with this frame.
    pub const fn new(frame: Frame) -> Self {
        Self {
            frame,
            sequence: 0,
            begun: false,
            over: false,
            open: None,
            output: Vec::new(),
            status: None,
            usage: None,
            response: None,
        }
    }

    /// Takes in an event's data, and appends what it means to `out`.
    pub fn push(&mut self, data: &str, out: &mut Vec<u8>) {
        if self.over {
            return;
        }
        if data == "[DONE]" {
            self.end(out);
            return;
        }
        let Some(chunk) = Answered::read(data.as_bytes()) else {
            self.fail("the engine sent what is no part of an answer", out);
            return;
        };
        if let Some(said) = &chunk.error {
            self.fail(said["message"].as_str().unwrap_or("the engine failed"), out);
            return;
        }
        self.usage = chunk.usage.or_else(|| self.usage.take());
        self.begin(out);
        let Some(choice) = chunk.choices.first() else { return };
        let logprobs = choice.logprobs.clone().unwrap_or_default().content;
        for piece in choice.pieces() {
            self.piece(piece, &logprobs, out);
        }
        self.status = answer::status(choice).or(self.status);
    }

    /// Ends the stream as failed, unless it has its end.
    pub fn fail(&mut self, message: &str, out: &mut Vec<u8>) {
        if self.over {
            return;
        }
        self.begin(out);
        self.over = true;
        let response = self.frame.failed(std::mem::take(&mut self.output), "server_error", message);
        self.write(out, "response.failed", json!({"response": response}));
    }

    /// Whether it has its end, good or bad.
    pub const fn is_over(&self) -> bool {
        self.over
    }

    /// The response, once, when it is complete.
    pub const fn take_response(&mut self) -> Option<Value> {
        self.response.take()
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let response = self.frame.object(Status::Running, Vec::new(), None);
        for name in ["response.created", "response.in_progress"] {
            self.write(out, name, json!({"response": response}));
        }
    }

    fn piece(&mut self, piece: Piece<'_>, logprobs: &[Value], out: &mut Vec<u8>) {
        match (piece, self.open.as_ref().map(|open| &open.item)) {
            (Piece::Thought(_), Some(Item::Thought))
            | (Piece::Text(_), Some(Item::Message { .. })) => {}
            (Piece::Call { index, .. }, Some(Item::Call { index: open, .. })) if index == *open => {
            }
            (piece, _) => self.open(piece, out),
        }
        let Some(open) = &mut self.open else { return };
        let (name, text) = match piece {
            Piece::Thought(text) => ("response.reasoning_text.delta", text),
            Piece::Text(text) => ("response.output_text.delta", text),
            Piece::Call { arguments, .. } => ("response.function_call_arguments.delta", arguments),
        };
        open.text.push_str(text);
        if text.is_empty() {
            return;
        }
        let mut members = self.place();
        if !matches!(piece, Piece::Call { .. }) {
            members.insert("content_index".to_owned(), 0.into());
        }
        members.insert("delta".to_owned(), text.into());
        if let Some(Open { item: Item::Message { logprobs: all }, .. }) = &mut self.open {
            all.extend_from_slice(logprobs);
            members.insert("logprobs".to_owned(), logprobs.into());
        }
        self.write(out, name, Value::Object(members));
    }

    /// Closes the open item and opens the one that this piece belongs to.
    fn open(&mut self, piece: Piece<'_>, out: &mut Vec<u8>) {
        self.close(Status::Completed, out);
        let at = self.at();
        let (item, id, shown) = match piece {
            Piece::Thought(_) => {
                let id = self.frame.item_id("rs", at);
                let shown = answer::thought(&id, None);
                (Item::Thought, id, shown)
            }
            Piece::Text(_) => {
                let id = self.frame.item_id("msg", at);
                let shown = answer::message(&id, "in_progress", &[]);
                (Item::Message { logprobs: Vec::new() }, id, shown)
            }
            Piece::Call { index, id, name, .. } => {
                let call = id.map(str::to_owned);
                let call = call.unwrap_or_else(|| answer::call_id(self.frame.id(), index));
                let name = name.unwrap_or_default().to_owned();
                let id = self.frame.item_id("fc", at);
                let shown = answer::call(&id, &call, &name, None);
                (Item::Call { index, id: call, name }, id, shown)
            }
        };
        self.write(out, "response.output_item.added", json!({"output_index": at, "item": shown}));
        let part = match item {
            Item::Thought => Some(json!({"type": "reasoning_text", "text": ""})),
            Item::Message { .. } => Some(answer::text_part("", &[])),
            Item::Call { .. } => None,
        };
        self.open = Some(Open { item, id, text: String::new() });
        if let Some(part) = part {
            self.write_part(out, "response.content_part.added", part);
        }
    }

    fn close(&mut self, status: Status, out: &mut Vec<u8>) {
        let Some(Open { item, id, text }) = self.open.clone() else { return };
        let mut members = self.place();
        let done = match item {
            Item::Thought => {
                members.insert("content_index".to_owned(), 0.into());
                members.insert("text".to_owned(), text.as_str().into());
                self.write(out, "response.reasoning_text.done", Value::Object(members));
                let part = json!({"type": "reasoning_text", "text": text});
                self.write_part(out, "response.content_part.done", part);
                answer::thought(&id, Some(&text))
            }
            Item::Message { logprobs } => {
                members.insert("content_index".to_owned(), 0.into());
                members.insert("text".to_owned(), text.as_str().into());
                members.insert("logprobs".to_owned(), logprobs.as_slice().into());
                self.write(out, "response.output_text.done", Value::Object(members));
                let part = answer::text_part(&text, &logprobs);
                self.write_part(out, "response.content_part.done", part.clone());
                answer::message(&id, status.name(), &[part])
            }
            Item::Call { id: call, name, .. } => {
                members.insert("name".to_owned(), name.as_str().into());
                members.insert("arguments".to_owned(), text.as_str().into());
                self.write(out, "response.function_call_arguments.done", Value::Object(members));
                answer::call(&id, &call, &name, Some(&text))
            }
        };
        let at = self.at();
        self.write(out, "response.output_item.done", json!({"output_index": at, "item": done}));
        self.output.push(done);
        self.open = None;
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.begin(out);
        let status = self.status.unwrap_or(Status::Completed);
        self.close(status, out);
        self.over = true;
        let output = std::mem::take(&mut self.output);
        let response = self.frame.object(status, output, self.usage.as_ref());
        let name = match status {
            Status::Incomplete(_) => "response.incomplete",
            _ => "response.completed",
        };
        self.write(out, name, json!({"response": response}));
        self.response = Some(response);
    }

    /// Where the open item is, or the next one will be.
    fn at(&self) -> u32 {
        u32::try_from(self.output.len()).unwrap_or(u32::MAX)
    }

    fn place(&self) -> Map<String, Value> {
        let mut members = Map::new();
        members.insert("output_index".to_owned(), self.at().into());
        let id = self.open.as_ref().map(|open| open.id.as_str()).unwrap_or_default();
        members.insert("item_id".to_owned(), id.into());
        members
    }

    fn write_part(&mut self, out: &mut Vec<u8>, name: &str, part: Value) {
        let mut members = self.place();
        members.insert("content_index".to_owned(), 0.into());
        members.insert("part".to_owned(), part);
        self.write(out, name, Value::Object(members));
    }

    /// An event has its name twice: for the stream, and in its data.
    fn write(&mut self, out: &mut Vec<u8>, name: &str, members: Value) {
        let mut event = json!({"type": name, "sequence_number": self.sequence});
        self.sequence += 1;
        if let (Value::Object(event), Value::Object(members)) = (&mut event, members) {
            event.extend(members);
        }
        encode_event(out, name, event.to_string().as_bytes());
    }
}
