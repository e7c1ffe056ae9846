//! How replicas and tenants stand at the moment of a scrape. Nothing of it is counted on the way of requests:
//! lanes are asked when somebody looks, and what is gone since then is removed.

use pilotage_shell::metrics::{About, Family, Labels, Level, Metrics};

use super::tenants::TENANTS_MAX;
use crate::driver::LaneStatus;

/// Most replicas, of all lanes, that have series of their own.
pub(super) const REPLICAS_MAX: usize = 2_000;

/// What lanes say.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    requests: Family<Level>,
    tokens: Family<Level>,
    up: Family<Level>,
    queued: Family<Level>,
    usage: Family<Level>,
    guaranteed: Family<Level>,
}

impl Standing {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let replica = |name, help| {
            let labels = Labels::names(&["lane", "replica"]);
            metrics.family(About::new(name, help, labels).at_most(REPLICAS_MAX))
        };
        let tenant = |name, help| {
            let labels = Labels::names(&["lane", "tenant"]);
            metrics.family(About::new(name, help, labels).at_most(TENANTS_MAX))
        };
        Self {
            requests: replica("pilotage_replica_requests", "Requests at a replica"),
            tokens: replica("pilotage_replica_tokens", "KV tokens of the requests at a replica"),
            up: replica(
                "pilotage_replica_up",
                "1 while a replica takes work; of _other, how many do",
            ),
            queued: tenant(
                "pilotage_tenant_queue_requests",
                "Requests of a tenant, and of those below it, waiting for a turn",
            ),
            usage: tenant(
                "pilotage_tenant_kv_tokens",
                "KV tokens in flight of a tenant and of those below it",
            ),
            guaranteed: tenant(
                "pilotage_tenant_kv_tokens_guaranteed",
                "KV tokens that a tenant gets whenever it asks for them",
            ),
        }
    }

    /// Shows how these lanes stand, and nothing else. What is one too many is added up.
    pub(super) fn show(&self, lanes: &[LaneStatus]) {
        let replicas = || {
            lanes.iter().flat_map(|lane| {
                lane.replicas.iter().map(|replica| ([&*lane.name, &*replica.name], replica))
            })
        };
        // What is below a tenant counts with it; its own requests alone would come under the same name.
        let tenants = || {
            lanes.iter().flat_map(|lane| {
                let tenants = lane.tenants.iter().filter(|tenant| !tenant.entitlement.own);
                tenants.map(|tenant| ([&*lane.name, &*tenant.name], tenant.entitlement))
            })
        };
        self.requests.show(replicas().map(|(names, one)| (names, one.in_flight.into())));
        self.tokens.show(replicas().map(|(names, one)| (names, one.tokens_in_flight)));
        self.up.show(replicas().map(|(names, one)| (names, one.up.into())));
        self.queued.show(tenants().map(|(names, one)| (names, one.queued.into())));
        self.usage.show(tenants().map(|(names, one)| (names, one.usage)));
        self.guaranteed.show(tenants().map(|(names, one)| (names, one.guaranteed)));
    }

    /// A lane is gone.
    pub(super) fn forget(&self, lane: &str) {
        for family in [&self.requests, &self.tokens, &self.up] {
            family.remove(&[lane]);
        }
        for family in [&self.queued, &self.usage, &self.guaranteed] {
            family.remove(&[lane]);
        }
    }
}
