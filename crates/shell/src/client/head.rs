//! Heads of requests and of answers, as bytes (RFC 9112).

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, request};
use thiserror::Error;

use super::framing::Framing;

/// Bytes of an answer's head.
pub(super) const BYTES_MAX: usize = 64 << 10;

/// Headers of an answer.
const HEADERS_MAX: usize = 100;

/// What is no answer.
#[derive(Debug, Error)]
pub(super) enum NoAnswer {
    #[error("its head is not HTTP: {0}")]
    NotHttp(#[from] httparse::Error),
    #[error("its head has a field that is not HTTP")]
    Field,
    #[error("it does not say clearly where its body ends")]
    Framing,
    #[error("it changes to another protocol")]
    Upgrade,
}

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) response: Response<()>,
    pub(super) framing: Framing,
    /// Whether another request may follow on the connection.
    pub(super) reusable: bool,
    /// Bytes of the head.
    pub(super) length: usize,
}

/// The head of a request with a body of that length.
pub(super) fn write(parts: &request::Parts, body: usize) -> Vec<u8> {
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut head = Vec::with_capacity(512);
    for part in [parts.method.as_str(), " ", path, " HTTP/1.1\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
    if !parts.headers.contains_key(HOST) {
        let host = parts.uri.authority().map_or("", |authority| authority.as_str());
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        field(&mut head, HOST.as_str(), host.as_bytes());
    }
    for (name, value) in &parts.headers {
        // How the body ends is said once, below, and the connection is ours.
        if !matches!(*name, CONTENT_LENGTH | TRANSFER_ENCODING | CONNECTION) {
            field(&mut head, name.as_str(), value.as_bytes());
        }
    }
    if body > 0 || matches!(parts.method, Method::POST | Method::PUT | Method::PATCH) {
        field(&mut head, CONTENT_LENGTH.as_str(), body.to_string().as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    head
}

fn field(head: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        head.extend_from_slice(part);
    }
}

/// The head of an answer to such a request; none while it is not all there.
pub(super) fn read(bytes: &[u8], asked: &Method) -> Result<Option<Head>, NoAnswer> {
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(length) = parsed.parse(bytes)? else { return Ok(None) };
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(NoAnswer::Field)?;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(NoAnswer::Upgrade);
    }
    let headers = headers(bytes, length, parsed.headers)?;
    let version = if parsed.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    let framing = framing(status, version, &headers, asked)?;
    let reusable = framing != Framing::UntilClose && stays_open(version, &headers);
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = version;
    *response.headers_mut() = headers;
    Ok(Some(Head { response, framing, reusable, length }))
}

/// The fields, whose values share one copy of the head.
fn headers(
    bytes: &[u8],
    length: usize,
    fields: &[httparse::Header<'_>],
) -> Result<HeaderMap, NoAnswer> {
    let head = Bytes::copy_from_slice(&bytes[..length]);
    let mut headers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| NoAnswer::Field)?;
        let value = if field.value.is_empty() {
            HeaderValue::from_static("")
        } else {
            let at = field.value.as_ptr().addr() - bytes.as_ptr().addr();
            let value = head.slice(at..at + field.value.len());
            HeaderValue::from_maybe_shared(value).map_err(|_| NoAnswer::Field)?
        };
        headers.append(name, value);
    }
    Ok(headers)
}

/// How the body ends. What says it in two ways, or in one that is unknown, could be read in two ways.
fn framing(
    status: StatusCode,
    version: Version,
    headers: &HeaderMap,
    asked: &Method,
) -> Result<Framing, NoAnswer> {
    let bodiless = status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if bodiless || asked == Method::HEAD {
        return Ok(Framing::Length(0));
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let length = length(headers)?;
    let Some(coding) = codings.next() else {
        return Ok(length.map_or(Framing::UntilClose, Framing::Length));
    };
    let chunked = coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    let clear = codings.next().is_none() && length.is_none() && version == Version::HTTP_11;
    if chunked && clear { Ok(Framing::CHUNKED) } else { Err(NoAnswer::Framing) }
}

/// What all lengths say, which must be the same.
fn length(headers: &HeaderMap) -> Result<Option<u64>, NoAnswer> {
    let mut found = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        for part in value.as_bytes().split(|byte| *byte == b',') {
            let digits = part.trim_ascii();
            let are_digits = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
            let length = std::str::from_utf8(digits).ok().filter(|_| are_digits);
            let length = length.and_then(|digits| digits.parse::<u64>().ok());
            let length = length.ok_or(NoAnswer::Framing)?;
            if found.is_some_and(|found| found != length) {
                return Err(NoAnswer::Framing);
            }
            found = Some(length);
        }
    }
    Ok(found)
}

