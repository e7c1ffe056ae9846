//! What is counted by tenant. There are far more tenants than lanes, and issuers of tokens may name
//! any number of them: only so many are shown, and the others are added up.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use pilotage_core::traffic::Name;
use pilotage_lens::{Record, Termination};
use pilotage_shell::metrics::{About, Amount, Family, Labels, Metrics, OTHER};
use prometheus_client::metrics::counter::Counter;

use super::{TOKEN_TYPES, typed};

/// Most tenants that have series of their own.
pub(super) const TENANTS_MAX: usize = 500;

/// What becomes of a tenant's requests: answered, wrong or given up by the client, over a limit of the
/// tenant's, or failed by us.
const OUTCOMES: [&str; 4] = ["answered", "client", "limited", "failed"];

/// Tenants.
#[derive(Clone, Debug)]
pub(super) struct Tenants {
    requests: Family<Counter>,
    tokens: Family<Counter>,
    charged: Family<Amount>,
    known: Arc<RwLock<HashMap<Name, Arc<OfTenant>>>>,
}

#[derive(Debug)]
struct OfTenant {
    requests: [Counter; OUTCOMES.len()],
    tokens: [Counter; TOKEN_TYPES.len()],
    charged: Amount,
}

impl Tenants {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let by = |word: &'static [&'static str]| Labels::new(&["tenant"], word);
        let about = |name, help, labels| About::new(name, help, labels).at_most(TENANTS_MAX);
        Self {
            requests: metrics.family(about(
                "pilotage_tenant_requests",
                "Requests of a tenant that ended, by outcome: answered, client (wrong, or given up), limited (by its quotas), failed",
                by(&["outcome"]),
            )),
            tokens: metrics.family(about(
                "pilotage_tenant_tokens",
                "Tokens of a tenant's answers by type: input, cached, output; an answer that several got counts for each",
                by(&["type"]),
            )),
            charged: metrics.family(about(
                "pilotage_tenant_charged",
                "What a tenant was charged, in units of the currency of prices",
                by(&[]),
            )),
            known: Arc::default(),
        }
    }

    /// Counts a request that ended. One of which nobody knows whose it is counts for nobody.
    pub(super) fn count(&self, record: &Record) {
        let Some(tenant) = &record.tenant else { return };
        let tenant = self.of(tenant);
        tenant.requests[outcome(record.termination)].inc();
        for (counter, count) in tenant.tokens.iter().zip(typed(record.tokens)) {
            counter.inc_by(count.into());
        }
        if record.charged > 0 {
            tenant.charged.inc_by(record.charged as f64 / 1e6);
        }
    }

    /// Only these are tenants from now on.
    pub(super) fn keep(&self, is_there: impl Fn(&str) -> bool) {
        self.known.write().retain(|name, _| is_there(name) || name.as_str() == OTHER);
        for family in [&self.requests, &self.tokens] {
            family.keep(|names| is_there(&names[0]));
        }
        self.charged.keep(|names| is_there(&names[0]));
    }

    fn of(&self, name: &Name) -> Arc<OfTenant> {
        let known = self.known.read();
        if let Some(tenant) = known.get(name) {
            return Arc::clone(tenant);
        }
        let is_full = known.len() >= TENANTS_MAX;
        if let Some(tenant) = known.get(OTHER).filter(|_| is_full) {
            return Arc::clone(tenant);
        }
        drop(known);
        let name = if is_full { Name::from(OTHER) } else { name.clone() };
        let made = Arc::new(self.make(&name));
        Arc::clone(self.known.write().entry(name).or_insert(made))
    }

    fn make(&self, name: &str) -> OfTenant {
        OfTenant {
            requests: OUTCOMES.map(|outcome| self.requests.get(&[name], &[outcome])),
            tokens: TOKEN_TYPES.map(|kind| self.tokens.get(&[name], &[kind])),
            charged: self.charged.get(&[name], &[]),
        }
    }
}

/// The place of a way to end among [`OUTCOMES`].
const fn outcome(termination: Termination) -> usize {
    match termination {
        Termination::Ok => 0,
        Termination::ClientCancel | Termination::BadRequest => 1,
        Termination::Quota | Termination::Budget => 2,
        Termination::QueueFull
        | Termination::Deadline
        | Termination::UpstreamError
        | Termination::UpstreamInterrupted
        | Termination::Timeout
        | Termination::Draining => 3,
    }
}
