//! The first moments of a connection: which protocol it speaks, told by its first bytes, or agreed on
//! when it is encrypted. Nothing of an unencrypted connection is taken out of the socket for that.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::Shared;
use super::patience::Patient;

/// How every connection of HTTP/2 begins, and no request of HTTP/1.1 does. Its rest is checked by who
/// reads it.
const HTTP2: &[u8] = b"PRI ";

/// How long is waited for more where less than that came, and how long at most: what came stays
/// readable, so that nothing tells of more.
const PAUSE: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A connection of whichever kind.
pub(super) type Io = Box<dyn Duplex>;

/// What can be read and written.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection, and what it speaks.
pub(super) enum Entered {
    Http1(Patient<TcpStream>),
    /// HTTP/1.1, encrypted.
    Secure(Io),
    /// HTTP/2, encrypted or not.
    Http2(Io),
}

/// Finds out what a connection speaks. How long that may take is the caller's to say.
pub(super) async fn enter(stream: TcpStream, shared: &Shared) -> io::Result<Entered> {
    let patience = shared.limits.write_timeout;
    let Some(certificates) = &shared.certificates else {
        let is_http2 = is_http2(&stream).await?;
        let io = Patient::new(stream, patience);
        return Ok(if is_http2 { Entered::Http2(Box::new(io)) } else { Entered::Http1(io) });
    };
    let io = certificates.accept(Patient::new(stream, patience)).await?;
    let is_http2 = io.get_ref().1.alpn_protocol() == Some(super::tls::HTTP2);
    let io: Io = Box::new(io);
    Ok(if is_http2 { Entered::Http2(io) } else { Entered::Secure(io) })
}

async fn is_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut pause = PAUSE;
    loop {
        let mut start = [0; HTTP2.len()];
        let seen = stream.peek(&mut start).await?;
        if seen == 0 || !HTTP2.starts_with(&start[..seen]) {
            return Ok(false);
        }
        if seen == HTTP2.len() {
            return Ok(true);
        }
        sleep(pause).await;
        pause = PAUSE_MAX.min(pause * 2);
    }
}
