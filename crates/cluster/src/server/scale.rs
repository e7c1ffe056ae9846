//! Subresources besides the status: the scale of workloads, and what happens to pods.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use super::create::parse;
use super::{Answer, Ask, Cluster};
use crate::api::call::Call;
use crate::api::failure::{Cause, Details, Failure};
use crate::api::kinds::{ResourceId, Scale};
use crate::api::stamp;
use crate::patch;
use crate::store::{Key, Object};

impl Cluster {
    pub(super) fn scale(&mut self, ask: &Ask<'_>) -> Result<Answer, Failure> {
        let live = Arc::clone(self.found(ask)?);
        let Some(scale) = ask.version().scale.clone() else { return Err(Failure::no_path()) };
        let value = live.value();
        let shown = shown(&scale, &value);
        let content = ask.call.content_type.split(';').next().unwrap_or_default().trim();
        let mut wished = shown.clone();
        match ask.call.method {
            Method::GET => return Ok(Answer::json(200, &shown)),
            Method::PUT => wished = parse(&ask.call.body, true)?,
            Method::PATCH if content == "application/json-patch+json" => {
                let body = parse(&ask.call.body, false)?;
                patch::operations(&mut wished, &body)
                    .map_err(|what| Failure::new(422, "Invalid", what))?;
            }
            // A scale has no lists, so that all other patches of it are merges.
            Method::PATCH => patch::merge(&mut wished, parse(&ask.call.body, true)?),
            _ => return Err(Failure::method_not_allowed()),
        }
        let version = wished.pointer("/metadata/resourceVersion").and_then(Value::as_str);
        if version.is_some_and(|said| !said.is_empty() && said != live.revision.to_string()) {
            return Err(Failure::modified(ask.named(ask.name())));
        }
        let replicas = wished.pointer("/spec/replicas").cloned().unwrap_or_else(|| 0.into());
        if replicas.as_i64().is_none_or(|count| count < 0) {
            let why = "must be greater than or equal to 0";
            let cause = Cause::invalid("spec.replicas", &replicas, why);
            return Err(Failure::invalid("autoscaling", "Scale", ask.name(), vec![cause]));
        }
        let mut body = json!({});
        set(&mut body, &scale.spec, replicas);
        let call = Call {
            method: Method::PATCH,
            content_type: "application/merge-patch+json".into(),
            body: body.to_string().into(),
            ..ask.call.clone()
        };
        let inner = Ask {
            call: &call,
            resource: Arc::clone(&ask.resource),
            manager: ask.manager.clone(),
            ..*ask
        };
        let object = self.rescale(&inner, &live)?;
        Ok(Answer::json(200, &self::shown(&scale, &object.shared())))
    }

    /// Whether a pod may go; if so, it does.
    pub(super) fn evict(&mut self, ask: &Ask<'_>) -> Result<Answer, Failure> {
        let pod = Arc::clone(self.found(ask)?);
        if let Some((id, key, mut budget)) = self.budget(&pod) {
            let left = budget.pointer("/status/disruptionsAllowed").and_then(Value::as_u64);
            let left = left.unwrap_or_default();
            if left == 0 {
                return Err(protected(&budget));
            }
            if !ask.dry_run {
                budget["status"]["disruptionsAllowed"] = (left - 1).into();
                self.store(ask.now_ms, id, key, budget);
            }
        }
        if !ask.dry_run {
            let body = parse(&ask.call.body, true).unwrap_or_default();
            let grace = body.pointer("/deleteOptions/gracePeriodSeconds").and_then(Value::as_u64);
            self.end(ask.now_ms, &(ask.id, ask.key()), None, grace);
        }
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
        Ok(Answer::json(201, &status))
    }

    /// The disruption budget that a pod is under.
    fn budget(&self, pod: &Object) -> Option<(ResourceId, Key, Value)> {
        let (id, _) = self.kinds.find("policy", "poddisruptionbudgets")?;
        let all = self.tables.get(id)?.iter(Some(&pod.namespace));
        let mut all = all.map(|(key, budget)| (id, key.clone(), budget.value()));
        all.find(|(_, _, budget)| protects(budget, pod))
    }

    /// Gives a pod its node.
    pub(super) fn bind(&mut self, ask: &Ask<'_>) -> Result<Answer, Failure> {
        let pod = Arc::clone(self.found(ask)?);
        let body = parse(&ask.call.body, true)?;
        let node = body.pointer("/target/name").and_then(Value::as_str).unwrap_or_default();
        let mut value = pod.value();
        let bound = value.pointer("/spec/nodeName").and_then(Value::as_str);
        if bound.is_some_and(|bound| !bound.is_empty()) {
            let why = format!(
                "pod {} is already assigned to node {:?}",
                pod.name,
                bound.unwrap_or_default()
            );
            return Err(Failure::conflict(ask.named(ask.name()), &why));
        }
        value["spec"]["nodeName"] = node.into();
        let scheduled = json!({
            "type": "PodScheduled",
            "status": "True",
            "lastTransitionTime": stamp::written(ask.now_ms),
        });
        if !value["status"]["conditions"].is_array() {
            value["status"]["conditions"] = json!([]);
        }
        if let Value::Array(all) = &mut value["status"]["conditions"] {
            all.retain(|one| one["type"] != "PodScheduled");
            all.push(scheduled);
        }
        if !ask.dry_run {
            self.store(ask.now_ms, ask.id, Key::of(&pod.namespace, &pod.name), value);
        }
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
        Ok(Answer::json(201, &status))
    }
}

/// A kind's objects as scales.
fn shown(scale: &Scale, value: &Value) -> Value {
    let meta = |name: &str| value.pointer("/metadata").and_then(|meta| meta.get(name)).cloned();
    let number = |at: &str| value.pointer(at).cloned().unwrap_or_else(|| 0.into());
    let mut metadata = json!({});
    for name in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = meta(name) {
            metadata[name] = value;
        }
    }
    let mut status = json!({"replicas": number(&scale.status)});
    match scale.selector.as_ref().and_then(|at| value.pointer(at)) {
        Some(Value::String(text)) => status["selector"] = text.as_str().into(),
        Some(selector) => {
            let labels = selector.get("matchLabels").and_then(Value::as_object);
            let labels = labels.into_iter().flatten();
            let labels: Vec<String> = labels
                .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
                .collect();
            status["selector"] = labels.join(",").into();
        }
        None => {}
    }
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": number(&scale.spec)},
        "status": status,
    })
}

/// Puts a value at a pointer, with what leads to it.
fn set(value: &mut Value, pointer: &str, to: Value) {
    let mut place = value;
    for name in pointer.split('/').filter(|name| !name.is_empty()) {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[name];
    }
    *place = to;
}

/// Whether a budget is about a pod.
fn protects(budget: &Value, pod: &Object) -> bool {
    let labels = budget.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
    labels
        .is_some_and(|labels| labels.iter().all(|(name, value)| pod.label(name) == value.as_str()))
}

fn protected(budget: &Value) -> Failure {
    let name = budget.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let number = |at: &str| {
        let number = budget.pointer("/status").and_then(|status| status.get(at));
        number.and_then(Value::as_u64).unwrap_or_default()
    };
    let message = format!(
        "The disruption budget {name} needs {} healthy pods and has {} currently",
        number("desiredHealthy"),
        number("currentHealthy")
    );
    let cause = Cause::of("DisruptionBudget", "", message);
    let details = Details { causes: vec![cause], ..Details::default() };
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    let failure = Failure::new(429, "TooManyRequests", message);
    Failure { details: Some(Box::new(details)), ..failure }
}
