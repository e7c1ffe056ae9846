//! Requests that kill replicas: one must not take a fleet down, and nobody else must pay for it.
//!
//! When a replica dies that was not meant to, what ran there is suspected ([`Poison::died`]). Once is nobody's fault: all
//! of it is tried elsewhere at once. From the second death on a suspect is *watched*: no two of them
//! run on one replica, so that the next death has a *sole* suspect, the one that saw most deaths before. After
//! two deaths of which it is the sole suspect it is on *trial*: one copy of it at a time, and not before no replica
//! has died for a while, so that what kills replicas one after another from outside does not meet it
//! there. Only who is the sole suspect of a third is refused. An answer clears of all.
//!
//! Hence a request that kills is stopped after [`PoisonConfig::deaths_most`] deaths, after three where it is
//! alone; and kills in a row from outside, however many, refuse nobody.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use serde::Serialize;

use crate::{FailureKind, ReplicaId, RequestId, Span, Time};

/// When a body is held to kill replicas.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PoisonConfig {
    /// Replicas lost under one request after which it is not tried again, where nobody says that they
    /// died.
    pub replicas_max: usize,
    /// Deaths from which on it is watched.
    pub watch_from: u32,
    /// Deaths as the sole suspect that put it on trial,
    pub trial_from: u32,
    /// and that refuse it.
    pub sole_max: u32,
    /// How long no replica has died when a trial begins.
    pub calm: Span,
    /// How long a death counts.
    pub remember: Span,
    /// Bodies that are remembered.
    pub bodies_max: usize,
}

impl Default for PoisonConfig {
    fn default() -> Self {
        Self {
            replicas_max: 2,
            watch_from: 2,
            trial_from: 2,
            sole_max: 3,
            calm: Span::from_secs(5),
            remember: Span::from_secs(300),
            bodies_max: 1024,
        }
    }
}

impl PoisonConfig {
    /// The most replicas that die under one body before it is refused, whatever runs beside it.
    pub const fn deaths_most(&self) -> u32 {
        self.watch_from + self.sole_max
    }
}

/// Connections break a moment before a death is known: requests that ended so long before belong
/// to it.
pub(crate) const GRACE: Span = Span::from_secs(2);

/// Requests that are watched at once; more run unwatched.
const FLIGHTS_MAX: usize = 65_536;

/// Replicas that were lost under one request.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Trail(Vec<ReplicaId>);

impl Trail {
    /// An attempt failed. Only what a request may have caused counts: a replica that could not be
    /// reached saw nothing of it, and one that is slow or full is not dead.
    pub fn note(&mut self, replica: ReplicaId, kind: FailureKind) {
        let lost = matches!(kind, FailureKind::Broken | FailureKind::Server);
        if lost && !self.0.contains(&replica) {
            self.0.push(replica);
        }
    }

    /// Whether it may be tried once more. Of those that are known to have died, [`Poison`] keeps account.
    pub fn may_go_on(&self, config: &PoisonConfig, died: impl Fn(ReplicaId) -> bool) -> bool {
        self.0.iter().filter(|replica| !died(**replica)).count() < config.replicas_max
    }

    /// One of them is known by another id from now on.
    pub(crate) fn rename(&mut self, replica: ReplicaId, to: ReplicaId) {
        let was = self.0.len();
        self.0.retain(|one| *one != replica);
        if self.0.len() < was && !self.0.contains(&to) {
            self.0.push(to);
        }
    }

    /// The replicas that were lost.
    pub fn lost(&self) -> &[ReplicaId] {
        &self.0
    }
}

/// What is said of a body whose request wants a turn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "ruling")]
pub enum Ruling {
    /// Nothing is known against it.
    Free,
    /// It runs where no other suspect does.
    Watched {
        /// How many replicas died under it.
        deaths: u32,
    },
    /// The same, one copy at a time, and not before this time.
    Trial {
        /// How many replicas died under it.
        deaths: u32,
        /// When it may begin.
        from: Time,
    },
    /// It is held to kill replicas.
    Refuse {
        /// How many died under it.
        deaths: u32,
        /// When it is forgotten.
        retry_after: Span,
    },
}

impl fmt::Display for Ruling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free => f.write_str("nothing is known against the request"),
            Self::Watched { deaths } => {
                write!(f, "{deaths} replicas died under this request; it runs apart from the like")
            }
            Self::Trial { deaths, .. } => write!(
                f,
                "{deaths} replicas died under this request; it is tried once more when all is calm"
            ),
            Self::Refuse { deaths, retry_after } => write!(
                f,
                "{deaths} replicas died while they answered this request; it is refused for {} s, \
                 change it to have it answered",
                retry_after.as_nanos().div_ceil(1_000_000_000)
            ),
        }
    }
}

/// A body under which replicas died.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    deaths: u32,
    /// Deaths of which it was the sole suspect.
    sole: u32,
    last: Time,
    running: u32,
    /// Where it runs on trial.
    trial: Option<ReplicaId>,
}

