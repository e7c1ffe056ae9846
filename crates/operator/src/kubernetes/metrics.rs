//! What the operator counts.

use pilotage_plan::cluster::{Action, Failure};
use pilotage_shell::metrics::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

/// A write: what was done to which kind, and what came of it.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Write {
    verb: &'static str,
    kind: &'static str,
    result: &'static str,
}

/// The operator's metrics.
#[derive(Debug)]
pub(super) struct Counters {
    writes: Family<Write, Counter>,
    reconciles: Counter,
    waiting: Gauge,
    leader: Gauge,
    lease_failures: Counter,
    watch_failures: Counter,
    unsynced: Gauge,
    heard: Gauge,
}

impl Counters {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self {
            writes: metrics.register(
                "pilotage_operator_writes",
                "Calls that change something, by verb, kind and result",
                Family::default(),
            ),
            reconciles: metrics.register(
                "pilotage_operator_reconciles",
                "Looks at a resource",
                Counter::default(),
            ),
            waiting: metrics.register(
                "pilotage_operator_queue_depth",
                "Resources that wait to be looked at",
                Gauge::default(),
            ),
            leader: metrics.register(
                "pilotage_operator_leader",
                "1 while this operator acts, 0 while it looks on",
                Gauge::default(),
            ),
            lease_failures: metrics.register(
                "pilotage_operator_lease_failures",
                "Times that the Lease could not be read or written",
                Counter::default(),
            ),
            watch_failures: metrics.register(
                "pilotage_operator_watch_failures",
                "Times that a watch broke off or could not begin",
                Counter::default(),
            ),
            unsynced: metrics.register(
                "pilotage_operator_unsynced_watches",
                "Watches that have not listed what there is",
                Gauge::default(),
            ),
            heard: metrics.register(
                "pilotage_operator_heard_timestamp_seconds",
                "When the API server was last heard of, in seconds since 1970",
                Gauge::default(),
            ),
        }
    }

    pub(super) fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    pub(super) fn lease_failed(&self) {
        self.lease_failures.inc();
    }

    pub(super) fn watch_failed(&self) {
        self.watch_failures.inc();
    }

    pub(super) fn heard(&self, now_ms: u64) {
        self.heard.set(i64::try_from(now_ms / 1000).unwrap_or_default());
    }

    pub(super) fn unsynced(&self, count: usize) {
        self.unsynced.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(super) fn looked(&self, waiting: usize) {
        self.reconciles.inc();
        self.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    pub(super) fn wrote(&self, action: &Action, result: Result<(), &Failure>) {
        let (verb, kind) = match action {
            Action::Apply(apply) => ("apply", apply.sort.row().kind),
            Action::Delete { sort, .. } => ("delete", sort.row().kind),
            Action::Status { about, .. } => ("status", about.kind.name()),
            Action::Tell { .. } | Action::Report { .. } => ("tell", "Event"),
            Action::Release { .. } => ("release", "Pod"),
            Action::End { .. } => ("end", "Pod"),
            Action::Key { .. } | Action::Keys { .. } => ("keep", "Secret"),
        };
        let result = match result {
            Ok(()) => "done",
            Err(failure) if failure.code == 0 => "lost",
            Err(failure) if matches!(failure.code, 429 | 500..) => "away",
            Err(_) => "refused",
        };
        self.writes.get_or_create(&Write { verb, kind, result }).inc();
    }
}
