//! Why did that request wait? Whose counters stood where, who went ahead of it, and by which rule.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pilotage_core::queue::Entitlement;
use pilotage_core::{Band, RequestId, Scheduler, Span, TenantId, Time};
use serde::Serialize;

use crate::arrival::seconds;
use crate::report::Rounded;
use crate::run::{Fate, Record};
use crate::scenario::Scenario;

/// Turns of others that are kept one by one; all are counted.
const TURNS_MAX: usize = 50;

/// Why somebody else had a turn first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Ahead {
    /// Its band is more urgent.
    MoreUrgent,
    /// Its band is less urgent, but below its floor, or its oldest request had waited long.
    FloorOrAge,
    /// Its tenant was within its guarantee, and this one's was not.
    Guarantee,
    /// Its tenant had received less service for its weight.
    SmallerCounter,
    /// Both had received as much, or the quantum makes no difference of it.
    AsMuch,
    /// It was of the same tenant, or in the same line, and came before.
    SameLine,
    /// It had a turn before that came to nothing, or this one's tenant was at its limit.
    Otherwise,
}

impl Ahead {
    const fn text(self) -> &'static str {
        match self {
            Self::MoreUrgent => "their band is more urgent",
            Self::FloorOrAge => "their band was below its floor, or had waited long",
            Self::Guarantee => "they were within their guarantee",
            Self::SmallerCounter => "they had received less service",
            Self::AsMuch => "they had received as much service, or nearly (quantum)",
            Self::SameLine => "they came earlier to the same line",
            Self::Otherwise => {
                "their turn before had come to nothing, or the tenant was at its limit"
            }
        }
    }
}

/// Why a request waited.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Its number among the arrivals, from one.
    pub request: u64,
    /// Whose it was.
    pub tenant: String,
    /// How urgent.
    pub band: &'static str,
    /// When it came, in seconds.
    pub arrived: Rounded,
    /// When it had its turn.
    pub turn: Option<Rounded>,
    /// When its first token came.
    pub first_token: Option<Rounded>,
    /// When it ended.
    pub ended: Option<Rounded>,
    /// How.
    pub fate: &'static str,
    /// Seconds that it waited for its turn.
    pub waited: Rounded,
    /// Seconds of those in which it was the next, and there was no room.
    pub waited_for_room: Rounded,
    /// Its tenant and those that share with it, when it came.
    pub on_arrival: Vec<Standing>,
    /// The same before its turn.
    pub at_turn: Vec<Standing>,
    /// Who went ahead, by tenant and reason.
    pub ahead: Vec<Passed>,
    /// The first turns of others, one by one.
    pub turns: Vec<Turn>,
}

/// How a tenant stood.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// Which one.
    pub tenant: String,
    /// Service received for weight one, in weighted tokens: the virtual counter.
    pub counter: u64,
    /// Requests that waited.
    pub waiting: u32,
    /// KV tokens in use.
    pub usage: u64,
    /// KV tokens guaranteed.
    pub guaranteed: u64,
    /// Whether it is the request's own, or one above it.
    pub own: bool,
}

/// Turns of one tenant for one reason.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Passed {
    /// Whose.
    pub tenant: String,
    /// Why.
    pub reason: Ahead,
    /// How many.
    pub turns: u64,
}

/// A turn that somebody else had.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Turn {
    /// When, in seconds.
    pub at: Rounded,
    /// Which request.
    pub request: u64,
    /// Whose.
    pub tenant: String,
    /// Why.
    pub reason: Ahead,
    /// Its tenant's counter, where the two tenants' paths meet.
    pub counter: u64,
    /// The waiting one's.
    pub own_counter: u64,
}

