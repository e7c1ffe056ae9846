//! How many copies there are, and how many may be taken away at once.
//!
//! The number is decided by Pilotage, and its operator writes it to the scale of the workload. A HorizontalPodAutoscaler is told it as an external metric: the
//! target of one for each copy makes the metric's value the number of copies. KEDA asks the operator.

use serde_json::{Value, json};

use super::object::Object;
use super::settle::Settled;
use super::{RenderError, install, workload};
use crate::api::{API_VERSION, ScaleBy, Scaling, Zero};

/// The external metric with the number of copies that a Model should have.
pub(super) const METRIC: &str = "pilotage_replicas_wanted";

/// The Kubernetes from which on autoscalers can be told what difference is none.
const TOLERANCE_MINOR: u32 = 35;

/// The budget for disruptions, and what scales the Model.
pub(super) fn objects(settled: &Settled<'_>) -> Result<Vec<Object>, RenderError> {
    let mut all = vec![budget(settled)];
    let Some(scaling) = settled.model.spec.scaling else { return Ok(all) };
    if scaling.by == ScaleBy::Pilotage {
        return Ok(all);
    }
    let target = target(settled)?;
    all.push(match scaling.by {
        ScaleBy::Keda if !settled.cluster.has.keda => {
            return Err(RenderError::Absent {
                what: "KEDA",
                instead: "install it, or write `scaling.by: hpa` or `pilotage`",
            });
        }
        ScaleBy::Keda => keda(settled, scaling, &target),
        ScaleBy::Hpa | ScaleBy::Pilotage => horizontal(settled, scaling, &target),
    });
    Ok(all)
}

/// What they change the number of: the workload, or where several versions have one each, the Model.
fn target(settled: &Settled<'_>) -> Result<Value, RenderError> {
    if settled.version.is_some() {
        let name = settled.model.name();
        return Ok(json!({ "apiVersion": API_VERSION, "kind": "Model", "name": name }));
    }
    let (version, kind) = workload::scaled(settled).ok_or(RenderError::Absent {
        what: "LeaderWorkerSet, which others could scale,",
        instead: "install it, or write `scaling.by: pilotage`",
    })?;
    Ok(json!({ "apiVersion": version, "kind": kind, "name": settled.workload_name("") }))
}

/// Nobody may take a copy away before another one is ready in its place, be it the only one or one of many: a start
/// takes minutes, and what an eviction ends cannot be had again sooner. An eviction that is refused is tried again,
/// by `kubectl drain` and by what nodes are upgraded with, and goes through when the operator has moved the copy:
/// the pod that was released is beyond the number that its Deployment wants, so that one may be missing.
///
/// Without the operator the label [`HELD`](super::labels::HELD) can be put on a pod by hand, to the same end.
fn budget(settled: &Settled<'_>) -> Object {
    let spec = json!({
        "maxUnavailable": 0,
        "selector": { "matchLabels": settled.selector() },
        // Pods that never became ready are in nobody's way.
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    });
    let metadata = settled.metadata(&settled.name);
    Object::new("policy/v1", "PodDisruptionBudget", metadata, json!({ "spec": spec }))
}

fn horizontal(settled: &Settled<'_>, scaling: Scaling, target: &Value) -> Object {
    let metric = json!({
        "name": METRIC,
        "selector": { "matchLabels": { "model": settled.model.name() } },
    });
    let mut at_once = at_once(scaling);
    if settled.cluster.minor >= TOLERANCE_MINOR {
        // Else a step of less than a tenth is none.
        at_once["tolerance"] = "0".into();
    }
    let spec = json!({
        "scaleTargetRef": target,
        // Without a feature gate it does not go to nothing; the operator does that.
        "minReplicas": least(scaling).max(1),
        "maxReplicas": scaling.max,
        "metrics": [{
            "type": "External",
            "external": { "metric": metric, "target": { "type": "AverageValue", "averageValue": "1" } },
        }],
        "behavior": { "scaleUp": at_once, "scaleDown": at_once },
    });
    let metadata = settled.metadata(&settled.name);
    Object::new("autoscaling/v2", "HorizontalPodAutoscaler", metadata, json!({ "spec": spec }))
}

/// What is decided already is not to be smoothed a second time.
fn at_once(scaling: Scaling) -> Value {
    json!({
        "stabilizationWindowSeconds": 0,
        "policies": [{ "type": "Percent", "value": 100, "periodSeconds": 15 },
                     { "type": "Pods", "value": scaling.max, "periodSeconds": 15 }],
        "selectPolicy": "Max",
    })
}

/// Fewest copies that are ever wanted: where the last one sleeps, that one alone.
fn least(scaling: Scaling) -> u32 {
    if scaling.zero == Zero::Warm { 1 } else { scaling.floor() }
}

fn keda(settled: &Settled<'_>, scaling: Scaling, target: &Value) -> Object {
    let address = install::scaler_address(&settled.cluster.system);
    let mut spec = json!({
        "scaleTargetRef": target,
        "pollingInterval": 5,
        // That nobody asked for long enough is decided already.
        "cooldownPeriod": 5,
        "minReplicaCount": least(scaling),
        "maxReplicaCount": scaling.max,
        "triggers": [{
            "type": "external-push",
            "metricType": "AverageValue",
            "metadata": { "scalerAddress": address, "model": settled.model.name() },
        }],
    });
    spec["advanced"] = json!({
        // Who scales next finds the number as it is.
        "restoreToOriginalReplicaCount": false,
        "horizontalPodAutoscalerConfig": { "behavior": { "scaleUp": at_once(scaling), "scaleDown": at_once(scaling) } },
    });
    let metadata = settled.metadata(&settled.name);
    Object::new("keda.sh/v1alpha1", "ScaledObject", metadata, json!({ "spec": spec }))
}
