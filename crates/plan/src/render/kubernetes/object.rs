//! One object as an API server takes it.
//!
//! It is JSON and not a struct of bindings: what is absent must stay absent for server-side apply,
//! and kinds that others bring are as good as Kubernetes' own. Tests read every rendered object into
//! the bindings, which must give the same back.

use serde::Serialize;
use serde_json::{Value, json};

use super::yaml;

/// An object to apply.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Object(Value);

impl Object {
    /// One of a kind with its parts beside `apiVersion`, `kind` and `metadata`.
    pub(super) fn new(api_version: &str, kind: &str, metadata: Value, rest: Value) -> Self {
        let mut object = json!({ "apiVersion": api_version, "kind": kind, "metadata": metadata });
        if let (Some(object), Value::Object(rest)) = (object.as_object_mut(), rest) {
            object.extend(rest);
        }
        Self(object)
    }

    /// As JSON.
    pub const fn value(&self) -> &Value {
        &self.0
    }

    /// Its group and version: `apps/v1`.
    pub fn api_version(&self) -> &str {
        self.0["apiVersion"].as_str().unwrap_or_default()
    }

    /// Its kind.
    pub fn kind(&self) -> &str {
        self.0["kind"].as_str().unwrap_or_default()
    }

    /// Its place among the objects of a Model: what others need comes before them.
    pub(super) fn order(&self) -> usize {
        const ORDER: [&str; 8] = [
            "Secret",
            "ConfigMap",
            "PersistentVolumeClaim",
            "Job",
            "Service",
            "NetworkPolicy",
            "Deployment",
            "StatefulSet",
        ];
        const LAST: [&str; 4] =
            ["PodDisruptionBudget", "HorizontalPodAutoscaler", "ScaledObject", "PodMonitor"];
        let place = |kinds: &[&str]| kinds.iter().position(|kind| *kind == self.kind());
        match (place(&ORDER), place(&LAST), self.kind()) {
            (Some(place), _, _) => place,
            (None, Some(place), _) => ORDER.len() + 1 + place,
            (None, None, "LeaderWorkerSet") => ORDER.len(),
            (None, None, _) => ORDER.len() + LAST.len() + 1,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.0["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// Its namespace; none for what belongs to the whole cluster.
    pub fn namespace(&self) -> Option<&str> {
        self.0["metadata"]["namespace"].as_str()
    }

    /// As a document of YAML.
    pub fn to_yaml(&self) -> String {
        yaml::document(&self.0)
    }
}
