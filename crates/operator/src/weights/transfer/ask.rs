//! One question over HTTPS: redirects followed, the token kept from other hosts, and what an answer that
//! is no success means.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
use pilotage_shell::client::{Client, Incoming};
use pilotage_shell::secret::Secret;
use tokio::sync::OwnedSemaphorePermit;

use super::patience::Patience;
use crate::weights::access::Hosts;
use crate::weights::{Progress, WeightsError};

/// Redirects followed.
const REDIRECTS_MAX: u32 = 5;

/// How long nothing may come.
pub(super) const STALL: Duration = Duration::from_secs(60);

/// Longest explanation of a server that is repeated.
const SAID_CHARS_MAX: usize = 200;

/// Why an attempt ended early.
#[derive(Debug)]
pub(in crate::weights) enum Cut {
    /// Trying again may help, after that time where the server says it.
    Transient(String, Option<Duration>),
    /// The server has another version than before.
    Changed,
    /// The server wants to know who asks; how, is in the challenge.
    Denied(String, Option<String>),
    /// It never will.
    Final(String),
    /// The same, for a reason of this machine's.
    Here(Box<WeightsError>),
}

/// What is asked for.
#[derive(Clone, Copy, Default)]
pub(in crate::weights) struct Question<'a> {
    pub url: &'a str,
    /// The whole value of the header.
    pub authorization: Option<&'a Secret>,
    pub accept: Option<&'a str>,
    /// The first byte, and the last one where that is not the end.
    pub range: Option<(u64, Option<u64>)>,
    /// The version that the range is of.
    pub tag: Option<&'a str>,
}

/// An answer, and the place among its host's connections that it takes.
pub(in crate::weights) struct Answer {
    pub response: Response<Incoming>,
    _place: Option<OwnedSemaphorePermit>,
}

/// Who asks.
#[derive(Clone, Debug)]
pub(in crate::weights) struct Asker {
    pub client: Client,
    pub hosts: Hosts,
    pub at_once: usize,
}

impl Asker {
    /// The head of the answer, which is a success.
    pub(in crate::weights) async fn ask(&self, question: &Question<'_>) -> Result<Answer, Cut> {
        let answer = self.follow(question).await?;
        let status = answer.response.status();
        if status.is_success() {
            Ok(answer)
        } else {
            Err(refusal(status, answer.response.headers()))
        }
    }

    /// The whole of a small answer, after several attempts where they are needed.
    pub(in crate::weights) async fn read(
        &self,
        question: &Question<'_>,
        bytes_max: usize,
        progress: &dyn Progress,
    ) -> Result<(HeaderMap, Bytes), Cut> {
        let mut patience = Patience::default();
        loop {
            match self.read_once(question, bytes_max).await {
                Ok(read) => return Ok(read),
                Err(cut) => patience.wait(cut, false, progress).await?,
            }
        }
    }

    async fn read_once(
        &self,
        question: &Question<'_>,
        bytes_max: usize,
    ) -> Result<(HeaderMap, Bytes), Cut> {
        let (head, mut body) = self.ask(question).await?.response.into_parts();
        let mut read = Vec::new();
        while let Some(data) = frame(&mut body).await? {
            read.extend_from_slice(&data);
            if read.len() > bytes_max {
                return Err(Cut::Final(format!("the answer has more than {bytes_max} bytes")));
            }
        }
        Ok((head.headers, read.into()))
    }

    /// Asks, following redirects. The token goes to the first host only.
    async fn follow(&self, question: &Question<'_>) -> Result<Answer, Cut> {
        let first: Uri =
            question.url.parse().map_err(|_| Cut::Final("it is not a URL".to_owned()))?;
        let mut uri = first.clone();
        for _ in 0..=REDIRECTS_MAX {
            let place = self.hosts.enter(&uri, self.at_once).await;
            let request = request(question, &uri, uri.authority() == first.authority())?;
            let answer = tokio::time::timeout(STALL, self.client.request(request)).await;
            let answer = answer.map_err(|_| Cut::transient("no answer came"))?;
            let response = answer.map_err(|error| Cut::transient(error.to_string()))?;
            if !response.status().is_redirection() {
                return Ok(Answer { response, _place: place });
            }
            uri = next(&uri, response.headers())?;
        }
        Err(Cut::Final(format!("more than {REDIRECTS_MAX} redirects")))
    }
}

impl Cut {
    pub(in crate::weights) fn transient(reason: impl Into<String>) -> Self {
        Self::Transient(reason.into(), None)
    }

    /// The error that it is in the end.
    pub(in crate::weights) fn of(self, url: &str) -> WeightsError {
        let reason = match self {
            Self::Here(error) => return *error,
            Self::Transient(reason, _) | Self::Denied(reason, _) | Self::Final(reason) => reason,
            Self::Changed => "the server has another version each time it is asked".to_owned(),
        };
        WeightsError::Download { url: url.to_owned(), reason }
    }
}

/// The next piece of a body; nothing at its end.
pub(super) async fn frame(body: &mut Incoming) -> Result<Option<Bytes>, Cut> {
    loop {
        let frame = tokio::time::timeout(STALL, body.frame()).await;
        let stalled = |_| Cut::transient(format!("nothing came for {} s", STALL.as_secs()));
        let Some(frame) = frame.map_err(stalled)? else { return Ok(None) };
        let broken = |error| Cut::transient(format!("the connection broke ({error})"));
        if let Ok(data) = frame.map_err(broken)?.into_data() {
            return Ok(Some(data));
        }
    }
}

