//! Whom requests are sent to and what they look like on the wire.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body_util::Full;
use pilotage_shell::secret::Secret;
use serde_json::{Map, Value};
use thiserror::Error;

use super::scan::Dialect;

/// What kind of question is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Endpoint {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completions,
    /// `/v1/embeddings`.
    Embeddings,
    /// Any path, with the same body every time: to compare proxies.
    Raw {
        /// The path with its query.
        path: String,
        /// What is posted; nothing makes it a GET.
        body: Option<Bytes>,
    },
}

/// A server, and how to ask it.
#[derive(Debug)]
pub struct Target {
    url: Uri,
    path: Uri,
    /// What is asked.
    pub endpoint: Endpoint,
    model: Value,
    stream: bool,
    headers: Vec<HeaderMap>,
    /// Fields added to every body, as `"name":value,` one after the other.
    extra: String,
}

/// What may be chosen about a [`Target`].
#[derive(Debug, Default)]
pub struct Options {
    /// The model's name.
    pub model: String,
    /// Whether answers come as streams.
    pub stream: bool,
    /// The keys, one for each tenant.
    pub keys: Vec<Option<Secret>>,
    /// Headers added to every request.
    pub headers: Vec<(String, String)>,
    /// Fields added to every body.
    pub extra: Map<String, Value>,
}

/// Why there is no such target.
#[derive(Debug, Error)]
pub enum TargetError {
    /// The URL is none.
    #[error("`{0}` is no URL: write http://HOST:PORT or https://HOST")]
    Url(String),
    /// A path is none.
    #[error("`{0}` is no path: begin it with a slash")]
    Path(String),
    /// A header, or a key that would be in one, has bytes that headers cannot have.
    #[error("the header `{0}` cannot be sent: it has characters that headers may not have")]
    Header(String),
}

/// Who says something in a conversation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// The one who asks.
    User,
    /// The one who answers.
    Assistant,
}

impl Target {
    /// A server at that URL, with or without `/v1` at its end.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn new(url: &str, endpoint: Endpoint, options: Options) -> Result<Self, TargetError> {
        let wrong = || TargetError::Url(url.to_owned());
        let base = url.trim_end_matches('/').trim_end_matches("/v1");
        let path = match &endpoint {
            Endpoint::Chat => "/v1/chat/completions",
            Endpoint::Completions => "/v1/completions",
            Endpoint::Embeddings => "/v1/embeddings",
            Endpoint::Raw { path, .. } => path,
        };
        let url: Uri = base.parse().map_err(|_| wrong())?;
        let scheme = url.scheme_str().is_some_and(|scheme| ["http", "https"].contains(&scheme));
        let host = url.authority().filter(|_| scheme).ok_or_else(wrong)?.as_str();
        let prefix = url.path().trim_end_matches('/');
        let wrong = || TargetError::Path(path.to_owned());
        let slash = path.starts_with('/').then_some(()).ok_or_else(wrong);
        let path = slash.and_then(|()| format!("{prefix}{path}").parse().map_err(|_| wrong()))?;
        let common = headers(host, &endpoint, &options.headers)?;
        let keys = if options.keys.is_empty() { vec![None] } else { options.keys };
        let headers = keys.iter().map(|key| with_key(&common, key.as_ref()));
        let headers = headers.collect::<Result<_, _>>()?;
        let field = |(name, value): (&String, &Value)| format!("{}:{value},", Value::from(&**name));
        let extra = options.extra.iter().map(field).collect();
        let (model, stream) = (Value::from(options.model), options.stream);
        Ok(Self { url, path, endpoint, model, stream, headers, extra })
    }

    /// Where to connect.
    pub fn url(&self) -> &Uri {
        &self.url
    }

    /// What the events of its streams look like.
    pub fn dialect(&self) -> Dialect {
        match self.endpoint {
            Endpoint::Raw { .. } => Dialect::Any,
            Endpoint::Chat | Endpoint::Completions | Endpoint::Embeddings => Dialect::OpenAi,
        }
    }

    /// A request of that tenant. Copies of the body share its bytes.
    pub fn request(&self, tenant: usize, body: Bytes) -> Request<Full<Bytes>> {
        let get = matches!(self.endpoint, Endpoint::Raw { body: None, .. });
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = if get { Method::GET } else { Method::POST };
        *request.uri_mut() = self.path.clone();
        if let Some(headers) = self.headers.get(tenant).or_else(|| self.headers.first()) {
            *request.headers_mut() = headers.clone();
        }
        request
    }

    /// The body that asks a conversation's next question.
    pub fn body(&self, talk: &[(Role, String)], output: u32) -> Bytes {
        let said = talk.iter().map(|(_, text)| text.len() + 64).sum::<usize>();
        let mut body = String::with_capacity(said + self.extra.len() + 256);
        let question = talk.last().map(|(_, text)| text.as_str()).unwrap_or_default();
        let tail = format!(
            "\"max_tokens\":{output},\"stream\":{}{}}}",
            self.stream,
            if self.stream { ",\"stream_options\":{\"include_usage\":true}" } else { "" },
        );
        body.push_str(&format!("{{\"model\":{},{}", self.model, self.extra));
        match &self.endpoint {
            Endpoint::Raw { body, .. } => return body.clone().unwrap_or_default(),
            Endpoint::Chat => {
                body.push_str("\"messages\":[");
                for (at, (role, text)) in talk.iter().enumerate() {
                    let comma = if at > 0 { "," } else { "" };
                    body.push_str(&format!("{comma}{{\"role\":\"{}\",\"content\":", role.name()));
                    quote(text, &mut body);
                    body.push('}');
                }
                body.push_str("],");
                body.push_str(&tail);
            }
            Endpoint::Completions => {
                body.push_str("\"prompt\":");
                let whole: String = talk.iter().map(|(_, text)| text.as_str()).collect();
                quote(&whole, &mut body);
                body.push(',');
                body.push_str(&tail);
            }
            Endpoint::Embeddings => {
                body.push_str("\"input\":");
                quote(question, &mut body);
                body.push('}');
            }
        }
        body.into()
    }
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// Writes a text as JSON does; one without anything to escape is copied.
fn quote(text: &str, into: &mut String) {
    let plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        into.push('"');
        into.push_str(text);
        into.push('"');
    } else {
        into.push_str(&Value::from(text).to_string());
    }
}

