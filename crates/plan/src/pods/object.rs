//! Pods as the API server has them: what a slice would say of them, where no Service has them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Pod, Stage};

/// The label with the zone of a pod's node, which clusters copy to pods from Kubernetes 1.35 on.
const ZONE: &str = "topology.kubernetes.io/zone";

/// A pod that may take requests; none where it has no address yet, or has ended.
pub fn pod(object: &Value) -> Option<Pod> {
    let text = |at: &str| object.pointer(at).and_then(Value::as_str);
    if matches!(text("/status/phase"), Some("Succeeded" | "Failed")) {
        return None;
    }
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let is_ready = conditions.clone().any(|one| one["type"] == "Ready" && one["status"] == "True");
    let stage = match (text("/metadata/deletionTimestamp"), is_ready) {
        (Some(_), _) => Stage::Leaving,
        (None, true) => Stage::Ready,
        (None, false) => Stage::Unready,
    };
    Some(Pod {
        name: text("/metadata/name")?.to_owned(),
        uid: text("/metadata/uid")?.to_owned(),
        address: text("/status/podIP")?.parse().ok()?,
        ports: BTreeMap::new(),
        zone: object["metadata"]["labels"][ZONE].as_str().map(str::to_owned),
        node: text("/spec/nodeName").map(str::to_owned),
        near: Vec::new(),
        stage,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_take_work_as_a_service_would_have_it() {
        let check = |metadata: Value, status: Value, expect: Option<Stage>| {
            let mut object = json!({ "metadata": { "name": "p", "uid": "u" },
                "spec": { "nodeName": "n" }, "status": { "podIP": "10.0.0.7" } });
            for (part, more) in [("metadata", metadata), ("status", status)] {
                let all = object[part].as_object_mut().unwrap();
                all.extend(more.as_object().unwrap().clone());
            }
            assert_eq!(pod(&object).map(|pod| pod.stage), expect, "{object}");
        };
        let ready = json!({ "conditions": [{ "type": "Ready", "status": "True" }] });
        let not = json!({ "conditions": [{ "type": "Ready", "status": "False" }] });
        check(json!({}), ready.clone(), Some(Stage::Ready));
        check(json!({}), not, Some(Stage::Unready));
        check(json!({}), json!({}), Some(Stage::Unready));
        check(json!({ "deletionTimestamp": "2027-01-01T00:00:00Z" }), ready, Some(Stage::Leaving));
        check(json!({}), json!({ "phase": "Succeeded" }), None);
        check(json!({}), json!({ "podIP": null }), None);
        let object = json!({ "metadata": { "name": "p", "uid": "u", "labels": { ZONE: "a" } },
            "spec": { "nodeName": "n" }, "status": { "podIP": "fd00::7" } });
        let found = pod(&object).unwrap();
        assert_eq!((found.zone.as_deref(), found.node.as_deref()), (Some("a"), Some("n")));
        assert_eq!(found.address.to_string(), "fd00::7");
    }
}
