//! Where traces are sent and how, from the environment variables that OpenTelemetry has for that. What is set and
//! cannot be used is an error: traces that silently go nowhere are missed when they are needed.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use thiserror::Error;

use super::message::KeyValue;
use crate::env::{self, Var};
use crate::percent;

/// The path that is added to an endpoint of all signals, for HTTP.
const PATH: &str = "/v1/traces";

/// Spans of a request, about, by which it is guessed how many requests are a batch.
const SPANS_EACH: usize = 8;

/// Most traces that wait where nothing is said: what OpenTelemetry has.
pub const QUEUE_DEFAULT: u64 = 2048;

/// Most traces that wait, however many are asked for: each holds about two kilobytes.
const QUEUE_MAX: usize = 1 << 20;

/// How a collector is spoken to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// Protobuf over HTTP/1.1.
    Http,
    /// gRPC.
    Grpc,
}

impl Protocol {
    /// The name that OpenTelemetry has for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http/protobuf",
            Self::Grpc => "grpc",
        }
    }
}

/// A collector, and how it is used.
#[derive(Clone, Debug)]
pub struct Config {
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Its URL: for HTTP the whole one, for gRPC scheme, host and port.
    pub endpoint: Uri,
    /// Headers of every request, which may be keys.
    pub headers: HeaderMap,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// Certificates that are trusted instead of the system's (PEM).
    pub certificate: Option<Vec<u8>>,
    /// Whether messages are compressed.
    pub gzip: bool,
    /// What is said of this process.
    pub attributes: Vec<(String, String)>,
    /// Most traces that wait.
    pub queue_max: usize,
    /// How long a trace waits for others to make a batch.
    pub delay: Duration,
    /// Spans of a batch, about: those of one request stay together.
    pub batch_max: usize,
}

/// A setting that cannot be used.
#[derive(Debug, Error)]
#[error("`{variable}` {wrong}")]
pub struct ConfigError {
    variable: &'static str,
    wrong: String,
}

impl ConfigError {
    /// That variable is wrong in that way.
    pub fn new(var: Var, wrong: impl Display) -> Self {
        Self { variable: env::variable(var).name, wrong: wrong.to_string() }
    }
}

/// A setting of traces and the one of all signals, which holds where there is no such.
type Pair = (Var, Var);

const ENDPOINT: Pair = (Var::OtlpTracesEndpoint, Var::OtlpEndpoint);
const PROTOCOL: Pair = (Var::OtlpTracesProtocol, Var::OtlpProtocol);
const HEADERS: Pair = (Var::OtlpTracesHeaders, Var::OtlpHeaders);
const TIMEOUT: Pair = (Var::OtlpTracesTimeout, Var::OtlpTimeout);
const CERTIFICATE: Pair = (Var::OtlpTracesCertificate, Var::OtlpCertificate);
const COMPRESSION: Pair = (Var::OtlpTracesCompression, Var::OtlpCompression);

impl Config {
    /// What the environment says; none where no traces are to be sent: without an endpoint, with
    /// `OTEL_SDK_DISABLED=true` or with `OTEL_TRACES_EXPORTER=none`. `service` is what this process is called where
    /// nothing else is said.
    ///
    /// # Errors
    /// A setting cannot be used.
    pub fn of_environment(service: &str) -> Result<Option<Self>, ConfigError> {
        Self::read(service, &|var| env::get(var))
    }