/// Bodies under which replicas died, by a hash of their bytes.
#[derive(Debug)]
pub struct Poison {
    config: PoisonConfig,
    suspects: BTreeMap<u64, Suspect>,
    /// The same by when they were blamed last.
    by_last: BTreeSet<(Time, u64)>,
    flights: BTreeMap<(ReplicaId, RequestId), u64>,
    /// The same by their bodies: a death must not cost what runs elsewhere for each body.
    by_body: BTreeSet<(u64, ReplicaId, RequestId)>,
    /// Those of them that are watched.
    watched: BTreeSet<(ReplicaId, RequestId)>,
    /// Ends that may belong to a death that is not known yet.
    broken: VecDeque<(Time, ReplicaId, u64)>,
    /// How many of those each body has, and when the last was.
    pending: BTreeMap<u64, (u32, Time)>,
    last_death: Option<Time>,
}

impl Poison {
    /// Nobody is suspected.
    pub const fn new(config: PoisonConfig) -> Self {
        Self {
            config,
            suspects: BTreeMap::new(),
            by_last: BTreeSet::new(),
            flights: BTreeMap::new(),
            by_body: BTreeSet::new(),
            watched: BTreeSet::new(),
            broken: VecDeque::new(),
            pending: BTreeMap::new(),
            last_death: None,
        }
    }

    /// What holds for a request with this body.
    pub fn rule(&self, now: Time, body: u64) -> Ruling {
        let fresh = |suspect: &&Suspect| now.since(suspect.last) < self.config.remember;
        let suspect = self.suspects.get(&body).filter(fresh);
        let pending = self.pending(now, body);
        let deaths = suspect.map_or(0, |suspect| suspect.deaths) + pending;
        let is_watched = deaths >= self.config.watch_from;
        let unknown = if is_watched { Ruling::Watched { deaths } } else { Ruling::Free };
        let Some(suspect) = suspect else { return unknown };
        if suspect.sole >= self.config.sole_max {
            let past = now.since(suspect.last).as_nanos();
            let left = self.config.remember.as_nanos().saturating_sub(past);
            return Ruling::Refuse { deaths, retry_after: Span::from_nanos(left) };
        }
        // Whether it is one death more is known in a moment.
        let known = self.pending.get(&body).filter(|_| pending > 0).map(|(_, last)| *last + GRACE);
        if suspect.sole >= self.config.trial_from {
            return Ruling::Trial { deaths, from: self.calm_from().max(known.unwrap_or_default()) };
        }
        if let Some(from) = known.filter(|_| suspect.sole + 1 >= self.config.trial_from) {
            return Ruling::Trial { deaths, from };
        }
        unknown
    }

    /// Requests with this body that run.
    pub fn running(&self, body: u64) -> u32 {
        self.suspects.get(&body).map_or(0, |suspect| suspect.running)
    }

    /// Where a watched request runs: another one that is to be watched goes to none of these.
    pub fn watched_at(&self) -> Vec<ReplicaId> {
        let mut at: Vec<ReplicaId> = self.watched.iter().map(|(replica, _)| *replica).collect();
        at.dedup();
        at
    }

    /// A request with this body was sent there.
    pub fn sent(&mut self, now: Time, replica: ReplicaId, request: RequestId, body: u64) {
        if self.flights.len() >= FLIGHTS_MAX {
            return;
        }
        let before = self.flights.insert((replica, request), body);
        if let Some(other) = before {
            self.by_body.remove(&(other, replica, request));
        }
        self.by_body.insert((body, replica, request));
        if self.deaths(now, body) >= self.config.watch_from {
            self.watched.insert((replica, request));
        }
        let is_calm = self.calm_from() <= now;
        if let Some(suspect) = self.suspects.get_mut(&body).filter(|_| before.is_none()) {
            let is_trial = is_calm && suspect.sole >= self.config.trial_from;
            suspect.running += 1;
            suspect.trial = is_trial.then_some(replica);
        }
    }

    /// A request ended well, which clears its body.
    pub fn answered(&mut self, replica: ReplicaId, request: RequestId) {
        let Some(body) = self.land(replica, request) else { return };
        self.pending.remove(&body);
        if let Some(suspect) = self.suspects.remove(&body) {
            self.by_last.remove(&(suspect.last, body));
            for flight in copies(&self.by_body, body) {
                self.watched.remove(&flight);
            }
        }
    }

    /// A request ended otherwise.
    pub fn ended(
        &mut self,
        now: Time,
        replica: ReplicaId,
        request: RequestId,
        kind: Option<FailureKind>,
    ) {
        let Some(body) = self.land(replica, request) else { return };
        if let Some(suspect) = self.suspects.get_mut(&body) {
            suspect.running = suspect.running.saturating_sub(1);
        }
        self.forget(now);
        if matches!(kind, Some(FailureKind::Broken | FailureKind::Server)) {
            if self.broken.len() >= FLIGHTS_MAX {
                self.forget_broken();
            }
            self.broken.push_back((now, replica, body));
            let pending = self.pending.entry(body).or_insert((0, now));
            *pending = (pending.0 + 1, now);
        }
    }

