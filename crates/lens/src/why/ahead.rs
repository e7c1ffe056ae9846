//! Whose turn it was while a request waited for its own, from the records of those others.

use std::collections::BTreeMap;

use pilotage_core::traffic::Name;

use crate::{Phase, Record};

/// A wait that is shorter, in seconds, is nobody's doing.
const WAIT_LEAST_S: f64 = 0.05;

/// Teams that are named.
const NAMED_MAX: usize = 3;

/// Requests of other teams, and of its own, that had a replica before one that waited.
#[derive(Clone, Debug)]
pub struct Ahead<'a> {
    record: &'a Record,
    /// When it got in line, and when it got its turn, in seconds since 1970.
    waited: (f64, f64),
    /// Of each team: requests that had their turn meanwhile, those that ran when it came, and tokens of both.
    teams: BTreeMap<Option<Name>, Part>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Part {
    first: u64,
    running: u64,
    tokens: u64,
}

impl<'a> Ahead<'a> {
    /// Of a request that is over; none where it hardly waited.
    pub fn of(record: &'a Record) -> Option<Self> {
        let waited = waited(record);
        (waited.1 - waited.0 >= WAIT_LEAST_S).then(|| Self {
            record,
            waited,
            teams: BTreeMap::new(),
        })
    }

    /// Whether another can have been before it: one of the same model that was over after this one came.
    pub fn is_about(&self, other: &Record) -> bool {
        other.lane == self.record.lane
            && other.replica.is_some()
            && !other.mirror
            && other.span_id != self.record.span_id
            && other.unix_ms as f64 / 1e3 > self.waited.0
    }

    /// Counts another, where it was before it.
    pub fn add(&mut self, other: &Record) {
        let (_, turn) = waited(other);
        if !self.is_about(other) || turn > self.waited.1 {
            return;
        }
        let part = self.teams.entry(other.tenant.clone()).or_default();
        if turn > self.waited.0 {
            part.first += 1;
        } else {
            part.running += 1;
        }
        part.tokens += other.tokens.total();
    }

    /// It in a sentence, the team that had most first; none where there was no other.
    pub fn sentence(&self) -> Option<String> {
        let mut teams: Vec<(&Option<Name>, Part)> =
            self.teams.iter().map(|(name, part)| (name, *part)).collect();
        teams.sort_by_key(|(_, part)| std::cmp::Reverse((part.tokens, part.first)));
        let all: u64 = teams.iter().map(|(_, part)| part.first + part.running).sum();
        let tokens: u64 = teams.iter().map(|(_, part)| part.tokens).sum();
        if all == 0 {
            return None;
        }
        let named: Vec<String> = teams
            .iter()
            .take(NAMED_MAX)
            .map(|(name, part)| self.told(name.as_ref(), *part))
            .collect();
        let others = teams.len().saturating_sub(NAMED_MAX);
        let more = if others > 0 { format!(", and of {others} more teams") } else { String::new() };
        let (noun, verb) = if all == 1 { ("request", "was") } else { ("requests", "were") };
        Some(format!(
            "While it waited, {all} {noun} with {tokens} tokens {verb} before it: {}{more}.",
            named.join(", ")
        ))
    }

    fn told(&self, name: Option<&Name>, part: Part) -> String {
        let whose = match name {
            Some(name) if self.record.tenant.as_ref() == Some(name) => {
                format!("its own team {name}")
            }
            Some(name) => name.to_string(),
            None => "nobody known".to_owned(),
        };
        let Part { first, running, .. } = part;
        match (first, running) {
            (0, running) => format!("{running} of {whose} at replicas already"),
            (first, 0) => format!("{first} of {whose}"),
            (first, running) => {
                format!("{} of {whose} ({running} at replicas already)", first + running)
            }
        }
    }
}

/// When a request got in line, and when it got its turn, in seconds since 1970. What it waited again after a failed
/// attempt counts as if it had waited at once.
fn waited(record: &Record) -> (f64, f64) {
    let of = |phase: Phase| record.phases.of(phase).as_secs_f64();
    let came = record.unix_ms as f64 / 1e3 - record.total.as_secs_f64();
    let lined = came + of(Phase::Auth) + of(Phase::Read) + of(Phase::Route);
    (lined, lined + of(Phase::Queue))
}