    pub(super) fn read(
        service: &str,
        get: &dyn Fn(Var) -> Option<String>,
    ) -> Result<Option<Self>, ConfigError> {
        let set = |var| get(var).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let first = |(traces, all): Pair| {
            let found = set(traces).map(|text| (traces, text));
            found.or_else(|| set(all).map(|text| (all, text)))
        };
        let disabled = set(Var::OtelDisabled).is_some_and(|text| text.eq_ignore_ascii_case("true"));
        if disabled || !exports(set(Var::TracesExporter))? {
            return Ok(None);
        }
        let Some((from, endpoint)) = first(ENDPOINT) else { return Ok(None) };
        let protocol = first(PROTOCOL).map_or(Ok(Protocol::Http), protocol)?;
        Ok(Some(Self {
            protocol,
            endpoint: url(from, &endpoint, protocol)?,
            headers: first(HEADERS).map_or(Ok(HeaderMap::new()), headers)?,
            timeout: first(TIMEOUT).map_or(Ok(10_000), |(from, text)| number(from, &text, 1))?.ms(),
            certificate: first(CERTIFICATE).map(certificate).transpose()?,
            gzip: first(COMPRESSION).map_or(Ok(false), compression)?,
            attributes: attributes(service, set(Var::ServiceName), set(Var::ResourceAttributes))?,
            queue_max: size(Var::SpanQueue, set(Var::SpanQueue), QUEUE_DEFAULT)?.min(QUEUE_MAX),
            delay: set(Var::SpanDelay)
                .map_or(Ok(5000), |text| number(Var::SpanDelay, &text, 1))?
                .ms(),
            batch_max: size(Var::SpanBatch, set(Var::SpanBatch), 512)?,
        }))
    }

    /// Scheme, host and port: paths and names may hold keys.
    pub(super) fn shown(&self) -> String {
        let host = self.endpoint.authority().map_or("", |authority| authority.as_str());
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        format!("{}://{host}", self.endpoint.scheme_str().unwrap_or("http"))
    }

    /// What is said of this process.
    pub(super) fn resource(&self) -> Vec<KeyValue> {
        self.attributes.iter().map(|(key, text)| KeyValue::new(key, text.as_str())).collect()
    }

    /// How many traces are taken to be a batch.
    pub(super) const fn wake_at(&self) -> usize {
        self.batch_max / SPANS_EACH
    }
}

trait Milliseconds {
    fn ms(self) -> Duration;
}

impl Milliseconds for u64 {
    fn ms(self) -> Duration {
        Duration::from_millis(self)
    }
}

/// Whether traces are sent by OTLP, or not at all.
fn exports(wanted: Option<String>) -> Result<bool, ConfigError> {
    match wanted.as_deref() {
        None | Some("otlp") => Ok(true),
        Some("none") => Ok(false),
        Some(other) => {
            let wrong = format!("is `{other}`; write `otlp` or `none`");
            Err(ConfigError::new(Var::TracesExporter, wrong))
        }
    }
}

fn protocol((from, text): (Var, String)) -> Result<Protocol, ConfigError> {
    match text.as_str() {
        "http/protobuf" => Ok(Protocol::Http),
        "grpc" => Ok(Protocol::Grpc),
        other => {
            let wrong = format!("is `{other}`; write `http/protobuf` or `grpc`");
            Err(ConfigError::new(from, wrong))
        }
    }
}

/// The URL that is asked. gRPC's may lack the scheme; HTTP's for all signals gets the path of traces.
fn url(from: Var, text: &str, protocol: Protocol) -> Result<Uri, ConfigError> {
    let text = text.trim_end_matches('/');
    let whole = match protocol {
        Protocol::Grpc if !text.contains("://") => format!("http://{text}"),
        Protocol::Http if from == Var::OtlpEndpoint => format!("{text}{PATH}"),
        _ => text.to_owned(),
    };
    let parsed = whole.parse::<Uri>().ok().filter(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
    });
    // Not quoted: there may be a key in it.
    let wrong = "is no URL of a collector; write one such as `http://collector:4318`, for gRPC `http://collector:4317`";
    parsed.ok_or_else(|| ConfigError::new(from, wrong))
}

/// Names and values as OpenTelemetry writes them: `a=1,b=2`, values in percents.
fn pairs(from: Var, text: &str) -> Result<Vec<(String, String)>, ConfigError> {
    let mut all = Vec::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let parts = pair.split_once('=').and_then(|(name, value)| {
            let name = Some(name.trim().to_owned()).filter(|name| !name.is_empty());
            Some((name?, percent::decode(value.trim())?))
        });
        // Not quoted: values are keys.
        let wrong = "is no list such as `name=value,name=value`; what is special in a value is written in percents";
        all.push(parts.ok_or_else(|| ConfigError::new(from, wrong))?);
    }
    Ok(all)
}

