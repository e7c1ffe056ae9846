//! Nodes and what runs on them: pods get a node, start, become ready, fail and end.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;
use serde_json::{Map, Value, json};

use super::{Fate, World, condition, deleting, path, tell, text};
use crate::Cluster;
use crate::api::stamp;
use crate::store::Key;

impl World {
    /// Gives pods nodes.
    pub(super) fn schedule(&mut self, now_ms: u64, cluster: &mut Cluster) {
        let fresh = self.dirty.get("pods");
        let has_room = std::mem::take(&mut self.has_room);
        let waiting = self.unplaced.iter();
        let waiting = waiting.filter(|key| has_room || fresh.is_some_and(|all| all.contains(*key)));
        let waiting: Vec<Arc<Value>> = waiting.filter_map(|key| self.get("pods", key)).collect();
        if waiting.is_empty() {
            return;
        }
        let nodes: Vec<Arc<Value>> = {
            let all = self.kinds.get("nodes").into_iter().flat_map(|nodes| nodes.iter());
            all.map(|(_, node)| Arc::clone(node)).collect()
        };
        let mut used = self.used.clone();
        for pod in waiting {
            let fits = nodes.iter().filter(|node| {
                let none = Use::default();
                welcome(node, &pod, &["NoSchedule", "NoExecute"])
                    && used.get(text(node, "/metadata/name")).unwrap_or(&none).leaves(node, &pod)
            });
            let pods_on = |node: &Value| used.get(text(node, "/metadata/name")).map(|one| one.pods);
            let best = fits.min_by_key(|node| (pods_on(node), text(node, "/metadata/name")));
            match best {
                Some(node) => {
                    let name = text(node, "/metadata/name").to_owned();
                    let body = json!({"apiVersion": "v1", "kind": "Binding",
                        "metadata": {"name": pod["metadata"]["name"]},
                        "target": {"kind": "Node", "name": name}});
                    let target = format!("{}/binding", place(&pod));
                    cluster.inside(now_ms, Method::POST, &target, &body);
                    used.entry(name).or_default().add(&pod);
                }
                None => {
                    let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                        "message": format!("0/{} nodes are available", nodes.len())});
                    tell(now_ms, cluster, &pod, PODS, json!({"conditions": [condition]}));
                }
            }
        }
    }

    /// Lets pods with nodes go on, and deleted ones end.
    pub(super) fn run(&mut self, now_ms: u64, cluster: &mut Cluster) {
        for (key, pod) in self.take("pods") {
            let node = text(&pod, "/spec/nodeName");
            if node.is_empty() {
                continue;
            }
            match self.get("nodes", &Key::of("", node)) {
                // Nobody is there to end it.
                None => end(now_ms, cluster, &pod),
                Some(node) if deleting(&pod) && silent(&node) => {}
                Some(_) if deleting(&pod) => self.ending(now_ms, cluster, &key, &pod),
                Some(node) if !welcome(&node, &pod, &["NoExecute"]) => {
                    cluster.inside(now_ms, Method::DELETE, &place(&pod), &Value::Null);
                }
                Some(node) if !ended(&pod) && self.is_given_up(now_ms, &key, &node, &pod) => {
                    cluster.inside(now_ms, Method::DELETE, &place(&pod), &Value::Null);
                }
                // Nobody there does anything.
                Some(node) if silent(&node) => {}
                Some(_) if !ended(&pod) => self.living(now_ms, cluster, &key, &pod),
                Some(_) => {}
            }
        }
    }

    /// Whether a pod has borne a taint for as long as it does.
    fn is_given_up(&mut self, now_ms: u64, key: &Key, node: &Value, pod: &Value) -> bool {
        let taints = node.pointer("/spec/taints").and_then(Value::as_array);
        let tolerations = pod.pointer("/spec/tolerations").and_then(Value::as_array);
        let drives = taints.into_iter().flatten();
        let drives = drives.filter(|taint| text(taint, "/effect") == "NoExecute");
        let seconds = drives.filter_map(|taint| {
            let mut all = tolerations.into_iter().flatten();
            let one = all.find(|one| text(one, "/key") == text(taint, "/key"))?;
            one.get("tolerationSeconds")?.as_u64()
        });
        let known = format!("{}{BORNE}", text(pod, "/metadata/uid"));
        let Some(seconds) = seconds.min() else {
            self.since.remove(&known);
            return false;
        };
        let (_, since_ms) = *self.since.entry(known).or_insert(("borne", now_ms));
        self.over(now_ms, since_ms + seconds * 1000, key)
    }

    fn ending(&mut self, now_ms: u64, cluster: &mut Cluster, key: &Key, pod: &Value) {
        let grace_s = super::number(pod, "/metadata/deletionGracePeriodSeconds", 30);
        let at_ms =
            self.state_since(pod, "ending", now_ms) + self.nature.end_ms.min(grace_s * 1000);
        if now_ms >= at_ms { end(now_ms, cluster, pod) } else { self.due(at_ms, "pods", key) }
    }

    fn living(&mut self, now_ms: u64, cluster: &mut Cluster, key: &Key, pod: &Value) {
        let since_ms = self.state_since(pod, "living", now_ms);
        let fate = self.fate(pod);
        let over = match fate {
            Fate::NoImage | Fate::NeverReady => false,
            Fate::ReadyAfterMs(after)
            | Fate::SucceedsAfterMs(after)
            | Fate::CrashesAfterMs(after) => self.over(now_ms, since_ms + after, key),
        };
        let (phase, ready, state) = match (fate, over) {
            (Fate::NoImage, _) => ("Pending", false, waiting("ImagePullBackOff")),
            (Fate::NeverReady, _) => ("Running", false, running(since_ms)),
            (Fate::ReadyAfterMs(_), over) => {
                ("Running", over || condition(pod, "Ready"), running(since_ms))
            }
            (Fate::SucceedsAfterMs(_), true) => {
                ("Succeeded", false, json!({"terminated": {"exitCode": 0, "reason": "Completed"}}))
            }
            (Fate::CrashesAfterMs(_), true) => ("Running", false, waiting("CrashLoopBackOff")),
            (Fate::SucceedsAfterMs(_) | Fate::CrashesAfterMs(_), false) => {
                ("Running", true, running(since_ms))
            }
        };
        let mut status = status(now_ms, pod, (phase, ready), &state);
        if text(pod, "/status/podIP").is_empty() && fate != Fate::NoImage {
            let address = self.address();
            status["podIPs"] = json!([{"ip": address}]);
            status["podIP"] = address.into();
        }
        tell(now_ms, cluster, pod, PODS, status);
    }

    /// A new pod's address.
    fn address(&mut self) -> String {
        self.addresses += 1;
        let [_, a, b, c] = self.addresses.to_be_bytes();
        format!("10.{}.{b}.{c}", 128 + (a & 0x7f))
    }

    fn over(&mut self, now_ms: u64, at_ms: u64, key: &Key) -> bool {
        if now_ms < at_ms {
            self.due(at_ms, "pods", key);
        }
        now_ms >= at_ms
    }

    fn fate(&self, pod: &Value) -> Fate {
        let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
        let mut images = containers.into_iter().flatten().map(|one| text(one, "/image"));
        if images.any(|image| self.nature.no_images.iter().any(|none| none == image)) {
            return Fate::NoImage;
        }
        let label = |key: &str| pod.pointer("/metadata/labels").and_then(|labels| labels.get(key));
        let said = self
            .nature
            .fates
            .iter()
            .find(|(key, value, _)| label(key).and_then(Value::as_str) == Some(value));
        said.map_or(self.nature.fate, |(_, _, fate)| *fate)
    }
}