/// An eye on one request while a scenario is played.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    id: RequestId,
    scenario: &'a Scenario,
    waits: bool,
    before: BTreeMap<TenantId, Entitlement>,
    first_since: Option<Time>,
    for_room: Span,
    on_arrival: Vec<Standing>,
    at_turn: Vec<Standing>,
    ahead: BTreeMap<(u32, Ahead), u64>,
    turns: Vec<Turn>,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(id: RequestId, scenario: &'a Scenario) -> Self {
        Self {
            id,
            scenario,
            waits: false,
            before: BTreeMap::new(),
            first_since: None,
            for_room: Span::ZERO,
            on_arrival: Vec::new(),
            at_turn: Vec::new(),
            ahead: BTreeMap::new(),
            turns: Vec::new(),
        }
    }

    pub(crate) fn arrived(&mut self, now: Time, id: RequestId, scheduler: &Scheduler) {
        if id == self.id {
            self.waits = true;
            self.look(scheduler);
            self.on_arrival = self.standings();
            self.drained(now, scheduler);
        }
    }

    /// Before a turn is given.
    pub(crate) fn before(&mut self, scheduler: &Scheduler) {
        if self.waits {
            self.look(scheduler);
        }
    }

    /// A turn was given.
    pub(crate) fn dispatched(&mut self, now: Time, id: RequestId, scheduler: &Scheduler) {
        if !self.waits {
            return;
        }
        if id == self.id {
            self.waits = false;
            self.no_longer_first(now);
            self.at_turn = self.standings();
            return;
        }
        let (tenant, band) = self.of(id);
        let (reason, counter, own_counter) = self.reason(tenant, band, scheduler);
        *self.ahead.entry((tenant, reason)).or_default() += 1;
        if self.turns.len() < TURNS_MAX {
            let (at, request) = (seconds(now).into(), id.0);
            let tenant = self.name(TenantId(tenant));
            self.turns.push(Turn { at, request, tenant, reason, counter, own_counter });
        }
    }

    /// After turns were given: whoever is next now waits for room.
    pub(crate) fn drained(&mut self, now: Time, scheduler: &Scheduler) {
        if !self.waits {
            return;
        }
        if scheduler.queue().peek(now).is_some_and(|ticket| ticket.id == self.id) {
            self.first_since.get_or_insert(now);
        } else {
            self.no_longer_first(now);
        }
    }

    pub(crate) fn ended(&mut self, now: Time, id: RequestId, _fate: Fate) {
        if id == self.id {
            self.waits = false;
            self.no_longer_first(now);
        }
    }

    pub(crate) fn explain(self, records: &[Record]) -> Explanation {
        let at = usize::try_from(self.id.0).unwrap_or(0).saturating_sub(1);
        let none = Record::default();
        let record = records.get(at).unwrap_or(&none);
        let (tenant, band) = self.of(self.id);
        let arrived = self.scenario.arrivals.get(at).map_or(Time::ZERO, |arrival| arrival.at);
        let until = record.dispatched.or(record.end).unwrap_or(arrived);
        let passed = self.ahead.iter().map(|((tenant, reason), turns)| Passed {
            tenant: self.name(TenantId(*tenant)),
            reason: *reason,
            turns: *turns,
        });
        let mut ahead: Vec<Passed> = passed.collect();
        ahead.sort_by_key(|passed| std::cmp::Reverse(passed.turns));
        let rounded = |time: Time| Rounded::from(seconds(time));
        Explanation {
            request: self.id.0,
            tenant: self.name(TenantId(tenant)),
            band: band.name(),
            arrived: rounded(arrived),
            turn: record.dispatched.map(rounded),
            first_token: record.first_token.map(rounded),
            ended: record.end.map(rounded),
            fate: record.fate.map_or("never ended", |fate| fate.failure().unwrap_or("served")),
            waited: until.since(arrived).as_secs_f64().into(),
            waited_for_room: self.for_room.as_secs_f64().into(),
            ahead,
            on_arrival: self.on_arrival,
            at_turn: self.at_turn,
            turns: self.turns,
        }
    }

    fn look(&mut self, scheduler: &Scheduler) {
        self.before.clear();
        for one in scheduler.queue().entitlements() {
            // A tenant's own requests beside those below it come after itself: it counts.
            self.before.entry(one.tenant).or_insert(one);
        }
    }

    fn no_longer_first(&mut self, now: Time) {
        if let Some(since) = self.first_since.take() {
            self.for_room = self.for_room + now.since(since);
        }
    }

    fn of(&self, id: RequestId) -> (u32, Band) {
        let at = usize::try_from(id.0).unwrap_or(0).saturating_sub(1);
        let tenant = self.scenario.arrivals.get(at).map_or(0, |arrival| arrival.tenant);
        (
            tenant,
            self.scenario.tenants.get(tenant as usize).map_or_else(Band::default, |it| it.band),
        )
    }

    fn name(&self, tenant: TenantId) -> String {
        let known = self.scenario.tenants.get(tenant.0 as usize);
        known.map_or_else(|| format!("#{}", tenant.0), |tenant| tenant.name.clone())
    }

    /// Its path, and beside each node of it the siblings that wait or were served.
    fn standings(&self) -> Vec<Standing> {
        if self.scenario.one_line {
            return Vec::new();
        }
        let (tenant, _) = self.of(self.id);
        let tree = &self.scenario.tree;
        let path: Vec<TenantId> = tree.path(TenantId(tenant)).collect();
        let parent = |id: TenantId| tree.get(id).and_then(|share| share.parent);
        let parents: Vec<Option<TenantId>> = path.iter().map(|id| parent(*id)).collect();
        let relevant = self.before.values().filter(|one| {
            let active = one.queued > 0 || one.usage > 0 || one.service > 0;
            path.contains(&one.tenant) || (active && parents.contains(&parent(one.tenant)))
        });
        let standing = |one: &Entitlement| Standing {
            tenant: self.name(one.tenant),
            counter: one.service,
            waiting: one.queued,
            usage: one.usage,
            guaranteed: one.guaranteed,
            own: path.contains(&one.tenant),
        };
        relevant.map(standing).collect()
    }

    /// By which rule a request of that tenant went ahead, and the two counters that were compared.
    fn reason(&self, tenant: u32, band: Band, scheduler: &Scheduler) -> (Ahead, u64, u64) {
        let (mine, my_band) = self.of(self.id);
        if band != my_band {
            let reason = if band < my_band { Ahead::MoreUrgent } else { Ahead::FloorOrAge };
            return (reason, 0, 0);
        }
        if tenant == mine || self.scenario.one_line {
            return (Ahead::SameLine, 0, 0);
        }
        let path = |id: u32| {
            let mut path: Vec<TenantId> = self.scenario.tree.path(TenantId(id)).collect();
            path.reverse();
            path
        };
        let (ours, others) = (path(mine), path(tenant));
        let meet = ours.iter().zip(&others).find(|(one, other)| one != other);
        let meet =
            meet.and_then(|(one, other)| Some((self.before.get(one)?, self.before.get(other)?)));
        let Some((ours, others)) = meet else { return (Ahead::Otherwise, 0, 0) };
        let entitled = |one: &Entitlement| one.usage < one.guaranteed;
        let quantum = scheduler.queue().config().quantum / 1000;
        let reason = if entitled(others) && !entitled(ours) {
            Ahead::Guarantee
        } else if others.service < ours.service {
            Ahead::SmallerCounter
        } else if others.service <= ours.service + quantum {
            Ahead::AsMuch
        } else {
            Ahead::Otherwise
        };
        (reason, others.service, ours.service)
    }
}

