//! Pieces of files: from this machine, or over the network by Range, never more than was asked for.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
use pilotage_shell::client::{Client, Incoming};
use pilotage_shell::secret::Secret;

use crate::exit::Wrong;

/// Redirects followed.
const REDIRECTS_MAX: u32 = 5;

/// How long nothing may come.
const STALL: Duration = Duration::from_secs(30);

/// Most bytes of a file that is read whole: a configuration, or an index of many tensors.
pub(super) const WHOLE_BYTES_MAX: u64 = 64 << 20;

/// Where a model's files are.
#[derive(Debug)]
pub(super) enum Place {
    /// In a folder of this machine.
    Folder(PathBuf),
    /// Below an address.
    Remote(Remote),
}

/// An address and what it takes to ask there.
#[derive(Debug)]
pub(super) struct Remote {
    /// For requests.
    pub(super) client: Client,
    /// Without a slash at the end.
    pub(super) base: String,
    /// For the first host only.
    pub(super) token: Option<Secret>,
    /// The repository on the hub, for messages.
    pub(super) repository: Option<String>,
}

/// A piece of a file.
#[derive(Debug)]
pub(super) struct Piece {
    /// What was asked for, or less where the file ends.
    pub(super) bytes: Vec<u8>,
    /// Bytes of the whole file, where that is known.
    pub(super) total: Option<u64>,
}

impl Place {
    /// The first `end` bytes of a file; none where there is no such file.
    pub(super) async fn begin(&self, name: &str, end: u64) -> anyhow::Result<Option<Piece>> {
        self.piece(name, 0, end).await
    }

    /// The whole of a small file; none where there is none.
    pub(super) async fn whole(&self, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(piece) = self.begin(name, WHOLE_BYTES_MAX + 1).await? else { return Ok(None) };
        if piece.bytes.len() as u64 > WHOLE_BYTES_MAX {
            bail!("{name} is larger than {WHOLE_BYTES_MAX} bytes; check that it is the right file");
        }
        Ok(Some(piece.bytes))
    }

    /// Bytes `from..end` of a file; none where there is no such file.
    pub(super) async fn piece(
        &self,
        name: &str,
        from: u64,
        end: u64,
    ) -> anyhow::Result<Option<Piece>> {
        match self {
            Self::Folder(folder) => local(&folder.join(name), from, end),
            Self::Remote(remote) => remote.piece(name, from, end).await,
        }
    }
}

fn local(path: &std::path::Path, from: u64, end: u64) -> anyhow::Result<Option<Piece>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context(format!("cannot read {}", path.display())),
    };
    let read = |mut file: File| -> std::io::Result<Piece> {
        let total = file.metadata()?.len();
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(end.saturating_sub(from)).read_to_end(&mut bytes)?;
        Ok(Piece { bytes, total: Some(total) })
    };
    read(file).map(Some).with_context(|| format!("cannot read {}", path.display()))
}

impl Remote {
    async fn piece(&self, name: &str, from: u64, end: u64) -> anyhow::Result<Option<Piece>> {
        let url = format!("{}/{name}", self.base);
        let response =
            self.ask(&url, from, end).await.with_context(|| format!("cannot read {url}"))?;
        let (skip, total) = match response.status() {
            StatusCode::NOT_FOUND => return Ok(None),
            StatusCode::PARTIAL_CONTENT => (0, ranged_total(response.headers(), from)?),
            StatusCode::RANGE_NOT_SATISFIABLE => {
                return Ok(Some(Piece { bytes: Vec::new(), total: None }));
            }
            // The whole file: the server knows no ranges, or it is as short as what was asked for.
            status if status.is_success() => (from, length(response.headers())),
            status => return Err(self.refusal(status, &url)),
        };
        let bytes = receive(response.into_body(), skip, end - from)
            .await
            .with_context(|| format!("cannot read {url}"))?;
        Ok(Some(Piece { bytes, total }))
    }

