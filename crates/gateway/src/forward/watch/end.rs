//! A request's end: what it used is settled, and counted once in every place where it counts.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use pilotage_core::traffic::tally::Sample;
use pilotage_core::traffic::{Miss, Role};
use pilotage_core::{Refusal, Span, Tokens};
use pilotage_lens::trace::Reasons;
use pilotage_lens::{Known, Ran, Record, Termination, Timeline};

use super::{Part, Watch};
use crate::app::Gateway;
use crate::driver::{Reason, Replica};
use crate::forward::generation::{Account, Generation, Gone};
use crate::quotas::Lease;
use crate::trail::Seat;

/// What was computed for an answer, and when.
type Computed<'a> = (&'a Timeline, Tokens);

impl Watch {
    /// The request is over.
    pub(crate) fn end(&mut self, status: u16, termination: Termination) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        self.learn();
        let shares = self.shares_price();
        let used = self.pay(termination);
        let account = self.claim();
        self.count(termination, account.as_ref());
        let ran = self.ran(termination, used, account);
        if let Part::Generation(generation) = &self.part {
            generation.tell(|told| {
                told.timeline = Some(self.timeline);
                told.runs.clone_from(&self.runs);
                told.end = Some((status, termination));
            });
            let lane = self.lane.as_ref().map(|lane| lane.name.as_str());
            self.gateway.inner.counts.generated(lane, self.tokens, self.attempts);
            return;
        }
        let record = Record { ran, ..self.record(status, termination) };
        let record = Record { kept: self.gateway.keeps(&record), ..record };
        let own = record.phases.read.as_nanos().saturating_sub(self.body.as_nanos());
        let own = Span::from_nanos(own);
        if matches!(self.part, Part::Request) && self.cache.is_none() {
            let counts = &self.gateway.inner.counts;
            counts.generated(record.lane.as_deref(), record.tokens, record.attempts);
        }
        let record = match shares {
            Some((generation, number)) => {
                let gone = Gone { number, record: Box::new(record), own };
                let Some(gone) = generation.leave(gone) else {
                    return self.gateway.inner.trail.left(self.seat.take());
                };
                *gone.record
            }
            None => record,
        };
        self.row = leave(&self.gateway, self.seat.take(), record, own);
    }

    /// The generation that it pays for together with others, and its number among them.
    fn shares_price(&self) -> Option<(Arc<Generation>, u64)> {
        match &self.part {
            Part::Caller(generation, number) if self.lease.is_none() => {
                Some((Arc::clone(generation), *number))
            }
            _ => None,
        }
    }

    /// What callers share, for the one who has it on its account: the first of them who is there when it ends.
    fn claim(&self) -> Option<Account> {
        let Part::Caller(generation, number) = &self.part else { return None };
        generation.claim(*number)
    }

    /// The model did not answer, and another may: what is its own failure counts against it.
    pub(crate) fn missed(&mut self, miss: Option<&Miss>) {
        if let Some(Miss::Refused(Refusal::Exhausted { .. })) = miss {
            self.sample(true, (&self.timeline, self.tokens), Span::ZERO);
            self.failed = true;
        }
        if let Some(place) = &mut self.place {
            place.role = Role::Stable;
        }
        let failed = self.failed;
        self.tell(|told| (told.is_elsewhere, told.failed) = (true, failed));
    }

    /// Counts how its model did. What callers share counts once, and what was kept not again.
    fn count(&self, termination: Termination, account: Option<&Account>) {
        let (timeline, tokens) = match (&self.part, account) {
            (Part::Request, _) => (self.timeline, self.tokens),
            (_, Some(account)) => (account.timeline.unwrap_or(self.timeline), account.tokens),
            (_, None) => return,
        };
        if self.cache != Some("hit")
            && !self.failed
            && let Some(failed) = outcome(termination)
        {
            let total = self.now().since(timeline.begun());
            self.sample(failed, (&timeline, tokens), total);
        }
        if let (Some(gaps), Some(lane)) = (&self.gaps, &self.lane) {
            self.gateway.inner.counts.gaps(&lane.name, gaps.counts());
        }
    }

    /// What engines did for it, where its phases do not tell: what callers share, and what came of several attempts.
    fn ran(
        &mut self,
        termination: Termination,
        used: bool,
        account: Option<Account>,
    ) -> Option<Box<Ran>> {
        let now = self.now();
        if matches!(self.part, Part::Caller(..)) {
            let Some(Account { mut runs, tokens, .. }) = account else {
                return Some(Box::default());
            };
            // It was the last one, and nobody waits for the rest.
            runs.finish(now, (tokens.output, Span::ZERO), false);
            return Some(Box::new(runs.ran(now, self.known(tokens))));
        }
        let until = match termination {
            Termination::Ok => self.timeline.last_token().unwrap_or(now),
            _ => now,
        };
        let blocked = self.timeline.phases(until).client_blocked;
        self.runs.finish(until, (self.tokens.output, blocked), !used);
        let told = matches!(self.part, Part::Generation(_)) || self.runs.is_plain();
        (!told).then(|| Box::new(self.runs.ran(now, self.known(self.tokens))))
    }

    /// What is known of it, for the account of engines.
    const fn known(&self, tokens: Tokens) -> Known {
        let input = if tokens.input > 0 { tokens.input } else { self.estimated_input };
        Known { tokens: Tokens { input, ..tokens }, stream: self.stream }
    }

    /// Settles what was reserved, with the records that wait for that; whether it used anything.
    fn pay(&mut self, termination: Termination) -> bool {
        // Whoever got an answer, or a part of one, used what it took. What failed on our side used
        // nothing, not even a place among the requests of its minute; what the client got wrong, or
        // left, did.
        let used = self.tokens.output > 0 || self.counted;
        // An answer that its client did not wait for was begun all the same: its prompt was computed.
        let left = matches!(termination, Termination::ClientCancel | Termination::Timeout);
        if left && !used && self.attempts > 0 {
            self.tokens.input = self.estimated_input;
            self.tell_tokens();
        }
        let used = used || (left && self.attempts > 0) || !is_ours(termination);
        match &self.part {
            Part::Generation(generation) => {
                generation.close();
                let (purse, price) = (generation.take_purse(), generation.told().price);
                let parts = if used {
                    Lease::settle_shared(purse, price, self.tokens)
                } else {
                    BTreeMap::new()
                };
                for Gone { record, own, .. } in generation.settled(parts) {
                    leave(&self.gateway, None, *record, own);
                }
            }
            Part::Caller(generation, _) => {
                let price = generation.told().price;
                if let Some(lease) = self.lease.take().filter(|_| used) {
                    self.charged = lease.settle_at(price, self.tokens);
                }
            }
            Part::Request | Part::Copy => {
                if let Some(lease) = self.lease.take().filter(|_| used) {
                    self.charged = lease.settle(self.tokens);
                }
            }
        }
        used
    }

    /// The record, which takes over what only it needs from now on.
    fn record(&mut self, status: u16, termination: Termination) -> Record {
        let phases = self.timeline.phases(self.now());
        let (tenant, tenant_path) = self.tenant.take().unzip();
        // The client may have asked for both, in a header that is written later.
        let (why, routed) = (self.why.clone(), self.routed.clone());
        let (lane, gaps) = (self.lane.take(), self.gaps.take());
        let replica = why.as_ref().map(Reason::replica);
        Record {
            unix_ms: self.gateway.inner.clock.unix_ms(),
            request_id: std::mem::take(&mut self.request_id),
            trace_id: self.traced.own.trace,
            parent_span: self.traced.parent,
            span_id: self.traced.own.span,
            sampled: self.traced.own.sampled,
            tenant,
            tenant_path,
            path: self.path,
            route: routed.as_ref().map(|why| why.route.clone()),
            lane: lane.as_ref().map(|lane| lane.name.clone()),
            version: lane.and_then(|lane| lane.version.clone()),
            adapter: self.adapter.take(),
            runtime: replica.and_then(Replica::runtime),
            runtime_version: replica.and_then(|replica| replica.runtime_version.clone()),
            hardware: replica.and_then(|replica| replica.hardware.clone()),
            band: self.band,
            stream: self.stream,
            status,
            termination,
            attempts: self.attempts,
            stops: self.stops,
            merged: matches!(self.part, Part::Caller(_, 1..)),
            mirror: matches!(self.part, Part::Copy),
            cache: self.cache,
            resumed: self.detours.resumed,
            corrupted: self.detours.corrupted,
            earlier_replicas: std::mem::take(&mut self.detours.earlier),
            earlier_faults: std::mem::take(&mut self.detours.faults),
            fault: self.detours.fault,
            queue_depth: self.detours.waiting,
            address: why.as_ref().and_then(|why| why.address().cloned()),
            reused: self.detours.reused,
            replica: replica.map(|replica| replica.name.clone()),
            region: replica.and_then(|replica| replica.region.clone()),
            why: why.as_ref().map(Reason::why),
            route_why: routed,
            tokens: self.tokens,
            reasoning: self.reasoning,
            counted: self.counted,
            charged: self.charged,
            ran: None,
            phases,
            total: phases.total(),
            // An answer in one piece shows nothing of when its tokens came.
            ttft: self.timeline.ttft().filter(|_| self.stream),
            tpot: self.timeline.tpot(self.tokens.output).filter(|_| self.stream),
            itl: gaps.as_ref().and_then(|gaps| gaps.itl()),
            stalls: gaps.map(|gaps| gaps.stalls().to_vec()).unwrap_or_default(),
            kept: Reasons::default(),
        }
    }

    /// Counts an end for the arm that it took, with what was computed for it, and when.
    pub(super) fn sample(&self, failed: bool, (timeline, tokens): Computed<'_>, total: Span) {
        let (Some(place), Some(lane)) = (&self.place, &self.lane) else { return };
        let phases = timeline.phases(self.now());
        let Tokens { input, cached, output } = tokens;
        let begun = timeline.ttft().is_some() && !failed;
        let first = begun.then(|| phases.connect + phases.prefill);
        let (ttft, tpot) = if self.stream {
            (first, timeline.tpot(output).filter(|_| begun))
        } else {
            in_one_piece(first, output)
        };
        let sample = Sample {
            failed,
            prefill: input.saturating_sub(cached).into(),
            input: input.into(),
            output: output.into(),
            ttft,
            tpot,
            total,
        };
        self.gateway.inner.trials.ended(place, &lane.name, &sample);
    }
}

