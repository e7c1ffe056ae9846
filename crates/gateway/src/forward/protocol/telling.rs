//! A stream of chat chunks told in another protocol, event by event as they come. It ends with that
//! protocol's own last event, good or bad: never silently.

use std::convert::Infallible;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt as _;
use pilotage_wire::anthropic;
use pilotage_wire::responses;
use pilotage_wire::sse::{self, Decoder};

use super::{Keep, Responding};

/// Who tells it.
pub(super) enum Teller {
    Messages(anthropic::Stream),
    Responses(Box<(responses::Stream, Keep)>),
}

/// The stream of events; events of more than `events_max` bytes break it off.
pub(super) fn body(chunks: Body, teller: Teller, request_id: String, events_max: usize) -> Body {
    let decoder = Decoder::new(events_max);
    let telling = Telling { chunks, decoder, teller, request_id };
    Body::from_stream(stream::unfold(telling, |mut telling| async move {
        let bytes = telling.next().await?;
        Some((Ok::<_, Infallible>(bytes), telling))
    }))
}

struct Telling {
    chunks: Body,
    decoder: Decoder,
    teller: Teller,
    request_id: String,
}

impl Telling {
    /// The next bytes for the client; none when the stream is over.
    async fn next(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        while out.is_empty() && !self.teller.is_over() {
            match self.chunks.frame().await {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    self.take(&data, &mut out);
                }
                Some(Err(_)) | None => {
                    let message = "the answer broke off; retry the request";
                    self.teller.fail(message, &self.request_id, &mut out);
                }
            }
        }
        (!out.is_empty()).then(|| out.into())
    }

    fn take(&mut self, data: &[u8], out: &mut Vec<u8>) {
        if self.decoder.push(data).is_err() {
            let message = "the engine sent what is no stream of events; retry the request";
            self.teller.fail(message, &self.request_id, out);
            return;
        }
        while let Some(event) = self.decoder.next() {
            self.teller.push(&event.data, &self.request_id, out);
        }
        // A comment keeps the connection open: so does what becomes of it.
        if out.is_empty() && data.starts_with(b":") {
            self.teller.keep_open(out);
        }
    }
}

impl Teller {
    pub(super) fn responses(Responding { frame, keep }: Responding) -> Self {
        Self::Responses(Box::new((responses::Stream::new(frame), keep)))
    }

    fn push(&mut self, data: &str, request_id: &str, out: &mut Vec<u8>) {
        match self {
            Self::Messages(stream) => stream.push(data, request_id, out),
            Self::Responses(both) => {
                let (stream, keep) = &mut **both;
                stream.push(data, out);
                // Kept before the client can know that it is complete, and ask for it.
                if let Some(response) = stream.take_response() {
                    keep.put(response["id"].as_str().unwrap_or_default(), &response);
                }
            }
        }
    }

    fn fail(&mut self, message: &str, request_id: &str, out: &mut Vec<u8>) {
        match self {
            Self::Messages(stream) => stream.fail(502, message, request_id, out),
            Self::Responses(both) => both.0.fail(message, out),
        }
    }

    fn keep_open(&self, out: &mut Vec<u8>) {
        match self {
            Self::Messages(_) => sse::encode_event(out, "ping", br#"{"type":"ping"}"#),
            Self::Responses(_) => sse::encode_comment(out, "waiting"),
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Self::Messages(stream) => stream.is_over(),
            Self::Responses(both) => both.0.is_over(),
        }
    }
}
