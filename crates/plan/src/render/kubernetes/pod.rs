//! Pod templates: the container with its volumes, where it may run, and how it ends.

use serde_json::{Map, Value, json};

use super::adapters;
use super::container::{LEAVE_SECONDS, USER, quantity};
use super::labels::{COPY, Role};
use super::platform::{Known, bears, toleration};
use super::settle::{Nodes, Settled, entry};
use crate::WeightsSource;
use crate::api::{Effect, StorageKind, Toleration};
use crate::launch::VolumeRole;

/// Taints of nodes that nobody hears of, and of those that say themselves that they are not ready.
const GONE: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// Seconds after which copies start elsewhere that were on such a node, instead of Kubernetes' 300: the node
/// controller has waited for most of a minute before it says so, copies take minutes to start, and a kubelet that
/// starts again is back sooner.
const GONE_SECONDS: u32 = 60;

/// Most that programs compile and keep: beyond it a pod is put out before the disk of its node is full.
const CACHE_MAX: &str = "64Gi";

/// Most that they write beside that.
const TMP_MAX: &str = "16Gi";

impl Settled<'_> {
    /// The template of pods of that role.
    pub(super) fn pod(&self, role: Role, nodes: Nodes) -> Value {
        let mut metadata = json!({ "labels": self.pod_labels(role) });
        let annotations = self.pod_annotations();
        if !annotations.is_empty() {
            metadata["annotations"] = Value::Object(annotations);
        }
        json!({ "metadata": metadata, "spec": self.pod_spec(role, nodes) })
    }

    fn pod_spec(&self, role: Role, nodes: Nodes) -> Value {
        let mut spec = Map::new();
        let mut set = |name: &str, value: Value| drop(spec.insert(name.to_owned(), value));
        // Nothing in a pod speaks with the API server.
        set("automountServiceAccountToken", false.into());
        set("enableServiceLinks", false.into());
        let grace = self.spec.grace_seconds.saturating_add(LEAVE_SECONDS);
        set("terminationGracePeriodSeconds", grace.into());
        set("securityContext", self.security());
        // Adapters are fetched while weights are.
        let before: Vec<Value> = self.adapter_loader().into_iter().chain(self.fetchers()).collect();
        if !before.is_empty() {
            set("initContainers", Value::Array(before));
        }
        set("containers", json!([self.container(role, nodes)]));
        set("volumes", Value::Array(self.volumes()));
        for (field, value) in self.whereabouts() {
            set(&field, value);
        }
        // Also of a single copy: another one must not change the template, which would start the first one anew.
        if role == Role::Serves {
            set("topologySpreadConstraints", self.spread(nodes));
        }
        for (field, value) in self.allowances() {
            set(&field, value);
        }
        let said = self.model.spec.pod_template.as_ref();
        if let Some(class) = said.and_then(|pods| pods.runtime_class_name.as_ref()) {
            set("runtimeClassName", class.as_str().into());
        }
        if let Nodes::Sets(copy) = nodes {
            let affinity = spec.entry("affinity").or_insert_with(|| json!({}));
            affinity["podAffinity"] = self.together(copy);
        }
        Value::Object(spec)
    }

    /// What the pod is held to: restricted Pod Security. Users are the platform's matter where it
    /// gives each namespace its own.
    pub(super) fn security(&self) -> Value {
        security(self.cluster.platform.row().fixed_users)
    }

    fn pod_annotations(&self) -> Map<String, Value> {
        let theirs = self.model.spec.pod_template.iter().flat_map(|pods| &pods.annotations);
        let mut all: Map<String, Value> =
            theirs.map(|(key, value)| (key.clone(), value.as_str().into())).collect();
        let mesh = self.cluster.mesh;
        let probed: &[u16] = if self.loads_adapters() { &[adapters::PORT] } else { &[] };
        let mesh = mesh.map(|mesh| {
            mesh.pod_annotations(&self.spec.ports, &self.template_fetch_ports(), probed)
        });
        for (key, value) in mesh.into_iter().flatten() {
            all.entry(key).or_insert_with(|| value.into());
        }
        all
    }

    pub(super) fn volumes(&self) -> Vec<Value> {
        let mut volumes = vec![
            json!({ "name": "cache", "emptyDir": { "sizeLimit": CACHE_MAX } }),
            json!({ "name": "tmp", "emptyDir": { "sizeLimit": TMP_MAX } }),
            self.weights_volume(),
        ];
        volumes.extend(self.adapter_volumes());
        let shared = self.spec.volumes.iter().any(|one| one.role == VolumeRole::SharedMemory);
        if let Some(bytes) = self.spec.shared_memory_bytes.filter(|_| shared) {
            let folder = json!({ "medium": "Memory", "sizeLimit": quantity(bytes) });
            volumes.push(json!({ "name": "shared-memory", "emptyDir": folder }));
        }
        if !self.spec.files.is_empty() {
            let name = self.named_here("files");
            let items = self.spec.files.iter();
            let items: Vec<Value> = items
                .map(|file| json!({ "key": entry(&file.path), "path": entry(&file.path) }))
                .collect();
            let map = json!({ "name": name, "items": items });
            volumes.push(json!({ "name": "files", "configMap": map }));
        }
        volumes
    }

    fn weights_volume(&self) -> Value {
        let storage = self.model.spec.storage.as_ref();
        match storage.map(|storage| storage.kind).unwrap_or_default() {
            StorageKind::Claim => {
                let claim = json!({ "claimName": self.named_by_weights("weights") });
                json!({ "name": "weights", "persistentVolumeClaim": claim })
            }
            StorageKind::Image => {
                let reference = match &self.model.spec.source {
                    Some(source @ WeightsSource::Oci { .. }) => {
                        source.to_string().trim_start_matches("oci://").to_owned()
                    }
                    _ => String::new(),
                };
                let image = json!({ "reference": reference, "pullPolicy": "IfNotPresent" });
                json!({ "name": "weights", "image": image })
            }
            StorageKind::Ephemeral => match self.room_bytes() {
                Some(bytes) => {
                    json!({ "name": "weights", "emptyDir": { "sizeLimit": quantity(bytes) } })
                }
                None => json!({ "name": "weights", "emptyDir": {} }),
            },
        }
    }

    /// Labels of the nodes: the Fleet's or the platform's for its hardware, and the Model's own.
    fn node_selector(&self) -> Map<String, Value> {
        let mut all = Map::new();
        let row = self.cluster.platform.row();
        if let Some(fleet) = self.fleet.map(|fleet| &fleet.spec) {
            let said = fleet.node_selector.iter();
            all.extend(said.map(|(key, value)| (key.clone(), value.as_str().into())));
            if let Some((key, value)) = self.known().and_then(|known| known.label) {
                all.insert(key.to_owned(), value.into());
            }
            // Who says which nodes these are knows them by labels of their own.
            let is_said = !fleet.node_selector.is_empty();
            if let (true, false, Some(((key, value), _))) = (fleet.spot, is_said, row.spot) {
                all.insert(key.to_owned(), value.into());
            }
        }
        let own = self.model.spec.pod_template.iter().flat_map(|pods| &pods.node_selector);
        all.extend(own.map(|(key, value)| (key.clone(), value.as_str().into())));
        all
    }

    /// What nodes with its accelerators are known by on this platform, where the Fleet says which they are and not how
    /// its nodes are labelled.
    pub(crate) fn known(&self) -> Option<Known> {
        let fleet = &self.fleet?.spec;
        let is_asked = fleet.hardware.is_some() && fleet.node_selector.is_empty();
        let known = self.cluster.platform.hardware(&self.accelerator);
        known.filter(|_| is_asked && self.accelerators() > 0)
    }

    fn tolerations(&self) -> Vec<Value> {
        let mut all = Vec::new();
        let row = self.cluster.platform.row();
        if let Some(name) = self.resource_name().filter(|_| self.accelerators() > 0) {
            // Device plugins taint nodes by the name of their resource; parts of a device are on nodes
            // of the whole.
            let key = if name.starts_with("nvidia.com/") { "nvidia.com/gpu" } else { name };
            all.push(bears(key, None));
            all.extend(row.taint.map(|(key, value)| bears(key, Some(value))));
        }
        if let Some(fleet) = self.fleet.map(|fleet| &fleet.spec) {
            if let (true, Some(((key, value), true))) = (fleet.spot, row.spot) {
                all.push(bears(key, Some(value)));
            }
            all.extend(fleet.tolerations.iter().cloned());
        }
        let own = self.model.spec.pod_template.iter().flat_map(|pods| &pods.tolerations);
        all.extend(own.cloned());
        all.dedup();
        // Who says what is tolerated of a taint says for how long.
        let is_said = |key: &&str| all.iter().any(|one| covers(one, key));
        let gone = GONE.iter().filter(|key| !is_said(key)).map(|key| {
            json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": GONE_SECONDS })
        });
        all.iter().map(toleration).chain(gone).collect()
    }

    /// What a pod names of its namespace to be let run: whose rights it has, secrets for images.
    pub(super) fn allowances(&self) -> Map<String, Value> {
        let mut spec = Map::new();
        let Some(pods) = &self.model.spec.pod_template else { return spec };
        let names = [
            ("serviceAccountName", &pods.service_account_name),
            ("priorityClassName", &pods.priority_class_name),
        ];
        for (field, name) in names {
            if let Some(name) = name {
                spec.insert(field.to_owned(), name.as_str().into());
            }
        }
        if !pods.image_pull_secrets.is_empty() {
            let secrets = pods.image_pull_secrets.iter().map(|name| json!({ "name": name }));
            spec.insert("imagePullSecrets".to_owned(), secrets.collect());
        }
        spec
    }

    /// Where the pod may run.
    pub(super) fn whereabouts(&self) -> Map<String, Value> {
        let mut spec = Map::new();
        let selector = self.node_selector();
        if !selector.is_empty() {
            spec.insert("nodeSelector".to_owned(), Value::Object(selector));
        }
        if let Some(terms) = self.known().map(|known| known.terms).filter(|terms| !terms.is_empty())
        {
            let terms = json!({ "nodeSelectorTerms": terms });
            let nodes = json!({ "requiredDuringSchedulingIgnoredDuringExecution": terms });
            spec.insert("affinity".to_owned(), json!({ "nodeAffinity": nodes }));
        }
        spec.insert("tolerations".to_owned(), Value::Array(self.tolerations()));
        spec
    }

    /// Copies are spread over nodes and zones, as far as that goes: those of several nodes by the one that serves.
    fn spread(&self, nodes: Nodes) -> Value {
        let version = match nodes {
            Nodes::One => Some(VERSION),
            Nodes::Group => Some("leaderworkerset.sigs.k8s.io/template-revision-hash"),
            // Each of the sets has a hash of its own.
            Nodes::Sets(_) => None,
        };
        spread(&self.selector_here(Role::Serves), version)
    }

    /// The nodes of a copy are in one zone, as far as that goes: each token goes over the network between them.
    fn together(&self, copy: u32) -> Value {
        let mut selector = self.selector_of_all_here();
        selector[COPY] = copy.to_string().into();
        let term = json!({
            "labelSelector": { "matchLabels": selector },
            "topologyKey": "topology.kubernetes.io/zone",
        });
        json!({ "preferredDuringSchedulingIgnoredDuringExecution": [{ "weight": 100, "podAffinityTerm": term }] })
    }
}

