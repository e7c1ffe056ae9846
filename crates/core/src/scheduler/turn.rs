//! Turns: the request whose turn it is goes to a replica with room for it, or running work is stopped
//! to make room, or everybody waits. Nobody is passed over because a smaller request would fit:
//! that is what would starve the large ones. Whoever would rather wait for a replica that has its
//! prompt in its cache than take one that is free lets others take that, and keeps its turn.

use super::{Held, Live, Output, Running, Scheduler};
use crate::fleet::{Claim, Fleet, Replica};
use crate::preempt::{self, Candidate, Victim};
use crate::prefix::BLOCK_TOKENS;
use crate::route::{self, Choice, Decision, Knowledge, Placement};
use crate::{Band, ReplicaId, RequestId, Span, Ticket, Time};

/// How long the same request waits at least before room is looked for again.
const LOOK_AGAIN: Span = Span::from_millis(20);

/// How long somebody who was asked to stop is waited for: a client that reads slowly must not keep
/// everybody else's work from being stopped.
const ANSWER_WITHIN: Span = Span::from_secs(2);

/// How long a request that waits for a replica without a place is not looked at again: the costs
/// that it chose by change slowly.
const SURE: Span = Span::from_millis(50);

/// How many of those behind one that waits for a replica of its choice are looked at.
const PASSED_MAX: usize = 64;

/// What became of a request whose turn it is.
pub(super) enum Placed {
    Sent(Output),
    /// It waits for this replica, though another has room.
    Waits(ReplicaId),
    /// It waits for a replica that is not there, and takes none of those that are.
    Apart,
    /// Others have room, and none of these, to which alone it may go.
    Kept(Vec<ReplicaId>),
    /// Nobody has room for it.
    Full,
}

impl Scheduler {
    pub(super) fn dispatch(
        &mut self,
        now: Time,
        cached: &dyn Fn(&Ticket) -> u32,
    ) -> Option<Output> {
        // Whoever may go waits for a replica of its choice, and nothing has happened since.
        if !self.unlooked && self.patient_until.is_some_and(|until| now < until) {
            return None;
        }
        self.patient_until = None;
        loop {
            let ticket = self.next(now, cached)?;
            if self.end_if_late(now, &ticket) {
                if let Some(output) = self.outputs.pop_front() {
                    return Some(output);
                }
                continue;
            }
            self.note_cached(ticket.id, cached(&ticket));
            let mut ahead = Vec::new();
            return match self.place(now, &ticket, &ahead) {
                Placed::Sent(output) => Some(output),
                Placed::Full => self.make_room(now, (ticket.id, ticket.band)),
                // What runs where it may go makes room for it, and nobody waits for that who may go elsewhere.
                Placed::Kept(at) => {
                    let made = self.make_room(now, (ticket.id, ticket.band));
                    ahead.extend(at.into_iter().map(|replica| (replica, 1)));
                    made.or_else(|| self.pass(now, &ticket, &Band::ALL, ahead))
                }
                // Who can go nowhere holds nobody up, however urgent it is, and however long it has waited.
                Placed::Apart => self.pass(now, &ticket, &Band::ALL, ahead),
                Placed::Waits(replica) => {
                    ahead.push((replica, 1));
                    self.pass(now, &ticket, &[ticket.band], ahead)
                }
            };
        }
    }