/// What is appended to the id of a pod for the time since when it bears a taint.
pub(super) const BORNE: &str = "#borne";

const PODS: (&str, &str) = ("v1", "pods");

fn place(pod: &Value) -> String {
    path("v1", text(pod, "/metadata/namespace"), "pods", text(pod, "/metadata/name"))
}

fn end(now_ms: u64, cluster: &mut Cluster, pod: &Value) {
    let target = format!("{}?gracePeriodSeconds=0", place(pod));
    cluster.inside(now_ms, Method::DELETE, &target, &Value::Null);
}

/// Whether nobody hears of a node: what runs there may go on, and nothing of it is told.
fn silent(node: &Value) -> bool {
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    let mut all = conditions.into_iter().flatten();
    all.any(|one| one["type"] == "Ready" && one["status"] == "Unknown")
}

/// Whether a pod did what it was for, or failed at it.
pub(super) fn ended(pod: &Value) -> bool {
    matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
}

/// Whether a pod waits for a node.
pub(super) fn asleep(pod: &Value) -> bool {
    text(pod, "/spec/nodeName").is_empty()
        && !deleting(pod)
        && !ended(pod)
        && pod.pointer("/spec/schedulingGates").is_none()
}

fn waiting(reason: &str) -> Value {
    json!({"waiting": {"reason": reason}})
}

