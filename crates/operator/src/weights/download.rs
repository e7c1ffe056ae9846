//! A download over HTTPS that survives cuts: what came is kept, and the next attempt asks for the
//! rest, as long as the server still has the same version.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
use pilotage_shell::client::{Client, Incoming};
use pilotage_shell::secret::Secret;

use super::cache::Partial;
use super::{Progress, WeightsError};

/// Redirects followed.
const REDIRECTS_MAX: u32 = 5;

/// Attempts in a row that bring nothing.
const ATTEMPTS_MAX: u32 = 5;

/// How long nothing may come.
const STALL: Duration = Duration::from_secs(60);

/// Most bytes of a file, far above the largest published weights.
const FILE_BYTES_MAX: u64 = 4 << 40;

/// Why an attempt ended early.
enum Cut {
    /// Trying again may help.
    Transient(String),
    /// It never will.
    Final(String),
}

/// Fetches into the partial file.
///
/// # Errors
/// [`WeightsError::Download`]; what came so far is kept.
pub(super) async fn run(
    client: &Client,
    url: &str,
    token: Option<&Secret>,
    partial: &Partial,
    progress: &dyn Progress,
) -> Result<(), WeightsError> {
    let mut idle_attempts = 0;
    loop {
        let before = have(partial);
        let cut = match attempt(client, url, token, partial, progress).await {
            Ok(()) => return Ok(()),
            Err(cut) => cut,
        };
        let failed = |reason| Err(WeightsError::Download { url: url.to_owned(), reason });
        idle_attempts = if have(partial) > before { 0 } else { idle_attempts + 1 };
        match cut {
            Cut::Final(reason) => return failed(reason),
            Cut::Transient(reason) if idle_attempts >= ATTEMPTS_MAX => return failed(reason),
            Cut::Transient(reason) => {
                progress.note(&format!("{reason}; trying again"));
                tokio::time::sleep(Duration::from_millis(200 << idle_attempts)).await;
            }
        }
    }
}

async fn attempt(
    client: &Client,
    url: &str,
    token: Option<&Secret>,
    partial: &Partial,
    progress: &dyn Progress,
) -> Result<(), Cut> {
    let tag = fs::read_to_string(partial.tag_file()).ok().filter(|tag| !tag.is_empty());
    // Without the server's tag nobody can tell whether it is still the same file.
    let from = if tag.is_some() { have(partial) } else { 0 };
    let response = ask(client, url, token, from, tag.as_deref()).await?;
    let (from, total) = match response.status() {
        StatusCode::PARTIAL_CONTENT => (from, ranged_total(response.headers(), from)?),
        StatusCode::RANGE_NOT_SATISFIABLE => {
            partial.discard();
            return Err(Cut::Transient("the server has another version now".to_owned()));
        }
        status if status.is_success() => (0, length(response.headers())),
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            return Err(Cut::Transient(format!("the server answered {status}")));
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            let status = response.status();
            return Err(Cut::Final(format!(
                "the server answered {status}; for Hugging Face, set HF_TOKEN"
            )));
        }
        status => {
            return Err(Cut::Final(format!("the server answered {status}; check the source")));
        }
    };
    if total.is_some_and(|total| total > FILE_BYTES_MAX) {
        return Err(Cut::Final(format!("the file is larger than {FILE_BYTES_MAX} bytes")));
    }
    let tag = response.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok());
    let strong = tag.filter(|tag| !tag.starts_with("W/")).unwrap_or_default().to_owned();
    receive(response.into_body(), from, total, &strong, partial, progress).await
}

