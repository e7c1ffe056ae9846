//! What the gateway counts. Names in labels come from the configuration alone: one that a client made up
//! counts as `_other`, and so does what is beyond the most names that a family has.

mod caches;
mod compat;
mod copies;
mod faults;
mod gen_ai;
mod kv;
mod outcomes;
mod own;
mod requests;
mod scrape;
mod standing;
mod tenants;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use pilotage_core::admit::Limit;
use pilotage_core::preempt::Reason;
use pilotage_core::scale::Goal;
use pilotage_core::{Band, Scheduler, Span, Tokens};
use pilotage_lens::Record;
use pilotage_shell::metrics::{About, Family, Histogram, Labels, Level, Measure, Metrics};
use prometheus_client::metrics::counter::Counter;

use crate::driver::LaneStatus;

pub(crate) use caches::CacheGauges;
pub(crate) use faults::Fault;
pub(crate) use kv::{FeedState, KvCounts, ShownFeed};
use outcomes::Outcomes;

/// What tells lanes apart.
const LANE: Labels = Labels::names(&["lane"]);

/// The types of tokens that are counted for every answer: what is cached is part of the input.
const TOKEN_TYPES: [&str; 3] = ["input", "cached", "output"];

/// The gateway's metrics.
#[derive(Clone, Debug)]
pub(crate) struct GatewayMetrics {
    requests: requests::Requests,
    tenants: tenants::Tenants,
    standing: standing::Standing,
    queued: Family<Level>,
    queued_tokens: Family<Level>,
    in_flight: Family<Level>,
    replicas_up: Family<Level>,
    gap: Family<Level>,
    stops: Family<Counter>,
    denials: Family<Counter>,
    ejections: Family<Counter>,
    canary: Family<Measure>,
    copies: copies::Copies,
    caches: caches::Caches,
    resumes: Outcomes,
    hedges: Outcomes,
    feeds: kv::Feeds,
    faults: faults::Faults,
    loop_delay: Histogram,
}

/// One lane's gauges.
#[derive(Clone, Debug)]
pub(crate) struct LaneGauges {
    queued: Level,
    queued_tokens: Level,
    in_flight: Level,
    replicas_up: Level,
    gap: Level,
    stops: [Counter; Reason::ALL.len()],
    ejections: Counter,
    /// What its engines publish of their caches.
    pub(crate) kv: KvCounts,
    /// How its replicas fail.
    pub(crate) faults: faults::LaneFaults,
}

impl GatewayMetrics {
    /// What the pulse is counted in.
    pub(crate) fn loop_delay(&self) -> Histogram {
        self.loop_delay.clone()
    }

