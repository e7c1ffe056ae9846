//! What a call is answered.

use bytes::Bytes;
use serde_json::Value;

use super::{Ask, Stream};
use crate::api::failure::Failure;
use crate::store::{Feed, Object};

/// An answer to a call.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Headers, lower-case.
    pub headers: Vec<(&'static str, String)>,
    /// What follows.
    pub payload: Payload,
}

/// What an answer holds.
#[derive(Debug)]
pub enum Payload {
    /// All of it.
    Text(Bytes),
    /// Events, for as long as somebody pulls.
    Stream(Box<Stream>),
    /// Nothing: the connection breaks off.
    Lost,
}

impl Answer {
    pub(super) fn json(status: u16, value: &Value) -> Self {
        Self::text(status, value.to_string())
    }

    pub(super) fn text(status: u16, text: impl Into<Bytes>) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Self { status, headers, payload: Payload::Text(text.into()) }
    }

    /// Says why a call failed.
    pub(super) fn failed(failure: &Failure) -> Self {
        if failure.reason.is_empty() {
            let headers = vec![("content-type", "text/plain; charset=utf-8".to_owned())];
            let text = failure.message.clone().into();
            return Self { status: failure.code, headers, payload: Payload::Text(text) };
        }
        let mut answer = Self::json(failure.code, &failure.status());
        if let Some(seconds) = failure.retry_after_s {
            answer.headers.push(("retry-after", seconds.to_string()));
        }
        answer
    }

    /// Tells of fields that were dropped.
    pub(super) fn warn(mut self, unknown: &[String]) -> Self {
        for field in unknown {
            let field = field.replace(['"', '\\'], "");
            self.headers.push(("warning", format!("299 - \"unknown field \\\"{field}\\\"\"")));
        }
        self
    }
}

impl Ask<'_> {
    /// How this call is told objects.
    pub(super) fn feed(&self) -> Feed {
        let partial = self.call.accept.contains("as=PartialObjectMetadata");
        let opening = if partial {
            r#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","#.to_owned()
        } else {
            let (kind, version) = (&self.resource.kind, self.api_version());
            format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",")
        };
        let told = self.resource.twin.then_some(super::told_as_twin as fn(&mut Value));
        Feed { opening: opening.into(), partial, told }
    }

    pub(super) fn object(&self, status: u16, object: &Object) -> Answer {
        let mut text = Vec::with_capacity(object.rest().len() + 128);
        self.feed().write(object, &mut text);
        Answer::text(status, text)
    }
}
