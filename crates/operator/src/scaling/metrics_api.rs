//! Kubernetes' external metrics API, for horizontal pod autoscalers: how many copies a Model is to have.
//!
//! The API server authenticates and authorises its clients, and asks here in their name. Nobody else is
//! answered: every connection has to come with the certificate by which API servers are known to
//! extensions. What clients may read is settled there, by roles on `external.metrics.k8s.io`.

use std::convert::Infallible;
use std::future::ready;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use pilotage_shell::clock::Clock;
use pilotage_shell::date;
use pilotage_shell::serve::{Entrance, ServeLimits, serve};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::board::{Board, METRIC};

const GROUP: &str = "external.metrics.k8s.io";
const VERSION: &str = "v1beta1";

/// The label that names the Model.
const MODEL: &str = "model";

/// Most bytes of a selector.
const SELECTOR_BYTES_MAX: usize = 4096;

/// The listener that the API server asks.
#[derive(Debug)]
pub struct MetricsApi {
    /// What it tells.
    pub board: Board,
    /// For when it tells it.
    pub clock: Clock,
}

impl MetricsApi {
    /// Serves until `stop`; who may connect is for the entrance to say.
    pub async fn run(self, entrance: Entrance, stop: CancellationToken) {
        let Self { board, clock } = self;
        let limits = ServeLimits { connections_max: 256, ..ServeLimits::default() };
        let service = move |request: Request<hyper::body::Incoming>| {
            let answer = respond(&board, request.method(), request.uri(), clock.unix_ms() / 1000);
            ready(Ok::<_, Infallible>(answer))
        };
        serve(entrance, service, limits, stop).await;
    }
}

/// Answers one request.
pub fn respond(
    board: &Board,
    method: &Method,
    uri: &Uri,
    unix_seconds: u64,
) -> Response<Full<Bytes>> {
    if method != Method::GET {
        let message = "metrics can only be read";
        return failure(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message);
    }
    let parts: Vec<&str> = uri.path().split('/').filter(|part| !part.is_empty()).collect();
    match parts[..] {
        ["apis"] => answer(StatusCode::OK, &groups()),
        ["apis", GROUP] => answer(StatusCode::OK, &group()),
        ["apis", GROUP, VERSION] => answer(StatusCode::OK, &resources()),
        ["apis", GROUP, VERSION, "namespaces", namespace, METRIC] => {
            values(board, namespace, uri.query().unwrap_or_default(), unix_seconds)
        }
        ["apis", GROUP, VERSION, "namespaces", _, metric] => {
            let message = format!("there is no metric `{metric}` here, only `{METRIC}`");
            failure(StatusCode::NOT_FOUND, "NotFound", &message)
        }
        _ => failure(StatusCode::NOT_FOUND, "NotFound", "there is nothing at this path"),
    }
}

fn values(board: &Board, namespace: &str, query: &str, unix_seconds: u64) -> Response<Full<Bytes>> {
    let selector = match selector(query) {
        Ok(selector) => selector,
        Err(message) => return failure(StatusCode::BAD_REQUEST, "BadRequest", message),
    };
    let wanted = board.of(namespace).into_iter();
    let wanted =
        wanted.filter(|(model, _)| selector.as_ref().is_none_or(|names| names.contains(model)));
    let items: Vec<Value> = wanted
        .map(|(model, count)| {
            json!({
                "metricName": METRIC,
                "metricLabels": { MODEL: model },
                "timestamp": date::utc(unix_seconds),
                "value": count.to_string(),
            })
        })
        .collect();
    let list = json!({
        "kind": "ExternalMetricValueList",
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "metadata": {},
        "items": items,
    });
    answer(StatusCode::OK, &list)
}

/// The Models that a selector names; none where it names all.
fn selector(query: &str) -> Result<Option<Vec<String>>, &'static str> {
    const FORM: &str =
        "this metric is selected by its label `model`: `model=NAME` or `model in (A, B)`";
    if query.len() > SELECTOR_BYTES_MAX {
        return Err(FORM);
    }
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let text =
        pairs.filter(|(key, _)| *key == "labelSelector").map(|(_, value)| decode(value)).next();
    let text = text.unwrap_or_default();
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let rest = text.strip_prefix(MODEL).ok_or(FORM)?.trim_start();
    let list = match rest.strip_prefix("in") {
        Some(list) => list.trim().strip_prefix('(').and_then(|list| list.strip_suffix(')')),
        None => {
            let one = rest.strip_prefix("==").or_else(|| rest.strip_prefix('='));
            one.filter(|one| !one.contains(','))
        }
    };
    let names: Vec<String> =
        list.ok_or(FORM)?.split(',').map(|name| name.trim().to_owned()).collect();
    let is_name = |name: &String| {
        !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    if names.iter().all(is_name) { Ok(Some(names)) } else { Err(FORM) }
}

/// A query's value without its percents.
fn decode(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => match (digit(rest.next()), digit(rest.next())) {
                (Some(high), Some(low)) => (high << 4 | low) as u8,
                _ => b'?',
            },
            byte => byte,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn groups() -> Value {
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [group()] })
}

fn group() -> Value {
    let version = json!({ "groupVersion": format!("{GROUP}/{VERSION}"), "version": VERSION });
    json!({
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": GROUP,
        "versions": [version],
        "preferredVersion": version,
    })
}

fn resources() -> Value {
    let metric = json!({
        "name": METRIC,
        "singularName": "",
        "namespaced": true,
        "kind": "ExternalMetricValueList",
        "verbs": ["get"],
    });
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": format!("{GROUP}/{VERSION}"),
        "resources": [metric],
    })
}

fn failure(status: StatusCode, reason: &str, message: &str) -> Response<Full<Bytes>> {
    let body = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": status.as_u16(),
    });
    answer(status, &body)
}

fn answer(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn selectors() {
        let check = |query: &str, expect: Option<Option<&[&str]>>| {
            let names =
                |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
            let expect = expect.map(|some| some.map(names));
            assert_eq!(selector(query).ok(), expect, "{query}");
        };
        check("", Some(None));
        check("labelSelector=", Some(None));
        check("labelSelector=model%3Dllama-3.1", Some(Some(&["llama-3.1"])));
        check("limit=3&labelSelector=model%3D%3Da", Some(Some(&["a"])));
        check("labelSelector=model+in+%28a%2C+b%29", Some(Some(&["a", "b"])));
        for bad in
            ["other%3Da", "model", "model%21%3Da", "model%3Da%2Cx%3Db", "model+in+a", "models%3Da"]
        {
            check(&format!("labelSelector={bad}"), None);
        }
    }

    proptest! {
        #[test]
        fn no_query_panics(query in ".{0,80}") {
            let _ = selector(&format!("labelSelector={query}"));
        }
    }
}
