//! What a lane looks like to who operates it.

use std::collections::HashMap;

use pilotage_core::queue::Entitlement;
use pilotage_core::{FailureKind, Fleet, InitialSpeed, ReplicaId, RequestId, Span};
use pilotage_lens::triage::evidence::{Accelerator, Planned};
use serde::Serialize;

use super::{Driver, Known, PodName};
use crate::metrics::Fault;

/// A lane as the status shows it.
#[derive(Debug, Serialize)]
pub(crate) struct LaneStatus {
    pub(crate) name: String,
    pub(crate) queue: QueueStatus,
    pub(crate) replicas: Vec<ReplicaStatus>,
    /// Who has what.
    pub(crate) tenants: Vec<TenantStatus>,
    pub(crate) speed: SpeedStatus,
    /// What manifests and weights say of all of its replicas, filled in by whoever knows them.
    #[serde(skip_serializing_if = "Planned::is_empty")]
    pub(crate) planned: Planned,
}

/// What a replica of which nothing is known is taken for.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct SpeedStatus {
    /// For each token of a prompt.
    pub(crate) prompt_token_ms: f64,
    /// For a step.
    pub(crate) step_ms: f64,
    /// More for each sequence in it.
    pub(crate) sequence_ms: f64,
    /// Whether that comes from requests here; before there are any it is a calibration's, or a guess.
    pub(crate) measured: bool,
}

/// One tenant's part.
#[derive(Debug, Serialize)]
pub(crate) struct TenantStatus {
    /// Filled in by whoever knows the names.
    pub(crate) name: String,
    /// The tenant that it belongs to, filled in likewise.
    pub(crate) parent: Option<String>,
    /// Its part of all KV tokens in flight, 0 to 1; none where nothing is in flight.
    pub(crate) used_share: Option<f64>,
    /// The part that it has when everybody wants everything, filled in likewise.
    pub(crate) entitled_share: f64,
    #[serde(flatten)]
    pub(crate) entitlement: Entitlement,
}

/// What waits.
#[derive(Debug, Serialize)]
pub(crate) struct QueueStatus {
    pub(crate) requests: u32,
    pub(crate) tokens: u64,
    /// The largest difference of received service among waiting tenants, in weighted tokens.
    pub(crate) gap: u64,
}

/// One replica.
#[derive(Debug, Serialize)]
pub(crate) struct ReplicaStatus {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) url: String,
    /// The class of its hardware, where that is known.
    pub(crate) hardware: Option<String>,
    /// Its accelerators; one for a processor.
    pub(crate) accelerators: u32,
    /// What one of them can do by its data sheet.
    pub(crate) accelerator: Accelerator,
    /// What it costs an hour, where its Fleet or manifest says so.
    pub(crate) price_per_hour: Option<f64>,
    /// Numbers or UUIDs of its accelerators, on this machine.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) devices: Vec<String>,
    /// The pod that it is, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<PodName>,
    pub(crate) up: bool,
    /// Requests that it may have at once; none while it is let go.
    pub(crate) places: u32,
    pub(crate) in_flight: u32,
    pub(crate) tokens_in_flight: u64,
    pub(crate) last_error: Option<LastError>,
    /// Whether it gets work, as far as its answers tell.
    pub(crate) health: Option<String>,
    /// Milliseconds since it said something about itself.
    pub(crate) report_age_ms: Option<u64>,
}

/// The last attempt that failed at a replica.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct LastError {
    pub(crate) kind: FailureKind,
    pub(crate) ago_ms: u64,
}

impl Driver {
    /// A request's attempt failed so, which is told before that it failed.
    pub(super) fn faulted(&self, id: RequestId, fault: Fault) {
        let at = self.waiters.get(&id).and_then(|waiter| waiter.at);
        let known = at.and_then(|at| self.replicas.get(&at));
        self.gauges.faults.count(known.map(|known| known.replica.name.as_str()), fault);
    }