/// Whether a pod with that toleration is let stay on nodes with that taint.
fn covers(one: &Toleration, key: &str) -> bool {
    one.key.as_deref().is_none_or(|own| own == key)
        && one.value.is_none()
        && one.effect.is_none_or(|effect| effect == Effect::NoExecute)
}

/// The label with the version of a Deployment's pods.
pub(super) const VERSION: &str = "pod-template-hash";

/// Spread over nodes and zones, as far as that goes: each version by itself, since the one before it goes, where a
/// label says which one a pod is of.
pub(super) fn spread(selector: &Value, version: Option<&str>) -> Value {
    let over = |key: &str| {
        let mut one = json!({
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": { "matchLabels": selector },
        });
        if let Some(version) = version {
            one["matchLabelKeys"] = json!([version]);
        }
        one
    };
    json!([over("topology.kubernetes.io/zone"), over("kubernetes.io/hostname")])
}

/// The security context of a pod.
pub(super) fn security(fixed_users: bool) -> Value {
    let mut context = json!({
        "runAsNonRoot": true,
        "seccompProfile": { "type": "RuntimeDefault" },
    });
    if fixed_users {
        context["runAsUser"] = USER.into();
        context["runAsGroup"] = USER.into();
        context["fsGroup"] = USER.into();
        // Claims with many files would be walked through at each start otherwise.
        context["fsGroupChangePolicy"] = "OnRootMismatch".into();
    }
    context
}
