//! Who is let in at all: quotas as the gateway has them, and the paper's limit on requests.

use std::collections::{BTreeMap, VecDeque};

use pilotage_core::admit::{Admit, Demand, Now, Quota, Use};
use pilotage_core::{RequestId, Span, TenantId, Time};

use super::record::{Fate, Record};
use crate::arrival::Arrival;
use crate::scenario::Scenario;

const MINUTE: Span = Span::from_secs(60);

const NANOS_PER_MS: u64 = 1_000_000;

/// Limits, and what is used of them.
#[derive(Debug)]
pub(super) struct Gatekeeper {
    /// None where nobody has a quota.
    admit: Option<Admit>,
    per_minute: Option<u32>,
    /// When each tenant's last requests were let in.
    recent: BTreeMap<u32, VecDeque<Time>>,
}

impl Gatekeeper {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let quotas: BTreeMap<TenantId, Quota> = (0..)
            .map(TenantId)
            .zip(&scenario.tenants)
            .filter(|(_, tenant)| tenant.quota != Quota::default())
            .map(|(id, tenant)| (id, tenant.quota.clone()))
            .collect();
        let mut admit = Admit::default();
        let some = !quotas.is_empty();
        admit.set_quotas(clocks(Time::ZERO), scenario.tree.clone(), quotas);
        Self {
            admit: some.then_some(admit),
            per_minute: scenario.requests_per_minute,
            recent: BTreeMap::new(),
        }
    }

    /// Lets a request in, or says which limit keeps it out.
    pub(super) fn admit(
        &mut self,
        now: Time,
        id: RequestId,
        arrival: &Arrival,
    ) -> Result<(), &'static str> {
        if let Some(most) = self.per_minute {
            let recent = self.recent.entry(arrival.tenant).or_default();
            while recent.front().is_some_and(|at| now.since(*at) >= MINUTE) {
                recent.pop_front();
            }
            if recent.len() >= most as usize {
                return Err("requests_per_minute");
            }
            recent.push_back(now);
        }
        let Some(admit) = &mut self.admit else { return Ok(()) };
        let (input, output) = (u64::from(arrival.input), u64::from(arrival.output_max));
        let demand = Demand { most: Use { input, output, money: 0 }, bytes: input * 4 };
        let reserved = admit.reserve(clocks(now), id, TenantId(arrival.tenant), demand);
        reserved.map(drop).map_err(|denial| denial.limit.name())
    }

    pub(super) fn started(&mut self, id: RequestId) {
        if let Some(admit) = &mut self.admit {
            admit.started(id);
        }
    }

    pub(super) fn ended(&mut self, now: Time, id: RequestId, input: u32, record: &Record) {
        let Some(admit) = &mut self.admit else { return };
        match record.fate {
            Some(Fate::Refused(_)) | None => admit.refund(clocks(now), id),
            Some(Fate::Served | Fate::Interrupted | Fate::Cancelled) => {
                let input = if record.dispatched.is_some() { input } else { 0 };
                let output = u64::from(record.generated);
                let actual = Use { input: u64::from(input), output, money: 0 };
                admit.settle(clocks(now), id, actual);
            }
        }
    }
}

/// The calendar begins where the run does.
const fn clocks(now: Time) -> Now {
    Now { time: now, unix_ms: now.as_nanos() / NANOS_PER_MS }
}
