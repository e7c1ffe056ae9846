//! A collector, over HTTP or gRPC: one message, and what it makes of it.

use std::future::Future;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Limited};
use prost::Message as _;

use super::config::{Config, Protocol};
use super::message::{ExportResponse, RetryInfo, RpcStatus};
use crate::client::{Client, Incoming};
use crate::grpc::client::{GZIP, framed};
use crate::grpc::{CallError, GrpcClient};
use crate::plain;

/// The method of gRPC.
const METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Characters of what a collector says that are kept.
const MESSAGE_CHARS_MAX: usize = 300;

/// What became of a message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Sent {
    /// The collector has it.
    Taken {
        /// Spans that it refused all the same.
        rejected_spans: u64,
        /// What it says of that.
        message: String,
    },
    /// It may take it later.
    Later {
        /// When, where it says so.
        after: Option<Duration>,
        /// What was wrong.
        why: String,
    },
    /// It will not take it.
    Refused {
        /// What was wrong.
        why: String,
    },
}

/// A message on its way.
pub type Sending<'a> = Pin<Box<dyn Future<Output = Sent> + Send + 'a>>;

/// Takes messages of OTLP. Whoever sends sets a limit on the time.
pub trait Receiver: Send + Sync {
    /// Sends one `ExportTraceServiceRequest`.
    fn send(&self, message: Bytes) -> Sending<'_>;
}

/// The collector of a configuration.
pub(super) fn of(config: &Config) -> io::Result<Box<dyn Receiver>> {
    let trusted = config.certificate.as_deref();
    Ok(match config.protocol {
        Protocol::Http => Box::new(Http {
            client: trusted.map_or_else(Client::new, Client::trusting)?,
            url: config.endpoint.clone(),
            headers: config.headers.clone(),
            gzip: config.gzip,
        }),
        Protocol::Grpc => Box::new(Grpc {
            client: GrpcClient::new(config.endpoint.clone(), trusted)?,
            headers: config.headers.clone(),
            gzip: config.gzip,
        }),
    })
}

struct Http {
    client: Client,
    url: Uri,
    headers: HeaderMap,
    gzip: bool,
}

struct Grpc {
    client: GrpcClient,
    headers: HeaderMap,
    gzip: bool,
}

impl Receiver for Http {
    fn send(&self, message: Bytes) -> Sending<'_> {
        Box::pin(async move {
            match self.answer(message).await {
                Ok(response) => by_answer(response).await,
                Err(why) => Sent::Later { after: None, why },
            }
        })
    }
}

impl Http {
    async fn answer(&self, message: Bytes) -> Result<Response<Incoming>, String> {
        let body = if self.gzip { zipped(&message) } else { message };
        let mut request = Request::new(body);
        *request.method_mut() = http::Method::POST;
        request.uri_mut().clone_from(&self.url);
        let headers = request.headers_mut();
        headers.extend(self.headers.clone());
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        if self.gzip {
            headers.insert(header::CONTENT_ENCODING, GZIP);
        }
        self.client.request(request).await.map_err(|error| error.to_string())
    }
}

/// What an answer means, by OTLP's tables.
async fn by_answer(response: Response<Incoming>) -> Sent {
    let (head, body) = response.into_parts();
    let why = format!("HTTP status {}", head.status.as_u16());
    match head.status {
        StatusCode::OK => match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
            Ok(body) => taken(body.to_bytes()),
            Err(_) => Sent::Refused { why: "its answer cannot be read".to_owned() },
        },
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => {
            let after = head.headers.get(header::RETRY_AFTER);
            // A date would be held against another clock; the usual pauses do as well.
            let after = after.and_then(|after| after.to_str().ok()?.trim().parse().ok());
            Sent::Later { after: after.map(Duration::from_secs), why }
        }
        _ => Sent::Refused { why },
    }
}

impl Receiver for Grpc {
    fn send(&self, message: Bytes) -> Sending<'_> {
        Box::pin(async move {
            let mut headers = self.headers.clone();
            let framed = if self.gzip {
                headers.insert("grpc-encoding", GZIP);
                framed(&zipped(&message), true)
            } else {
                framed(&message, false)
            };
            match self.client.call(METHOD, &headers, framed).await {
                Ok(answer) => taken(answer),
                Err(error) => by_error(&error),
            }
        })
    }
}

