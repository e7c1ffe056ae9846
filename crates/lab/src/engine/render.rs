//! Answers in the shapes that vLLM gives them.

use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::json;

use super::ask::Ask;

/// The server that answers call themselves.
const SERVER: &str = "uvicorn";

/// Tokens of a request, as an answer's usage tells them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) prompt: usize,
    pub(super) cached: usize,
    pub(super) output: usize,
}

/// What all pieces of one answer have in common.
#[derive(Clone, Debug)]
pub(super) struct Render {
    pub(super) chat: bool,
    /// `chatcmpl-…` or `cmpl-…`.
    pub(super) id: String,
    pub(super) created: u64,
    /// The model, as a JSON string with its quotes.
    pub(super) model: String,
}

/// Status line and headers of a JSON answer.
pub(super) fn json_head(status: u16, length: usize) -> Bytes {
    head(status, "application/json", length, "")
}

/// Status line and headers of an answer with a length; `more` are whole header lines.
pub(super) fn head(status: u16, kind: &str, length: usize, more: &str) -> Bytes {
    let reason = reason(status);
    format!(
        "HTTP/1.1 {status} {reason}\r\nserver: {SERVER}\r\ncontent-length: {length}\r\ncontent-type: {kind}\r\n{more}\r\n"
    )
    .into()
}

/// Status line and headers of a stream.
pub(super) fn stream_head() -> Bytes {
    format!(
        "HTTP/1.1 200 OK\r\nserver: {SERVER}\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    .into()
}

const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        302 => "Found",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

/// An error in vLLM's shape.
pub(super) fn error(status: u16, kind: &str, message: &str) -> Bytes {
    json!({"error": {"message": message, "type": kind, "param": null, "code": status}})
        .to_string()
        .into()
}

/// The event that ends a stream.
pub(super) const DONE: &[u8] = b"data: [DONE]\n\n";

impl Render {
    /// The first event of a chat.
    pub(super) fn role(&self, choice: u32) -> Bytes {
        self.event(&format!(
            r#"{{"index":{choice},"delta":{{"role":"assistant","content":""}},"logprobs":null,"finish_reason":null}}"#
        ))
    }

    /// The event with a token; its text needs no escapes. `id`: the token's own, where it was asked
    /// for.
    pub(super) fn token(&self, choice: u32, text: &str, id: Option<u32>) -> Bytes {
        let ids = id.map_or_else(|| "null".to_owned(), |id| format!("[{id}]"));
        self.event(&if self.chat {
            format!(
                r#"{{"index":{choice},"delta":{{"content":"{text}"}},"logprobs":null,"finish_reason":null,"token_ids":{ids}}}"#
            )
        } else {
            format!(
                r#"{{"index":{choice},"text":"{text}","logprobs":null,"finish_reason":null,"stop_reason":null,"token_ids":{ids}}}"#
            )
        })
    }

    /// The event that says why the answer ends.
    pub(super) fn finish(&self, choice: u32, reason: &str) -> Bytes {
        self.event(&if self.chat {
            format!(
                r#"{{"index":{choice},"delta":{{"content":""}},"logprobs":null,"finish_reason":"{reason}","stop_reason":null,"token_ids":null}}"#
            )
        } else {
            format!(
                r#"{{"index":{choice},"text":"","logprobs":null,"finish_reason":"{reason}","stop_reason":null,"token_ids":null}}"#
            )
        })
    }

    /// The event with the usage.
    pub(super) fn usage(&self, usage: Usage) -> Bytes {
        let mut event = self.begin();
        let _ = write!(event, "],\"usage\":{}}}\n\n", usage.json());
        event.into()
    }

    fn event(&self, choice: &str) -> Bytes {
        let mut event = self.begin();
        event.push_str(choice);
        event.push_str("]}\n\n");
        event.into()
    }

    fn begin(&self) -> String {
        let object = if self.chat { "chat.completion.chunk" } else { "text_completion" };
        let mut event = String::with_capacity(320);
        let _ = write!(
            event,
            r#"data: {{"id":"{}","object":"{object}","created":{},"model":{},"choices":["#,
            self.id, self.created, self.model
        );
        event
    }

    /// A whole answer with the texts of its choices.
    pub(super) fn whole(&self, texts: &[String], reason: &str, usage: Usage) -> Bytes {
        let object = if self.chat { "chat.completion" } else { "text_completion" };
        let mut body = format!(
            r#"{{"id":"{}","object":"{object}","created":{},"model":{},"choices":["#,
            self.id, self.created, self.model
        );
        for (index, text) in texts.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let _ = if self.chat {
                write!(
                    body,
                    r#"{comma}{{"index":{index},"message":{{"role":"assistant","content":"{text}","refusal":null,"annotations":null,"audio":null,"function_call":null,"reasoning":null}},"logprobs":null,"finish_reason":"{reason}","stop_reason":null,"token_ids":null}}"#
                )
            } else {
                write!(
                    body,
                    r#"{comma}{{"index":{index},"text":"{text}","logprobs":null,"finish_reason":"{reason}","stop_reason":null,"token_ids":null,"prompt_logprobs":null,"prompt_token_ids":null}}"#
                )
            };
        }
        let _ = write!(
            body,
            r#"],"service_tier":null,"system_fingerprint":"scripted","usage":{},"prompt_logprobs":null,"kv_transfer_params":null}}"#,
            usage.json()
        );
        body.into()
    }
}

impl Usage {
    fn json(self) -> String {
        let Self { prompt, cached, output } = self;
        let total = prompt + output;
        let details =
            if cached > 0 { format!(r#"{{"cached_tokens":{cached}}}"#) } else { "null".to_owned() };
        format!(
            r#"{{"prompt_tokens":{prompt},"total_tokens":{total},"completion_tokens":{output},"prompt_tokens_details":{details}}}"#
        )
    }
}

/// Vectors for as many inputs as were sent.
pub(super) fn embeddings(ask: &Ask, id: &str, created: u64) -> Bytes {
    let vector = [0.5, -0.5, 0.25, -0.25, 0.125, -0.125, 0.0, 1.0];
    let data: Vec<_> = (0..ask.inputs)
        .map(|index| json!({"index": index, "object": "embedding", "embedding": vector}))
        .collect();
    let prompt = ask.prompt.len();
    json!({
        "id": id, "object": "list", "created": created, "model": ask.model, "data": data,
        "usage": {"prompt_tokens": prompt, "total_tokens": prompt, "completion_tokens": 0, "prompt_tokens_details": null},
    })
    .to_string()
    .into()
}

/// Scores for as many documents as were sent, best first.
pub(super) fn rerank(ask: &Ask, id: &str) -> Bytes {
    let results: Vec<_> = (0..ask.inputs)
        .map(|index| json!({"index": index, "document": {"text": ""}, "relevance_score": 1.0 / (index + 1) as f64}))
        .collect();
    let usage = json!({"total_tokens": ask.prompt.len()});
    json!({"id": id, "model": ask.model, "usage": usage, "results": results}).to_string().into()
}

/// The list of models: the base model, then its adapters.
pub(super) fn models(model: &str, adapters: &[String], created: u64) -> Bytes {
    let one = |id: &str, parent: Option<&str>| json!({"id": id, "object": "model", "created": created, "owned_by": "vllm", "root": id, "parent": parent, "max_model_len": 65536});
    let mut data = vec![one(model, None)];
    data.extend(adapters.iter().map(|adapter| one(adapter, Some(model))));
    json!({"object": "list", "data": data}).to_string().into()
}
