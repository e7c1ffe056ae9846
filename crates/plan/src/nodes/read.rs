//! Nodes and pods as the API has them, read into what is thought about.
//!
//! The API says of some things only that they are so, and not since when: that is kept from what was read before,
//! which callers hand in, and counts from now where there is nothing.

use serde_json::Value;

use super::health::{Condition, Devices, Node, Status, Taint};
use super::moves::{Holder, ModelKey, Notice, PodSeen};
use super::signals::{ROWS, Signal};
use crate::Timestamp;
use crate::render::kubernetes::{HELD, HELD_MOVING};

/// The annotation of a released pod with its node's time: from when it was known and until when it lasts, as an
/// interval of ISO 8601.
pub const NOTICE: &str = "pilotage.dev/notice";

/// Beginnings of the names of resources that are accelerators.
const ACCELERATORS: [&str; 6] = [
    "nvidia.com/",
    "amd.com/",
    "gpu.intel.com/",
    "habana.ai/",
    "google.com/tpu",
    "aws.amazon.com/neuron",
];

/// Labels of LeaderWorkerSet: its own name, the group's number, the pod's in it (leaderworkerset.sigs.k8s.io/docs).
const GROUPS: [&str; 3] = [
    "leaderworkerset.sigs.k8s.io/name",
    "leaderworkerset.sigs.k8s.io/group-index",
    "leaderworkerset.sigs.k8s.io/worker-index",
];

impl Node {
    /// A node.
    pub fn read(now: u64, node: &Value, before: Option<&Self>) -> Self {
        let (metadata, spec, status) = (&node["metadata"], &node["spec"], &node["status"]);
        let taints = list(&spec["taints"]).map(|one| {
            let of = |field: &str| text(&one[field]);
            let same = before.and_then(|before| {
                before
                    .taints
                    .iter()
                    .find(|taint| taint.key == of("key") && taint.value == of("value"))
            });
            let added = moment(&one["timeAdded"]).or_else(|| same.map(|taint| taint.added));
            Taint {
                key: of("key"),
                value: of("value"),
                effect: of("effect"),
                added: added.unwrap_or(now),
            }
        });
        let labels = metadata["labels"].as_object().into_iter().flatten();
        Self {
            name: text(&metadata["name"]),
            is_unschedulable: spec["unschedulable"] == true,
            deleted: moment(&metadata["deletionTimestamp"]),
            taints: taints.collect(),
            conditions: list(&status["conditions"]).map(|one| condition(now, one)).collect(),
            labels: labels.map(|(key, value)| (key.clone(), text(value))).collect(),
            devices: devices(now, status, before),
        }
    }

    /// What a signal looks at, and nothing else: nodes have hundreds of labels and conditions of others.
    pub fn trimmed(mut self) -> Self {
        let says = |is: &dyn Fn(Signal) -> bool| ROWS.iter().any(|row| is(row.signal));
        self.taints
            .retain(|one| says(&|signal| matches!(signal, Signal::Taint(key) if key == one.key)));
        self.conditions.retain(|one| {
            says(&|signal| matches!(signal, Signal::Condition(kind, ..) if kind == one.kind))
        });
        self.labels.retain(|name, _| {
            says(&|signal| matches!(signal, Signal::Label(key, _) if key == name))
                || ROWS.iter().any(|row| row.only.is_some_and(|(key, _)| key == name))
        });
        self
    }
}

fn condition(now: u64, one: &Value) -> Condition {
    let status = match one["status"].as_str() {
        Some("True") => Status::True,
        Some("False") => Status::False,
        _ => Status::Unknown,
    };
    Condition {
        kind: text(&one["type"]),
        status,
        reason: text(&one["reason"]),
        message: text(&one["message"]),
        since: moment(&one["lastTransitionTime"]).unwrap_or(now),
    }
}

fn devices(now: u64, status: &Value, before: Option<&Node>) -> Vec<Devices> {
    let capacity = status["capacity"].as_object().into_iter().flatten();
    let accelerators = capacity.filter(|(name, _)| is_accelerator(name));
    let each = accelerators.map(|(name, capacity)| {
        let (capacity, allocatable) = (number(capacity), number(&status["allocatable"][name]));
        let same = before.and_then(|node| node.devices.iter().find(|one| one.resource == *name));
        let known = same.and_then(|one| one.short_since);
        let short_since = (allocatable < capacity).then(|| known.unwrap_or(now));
        Devices { resource: name.clone(), capacity, allocatable, short_since }
    });
    each.collect()
}

