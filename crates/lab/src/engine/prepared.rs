//! Answers of an instant engine, rendered once: all requests get the same bytes.

use bytes::{Bytes, BytesMut};

use super::ask::Ask;
use super::config::EngineConfig;
use super::piece::{LAST_CHUNK, put_chunk};
use super::render::{self, Render, Usage};
use super::request::Target;

/// Prompt tokens that prepared answers claim.
const PROMPT_TOKENS: usize = 32;

#[derive(Debug)]
pub(super) struct Prepared {
    chat: Bytes,
    completions: Bytes,
    embeddings: Bytes,
    rerank: Bytes,
    pub(super) chat_stream: PreparedStream,
    pub(super) completions_stream: PreparedStream,
}

/// A stream, ready to be written.
#[derive(Debug)]
pub(super) struct PreparedStream {
    /// Head, and the event before the first token.
    pub(super) opening: Bytes,
    /// As many events as go into one write.
    pub(super) block: Bytes,
    /// Length of one event in it.
    pub(super) chunk_bytes: usize,
    /// Everything after the last token.
    pub(super) closing: Bytes,
}

impl Prepared {
    pub(super) fn new(config: &EngineConfig, created: u64) -> Self {
        let model = serde_json::Value::from(config.model.as_str()).to_string();
        let render = |chat: bool| {
            let id = if chat { "chatcmpl-0000000000000000" } else { "cmpl-0000000000000000" };
            Render { chat, id: id.to_owned(), created, model: model.clone() }
        };
        let output = config.answer.chunks as usize;
        let usage = Usage { prompt: PROMPT_TOKENS, cached: 0, output };
        let text = vec![" abc".repeat(output)];
        let whole = |chat: bool| with_head(&render(chat).whole(&text, "stop", usage));
        let ask = Ask {
            model: config.model.clone(),
            prompt: vec![0; PROMPT_TOKENS],
            output_max: None,
            choices: 1,
            usage: true,
            token_ids: false,
            inputs: 1,
        };
        Self {
            chat: whole(true),
            completions: whole(false),
            embeddings: with_head(&render::embeddings(&ask, "embd-0000000000000000", created)),
            rerank: with_head(&render::rerank(&ask, "rerank-0000000000000000")),
            chat_stream: PreparedStream::new(&render(true), config, usage),
            completions_stream: PreparedStream::new(&render(false), config, usage),
        }
    }

    pub(super) const fn whole(&self, target: Target) -> &Bytes {
        match target {
            Target::Completions => &self.completions,
            Target::Embeddings => &self.embeddings,
            Target::Rerank => &self.rerank,
            Target::Chat
            | Target::Models
            | Target::Health
            | Target::Metrics
            | Target::Stats
            | Target::Fault
            | Target::Unknown => &self.chat,
        }
    }
}

impl PreparedStream {
    fn new(render: &Render, config: &EngineConfig, usage: Usage) -> Self {
        let shape = config.answer;
        let mut opening = BytesMut::from(render::stream_head());
        if render.chat {
            put_chunk(&mut opening, &render.role(0));
        }
        let shortest = render.token(0, " abc", None).len();
        let filler = "x".repeat(shape.chunk_bytes.saturating_sub(shortest));
        let token = render.token(0, &format!(" abc{filler}"), None);
        let mut block = BytesMut::new();
        put_chunk(&mut block, &token);
        let chunk = block.clone();
        for _ in 1..shape.chunks_per_write.min(shape.chunks).max(1) {
            block.extend_from_slice(&chunk);
        }
        let mut closing = BytesMut::new();
        put_chunk(&mut closing, &render.finish(0, "stop"));
        put_chunk(&mut closing, &render.usage(usage));
        put_chunk(&mut closing, render::DONE);
        closing.extend_from_slice(LAST_CHUNK);
        Self {
            opening: opening.freeze(),
            block: block.freeze(),
            chunk_bytes: chunk.len(),
            closing: closing.freeze(),
        }
    }
}

fn with_head(body: &Bytes) -> Bytes {
    let mut whole = BytesMut::from(render::json_head(200, body.len()));
    whole.extend_from_slice(body);
    whole.freeze()
}