fn headers((from, text): (Var, String)) -> Result<HeaderMap, ConfigError> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs(from, &text)? {
        let wrong = |_| ConfigError::new(from, format!("has `{name}`, which is no header"));
        let header = HeaderName::from_str(&name.to_ascii_lowercase()).map_err(wrong)?;
        let wrong =
            |_| ConfigError::new(from, format!("has a value for `{name}` that no header can have"));
        let mut value = HeaderValue::from_str(&value).map_err(wrong)?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    Ok(headers)
}

fn certificate((from, path): (Var, String)) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(&path).map_err(|error| ConfigError::new(from, format!("names {path}: {error}")))
}

fn compression((from, text): (Var, String)) -> Result<bool, ConfigError> {
    match text.as_str() {
        "gzip" => Ok(true),
        "none" => Ok(false),
        other => Err(ConfigError::new(from, format!("is `{other}`; write `gzip` or `none`"))),
    }
}

fn number(from: Var, text: &str, least: u64) -> Result<u64, ConfigError> {
    let number = text.parse().ok().filter(|number| *number >= least);
    let wrong = || format!("is `{text}`; write a whole number, {least} or more");
    number.ok_or_else(|| ConfigError::new(from, wrong()))
}

fn size(from: Var, text: Option<String>, default: u64) -> Result<usize, ConfigError> {
    let size = text.map_or(Ok(default), |text| number(from, &text, 1))?;
    Ok(usize::try_from(size).unwrap_or(usize::MAX))
}

