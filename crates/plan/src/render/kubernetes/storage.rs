//! Where weights are kept: a claim that all copies share, and the Job that fills it before they start.

use serde_json::json;

use super::container::quantity;
use super::labels::{REVISION, Role};
use super::object::Object;
use super::settle::Settled;
use crate::api::{Access, StorageKind};

/// Room for weights of which nobody says how large they are.
const ROOM_DEFAULT: u64 = 100 << 30;

/// Seconds that a Job that ended is kept, to be looked at.
const KEPT_SECONDS: u32 = 3600;

impl Settled<'_> {
    /// The class of its claim, where the platform's usual one is taken.
    pub(crate) fn usual_class(&self) -> Option<&'static str> {
        let storage = self.model.spec.storage.as_ref()?;
        if storage.kind != StorageKind::Claim || storage.class_name.is_some() {
            return None;
        }
        let row = self.cluster.platform.row();
        match access(self) {
            Access::ReadWriteMany => row.shared_class,
            Access::ReadWriteOnce => row.single_class,
        }
    }

    /// Room for the weights: as it is said, or a quarter more than they take.
    pub(super) fn room_bytes(&self) -> Option<u64> {
        let said = self.model.spec.storage.as_ref().and_then(|storage| storage.size_bytes);
        let grown = |bytes: u64| (bytes + bytes / 4).next_multiple_of(1 << 30);
        said.or_else(|| self.weight_bytes().map(grown))
    }
}

/// Who may mount the claim at once.
fn access(settled: &Settled<'_>) -> Access {
    settled.model.spec.storage.as_ref().and_then(|storage| storage.access).unwrap_or_default()
}

/// The claim and the Job, where weights are kept in a claim.
pub(super) fn objects(settled: &Settled<'_>) -> Vec<Object> {
    let Some(storage) = &settled.model.spec.storage else { return Vec::new() };
    if storage.kind != StorageKind::Claim {
        return Vec::new();
    }
    let access = access(settled);
    let room = settled.room_bytes().unwrap_or(ROOM_DEFAULT);
    let mut spec = json!({
        "accessModes": [access.name()],
        "resources": { "requests": { "storage": quantity(room) } },
    });
    if let Some(class) = storage.class_name.as_deref().or_else(|| settled.usual_class()) {
        spec["storageClassName"] = class.into();
    }
    let metadata = settled.metadata(&settled.named_by_weights("weights"));
    let claim = Object::new("v1", "PersistentVolumeClaim", metadata, json!({ "spec": spec }));
    std::iter::once(claim).chain(job(settled)).collect()
}

/// Fills the claim, so that copies find their weights there.
fn job(settled: &Settled<'_>) -> Option<Object> {
    let mut fetchers = settled.fetchers();
    let last = fetchers.pop()?;
    let mut labels = settled.pod_labels(Role::Works);
    // It is no engine, and no selector of engines may find it.
    labels["app.kubernetes.io/component"] = "fetch".into();
    // It belongs to the weights, which versions may share.
    if let Some(labels) = labels.as_object_mut() {
        labels.remove(REVISION);
    }
    let volumes = settled.volumes();
    let mounted =
        |volume: &&serde_json::Value| volume["name"] == "weights" || volume["name"] == "tmp";
    let volumes: Vec<_> = volumes.iter().filter(mounted).cloned().collect();
    let mut about = json!({ "labels": labels });
    if let Some(mesh) = settled.cluster.mesh {
        for (fields, pair) in ["labels", "annotations"].into_iter().zip(mesh.left_out()) {
            if let Some((key, value)) = pair {
                about[fields][key] = value.into();
            }
        }
    }
    let mut pod = json!({
        "restartPolicy": "OnFailure",
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "securityContext": settled.security(),
        "containers": [last],
        "volumes": volumes,
    });
    if !fetchers.is_empty() {
        pod["initContainers"] = fetchers.into();
    }
    let mut more = settled.allowances();
    if access(settled) == Access::ReadWriteOnce {
        // The first pod decides where such a claim is: where copies can be.
        more.extend(settled.whereabouts());
    }
    if let Some(pod) = pod.as_object_mut() {
        pod.extend(more);
    }
    let spec = json!({
        "backoffLimit": 6,
        "ttlSecondsAfterFinished": KEPT_SECONDS,
        "template": { "metadata": about, "spec": pod },
    });
    let metadata = settled.metadata(&settled.named_by_weights("fetch"));
    Some(Object::new("batch/v1", "Job", metadata, json!({ "spec": spec })))
}
