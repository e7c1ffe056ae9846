//! How a call ended, as gRPC's trailers tell it.

use std::borrow::Cow;
use std::fmt::Write as _;

use http::{HeaderMap, HeaderValue};

/// The codes of gRPC that are used here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Code {
    /// All went well.
    Ok = 0,
    /// The client left.
    Cancelled = 1,
    /// The client sent what cannot be understood.
    InvalidArgument = 3,
    /// It took longer than it may.
    DeadlineExceeded = 4,
    /// What was asked for is not there.
    NotFound = 5,
    /// The client may not do that.
    PermissionDenied = 7,
    /// More than there is room for.
    ResourceExhausted = 8,
    /// There is no such method, or no such encoding.
    Unimplemented = 12,
    /// A mistake of this server.
    Internal = 13,
    /// Not at the moment.
    Unavailable = 14,
    /// Nobody knows the client.
    Unauthenticated = 16,
}

/// How a call ended: a code, and a message for whoever reads logs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Status {
    /// The code.
    pub code: Code,
    /// What was wrong, and what to do.
    pub message: Cow<'static, str>,
}

impl Status {
    /// A call that ended so.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }

    pub(super) const fn ok() -> Self {
        Self { code: Code::Ok, message: Cow::Borrowed("") }
    }

    /// The trailers that tell it.
    pub(super) fn trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(self.code as u16));
        if let Ok(message) = HeaderValue::try_from(escape(&self.message))
            && !message.is_empty()
        {
            trailers.insert("grpc-message", message);
        }
        trailers
    }
}

/// Messages are text in headers: what these cannot hold is written in percents.
fn escape(message: &str) -> String {
    let mut escaped = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => escaped.push(char::from(byte)),
            _ => _ = write!(escaped, "%{byte:02X}"),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_fit_into_headers() {
        let check = |message: &str, expect: &str| assert_eq!(escape(message), expect);
        check("no room; try later", "no room; try later");
        check("100 %\n", "100 %25%0A");
        check("é", "%C3%A9");
    }
}
