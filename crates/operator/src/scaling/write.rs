//! Writes to the API server: the scale of a workload, what a Model's status says of it, and events.

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Secret as Stored};
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, ResourceExt as _};
use pilotage_plan::api::API_VERSION;
use pilotage_plan::api::status::ModelScaling;
use pilotage_plan::render::kubernetes::name;
use pilotage_shell::secret::Secret;
use serde_json::json;

use super::view::{ModelView, Workload, WorkloadKind};

/// The field manager of what scaling writes.
pub(crate) const MANAGER: &str = "pilotage-scaling";

/// Longest note of an event.
const NOTE_CHARS_MAX: usize = 1000;

/// Writes.
#[derive(Clone)]
pub(super) struct Writer {
    client: Client,
    recorder: Recorder,
}

/// Something that happened to a Model.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) reason: &'static str,
    pub(super) action: &'static str,
    pub(super) note: String,
    pub(super) is_warning: bool,
}

impl Writer {
    /// `instance` is the name of this pod.
    pub(super) fn new(client: Client, instance: Option<String>) -> Self {
        let reporter = Reporter { controller: "pilotage.dev/scaling".to_owned(), instance };
        Self { recorder: Recorder::new(client.clone(), reporter), client }
    }

    /// Tells a workload how many copies it is to have.
    pub(super) async fn scale(
        &self,
        namespace: &str,
        workload: &Workload,
        replicas: u32,
    ) -> Result<(), kube::Error> {
        let workloads: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, &kind_of(workload.kind));
        let patch = json!({ "spec": { "replicas": replicas } });
        let params =
            PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        workloads.patch_scale(&workload.name, &params, &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// Says in a Model's status what is wanted; nothing where its copies do not follow the load.
    pub(super) async fn status(
        &self,
        model: &ModelView,
        scaling: Option<&ModelScaling>,
    ) -> Result<(), kube::Error> {
        let models: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &model.namespace, &models());
        let status = scaling.map_or_else(|| json!({}), |scaling| json!({ "scaling": scaling }));
        let whole = json!({
            "apiVersion": API_VERSION,
            "kind": "Model",
            "metadata": { "name": model.name, "uid": model.uid },
            "status": status,
        });
        let params = PatchParams::apply(MANAGER).force();
        models.patch_status(&model.name, &params, &Patch::Apply(whole)).await?;
        Ok(())
    }

    /// Tells of something that happened to a Model. Who cannot be told does without.
    pub(super) async fn tell(&self, model: &ModelView, told: Told) {
        let reference = ObjectReference {
            api_version: Some(API_VERSION.to_owned()),
            kind: Some("Model".to_owned()),
            name: Some(model.name.clone()),
            namespace: Some(model.namespace.clone()),
            uid: Some(model.uid.clone()),
            ..ObjectReference::default()
        };
        let event = Event {
            type_: if told.is_warning { EventType::Warning } else { EventType::Normal },
            reason: told.reason.to_owned(),
            note: Some(told.note.chars().take(NOTE_CHARS_MAX).collect()),
            action: told.action.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &reference).await {
            tracing::warn!(model = model.name, %error, "cannot write an event");
        }
    }

    /// Ends a pod, for what keeps it running to start another one.
    pub(super) async fn end(&self, model: &ModelView, pod: &str) -> Result<(), kube::Error> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &model.namespace);
        match pods.delete(pod, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(refused)) if refused.code == 404 => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The key that a Model's engines ask for, where there is one.
    pub(super) async fn key(&self, model: &ModelView) -> Result<Option<Secret>, kube::Error> {
        let secrets: Api<Stored> = Api::namespaced(self.client.clone(), &model.namespace);
        let name = name::label(&model.name, "key");
        let Some(secret) = secrets.get_opt(&name).await? else { return Ok(None) };
        tracing::trace!(secret = secret.name_any(), "read a key");
        let entry = secret.data.and_then(|mut data| data.remove("key"));
        let text = entry.and_then(|bytes| String::from_utf8(bytes.0).ok());
        Ok(text.map(|text| Secret::new(text.trim().to_owned())))
    }
}

fn kind_of(kind: WorkloadKind) -> ApiResource {
    match kind {
        WorkloadKind::Deployment => resource("apps", "v1", "Deployment", "deployments"),
        WorkloadKind::LeaderWorkerSet => {
            resource("leaderworkerset.x-k8s.io", "v1", "LeaderWorkerSet", "leaderworkersets")
        }
        WorkloadKind::Model => models(),
    }
}

fn models() -> ApiResource {
    let (group, version) = API_VERSION.split_once('/').unwrap_or(("", API_VERSION));
    resource(group, version, "Model", "models")
}

pub(super) fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    let api_version =
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version,
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}