    /// The one whose turn it is waits for a replica of its choice: those behind it in these bands may take
    /// what it does not want. It keeps its turn, and waits at most as long as it can save by that.
    fn pass(
        &mut self,
        now: Time,
        first: &Ticket,
        bands: &[Band],
        mut ahead: Vec<(ReplicaId, u32)>,
    ) -> Option<Output> {
        let open = self.fleet.iter().filter(|one| one.is_open(now) && one.has_place());
        let open: Vec<&Replica> = open.collect();
        let may = |id: RequestId| {
            self.live.get(&id).is_none_or(|live| {
                let may_go = |one: &&Replica| live.prompt.bounds.bar(now, one).is_none();
                live.doubt.is_none() && open.iter().any(may_go)
            })
        };
        let behind = bands.iter().map(|band| self.queue.behind(first.id, *band, PASSED_MAX, may));
        for ticket in behind.flatten().collect::<Vec<_>>() {
            if self.is_late(now, ticket.id) {
                continue;
            }
            let placed = match self.still_held(now, ticket.id) {
                Some(replica) => Placed::Waits(replica),
                None => self.place(now, &ticket, &ahead),
            };
            let waits_for = match placed {
                Placed::Sent(output) => return Some(output),
                Placed::Full => break,
                Placed::Apart => Vec::new(),
                Placed::Kept(at) => at,
                Placed::Waits(replica) => vec![replica],
            };
            for replica in waits_for {
                match ahead.iter_mut().find(|(id, _)| *id == replica) {
                    Some((_, count)) => *count += 1,
                    None => ahead.push((replica, 1)),
                }
            }
        }
        self.unlooked = false;
        None
    }

    /// A request waits for a replica from now on, so long at most since it began to wait for any.
    fn hold(&mut self, now: Time, id: RequestId, replica: ReplicaId, most: Span) {
        let since = self.unhold(id).map_or(now, |held| held.since);
        let Some(live) = self.live.get_mut(&id) else { return };
        let until = since + most;
        live.held = Some(Held { replica, since, until, sure: until.min(now + SURE) });
        *self.wanted.entry(replica).or_default() += 1;
        self.be_patient(until);
    }

    pub(super) fn be_patient(&mut self, until: Time) {
        self.patient_until = Some(self.patient_until.map_or(until, |first| first.min(until)));
    }

    /// A request waits for no replica in particular.
    pub(super) fn unhold(&mut self, id: RequestId) -> Option<Held> {
        let held = self.live.get_mut(&id)?.held.take()?;
        if let Some(count) = self.wanted.get_mut(&held.replica) {
            *count -= 1;
            if *count == 0 {
                self.wanted.remove(&held.replica);
            }
        }
        Some(held)
    }

    /// The replica that a request waits for, if nothing can have come of that since it was looked at.
    fn still_held(&mut self, now: Time, id: RequestId) -> Option<ReplicaId> {
        let held = self.live.get(&id)?.held.filter(|held| now < held.sure)?;
        let replica = self.fleet.get(held.replica)?;
        if !replica.is_open(now) || replica.has_place() {
            return None;
        }
        self.be_patient(held.until);
        Some(held.replica)
    }

    fn end_if_late(&mut self, now: Time, ticket: &Ticket) -> bool {
        let live = self.live.get(&ticket.id).filter(|live| live.doubt.is_none());
        let poison = live.and_then(|live| self.is_poison(now, live.prompt.fingerprint));
        let late = self.is_late(now, ticket.id);
        if late || poison.is_some() {
            self.queue.remove(ticket.id);
            self.end_waiting(now, ticket, poison);
        }
        late || poison.is_some()
    }

    fn note_cached(&mut self, id: RequestId, cached: u32) {
        if cached == 0 {
            return;
        }
        self.queue.found(id, cached);
        if let Some(live) = self.live.get_mut(&id) {
            live.request.tokens.cached = cached.min(live.request.tokens.input);
        }
    }

    fn next(&self, now: Time, cached: &dyn Fn(&Ticket) -> u32) -> Option<Ticket> {
        let first =
            self.queue.peek_near(now, |ticket| cached(ticket).max(self.warmth(now, ticket)))?;
        let promised = self.promised.and_then(|id| self.queue.get(id));
        Some(*promised.filter(|promised| promised.band <= first.band).unwrap_or(first))
    }

    /// Prompt tokens that a replica with room is believed to have: asked only where the quantum lets
    /// caches count for whose turn it is.
    fn warmth(&self, now: Time, ticket: &Ticket) -> u32 {
        let Some(live) = self.live.get(&ticket.id) else { return 0 };
        let found = self.index.find(live.prompt.blocks()).into_iter();
        let open = found.filter(|(id, _)| {
            let replica = self.fleet.get(*id);
            replica.is_some_and(|replica| replica.is_open(now) && replica.has_place())
        });
        open.map(|(_, found)| found.blocks()).max().unwrap_or(0).saturating_mul(BLOCK_TOKENS)
    }

