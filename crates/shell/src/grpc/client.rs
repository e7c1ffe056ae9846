//! Calls of one server's methods: one message there, one back, over a connection that is opened when it is needed
//! and again when it broke.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower::Service as _;

use super::frame::Frames;
use super::{Code, MEDIA_TYPE};
use crate::client::{self, CONNECT_TIMEOUT};
use crate::dial::Dialer;
use crate::dns::Resolver;
use crate::{plain, tasks};

/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Characters of a message that are kept.
const MESSAGE_CHARS_MAX: usize = 300;

/// A server, and the connection to it.
pub struct GrpcClient {
    server: Uri,
    dialer: Dialer,
    tls: Option<TlsConnector>,
    /// The connection while no call uses it: one whose call was given up is not used again.
    open: Mutex<Option<SendRequest<Bytes>>>,
}

impl fmt::Debug for GrpcClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcClient").field("server", &self.server).finish_non_exhaustive()
    }
}

/// Why a call brought no answer.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
pub enum CallError {
    /// There is no connection, so the server has seen nothing.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The connection broke; the server may have seen the call.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The server refused.
    #[error("the server answered with code {code}: {message}")]
    Refused {
        /// The code of gRPC, which may be one that is not in [`Code`].
        code: u16,
        /// What it says of that, cut to some length and fit to be shown.
        message: String,
        /// Details, a `google.rpc.Status`; empty where there are none.
        details: Bytes,
    },
}

impl GrpcClient {
    /// A client of the server at that URL, `http` or `https`, of which only scheme, host and port count. For
    /// TLS it trusts these certificates (PEM) alone, or the system's where there are none.
    ///
    /// # Errors
    /// The certificates cannot be used.
    pub fn new(server: Uri, trusted: Option<&[u8]>) -> std::io::Result<Self> {
        let tls = match server.scheme_str() {
            Some("https") => {
                let mut config = client::tls(trusted)?;
                config.alpn_protocols = vec![b"h2".to_vec()];
                Some(TlsConnector::from(Arc::new(config)))
            }
            _ => None,
        };
        let dialer = Dialer::new(Resolver::system(), CONNECT_TIMEOUT);
        Ok(Self { server, dialer, tls, open: Mutex::new(None) })
    }

    /// Calls the method at `/package.Service/Method` with a message as [`framed`] makes it, and returns the message
    /// of the answer.
    ///
    /// # Errors
    /// [`CallError`]; the caller sets a limit on the time.
    pub async fn call(
        &self,
        method: &str,
        headers: &HeaderMap,
        framed: Bytes,
    ) -> Result<Bytes, CallError> {
        let mut connection = self.connection().await?;
        let answer = self.exchange(&mut connection, method, headers, framed).await;
        if matches!(answer, Ok(_) | Err(CallError::Refused { .. })) {
            *self.open.lock() = Some(connection);
        }
        answer
    }

    async fn exchange(
        &self,
        connection: &mut SendRequest<Bytes>,
        method: &str,
        headers: &HeaderMap,
        framed: Bytes,
    ) -> Result<Bytes, CallError> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let host = self.server.authority().map_or("", |authority| authority.as_str());
        let mut request = Request::post(format!("{scheme}://{host}{method}"))
            .header(header::CONTENT_TYPE, MEDIA_TYPE)
            .header(header::TE, "trailers")
            .body(())
            .map_err(|error| CallError::Connect(error.to_string()))?;
        request.headers_mut().extend(headers.clone());
        let (answer, mut body) = connection.send_request(request, false).map_err(broken)?;
        body.send_data(framed, true).map_err(broken)?;
        let (head, body) = answer.await.map_err(broken)?.into_parts();
        if head.status != StatusCode::OK {
            return Err(by_status(head.status));
        }
        let (answer, trailers) = read(body).await?;
        // An answer without a message may have its end in its head.
        ended(trailers.as_ref().unwrap_or(&head.headers))?;
        let mut frames = Frames::new(ANSWER_BYTES_MAX);
        frames.push(&answer);
        match frames.take() {
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err(CallError::Broken("there is no message in the answer".to_owned())),
            Err(status) => Err(refused(status.code as u16, &status.message)),
        }
    }

    /// The connection, opened where there is none that works.
    async fn connection(&self) -> Result<SendRequest<Bytes>, CallError> {
        let waits = self.open.lock().take();
        if let Some(connection) = waits
            && let Ok(ready) = connection.ready().await
        {
            return Ok(ready);
        }
        self.connect().await?.ready().await.map_err(broken)
    }

    async fn connect(&self) -> Result<SendRequest<Bytes>, CallError> {
        let opened = self.dialer.clone().call(self.server.clone()).await;
        let socket = opened.map_err(|error| CallError::Connect(client::deepest(&error)))?;
        let socket: TcpStream = TokioIo::into_inner(socket);
        let Some(tls) = &self.tls else { return shake_hands(socket).await };
        let host = self.server.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name =
            ServerName::try_from(host).map_err(|error| CallError::Connect(error.to_string()))?;
        let encrypted = tls.connect(name, socket).await;
        let encrypted = encrypted.map_err(|error| CallError::Connect(client::deepest(&error)))?;
        if encrypted.get_ref().1.alpn_protocol() != Some(b"h2") {
            let message = "the server does not speak HTTP/2 there";
            return Err(CallError::Connect(message.to_owned()));
        }
        shake_hands(encrypted).await
    }
}