fn running(since_ms: u64) -> Value {
    json!({"running": {"startedAt": stamp::written(since_ms)}})
}

/// The status of a pod. Conditions keep the time of their last change.
fn status(now_ms: u64, pod: &Value, (phase, ready): (&str, bool), state: &Value) -> Value {
    let old = pod.pointer("/status/conditions").and_then(Value::as_array);
    let condition = |kind: &str, holds: bool| {
        let says = if holds { "True" } else { "False" };
        let mut old = old.into_iter().flatten();
        let same = old.find(|one| one["type"] == kind && one["status"] == says);
        let since = same.map(|one| one["lastTransitionTime"].clone());
        let since = since.unwrap_or_else(|| stamp::written(now_ms).into());
        json!({"type": kind, "status": says, "lastTransitionTime": since})
    };
    let started = phase == "Running";
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    let statuses = containers.into_iter().flatten().map(|one| {
        json!({
            "name": one["name"],
            "image": one["image"],
            "imageID": "",
            "ready": ready,
            "started": started,
            "restartCount": 0,
            "state": state,
        })
    });
    json!({
        "phase": phase,
        "conditions": [
            condition("PodScheduled", true),
            condition("Initialized", true),
            condition("ContainersReady", ready),
            condition("Ready", ready),
        ],
        "containerStatuses": statuses.collect::<Vec<Value>>(),
    })
}

/// What pods take of a node.
#[derive(Clone, Debug, Default)]
pub(super) struct Use {
    pods: usize,
    /// Extended resources, such as accelerators.
    taken: BTreeMap<String, u64>,
}

impl Use {
    pub(super) fn add(&mut self, pod: &Value) {
        self.pods += 1;
        for (name, count) in asked(pod) {
            *self.taken.entry(name).or_default() += count;
        }
    }

    pub(super) fn take(&mut self, pod: &Value) {
        self.pods = self.pods.saturating_sub(1);
        for (name, count) in asked(pod) {
            let taken = self.taken.entry(name).or_default();
            *taken = taken.saturating_sub(count);
        }
    }

    fn leaves(&self, node: &Value, pod: &Value) -> bool {
        asked(pod).into_iter().all(|(name, count)| {
            let has = node.pointer("/status/allocatable").and_then(|all| all.get(&name));
            let has = has.map(count_of).unwrap_or_default();
            self.taken.get(&name).copied().unwrap_or_default() + count <= has
        })
    }
}

fn count_of(quantity: &Value) -> u64 {
    quantity.as_u64().or_else(|| quantity.as_str()?.parse().ok()).unwrap_or_default()
}

/// The extended resources that a pod asks for: those with a domain.
fn asked(pod: &Value) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    for container in containers.into_iter().flatten() {
        let limits = container.pointer("/resources/limits").and_then(Value::as_object);
        let extended = limits.into_iter().flatten().filter(|(name, _)| name.contains('/'));
        for (name, quantity) in extended {
            *all.entry(name.clone()).or_default() += count_of(quantity);
        }
    }
    all
}

/// Whether a node takes a pod, as far as taints of these effects and the pod's selector say.
fn welcome(node: &Value, pod: &Value, effects: &[&str]) -> bool {
    if effects.contains(&"NoSchedule") {
        if node.pointer("/spec/unschedulable") == Some(&Value::Bool(true)) {
            return false;
        }
        let none = Value::Object(Map::new());
        let wanted = pod.pointer("/spec/nodeSelector").unwrap_or(&none);
        if !super::selects(Some(wanted), node.pointer("/metadata/labels")) {
            return false;
        }
    }
    let taints = node.pointer("/spec/taints").and_then(Value::as_array);
    let tolerations = pod.pointer("/spec/tolerations").and_then(Value::as_array);
    let tolerated = |taint: &Value| {
        tolerations.into_iter().flatten().any(|one| {
            let key = text(one, "/key");
            let effect = text(one, "/effect");
            let any = text(one, "/operator") == "Exists";
            (key.is_empty() || key == text(taint, "/key"))
                && (effect.is_empty() || effect == text(taint, "/effect"))
                && (any || text(one, "/value") == text(taint, "/value"))
        })
    };
    let counted = |taint: &&Value| effects.contains(&text(taint, "/effect"));
    taints.into_iter().flatten().filter(counted).all(tolerated)
}
