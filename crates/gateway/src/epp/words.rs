//! What a proxy says as what the gateway knows, and back.

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header,
};
use pilotage_wire::envelope;
use pilotage_wire::extproc::{Answered, Asked, ProcessingResponse, Wrong, immediate};
use pilotage_wire::openai::error::ApiError;

use crate::forward::Trouble;
use crate::names;

/// Headers as a proxy takes them.
type Pairs = Vec<(String, Bytes)>;

/// The request as its client sent it.
///
/// # Errors
/// It is none.
pub(super) fn request(asked: &Asked) -> Result<Request<Bytes>, Box<ProcessingResponse>> {
    let text = |name: &str| std::str::from_utf8(asked.header(name)?).ok();
    let method = text(":method").and_then(|method| method.parse::<Method>().ok());
    let uri = text(":path").and_then(|path| path.parse::<Uri>().ok());
    let Some((method, uri)) = method.zip(uri) else {
        let wrong = ApiError::invalid_request("the request has no method, or no path");
        return Err(Box::new(error(&wrong)));
    };
    let mut request = Request::new(asked.body.clone());
    (*request.method_mut(), *request.uri_mut()) = (method, uri);
    *request.headers_mut() = headers(&asked.headers);
    Ok(request)
}

fn headers(pairs: &[(String, Bytes)]) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(pairs.len());
    for (name, value) in pairs.iter().filter(|(name, _)| !name.starts_with(':')) {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_maybe_shared(value.clone())) {
            headers.append(name, value);
        }
    }
    headers
}

/// Whether the client wants to know why its request goes where it goes.
pub(super) fn wants_why(asked: &Asked) -> bool {
    asked.header(envelope::WHY).is_some_and(|wanted| wanted == b"1")
}

/// What differs in the request that the replica gets: headers to set, and to take away.
pub(super) fn changes(asked: &Asked, sent: &Request<Bytes>) -> (Pairs, Vec<String>) {
    // The proxy knows where it connects to, and how bodies are written is the client's to say.
    let kept = [header::HOST, header::CONTENT_TYPE];
    let own = sent.headers().iter().filter(|(name, _)| !kept.contains(name));
    let mut set: Pairs = own.map(pair).collect();
    let path = sent.uri().path();
    if asked.header(":path").is_some_and(|asked| asked != path.as_bytes()) {
        set.push((":path".to_owned(), Bytes::copy_from_slice(path.as_bytes())));
    }
    // Clients' keys are not for replicas; what is encoded cannot be counted; what only a gateway says is
    // believed of nobody else.
    let gone = [
        &header::AUTHORIZATION,
        &names::API_KEY,
        &header::ACCEPT_ENCODING,
        &names::DISPLACES,
        &names::MIRROR,
    ];
    let gone = gone.into_iter().filter(|name| !sent.headers().contains_key(*name));
    (set, gone.map(|name| name.as_str().to_owned()).collect())
}

fn pair((name, value): (&HeaderName, &HeaderValue)) -> (String, Bytes) {
    (name.as_str().to_owned(), Bytes::copy_from_slice(value.as_bytes()))
}

/// The answer that a client gets in place of a replica's.
pub(super) fn instead(response: &Response<Bytes>) -> Box<ProcessingResponse> {
    let own = response.headers().iter().filter(|(name, _)| {
        ![header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING].contains(name)
    });
    let body = response.body().clone();
    Box::new(immediate(response.status().as_u16(), own.map(pair).collect(), body))
}

/// The answer where the proxy does what cannot be served. Its client cannot help it.
pub(super) fn wrong(wrong: &Wrong) -> ProcessingResponse {
    error(&match wrong {
        Wrong::TooLarge(most) => {
            ApiError::too_large(format!("the body is larger than {most} bytes; send a smaller one"))
        }
        Wrong::Order(_) | Wrong::Mode(_) | Wrong::Observed => ApiError::internal(
            "the proxy in front asks its endpoint picker in a way that cannot be answered",
        ),
    })
}

/// The answer to a request of which nothing more was shown for so long.
pub(super) fn slow(waited: std::time::Duration) -> ProcessingResponse {
    let seconds = waited.as_secs();
    let message = format!("nothing more of the request came for {seconds} s; send it whole");
    error(&ApiError { status: 408, ..ApiError::invalid_request(message) })
}