    /// A replica died that was not meant to: its process ended, or it said that its engine is dead. Of
    /// what runs there, some may run in a process that took its place.
    pub fn died(&mut self, now: Time, replica: ReplicaId, was_there: impl Fn(RequestId) -> bool) {
        self.forget(now);
        self.last_death = Some(now);
        let first = (replica, RequestId(0));
        let there = first..=(replica, RequestId(u64::MAX));
        let there = self.flights.range(there).map(|((_, request), _)| *request);
        let ends: Vec<RequestId> = there.filter(|request| was_there(*request)).collect();
        let mut bodies: Vec<u64> = Vec::new();
        for request in ends {
            bodies.extend(self.land(replica, request));
        }
        let pending = &mut self.pending;
        self.broken.retain(|(_, at, body)| {
            let its = *at == replica;
            if its {
                bodies.push(*body);
                unpend(pending, *body);
            }
            !its
        });
        bodies.sort_unstable();
        bodies.dedup();
        let deaths = |body: &u64| self.deaths(now, *body);
        let most = bodies.iter().map(deaths).max().unwrap_or(0);
        let suspects: Vec<u64> =
            bodies.iter().copied().filter(|body| deaths(body) == most).collect();
        let sole = <[u64; 1]>::try_from(suspects).ok().map(|[body]| body);
        for body in bodies {
            self.blame(now, replica, body, Some(body) == sole);
        }
    }

    /// Bodies that are suspected, and how many requests are known: for metrics.
    pub fn len(&self) -> (usize, usize) {
        (self.suspects.len(), self.flights.len())
    }

    /// Whether nobody is suspected and nothing is known.
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0)
    }

    /// Deaths under a body, with those that it may turn out to have seen a moment ago.
    fn deaths(&self, now: Time, body: u64) -> u32 {
        let known = self.suspects.get(&body).map_or(0, |suspect| suspect.deaths);
        known + self.pending(now, body)
    }

    fn pending(&self, now: Time, body: u64) -> u32 {
        let pending = self.pending.get(&body).filter(|(_, last)| now.since(*last) < GRACE);
        pending.map_or(0, |(count, _)| *count)
    }

    fn calm_from(&self) -> Time {
        self.last_death.map_or(Time::ZERO, |death| death + self.config.calm)
    }

    fn blame(&mut self, now: Time, replica: ReplicaId, body: u64, is_sole: bool) {
        let known = self.suspects.get(&body).map(|suspect| suspect.last);
        if let Some(last) = known {
            self.by_last.remove(&(last, body));
        } else if self.suspects.len() >= self.config.bodies_max.max(1)
            && let Some((_, oldest)) = self.by_last.pop_first()
        {
            self.suspects.remove(&oldest);
        }
        self.by_last.insert((now, body));
        let fresh = Suspect { deaths: 0, sole: 0, last: now, running: 0, trial: None };
        let suspect = self.suspects.entry(body).or_insert(fresh);
        suspect.deaths += 1;
        // Beyond a few, what counts is trials: in a row of deaths from outside there are none.
        let counts = suspect.sole < self.config.trial_from || suspect.trial == Some(replica);
        suspect.sole += u32::from(is_sole && counts);
        suspect.last = now;
        let running = copies(&self.by_body, body).count();
        suspect.running = u32::try_from(running).unwrap_or(u32::MAX);
        if suspect.deaths >= self.config.watch_from {
            self.watched.extend(copies(&self.by_body, body));
        }
    }

    /// A request runs there no more; the body that it had, where it is known.
    fn land(&mut self, replica: ReplicaId, request: RequestId) -> Option<u64> {
        let body = self.flights.remove(&(replica, request))?;
        self.by_body.remove(&(body, replica, request));
        self.watched.remove(&(replica, request));
        Some(body)
    }

    fn forget(&mut self, now: Time) {
        let old = |(last, _): &(Time, u64)| now.since(*last) >= self.config.remember;
        while let Some((_, body)) = self.by_last.first().copied().filter(old) {
            self.by_last.pop_first();
            self.suspects.remove(&body);
        }
        while self.broken.front().is_some_and(|(at, ..)| now.since(*at) > GRACE) {
            self.forget_broken();
        }
    }

    fn forget_broken(&mut self) {
        if let Some((_, _, body)) = self.broken.pop_front() {
            unpend(&mut self.pending, body);
        }
    }
}

/// Where requests with a body run.
fn copies(
    by_body: &BTreeSet<(u64, ReplicaId, RequestId)>,
    body: u64,
) -> impl Iterator<Item = (ReplicaId, RequestId)> {
    let all = (body, ReplicaId(0), RequestId(0))..=(body, ReplicaId(u32::MAX), RequestId(u64::MAX));
    by_body.range(all).map(|(_, replica, request)| (*replica, *request))
}

fn unpend(pending: &mut BTreeMap<u64, (u32, Time)>, body: u64) {
    if let Some((count, _)) = pending.get_mut(&body) {
        *count -= 1;
        if *count == 0 {
            pending.remove(&body);
        }
    }
}

#[cfg(test)]
mod plain;
#[cfg(test)]
mod tests;
