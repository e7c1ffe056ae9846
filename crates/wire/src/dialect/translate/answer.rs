//! Answers of servers with another API, back in OpenAI's: whole, or as chunks of a stream.

use serde_json::{Value, json};
use thiserror::Error;

use super::{Own, Request, deepspeed, ollama, tgi, triton};
use crate::openai::error::ApiError;
use crate::sse::{self, Decoder, EVENT_BYTES_MAX};

/// What came is no answer of that server.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the engine sent what is no part of an answer")]
pub struct Garbled;

/// Reads the answer to one request.
#[derive(Debug)]
pub struct Reader {
    own: Own,
    is_chat: bool,
    is_stream: bool,
    usage_wanted: bool,
    model: String,
    id: String,
    created: u64,
    cutter: Cutter,
    begun: bool,
    over: bool,
    sum: Sum,
}

/// What is known of the whole answer so far.
#[derive(Debug, Default)]
struct Sum {
    reason: Option<&'static str>,
    prompt_tokens: Option<u64>,
    answer_tokens: Option<u64>,
}

/// How a stream is cut into pieces.
#[derive(Debug)]
enum Cutter {
    Events(Decoder),
    Lines(Vec<u8>),
    /// Not at all: it is one piece.
    Whole(Vec<u8>),
}

/// A piece of an answer.
#[derive(Debug, Default)]
pub(super) struct Piece {
    /// What is new.
    pub(super) text: String,
    /// Why it ends, in OpenAI's words.
    pub(super) reason: Option<&'static str>,
    pub(super) prompt_tokens: Option<u64>,
    /// All of them, as far as this piece knows.
    pub(super) answer_tokens: Option<u64>,
    /// Those of this piece, where they are told one piece at a time.
    pub(super) more_tokens: Option<u64>,
    /// What went wrong.
    pub(super) error: Option<String>,
    /// Nothing comes after it.
    pub(super) is_last: bool,
}

impl Reader {
    pub(super) fn new(own: Own, request: &Request, (id, created): (&str, u64)) -> Self {
        let is_chat = request.is_chat();
        let cutter = match own {
            Own::Triton | Own::Tgi => Cutter::Events(Decoder::default()),
            Own::Ollama => Cutter::Lines(Vec::new()),
            Own::DeepSpeed => Cutter::Whole(Vec::new()),
        };
        let prefix = if is_chat { "chatcmpl" } else { "cmpl" };
        Self {
            own,
            is_chat,
            is_stream: request.stream,
            usage_wanted: request.usage,
            model: request.model.clone(),
            id: format!("{prefix}-{id}"),
            created,
            cutter,
            begun: false,
            over: false,
            sum: Sum::default(),
        }
    }

    /// The API that the answer is told in.
    pub const fn own(&self) -> Own {
        self.own
    }

    /// Whether what comes back is told as a stream.
    pub const fn is_stream(&self) -> bool {
        self.is_stream
    }

    /// A whole answer in OpenAI's words.
    ///
    /// # Errors
    /// It is none.
    pub fn whole(mut self, body: &[u8]) -> Result<Vec<u8>, Garbled> {
        let value: Value = serde_json::from_slice(body).map_err(|_| Garbled)?;
        let piece = self.piece(&value, true)?;
        if let Some(message) = piece.error {
            return Ok(ApiError::upstream(message).body());
        }
        self.sum.add(&piece);
        let reason = self.sum.reason.unwrap_or("stop");
        let mut choice = json!({"index": 0, "logprobs": null, "finish_reason": reason});
        if self.is_chat {
            choice["message"] = json!({"role": "assistant", "content": piece.text});
        } else {
            choice["text"] = piece.text.into();
        }
        let object = if self.is_chat { "chat.completion" } else { "text_completion" };
        let mut answer = self.head(object);
        answer["choices"] = json!([choice]);
        if let Some(usage) = self.sum.usage() {
            answer["usage"] = usage;
        }
        serde_json::to_vec(&answer).map_err(|_| Garbled)
    }

