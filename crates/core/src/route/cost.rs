//! What a replica would cost a request: seconds until its answer is complete.
//!
//! ```text
//! cost = ( queue + prefill + decode + burden ) / warmth + memory + network + adapter
//! ```
//!
//! *queue*: prompts sent there before and not computed, and the wait for a place where there is none.
//! *prefill*: the prompt's tokens that its cache has not, those in the host's memory at a quarter.
//! *decode*: the expected answer, at the speed of a batch with one sequence more. *burden*: what others
//! wait longer because more of its prompt is computed than where the most of it is cached, those that
//! run there and those that wait for it. Without it a busy fleet computes again what it has, for lack
//! of places where it has it, and gets out of that no more. What nobody has is computed wherever it
//! goes and is no burden: counting it sends long prompts to where few run, whose answers are slow for
//! that and which get fewer still. *memory*: a barrier
//! that grows without limit as the KV cache fills. *network*: what the replica is away (a region, or
//! another zone), and what a more distant tier must be better by. *adapter*: loading it where it is not loaded.
//!
//! All of it is our own ledger of what is in flight ([`crate::fleet`]), at speeds that were measured
//! ([`super::speed`]); what engines report corrects it while it is fresh.

use serde::Serialize;

use super::{Candidate, Placement, Speeds};
use crate::fleet::Claim;
use crate::{Span, Time};

/// The barrier `B·k/(1−k)`, where `k` is the part of the KV cache in use: in seconds, SMG's
/// `least_load` weight.
const BARRIER_SECONDS: f64 = 0.15;

/// Where the barrier is cut: a cache that is all but full.
const FULLEST: f64 = 0.98;

/// What a token in the host's memory costs beside computing it: the credit of 0.75 that Dynamo gives.
const HOST_PART: f64 = 0.25;

/// What loading an adapter costs, in seconds, when nothing is known.
const ADAPTER_SECONDS: f64 = 0.5;

/// How many times what it can save a request waits for a replica of its choice: estimates err.
const PATIENCE: f64 = 2.0;

/// How long a request waits for a replica of its choice at most, whatever that can save.
pub const PATIENCE_MAX: Span = Span::from_secs(20);

/// What the mean stay at a replica is worth as a forecast of when its next place becomes free: many
/// stays are shorter than the mean.
const STAY: f64 = 0.7;

/// What a second of somebody who waits counts beside one of somebody who runs: it may not become true.
const WAITING: f64 = 0.7;

/// What a request would wait for, part by part.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Costs {
    /// Prompts in front of it, and a place.
    pub queue: Span,
    /// Its own prompt.
    pub prefill: Span,
    /// Its answer.
    pub decode: Span,
    /// What others wait longer because more of its prompt is computed than need be.
    pub burden: Span,
    /// Scarce KV memory.
    pub memory: Span,
    /// Distance.
    pub network: Span,
    /// An adapter that is not loaded.
    pub adapter: Span,
}

impl Costs {
    /// All of it.
    pub fn total(&self) -> Span {
        let parts =
            [self.prefill, self.decode, self.burden, self.memory, self.network, self.adapter];
        parts.into_iter().fold(self.queue, |sum, part| sum + part)
    }
}

/// Prompt tokens to compute where so many are cached, of which so many are in the host's memory.
pub(super) fn computed(input: u32, cached: u32, loaded: u32) -> f64 {
    f64::from(input.saturating_sub(cached)) + f64::from(loaded) * HOST_PART
}

/// What a candidate would cost, where so many `others` wait for it as well, and some replica has to
/// compute no more than `least` tokens of the prompt.
pub(super) fn of(
    now: Time,
    candidate: &Candidate<'_>,
    speeds: &Speeds,
    (placement, claim): (&Placement<'_>, &Claim),
    (others, least): (f64, f64),
) -> Costs {
    let replica = candidate.replica;
    let speed = speeds.of(replica.id);
    let (input, output) = (placement.tokens.input, placement.tokens.output);
    let computed = computed(input, candidate.cached, candidate.loaded);
    let foreign = f64::from(replica.foreign_waiting(now));
    let places = f64::from(replica.capacity.requests_max.max(1));
    let mut queue = speed.prefill_seconds(replica.prefill as f64);
    queue += foreign * speed.residence() / places;
    if !candidate.open {
        // Places become free one after the other, evenly in the mean.
        queue += STAY * f64::from(candidate.ahead + 1) * speed.residence() / places;
    }
    let answer = speeds.answer(output);
    let decode = answer * speed.step_seconds(f64::from(replica.requests + 1));
    let prefill = speed.prefill_seconds(computed);
    let avoidable = speed.prefill_seconds((computed - least).max(0.0));
    let disturbed = f64::from(replica.requests) + WAITING * others;
    let warmth = f64::from(replica.warmth()).max(0.01);
    let slow = |seconds: f64| span(seconds / warmth);
    let loads = placement.prompt.adapter != 0 && !replica.has_adapter(placement.prompt.adapter);
    Costs {
        queue: slow(queue),
        prefill: slow(prefill),
        decode: slow(decode),
        burden: slow(avoidable * disturbed),
        memory: span(barrier(now, candidate, claim)),
        network: replica.site.network,
        adapter: span(if loads { ADAPTER_SECONDS } else { 0.0 }),
    }
}

/// How long a request waits at most for a replica that is not open, while another is: for more of its
/// prompt there, for less of a way, for an adapter. Not for one that is only believed to be faster,
/// and would be believed so for as long as the other gets nothing to do.
pub(super) fn patience(wanted: &Candidate<'_>, open: &Candidate<'_>) -> Span {
    let has_more = wanted.cached > open.cached;
    let without_queue = |candidate: &Candidate<'_>| {
        let costs = candidate.costs;
        let known = costs.network + costs.adapter;
        let all = costs.total().as_nanos().saturating_sub(costs.queue.as_nanos());
        if has_more { all } else { known.as_nanos() }
    };
    let saved = without_queue(open).saturating_sub(without_queue(wanted));
    Span::from_nanos((saved as f64 * PATIENCE) as u64).min(PATIENCE_MAX)
}

fn barrier(now: Time, candidate: &Candidate<'_>, claim: &Claim) -> f64 {
    let replica = candidate.replica;
    let most = replica.capacity.tokens_max;
    if most == u64::MAX || most == 0 {
        return 0.0;
    }
    let used = most.saturating_sub(replica.free(now)).saturating_add(claim.need);
    let part = (used as f64 / most as f64).min(FULLEST);
    BARRIER_SECONDS * part / (1.0 - part)
}

fn span(seconds: f64) -> Span {
    Span::from_nanos((seconds * 1e9) as u64)
}