fn request(question: &Question<'_>, uri: &Uri, at_home: bool) -> Result<Request<Bytes>, Cut> {
    let mut request = Request::get(uri.clone()).header(header::USER_AGENT, "pilotage");
    if let Some(accept) = question.accept {
        request = request.header(header::ACCEPT, accept);
    }
    if let Some((from, to)) = question.range {
        let to = to.map(|to| to.to_string()).unwrap_or_default();
        request = request.header(header::RANGE, format!("bytes={from}-{to}"));
        if let Some(tag) = question.tag {
            request = request.header(header::IF_RANGE, tag);
        }
    }
    if let Some(authorization) = question.authorization.filter(|_| at_home) {
        request = request.header(header::AUTHORIZATION, authorization.expose());
    }
    request.body(Bytes::new()).map_err(|error| Cut::Final(error.to_string()))
}

/// Where a redirect leads; from HTTPS never to anything less.
fn next(uri: &Uri, headers: &HeaderMap) -> Result<Uri, Cut> {
    let location = headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
    let location = location.ok_or_else(|| Cut::Final("a redirect leads nowhere".to_owned()))?;
    let absolute = if location.starts_with('/') && !location.starts_with("//") {
        let scheme = uri.scheme_str().unwrap_or("https");
        format!("{scheme}://{}{location}", uri.authority().map_or("", http::uri::Authority::as_str))
    } else {
        location.to_owned()
    };
    let next: Uri =
        absolute.parse().map_err(|_| Cut::Final("a redirect leads to no URL".to_owned()))?;
    match (uri.scheme_str(), next.scheme_str()) {
        (_, Some("https")) | (Some("http"), Some("http")) => Ok(next),
        (_, Some("http")) => Err(Cut::Final("a redirect leads from https to http".to_owned())),
        _ => Err(Cut::Final("a redirect leads to no URL".to_owned())),
    }
}

/// What an answer means that is no success. The codes are Hugging Face's (`X-Error-Code`, as read by
/// `hf_raise_for_status` in huggingface_hub, src/huggingface_hub/utils/_http.py).
fn refusal(status: StatusCode, headers: &HeaderMap) -> Cut {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let todo = match text("x-error-code") {
        Some("GatedRepo") => Some(
            "the repository is gated: accept its terms on its page, then set HF_TOKEN to a token of that account",
        ),
        Some("RepoNotFound") => {
            Some("there is no such repository, or it is private: check its name, or set HF_TOKEN")
        }
        Some("RevisionNotFound") => {
            Some("the repository has no such branch, tag or commit: check what stands after the @")
        }
        Some("EntryNotFound") => Some("the repository has no such file: check its path"),
        Some("DisabledRepo") => Some("the repository is disabled"),
        _ => None,
    };
    let said = text("x-error-message").map(clean).unwrap_or_default();
    match (status, todo) {
        (_, Some(todo)) => Cut::Final(format!("{todo} ({status}{said})")),
        (StatusCode::RANGE_NOT_SATISFIABLE, _) => Cut::Changed,
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => Cut::Denied(
            format!("the server answered {status}{said}; for Hugging Face, set HF_TOKEN"),
            text("www-authenticate").map(str::to_owned),
        ),
        (StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT, _) => {
            Cut::Transient(format!("the server answered {status}"), super::patience::after(headers))
        }
        _ if status.is_server_error() => {
            Cut::Transient(format!("the server answered {status}"), super::patience::after(headers))
        }
        _ => Cut::Final(format!("the server answered {status}{said}; check the source")),
    }
}

/// What a server says, fit to be shown.
fn clean(said: &str) -> String {
    let shown: String = said.chars().filter(|c| !c.is_control()).take(SAID_CHARS_MAX).collect();
    format!(", {shown}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_never_lead_to_less() {
        let check = |from: &str, location: &str, expect: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::LOCATION, location.parse().unwrap());
            let led = next(&from.parse().unwrap(), &headers).ok().map(|uri| uri.to_string());
            assert_eq!(led.as_deref(), expect, "{from} {location}");
        };
        check("https://a/b", "https://c/d", Some("https://c/d"));
        check("https://a/b", "/d?e", Some("https://a/d?e"));
        check("https://a/b", "http://a/b", None);
        check("https://a/b", "//c/d", None);
        check("https://a/b", "ftp://c/d", None);
        check("http://127.0.0.1/b", "https://c/d", Some("https://c/d"));
        check("http://127.0.0.1/b", "http://127.0.0.1:2/d", Some("http://127.0.0.1:2/d"));
        assert!(next(&"https://a/b".parse().unwrap(), &HeaderMap::new()).is_err());
    }

    #[test]
    fn refusals_say_what_to_do() {
        let check = |status: u16, code: &str, part: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-error-code", code.parse().unwrap());
            headers.insert("x-error-message", "a\tb".parse().unwrap());
            let status = StatusCode::from_u16(status).unwrap();
            let said = refusal(status, &headers).of("https://a/b").to_string();
            assert!(said.contains(part) && !said.contains('\t'), "{said}");
        };
        check(403, "GatedRepo", "accept its terms");
        check(404, "EntryNotFound", "no such file");
        check(403, "DisabledRepo", "disabled");
        check(404, "", "check the source");
        check(500, "", "500");
    }
}