impl Explanation {
    /// As text for people.
    pub fn text(&self) -> String {
        let mut out = format!(
            "Request {} of tenant `{}` ({}) came at {} s and waited {} s for its turn.\n",
            self.request,
            self.tenant,
            self.band,
            self.arrived.get(),
            self.waited.get(),
        );
        let turns: u64 = self.ahead.iter().map(|passed| passed.turns).sum();
        // Writing to a text cannot fail.
        let _ = match turns {
            0 => writeln!(out, "Nobody went ahead of it."),
            _ => writeln!(out, "\n{turns} requests went ahead of it:"),
        };
        for Passed { tenant, reason, turns } in &self.ahead {
            let _ = writeln!(out, "  {turns:>6}  of `{tenant}`: {}", reason.text());
        }
        let room = self.waited_for_room.get();
        let _ = writeln!(out, "\nFor {room} s it was the next, and there was no room for it.");
        standings(&mut out, "When it came", &self.on_arrival);
        standings(&mut out, "Before its turn", &self.at_turn);
        let at = |moment: Option<Rounded>| {
            moment.map_or_else(|| "never".to_owned(), |at| format!("{} s", at.get()))
        };
        let _ = writeln!(
            out,
            "\nTurn: {}. First token: {}. End: {}, {}.",
            at(self.turn),
            at(self.first_token),
            at(self.ended),
            self.fate,
        );
        out
    }
}