/// A record is counted, and goes to all who keep records; the number of its row, where there is a ledger.
fn leave(gateway: &Gateway, seat: Option<Seat>, record: Record, own: Span) -> Option<u64> {
    let counts = &gateway.inner.counts;
    if record.mirror {
        counts.copied(&record);
    } else {
        counts.count(&record, own);
    }
    gateway.inner.trail.ended(seat, Arc::new(record))
}

/// What an answer that came in one piece, so long after it was asked for, says of its model: how long its prompt took if
/// it has no tokens of its own, otherwise how long each of them did, with its part of the prompt.
fn in_one_piece(took: Option<Span>, tokens: u32) -> (Option<Span>, Option<Span>) {
    match NonZeroU32::new(tokens) {
        Some(tokens) => {
            let each = |took: Span| took.as_nanos() / u64::from(tokens.get());
            (None, took.map(|took| Span::from_nanos(each(took))))
        }
        None => (took, None),
    }
}

/// Whether a request that ended so was failed by its model; none where that says nothing of it.
const fn outcome(termination: Termination) -> Option<bool> {
    match termination {
        Termination::Ok => Some(false),
        Termination::UpstreamError | Termination::UpstreamInterrupted | Termination::Timeout => {
            Some(true)
        }
        _ => None,
    }
}

/// Whether a request that ended so without a token is not its client's doing.
const fn is_ours(termination: Termination) -> bool {
    match termination {
        Termination::Ok | Termination::ClientCancel | Termination::BadRequest => false,
        Termination::Quota
        | Termination::Budget
        | Termination::QueueFull
        | Termination::Deadline
        | Termination::UpstreamError
        | Termination::UpstreamInterrupted
        | Termination::Timeout
        | Termination::Draining => true,
    }
}
