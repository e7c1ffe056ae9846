//! What a lane would do with a request, told to who operates it: by replicas' names, in milliseconds.

use pilotage_core::health::Ruling;
use pilotage_core::route::{Costs, Decision};
use pilotage_core::scheduler::explain::{Apart, Considered, Explanation, Suspicion};
use pilotage_core::{Policy, Prompt, ReplicaId, Request, Span};
use serde::Serialize;

use super::Driver;

/// A lane's decision, and what it was made from.
#[derive(Debug, Serialize)]
pub(crate) struct LaneExplanation {
    pub(crate) name: String,
    pub(crate) policy: Policy,
    /// Why it would be turned away at once.
    pub(crate) refusal: Option<String>,
    pub(crate) queue: LineExplained,
    /// Whether other tenants' guarantees leave room for it.
    pub(crate) lent: bool,
    /// What is held against its like, where replicas died under them.
    pub(crate) suspicion: Option<SuspicionExplained>,
    /// What happens when it is its turn.
    pub(crate) decision: Decided,
    pub(crate) replicas: Vec<ReplicaExplained>,
    /// What the other policies would do.
    pub(crate) policies: Vec<PolicyExplained>,
}

/// What is before it in the queue.
#[derive(Debug, Serialize)]
pub(crate) struct LineExplained {
    pub(crate) requests: u32,
    pub(crate) held: u32,
    /// In weighted tokens.
    pub(crate) ahead: u64,
    pub(crate) wait_ms: Option<f64>,
    pub(crate) full: bool,
}

/// Replicas died under requests with the same body.
#[derive(Debug, Serialize)]
pub(crate) struct SuspicionExplained {
    /// How it is treated for that: `watched`, `trial` or `refused`.
    pub(crate) ruling: &'static str,
    pub(crate) deaths: u32,
    pub(crate) said: String,
    /// Until its trial may begin.
    pub(crate) wait_ms: Option<f64>,
}

/// What a policy decides.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "decision")]
pub(crate) enum Decided {
    /// It is sent.
    Go { replica: String, why: String },
    /// It waits for this one rather than take another that has room.
    Wait { replica: String, most_ms: f64 },
    /// Nobody has room.
    Full,
    /// It waits, as its like may have killed replicas.
    Apart,
}

/// What another policy decides.
#[derive(Debug, Serialize)]
pub(crate) struct PolicyExplained {
    pub(crate) policy: Policy,
    #[serde(flatten)]
    pub(crate) decided: Decided,
}

/// One replica, as it was considered.
#[derive(Debug, Serialize)]
pub(crate) struct ReplicaExplained {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) region: Option<String>,
    pub(crate) zone: Option<String>,
    pub(crate) chosen: bool,
    /// Whether it is as good as the best.
    pub(crate) near: bool,
    /// Why it does not take the request now.
    pub(crate) closed: Option<String>,
    pub(crate) costs_ms: Option<CostsExplained>,
    pub(crate) cached_tokens: u32,
    pub(crate) host_tokens: u32,
    pub(crate) in_flight: u32,
    pub(crate) places: u32,
    pub(crate) tokens_in_flight: u64,
    /// None where there is no limit.
    pub(crate) tokens_max: Option<u64>,
}

/// The parts of a cost, and their sum.
#[derive(Debug, Serialize)]
pub(crate) struct CostsExplained {
    pub(crate) total: f64,
    pub(crate) queue: f64,
    pub(crate) prefill: f64,
    pub(crate) decode: f64,
    pub(crate) burden: f64,
    pub(crate) memory: f64,
    pub(crate) network: f64,
    pub(crate) adapter: f64,
}

impl Driver {
    pub(super) fn explain(&self, request: &Request, prompt: &Prompt) -> LaneExplanation {
        let told = self.scheduler.explain(self.now(), request, prompt);
        let decision = told.decision();
        let chosen = match decision {
            Decision::Go(choice) => Some(choice.replica),
            Decision::Wait { replica, .. } => Some(replica),
            Decision::Full => None,
        };
        let Explanation { refusal, line, lent, suspicion, policy, replicas, policies } = told;
        let is_apart = suspicion.is_some_and(|suspicion| suspicion.apart.is_some());
        let decided = |decision| if is_apart { Decided::Apart } else { self.decided(decision) };
        let others = policies.into_iter().filter(|(other, _)| *other != policy);
        LaneExplanation {
            name: self.name.clone(),
            policy,
            refusal: refusal.map(|refusal| refusal.to_string()),
            queue: LineExplained {
                requests: line.waiting,
                held: line.held,
                ahead: line.ahead,
                wait_ms: line.wait.map(ms),
                full: line.full,
            },
            lent,
            suspicion: suspicion.map(SuspicionExplained::from),
            decision: decided(decision),
            replicas: replicas.into_iter().map(|one| self.considered(one, chosen)).collect(),
            policies: others
                .map(|(policy, decision)| PolicyExplained { policy, decided: decided(decision) })
                .collect(),
        }
    }

    fn decided(&self, decision: Decision) -> Decided {
        match decision {
            Decision::Go(choice) => {
                Decided::Go { replica: self.name_of(choice.replica), why: choice.why.to_string() }
            }
            Decision::Wait { replica, most } => {
                Decided::Wait { replica: self.name_of(replica), most_ms: ms(most) }
            }
            Decision::Full => Decided::Full,
        }
    }

    fn considered(&self, one: Considered, chosen: Option<ReplicaId>) -> ReplicaExplained {
        let known = self.replicas.get(&one.id);
        ReplicaExplained {
            id: one.id.0,
            name: self.name_of(one.id),
            region: known.and_then(|known| known.replica.region.as_ref().map(ToString::to_string)),
            zone: known.and_then(|known| known.replica.zone.clone()),
            chosen: chosen == Some(one.id),
            near: one.near,
            closed: one.closed.map(|closed| closed.to_string()),
            costs_ms: one.costs.map(CostsExplained::from),
            cached_tokens: one.cached,
            host_tokens: one.loaded,
            in_flight: one.requests,
            places: one.requests_max,
            tokens_in_flight: one.tokens,
            tokens_max: Some(one.tokens_max).filter(|most| *most != u64::MAX),
        }
    }

    fn name_of(&self, id: ReplicaId) -> String {
        self.replicas
            .get(&id)
            .map_or_else(|| id.0.to_string(), |known| known.replica.name.to_string())
    }
}

impl From<Suspicion> for SuspicionExplained {
    fn from(suspicion: Suspicion) -> Self {
        let (ruling, deaths) = match suspicion.ruling {
            Ruling::Free => ("free", 0),
            Ruling::Watched { deaths } => ("watched", deaths),
            Ruling::Trial { deaths, .. } => ("trial", deaths),
            Ruling::Refuse { deaths, .. } => ("refused", deaths),
        };
        let waits = matches!(suspicion.apart, Some(Apart::Calm { .. }));
        let wait_ms = waits.then(|| ms(suspicion.wait));
        Self { ruling, deaths, said: suspicion.to_string(), wait_ms }
    }
}

impl From<Costs> for CostsExplained {
    fn from(costs: Costs) -> Self {
        Self {
            total: ms(costs.total()),
            queue: ms(costs.queue),
            prefill: ms(costs.prefill),
            decode: ms(costs.decode),
            burden: ms(costs.burden),
            memory: ms(costs.memory),
            network: ms(costs.network),
            adapter: ms(costs.adapter),
        }
    }
}

/// Milliseconds, to a tenth.
fn ms(span: Span) -> f64 {
    (span.as_secs_f64() * 10_000.0).round() / 10.0
}
