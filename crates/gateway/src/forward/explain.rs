//! Why a request would go where it would go, for who operates the gateway: what its route chooses, and
//! what each lane that may answer it would decide. It is read as in earnest, and then nothing is sent,
//! booked or charged. Nothing of what it says is told again.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pilotage_core::traffic::{Choice, Explained, NoRoute, Offer};
use pilotage_core::{Prompt, RequestId, Time};
use pilotage_wire::openai::error::ApiError;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::bounds::{Asks, bounds, hops};
use super::endpoint::CHAT;
use super::protocol::Translator;
use super::{Asking, ENDPOINTS, Missed, body, deadline, media, place, reply, span};
use crate::app::Gateway;
use crate::config::Timeouts;
use crate::table::{Lane, Table};

/// What is asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    /// The body that a client sends.
    request: Box<RawValue>,
    /// Where to; chat completions without it.
    #[serde(default = "chat")]
    path: String,
    /// Whose request it is: none is needed where there is one tenant.
    tenant: Option<String>,
    /// Headers that the client sends, beside its key.
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

fn chat() -> String {
    CHAT.to_owned()
}

/// Answers `POST /explain/route`.
pub(crate) async fn answer(gateway: Gateway, request: Request) -> Response {
    let (parts, sent) = request.into_parts();
    match explain(&gateway, &parts.headers, sent).await {
        Ok(told) => reply::json(StatusCode::OK, &told),
        Err(error) => reply::error(&error),
    }
}

async fn explain(gateway: &Gateway, headers: &HeaderMap, sent: Body) -> Result<Value, ApiError> {
    let limits = &gateway.inner.config.limits;
    let sent = body::read(gateway.inner.clock, headers, sent, limits).await?;
    let question: Question = serde_json::from_slice(&sent).map_err(|error| {
        let at = format!("line {}, column {}", error.line(), error.column());
        ApiError::invalid_request(format!(
            "the question must be {{\"request\": …}}, with `path`, `tenant` and `headers` where they \
             matter; it is wrong at {at}"
        ))
    })?;
    let asking = asking(gateway, &question)?;
    let table = gateway.table();
    let (name, adapter) = place::named(&table, asking.peek.model.value.as_str());
    let route = table.route(name).ok_or_else(|| gateway.no_model(name))?;
    let id = gateway.next_id();
    let told = place::with_asked(gateway, &table, (name, id), &asking, |asked, live| {
        table.router.explain(name, asked, live)
    })?;
    let now = Time::from_nanos(gateway.inner.clock.now_nanos());
    let total = asking.deadline.unwrap_or(route.timeouts.total).min(route.timeouts.total);
    let until = (now, now + span(total));
    let lanes = match &told.choice {
        Ok(choice) => {
            let lanes = place::open_first(&table, choice.lane, &choice.fallbacks);
            let adapter = adapter.or(route.adapter.as_deref());
            in_lanes(gateway, &asking, (id, adapter), (lanes, until, route.timeouts)).await
        }
        Err(_) => Vec::new(),
    };
    let tokens = asking.endpoint.estimate(&asking.peek, u32::MAX);
    Ok(json!({
        "path": asking.endpoint.path,
        "tenant": asking.caller.name,
        "band": asking.caller.band,
        "prompt_tokens": tokens.input,
        "answer_tokens_max": asking.peek.tokens_max,
        "route": routed(&table, &told),
        "models": models(&told),
        "lanes": lanes,
    }))
}

