//! Where an engine outside of this machine is reached: the URLs, environment variables and paths
//! that a manifest may name for it.

use std::str::FromStr;

use thiserror::Error;

use super::text::text;

/// The `format` of endpoints' URLs in the schemas.
pub(crate) const ENDPOINT_FORMAT: &str = "endpoint-url";
/// The `format` of addresses of KV-cache events in the schemas.
pub(crate) const EVENTS_FORMAT: &str = "kv-events-url";
/// The `format` of environment variables' names in the schemas.
pub(crate) const ENV_FORMAT: &str = "environment-variable";
/// The `format` of files' paths in the schemas.
pub(crate) const PATH_FORMAT: &str = "file-path";

/// Longest URL in bytes.
pub const URL_BYTES_MAX: usize = 512;

/// Longest name of an environment variable.
pub const ENV_NAME_LEN_MAX: usize = 128;

/// Longest path of a file: what Linux opens.
pub const PATH_BYTES_MAX: usize = 4096;

/// What is wrong with the place of an engine.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum PlaceError {
    /// It is too long.
    #[error("this has {len} bytes, at most {max} are possible")]
    Length {
        /// How long it is.
        len: usize,
        /// How long it may be.
        max: usize,
    },
    /// It is no HTTP URL.
    #[error("an endpoint starts with `http://` or `https://`")]
    Scheme,
    /// It is no URL of a host and a path.
    #[error(
        "an endpoint is a URL of a host, perhaps a port and a path before `/v1`, without `?`, `#`, \
         user, blanks or `..`"
    )]
    Form,
    /// It has the version that every path of the API begins with.
    #[error("the path of the API (`/v1/…`) is added to an endpoint; leave `/v1` out")]
    Version,
    /// It is no ZeroMQ address.
    #[error("KV-cache events come from an address of the form `tcp://HOST:PORT`")]
    Events,
    /// It is no name of a variable.
    #[error(
        "`{0}` is no name of an environment variable: use letters, digits and `_`, not starting \
         with a digit"
    )]
    Env(String),
    /// It is no path.
    #[error("a path is neither empty nor does it hold control characters")]
    Path,
}

text! {
    /// The URL of an engine: `http://` or `https://`, a host, perhaps a port and a base path.
    EndpointUrl, PlaceError, ENDPOINT_FORMAT, URL_BYTES_MAX
}
text! {
    /// Where an engine tells what its KV cache holds: `tcp://HOST:PORT`.
    EventsUrl, PlaceError, EVENTS_FORMAT, URL_BYTES_MAX
}
text! {
    /// The name of an environment variable.
    EnvName, PlaceError, ENV_FORMAT, ENV_NAME_LEN_MAX
}
text! {
    /// The path of a file, as the operator wrote it.
    FilePath, PlaceError, PATH_FORMAT, PATH_BYTES_MAX
}

impl EndpointUrl {
    /// Whether whoever sits between can neither read nor change what is sent.
    pub fn is_private(&self) -> bool {
        self.as_str().starts_with("https://")
            || ["127.0.0.1", "[::1]", "localhost"].contains(&self.host())
    }

    /// Whether it is an `https://` URL.
    pub fn is_tls(&self) -> bool {
        self.as_str().starts_with("https://")
    }

    /// Host, port and base path, as in the URL.
    pub fn without_scheme(&self) -> &str {
        self.as_str().split_once("://").map_or("", |(_, rest)| rest)
    }

    /// The host; an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        let authority = self.without_scheme().split('/').next().unwrap_or_default();
        split_host(authority).map_or("", |(host, _)| host)
    }
}

impl FromStr for EndpointUrl {
    type Err = PlaceError;