fn headers(
    host: &str,
    endpoint: &Endpoint,
    own: &[(String, String)],
) -> Result<HeaderMap, TargetError> {
    let mut headers = HeaderMap::new();
    let value = |name: &str, text: &str| {
        HeaderValue::from_str(text).map_err(|_| TargetError::Header(name.to_owned()))
    };
    headers.insert(header::HOST, value("host", host)?);
    if !matches!(endpoint, Endpoint::Raw { body: None, .. }) {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    for (name, text) in own {
        let wrong = |_| TargetError::Header(name.clone());
        let named = HeaderName::from_bytes(name.as_bytes()).map_err(wrong)?;
        headers.insert(named, value(name, text)?);
    }
    Ok(headers)
}

fn with_key(common: &HeaderMap, key: Option<&Secret>) -> Result<HeaderMap, TargetError> {
    let mut headers = common.clone();
    if let Some(key) = key {
        let value = HeaderValue::from_str(&format!("Bearer {}", key.expose()));
        let mut value = value.map_err(|_| TargetError::Header("authorization".to_owned()))?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn target(endpoint: Endpoint, stream: bool) -> Target {
        let extra = json!({"temperature": 0, "ignore_eos": true});
        let extra = extra.as_object().cloned().unwrap();
        let keys = vec![Some(Secret::new("k0".to_owned())), None];
        let headers = vec![("x-run".to_owned(), "7".to_owned())];
        let options = Options { model: "m\"1".to_owned(), stream, keys, headers, extra };
        Target::new("http://host:1/base/v1/", endpoint, options).unwrap()
    }

    #[test]
    fn bodies_are_what_servers_read() {
        let check = |endpoint: Endpoint, stream: bool, expect: Value| {
            let talk = [(Role::User, "a"), (Role::Assistant, "\"b\"\n"), (Role::User, "c")];
            let talk = talk.map(|(role, text)| (role, text.to_owned()));
            let body = target(endpoint, stream).body(&talk, 9);
            assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expect);
        };
        let messages = json!([{"role": "user", "content": "a"},
            {"role": "assistant", "content": "\"b\"\n"}, {"role": "user", "content": "c"}]);
        check(
            Endpoint::Chat,
            true,
            json!({"model": "m\"1", "temperature": 0, "ignore_eos": true, "messages": messages,
                "max_tokens": 9, "stream": true, "stream_options": {"include_usage": true}}),
        );
        check(
            Endpoint::Completions,
            false,
            json!({"model": "m\"1", "temperature": 0, "ignore_eos": true, "prompt": "a\"b\"\nc",
                "max_tokens": 9, "stream": false}),
        );
        let input = json!({"model": "m\"1", "temperature": 0, "ignore_eos": true, "input": "c"});
        check(Endpoint::Embeddings, true, input);
    }

    #[test]
    fn tenants_have_their_keys() {
        let target = target(Endpoint::Chat, true);
        let request = |tenant| target.request(tenant, Bytes::new());
        assert_eq!(request(0).headers()["authorization"], "Bearer k0");
        assert!(!request(1).headers().contains_key("authorization"));
        assert_eq!(request(1).headers()["x-run"], "7");
        assert_eq!(request(1).headers()["host"], "host:1");
        assert_eq!(request(0).uri(), "/base/v1/chat/completions");
    }

    #[test]
    fn what_cannot_be_asked_is_refused() {
        let check = |url: &str, path: &str, expect: &str| {
            let endpoint = Endpoint::Raw { path: path.to_owned(), body: None };
            let error = Target::new(url, endpoint, Options::default()).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        check("host:80", "/", "no URL");
        check("ftp://host", "/", "no URL");
        check("http://host", "metrics", "no path");
    }
}