/// The request as it would be understood.
fn asking(gateway: &Gateway, question: &Question) -> Result<Asking, ApiError> {
    let paths = || ENDPOINTS.map(|endpoint| endpoint.path).join(", ");
    let endpoint = ENDPOINTS.iter().find(|one| one.path == question.path).ok_or_else(|| {
        ApiError::invalid_request(format!("`path` must be one of {}", paths())).with_param("path")
    })?;
    let headers = headers(&question.headers)?;
    let caller = gateway.tenants().named(question.tenant.as_deref(), &headers)?;
    let sent = Bytes::copy_from_slice(question.request.get().as_bytes());
    let mut translator = Translator::new(endpoint.protocol, String::new());
    let body = translator.read(gateway, &caller, sent)?;
    let peek = endpoint.peek(&headers, &body)?;
    let config = &gateway.inner.config;
    media::check(&peek.media, &config.limits.media, &config.media_hosts)?;
    let deadline = deadline(&headers, &caller)?;
    Ok(Asking { endpoint, headers, caller, body, peek, deadline })
}

fn headers(sent: &BTreeMap<String, String>) -> Result<HeaderMap, ApiError> {
    let mut headers = HeaderMap::new();
    for (name, value) in sent {
        let pair = name.parse::<HeaderName>().ok().zip(value.parse::<HeaderValue>().ok());
        let (name, value) = pair.ok_or_else(|| {
            let message = format!("`{name}` is no header that a client can send so");
            ApiError::invalid_request(message).with_param("headers")
        })?;
        if name == header::AUTHORIZATION {
            let message = "keys are not needed here; name the tenant with `tenant`";
            return Err(ApiError::invalid_request(message).with_param("headers"));
        }
        headers.insert(name, value);
    }
    Ok(headers)
}

/// What each of the lanes would decide, in the order in which they are asked.
async fn in_lanes(
    gateway: &Gateway,
    asking: &Asking,
    (id, adapter): (RequestId, Option<&str>),
    (lanes, (now, until), timeouts): (Vec<Arc<Lane>>, (Time, Time), Timeouts),
) -> Vec<Value> {
    let mut told = Vec::new();
    for lane in lanes {
        if let Some(missing) = adapter.filter(|adapter| !lane.has_adapter(adapter)) {
            let refusal = format!("the Model has no adapter `{missing}`");
            told.push(json!({"name": lane.config.name, "refusal": refusal}));
            continue;
        }
        let tokens = asking.endpoint.estimate(&asking.peek, lane.config.context_tokens);
        let request = place::request(asking, (id, tokens), (now, until), &timeouts);
        let asks = Asks { hops: hops(&asking.headers), adapter, ..Asks::default() };
        let bounds = match bounds(&lane, asks) {
            Ok(bounds) => bounds,
            Err(Missed { refused, .. }) => {
                let refusal = &refused.error.message;
                told.push(json!({"name": lane.config.name, "refusal": refusal}));
                continue;
            }
        };
        let known = place::prompt(gateway, &lane, asking, adapter);
        let prompt = Prompt { bounds, ..known };
        if let Some(lane) = lane.handle.explain(request, prompt).await {
            told.push(json!(lane));
        }
    }
    told
}

fn routed(table: &Table, told: &Explained) -> Value {
    let rules: Vec<Value> =
        told.rules.iter().map(|(name, holds)| json!({"name": name, "holds": holds})).collect();
    let name = |lane| table.lane_at(lane).map(|lane| lane.config.name.as_str());
    match &told.choice {
        Ok(Choice { fallbacks, mirror, why, role, .. }) => json!({
            "name": why.route,
            "said": why.to_string(),
            "why": why,
            "role": role,
            "rules": rules,
            "fallbacks": fallbacks.iter().filter_map(|lane| name(*lane)).collect::<Vec<_>>(),
            "mirror": mirror.and_then(|mirror| name(mirror.lane)),
        }),
        Err(error @ (NoRoute::UnknownModel | NoRoute::NothingFits(_))) => {
            json!({"said": error.to_string(), "rules": rules})
        }
    }
}

fn models(told: &Explained) -> Vec<Value> {
    let model = |offer: &Offer| {
        let lacks = offer.lack.as_ref().map(ToString::to_string);
        json!({"name": offer.model, "open": offer.open, "lacks": lacks})
    };
    told.models.iter().map(model).collect()
}