    /// Whether a request that would be sent now could not begin its answer in time.
    fn is_late(&self, now: Time, id: RequestId) -> bool {
        let live = self.live.get(&id).filter(|live| !live.answered);
        let answer_by = live.and_then(|live| live.request.answer_by);
        answer_by.is_some_and(|answer_by| now + self.pace.expected_first_token(now) > answer_by)
    }

    /// Sends a request, if there is room where it belongs.
    pub(super) fn place(
        &mut self,
        now: Time,
        ticket: &Ticket,
        ahead: &[(ReplicaId, u32)],
    ) -> Placed {
        let Some(claim) = self.claim(ticket.id) else { return Placed::Full };
        let Some(barred) = self.barred(now, ticket.id) else { return Placed::Apart };
        if self.waits_for_another(ticket.id) {
            let until = ticket.deadline.unwrap_or(now);
            self.patient_until = Some(self.patient_until.map_or(until, |first| first.min(until)));
            return Placed::Apart;
        }
        let usable = |free| self.queue.usable(ticket.id, free);
        if !is_lent(now, &self.fleet, claim.need, usable) {
            return Placed::Full;
        }
        let Some(decision) = self.decide(now, ticket.id, &claim, (ahead, &barred)) else {
            return Placed::Full;
        };
        match decision {
            Decision::Full => {
                let full = self.full(now, ticket.id, &barred);
                if !matches!(full, Placed::Full) {
                    self.be_patient(ticket.deadline.unwrap_or(now));
                }
                full
            }
            Decision::Go(choice) => {
                self.note_cached(ticket.id, choice.cached);
                let prefill = claim.prefill.saturating_sub(u64::from(choice.cached));
                let claim = Claim { prefill, ..claim };
                self.send(now, ticket.id, &claim, choice, None).map_or(Placed::Full, Placed::Sent)
            }
            Decision::Wait { replica, most } => {
                self.hold(now, ticket.id, replica, most);
                Placed::Waits(replica)
            }
        }
    }

    /// What it means for others that a request found no room: where there is some, but none where this one may
    /// go, they must not wait for it.
    fn full(&self, now: Time, id: RequestId, barred: &[ReplicaId]) -> Placed {
        let Some(live) = self.live.get(&id) else { return Placed::Full };
        let may = route::eligible(now, &self.fleet, &live.tried, barred);
        let may: Vec<ReplicaId> = may.map(|replica| replica.id).collect();
        let mut elsewhere = self.fleet.iter().filter(|replica| !may.contains(&replica.id));
        if !elsewhere.any(|replica| replica.is_open(now) && replica.has_place()) {
            return Placed::Full;
        }
        if may.is_empty() { Placed::Apart } else { Placed::Kept(may) }
    }

    /// What a waiting request asks of a replica that has nothing of it.
    fn claim(&self, id: RequestId) -> Option<Claim> {
        let need = self.queue.need(id)?;
        let tokens = self.live.get(&id)?.request.tokens;
        Some(Claim { need, most: tokens.total(), prefill: u64::from(tokens.input) })
    }

    fn decide(
        &mut self,
        now: Time,
        id: RequestId,
        claim: &Claim,
        (ahead, barred): (&[(ReplicaId, u32)], &[ReplicaId]),
    ) -> Option<Decision> {
        let live = self.live.get(&id)?;
        let placement = Placement { barred, ..placement(now, live, claim) };
        let known = Knowledge {
            index: &self.index,
            speeds: &self.speeds,
            ahead,
            turn: self.placed,
            wanted: &self.wanted,
            own: live.held.map(|held| held.replica),
            waiting: self.queue.len(),
            shares: self.config.shares_prefixes,
        };
        Some(route::choose(now, &mut *self.pick, &self.fleet, known, &placement))
    }

