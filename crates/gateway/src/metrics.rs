//! What the gateway counts. Labels come from the configuration alone: a name that a client made up
//! counts as `_other`.

mod caches;
mod copies;
mod kv;
mod outcomes;
mod requests;

use std::sync::atomic::AtomicU64;

use pilotage_core::admit::Limit;
use pilotage_core::preempt::Reason;
use pilotage_core::{Scheduler, Span, Tokens};
use pilotage_lens::Record;
use pilotage_shell::metrics::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

pub(crate) use caches::CacheGauges;
pub(crate) use kv::{FeedState, KvCounts, ShownFeed};
use outcomes::Outcomes;

/// The label of requests that never got to a lane.
const OTHER: &str = "_other";

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Lane {
    lane: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Typed {
    lane: String,
    r#type: &'static str,
}

type Histograms = Family<Lane, Histogram, fn() -> Histogram>;

/// The gateway's metrics.
#[derive(Clone, Debug)]
pub(crate) struct GatewayMetrics {
    requests: requests::Requests,
    queued: Family<Lane, Gauge>,
    queued_tokens: Family<Lane, Gauge<u64, AtomicU64>>,
    in_flight: Family<Lane, Gauge>,
    replicas_up: Family<Lane, Gauge>,
    gap: Family<Lane, Gauge<u64, AtomicU64>>,
    stops: Family<Stopped, Counter>,
    denials: Family<Denied, Counter>,
    ejections: Family<Lane, Counter>,
    canary: Family<Routed, Gauge<f64, AtomicU64>>,
    copies: copies::Copies,
    caches: caches::Caches,
    resumes: Outcomes,
    hedges: Outcomes,
    feeds: kv::Feeds,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Routed {
    route: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Stopped {
    lane: String,
    reason: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Denied {
    limit: &'static str,
}

/// One lane's gauges.
#[derive(Clone, Debug)]
pub(crate) struct LaneGauges {
    queued: Gauge,
    queued_tokens: Gauge<u64, AtomicU64>,
    in_flight: Gauge,
    replicas_up: Gauge,
    gap: Gauge<u64, AtomicU64>,
    stops: [Counter; Reason::ALL.len()],
    ejections: Counter,
    /// What its engines publish of their caches.
    pub(crate) kv: KvCounts,
}

impl GatewayMetrics {
    /// Registers everything, with every known combination of labels at zero.
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let this = Self {
            requests: requests::Requests::new(metrics),
            queued: metrics.register("pilotage_queue_requests", "Requests waiting for a turn", Family::default()),
            queued_tokens: metrics.register("pilotage_queue_tokens", "Estimated tokens of the requests waiting", Family::default()),
            in_flight: metrics.register("pilotage_requests_in_flight", "Requests at a replica", Family::default()),
            replicas_up: metrics.register("pilotage_replicas_up", "Replicas that take work", Family::default()),
            gap: metrics.register("pilotage_service_gap_tokens", "Largest difference of received service among waiting tenants, in weighted tokens for weight one", Family::default()),
            stops: metrics.register("pilotage_stops", "Running requests that made room for others, by reason", Family::default()),
            ejections: metrics.register("pilotage_ejections", "Replicas that get no work because of what came, or did not come, from them", Family::default()),
            canary: metrics.register("pilotage_canary_share", "Part of a route's requests that its canary gets, from 0 to 1", Family::default()),
            copies: copies::Copies::new(metrics),
            caches: caches::Caches::new(metrics),
            resumes: Outcomes::of_resumes(metrics),
            hedges: Outcomes::of_hedges(metrics),
            feeds: kv::Feeds::new(metrics),
            denials: metrics.register("pilotage_denials", "Requests over a limit of their tenant's path, by limit", Family::default()),
        };
        for limit in Limit::ALL {
            drop(this.denials.get_or_create(&Denied { limit: limit.name() }));
        }
        this
    }

    fn zero(&self, lane: &str) {
        self.requests.zero(lane);
        self.resumes.zero(lane);
        self.hedges.zero(lane);
    }

    /// A lane is gone, and its series with it; what comes late is counted anew.
    pub(crate) fn forget(&self, lane: &str) {
        self.requests.forget(lane);
        self.resumes.forget(lane);
        self.hedges.forget(lane);
        for reason in Reason::ALL {
            self.stops.remove(&Stopped { lane: lane.to_owned(), reason: reason.name() });
        }
        self.copies.forget(lane);
        self.feeds.forget(lane);
        let lane = Lane { lane: lane.to_owned() };
        for gauges in [&self.queued, &self.in_flight, &self.replicas_up] {
            gauges.remove(&lane);
        }
        self.queued_tokens.remove(&lane);
        self.ejections.remove(&lane);
        self.gap.remove(&lane);
    }

    /// The gauges of one lane, with everything else that carries its name at zero.
    pub(crate) fn lane(&self, lane: &str) -> LaneGauges {
        self.zero(lane);
        let lane = Lane { lane: lane.to_owned() };
        LaneGauges {
            queued: self.queued.get_or_create(&lane).clone(),
            queued_tokens: self.queued_tokens.get_or_create(&lane).clone(),
            in_flight: self.in_flight.get_or_create(&lane).clone(),
            replicas_up: self.replicas_up.get_or_create(&lane).clone(),
            gap: self.gap.get_or_create(&lane).clone(),
            ejections: self.ejections.get_or_create(&lane).clone(),
            kv: self.feeds.lane(&lane.lane),
            stops: Reason::ALL.map(|reason| {
                let stopped = Stopped { lane: lane.lane.clone(), reason: reason.name() };
                self.stops.get_or_create(&stopped).clone()
            }),
        }
    }

    /// Shows a canary's part.
    pub(crate) fn canary_share(&self, route: &str, share: f64) {
        self.canary.get_or_create(&Routed { route: route.to_owned() }).set(share);
    }

    /// A route is gone, and its series with it.
    pub(crate) fn forget_route(&self, route: &str) {
        self.canary.remove(&Routed { route: route.to_owned() });
    }

    /// Counts a request that a limit stopped.
    pub(crate) fn denied(&self, limit: Limit) {
        self.denials.get_or_create(&Denied { limit: limit.name() }).inc();
    }

    /// Counts what became of a second attempt.
    pub(crate) fn hedge(&self, lane: &str, outcome: &'static str) {
        self.hedges.count(lane, outcome);
    }

    /// Counts what became of an answer that broke off.
    pub(crate) fn resume(&self, lane: &str, outcome: &'static str) {
        self.resumes.count(lane, outcome);
    }

    /// Counts a request that ended, and the time it took in the gateway itself.
    pub(crate) fn count(&self, record: &Record, own: Span) {
        self.requests.count(record, own);
    }

    /// Counts the tokens of an answer, however many get it, and the attempts that it took.
    pub(crate) fn generated(&self, lane: Option<&str>, tokens: Tokens, attempts: u32) {
        self.requests.generated(lane, tokens, attempts);
    }

    /// Counts a copy of a request that ended.
    pub(crate) fn copied(&self, record: &Record) {
        self.copies.count(record);
    }

    /// Counts a copy for which there was no room.
    pub(crate) fn copy_dropped(&self, lane: &str) {
        self.copies.dropped(lane);
    }

    /// What counts the answers that a route keeps.
    pub(crate) fn cache(&self, route: &str) -> CacheGauges {
        self.caches.route(route)
    }

    /// A route keeps no answers any more.
    pub(crate) fn forget_cache(&self, route: &str) {
        self.caches.forget(route);
    }
}

/// Counts of tokens by type.
const fn typed(tokens: Tokens) -> [(&'static str, u32); 3] {
    [("input", tokens.input), ("cached", tokens.cached), ("output", tokens.output)]
}

impl LaneGauges {
    /// Shows the difference of service, which takes a look at every tenant.
    pub(crate) fn show_gap(&self, scheduler: &Scheduler) {
        self.gap.set(u64::try_from(scheduler.queue().gap() / 1000).unwrap_or(u64::MAX));
    }

    /// Counts a replica that gets no work.
    pub(crate) fn ejected(&self) {
        self.ejections.inc();
    }

    /// Counts a request that makes room.
    pub(crate) fn stopped(&self, reason: Reason) {
        self.stops[reason as usize].inc();
    }

    /// Shows a scheduler's state.
    pub(crate) fn show(&self, scheduler: &Scheduler) {
        let running: u32 = scheduler.fleet().iter().map(|replica| replica.requests).sum();
        let up = scheduler.fleet().iter().filter(|replica| replica.up).count();
        self.queued.set(scheduler.queue().len().into());
        self.queued_tokens.set(scheduler.queue().tokens());

        self.in_flight.set(running.into());
        self.replicas_up.set(i64::try_from(up).unwrap_or(i64::MAX));
    }
}
