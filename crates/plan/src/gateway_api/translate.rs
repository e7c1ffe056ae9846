//! HTTPRoutes, told as our own Routes.

use serde_json::{Map, Value, json};

use super::{MODELS_ANNOTATION, POOL_GROUP, Verdict, pool};
use crate::api::API_VERSION;
use crate::api::Kind;
use crate::cluster::admit::Reason;
use crate::cluster::{Refusal, Seen};
use crate::crd::GROUP;

/// An HTTPRoute as it counts among our resources; none where it leads to no Model and no InferencePool.
pub fn http_route(object: &Value) -> Option<Seen> {
    if !is_ours(object) && pools(object).is_empty() {
        return None;
    }
    let metadata = &object["metadata"];
    let route = |spec: Value| json!({ "apiVersion": API_VERSION, "kind": "Route", "metadata": metadata, "spec": spec });
    Some(match translate(object) {
        Ok(spec) => Seen::read(Kind::Route, &route(spec)),
        Err(verdict) => Seen {
            identity: Seen::read(Kind::Route, &route(Value::Null)).identity,
            resource: Err(Refusal { reason: Reason::Invalid, message: verdict.message }),
        },
    })
}

/// Whether any rule of an HTTPRoute leads to a Model.
pub fn is_ours(object: &Value) -> bool {
    rules(object).iter().flat_map(|rule| list(rule, "backendRefs")).any(is_model)
}

/// The names of the InferencePools of its own namespace that an HTTPRoute leads to.
pub(super) fn pools(object: &Value) -> Vec<&str> {
    let backends = rules(object).iter().flat_map(|rule| list(rule, "backendRefs"));
    backends.filter(|one| is_pool(one)).filter_map(|one| one["name"].as_str()).collect()
}

/// The spec of the Route that an HTTPRoute is.
///
/// # Errors
/// It says what cannot be done.
pub fn translate(object: &Value) -> Result<Value, Verdict> {
    if !list(object, "/spec/hostnames").is_empty() {
        return Err(unsupported(
            "hostnames",
            "requests are told apart by their model; leave them out",
        ));
    }
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    let (mut default, mut others) = (None, Vec::new());
    for (index, rule) in rules(object).iter().enumerate() {
        check(rule)?;
        let targets = targets(rule, namespace)?;
        let matches = list(rule, "matches");
        if matches.is_empty() || matches.iter().any(|one| list(one, "headers").is_empty()) {
            for one in matches {
                check_match(one)?;
            }
            if default.replace(targets).is_some() {
                return Err(unsupported("rules", "two rules take every request; keep one of them"));
            }
            continue;
        }
        for (at, one) in matches.iter().enumerate() {
            let header = header(one)?;
            let name = format!("rule-{index}-{at}");
            others.push(json!({ "name": name, "when": { "header": header }, "targets": targets }));
        }
    }
    let Some(default) = default else {
        let what = "every rule wants a header; add one without, for all other requests";
        return Err(unsupported("rules", what));
    };
    let mut spec = Map::new();
    spec.insert("targets".to_owned(), default);
    if !others.is_empty() {
        spec.insert("rules".to_owned(), others.into());
    }
    let said = object["metadata"]["annotations"][MODELS_ANNOTATION].as_str().unwrap_or_default();
    let names: Vec<&str> = said.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if !names.is_empty() {
        spec.insert("models".to_owned(), json!(names));
    }
    Ok(Value::Object(spec))
}

/// What a rule has beside matches and backends.
fn check(rule: &Value) -> Result<(), Verdict> {
    let backends = list(rule, "backendRefs");
    if !list(rule, "filters").is_empty()
        || backends.iter().any(|backend| !list(backend, "filters").is_empty())
    {
        return Err(unsupported("filters", "none is known here; leave them out"));
    }
    if ["timeouts", "retry", "sessionPersistence"].iter().any(|field| !rule[field].is_null()) {
        let what = "write a Route of pilotage.dev, which has its own";
        return Err(unsupported("timeouts, retry and sessionPersistence", what));
    }
    Ok(())
}

fn targets(rule: &Value, namespace: &str) -> Result<Value, Verdict> {
    let mut targets = Vec::new();
    for backend in list(rule, "backendRefs") {
        if !is_model(backend) && !is_pool(backend) {
            let what = "a rule leads to something else than a Model or an InferencePool; lead to those only";
            return Err(Verdict::new("InvalidKind", what));
        }
        if backend["namespace"].as_str().is_some_and(|other| other != namespace) {
            let what = "a backend is in another namespace; write the route there";
            return Err(Verdict::new("RefNotPermitted", what));
        }
        let weight = backend["weight"].as_u64().unwrap_or(1);
        if weight > 0 {
            let name = backend["name"].as_str().unwrap_or_default();
            let model = match is_pool(backend) {
                true => pool::model_name(namespace, name),
                false => name.to_owned(),
            };
            targets.push(json!({ "model": model, "weight": weight }));
        }
    }
    if targets.is_empty() {
        return Err(unsupported(
            "backendRefs",
            "a rule leads nowhere; name a Model or an InferencePool",
        ));
    }
    Ok(targets.into())
}

/// What a match asks for beside headers: the paths of the API are all that is served.
fn check_match(one: &Value) -> Result<(), Verdict> {
    let (kind, value) = (one["path"]["type"].as_str(), one["path"]["value"].as_str());
    let is_all = matches!(value, None | Some("/" | "/v1" | "/v1/"));
    if !is_all || !matches!(kind, None | Some("PathPrefix")) {
        return Err(unsupported("matches.path", "write the prefix `/v1` or none"));
    }
    if !list(one, "queryParams").is_empty() {
        return Err(unsupported("matches.queryParams", "the API has none; leave them out"));
    }
    match one["method"].as_str() {
        None | Some("POST") => Ok(()),
        Some(_) => Err(unsupported("matches.method", "requests are POST; leave it out")),
    }
}

fn header(one: &Value) -> Result<Value, Verdict> {
    check_match(one)?;
    let [header] = list(one, "headers") else {
        return Err(unsupported("matches.headers", "only one can be asked for in a match"));
    };
    match header["type"].as_str() {
        None | Some("Exact") => Ok(json!({ "name": header["name"], "value": header["value"] })),
        Some(_) => Err(unsupported("matches.headers.type", "only `Exact` is known here")),
    }
}

fn is_model(backend: &Value) -> bool {
    backend["group"] == GROUP && backend["kind"] == "Model"
}

fn is_pool(backend: &Value) -> bool {
    backend["group"] == POOL_GROUP && backend["kind"] == "InferencePool"
}

fn rules(object: &Value) -> &[Value] {
    list(object, "/spec/rules")
}

pub(super) fn list<'a>(object: &'a Value, at: &str) -> &'a [Value] {
    let found = if at.starts_with('/') { object.pointer(at) } else { object.get(at) };
    found.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn unsupported(field: &str, what: &str) -> Verdict {
    Verdict::new("UnsupportedValue", format!("{field}: {what}"))
}
