//! Asking over HTTP, with limits on time and size. Keys go into headers and nowhere else.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use pilotage_shell::client::Client;
use tokio::time::timeout;

use crate::exit::Wrong;

/// Whom to ask, and with which headers.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    client: Client,
    base: String,
    headers: HeaderMap,
    patience: Duration,
}

impl Asking {
    /// At that address, with so much patience for each answer.
    pub(super) fn new(base: &str, patience: Duration) -> anyhow::Result<Self> {
        let base = base.trim_end_matches('/').to_owned();
        let has_scheme = base.starts_with("http://") || base.starts_with("https://");
        if !has_scheme {
            let wrong = Wrong::new(format!("`{base}` is no address"));
            bail!(wrong.hint("write it as http://HOST:PORT or https://HOST"));
        }
        Ok(Self { client: Client::new()?, base, headers: HeaderMap::new(), patience })
    }

    /// With this key, as a bearer's.
    pub(super) fn key(mut self, key: &str) -> anyhow::Result<Self> {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", key.trim()))
            .map_err(|_| Wrong::new("the key has characters that no header may have"))?;
        value.set_sensitive(true);
        self.headers.insert(header::AUTHORIZATION, value);
        Ok(self)
    }

    /// With the headers of a file.
    pub(super) fn headers(mut self, path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        for (number, line) in lines.enumerate() {
            // What is in the line may be a secret.
            let wrong = || {
                let at = format!("header {} of {} is none", number + 1, path.display());
                Wrong::new(at).hint("write one `Name: value` a line")
            };
            let (name, value) = line.split_once(':').ok_or_else(wrong)?;
            let name = HeaderName::try_from(name.trim()).map_err(|_| wrong())?;
            let mut value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
            value.set_sensitive(true);
            self.headers.insert(name, value);
        }
        Ok(self)
    }

    /// The answer's status and text.
    pub(super) async fn get(
        &self,
        path: &str,
        bytes_max: usize,
    ) -> anyhow::Result<(StatusCode, String)> {
        let url = format!("{}{path}", self.base);
        let mut request = Request::get(&url).body(Bytes::new()).map_err(|_| {
            Wrong::new(format!("`{}` is no address", self.base))
                .hint("write it as http://HOST:PORT")
        })?;
        request.headers_mut().extend(self.headers.clone());
        let asking = async {
            let response = self.client.request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), bytes_max).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!("its answer broke off: {error}"))?;
            Ok::<_, anyhow::Error>((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
        };
        let late = || anyhow::anyhow!("no answer within {} s", self.patience.as_secs_f64());
        timeout(self.patience, asking).await.map_err(|_| late())?
    }
}

/// A text as a query's value.
pub(super) fn escaped(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing into a text cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_survive_their_way() {
        assert_eq!(escaped("a=~\"b é\"+[5m]"), "a%3D~%22b%20%C3%A9%22%2B%5B5m%5D");
    }

    #[test]
    fn an_address_needs_a_scheme() {
        let check = |url: &str, expect: bool| {
            assert_eq!(Asking::new(url, Duration::from_secs(1)).is_ok(), expect, "{url}");
        };
        check("http://a:1/", true);
        check("https://a", true);
        check("a:9090", false);
    }

    #[test]
    fn headers_are_read_and_mistakes_do_not_show_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("headers");
        std::fs::write(&path, "X-Scope-OrgID: llm\n\nAuthorization: Basic abc\n").unwrap();
        let asking = Asking::new("http://a", Duration::from_secs(1)).unwrap();
        assert_eq!(asking.clone().headers(&path).unwrap().headers.len(), 2);
        std::fs::write(&path, "secret without a colon").unwrap();
        let said = asking.headers(&path).unwrap_err().to_string();
        assert!(!said.contains("secret"), "{said}");
    }
}
