//! The protocol that a client speaks: how its request is told as a chat, and how the answer, whole,
//! as a stream or as an error, is told back. In between everything is a chat request like any other:
//! quotas, turns, retries and records know nothing of this.

mod telling;

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use pilotage_core::TenantId;
use pilotage_shell::id;
use pilotage_wire::openai::error::ApiError;
use pilotage_wire::responses::{Frame, Request};
use pilotage_wire::{anthropic, envelope};
use serde_json::{Value, json};

use super::endpoint::BYTES_PER_TOKEN;
use crate::app::Gateway;
use crate::auth::Caller;
use crate::stored::{Store, Turn};
use telling::Teller;

/// The protocol that a client speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Protocol {
    /// The replicas' own.
    Own,
    /// Anthropic's Messages.
    Messages,
    /// Anthropic's count of a message's tokens.
    Count,
    /// OpenAI's Responses.
    Responses,
}

/// One request's translator.
pub(super) struct Translator {
    protocol: Protocol,
    request_id: String,
    asked: Asked,
}

/// What was asked for, once it was understood.
enum Asked {
    Nothing,
    Message { model: String },
    Count { estimate: usize },
    Response(Box<Responding>),
}

/// A response in the making.
struct Responding {
    frame: Frame,
    keep: Keep,
}

/// Where a response is kept once it is complete.
struct Keep {
    store: Arc<Store>,
    tenant: TenantId,
    wanted: bool,
    input: Vec<Value>,
    history: Vec<Arc<Turn>>,
}

impl Translator {
    pub(super) const fn new(protocol: Protocol, request_id: String) -> Self {
        Self { protocol, request_id, asked: Asked::Nothing }
    }

    /// The body in the replicas' protocol.
    ///
    /// # Errors
    /// Status 400: the body is wrong, or asks for what is not supported; 413: a conversation has
    /// become larger than a body may be.
    pub(super) fn read(
        &mut self,
        gateway: &Gateway,
        caller: &Caller,
        body: Bytes,
    ) -> Result<Bytes, ApiError> {
        match self.protocol {
            Protocol::Own => Ok(body),
            Protocol::Messages => {
                let asked = anthropic::to_chat(&body)?;
                self.asked = Asked::Message { model: asked.model };
                Ok(asked.chat.into())
            }
            Protocol::Count => {
                let asked = anthropic::to_count(&body)?;
                self.asked = Asked::Count { estimate: asked.chat.len() / BYTES_PER_TOKEN };
                Ok(asked.chat.into())
            }
            Protocol::Responses => self.respond(gateway, caller, &body),
        }
    }

    fn respond(
        &mut self,
        gateway: &Gateway,
        caller: &Caller,
        body: &[u8],
    ) -> Result<Bytes, ApiError> {
        let request = Request::read(body)?;
        let store = Arc::clone(&gateway.inner.stored);
        let history = match &request.previous {
            None => Vec::new(),
            Some(id) => store.turns(caller.id, id).ok_or_else(|| {
                let message = "there is no such response to go on from: it was not stored, was \
                               deleted, or is too old; send the conversation as `input`";
                ApiError::invalid_request(message)
                    .with_param("previous_response_id")
                    .with_code("previous_response_not_found")
            })?,
        };
        let items: Vec<Value> = history.iter().flat_map(|turn| turn.items()).collect();
        let chat = request.chat(&items)?;
        let most = gateway.inner.config.limits.body_bytes_max;
        if chat.len() > most {
            return Err(ApiError::too_large(format!(
                "the conversation is larger than {most} bytes by now; begin a new one"
            )));
        }
        let id = format!("resp_{:016x}{:016x}", id::random_u64(), id::random_u64());
        let frame = Frame::new(&request, id, gateway.inner.clock.unix_ms() / 1000);
        let (tenant, wanted, input) = (caller.id, request.store, frame.input(&request));
        let keep = Keep { store, tenant, wanted, input, history };
        self.asked = Asked::Response(Box::new(Responding { frame, keep }));
        Ok(chat.into())
    }

