//! The admin listener of a running gateway, as commands ask it.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use pilotage_shell::client::{Client, Incoming};
use pilotage_shell::secret::Secret;
use serde_json::Value;

use crate::args::Reach;
use crate::exit::{Away, Wrong};
use crate::installation::Installation;

/// How long an answer may take. Sums over a year of usage take seconds, triage of many models a part of one.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of one line of a stream.
const LINE_BYTES_MAX: usize = 1 << 20;

/// An admin listener.
pub(crate) struct Admin {
    url: String,
    key: Secret,
    client: Client,
}

impl Admin {
    /// The one that is meant.
    ///
    /// # Errors
    /// Nothing runs here, or the key cannot be read.
    pub(crate) fn new(reach: &Reach) -> anyhow::Result<Self> {
        let installation = Installation::at(reach.data_dir.clone())?;
        let url = match &reach.url {
            Some(url) if !url.starts_with("http://") && !url.starts_with("https://") => {
                let wrong = Wrong::new(format!("{url} is no address of an admin listener"));
                bail!(wrong.hint(format!("write http://{url}")));
            }
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => installation.state()?.admin_url,
        };
        let key = match &reach.key_file {
            Some(file) => {
                let text = std::fs::read_to_string(file).map_err(|error| {
                    Wrong::new(format!("cannot read {}: {error}", file.display()))
                        .hint("name the file that holds the gateway's admin key")
                })?;
                Secret::new(text.trim().to_owned())
            }
            None => installation.existing_key("admin.key")?.context("the admin key is gone")?,
        };
        Ok(Self { url, key, client: Client::new()? })
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What is at a path.
    ///
    /// # Errors
    /// The gateway does not answer, does not know the key, or says that something is wrong.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let (status, body) = self.ask(Method::GET, path, Bytes::new()).await?;
        told(&self.url, status, body)
    }

    /// The same; none where there is no such thing.
    pub(crate) async fn find(&self, path: &str) -> anyhow::Result<Option<Value>> {
        let (status, body) = self.ask(Method::GET, path, Bytes::new()).await?;
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        told(&self.url, status, body).map(Some)
    }

    /// What is answered to a question in JSON.
    pub(crate) async fn post(&self, path: &str, question: Vec<u8>) -> anyhow::Result<Value> {
        let (status, body) = self.ask(Method::POST, path, question.into()).await?;
        told(&self.url, status, body)
    }

    /// Lines as they come.
    pub(crate) async fn follow(&self, path: &str) -> anyhow::Result<Lines> {
        let asked = self.send(Method::GET, path, Bytes::new());
        let response = self.in_time(asked).await?;
        let status = response.status();
        if status != StatusCode::OK {
            let body = self.in_time(async { Ok(response.into_body().collect().await?) }).await?;
            let body = body.to_bytes();
            told(&self.url, status, body)?;
            bail!("{} answered {status}", self.url);
        }
        Ok(Lines { body: response.into_body(), held: Vec::new() })
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let answer = async {
            let response = self.send(method, path, body).await?;
            let status = response.status();
            Ok((status, response.into_body().collect().await?.to_bytes()))
        };
        self.in_time(answer).await
    }

    /// What was asked for, unless it takes too long: one that stands still accepts connections all the same.
    async fn in_time<T>(
        &self,
        asked: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| {
            let message = format!("{} did not answer within {} s", self.url, PATIENCE.as_secs());
            Err(Away::new(message, "see whether its process is stopped or starved, and its log")
                .into())
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<http::Response<Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.key.expose()))
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)?;
        let response = self.client.request(request).await.map_err(|error| {
            let hint = "give the admin listener's address in --url, or start `pilotage up`";
            Away::new(format!("cannot reach {}: {error}", self.url), hint)
        })?;
        Ok(response)
    }
}

/// What was answered, as JSON.
fn told(url: &str, status: StatusCode, body: Bytes) -> anyhow::Result<Value> {
    let told: Value = serde_json::from_slice(&body)
        .with_context(|| format!("{url} answered {status}, and not in JSON"))?;
    match told["error"]["message"].as_str() {
        Some(message) if status == StatusCode::UNAUTHORIZED => Err(Wrong::new(message)
            .hint("name a file with the gateway's admin key in --key-file")
            .into()),
        Some(message) if message.contains("/v1/chat/completions") => {
            Err(Wrong::new(format!("{url} is where clients ask, and not the admin listener"))
                .hint("give the admin listener's address in --url: another port")
                .into())
        }
        Some(message) if status.is_client_error() => Err(Wrong::new(message.to_owned()).into()),
        Some(message) => bail!("{message}"),
        None => Ok(told),
    }
}

/// Lines of a stream.
pub(crate) struct Lines {
    body: Incoming,
    held: Vec<u8>,
}

impl Lines {
    /// The next one; none when the stream is over.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<String>> {
        loop {
            if let Some(end) = self.held.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.held.drain(..=end).collect();
                line.pop();
                return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            if let Ok(data) = frame.context("the stream broke off")?.into_data() {
                self.held.extend_from_slice(&data);
            }
            if self.held.len() > LINE_BYTES_MAX {
                bail!("the gateway sent a line of more than {LINE_BYTES_MAX} bytes");
            }
        }
    }
}

/// A query that names what is there, with its values escaped.
pub(crate) fn query<'a>(pairs: impl IntoIterator<Item = (&'a str, Option<String>)>) -> String {
    let mut query = String::new();
    for (name, value) in pairs {
        let Some(value) = value else { continue };
        query.push(if query.is_empty() { '?' } else { '&' });
        query.push_str(name);
        query.push('=');
        query.push_str(&escaped(&value));
    }
    query
}

/// A text as a part of a URL (RFC 3986, section 2.3).
pub(crate) fn escaped(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    let escape = |byte: u8| match plain(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that stands still accepts connections, and says nothing.
    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_is_not_waited_for() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let admin = Admin { url, key: Secret::new("x".to_owned()), client: Client::new().unwrap() };
        let error = admin.get("/status").await.err().unwrap();
        assert!(error.is::<Away>() && error.to_string().contains("did not answer within 30 s"));
        let error = admin.follow("/records/stream").await.err().unwrap();
        assert!(error.is::<Away>(), "{error:#}");
    }

    #[test]
    fn what_was_answered_is_told_with_what_to_do() {
        let check = |status: u16, body: &str, expect: &[&str]| {
            let status = StatusCode::from_u16(status).unwrap();
            let error = told("http://a", status, Bytes::from(body.to_owned())).err().unwrap();
            let hints = crate::exit::hints(&error).join(" ");
            let said = format!("{error:#} {hints}");
            assert!(expect.iter().all(|part| said.contains(part)), "{said}");
        };
        check(401, r#"{"error":{"message":"needs its key"}}"#, &["needs its key", "--key-file"]);
        let clients = r#"{"error":{"message":"the API has /v1/chat/completions, /v1/models"}}"#;
        check(404, clients, &["where clients ask", "--url"]);
        check(400, r#"{"error":{"message":"no such band"}}"#, &["no such band"]);
        check(200, "<html>", &["not in JSON"]);
    }

    #[test]
    fn a_query_escapes_what_it_is_given() {
        let pairs = [
            ("tenant", Some("a&b=c d/é".to_owned())),
            ("model", None),
            ("id", Some("x-1.2".to_owned())),
        ];
        assert_eq!(query(pairs), "?tenant=a%26b%3Dc%20d%2F%C3%A9&id=x-1.2");
        assert_eq!(query([("none", None)]), "");
    }
}
