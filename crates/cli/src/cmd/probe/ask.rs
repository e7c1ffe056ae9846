//! The questions of a probe, one after the other over one connection, each with limits on time and size.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::BodyExt as _;
use pilotage_shell::client::{Client, ClientError};
use pilotage_shell::secret::Secret;
use pilotage_wire::dialect::Dialect;
use pilotage_wire::dialect::detect::{self, ANSWER_BYTES_MAX, Heard};

/// Questions without an answer after which no more are asked.
const SILENT_MAX: usize = 3;

/// Whom to ask, and how.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) client: Client,
    pub(super) url: String,
    pub(super) key: Option<Secret>,
    /// How long each answer may take.
    pub(super) patience: Duration,
}

/// Why there was no answer.
#[derive(Debug)]
pub(super) enum Silence {
    /// No response came.
    Client(ClientError),
    /// None came in time.
    Late,
}

impl From<ClientError> for Silence {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(error) => error.fmt(f),
            Self::Late => f.write_str("it did not answer in time"),
        }
    }
}

impl Asking {
    /// Asks everything.
    ///
    /// # Errors
    /// Nobody answered anything.
    pub(super) async fn all(&self, model: Option<&str>) -> Result<Vec<Heard>, Silence> {
        let mut heard = Vec::new();
        let mut silent = 0;
        for path in detect::paths(model) {
            match self.own(path).await {
                Ok(answer) => heard.push(answer),
                Err(error) => {
                    silent += 1;
                    let nobody = !matches!(error, Silence::Late);
                    if heard.is_empty() && (nobody || silent == SILENT_MAX) {
                        return Err(error);
                    }
                }
            }
            if silent == SILENT_MAX {
                break;
            }
        }
        if let Some(answer) = self.metrics_elsewhere(&heard, model).await {
            heard.retain(|one| one.path != answer.path);
            heard.push(answer);
        }
        Ok(heard)
    }

    /// The metrics of a server that has another port for them. Somebody else may listen there: it gets no key.
    async fn metrics_elsewhere(&self, heard: &[Heard], model: Option<&str>) -> Option<Heard> {
        let dialect: Dialect = detect::judge(heard, model).dialect;
        let paths = &dialect.differences().paths;
        let (port, path) = paths.metrics_port.zip(paths.metrics)?;
        let url: Uri = self.url.parse().ok()?;
        let at = format!("{}://{}:{port}{path}", url.scheme_str()?, url.host()?);
        self.one(&at, path.to_owned(), None).await.ok()
    }

    /// Asks the server itself, with its key.
    pub(super) async fn own(&self, path: String) -> Result<Heard, Silence> {
        self.one(&format!("{}{path}", self.url), path, self.key.as_ref()).await
    }

    async fn one(&self, url: &str, path: String, key: Option<&Secret>) -> Result<Heard, Silence> {
        let asking = async {
            let mut request = Request::get(url);
            if let Some(key) = key {
                request = request.header(header::AUTHORIZATION, format!("Bearer {}", key.expose()));
            }
            let broken = |error: http::Error| ClientError::Broken(error.to_string());
            let request = request.body(Bytes::new()).map_err(broken)?;
            let response = self.client.request(request).await?;
            let text = |name: header::HeaderName| {
                let value = response.headers().get(name).and_then(|value| value.to_str().ok());
                value.unwrap_or_default().to_owned()
            };
            let (kind, server) = (text(header::CONTENT_TYPE), text(header::SERVER));
            let status = response.status().as_u16();
            let mut rest = response.into_body();
            let mut body = Vec::new();
            while let Some(Ok(frame)) = rest.frame().await {
                let Ok(data) = frame.into_data() else { continue };
                body.extend_from_slice(&data);
                if body.len() > ANSWER_BYTES_MAX {
                    break;
                }
            }
            Ok(Heard { path, status, kind, server, body })
        };
        tokio::time::timeout(self.patience, asking).await.unwrap_or(Err(Silence::Late))
    }
}