fn error(error: &ApiError) -> ProcessingResponse {
    let json = ("content-type".to_owned(), Bytes::from_static(b"application/json"));
    immediate(error.status, vec![json], error.body().into())
}

/// What a response says besides.
pub(super) fn told(
    request_id: &str,
    limits: Vec<(HeaderName, HeaderValue)>,
    why: Option<HeaderValue>,
) -> Pairs {
    let id = Bytes::copy_from_slice(request_id.as_bytes());
    let mut told = vec![(envelope::REQUEST_ID.to_owned(), id)];
    told.extend(limits.iter().map(|(name, value)| pair((name, value))));
    let why = why.map(|why| Bytes::copy_from_slice(why.as_bytes()));
    told.extend(why.map(|why| (envelope::WHY.to_owned(), why)));
    told
}

/// Status and headers of an answer.
pub(super) fn head(answered: &Answered) -> (StatusCode, HeaderMap) {
    let status = StatusCode::from_u16(answered.status()).unwrap_or(StatusCode::BAD_GATEWAY);
    (status, headers(&answered.headers))
}

/// Two parts as one.
pub(super) fn join(first: Bytes, second: Bytes) -> Bytes {
    match (first.is_empty(), second.is_empty()) {
        (_, true) => first,
        (true, false) => second,
        (false, false) => {
            let mut both = BytesMut::with_capacity(first.len() + second.len());
            both.extend_from_slice(&first);
            both.extend_from_slice(&second);
            both.freeze()
        }
    }
}

/// Set by Envoy on what a replica answered.
const UPSTREAM_TIME: &str = "x-envoy-upstream-service-time";

/// What kept the proxy from bringing an answer of the replica: it says so in an attribute, or else shows
/// an answer of its own, which is text and was no replica's time.
pub(super) fn trouble(answered: &Answered) -> Option<Trouble> {
    if let Some(details) = &answered.details {
        return by_details(details);
    }
    let is_text =
        answered.header("content-type").is_some_and(|kind| kind.starts_with(b"text/plain"));
    if !is_text || answered.header(UPSTREAM_TIME).is_some() {
        return None;
    }
    match answered.status() {
        503 => Some(Trouble::Unreachable),
        504 => Some(Trouble::Late),
        _ => None,
    }
}

fn by_details(details: &str) -> Option<Trouble> {
    if details.starts_with("via_upstream") {
        return None;
    }
    let has = |part: &str| details.contains(part);
    if has("Connection_refused") {
        Some(Trouble::Refused)
    } else if has("connection_failure") || has("connect_error") || has("no_healthy_upstream") {
        Some(Trouble::Unreachable)
    } else if has("timeout") {
        Some(Trouble::Late)
    } else if has("upstream_reset") || has("protocol_error") {
        Some(Trouble::Broken)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_the_proxy_itself_are_told_from_those_of_replicas() {
        let check = |status: &str, more: &[(&str, &str)], details: Option<&str>, expect| {
            let pair = |(name, value): &(&str, &str)| {
                ((*name).to_owned(), Bytes::copy_from_slice(value.as_bytes()))
            };
            let begin = (":status", status);
            let all = std::iter::once(&begin).chain(more);
            let answered = Answered {
                headers: all.map(pair).collect(),
                details: details.map(str::to_owned),
                ..Answered::default()
            };
            assert_eq!(trouble(&answered), expect, "{status} {more:?} {details:?}");
        };
        let text = ("content-type", "text/plain");
        check("200", &[], None, None);
        check("503", &[("content-type", "application/json")], None, None);
        check("503", &[text], None, Some(Trouble::Unreachable));
        check("504", &[text], None, Some(Trouble::Late));
        check("503", &[text, (UPSTREAM_TIME, "3")], None, None);
        check("503", &[text], Some("via_upstream"), None);
        let reset = "upstream_reset_before_response_started";
        let refused = "{remote_connection_failure|delayed_connect_error:_Connection_refused}";
        check("503", &[text], Some(&format!("{reset}{refused}")), Some(Trouble::Refused));
        let failed = format!("{reset}{{remote_connection_failure}}");
        check("503", &[text], Some(&failed), Some(Trouble::Unreachable));
        let broke = format!("{reset}{{connection_termination}}");
        check("503", &[text], Some(&broke), Some(Trouble::Broken));
        check("504", &[text], Some("response_timeout"), Some(Trouble::Late));
    }
}
