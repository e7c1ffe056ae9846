//! Labels and metadata that all objects of a Model have.

use serde_json::{Map, Value, json};

use super::settle::Settled;
use crate::api::API_VERSION;

/// The label with a Model's name, which selectors use.
pub(super) const MODEL: &str = "pilotage.dev/model";

/// The label with the version of a Model, where there can be several beside each other.
pub(super) const REVISION: &str = "pilotage.dev/revision";

/// The label that tells the pods of one copy that take requests from those that compute along.
pub(super) const ROLE: &str = "pilotage.dev/role";

/// The label with the number of a copy that is a pair of StatefulSets.
pub(super) const COPY: &str = "pilotage.dev/copy";

/// The label that says whether a pod's Deployment keeps it, by which alone that selects and nothing else does.
///
/// With another value than [`HELD_HERE`] the Deployment lets go of it and starts another one at once, while the
/// Service sends it requests, the policy lets them in and the budget counts it.
pub const HELD: &str = "pilotage.dev/held";

/// The value with which a Deployment keeps a pod.
pub const HELD_HERE: &str = "here";

/// The value of pods that serve until the one in their place does.
pub const HELD_MOVING: &str = "moving";

/// The annotation of a workload with the number of groups in it that stand in for others while those move.
pub const SURGED: &str = "pilotage.dev/surged";

/// What a pod does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Role {
    /// It takes requests.
    Serves,
    /// It computes along.
    Works,
}

impl Role {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Serves => "serves",
            Self::Works => "works",
        }
    }
}

/// Labels of Pilotage's own parts.
pub(super) fn own(component: &str) -> Value {
    json!({
        "app.kubernetes.io/name": "pilotage",
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": "pilotage",
        "app.kubernetes.io/managed-by": "pilotage",
    })
}

/// What a part of Pilotage is selected by.
pub(super) fn own_selector(component: &str) -> Value {
    json!({ "app.kubernetes.io/name": "pilotage", "app.kubernetes.io/component": component })
}

impl Settled<'_> {
    /// Labels of everything that is made of the Model.
    pub(super) fn labels(&self) -> Value {
        json!({
            "app.kubernetes.io/name": self.spec.engine.name(),
            "app.kubernetes.io/instance": self.name,
            "app.kubernetes.io/component": "engine",
            "app.kubernetes.io/part-of": "pilotage",
            "app.kubernetes.io/managed-by": "pilotage",
            MODEL: self.model.name(),
        })
    }

    /// What all pods of the Model are selected by.
    pub(super) fn selector(&self) -> Value {
        json!({ "app.kubernetes.io/component": "engine", MODEL: self.model.name() })
    }

    /// What its pods of one role are selected by.
    pub(super) fn selector_of(&self, role: Role) -> Value {
        let mut selector = self.selector();
        selector[ROLE] = role.name().into();
        selector
    }

    /// What the pods of one role of this version are selected by.
    pub(super) fn selector_here(&self, role: Role) -> Value {
        self.of_version(self.selector_of(role))
    }

    /// What all pods of this version are selected by.
    pub(super) fn selector_of_all_here(&self) -> Value {
        self.of_version(self.selector())
    }

    fn of_version(&self, mut labels: Value) -> Value {
        if let Some(version) = &self.version {
            labels[REVISION] = version.revision.as_str().into();
        }
        labels
    }

    /// Metadata of an object of this version.
    pub(super) fn metadata_here(&self, name: &str) -> Value {
        let mut metadata = self.metadata(name);
        metadata["labels"] = self.of_version(self.labels());
        metadata
    }

    /// Labels of pods: those of the Model's owner, and ours over them.
    pub(super) fn pod_labels(&self, role: Role) -> Value {
        let theirs = self.model.spec.pod_template.iter().flat_map(|pods| &pods.labels);
        let mut all: Map<String, Value> =
            theirs.map(|(key, value)| (key.clone(), value.as_str().into())).collect();
        if let Value::Object(ours) = self.labels() {
            all.extend(ours);
        }
        all.insert(ROLE.to_owned(), role.name().into());
        if let Some(version) = &self.version {
            all.insert(REVISION.to_owned(), version.revision.as_str().into());
        }
        for (key, value) in self.cluster.mesh.iter().flat_map(|mesh| mesh.pod_labels()) {
            all.insert((*key).to_owned(), (*value).into());
        }
        Value::Object(all)
    }

    /// Metadata of an object of the Model, which goes when the Model goes.
    pub(super) fn metadata(&self, name: &str) -> Value {
        let mut metadata = json!({
            "name": name,
            "namespace": self.cluster.namespace,
            "labels": self.labels(),
        });
        if let Some(uid) = self.cluster.owners.get(self.model.name()) {
            metadata["ownerReferences"] = json!([{
                "apiVersion": API_VERSION,
                "kind": "Model",
                "name": self.model.name(),
                "uid": uid,
                "controller": true,
                "blockOwnerDeletion": true,
            }]);
        }
        metadata
    }
}