    /// Asks, following redirects. The token goes to the first host only.
    async fn ask(&self, url: &str, from: u64, end: u64) -> anyhow::Result<Response<Incoming>> {
        let first: Uri = url.parse().context("it is not a URL")?;
        let mut uri = first.clone();
        for _ in 0..=REDIRECTS_MAX {
            let range = format!("bytes={from}-{}", end.saturating_sub(1));
            let mut request = Request::get(uri.clone())
                .header(header::USER_AGENT, "pilotage")
                .header(header::RANGE, range);
            if let Some(token) =
                self.token.as_ref().filter(|_| uri.authority() == first.authority())
            {
                request =
                    request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose()));
            }
            let asking = self.client.request(request.body(Bytes::new())?);
            let response =
                tokio::time::timeout(STALL, asking).await.context("no answer came")??;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            uri = next(&uri, response.headers())?;
        }
        bail!("more than {REDIRECTS_MAX} redirects")
    }

    fn refusal(&self, status: StatusCode, url: &str) -> anyhow::Error {
        let what = self.repository.as_deref().unwrap_or(url);
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let wrong = Wrong::new(format!("{what} is gated, private or not there ({status})"));
                let hint = match (&self.repository, &self.token) {
                    (Some(id), None) => format!(
                        "accept its terms on the page of {id} where it has some, and set HF_TOKEN; check its name"
                    ),
                    (Some(id), Some(_)) => {
                        format!(
                            "the owner of HF_TOKEN has no access to {id}: accept its terms on its page"
                        )
                    }
                    (None, _) => "the server wants a login, which is not supported".to_owned(),
                };
                wrong.hint(hint).into()
            }
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                anyhow::anyhow!("{url} answered {status}; try again later")
            }
            status => anyhow::anyhow!("{url} answered {status}; check the address"),
        }
    }
}

/// Bytes `skip..skip+count` of a body; what comes behind them is not waited for.
async fn receive(mut body: Incoming, skip: u64, count: u64) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut skip = skip;
    while (bytes.len() as u64) < count {
        let frame =
            tokio::time::timeout(STALL, body.frame()).await.context("nothing came for a while")?;
        let Some(frame) = frame else { break };
        let Ok(data) = frame.context("the connection broke")?.into_data() else { continue };
        let cut = skip.min(data.len() as u64);
        skip -= cut;
        let rest = data.get(usize::try_from(cut).unwrap_or(usize::MAX)..).unwrap_or_default();
        let wanted = usize::try_from(count - bytes.len() as u64).unwrap_or(usize::MAX);
        bytes.extend_from_slice(rest.get(..wanted.min(rest.len())).unwrap_or_default());
    }
    Ok(bytes)
}

/// Where a redirect leads; from HTTPS never to anything less.
fn next(uri: &Uri, headers: &HeaderMap) -> anyhow::Result<Uri> {
    let location = headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
    let location = location.context("a redirect leads nowhere")?;
    let absolute = if location.starts_with('/') {
        let scheme = uri.scheme_str().unwrap_or("https");
        format!("{scheme}://{}{location}", uri.authority().map_or("", http::uri::Authority::as_str))
    } else {
        location.to_owned()
    };
    let next: Uri = absolute.parse().context("a redirect leads to no URL")?;
    if uri.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
        bail!("a redirect leads from https to http");
    }
    Ok(next)
}

/// The whole length from `Content-Range: bytes FROM-TO/TOTAL`.
fn ranged_total(headers: &HeaderMap, from: u64) -> anyhow::Result<Option<u64>> {
    let range = headers.get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let parsed = range.and_then(|range| {
        let (span, total) = range.strip_prefix("bytes ")?.split_once('/')?;
        let begin: u64 = span.split('-').next()?.parse().ok()?;
        Some((begin, total.parse().ok()))
    });
    match parsed {
        Some((begin, total)) if begin == from => Ok(total),
        _ => bail!("the server sent another range than it was asked for"),
    }
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