    /// The replicas at these addresses: host and port, or a host with whichever port.
    pub(super) fn at(&self, addresses: &[String]) -> Vec<ReplicaId> {
        let is_up = |id: ReplicaId| self.scheduler.fleet().get(id).is_some_and(|one| one.up);
        let is_at = |known: &Known| {
            let Some(address) = known.door.address() else { return false };
            let host = address.rsplit_once(':').map_or("", |(host, _)| host);
            addresses.iter().any(|one| *one == address || one == host)
        };
        let all = self.replicas.iter().filter(|(id, known)| is_up(**id) && is_at(known));
        all.map(|(id, _)| *id).collect()
    }

    pub(super) fn status(&self) -> LaneStatus {
        let queue = self.scheduler.queue();
        let now = self.now();
        let fleet: HashMap<ReplicaId, _> =
            self.scheduler.fleet().iter().map(|replica| (replica.id, replica)).collect();
        let mut replicas: Vec<ReplicaStatus> = self
            .replicas
            .iter()
            .map(|(id, known)| {
                let seen = fleet.get(id);
                let standing = self.scheduler.standings().find(|one| one.replica == *id);
                ReplicaStatus {
                    health: standing.map(|standing| standing.verdict.to_string()),
                    report_age_ms: seen.and_then(|seen| seen.report_age(now)).map(Span::as_millis),
                    id: id.0,
                    name: known.replica.name.to_string(),
                    url: known.replica.url.clone(),
                    hardware: known.replica.hardware.as_ref().map(ToString::to_string),
                    accelerators: known.replica.accelerators,
                    accelerator: known.replica.sheet.clone(),
                    price_per_hour: known.replica.micros_per_hour.map(|micros| micros as f64 / 1e6),
                    devices: known.replica.devices.clone(),
                    pod: known.replica.pod.clone(),
                    up: seen.is_some_and(|seen| seen.up),
                    places: seen.map_or(0, |seen| seen.capacity.requests_max),
                    in_flight: seen.map_or(0, |seen| seen.requests),
                    tokens_in_flight: seen.map_or(0, |seen| seen.tokens),
                    last_error: known
                        .last_failure
                        .map(|(kind, at)| LastError { kind, ago_ms: now.since(at).as_millis() }),
                }
            })
            .collect();
        // Of a replica that came back, an older self is shown only while something runs there.
        replicas.sort_by_key(|replica| (replica.name.clone(), std::cmp::Reverse(replica.id)));
        replicas.dedup_by(|later, kept| later.name == kept.name && later.in_flight == 0);
        let gap = u64::try_from(queue.gap() / 1000).unwrap_or(u64::MAX);
        LaneStatus {
            name: self.name.clone(),
            queue: QueueStatus { requests: queue.len(), tokens: queue.tokens(), gap },
            replicas,
            tenants: tenants(queue.entitlements(), self.scheduler.fleet()),
            speed: SpeedStatus::from(self.scheduler.speed()),
            planned: Planned::default(),
        }
    }
}

impl From<(InitialSpeed, bool)> for SpeedStatus {
    fn from((speed, measured): (InitialSpeed, bool)) -> Self {
        Self {
            prompt_token_ms: speed.token_seconds * 1e3,
            step_ms: speed.step_seconds * 1e3,
            sequence_ms: speed.sequence_seconds * 1e3,
            measured,
        }
    }
}

/// Who has what of all that is in flight.
fn tenants(entitlements: Vec<Entitlement>, fleet: &Fleet) -> Vec<TenantStatus> {
    let in_flight: u64 = fleet.iter().map(|replica| replica.tokens).sum();
    let status = |entitlement: Entitlement| TenantStatus {
        name: String::new(),
        parent: None,
        used_share: (in_flight > 0).then(|| entitlement.usage as f64 / in_flight as f64),
        entitled_share: 0.0,
        entitlement,
    };
    entitlements.into_iter().map(status).collect()
}
