//! Adapters of copies that run: a list in a ConfigMap, and a container beside the engine that has the engine load
//! what is listed. Nothing of the pods depends on what the list holds, so that another list replaces none of them.

use serde_json::{Value, json};

use super::container::{hub_environment, restricted};
use super::name;
use super::object::Object;
use super::settle::{Settled, WEIGHTS_AT, named};
use crate::WeightsSource;
use crate::adapters::{AdapterList, FILE};
use crate::api::StorageKind;

/// Where the container beside an engine says how far it is.
pub(super) const PORT: u16 = 9470;

/// What that port is called.
pub const PORT_NAME: &str = "adapters";

/// Where adapters are kept, for both containers.
const ADAPTERS_AT: &str = "/adapters";

/// Where the list is. It is mounted as a folder: a single file of a ConfigMap would stay as it was.
const LIST_AT: &str = "/adapter-list";

/// What the list of a Model is called.
pub(crate) fn list_name(model: &str) -> String {
    name::label(model, "adapters")
}

impl Settled<'_> {
    /// Whether adapters are loaded and unloaded while copies run.
    pub(super) const fn loads_adapters(&self) -> bool {
        self.launch.features.loads_adapters
    }

    /// Whether its pods fetch anything.
    pub(super) fn fetches(&self) -> bool {
        self.loads_adapters() || !self.fetchers().is_empty()
    }

    /// The list, which all versions of the Model share.
    pub(super) fn adapter_list(&self) -> Option<Object> {
        if !self.loads_adapters() {
            return None;
        }
        let said = &self.model.spec;
        let kind = said.storage.as_ref().map(|storage| storage.kind).unwrap_or_default();
        let sources = said.adapter_sources.iter().map(|(name, source)| {
            let source = match source {
                // Of a claim, as the weights themselves.
                WeightsSource::File { path }
                    if kind == StorageKind::Claim && !path.starts_with('/') =>
                {
                    WeightsSource::File { path: format!("{WEIGHTS_AT}/{path}") }
                }
                other => other.clone(),
            };
            (name.clone(), source)
        });
        let list = AdapterList::of(&sources.collect(), said.signed_by);
        let rest = json!({ "data": { FILE: list.text() } });
        let metadata = self.metadata(&list_name(self.model.name()));
        Some(Object::new("v1", "ConfigMap", metadata, rest))
    }

    pub(super) fn adapter_volumes(&self) -> Vec<Value> {
        if !self.loads_adapters() {
            return Vec::new();
        }
        let list = json!({ "name": list_name(self.model.name()) });
        vec![
            json!({ "name": "adapters", "emptyDir": {} }),
            json!({ "name": "adapter-list", "configMap": list }),
        ]
    }

    /// Where the engine reads adapters.
    pub(super) fn adapter_mount(&self) -> Option<Value> {
        let mount = json!({ "name": "adapters", "mountPath": ADAPTERS_AT, "readOnly": true });
        self.loads_adapters().then_some(mount)
    }

    /// The container beside the engine. It is an init container that stays: it begins before the engine and ends
    /// after it, and the pod takes requests once it says that the first list was seen to.
    pub(super) fn adapter_loader(&self) -> Option<Value> {
        if !self.loads_adapters() {
            return None;
        }
        let engine = self.port(crate::launch::PortRole::Http).unwrap_or(8000);
        let args = [
            "adapters".to_owned(),
            "--list".to_owned(),
            format!("{LIST_AT}/{FILE}"),
            "--engine".to_owned(),
            format!("http://127.0.0.1:{engine}"),
            "--dialect".to_owned(),
            self.spec.engine.dialect().wire().name().to_owned(),
            "--listen".to_owned(),
            format!("0.0.0.0:{PORT}"),
        ];
        let mut env = hub_environment(ADAPTERS_AT);
        if self.takes_key() {
            let key = json!({ "secretKeyRef": { "name": self.key_name(), "key": "key" } });
            env.push(named("PILOTAGE_ENGINE_KEY", json!({ "valueFrom": key })));
        }
        Some(json!({
            "name": "adapters",
            "image": self.cluster.image,
            "imagePullPolicy": "IfNotPresent",
            "restartPolicy": "Always",
            "command": ["pilotage"],
            "args": args,
            "env": env,
            "ports": [{ "name": PORT_NAME, "containerPort": PORT, "protocol": "TCP" }],
            "readinessProbe": {
                "httpGet": { "path": "/ready", "port": PORT_NAME },
                "periodSeconds": 2,
                "timeoutSeconds": 2,
                "failureThreshold": 2,
            },
            "resources": {
                "requests": { "cpu": "100m", "memory": "128Mi" },
                "limits": { "memory": "1Gi" },
            },
            "securityContext": restricted(),
            "volumeMounts": [
                { "name": "adapters", "mountPath": ADAPTERS_AT },
                { "name": "adapter-list", "mountPath": LIST_AT, "readOnly": true },
                { "name": "weights", "mountPath": WEIGHTS_AT, "readOnly": true },
                { "name": "tmp", "mountPath": "/tmp" },
            ],
            "terminationMessagePolicy": "FallbackToLogsOnError",
        }))
    }
}