    /// Takes in the next bytes of a stream, and appends what they mean to `out`, as events.
    ///
    /// # Errors
    /// They are no part of an answer; the stream is of no more use.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Garbled> {
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        match &mut self.cutter {
            Cutter::Events(decoder) => {
                decoder.push(bytes).map_err(|_| Garbled)?;
                pieces.extend(std::iter::from_fn(|| decoder.next()).map(|event| event.data.into()));
            }
            Cutter::Lines(rest) => {
                rest.extend_from_slice(bytes);
                while let Some(end) = memchr::memchr(b'\n', rest) {
                    let after = rest.split_off(end + 1);
                    pieces.push(std::mem::replace(rest, after));
                }
                if rest.len() > EVENT_BYTES_MAX {
                    return Err(Garbled);
                }
            }
            Cutter::Whole(all) => {
                all.extend_from_slice(bytes);
                return if all.len() > EVENT_BYTES_MAX { Err(Garbled) } else { Ok(()) };
            }
        }
        pieces.iter().try_for_each(|piece| self.take(piece, out))
    }

    /// The stream ended, and what is still to say is appended to `out`. False where all was said.
    ///
    /// # Errors
    /// It ended in the middle.
    pub fn end(&mut self, out: &mut Vec<u8>) -> Result<bool, Garbled> {
        if self.over {
            return Ok(false);
        }
        let rest = match &mut self.cutter {
            Cutter::Events(decoder) => {
                decoder.finish().map_err(|_| Garbled)?;
                Vec::new()
            }
            Cutter::Lines(rest) | Cutter::Whole(rest) => std::mem::take(rest),
        };
        self.take(&rest, out)?;
        if self.over {
            return Ok(true);
        }
        // Only Triton's streams have no sign of their own that they are complete.
        if !self.begun || self.own != Own::Triton {
            return Err(Garbled);
        }
        self.finish(out);
        Ok(true)
    }

    fn take(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), Garbled> {
        if self.over || data.trim_ascii().is_empty() {
            return Ok(());
        }
        let value: Value = serde_json::from_slice(data).map_err(|_| Garbled)?;
        let is_whole = matches!(self.cutter, Cutter::Whole(_));
        let piece = self.piece(&value, is_whole)?;
        if let Some(message) = piece.error {
            sse::encode_data(out, &ApiError::upstream(message).body());
            self.over = true;
            return Ok(());
        }
        self.sum.add(&piece);
        if self.is_chat && !self.begun {
            self.chunk(json!({"role": "assistant", "content": ""}), None, out);
        }
        self.begun = true;
        if !piece.text.is_empty() {
            self.chunk(json!({"content": piece.text}), None, out);
        }
        if piece.is_last {
            self.finish(out);
        }
        Ok(())
    }

    /// The end of a stream: why, how many tokens, and that it is complete.
    fn finish(&mut self, out: &mut Vec<u8>) {
        self.over = true;
        self.chunk(json!({}), Some(self.sum.reason.unwrap_or("stop")), out);
        if let Some(usage) = self.sum.usage().filter(|_| self.usage_wanted) {
            let mut chunk = self.head(self.object());
            chunk["choices"] = json!([]);
            chunk["usage"] = usage;
            encode(&chunk, out);
        }
        out.extend_from_slice(sse::DONE);
    }

    fn chunk(&self, delta: Value, reason: Option<&str>, out: &mut Vec<u8>) {
        let mut choice = json!({"index": 0, "logprobs": null, "finish_reason": reason});
        if self.is_chat {
            choice["delta"] = delta;
        } else {
            choice["text"] = delta.get("content").cloned().unwrap_or_else(|| "".into());
        }
        let mut chunk = self.head(self.object());
        chunk["choices"] = json!([choice]);
        encode(&chunk, out);
    }

    const fn object(&self) -> &'static str {
        if self.is_chat { "chat.completion.chunk" } else { "text_completion" }
    }

    fn head(&self, object: &str) -> Value {
        json!({"id": self.id, "object": object, "created": self.created, "model": self.model})
    }

    fn piece(&self, value: &Value, is_whole: bool) -> Result<Piece, Garbled> {
        if let Some(error) = value.get("error") {
            let message = error.as_str().map_or_else(|| error.to_string(), str::to_owned);
            return Ok(Piece { error: Some(message), ..Piece::default() });
        }
        let piece = match self.own {
            Own::Triton => triton::piece(value),
            Own::DeepSpeed => deepspeed::piece(value),
            Own::Tgi => tgi::piece(value, is_whole),
            Own::Ollama => ollama::piece(value, self.is_chat),
        };
        piece.ok_or(Garbled)
    }
}

impl Sum {
    fn add(&mut self, piece: &Piece) {
        self.reason = piece.reason.or(self.reason);
        self.prompt_tokens = piece.prompt_tokens.or(self.prompt_tokens);
        let more = piece.more_tokens.map(|more| self.answer_tokens.unwrap_or(0) + more);
        self.answer_tokens = piece.answer_tokens.or(more).or(self.answer_tokens);
    }

    /// How many tokens there were; none where only one of the two is known.
    fn usage(&self) -> Option<Value> {
        let (prompt, answer) = self.prompt_tokens.zip(self.answer_tokens)?;
        Some(json!({
            "prompt_tokens": prompt,
            "completion_tokens": answer,
            "total_tokens": prompt.saturating_add(answer),
        }))
    }
}

fn encode(chunk: &Value, out: &mut Vec<u8>) {
    sse::encode_data(out, &serde_json::to_vec(chunk).unwrap_or_default());
}