    /// A slash at the end means nothing and is dropped.
    fn from_str(text: &str) -> Result<Self, PlaceError> {
        check_len(text, URL_BYTES_MAX)?;
        let plain = text.strip_prefix("http://");
        let rest = plain.or_else(|| text.strip_prefix("https://")).ok_or(PlaceError::Scheme)?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        split_host(authority).ok_or(PlaceError::Form)?;
        let path = path.trim_end_matches('/');
        let is_step = |step: &str| !step.is_empty() && step != "." && step != "..";
        if !rest.bytes().all(in_url) || (!path.is_empty() && !path.split('/').all(is_step)) {
            return Err(PlaceError::Form);
        }
        if path.split('/').next_back() == Some("v1") {
            return Err(PlaceError::Version);
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

impl FromStr for EventsUrl {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        check_len(text, URL_BYTES_MAX)?;
        let rest = text.strip_prefix("tcp://").ok_or(PlaceError::Events)?;
        match split_host(rest) {
            Some((_, Some(_))) if rest.bytes().all(in_url) && !rest.contains('/') => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(PlaceError::Events),
        }
    }
}

impl FromStr for EnvName {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        check_len(text, ENV_NAME_LEN_MAX)?;
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts_well || !text.bytes().all(legal) {
            return Err(PlaceError::Env(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for FilePath {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        check_len(text, PATH_BYTES_MAX)?;
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err(PlaceError::Path);
        }
        Ok(Self(text.to_owned()))
    }
}

fn check_len(text: &str, max: usize) -> Result<(), PlaceError> {
    let len = text.len();
    if len > max { Err(PlaceError::Length { len, max }) } else { Ok(()) }
}

/// Whether a byte can be in a URL without a question mark, a fragment or a user.
pub(super) fn in_url(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"?#@\\\"<>^`{|}".contains(&byte)
}

/// The host and the port of a host with perhaps a port; none when there is no host, or a port that
/// is none.
pub(super) fn split_host(authority: &str) -> Option<(&str, Option<u16>)> {
    let end = match authority.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, rest) = authority.split_at(end);
    let port = match rest.strip_prefix(':') {
        Some(port) => Some(port.parse().ok().filter(|port| *port != 0)?),
        None if rest.is_empty() => None,
        None => return None,
    };
    (!host.is_empty()).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_hosts_with_perhaps_a_path() {
        let check = |text: &str, expect: Result<&str, PlaceError>| {
            let url = text.parse::<EndpointUrl>();
            assert_eq!(url.as_ref().map(EndpointUrl::as_str), expect.as_ref().copied(), "{text}");
        };
        check("http://10.0.0.7:8000", Ok("http://10.0.0.7:8000"));
        check("https://api.example.com/openai/", Ok("https://api.example.com/openai"));
        check("http://[2001:db8::1]:80", Ok("http://[2001:db8::1]:80"));
        check("10.0.0.7:8000", Err(PlaceError::Scheme));
        check("tcp://10.0.0.7:8000", Err(PlaceError::Scheme));
        check("https://api.openai.com/v1", Err(PlaceError::Version));
        check("https://api.example.com/proxy/v1/", Err(PlaceError::Version));
        for bad in [
            "http://",
            "http:///x",
            "http://host:0",
            "http://host:65536",
            "http://[::1",
            "http://[::1]x",
            "http://host?x",
            "http://user@host",
            "http://host/a//b",
            "http://host/../b",
            "http://ho st",
        ] {
            check(bad, Err(PlaceError::Form));
        }
        let len = 600 + "http://".len();
        check(
            &format!("http://{}", "a".repeat(600)),
            Err(PlaceError::Length { len, max: URL_BYTES_MAX }),
        );
    }

    #[test]
    fn what_is_sent_there_may_be_read_on_the_way() {
        let check = |text: &str, expect: bool, host: &str| {
            let url: EndpointUrl = text.parse().unwrap();
            assert_eq!((url.is_private(), url.host()), (expect, host), "{text}");
        };
        check("https://example.com:8443/x", true, "example.com");
        check("http://localhost:1", true, "localhost");
        check("http://[::1]:1/x", true, "[::1]");
        check("http://127.0.0.1.example.com", false, "127.0.0.1.example.com");
        check("http://10.0.0.7", false, "10.0.0.7");
    }

    #[test]
    fn events_variables_and_paths() {
        let check = |good: bool, expect: bool, text: &str| assert_eq!(good, expect, "{text}");
        for (text, expect) in [
            ("tcp://10.0.0.7:5557", true),
            ("tcp://10.0.0.7", false),
            ("http://10.0.0.7:5557", false),
            ("tcp://*:5557/x", false),
        ] {
            check(text.parse::<EventsUrl>().is_ok(), expect, text);
        }
        for (text, expect) in [("OPENAI_API_KEY", true), ("_x1", true), ("1x", false), ("", false)]
        {
            check(text.parse::<EnvName>().is_ok(), expect, text);
        }
        for (text, expect) in [("/run/secrets/key", true), ("", false), ("a\nb", false)] {
            check(text.parse::<FilePath>().is_ok(), expect, text);
        }
    }
}
