//! From what running systems expose to evidence: pages of metrics looked at several times, or the
//! answers of a Prometheus server, records of requests, the gateway's status.
//!
//! All of it becomes series with points in time, whoever fetched them, and one way leads from there to
//! [`Evidence`]. What a page does not show stays unknown.

mod cluster;
mod collect;
mod deployment;
mod engine;
mod gateway;
mod machine;
pub mod page;
pub mod prometheus;
pub mod promql;
mod record;
mod series;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use pilotage_core::Span;

use super::Evidence;
use super::evidence::{Alerts, Goals, Planned, Replica, Role, Runtime, Sight};

pub use collect::{Collector, LOOKS_MAX, LaneSeen, Look, REPORTS_EVERY_S, ReplicaSeen, StatusSeen};
pub use deployment::{Deployment, deployments};
pub use page::Looks;
pub use record::{Ended, GapsSeen};
pub use series::{Point, Seen, Series};

/// Most replicas of a model that are looked at.
pub const REPLICAS_MAX: usize = 256;

/// A replica, and every series that is about it.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// What it is called.
    pub name: String,
    /// Its part of the work.
    pub role: Role,
    /// The server that it is, where somebody else than its metrics says so.
    pub runtime: Option<Runtime>,
    /// Its version.
    pub version: Option<String>,
    /// Requests that the gateway lets it have at once.
    pub places: Option<f64>,
    /// Requests of the gateway that it had, at a mean over the looks.
    pub in_flight: Option<f64>,
    /// Whether it says that it is well, and how many seconds it took to say so.
    pub health: Option<(bool, f64)>,
    /// What its plan and the data sheet of its hardware say.
    pub planned: Planned,
    /// Its own metrics, and those of its accelerators and its container.
    pub series: Vec<Series>,
}

/// All that was seen in a window.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The window's begin, in seconds since 1970.
    pub from_s: f64,
    /// Its end, which is now.
    pub until_s: f64,
    /// The time between two looks, if somebody knows better than the points.
    pub interval_s: Option<f64>,
    /// Looks that failed.
    pub failures: Option<f64>,
    /// What was promised.
    pub goals: Goals,
    /// The replicas of one model.
    pub replicas: Vec<Watched>,
    /// The gateway's own metrics.
    pub gateway: Vec<Series>,
    /// What a cluster says of pods and deployments.
    pub cluster: Vec<Series>,
    /// Requests that ended in the window; none where nobody tells of them.
    pub records: Option<Vec<Ended>>,
    /// Requests waiting for a turn, at a mean over the looks.
    pub queued: Option<f64>,
    /// How old what it knew of replicas was at most, at a mean over the looks.
    pub reports_age_s: Option<f64>,
    /// How often it asks for it.
    pub reports_interval_s: Option<f64>,
    /// Alert rules and the names of what is exposed.
    pub alerts: Option<Alerts>,
    /// What was seen when all was well.
    pub baseline: Option<Box<Self>>,
}

impl Observed {
    /// What follows from it.
    pub fn evidence(&self) -> Evidence {
        let window_s = (self.until_s - self.from_s).max(0.0);
        let mut replicas: Vec<Replica> = self
            .replicas
            .iter()
            .take(REPLICAS_MAX)
            .map(|watched| {
                let mut watched = Cow::Borrowed(watched);
                let own: Vec<Series> =
                    machine::of_replica(&self.gateway, &watched.name).cloned().collect();
                if !own.is_empty() {
                    watched.to_mut().series.extend(own);
                }
                engine::replica(&watched, window_s, self.until_s)
            })
            .collect();
        if let Some(records) = &self.records {
            record::fill(&mut replicas, records);
        }
        for replica in &mut replicas {
            replica.deltas.context_overflows = gateway::too_long(&self.gateway, &replica.name);
        }
        let mut evidence = Evidence {
            window: Some(Span::from_nanos((window_s * 1e9) as u64)),
            sight: self.sight(),
            goals: self.goals.clone(),
            replicas,
            gateway: gateway::gateway(self, window_s),
            cluster: cluster::cluster(&Seen(&self.cluster), self.until_s),
            alerts: self.alerts.clone(),
            ..Evidence::default()
        };
        evidence.baseline = self.baseline.as_ref().map(|before| Box::new(before.evidence()));
        evidence
    }

    fn sight(&self) -> Sight {
        let all = self.replicas.iter().flat_map(|one| &one.series).chain(&self.gateway);
        let newest = all.clone().filter_map(Series::last).map(|point| point.at_s);
        let newest =
            newest.fold(None, |most: Option<f64>, at| Some(most.map_or(at, |m| m.max(at))));
        let gaps = all.filter_map(Series::interval_s);
        Sight {
            age_s: newest.map(|newest| (self.until_s - newest).max(0.0)),
            interval_s: self.interval_s.or_else(|| series::middle(gaps.collect())),
            failures: self.failures,
            ..Sight::default()
        }
    }
}

/// The replica that a series is about, by the labels under which clusters and Prometheus name it.
pub fn replica_label(labels: &BTreeMap<String, String>) -> Option<&str> {
    /// A pod that an exporter tells of comes before the pod of the exporter itself.
    const LABELS: [&str; 6] =
        ["exported_pod", "replica", "pod", "pod_name", "kubernetes_pod_name", "instance"];
    LABELS.iter().find_map(|name| labels.get(*name)).map(String::as_str)
}

/// The names of all series.
pub fn names<'a>(series: impl IntoIterator<Item = &'a Series>) -> BTreeSet<String> {
    series.into_iter().map(|one| one.name.clone()).collect()
}