impl PodSeen {
    /// A pod, where it is one of a Model and has not ended.
    pub fn read(now: u64, pod: &Value, before: Option<&Self>) -> Option<Self> {
        let (metadata, spec, status) = (&pod["metadata"], &pod["spec"], &pod["status"]);
        let labels = &metadata["labels"];
        if ["Succeeded", "Failed"].map(Value::from).contains(&status["phase"]) {
            return None;
        }
        let ready = list(&status["conditions"]).find(|one| one["type"] == "Ready");
        let limits = list(&spec["containers"])
            .filter_map(|one| one["resources"]["limits"].as_object())
            .flatten();
        let is_unhealthy = list(&status["containerStatuses"])
            .flat_map(|one| list(&one["allocatedResourcesStatus"]))
            .flat_map(|one| list(&one["resources"]))
            .any(|one| one["health"] == "Unhealthy");
        let known = before.and_then(|before| before.unhealthy_since);
        Some(Self {
            name: text(&metadata["name"]),
            model: ModelKey {
                namespace: text(&metadata["namespace"]),
                name: labels["pilotage.dev/model"].as_str()?.to_owned(),
                revision: labels["pilotage.dev/revision"].as_str().map(str::to_owned),
            },
            holder: holder(labels),
            node: spec["nodeName"].as_str().map(str::to_owned),
            created: moment(&metadata["creationTimestamp"]).unwrap_or(now),
            is_ready: ready.is_some_and(|one| one["status"] == "True"),
            is_leaving: !metadata["deletionTimestamp"].is_null(),
            accelerators: limits
                .filter(|(name, _)| is_accelerator(name))
                .map(|(_, n)| number(n))
                .sum(),
            unhealthy_since: is_unhealthy.then(|| known.unwrap_or(now)),
            notice: Notice::read(&metadata["annotations"][NOTICE]),
        })
    }

    /// Whether its Deployment has let go of it.
    pub fn is_released(&self) -> bool {
        self.holder == Holder::Deployment { is_released: true }
    }
}

impl Notice {
    /// As it is written down.
    pub fn written(self) -> String {
        let text = crate::timestamp::text;
        format!("{}/{}", text(self.since), text(self.deadline))
    }

    fn read(text: &Value) -> Option<Self> {
        let (since, deadline) = text.as_str()?.split_once('/')?;
        let seconds = |text: &str| text.parse::<Timestamp>().ok().map(|at| at.unix_seconds());
        Some(Self { since: seconds(since)?, deadline: seconds(deadline)? })
    }
}

fn holder(labels: &Value) -> Holder {
    let [set, group, worker] = GROUPS.map(|key| labels[key].as_str());
    if let (Some(set), Some(group)) = (set, group) {
        return Holder::Group { name: format!("{set}-{group}"), leads: worker == Some("0") };
    }
    match labels["pilotage.dev/copy"].as_str() {
        Some(copy) => Holder::Pair { name: copy.to_owned() },
        None => Holder::Deployment { is_released: labels[HELD] == HELD_MOVING },
    }
}