fn stays_open(version: Version, headers: &HeaderMap) -> bool {
    let says = |option: &str| {
        let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(option))
    };
    !says("close") && (version == Version::HTTP_11 || says("keep-alive"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(method: &str, url: &str, headers: &[(&'static str, &str)]) -> request::Parts {
        let mut request = http::Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_request_is_written_as_it_is_meant() {
        let check =
            |method: &str, url: &str, headers: &[(&'static str, &str)], body, expect: &str| {
                let head = write(&parts(method, url, headers), body);
                assert_eq!(String::from_utf8(head).unwrap(), expect);
            };
        check("GET", "http://a.example", &[], 0, "GET / HTTP/1.1\r\nhost: a.example\r\n\r\n");
        let url = "http://me:secret@a.example:81/x?y=1";
        check("GET", url, &[], 0, "GET /x?y=1 HTTP/1.1\r\nhost: a.example:81\r\n\r\n");
        let expect = "POST /x HTTP/1.1\r\nhost: b\r\nx-y: z\r\ncontent-length: 0\r\n\r\n";
        check("POST", "http://a/x", &[("host", "b"), ("x-y", "z")], 0, expect);
        // The body's length is what it is.
        let sent = [("content-length", "9"), ("transfer-encoding", "chunked"), ("connection", "x")];
        let expect = "PUT /x HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n";
        check("PUT", "http://a/x", &sent, 5, expect);
    }

    #[test]
    fn an_answer_says_where_it_ends() {
        let check = |head: &str, framing: Framing, reusable: bool| {
            let bytes = [head.replace('|', "\r\n").as_bytes(), b"\r\n\r\nrest"].concat();
            let head = read(&bytes, &Method::POST).unwrap().unwrap();
            assert_eq!((head.framing, head.reusable), (framing, reusable), "{bytes:?}");
            assert_eq!(&bytes[head.length..], b"rest");
            let to_head = read(&bytes, &Method::HEAD).unwrap().unwrap();
            assert_eq!(to_head.framing, Framing::Length(0));
            for cut in 0..head.length {
                assert!(read(&bytes[..cut], &Method::POST).unwrap().is_none(), "{cut}");
            }
        };
        check("HTTP/1.1 200 OK|content-length: 12", Framing::Length(12), true);
        check("HTTP/1.1 200 |Content-Length:12|Content-Length: 12, 12", Framing::Length(12), true);
        check("HTTP/1.1 200 OK|transfer-encoding: Chunked", Framing::CHUNKED, true);
        check("HTTP/1.1 200 OK|connection: x, Close|content-length: 1", Framing::Length(1), false);
        check("HTTP/1.1 500 No|x: y", Framing::UntilClose, false);
        check("HTTP/1.0 200 OK|content-length: 1", Framing::Length(1), false);
        let kept = "HTTP/1.0 200 OK|content-length: 1|connection: keep-alive";
        check(kept, Framing::Length(1), true);
        check("HTTP/1.1 204 No|x:", Framing::Length(0), true);
        check("HTTP/1.1 304 No|content-length: 7", Framing::Length(0), true);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let check = |head: &str| {
            let bytes = [head.replace('|', "\r\n").as_bytes(), b"\r\n\r\n"].concat();
            assert!(read(&bytes, &Method::POST).is_err(), "{head}");
        };
        check("HTTP/1.1 200 OK|content-length: 1|content-length: 2");
        check("HTTP/1.1 200 OK|content-length: 1, 2");
        check("HTTP/1.1 200 OK|content-length: +1");
        check("HTTP/1.1 200 OK|content-length:");
        check("HTTP/1.1 200 OK|content-length: 99999999999999999999");
        check("HTTP/1.1 200 OK|content-length: 1|transfer-encoding: chunked");
        check("HTTP/1.1 200 OK|transfer-encoding: gzip");
        check("HTTP/1.1 200 OK|transfer-encoding: gzip, chunked");
        check("HTTP/1.1 200 OK|transfer-encoding: chunked|transfer-encoding: chunked");
        check("HTTP/1.0 200 OK|transfer-encoding: chunked");
        check("HTTP/1.1 101 Other|upgrade: x");
        check("HTTP/2 200 OK|x: y");
        check("SSH-2.0-OpenSSH|x: y");
        check("HTTP/1.1 200 OK|x y: z");
        check(&format!("HTTP/1.1 200 OK{}", "|x: y".repeat(101)));
    }

    #[test]
    fn fields_are_kept_as_they_came() {
        let bytes =
            b"HTTP/1.1 429 Slow\r\nRetry-After: 3\r\nset-cookie: a\r\nset-cookie: b\r\nx:\r\n\r\n";
        let head = read(bytes, &Method::GET).unwrap().unwrap();
        assert_eq!(head.response.status(), 429);
        assert_eq!(head.response.headers()["retry-after"], "3");
        assert_eq!(head.response.headers()["x"], "");
        assert_eq!(head.response.headers().get_all("set-cookie").iter().count(), 2);
    }
}
