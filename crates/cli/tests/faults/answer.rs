//! One request of a client, and what its answer amounts to.

use std::time::Duration;

use axum::body::Body;
use http::{HeaderMap, Request, header};
use http_body_util::BodyExt as _;
use pilotage_gateway::Gateway;
use pilotage_lab::engine::{Voice, tokens};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::rig::{KEY, TIMEOUTS};

/// Tokens of each answer.
const OUTPUT: usize = 12;

/// What an answer amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All of the answer, and its end.
    Complete,
    /// The beginning of the answer, then the protocol's terminal error.
    Terminal,
    /// An error with a status and the API's shape.
    Error(u16),
    /// An answer that is whole but says something else.
    Other,
    /// What must never be.
    Wrong(String),
}

/// A request, different from all others by its number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) number: usize,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) took: Duration,
}

impl Ask {
    pub(crate) const fn stream(self) -> bool {
        self.number.is_multiple_of(2)
    }

    const fn chat(self) -> bool {
        self.number % 4 != 3
    }

    const fn choices(self) -> usize {
        if self.number % 8 == 4 { 2 } else { 1 }
    }

    fn prompt(self) -> String {
        format!("{} is the number of this request, and it has its own answer", self.number)
    }

    fn body(self) -> Value {
        let mut body = json!({"model": "public", "stream": self.stream(), "max_tokens": OUTPUT, "n": self.choices()});
        if self.chat() {
            body["messages"] = json!([{"role": "user", "content": self.prompt()}]);
        } else {
            body["prompt"] = json!(self.prompt());
        }
        if self.number % 4 == 2 {
            body["stream_options"] = json!({"include_usage": true});
        }
        body
    }

    /// The text that an engine says to it.
    fn text(self) -> String {
        let prompt = if self.chat() { format!("u:{}\n", self.prompt()) } else { self.prompt() };
        let prompt = tokens(prompt.as_bytes());
        Voice::of(&prompt).answer(prompt.len(), OUTPUT)
    }

    pub(crate) async fn send(self, gateway: Gateway) -> Answer {
        let path = if self.chat() { "/v1/chat/completions" } else { "/v1/completions" };
        let request = Request::post(path)
            .header(header::AUTHORIZATION, format!("Bearer {KEY}"))
            .body(Body::from(self.body().to_string()))
            .unwrap();
        let begun = pilotage_shell::clock::Clock::start();
        let response = gateway.router().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        let took = Duration::from_nanos(begun.now_nanos());
        Answer { status: parts.status.as_u16(), headers: parts.headers, body, took }
    }

    /// What an answer to this request amounts to.
    pub(crate) fn judge(self, answer: &Answer) -> Verdict {
        if answer.took > TIMEOUTS.total + Duration::from_millis(500) {
            return Verdict::Wrong(format!("took {:?}", answer.took));
        }
        let Ok(body) = std::str::from_utf8(&answer.body) else {
            return Verdict::Wrong("no text".to_owned());
        };
        let kind =
            answer.headers.get(header::CONTENT_TYPE).map_or("", |kind| kind.to_str().unwrap());
        if answer.headers.contains_key(header::CONTENT_ENCODING) {
            return Verdict::Wrong("compressed".to_owned());
        }
        match answer.status {
            200 if self.stream() && kind.starts_with("text/event-stream") => {
                self.judge_stream(body)
            }
            200 if self.stream() => {
                Verdict::Wrong(format!("200 with {kind} for a stream: {body:.80}"))
            }
            200 if kind.starts_with("application/json") => self.judge_whole(body),
            200 => Verdict::Wrong(format!("200 with {kind}: {body:.80}")),
            status => match serde_json::from_str::<Value>(body) {
                Ok(error) if is_error(&error) => Verdict::Error(status),
                _ => Verdict::Wrong(format!("{status} without the shape of an error: {body:.80}")),
            },
        }
    }

    fn judge_whole(self, body: &str) -> Verdict {
        let Ok(answer) = serde_json::from_str::<Value>(body) else {
            return Verdict::Wrong(format!("200 with what is no JSON: {body:.80}"));
        };
        let Some(choices) = answer["choices"].as_array() else {
            return Verdict::Wrong(format!("200 without choices: {body:.80}"));
        };
        let text = |choice: &Value| {
            choice["message"]["content"]
                .as_str()
                .or_else(|| choice["text"].as_str())
                .map(str::to_owned)
        };
        let expect = self.text();
        let all = choices.len() == self.choices()
            && choices.iter().all(|choice| text(choice).as_ref() == Some(&expect));
        if all { Verdict::Complete } else { Verdict::Other }
    }

    fn judge_stream(self, body: &str) -> Verdict {
        let mut texts = vec![String::new(); self.choices()];
        let (mut done, mut failed) = (false, false);
        for data in events(body) {
            if done || failed {
                return Verdict::Wrong(format!("goes on after its end: {data:.80}"));
            }
            if data == "[DONE]" {
                done = true;
                continue;
            }
            let Ok(event) = serde_json::from_str::<Value>(&data) else {
                return Verdict::Wrong(format!("passes on what is no JSON: {data:.80}"));
            };
            if is_error(&event) {
                failed = true;
                continue;
            }
            for choice in event["choices"].as_array().into_iter().flatten() {
                let index = usize::try_from(choice["index"].as_u64().unwrap_or_default()).unwrap();
                let text = choice["delta"]["content"].as_str().or_else(|| choice["text"].as_str());
                let Some(so_far) = texts.get_mut(index) else {
                    return Verdict::Wrong(format!("has a choice {index}"));
                };
                so_far.push_str(text.unwrap_or_default());
            }
        }
        let expect = self.text();
        match (done, failed) {
            (true, _) if texts.iter().all(|text| *text == expect) => Verdict::Complete,
            (true, _) => Verdict::Other,
            (_, true) if texts.iter().all(|text| expect.starts_with(text.as_str())) => {
                Verdict::Terminal
            }
            (_, true) => Verdict::Wrong(format!("says {texts:?} before its error, not {expect:?}")),
            _ => Verdict::Wrong("ends silently".to_owned()),
        }
    }
}

/// Whether a value is an error in the API's shape.
fn is_error(value: &Value) -> bool {
    let error = &value["error"];
    // An error of OpenAI's may have no code, but it says so.
    let code = error.get("code");
    let is_code = code.is_some_and(|code| code.is_string() || code.is_null());
    error["message"].is_string() && error["type"].is_string() && is_code
}

/// The data of each event of a stream, as its specification has it.
fn events(body: &str) -> Vec<String> {
    let body = body.replace("\r\n", "\n");
    let blocks = body.split("\n\n").map(|block| {
        let lines = block.lines().filter_map(|line| line.strip_prefix("data:"));
        lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>()
    });
    blocks.filter(|lines| !lines.is_empty()).map(|lines| lines.join("\n")).collect()
}