fn is_accelerator(resource: &str) -> bool {
    ACCELERATORS.iter().any(|beginning| resource.starts_with(beginning))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn moment(value: &Value) -> Option<u64> {
    value.as_str()?.parse::<Timestamp>().ok().map(|moment| moment.unix_seconds())
}

/// A count of devices, which are whole.
fn number(value: &Value) -> u32 {
    let count = value.as_str().and_then(|text| text.parse().ok());
    count.or_else(|| u32::try_from(value.as_u64()?).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn nodes_are_read_and_remembered() {
        let object = json!({
            "metadata": { "name": "n", "labels": { "cloud.google.com/gke-spot": "true" } },
            "spec": { "unschedulable": true, "taints": [
                { "key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": "2027-01-15T07:59:00Z" },
                { "key": "a", "value": "b", "effect": "NoSchedule" },
            ] },
            "status": {
                "capacity": { "cpu": "96", "nvidia.com/gpu": "8", "rdma/hca": "4" },
                "allocatable": { "cpu": "95500m", "nvidia.com/gpu": "6", "rdma/hca": "0" },
                "conditions": [{ "type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown",
                    "message": "Kubelet stopped posting node status.", "lastTransitionTime": "2027-01-15T07:58:00Z" }],
            },
        });
        let first = Node::read(NOW, &object, None);
        assert_eq!(first.taints.iter().map(|one| one.added).collect::<Vec<_>>(), [NOW - 60, NOW]);
        let later = Node::read(NOW + 500, &object, Some(&first));
        assert_eq!(later, first, "what was seen before stays as old as it is");
        let resource = "nvidia.com/gpu".to_owned();
        let short = Devices { resource, capacity: 8, allocatable: 6, short_since: Some(NOW) };
        assert_eq!(first.devices, [short]);
        assert_eq!(
            (first.conditions[0].status, first.conditions[0].since),
            (Status::Unknown, NOW - 120)
        );
        assert!(first.is_unschedulable && first.deleted.is_none());
        let trimmed = first.trimmed();
        let keys: Vec<&str> = trimmed.taints.iter().map(|one| one.key.as_str()).collect();
        assert_eq!((keys, trimmed.conditions.len()), (vec!["node.kubernetes.io/unreachable"], 1));
        assert!(trimmed.labels.contains_key("cloud.google.com/gke-spot"));
    }

    #[test]
    fn pods_are_read() {
        let check = |labels: Value, expect: Holder| {
            let mut object = json!({
                "metadata": { "name": "p", "namespace": "ml", "creationTimestamp": "2027-01-15T07:00:00Z", "labels": labels },
                "spec": { "nodeName": "n", "containers": [{ "resources": { "limits": { "nvidia.com/gpu": "4", "memory": "1Gi" } } }] },
                "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }],
                    "containerStatuses": [{ "allocatedResourcesStatus": [
                        { "name": "nvidia.com/gpu", "resources": [{ "resourceID": "GPU-1", "health": "Healthy" }] } ] }] },
            });
            object["metadata"]["labels"]["pilotage.dev/model"] = "m".into();
            let pod = PodSeen::read(NOW, &object, None).unwrap();
            assert_eq!(
                (pod.holder.clone(), pod.accelerators, pod.created),
                (expect, 4, NOW - 3600)
            );
            assert!(pod.is_ready && !pod.is_leaving && pod.unhealthy_since.is_none());
            let health = &mut object["status"]["containerStatuses"][0]["allocatedResourcesStatus"]
                [0]["resources"][0]["health"];
            *health = "Unhealthy".into();
            let broken = PodSeen::read(NOW, &object, Some(&pod)).unwrap();
            assert_eq!(broken.unhealthy_since, Some(NOW));
            assert_eq!(
                PodSeen::read(NOW + 9, &object, Some(&broken)).unwrap().unhealthy_since,
                Some(NOW)
            );
            object["status"]["phase"] = "Failed".into();
            assert_eq!(PodSeen::read(NOW, &object, None), None);
        };
        let notice = Notice { since: NOW, deadline: NOW + 120 };
        assert_eq!(Notice::read(&notice.written().into()), Some(notice));
        assert_eq!(Notice::read(&"2027-01-15T08:00:00Z".into()), None);
        check(json!({ "pilotage.dev/held": "here" }), Holder::Deployment { is_released: false });
        check(json!({ "pilotage.dev/held": "moving" }), Holder::Deployment { is_released: true });
        check(json!({ "pilotage.dev/copy": "1" }), Holder::Pair { name: "1".to_owned() });
        let group = |worker: &str| json!({ GROUPS[0]: "m", GROUPS[1]: "2", GROUPS[2]: worker });
        check(group("0"), Holder::Group { name: "m-2".to_owned(), leads: true });
        check(group("1"), Holder::Group { name: "m-2".to_owned(), leads: false });
        assert_eq!(PodSeen::read(NOW, &json!({ "metadata": { "name": "x" } }), None), None);
    }
}
