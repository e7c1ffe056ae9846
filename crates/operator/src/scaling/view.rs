//! What scaling wants to know of a cluster, whoever watches it.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use pilotage_core::scale::Stage;
use pilotage_core::{Span, Time};
use pilotage_plan::Timestamp;
use pilotage_plan::api::status::ModelScaling;
use pilotage_plan::api::{FleetSpec, ModelSpec, ScaleBy};
use pilotage_plan::scaling::{PodSeen, Said, Sight};
use pilotage_plan::update::Trial;

/// Where a [`View`] comes from.
pub trait Known: Send + Sync {
    /// What is known now.
    fn view(&self) -> impl Future<Output = View> + Send;

    /// Whether this process leads: only then it changes anything.
    fn leads(&self) -> bool;

    /// What gateways say of versions on trial, by the names of their Models.
    fn heard(&self, trials: BTreeMap<String, Vec<Trial>>) {
        let _ = trials;
    }
}

/// A cluster, as far as scaling is concerned.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Models that count and have a workload, by whatever name; each name once.
    pub models: Arc<[ModelView]>,
    /// Gateways there are, also those that do not answer.
    pub gateways: Vec<GatewayView>,
}

/// A Model.
#[derive(Clone, Debug)]
pub struct ModelView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What tells it from another one of its name.
    pub uid: String,
    /// What it says.
    pub spec: Arc<ModelSpec>,
    /// The Fleet that it runs on.
    pub fleet: Option<Arc<FleetSpec>>,
    /// Who writes the number of its copies now.
    pub by: ScaleBy,
    /// What keeps its pods running; none where its number cannot be changed by itself.
    pub workload: Option<Workload>,
    /// Its pods that take requests, or are to.
    pub pods: Vec<PodView>,
    /// What its status says of scaling.
    pub said: Option<ModelScaling>,
}

/// What keeps pods running.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Workload {
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its name.
    pub name: String,
    /// Copies that it is told to have.
    pub replicas: u32,
}

/// A kind with a scale.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WorkloadKind {
    /// `apps/v1`
    Deployment,
    /// `leaderworkerset.x-k8s.io/v1`
    LeaderWorkerSet,
    /// The Model itself, where several versions of it have a workload each.
    Model,
}

/// A pod of a Model.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PodView {
    /// Its name.
    pub name: String,
    /// Where it is reached, `http://ADDRESS:PORT`, once it has an address.
    pub url: Option<String>,
    /// When it was made, in milliseconds since 1970.
    pub made_ms: u64,
    /// Since when it is ready, if it is.
    pub ready_ms: Option<u64>,
    /// Whether no node has room for it.
    pub is_unplaced: bool,
    /// Whether it is on its way out.
    pub is_ending: bool,
}

/// A gateway.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GatewayView {
    /// What tells its pod from others.
    pub uid: String,
    /// Its listener for operators, `http://ADDRESS:PORT`.
    pub url: String,
}

impl ModelView {
    /// It, as who decides wants it: `asleep` and `waking` are names of pods.
    pub(super) fn sight(
        &self,
        now: Time,
        unix_ms: u64,
        rest: impl Fn(&str) -> Option<(Stage, Time)>,
    ) -> Sight<'_> {
        let at = |then_ms: u64| now - Span::from_millis(unix_ms.saturating_sub(then_ms));
        let seen = |pod: &PodView| {
            let (stage, since) = match (pod.is_ending, pod.ready_ms, rest(&pod.name)) {
                (true, _, _) => (Stage::Draining, at(pod.made_ms)),
                (_, Some(_), Some((stage, since))) => (stage, since),
                (_, Some(ready_ms), None) => (Stage::Ready, at(ready_ms)),
                (_, None, _) => (Stage::Starting, at(pod.made_ms)),
            };
            let took = pod.ready_ms.map(|ready_ms| ready_ms.saturating_sub(pod.made_ms));
            PodSeen {
                name: pod.name.clone(),
                stage,
                since,
                took: took.map(Span::from_millis),
                is_unplaced: pod.is_unplaced,
            }
        };
        Sight {
            spec: &self.spec,
            fleet: self.fleet.as_deref(),
            by: self.by,
            said: self.said.as_ref().map(|said| {
                let since = said.since.parse::<Timestamp>();
                let since_ms = since.map_or(unix_ms, |at| at.unix_seconds().saturating_mul(1000));
                let asleep = u32::try_from(said.asleep.len()).unwrap_or(u32::MAX);
                Said { wanted: said.wanted, asleep, since: at(since_ms) }
            }),
            replicas: self.workload.as_ref().map(|workload| workload.replicas),
            pods: self.pods.iter().map(seen).collect(),
        }
    }
}