    /// The answer in the client's protocol.
    pub(super) async fn write(self, events_max: usize, response: Response) -> Response {
        if self.protocol == Protocol::Own {
            return response;
        }
        let status = response.status();
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let is_stream = kind.is_some_and(|kind| kind.starts_with("text/event-stream"));
        if status.is_success() && is_stream {
            return self.stream(events_max, response);
        }
        let (mut parts, body) = response.into_parts();
        // It is all here: nothing but streams comes in pieces.
        let body =
            body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let name = match &self.asked {
            Asked::Count { estimate } if is_uncounted(status, &body) => {
                parts.status = StatusCode::OK;
                parts.headers.insert(envelope::COUNT, HeaderValue::from_static("estimated"));
                return json_response(parts, json!({"input_tokens": estimate}).to_string().into());
            }
            _ => HeaderName::from_static("request-id"),
        };
        if self.protocol != Protocol::Responses
            && let Ok(value) = HeaderValue::from_str(&self.request_id)
        {
            parts.headers.insert(name, value);
        }
        if !status.is_success() {
            return self.error(parts, body);
        }
        let told = match self.asked {
            Asked::Count { .. } => {
                parts.headers.insert(envelope::COUNT, HeaderValue::from_static("exact"));
                counted(&body).map(|count| json!({"input_tokens": count}).to_string().into_bytes())
            }
            Asked::Message { ref model } => anthropic::from_chat(&body, &message_id(), model),
            Asked::Response(ref responding) => {
                let response = responding.frame.from_chat(&body);
                response.map(|response| {
                    responding.keep.put(responding.frame.id(), &response);
                    response.to_string().into_bytes()
                })
            }
            Asked::Nothing => None,
        };
        match told {
            Some(body) => json_response(parts, body.into()),
            None => {
                let error = ApiError::upstream("the engine's answer could not be understood");
                parts.status = StatusCode::BAD_GATEWAY;
                self.error(parts, error.body().into())
            }
        }
    }

    /// An error in the client's shape. That of Responses is the one that it comes in.
    fn error(&self, mut parts: http::response::Parts, body: Bytes) -> Response {
        if self.protocol == Protocol::Responses {
            return json_response(parts, body);
        }
        let said = serde_json::from_slice::<Value>(&body).unwrap_or_default();
        let message = said["error"]["message"].as_str().unwrap_or("the request failed");
        let status = parts.status.as_u16();
        let body = anthropic::error(status, message, &self.request_id);
        parts.status =
            StatusCode::from_u16(anthropic::status(status)).unwrap_or(StatusCode::BAD_GATEWAY);
        json_response(parts, body.into())
    }

    fn stream(self, events_max: usize, response: Response) -> Response {
        let teller = match self.asked {
            Asked::Message { model } => {
                Teller::Messages(anthropic::Stream::new(message_id(), model))
            }
            Asked::Response(responding) => Teller::responses(*responding),
            Asked::Count { .. } | Asked::Nothing => return response,
        };
        let (mut parts, body) = response.into_parts();
        if self.protocol == Protocol::Messages
            && let Ok(value) = HeaderValue::from_str(&self.request_id)
        {
            parts.headers.insert("request-id", value);
        }
        Response::from_parts(parts, telling::body(body, teller, self.request_id, events_max))
    }
}

impl Keep {
    /// Keeps a response that is complete, if that was wanted.
    fn put(&self, id: &str, response: &Value) {
        if self.wanted {
            self.store.put(self.tenant, id, response, &self.input, &self.history);
        }
    }
}

fn message_id() -> String {
    format!("msg_{:016x}{:016x}", id::random_u64(), id::random_u64())
}

/// The count in an answer of `/tokenize`, as our engine and vLLM have it.
fn counted(body: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Value>(body).ok()?["count"].as_u64()
}

/// Whether a replica cannot count: it has no such path, or one of another kind.
fn is_uncounted(status: StatusCode, body: &[u8]) -> bool {
    let unknown = matches!(status.as_u16(), 404 | 405 | 501 | 502);
    unknown || (status.is_success() && counted(body).is_none())
}

fn json_response(mut parts: http::response::Parts, body: Bytes) -> Response {
    let kind = HeaderValue::from_static("application/json");
    parts.headers.insert(header::CONTENT_TYPE, kind);
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(body))
}