async fn shake_hands<S>(socket: S) -> Result<SendRequest<Bytes>, CallError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (requests, connection) = h2::client::handshake(socket).await.map_err(broken)?;
    // It ends when nobody holds its requests, or the server closes it.
    drop(tasks::spawn("gRPC connection", connection));
    Ok(requests)
}

/// A body and its trailers.
async fn read(mut body: RecvStream) -> Result<(Bytes, Option<HeaderMap>), CallError> {
    let mut bytes = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(broken)?;
        let _ = body.flow_control().release_capacity(data.len());
        if bytes.len() + data.len() > ANSWER_BYTES_MAX {
            return Err(refused(Code::ResourceExhausted as u16, "its answer is too large"));
        }
        bytes.extend_from_slice(&data);
    }
    let trailers = body.trailers().await.map_err(broken)?;
    Ok((bytes.freeze(), trailers))
}

/// How a call ended, by its trailers.
fn ended(trailers: &HeaderMap) -> Result<(), CallError> {
    let text = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok());
    let code = text("grpc-status").and_then(|code| code.parse::<u16>().ok());
    match code {
        Some(0) => Ok(()),
        Some(code) => {
            let details = text("grpc-status-details-bin").map(|bin| bin.trim_end_matches('='));
            let details = details.and_then(|bin| STANDARD_NO_PAD.decode(bin).ok());
            let message = text("grpc-message").unwrap_or_default();
            let CallError::Refused { code, message, .. } = refused(code, &unescape(message)) else {
                return Ok(());
            };
            Err(CallError::Refused { code, message, details: details.unwrap_or_default().into() })
        }
        None => Err(CallError::Broken("the answer does not say how the call ended".to_owned())),
    }
}

fn refused(code: u16, message: &str) -> CallError {
    let message: String = message.chars().take(MESSAGE_CHARS_MAX).collect();
    CallError::Refused { code, message: plain::line(&message).into_owned(), details: Bytes::new() }
}

/// What an answer that is none of gRPC's means (gRPC's "HTTP to gRPC Status Code Mapping").
fn by_status(status: StatusCode) -> CallError {
    let code = match status.as_u16() {
        400 => Code::Internal as u16,
        401 => Code::Unauthenticated as u16,
        403 => Code::PermissionDenied as u16,
        404 => Code::Unimplemented as u16,
        429 | 502 | 503 | 504 => Code::Unavailable as u16,
        // Unknown.
        _ => 2,
    };
    refused(code, &format!("HTTP status {}", status.as_u16()))
}

/// Text from percents; what is no text is left as it is.
fn unescape(message: &str) -> String {
    crate::percent::decode(message).unwrap_or_else(|| message.to_owned())
}

fn broken(error: h2::Error) -> CallError {
    CallError::Broken(error.to_string())
}

/// A message of bytes that are encoded already, compressed or not, with its length before it.
pub fn framed(message: &[u8], compressed: bool) -> Bytes {
    super::frame::write_bytes(message, compressed)
}

/// The value of a header that names an encoding.
pub const GZIP: HeaderValue = HeaderValue::from_static("gzip");