    /// Registers everything, with every known combination of labels at zero.
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let level = |name, help| metrics.family::<Level>(About::new(name, help, LANE));
        let counter = |name, help, labels| metrics.family(About::new(name, help, labels));
        let reasons = Labels::new(&["lane"], &["reason"]);
        let limits = Labels::new(&[], &["limit"]);
        let route = Labels::names(&["route"]);
        let this = Self {
            requests: requests::Requests::new(metrics),
            tenants: tenants::Tenants::new(metrics),
            standing: standing::Standing::new(metrics),
            queued: level("pilotage_queue_requests", "Requests waiting for a turn"),
            queued_tokens: level(
                "pilotage_queue_tokens",
                "Estimated tokens of the requests waiting",
            ),
            in_flight: level("pilotage_requests_in_flight", "Requests at a replica"),
            replicas_up: level("pilotage_replicas_up", "Replicas that take work"),
            gap: level(
                "pilotage_service_gap_tokens",
                "Largest difference of received service among waiting tenants, in weighted tokens for weight one",
            ),
            stops: counter(
                "pilotage_stops",
                "Running requests that made room for others, by reason",
                reasons,
            ),
            ejections: counter(
                "pilotage_ejections",
                "Replicas that get no work because of what came, or did not come, from them",
                LANE,
            ),
            denials: counter(
                "pilotage_denials",
                "Requests over a limit of their tenant's path, by limit",
                limits,
            ),
            canary: metrics.family(About::new(
                "pilotage_canary_share",
                "Part of a route's requests that its canary gets, from 0 to 1",
                route,
            )),
            copies: copies::Copies::new(metrics),
            caches: caches::Caches::new(metrics),
            resumes: Outcomes::of_resumes(metrics),
            hedges: Outcomes::of_hedges(metrics),
            feeds: kv::Feeds::new(metrics),
            faults: faults::Faults::new(metrics),
            loop_delay: own::register(metrics),
        };
        for limit in Limit::ALL {
            drop(this.denials.get(&[], &[limit.name()]));
        }
        let build = Labels::new(&[], &["version"]);
        let about = About::new("pilotage_build_info", "1, with the version of this program", build);
        metrics.family::<Level>(about).get(&[], &[env!("CARGO_PKG_VERSION")]).set(1);
        if metrics.names().llm_d_epp {
            compat::llm_d_epp(metrics, &this);
        }
        this
    }

    /// A lane is gone, and its series with it; what comes late counts as `_other`.
    pub(crate) fn forget(&self, lane: &str) {
        self.requests.forget(lane);
        self.standing.forget(lane);
        self.resumes.forget(lane);
        self.hedges.forget(lane);
        self.copies.forget(lane);
        self.feeds.forget(lane);
        self.faults.forget(lane);
        self.stops.remove(&[lane]);
        self.ejections.remove(&[lane]);
        for gauges in
            [&self.queued, &self.queued_tokens, &self.in_flight, &self.replicas_up, &self.gap]
        {
            gauges.remove(&[lane]);
        }
    }

    /// The gauges of one lane, with everything else that carries its name at zero.
    pub(crate) fn lane(&self, lane: &str) -> LaneGauges {
        self.requests.zero(lane);
        self.resumes.zero(lane);
        self.hedges.zero(lane);
        self.copies.zero(lane);
        LaneGauges {
            queued: self.queued.get(&[lane], &[]),
            queued_tokens: self.queued_tokens.get(&[lane], &[]),
            in_flight: self.in_flight.get(&[lane], &[]),
            replicas_up: self.replicas_up.get(&[lane], &[]),
            gap: self.gap.get(&[lane], &[]),
            ejections: self.ejections.get(&[lane], &[]),
            kv: self.feeds.lane(lane),
            faults: self.faults.lane(lane),
            stops: Reason::ALL.map(|reason| self.stops.get(&[lane], &[reason.name()])),
        }
    }

    /// What a lane's answers are to be like from now on, by band.
    pub(crate) fn set_goals(&self, lane: &str, goals: [Goal; Band::ALL.len()]) {
        self.requests.set_goals(lane, goals);
    }

    /// These are the tenants from now on.
    pub(crate) fn set_tenants<'a>(&self, names: impl Iterator<Item = &'a str>) {
        self.tenants.set(names);
    }

    /// Shows how lanes stand, and forgets of their replicas what is gone.
    fn show(&self, lanes: &[LaneStatus]) {
        self.standing.show(lanes);
        let replicas: BTreeSet<[&str; 2]> = lanes
            .iter()
            .flat_map(|lane| lane.replicas.iter().map(|replica| [&*lane.name, &*replica.name]))
            .collect();
        self.faults.keep(|lane, replica| replicas.contains(&[lane, replica]));
    }

    /// Shows a canary's part.
    pub(crate) fn canary_share(&self, route: &str, share: f64) {
        self.canary.get(&[route], &[]).set(share);
    }

    /// A route is gone, and its series with it.
    pub(crate) fn forget_route(&self, route: &str) {
        self.canary.remove(&[route]);
    }

    /// Counts a request that a limit stopped.
    pub(crate) fn denied(&self, limit: Limit) {
        self.denials.get(&[], &[limit.name()]).inc();
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
        self.tenants.count(record);
    }

    /// Counts the gaps between the tokens of a stream: how long, and how many of that length.
    pub(crate) fn gaps(&self, lane: &str, gaps: impl Iterator<Item = (Span, u64)>) {
        self.requests.gaps(lane, gaps);
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

/// Counts of tokens, in the order of [`TOKEN_TYPES`].
const fn typed(tokens: Tokens) -> [u32; 3] {
    [tokens.input, tokens.cached, tokens.output]
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
        self.replicas_up.set(up as u64);
    }
}
