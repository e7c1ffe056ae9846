//! Requests in all the APIs whose answers can go on, and whether what came back is the whole answer, each
//! token once.

use axum::body::Body;
use http::{Request, header};
use http_body_util::BodyExt as _;
use pilotage_gateway::Gateway;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::engine::{PROMPT_TOKENS, prompt, token};

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Api {
    Chat,
    Completions,
    Messages,
    Responses,
}

impl Api {
    pub(super) const ALL: [Self; 4] =
        [Self::Chat, Self::Completions, Self::Messages, Self::Responses];

    const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Messages => "/v1/messages",
            Self::Responses => "/v1/responses",
        }
    }
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub(super) number: u64,
    pub(super) api: Api,
    pub(super) stream: bool,
    pub(super) usage: bool,
    pub(super) tokens: u64,
}

/// What a client puts together.
#[derive(Debug, Default)]
struct Put {
    text: String,
    ids: Vec<String>,
    ends: Vec<String>,
    usages: Vec<(u64, u64)>,
    marks: usize,
    errors: Vec<String>,
}

impl Ask {
    fn body(self) -> Value {
        let (model, stream, said) = ("public", self.stream, prompt(self.number));
        let messages = json!([{"role": "user", "content": said}]);
        let mut body = match self.api {
            Api::Chat => json!({"messages": messages, "max_tokens": self.tokens}),
            Api::Completions => json!({"prompt": said, "max_tokens": self.tokens}),
            Api::Messages => json!({"messages": messages, "max_tokens": self.tokens}),
            Api::Responses => {
                json!({"input": said, "max_output_tokens": self.tokens, "store": false})
            }
        };
        body["model"] = json!(model);
        body["stream"] = json!(stream);
        if self.usage && stream && matches!(self.api, Api::Chat | Api::Completions) {
            body["stream_options"] = json!({"include_usage": true});
        }
        body
    }

    /// Sends it, and says what is wrong with its answer.
    pub(super) async fn send(self, gateway: &Gateway, key: &str) -> Result<(), String> {
        let request = Request::post(self.api.path())
            .header(header::AUTHORIZATION, format!("Bearer {key}"))
            .header("anthropic-version", "2023-06-01")
            .body(Body::from(self.body().to_string()))
            .unwrap();
        let response = gateway.router().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        let judged = match status {
            200 if self.stream => self.judge_stream(&body),
            200 => self.judge_whole(&body),
            _ => Err("refused".to_owned()),
        };
        let end: String =
            body.chars().rev().take(600).collect::<Vec<_>>().into_iter().rev().collect();
        judged.map_err(|wrong| format!("{self:?}: {status}, {wrong}: …{end}"))
    }

    fn judge_whole(self, body: &str) -> Result<(), String> {
        let value: Value = serde_json::from_str(body).map_err(|_| "no JSON")?;
        let text = match self.api {
            Api::Chat => &value["choices"][0]["message"]["content"],
            Api::Completions => &value["choices"][0]["text"],
            Api::Messages => &value["content"][0]["text"],
            Api::Responses => &value["output"][0]["content"][0]["text"],
        };
        self.is_said(text.as_str().unwrap_or_default())?;
        let usage = usage(&value["usage"]).ok_or("no usage")?;
        self.is_counted(usage)
    }

    fn judge_stream(self, body: &str) -> Result<(), String> {
        let mut put = Put::default();
        for data in body.lines().filter_map(|line| line.strip_prefix("data: ")) {
            if put.marks > 0 {
                return Err("goes on after its end".to_owned());
            }
            if data == "[DONE]" {
                put.marks += 1;
                continue;
            }
            let value: Value =
                serde_json::from_str(data).map_err(|_| format!("no JSON: {data}"))?;
            if data.contains("token_ids") {
                return Err("tells ids that nobody asked for".to_owned());
            }
            match self.api {
                Api::Chat | Api::Completions => put.chunk(&value),
                Api::Messages => put.message(&value),
                Api::Responses => put.response(&value),
            }
        }
        if !put.errors.is_empty() || put.marks != 1 || put.ends.len() != 1 {
            return Err(format!("does not end well: {:?} {:?}", put.errors, put.ends));
        }
        self.is_said(&put.text)?;
        put.ids.dedup();
        if put.ids.len() > 1 {
            return Err(format!("has several ids: {:?}", put.ids));
        }
        let counts = self.usage || matches!(self.api, Api::Messages | Api::Responses);
        match put.usages.as_slice() {
            [] if !counts => Ok(()),
            [usage] if counts => self.is_counted(*usage),
            other => Err(format!("counts {other:?}")),
        }
    }

    /// Whether text is the answer; if not, the first token that differs.
    fn is_said(self, text: &str) -> Result<(), String> {
        let mut left = text;
        for index in 0..self.tokens {
            let expect = token(self.number, index);
            left = left.strip_prefix(expect.as_str()).ok_or_else(|| {
                format!("token {index} is not {expect:?} but {:?}", left.get(..24).unwrap_or(left))
            })?;
        }
        if left.is_empty() { Ok(()) } else { Err(format!("says {left:?} after its end")) }
    }

    fn is_counted(self, usage: (u64, u64)) -> Result<(), String> {
        let expect = (PROMPT_TOKENS, self.tokens);
        if usage == expect { Ok(()) } else { Err(format!("counts {usage:?}, not {expect:?}")) }
    }
}

impl Put {
    fn chunk(&mut self, value: &Value) {
        if value.get("error").is_some() {
            self.errors.push(value.to_string());
            return;
        }
        self.ids.push(value["id"].to_string());
        for choice in value["choices"].as_array().into_iter().flatten() {
            let text = choice["delta"]["content"].as_str().or_else(|| choice["text"].as_str());
            self.text.push_str(text.unwrap_or_default());
            self.ends.extend(choice["finish_reason"].as_str().map(str::to_owned));
        }
        self.usages.extend(usage(&value["usage"]));
    }

    fn message(&mut self, value: &Value) {
        match value["type"].as_str().unwrap_or_default() {
            "message_start" => self.ids.push(value["message"]["id"].to_string()),
            "content_block_delta" => {
                self.text.push_str(value["delta"]["text"].as_str().unwrap_or_default());
            }
            "message_delta" => {
                self.ends.extend(value["delta"]["stop_reason"].as_str().map(str::to_owned));
                self.usages.extend(usage(&value["usage"]));
            }
            "message_stop" => self.marks += 1,
            "error" => self.errors.push(value.to_string()),
            _ => {}
        }
    }

    fn response(&mut self, value: &Value) {
        let response = &value["response"];
        if response.is_object() {
            self.ids.push(response["id"].to_string());
        }
        match value["type"].as_str().unwrap_or_default() {
            "response.output_text.delta" => {
                self.text.push_str(value["delta"].as_str().unwrap_or_default());
            }
            "response.completed" => {
                self.marks += 1;
                self.ends.push("completed".to_owned());
                self.usages.extend(usage(&response["usage"]));
                let whole = response["output"][0]["content"][0]["text"].as_str();
                if whole != Some(self.text.as_str()) {
                    self.errors.push(format!("says {whole:?} at its end"));
                }
            }
            "error" | "response.failed" | "response.incomplete" => {
                self.errors.push(value.to_string());
            }
            _ => {}
        }
    }
}

/// Tokens of prompt and answer.
fn usage(value: &Value) -> Option<(u64, u64)> {
    let number = |one: &str, other: &str| value[one].as_u64().or_else(|| value[other].as_u64());
    Some((number("prompt_tokens", "input_tokens")?, number("completion_tokens", "output_tokens")?))
}
