//! What is counted by tenant. There are far more tenants than lanes: only so many are shown, and the others are
//! added up, with what ends late of those that are gone.

use std::collections::{BTreeSet, HashMap};
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
    families: Families,
    known: Arc<RwLock<HashMap<Name, Arc<OfTenant>>>>,
    /// What counts for all that have no series of their own.
    others: Arc<OfTenant>,
}

#[derive(Clone, Debug)]
struct Families {
    requests: Family<Counter>,
    tokens: Family<Counter>,
    charged: Family<Amount>,
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
        let families = Families {
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
        };
        let others = Arc::new(families.of(OTHER));
        Self { families, known: Arc::default(), others }
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

    /// These are the tenants from now on: all of them at zero, as far as there is room, and the others gone.
    pub(super) fn set<'a>(&self, names: impl Iterator<Item = &'a str>) {
        let there: BTreeSet<&str> = names.collect();
        let is_there = |name: &str| there.contains(name);
        let mut known = self.known.write();
        known.retain(|name, _| is_there(name));
        self.families.keep(is_there);
        for name in there {
            if known.len() >= TENANTS_MAX {
                break;
            }
            known.entry(name.into()).or_insert_with(|| Arc::new(self.families.of(name)));
        }
    }

    /// Those that count for a name, which may be one too many, or gone.
    fn of(&self, name: &Name) -> Arc<OfTenant> {
        let known = self.known.read();
        Arc::clone(known.get(name).unwrap_or(&self.others))
    }
}

impl Families {
    fn of(&self, name: &str) -> OfTenant {
        OfTenant {
            requests: OUTCOMES.map(|outcome| self.requests.get(&[name], &[outcome])),
            tokens: TOKEN_TYPES.map(|kind| self.tokens.get(&[name], &[kind])),
            charged: self.charged.get(&[name], &[]),
        }
    }

    fn keep(&self, is_there: impl Fn(&str) -> bool) {
        for family in [&self.requests, &self.tokens] {
            family.keep(|names| is_there(&names[0]));
        }
        self.charged.keep(|names| is_there(&names[0]));
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