    fn send(
        &mut self,
        now: Time,
        id: RequestId,
        claim: &Claim,
        choice: Choice,
        displaces: Option<RequestId>,
    ) -> Option<Output> {
        self.queue.take(now, id)?;
        self.placed += 1;
        let ahead = self.fleet.get(choice.replica).map_or(0, |replica| replica.prefill);
        self.promised = self.promised.filter(|promised| *promised != id);
        let live = self.live.get_mut(&id)?;
        let goes_on = live.answered && live.attempt > 0;
        live.attempt += u32::from(!goes_on || std::mem::take(&mut live.broken));
        // A request that goes on after a stop has its answer's place booked with its prompt.
        live.running = Some(Running {
            replica: choice.replica,
            since: now,
            tokens: claim.need,
            prefill: claim.prefill,
            ahead: ahead + claim.prefill,
            cached: choice.cached,
            from: live.output,
            begun: None,
            paused: None,
            stopping: false,
            copy_at: None,
        });
        if live.is_stoppable() {
            self.stoppable.insert((live.request.band, id));
        }
        self.index.hold(choice.replica, live.prompt.blocks());
        let attempt = live.attempt;
        self.unhold(id);
        self.fleet.book(choice.replica, id, claim);
        self.note_sent(now, id);
        self.plan_copy(now, id);
        self.note_shared(choice.replica);
        let (replica, why) = (choice.replica, choice.why);
        Some(Output::Dispatch { id, replica, attempt, displaces, why })
    }

    /// Stops running work so that the request gets room: at once where a replica can pause a
    /// sequence by itself, else as soon as the host reports that it stopped.
    fn make_room(&mut self, now: Time, (id, band): (RequestId, Band)) -> Option<Output> {
        let mut claim = self.claim(id)?;
        claim.prefill -= u64::from(self.live.get(&id)?.request.tokens.cached);
        let claim = &claim;
        if !self.config.preempt.enabled || self.is_making_room(now) || !self.looks_again(now, id) {
            return None;
        }
        // What runs where it may not go makes no room for it.
        let barred = self.barred(now, id)?;
        let mut candidates = self.candidates(now, band);
        candidates.retain(|candidate| !barred.contains(&candidate.replica));
        let ranked = preempt::rank(now, &self.config.preempt, &self.queue, (id, band), candidates);
        if ranked.is_empty() {
            return None;
        }
        // Rather not where this request has failed already.
        let tried = |victim: &&Victim| {
            self.live.get(&id).is_some_and(|live| live.tried.contains(&victim.replica))
        };
        let pausable = ranked.iter().filter(|victim| victim.pausable).min_by_key(tried);
        if let Some(victim) = pausable.copied() {
            return self.displace(now, id, claim, victim);
        }
        let victims = self.enough(now, claim, &ranked)?;
        self.promised = Some(id);
        self.asked = Some(now);
        for victim in victims {
            self.mark_stopping(victim.id);
            let Victim { id: stopped, replica, reason, .. } = victim;
            let stop = Output::Stop { id: stopped, replica, urgent: id, reason };
            self.outputs.push_back(stop);
        }
        self.outputs.pop_front()
    }

    /// When the one for whom no room was found is looked at again: by then work has run long enough
    /// to be stopped, though nothing may have happened.
    pub(super) fn next_look(&self, now: Time) -> Option<Time> {
        let (whom, at) = self.looked.filter(|_| self.config.preempt.enabled)?;
        let again = at + self.config.preempt.run_min.max(LOOK_AGAIN);
        (again > now && self.queue.get(whom).is_some()).then_some(again)
    }

    /// Looking for victims goes over all that runs, so that it is not done for each token that comes.
    fn looks_again(&mut self, now: Time, id: RequestId) -> bool {
        if self.looked.is_some_and(|(whom, at)| whom == id && now.since(at) < LOOK_AGAIN) {
            return false;
        }
        self.looked = Some((id, now));
        true
    }

    /// Whether somebody was asked to stop and has not answered: more are not asked meanwhile, unless
    /// that takes too long.
    fn is_making_room(&self, now: Time) -> bool {
        let fresh = self.asked.is_some_and(|asked| now.since(asked) < ANSWER_WITHIN);
        self.stopping > 0 && fresh
    }

