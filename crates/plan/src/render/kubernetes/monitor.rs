//! What Prometheus' operator is told to read.

use serde_json::{Value, json};

use super::labels::Role;
use super::network::metrics_port;
use super::object::Object;
use super::settle::Settled;

/// How often metrics are read.
const INTERVAL: &str = "15s";

/// The PodMonitor of a Model, where the cluster has that kind and the program has metrics.
pub(super) fn objects(settled: &Settled<'_>) -> Option<Object> {
    let paths = &settled.spec.engine.dialect().wire().differences().paths;
    let path = paths.metrics.filter(|_| settled.cluster.has.monitors)?;
    let mut endpoint = json!({
        "port": metrics_port(settled),
        "path": path,
        "interval": INTERVAL,
        "relabelings": [{
            "sourceLabels": ["__meta_kubernetes_pod_label_pilotage_dev_model"],
            "targetLabel": "model",
        }],
    });
    if settled.takes_key() {
        let credentials = json!({ "name": settled.key_name(), "key": "key" });
        endpoint["authorization"] = json!({ "type": "Bearer", "credentials": credentials });
    }
    let spec = json!({
        "selector": { "matchLabels": settled.selector_of(Role::Serves) },
        "podMetricsEndpoints": [endpoint],
    });
    let mut metadata = settled.metadata(&settled.named("engines"));
    for (key, value) in &settled.cluster.monitor_labels {
        metadata["labels"][key] = value.as_str().into();
    }
    Some(Object::new("monitoring.coreos.com/v1", "PodMonitor", metadata, json!({ "spec": spec })))
}

/// The ServiceMonitor of a part of Pilotage.
pub(super) fn service(
    metadata: Value,
    selector: &Value,
    namespace: &str,
    authorization: Option<Value>,
) -> Object {
    let mut endpoint = json!({ "port": "admin", "path": "/metrics", "interval": INTERVAL });
    if let Some(authorization) = authorization {
        endpoint["authorization"] = authorization;
    }
    let spec = json!({
        "selector": { "matchLabels": selector },
        "namespaceSelector": { "matchNames": [namespace] },
        "endpoints": [endpoint],
    });
    Object::new("monitoring.coreos.com/v1", "ServiceMonitor", metadata, json!({ "spec": spec }))
}
