//! An engine whose adapters are changed while it runs, over HTTP.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use pilotage_shell::client::{Client, ClientError};
use pilotage_shell::secret::Secret;
use pilotage_wire::dialect::{Call, Dialect, Pair, loaded};
use serde::Deserialize;

/// How long a list may take. Engines that are busy answer late.
const LIST_PATIENCE: Duration = Duration::from_secs(10);

/// How long it may take to load an adapter.
const LOAD_PATIENCE: Duration = Duration::from_secs(300);

/// Most bytes of an answer.
const BYTES_MAX: usize = 4 << 20;

/// Characters of a refusal that are told.
const SAID_MAX: usize = 300;

/// Who has adapters.
pub trait Engine: Send + Sync {
    /// What it has loaded.
    fn listed(&self) -> impl Future<Output = Result<Listing, Unheard>> + Send;

    /// Whether it sleeps: then nothing of it may be changed.
    fn is_asleep(&self) -> impl Future<Output = bool> + Send;

    /// Has it load an adapter; why it does not.
    fn load(&self, name: &str, folder: &Path) -> impl Future<Output = Result<(), String>> + Send;

    /// Has it forget an adapter; why it does not.
    fn unload(&self, name: &str) -> impl Future<Output = Result<(), String>> + Send;
}

/// The adapters that an engine says it has.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Listing {
    /// Their folders, as far as it tells them, by their names.
    pub adapters: BTreeMap<String, Option<PathBuf>>,
    /// Whether one that is not among them is not loaded: some releases list none.
    pub is_sure: bool,
}

/// Why an engine says nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unheard {
    /// Nobody listens there: it starts, or ended.
    Gone,
    /// It does not answer as it should.
    Silent(String),
}

/// An engine at an address.
#[derive(Clone, Debug)]
pub struct Line {
    client: Client,
    url: String,
    key: Option<Secret>,
    dialect: Dialect,
    calls: Pair,
}

impl Line {
    /// One of that dialect; none where such engines load no adapters while they run.
    pub fn new(client: Client, url: &str, key: Option<Secret>, dialect: Dialect) -> Option<Self> {
        let calls = dialect.differences().adapters?;
        let url = url.trim_end_matches('/').to_owned();
        Some(Self { client, url, key, dialect, calls })
    }

    async fn ask(
        &self,
        method: &str,
        (path, body): (&str, Bytes),
        patience: Duration,
    ) -> Result<(StatusCode, Bytes), Unheard> {
        let silent = |what: String| Unheard::Silent(what);
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", key.expose()));
        }
        let request = request.header(header::CONTENT_TYPE, "application/json").body(body);
        let request = request.map_err(|error| silent(error.to_string()))?;
        let asking = async {
            let response = self.client.request(request).await.map_err(|error| match error {
                ClientError::Refused(_) => Unheard::Gone,
                other => silent(other.to_string()),
            })?;
            let status = response.status();
            let body = Limited::new(response.into_body(), BYTES_MAX).collect().await;
            let body = body.map_err(|error| silent(error.to_string()))?;
            Ok((status, body.to_bytes()))
        };
        let late = || silent(format!("no answer within {} s", patience.as_secs()));
        tokio::time::timeout(patience, asking).await.unwrap_or_else(|_| Err(late()))
    }

    async fn call(&self, call: &Call, with: &[(&str, &str)]) -> Result<(), String> {
        let (path, body) = call.filled(with);
        match self.ask(call.method, (&path, body.into()), LOAD_PATIENCE).await {
            Ok((status, _)) if status.is_success() => Ok(()),
            Ok((status, body)) => Err(refusal(status, &body)),
            Err(Unheard::Gone) => Err("nobody listens there".to_owned()),
            Err(Unheard::Silent(why)) => Err(why),
        }
    }
}

impl Engine for Line {
    async fn listed(&self) -> Result<Listing, Unheard> {
        let (status, body) = self.ask("GET", (loaded::PATH, Bytes::new()), LIST_PATIENCE).await?;
        if !status.is_success() {
            return Err(Unheard::Silent(refusal(status, &body)));
        }
        let told = loaded::read(self.dialect, &body);
        let told = told.map_err(|error| {
            Unheard::Silent(format!("its list of models cannot be read: {error}"))
        })?;
        let adapters = told.adapters.into_iter();
        let adapters = adapters.map(|(name, root)| (name, root.map(PathBuf::from)));
        Ok(Listing { adapters: adapters.collect(), is_sure: told.is_sure })
    }

    async fn is_asleep(&self) -> bool {
        #[derive(Deserialize)]
        struct Sleeping {
            is_sleeping: bool,
        }
        if self.dialect.differences().sleep.is_none() {
            return false;
        }
        let answer = self.ask("GET", ("/is_sleeping", Bytes::new()), LIST_PATIENCE).await;
        let Ok((StatusCode::OK, body)) = answer else { return false };
        serde_json::from_slice::<Sleeping>(&body).is_ok_and(|said| said.is_sleeping)
    }

    async fn load(&self, name: &str, folder: &Path) -> Result<(), String> {
        let folder = folder.to_string_lossy();
        self.call(&self.calls.on, &[("name", name), ("path", &folder)]).await
    }

    async fn unload(&self, name: &str) -> Result<(), String> {
        self.call(&self.calls.off, &[("name", name)]).await
    }
}

/// What an engine says when it refuses.
fn refusal(status: StatusCode, body: &[u8]) -> String {
    let said: String = String::from_utf8_lossy(body).chars().take(SAID_MAX).collect();
    let said = pilotage_shell::plain::line(said.trim()).into_owned();
    if said.is_empty() { status.to_string() } else { format!("{status}: {said}") }
}

/// Whether an engine that does not unload an adapter says that it has none of that name: 404 of vLLM, 400 of SGLang.
pub(super) fn says_absent(why: &str) -> bool {
    let why = why.to_ascii_lowercase();
    let words = ["does not exist", "not found", "cannot be found"];
    why.starts_with("404") || (why.starts_with("400") && words.iter().any(|say| why.contains(say)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_one_short_line() {
        assert_eq!(refusal(StatusCode::BAD_REQUEST, b""), "400 Bad Request");
        let long = refusal(StatusCode::BAD_REQUEST, "a\n".repeat(500).as_bytes());
        assert!(long.len() < 700 && !long.contains('\n'), "{long}");
    }

    #[test]
    fn one_that_is_not_there_is_known_by_the_refusal() {
        let check = |status: u16, body: &str, expect: bool| {
            let why = refusal(StatusCode::from_u16(status).unwrap(), body.as_bytes());
            assert_eq!(says_absent(&why), expect, "{why}");
        };
        let vllm = r#"{"error":{"message":"The lora adapter 'sql' cannot be found.","type":"NotFoundError","code":404}}"#;
        check(404, vllm, true);
        let sglang = r#"{"rid":null,"success":false,"error_message":"LoRA with name sql does not exist. Loaded LoRAs: odict_keys([])"}"#;
        check(400, sglang, true);
        check(400, "LoRA is not enabled", false);
        check(500, "not found", false);
        assert!(!says_absent("no answer within 300 s"));
    }
}
