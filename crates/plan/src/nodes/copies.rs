//! Copies of Models as moves see them: a pod, or a group of pods that is of use as a whole, with what urges it
//! away from where it is.

use std::collections::BTreeMap;

use super::health::{DEVICES_SETTLE_SECONDS, Fault, Health, Node, Verdict};
use super::moves::{Holder, ModelKey, ModelSeen, Notice, PodSeen};

/// A copy.
pub(super) struct Copied<'a> {
    /// Its pods; those of a group the leader first, and by name.
    pub(super) pods: Vec<&'a PodSeen>,
    /// What urges it away.
    pub(super) urge: Option<Urge>,
}

/// Why a copy has to go, and until when.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Urge {
    /// When its pods are stopped, ready or not; the largest number where nobody says.
    pub(super) deadline: u64,
    pub(super) kind: Kind,
    /// Since when that is known.
    pub(super) since: u64,
    pub(super) node: String,
    pub(super) why: String,
}

/// What sort of reason it is, the most urgent first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Kind {
    Leaving,
    Broken,
    Cordoned,
    /// It cannot be moved, and is missing meanwhile.
    Lost,
}

impl Copied<'_> {
    pub(super) fn name(&self) -> &str {
        self.pods.first().map_or("", |pod| pod.name.as_str())
    }

    pub(super) fn is_released(&self) -> bool {
        self.pods.iter().any(|pod| pod.holder == Holder::Deployment { is_released: true })
    }

    /// Whether it takes requests: all of its pods do what they are to.
    pub(super) fn is_ready(&self) -> bool {
        self.pods.iter().all(|pod| pod.is_ready && !pod.is_leaving)
    }

    /// Whether it is stopping.
    pub(super) fn is_leaving(&self) -> bool {
        self.pods.iter().any(|pod| pod.is_leaving)
    }

    /// The pods to delete so that all of it starts again elsewhere: of a LeaderWorkerSet's group the leader, whose
    /// end ends the others.
    pub(super) fn to_delete(&self) -> impl Iterator<Item = &PodSeen> {
        let leads = |pod: &&PodSeen| !matches!(pod.holder, Holder::Group { leads: false, .. });
        self.pods.iter().copied().filter(move |pod| leads(pod) && !pod.is_leaving)
    }
}

impl Urge {
    /// When it has to be told to stop, so that it can finish what it has begun: no later than after half of the
    /// notice, since the other half is for those that wait for a place elsewhere.
    pub(super) fn stop_at(&self, drain_seconds: u32) -> Option<u64> {
        let deadline = self.deadline()?;
        let half = deadline.saturating_sub(self.since) / 2;
        Some(deadline.saturating_sub(half.min(drain_seconds.into())))
    }

    /// From when another copy has to be started, whatever else is under way: twice what it takes, as nodes may
    /// have to come first.
    pub(super) fn begin_at(&self, seen: &ModelSeen) -> Option<u64> {
        let stop = self.stop_at(seen.drain_seconds)?;
        Some(stop.saturating_sub(u64::from(seen.start_seconds) * 2))
    }

    pub(super) const fn deadline(&self) -> Option<u64> {
        if self.deadline == u64::MAX { None } else { Some(self.deadline) }
    }

    /// What is known of its node's time.
    pub(super) fn notice(&self) -> Option<Notice> {
        self.deadline().map(|deadline| Notice { since: self.since, deadline })
    }
}

/// The copies of each Model, in the order of their urgency and then of their names.
pub(super) fn copies<'a>(
    now: u64,
    pods: &'a [PodSeen],
    nodes: &BTreeMap<&str, (&Node, Health)>,
) -> BTreeMap<&'a ModelKey, Vec<Copied<'a>>> {
    let mut grouped: BTreeMap<(&ModelKey, &str), Vec<&PodSeen>> = BTreeMap::new();
    for pod in pods {
        let name = match &pod.holder {
            Holder::Deployment { .. } => &pod.name,
            Holder::Group { name, .. } | Holder::Pair { name } => name,
        };
        grouped.entry((&pod.model, name)).or_default().push(pod);
    }
    let mut all: BTreeMap<&ModelKey, Vec<Copied<'a>>> = BTreeMap::new();
    for ((model, _), mut pods) in grouped {
        pods.sort_by_key(|pod| {
            (matches!(pod.holder, Holder::Group { leads: false, .. }), &pod.name)
        });
        let urge = pods.iter().filter_map(|pod| urge(now, pod, nodes)).min();
        all.entry(model).or_default().push(Copied { pods, urge });
    }
    for copies in all.values_mut() {
        copies.sort_by(|a, b| {
            let key = |one: &Copied<'_>| (one.urge.is_none(), one.urge.clone());
            key(a).cmp(&key(b)).then_with(|| a.name().cmp(b.name()))
        });
    }
    all
}

/// What urges a pod away from its node. Of a time that is written down at the pod the rest is left, whenever the
/// node was seen first.
fn urge(now: u64, pod: &PodSeen, nodes: &BTreeMap<&str, (&Node, Health)>) -> Option<Urge> {
    let mut urge = urge_seen(now, pod, nodes)?;
    if let Some(Notice { since, deadline }) = pod.notice.filter(|_| urge.deadline().is_some()) {
        urge.since = urge.since.min(since);
        urge.deadline = urge.deadline.min(deadline);
    }
    Some(urge)
}

fn urge_seen(now: u64, pod: &PodSeen, nodes: &BTreeMap<&str, (&Node, Health)>) -> Option<Urge> {
    let (node, health) = nodes.get(pod.node.as_deref()?)?;
    let of = |kind, since, deadline: Option<u64>, why: &str| {
        let deadline = deadline.unwrap_or(u64::MAX);
        Some(Urge { deadline, kind, since, node: node.name.clone(), why: why.to_owned() })
    };
    let own = || {
        let since = pod.unhealthy_since?;
        let has_settled = now.saturating_sub(since) >= DEVICES_SETTLE_SECONDS;
        let why = "an accelerator that was given to it does not work";
        if has_settled { of(Kind::Broken, since, None, why) } else { None }
    };
    match &health.verdict {
        Verdict::Leaving { since, deadline, why } => of(Kind::Leaving, *since, *deadline, why),
        Verdict::Cordoned { why } => of(Kind::Cordoned, 0, None, why),
        // Copies of one node come back by themselves.
        Verdict::Lost { since, why, .. } => match pod.holder {
            Holder::Deployment { .. } => None,
            Holder::Group { .. } | Holder::Pair { .. } => of(Kind::Lost, *since, None, why),
        },
        // Whoever was placed there since would be placed there again.
        Verdict::Broken { since, what: Fault::Node, why } if pod.created < *since => {
            of(Kind::Broken, *since, None, why)
        }
        Verdict::Broken { since, what: Fault::Devices { resource, .. }, why } => {
            let works = node.devices.iter().find(|devices| devices.resource == *resource);
            let works = works.map_or(0, |devices| devices.allocatable);
            own().or_else(|| {
                if pod.accelerators > works { of(Kind::Broken, *since, None, why) } else { None }
            })
        }
        Verdict::Broken { .. } | Verdict::Fine => own(),
    }
}
