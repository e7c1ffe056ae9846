//! Resources of the Gateway API that say what our own Routes say: they are translated into these.
//!
//! What cannot be done exactly is refused with the reason that the Gateway API has for it, never done
//! nearly. Gateways go by the translation; the operator tells the verdict in the resource's status.

use serde_json::{Map, Value, json};

use crate::api::API_VERSION;
use crate::api::Kind;
use crate::cluster::admit::Reason;
use crate::cluster::{Refusal, Seen};
use crate::crd::GROUP;

/// The annotation with the names that clients write as `model`, with commas between.
pub const MODELS_ANNOTATION: &str = "pilotage.dev/models";

/// Why a resource of the Gateway API is not accepted, in its words.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// The reason of its condition.
    pub reason: &'static str,
    /// What is wrong, and what to do.
    pub message: String,
}

/// An HTTPRoute as it counts among our resources; none where it does not lead to a Model.
pub fn http_route(object: &Value) -> Option<Seen> {
    if !is_ours(object) {
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
        if !is_model(backend) {
            let message =
                "a rule leads to a Model and to something else; lead to Models only".to_owned();
            return Err(Verdict { reason: "InvalidKind", message });
        }
        if backend["namespace"].as_str().is_some_and(|other| other != namespace) {
            let message = "a backend is in another namespace; write the route there".to_owned();
            return Err(Verdict { reason: "RefNotPermitted", message });
        }
        let weight = backend["weight"].as_u64().unwrap_or(1);
        if weight > 0 {
            targets.push(json!({ "model": backend["name"], "weight": weight }));
        }
    }
    if targets.is_empty() {
        return Err(unsupported("backendRefs", "a rule leads nowhere; name a Model"));
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

fn rules(object: &Value) -> &[Value] {
    list(object, "/spec/rules")
}

fn list<'a>(object: &'a Value, at: &str) -> &'a [Value] {
    let found = if at.starts_with('/') { object.pointer(at) } else { object.get(at) };
    found.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn unsupported(field: &str, what: &str) -> Verdict {
    Verdict { reason: "UnsupportedValue", message: format!("{field}: {what}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(spec: Value) -> Value {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": { "name": "chat", "namespace": "n", "uid": "u", "generation": 1,
                "creationTimestamp": "2027-01-01T00:00:00Z",
                "annotations": { MODELS_ANNOTATION: "gpt, chat" } },
            "spec": spec,
        })
    }

    fn to(model: &str) -> Value {
        json!({ "group": "pilotage.dev", "kind": "Model", "name": model, "weight": 3 })
    }

    #[test]
    fn routes_are_what_http_routes_say() {
        let headers = json!([{ "name": "x-tier", "value": "gold" }]);
        let spec = json!({ "parentRefs": [{ "name": "g" }], "rules": [
            { "matches": [{ "path": { "type": "PathPrefix", "value": "/v1" }, "headers": headers }],
              "backendRefs": [to("big")] },
            { "matches": [{ "path": { "type": "PathPrefix", "value": "/" } }],
              "backendRefs": [to("small"), { "group": "pilotage.dev", "kind": "Model", "name": "big" }] },
        ] });
        let expect = json!({
            "targets": [{ "model": "small", "weight": 3 }, { "model": "big", "weight": 1 }],
            "rules": [{ "name": "rule-0-0", "when": { "header": { "name": "x-tier", "value": "gold" } },
                "targets": [{ "model": "big", "weight": 3 }] }],
            "models": ["gpt", "chat"],
        });
        assert_eq!(translate(&object(spec.clone())), Ok(expect));
        let seen = http_route(&object(spec)).unwrap();
        assert!(seen.resource.is_ok(), "{:?}", seen.resource);
        assert_eq!((seen.identity.name.as_str(), seen.identity.kind), ("chat", Kind::Route));
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let check = |spec: Value, reason: &str, begins: &str| {
            let verdict = translate(&object(spec.clone())).unwrap_err();
            assert_eq!(verdict.reason, reason, "{spec}");
            assert!(verdict.message.starts_with(begins), "{}", verdict.message);
            let seen = http_route(&object(spec)).unwrap();
            assert_eq!(seen.resource.unwrap_err().message, verdict.message);
        };
        let rule = |more: Value| {
            let mut rule = json!({ "backendRefs": [to("m")] });
            for (name, value) in more.as_object().unwrap() {
                rule[name] = value.clone();
            }
            json!({ "rules": [rule] })
        };
        let unsupported = "UnsupportedValue";
        let mut named = rule(json!({}));
        named["hostnames"] = json!(["a.example.com"]);
        check(named, unsupported, "hostnames: ");
        check(rule(json!({ "filters": [{ "type": "RequestMirror" }] })), unsupported, "filters: ");
        check(rule(json!({ "timeouts": { "request": "1s" } })), unsupported, "timeouts");
        let matched = |one: Value| rule(json!({ "matches": [one] }));
        let path = json!({ "path": { "type": "Exact", "value": "/v1" } });
        check(matched(path), unsupported, "matches.path: ");
        let path = json!({ "path": { "type": "PathPrefix", "value": "/team" } });
        check(matched(path), unsupported, "matches.path: ");
        check(matched(json!({ "method": "GET" })), unsupported, "matches.method: ");
        let header = json!({ "name": "a", "value": "b" });
        check(matched(json!({ "headers": [header, header] })), unsupported, "matches.headers: ");
        check(matched(json!({ "headers": [header] })), unsupported, "rules: every rule");
        let mut two = rule(json!({}));
        two["rules"] = json!([two["rules"][0], two["rules"][0]]);
        check(two, unsupported, "rules: two rules");
        let mut elsewhere = to("m");
        elsewhere["namespace"] = "other".into();
        check(rule(json!({ "backendRefs": [elsewhere] })), "RefNotPermitted", "a backend");
        let service = json!({ "name": "web", "port": 80 });
        check(rule(json!({ "backendRefs": [to("m"), service] })), "InvalidKind", "a rule leads");
    }

    #[test]
    fn routes_to_others_are_not_ours() {
        let spec = json!({ "rules": [{ "backendRefs": [{ "name": "web", "port": 80 }] }, {}] });
        assert_eq!(http_route(&object(spec)), None);
    }
}