async fn receive(
    mut body: Incoming,
    from: u64,
    total: Option<u64>,
    tag: &str,
    partial: &Partial,
    progress: &dyn Progress,
) -> Result<(), Cut> {
    let disk = |error: std::io::Error| Cut::Final(format!("{}: {error}", partial.file().display()));
    fs::write(partial.tag_file(), tag).map_err(disk)?;
    let mut file = open(partial, from).map_err(disk)?;
    progress.begin("downloading", total);
    let mut have = from;
    loop {
        progress.advance_to(have);
        let frame = tokio::time::timeout(STALL, body.frame()).await;
        let frame =
            frame.map_err(|_| Cut::Transient(format!("nothing came for {} s", STALL.as_secs())))?;
        let Some(frame) = frame else { break };
        let frame =
            frame.map_err(|error| Cut::Transient(format!("the connection broke ({error})")))?;
        let Ok(data) = frame.into_data() else { continue };
        have += data.len() as u64;
        if have > total.unwrap_or(FILE_BYTES_MAX) {
            return Err(Cut::Final("the server sends more than it announced".to_owned()));
        }
        file.write_all(&data).map_err(disk)?;
    }
    file.sync_all().map_err(disk)?;
    match total {
        Some(total) if have < total => {
            Err(Cut::Transient(format!("it broke off at {have} of {total} bytes")))
        }
        _ => Ok(()),
    }
}

fn open(partial: &Partial, from: u64) -> std::io::Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(partial.file())?;
    file.set_len(from)?;
    Ok(file)
}

/// Asks, following redirects. The token goes to the first host only.
async fn ask(
    client: &Client,
    url: &str,
    token: Option<&Secret>,
    from: u64,
    tag: Option<&str>,
) -> Result<Response<Incoming>, Cut> {
    let first: Uri = url.parse().map_err(|_| Cut::Final("it is not a URL".to_owned()))?;
    let mut uri = first.clone();
    for _ in 0..=REDIRECTS_MAX {
        let mut request = Request::get(uri.clone()).header(header::USER_AGENT, "pilotage");
        if let Some(tag) = tag.filter(|_| from > 0) {
            request = request
                .header(header::RANGE, format!("bytes={from}-"))
                .header(header::IF_RANGE, tag);
        }
        if let Some(token) = token.filter(|_| uri.authority() == first.authority()) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose()));
        }
        let request = request.body(Bytes::new()).map_err(|error| Cut::Final(error.to_string()))?;
        let answer = tokio::time::timeout(STALL, client.request(request)).await;
        let answer = answer.map_err(|_| Cut::Transient("no answer came".to_owned()))?;
        let response = answer.map_err(|error| Cut::Transient(error.to_string()))?;
        if !response.status().is_redirection() {
            return Ok(response);
        }
        uri = next(&uri, response.headers())?;
    }
    Err(Cut::Final(format!("more than {REDIRECTS_MAX} redirects")))
}

/// Where a redirect leads; from HTTPS never to anything less.
fn next(uri: &Uri, headers: &HeaderMap) -> Result<Uri, Cut> {
    let location = headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
    let location = location.ok_or_else(|| Cut::Final("a redirect leads nowhere".to_owned()))?;
    let absolute = if location.starts_with('/') {
        let scheme = uri.scheme_str().unwrap_or("https");
        format!("{scheme}://{}{location}", uri.authority().map_or("", http::uri::Authority::as_str))
    } else {
        location.to_owned()
    };
    let next: Uri =
        absolute.parse().map_err(|_| Cut::Final("a redirect leads to no URL".to_owned()))?;
    if uri.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
        return Err(Cut::Final("a redirect leads from https to http".to_owned()));
    }
    Ok(next)
}

/// The whole length from `Content-Range: bytes FROM-TO/TOTAL`.
fn ranged_total(headers: &HeaderMap, from: u64) -> Result<Option<u64>, Cut> {
    let range = headers.get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let parsed = range.and_then(|range| {
        let (span, total) = range.strip_prefix("bytes ")?.split_once('/')?;
        let begin: u64 = span.split('-').next()?.parse().ok()?;
        Some((begin, total.parse().ok()))
    });
    match parsed {
        Some((begin, total)) if begin == from => Ok(total),
        _ => Err(Cut::Final("the server sent another range than it was asked for".to_owned())),
    }
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn have(partial: &Partial) -> u64 {
    fs::metadata(partial.file()).map_or(0, |found| found.len())
}