/// What is said of this process: its name, and what the environment adds, which counts more.
fn attributes(
    service: &str,
    name: Option<String>,
    more: Option<String>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut all = vec![
        ("service.name".to_owned(), service.to_owned()),
        ("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("service.instance.id".to_owned(), instance()),
        ("telemetry.sdk.name".to_owned(), "pilotage".to_owned()),
        ("telemetry.sdk.language".to_owned(), "rust".to_owned()),
        ("telemetry.sdk.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ];
    let more = more.map_or(Ok(Vec::new()), |text| pairs(Var::ResourceAttributes, &text))?;
    let name = name.map(|name| ("service.name".to_owned(), name));
    for (key, text) in more.into_iter().chain(name) {
        match all.iter_mut().find(|(known, _)| *known == key) {
            Some((_, old)) => *old = text,
            None => all.push((key, text)),
        }
    }
    Ok(all)
}

/// A number of this process that no other has.
fn instance() -> String {
    format!("{:016x}{:016x}", crate::id::random_u64(), crate::id::random_u64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(set: &[(Var, &str)]) -> Result<Option<Config>, String> {
        let get =
            |var| set.iter().find(|(known, _)| *known == var).map(|(_, text)| (*text).to_owned());
        Config::read("pilotage", &get).map_err(|error| error.to_string())
    }

    fn on(set: &[(Var, &str)]) -> Config {
        read(set).unwrap().unwrap()
    }

    const ALL: Var = Var::OtlpEndpoint;
    const TRACES: Var = Var::OtlpTracesEndpoint;
    const GRPC: (Var, &str) = (Var::OtlpProtocol, "grpc");

    #[test]
    fn nothing_is_sent_where_nobody_asked_for_it() {
        let check = |set: &[(Var, &str)], expect: bool| {
            assert_eq!(read(set).unwrap().is_some(), expect, "{set:?}");
        };
        check(&[], false);
        check(&[(ALL, " ")], false);
        check(&[(ALL, "http://c:4318")], true);
        check(&[(ALL, "http://c:4318"), (Var::OtelDisabled, "TRUE")], false);
        check(&[(ALL, "http://c:4318"), (Var::OtelDisabled, "no")], true);
        check(&[(ALL, "http://c:4318"), (Var::TracesExporter, "none")], false);
        check(&[(ALL, "http://c:4318"), (Var::TracesExporter, "otlp")], true);
    }

    #[test]
    fn endpoints_are_opentelemetrys() {
        let check = |set: &[(Var, &str)], expect: &str| {
            assert_eq!(on(set).endpoint.to_string(), expect, "{set:?}");
        };
        check(&[(ALL, "http://c:4318")], "http://c:4318/v1/traces");
        check(&[(ALL, "http://c:4318/")], "http://c:4318/v1/traces");
        check(&[(ALL, "https://c/otlp")], "https://c/otlp/v1/traces");
        check(&[(ALL, "http://a"), (TRACES, "http://b/own")], "http://b/own");
        check(&[(ALL, "c:4317"), GRPC], "http://c:4317/");
        check(&[(ALL, "https://c:4317"), GRPC], "https://c:4317/");
        let shown = on(&[(TRACES, "https://me:pk-1@c:4318/key/abc")]).shown();
        assert_eq!(shown, "https://c:4318");
    }

    #[test]
    fn settings_of_traces_count_more() {
        let config = on(&[
            (ALL, "http://c"),
            (Var::OtlpHeaders, "a=1"),
            (Var::OtlpTracesHeaders, " Authorization=Bearer%20x%2Cy , b = 2 "),
            (Var::OtlpTracesTimeout, "1500"),
            (Var::OtlpCompression, "gzip"),
            (Var::SpanQueue, "7"),
            (Var::SpanDelay, "200"),
        ]);
        assert_eq!(config.headers["authorization"], "Bearer x,y");
        assert_eq!(config.headers["b"], "2");
        assert!(!config.headers.contains_key("a"));
        assert!(!format!("{:?}", config.headers).contains("Bearer"));
        assert_eq!(config.timeout, Duration::from_millis(1500));
        assert_eq!((config.gzip, config.queue_max, config.batch_max), (true, 7, 512));
        assert_eq!(config.delay, Duration::from_millis(200));
    }

    #[test]
    fn the_process_says_who_it_is() {
        let named = on(&[
            (ALL, "http://c"),
            (Var::ResourceAttributes, "service.name=other,deployment.environment=a%2Cb"),
            (Var::ServiceName, "gateway-1"),
        ]);
        let of = |key: &str| {
            named.attributes.iter().find(|(known, _)| known == key).map(|(_, text)| text.as_str())
        };
        assert_eq!(of("service.name"), Some("gateway-1"));
        assert_eq!(of("deployment.environment"), Some("a,b"));
        assert_eq!(of("telemetry.sdk.language"), Some("rust"));
        let (_, first) = &on(&[(ALL, "http://c")]).attributes[0];
        assert_eq!(first, "pilotage");
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_name() {
        let check = |set: &[(Var, &str)], expect: &str| {
            let error = read(set).unwrap_err();
            assert!(error.contains(expect), "{error}");
        };
        check(&[(ALL, "collector:4318")], "`OTEL_EXPORTER_OTLP_ENDPOINT` is no URL");
        check(&[(TRACES, "ftp://c")], "`OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is no URL");
        check(&[(ALL, "http://c"), (Var::OtlpProtocol, "http/json")], "is `http/json`; write");
        check(
            &[(ALL, "http://c"), (Var::OtlpHeaders, "pk-1")],
            "`OTEL_EXPORTER_OTLP_HEADERS` is no list",
        );
        check(&[(ALL, "http://c"), (Var::OtlpHeaders, "a b=1")], "has `a b`, which is no header");
        check(&[(ALL, "http://c"), (Var::OtlpTimeout, "10s")], "is `10s`; write a whole number");
        check(&[(ALL, "http://c"), (Var::SpanQueue, "0")], "write a whole number, 1 or more");
        check(&[(ALL, "http://c"), (Var::OtlpCertificate, "/no/such.pem")], "names /no/such.pem");
        check(&[(ALL, "http://c"), (Var::OtlpCompression, "zstd")], "write `gzip` or `none`");
        check(&[(ALL, "http://c"), (Var::TracesExporter, "zipkin")], "write `otlp` or `none`");
        let secret = read(&[(ALL, "http://c"), (Var::OtlpHeaders, "pk-1")]).unwrap_err();
        assert!(!secret.contains("pk-1"), "{secret}");
    }
}