    /// What runs, is no more urgent than the band, and may be paused or stopped. Where no replica can
    /// pause, that is what may be stopped, and mostly much less than what runs.
    fn candidates(&self, now: Time, band: Band) -> Vec<Candidate> {
        let mut ids: Vec<RequestId> =
            self.stoppable.range((band, RequestId(0))..).map(|(_, id)| *id).collect();
        if self.fleet.iter().any(|replica| replica.paused < replica.capacity.pauses_max) {
            ids = self.queue.taken().map(|(id, _)| id).collect();
        }
        let live = ids.into_iter().filter_map(|id| Some((id, self.live.get(&id)?)));
        live.filter_map(|(id, live)| self.candidate(now, id, live)).collect()
    }

    fn candidate(&self, now: Time, id: RequestId, live: &Live) -> Option<Candidate> {
        let running =
            live.running.filter(|running| !running.stopping && running.paused.is_none())?;
        let replica = self.fleet.get(running.replica).filter(|replica| replica.is_open(now))?;
        let pausable = replica.paused < replica.capacity.pauses_max;
        (pausable || live.is_stoppable()).then_some(Candidate {
            id,
            replica: running.replica,
            band: live.request.band,
            started: running.since,
            tokens: running.tokens,
            stops: live.stops,
            pausable,
        })
    }

    fn displace(
        &mut self,
        now: Time,
        id: RequestId,
        claim: &Claim,
        victim: Victim,
    ) -> Option<Output> {
        let live = self.live.get_mut(&victim.id)?;
        live.stops += 1;
        live.running.as_mut()?.paused = Some(now);
        self.paused.insert((victim.replica, now, victim.id));
        self.fleet.pause(victim.replica, true);
        let queued = now.since(self.live.get(&id)?.arrived);
        let attempt = self.live.get(&id)?.attempt + 1;
        let why = crate::Why::Displaces {
            replica: victim.replica,
            victim: victim.id,
            reason: victim.reason,
            queued,
            attempt,
        };
        let choice = Choice { replica: victim.replica, cached: 0, why };
        self.send(now, id, claim, choice, Some(victim.id))
    }

    /// The fewest of the ranked whose stop makes room on one replica.
    fn enough(&self, now: Time, claim: &Claim, ranked: &[Victim]) -> Option<Vec<Victim>> {
        let replicas = self.fleet.iter().filter(|replica| replica.is_open(now));
        let enough = replicas.filter_map(|replica| {
            let place = replica.requests < replica.capacity.requests_max;
            let mut victims = Vec::new();
            for victim in ranked.iter().filter(|victim| victim.replica == replica.id) {
                let fits = self.fleet.fits(now, replica, claim, &victims);
                if fits && (place || !victims.is_empty()) {
                    break;
                }
                victims.push(*victim);
            }
            let all = victims.len() as u32 == replica.requests;
            let fits = all || self.fleet.fits(now, replica, claim, &victims);
            (fits && !victims.is_empty()).then_some(victims)
        });
        enough.min_by_key(|victims| {
            let lost: u64 = victims.iter().map(|victim| victim.tokens).sum();
            (victims.len(), lost)
        })
    }

    fn mark_stopping(&mut self, id: RequestId) {
        if let Some(running) = self.live.get_mut(&id).and_then(|live| live.running.as_mut()) {
            running.stopping = true;
            self.stopping += 1;
        }
    }
}

/// Whether what others do not lend stays free beside a request that may use so much of what is free.
pub(super) fn is_lent(now: Time, fleet: &Fleet, need: u64, usable: impl Fn(u64) -> u64) -> bool {
    if usable(u64::MAX) == u64::MAX {
        return true;
    }
    let free = fleet.free(now);
    free == u64::MAX
        || usable(free) >= need.min(free)
        || fleet.iter().all(|replica| replica.requests == 0)
}

fn placement<'a>(now: Time, live: &'a Live, claim: &Claim) -> Placement<'a> {
    Placement {
        id: live.request.id,
        tokens: live.request.tokens,
        prompt: &live.prompt,
        tried: &live.tried,
        barred: &[],
        claim: *claim,
        queued: now.since(live.arrived),
        held: live.held.map_or(Span::ZERO, |held| now.since(held.since)),
        attempt: live.attempt + 1,
    }
}