/// What a call without an answer means, by OTLP's table of gRPC's codes.
fn by_error(error: &CallError) -> Sent {
    let why = error.to_string();
    let CallError::Refused { code, details, .. } = error else {
        return Sent::Later { after: None, why };
    };
    let after = delay(details);
    match code {
        // Cancelled, deadline exceeded, aborted, out of range, unavailable, data loss.
        1 | 4 | 10 | 11 | 14 | 15 => Sent::Later { after, why },
        // Resource exhausted, where it says that it recovers.
        8 if after.is_some() => Sent::Later { after, why },
        _ => Sent::Refused { why },
    }
}

/// How long a collector asks to wait.
fn delay(details: &Bytes) -> Option<Duration> {
    let status = RpcStatus::decode(details.clone()).ok()?;
    let info = status.details.iter().find(|any| any.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(info.value.as_slice()).ok()?.retry_delay?;
    let seconds = u64::try_from(delay.seconds).ok()?;
    Some(Duration::new(seconds, u32::try_from(delay.nanos).ok()?.min(999_999_999)))
}

/// What a collector says that has taken a message. What cannot be read says nothing.
fn taken(answer: Bytes) -> Sent {
    let answer = ExportResponse::decode(answer).unwrap_or_default();
    let partly = answer.partial_success.unwrap_or_default();
    let message: String = partly.error_message.chars().take(MESSAGE_CHARS_MAX).collect();
    Sent::Taken {
        rejected_spans: u64::try_from(partly.rejected_spans).unwrap_or_default(),
        message: plain::line(&message).into_owned(),
    }
}

fn zipped(message: &[u8]) -> Bytes {
    let mut zipped = GzEncoder::new(Vec::with_capacity(message.len() / 4), Compression::fast());
    // Writing into memory cannot fail.
    let _ = zipped.write_all(message);
    zipped.finish().unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::super::message::{Any, Delay};
    use super::*;

    fn refused(code: u16, details: Bytes) -> CallError {
        CallError::Refused { code, message: String::new(), details }
    }

    #[test]
    fn codes_mean_what_otlp_says() {
        let seconds = Delay { seconds: 2, nanos: 500_000_000 };
        let info = RetryInfo { retry_delay: Some(seconds) }.encode_to_vec();
        let any = Any { type_url: "type.googleapis.com/google.rpc.RetryInfo".into(), value: info };
        let asks = Bytes::from(RpcStatus { details: vec![any] }.encode_to_vec());
        let later = [1, 4, 10, 11, 14, 15];
        for code in 0..20 {
            let is_later = matches!(by_error(&refused(code, Bytes::new())), Sent::Later { .. });
            assert_eq!(is_later, later.contains(&code), "{code}");
        }
        let check =
            |code: u16, expect: Option<Duration>| match by_error(&refused(code, asks.clone())) {
                Sent::Later { after, .. } => assert_eq!(after, expect, "{code}"),
                other => assert_eq!(expect, None, "{code}: {other:?}"),
            };
        check(8, Some(Duration::from_millis(2500)));
        check(14, Some(Duration::from_millis(2500)));
        check(3, None);
        assert!(matches!(by_error(&CallError::Connect(String::new())), Sent::Later { .. }));
        assert!(matches!(by_error(&CallError::Broken(String::new())), Sent::Later { .. }));
    }

    #[test]
    fn what_a_collector_says_is_shown_as_text() {
        let answer = ExportResponse {
            partial_success: Some(super::super::message::PartialSuccess {
                rejected_spans: 3,
                error_message: format!("\u{1b}[2J{}", "x".repeat(1000)),
            }),
        };
        let Sent::Taken { rejected_spans, message } = taken(answer.encode_to_vec().into()) else {
            panic!("it was taken")
        };
        assert_eq!(rejected_spans, 3);
        assert!(message.starts_with("\\u{1b}[2Jxxx") && message.len() < 400);
        let nothing = Sent::Taken { rejected_spans: 0, message: String::new() };
        assert_eq!(taken(Bytes::new()), nothing);
        assert_eq!(taken(Bytes::from_static(b"\xff\xff")), nothing);
    }
}