fn standings(out: &mut String, when: &str, standings: &[Standing]) {
    if standings.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{when} (counters in weighted tokens for weight one):");
    // All of them are in the JSON; here are those that are in each other's way.
    let mut standings: Vec<&Standing> =
        standings.iter().filter(|one| one.own || one.waiting > 0 || one.guaranteed > 0).collect();
    standings.sort_by_key(|one| one.counter);
    for one in standings {
        let own = if one.own { "*" } else { " " };
        let _ = writeln!(
            out,
            "  {own} {:<20} counter {:>10}  waiting {:>5}  KV tokens {:>8} of {} guaranteed",
            one.tenant, one.counter, one.waiting, one.usage, one.guaranteed,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Options, run};
    use crate::scenario::find;

    fn explain(name: &str, number: u64) -> (Scenario, crate::Run, Explanation) {
        let text = find(name).unwrap().text;
        let scenario = Scenario::read(name, text, None, &|_| Err(String::new())).unwrap();
        let options = Options { explain: Some(number), ..Options::default() };
        let mut run = run(&scenario, options, &mut |_, _| {});
        let explained = run.explanation.take().unwrap();
        (scenario, run, explained)
    }

    /// Everybody who had a turn while it waited is counted, and nobody else.
    #[test]
    fn all_who_went_ahead_are_counted() {
        for (name, number) in [("vtc/real-vtc", 700), ("vtc/real-fcfs", 700), ("guarantees", 900)] {
            let (scenario, run, explained) = explain(name, number);
            let at = usize::try_from(number).unwrap() - 1;
            let (from, to) = (scenario.arrivals[at].at, run.records[at].dispatched.unwrap());
            let turns = run.records.iter().enumerate().filter(|(other, _)| *other != at);
            let turns: Vec<Time> = turns.filter_map(|(_, record)| record.dispatched).collect();
            let within = turns.iter().filter(|turn| from < **turn && **turn < to).count() as u64;
            let counted: u64 = explained.ahead.iter().map(|passed| passed.turns).sum();
            let edges = turns.iter().filter(|turn| **turn == from || **turn == to).count() as u64;
            // A request that was stopped has more than one turn.
            let stops = run.stops;
            assert!(within <= counted && counted <= within + edges + stops, "{name}: {counted}");
            assert!(counted > 10 && explained.waited.get() > 0.0, "{name}");
            assert!(explained.waited_for_room.get() <= explained.waited.get());
        }
    }

    #[test]
    fn reasons_are_those_of_the_order() {
        let reasons = |name: &str, number: u64| {
            let (.., explained) = explain(name, number);
            let reasons = explained.ahead.iter().map(|passed| passed.reason);
            reasons.collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(reasons("vtc/real-fcfs", 700), [Ahead::SameLine].into());
        assert!(reasons("vtc/real-vtc", 700).contains(&Ahead::SmallerCounter));
        assert!(!reasons("vtc/real-vtc", 700).contains(&Ahead::Otherwise));
        assert!(reasons("guarantees", 900).contains(&Ahead::Guarantee));
        let (scenario, ..) = explain("bands", 1);
        let mut numbers = (1_u64..).zip(&scenario.arrivals);
        let (nightly, _) = numbers.find(|(number, it)| it.tenant == 3 && *number > 500).unwrap();
        assert!(reasons("bands", nightly).contains(&Ahead::MoreUrgent));
    }
}
