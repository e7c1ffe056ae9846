//! The cluster as the operator's own watches know it, for scaling: nothing is watched a second time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ListParams};
use parking_lot::Mutex;
use pilotage_plan::Resource;
use pilotage_plan::api::Model;
use pilotage_plan::cluster::{Identity, Running, Sort};
use pilotage_plan::render::kubernetes;
use pilotage_plan::update::Trial;
use pilotage_shell::clock::Clock;

use super::view::{GatewayView, Known, ModelView, PodView, View, Workload, WorkloadKind};
use crate::kubernetes::Known as Watched;

/// The Service whose pods are the gateways, at their listener for operators.
const GATEWAYS: &str = "pilotage-gateway-admin";

/// How long the list of gateways is good: a few small objects, which are not worth a watch.
const LIST_AGE_MAX: Duration = Duration::from_secs(10);

/// What the operator knows.
#[derive(Debug)]
pub struct FromWatches {
    watched: Watched,
    /// The namespace that gateways are in.
    system: String,
    clock: Clock,
    gateways: Mutex<(Option<u64>, Vec<GatewayView>)>,
    /// Models as of a revision of what the watches know: nothing is read anew while nothing changes.
    models: Mutex<(Option<u64>, Arc<[ModelView]>)>,
}

impl FromWatches {
    /// What those watches know; gateways are in the namespace of the operator itself.
    pub fn new(watched: Watched, system: String) -> Self {
        let gateways = Mutex::new((None, Vec::new()));
        let models = Mutex::new((None, Arc::default()));
        Self { watched, system, clock: Clock::start(), gateways, models }
    }

    fn models(&self) -> Arc<[ModelView]> {
        // What changes meanwhile counts next time.
        let revision = self.watched.revision();
        let (of, models) = &mut *self.models.lock();
        if *of != Some(revision) {
            let all = self.watched.models(is_scaled);
            let fleets = self.watched.fleets();
            *models = all.into_iter().filter_map(|running| model(running, &fleets)).collect();
            *of = Some(revision);
        }
        Arc::clone(models)
    }

    /// All gateways. Where they cannot be listed, those that were there last: none of them is forgotten for
    /// a moment's silence of the API server.
    async fn gateways(&self) -> Vec<GatewayView> {
        let now = self.clock.now_nanos();
        let age_max = LIST_AGE_MAX.as_nanos() as u64;
        {
            let (listed, there) = &*self.gateways.lock();
            if listed.is_some_and(|at| now.saturating_sub(at) < age_max) {
                return there.clone();
            }
        }
        let slices: Api<EndpointSlice> = Api::namespaced(self.watched.client(), &self.system);
        let params =
            ListParams::default().labels(&format!("kubernetes.io/service-name={GATEWAYS}"));
        match slices.list(&params).await {
            Ok(list) => {
                let mut there: Vec<GatewayView> = list.items.iter().flat_map(endpoints).collect();
                there.sort_by(|a, b| (&a.uid, &a.url).cmp(&(&b.uid, &b.url)));
                there.dedup_by(|a, b| a.uid == b.uid);
                *self.gateways.lock() = (Some(now), there.clone());
                there
            }
            Err(error) => {
                tracing::warn!(%error, "gateways cannot be listed; those that were there still count");
                self.gateways.lock().1.clone()
            }
        }
    }
}

impl Known for FromWatches {
    async fn view(&self) -> View {
        View { models: self.models(), gateways: self.gateways().await }
    }

    fn leads(&self) -> bool {
        self.watched.leads()
    }

    fn heard(&self, mut trials: BTreeMap<String, Vec<Trial>>) {
        let is_tried =
            |_: &Resource, status: &serde_json::Value| status["update"]["next"].is_object();
        for running in self.watched.models(is_tried) {
            let Identity { namespace, name, .. } = &running.identity;
            let said = trials.remove(name).unwrap_or_default();
            self.watched.heard_trials(namespace, name, said);
        }
    }
}

/// The gateways of a slice: those that are on their way out say nothing that is needed any more, and their
/// requests are served to the end without them.
fn endpoints(slice: &EndpointSlice) -> Vec<GatewayView> {
    let port = slice.ports.iter().flatten().find(|port| port.name.as_deref() == Some("admin"));
    let Some(port) = port.and_then(|port| port.port) else { return Vec::new() };
    let is_six = slice.address_type == "IPv6";
    let there = slice.endpoints.iter().filter(|endpoint| {
        let conditions = endpoint.conditions.as_ref();
        conditions.is_none_or(|conditions| conditions.terminating != Some(true))
    });
    there
        .filter_map(|endpoint| {
            let address = endpoint.addresses.first()?;
            let host = if is_six { format!("[{address}]") } else { address.clone() };
            let uid = endpoint.target_ref.as_ref().and_then(|target| target.uid.clone());
            let uid = uid.unwrap_or_else(|| address.clone());
            Some(GatewayView { uid, url: format!("http://{host}:{port}") })
        })
        .collect()
}

/// Whether somebody scales a Model's copies, or did as far as its status says.
fn is_scaled(resource: &Resource, status: &serde_json::Value) -> bool {
    let Resource::Model(said) = resource else { return false };
    said.spec.source.is_some() && (said.spec.scaling.is_some() || !status["scaling"].is_null())
}

fn model(running: Running, fleets: &[Resource]) -> Option<ModelView> {
    let Resource::Model(said) = &*running.resource else { return None };
    let fleet = kubernetes::fleet_of(said, fleets).map(|fleet| Arc::new(fleet.spec.clone()));
    // The number of all versions together is the Model's own; the reconciler divides it.
    let versions = said.spec.updates.as_ref().is_some_and(|updates| updates.canary.is_some());
    let own = versions.then(|| Workload {
        kind: WorkloadKind::Model,
        name: running.identity.name.clone(),
        replicas: kubernetes::replicas(said),
    });
    let pods = running.pods.into_iter().filter(|pod| pod.serves).map(|pod| PodView {
        url: pod.url(),
        name: pod.name,
        made_ms: pod.made_s * 1000,
        ready_ms: pod.ready_s.map(|seconds| seconds * 1000),
        is_unplaced: pod.is_unplaced,
        is_ending: pod.is_deleted,
    });
    Some(ModelView {
        namespace: running.identity.namespace,
        name: running.identity.name,
        uid: running.identity.uid,
        spec: Arc::new(Model::clone(said).spec),
        fleet,
        by: running.scaled_by,
        workload: own.or_else(|| {
            running.workloads.into_iter().find_map(|(sort, name, replicas)| {
                let kind = match sort {
                    Sort::Deployment => WorkloadKind::Deployment,
                    Sort::LeaderWorkerSet => WorkloadKind::LeaderWorkerSet,
                    _ => return None,
                };
                Some(Workload { kind, name, replicas })
            })
        }),
        pods: pods.collect(),
        said: serde_json::from_value(running.status["scaling"].clone()).ok(),
    })
}
