//! Which replicas of a lane work, learnt from what happens to requests: breakers, comparison with
//! peers, heartbeats, health checks and warm-up, in one [`Board`].
//!
//! ```text
//! board.note(now, replica, signal)          // everything that happens
//! if board.is_due(now) { board.assess(now) }   // changes, for logs; what hangs, to interrupt
//! board.takes(replica), board.standing(replica).weight   // when a replica is chosen
//! ```
//!
//! Two kinds of evidence are told apart. *Hard* evidence is a replica's own: attempts that fail there one after
//! another, work of which nothing comes. *Soft* evidence is a comparison or a sign that may be wrong; on
//! it, at most [`BoardConfig::ejected_percent_max`] of a lane is ejected, weakest evidence let
//! back first. When every replica would be ejected, all count, so that a wrong signal never stops
//! the traffic.

mod breaker;
mod budget;
mod heartbeat;
mod hedge;
mod outlier;
mod poison;
mod probe;
mod record;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::BTreeMap;

pub use breaker::{Breaker, BreakerConfig, State};
pub use budget::Budget;
pub use heartbeat::{Counted, Heartbeat, HeartbeatConfig, Load};
pub use hedge::{HEDGE_PERCENT, HedgeConfig, Hedgeable, NoHedge, hedge_at, hedge_due};
pub use outlier::{OutlierConfig, Pool, size_class};
pub(crate) use poison::GRACE;
pub use poison::{Poison, PoisonConfig, Ruling, Trail};
pub use probe::{Probe, ProbeConfig};
use record::Record;
pub use verdict::{Change, Reason, Standing, Verdict};

use crate::{FailureKind, ReplicaId, RequestId, Span, Time};

/// How long a replica is left alone at most that says when it has room again (`Retry-After`).
pub const BUSY_MAX: Span = Span::from_secs(60);

/// The same where no other replica takes work.
pub const BUSY_ALONE_MAX: Span = Span::from_secs(5);

/// How a lane's replicas are judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoardConfig {
    /// When failures eject.
    pub breaker: BreakerConfig,
    /// When being worse than the peers does.
    pub outlier: OutlierConfig,
    /// When silence does.
    pub heartbeat: HeartbeatConfig,
    /// When health checks do.
    pub probe: ProbeConfig,
    /// How those that came back are warmed up.
    pub warm_up: WarmUp,
    /// When second copies are sent.
    pub hedge: HedgeConfig,
    /// The most of a lane that is ejected on soft evidence, in percent.
    pub ejected_percent_max: u32,
    /// How long a replica that has no room is left alone, where it does not say.
    pub busy: Span,
    /// How long at most, whatever it says.
    pub busy_max: Span,
    /// How long at most the one that has room first is left alone where no other takes work: by then
    /// one request tries whether it has, so that what engines say never stops the traffic.
    pub busy_alone_max: Span,
    /// How often time alone is looked at.
    pub look_every: Span,
}

impl Default for BoardConfig {
    fn default() -> Self {
        Self {
            breaker: BreakerConfig::default(),
            outlier: OutlierConfig::default(),
            heartbeat: HeartbeatConfig::default(),
            probe: ProbeConfig::default(),
            warm_up: WarmUp::default(),
            hedge: HedgeConfig::default(),
            ejected_percent_max: 50,
            busy: Span::from_millis(100),
            busy_max: BUSY_MAX,
            busy_alone_max: BUSY_ALONE_MAX,
            look_every: Span::from_millis(250),
        }
    }
}

/// How the part of a replica grows that came up or back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WarmUp {
    /// How long it takes to the whole part. Zero for at once.
    pub span: Span,
    /// The part at the beginning.
    pub from: f64,
    /// Its curve: one is a straight line, more rises faster at first (as in Envoy's slow start).
    pub curve: f64,
}

impl Default for WarmUp {
    fn default() -> Self {
        Self { span: Span::from_secs(30), from: 0.1, curve: 1.0 }
    }
}

impl WarmUp {
    /// The part of a replica that came so long ago.
    pub fn weight(&self, age: Span) -> f64 {
        if age >= self.span {
            return 1.0;
        }
        let passed = age.as_secs_f64() / self.span.as_secs_f64();
        passed.powf(1.0 / self.curve.max(0.01)).max(self.from).min(1.0)
    }
}

/// Something that happened to a replica.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Signal {
    /// It may be used, or its capacity changed.
    Up,
    /// It may not be used; what runs there is reported one by one.
    Down,
    /// A request went there.
    Sent {
        /// Which.
        id: RequestId,
        /// Prompt tokens that have to be computed.
        prefill: u64,
        /// Tokens that are computed before anything comes: the longest answer, if it comes in one
        /// piece.
        silent: u64,
        /// Half of the time that it has left, where that has an end.
        patience: Option<Span>,
    },
    /// A request's answer began.
    FirstToken {
        /// Whose.
        id: RequestId,
    },
    /// Any further token of any request came.
    Token,
    /// A request ended as it should, or with an error that is its own.
    Answered {
        /// Which.
        id: RequestId,
        /// Tokens of the answer.
        output: u64,
    },
    /// A request failed there.
    Failed {
        /// Which.
        id: RequestId,
        /// How.
        kind: FailureKind,
        /// What a replica without room said about when to come back.
        retry_after: Option<Span>,
    },
    /// A request was stopped by its client or by us.
    Stopped {
        /// Which.
        id: RequestId,
    },
    /// A health check ended.
    Probe(Probe),
    /// Its own counter of work done, such as vLLM's `iteration_tokens_total` count.
    Counter(Counted),
}

/// The health of all replicas of a lane.
#[derive(Debug)]
pub struct Board {
    config: BoardConfig,
    seed: u64,
    replicas: BTreeMap<ReplicaId, Record>,
    pool: Pool,
    looked: Option<Time>,
    /// Something happened that may change a verdict.
    dirty: bool,
}

impl Board {
    /// A board without replicas. The seed spreads the times at which replicas are tried again.
    pub fn new(config: BoardConfig, seed: u64) -> Self {
        let (replicas, pool) = (BTreeMap::new(), Pool::default());
        Self { config, seed, replicas, pool, looked: None, dirty: false }
    }

    /// Takes in one thing that happened. Of a replica that never came up, nothing is kept.
    pub fn note(&mut self, now: Time, replica: ReplicaId, signal: Signal) {
        if signal == Signal::Up {
            let seed = crate::hash::mix(self.seed ^ u64::from(replica.0));
            let fresh = || Record::new(now, seed);
            self.replicas.entry(replica).or_insert_with(fresh).raise(now, seed);
            self.dirty = true;
            return;
        }
        let Some(record) = self.replicas.get_mut(&replica) else { return };
        self.dirty |= record.note(now, signal, &self.config, &mut self.pool);
        if record.is_gone() {
            self.replicas.remove(&replica);
        }
    }

    /// Whether [`Self::assess`] may find something.
    pub fn is_due(&self, now: Time) -> bool {
        self.next_wakeup().is_some_and(|at| at <= now)
    }

    /// When time alone has to be looked at again; never while nothing runs and all are well.
    pub fn next_wakeup(&self) -> Option<Time> {
        let watched = self.replicas.values().any(Record::is_watched);
        let looked = self.looked.unwrap_or_default();
        let wait = if self.dirty { Span::ZERO } else { self.config.look_every };
        (self.dirty || watched).then(|| looked + wait)
    }

    /// Judges every replica anew. What changed comes out once, and so does each replica that hangs.
    pub fn assess(&mut self, now: Time) -> Vec<Change> {
        (self.looked, self.dirty) = (Some(now), false);
        let hung = self.advance(now);
        self.compare(now);
        let verdicts = self.verdicts(now);
        let open = verdicts.values().filter(|verdict| verdict.is_open()).count();
        let mut changes = Vec::new();
        for (id, record) in &mut self.replicas {
            let Some(to) = verdicts.get(id).copied() else { continue };
            let from = std::mem::replace(&mut record.verdict, to);
            record.weight = record.weigh(now, &self.config);
            let elsewhere = open > usize::from(to.is_open());
            let interrupt = hung.contains(id) && elsewhere;
            if from.name() != to.name() || interrupt {
                changes.push(Change { replica: *id, from, to, interrupt });
            }
        }
        self.level();
        changes
    }

    /// Whether a request may go there now.
    pub fn takes(&self, replica: ReplicaId) -> bool {
        let record = self.replicas.get(&replica);
        record.is_some_and(|record| record.takes(&self.config.breaker))
    }

    /// Whether a request may go there in a moment, if not now: it is on trial, or has no room for so
    /// short a time as one is left alone that nobody stands in for.
    pub fn takes_soon(&self, now: Time, replica: ReplicaId) -> bool {
        let verdict = self.replicas.get(&replica).map(|record| record.verdict);
        verdict.is_some_and(|verdict| match verdict {
            Verdict::Busy { until } => until <= now + self.config.busy_alone_max,
            _ => verdict.is_open(),
        })
    }

    /// Where a replica stood at the last look.
    pub fn standing(&self, replica: ReplicaId) -> Option<Standing> {
        let Record { verdict, weight, .. } = self.replicas.get(&replica)?;
        Some(Standing { replica, verdict: *verdict, weight: *weight })
    }

    /// Where each replica stood at the last look, in the order of ids.
    pub fn standings(&self) -> impl Iterator<Item = Standing> + '_ {
        self.replicas.iter().map(|(replica, record)| Standing {
            replica: *replica,
            verdict: record.verdict,
            weight: record.weight,
        })
    }

    /// How long first tokens take in the lane.
    pub const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// When a second copy of a request is due, if it is then allowed.
    ///
    /// # Errors
    /// It never is.
    pub fn hedge_due(&self, request: &Hedgeable) -> Result<Time, NoHedge> {
        hedge_due(&self.config.hedge, request, &self.pool)
    }

    /// When a second copy of a request is due that runs on this replica, see [`hedge_at`]; others have
    /// a free place or not.
    ///
    /// # Errors
    /// It is not, at the moment.
    pub fn hedge_at(
        &self,
        replica: ReplicaId,
        request: &Hedgeable,
        is_free: impl Fn(ReplicaId) -> bool,
        budget: &Budget,
    ) -> Result<Time, NoHedge> {
        let free = self.replicas.iter().any(|(id, record)| {
            *id != replica && record.verdict == Verdict::Healthy && is_free(*id)
        });
        hedge_at(&self.config.hedge, request, &self.pool, free, budget)
    }

    /// When the first replica has room again by what they say; none where one may be asked now, or does
    /// not say.
    pub fn retry_after(&self, now: Time) -> Option<Span> {
        let may = |verdict: &Verdict| !matches!(verdict, Verdict::Ejected { .. } | Verdict::Down);
        let asked = self.replicas.values().filter(|record| may(&record.verdict));
        let left = asked.map(|record| record.told_left(now));
        left.reduce(|one, other| one.zip(other).map(|(one, other)| one.min(other))).flatten()
    }

    /// Lets time pass for each, and says which hang.
    fn advance(&mut self, now: Time) -> Vec<ReplicaId> {
        let hung = self.replicas.iter_mut().filter_map(|(id, record)| {
            let hangs = record.advance(now, &self.config);
            hangs.then_some(*id)
        });
        hung.collect()
    }

    /// Compares each with its peers, and ejects the worst as far as that is allowed.
    fn compare(&mut self, now: Time) {
        let compared: Vec<(ReplicaId, outlier::Peer)> = self
            .replicas
            .iter()
            .filter(|(_, record)| record.is_up())
            .map(|(id, record)| (*id, record.peer(now, &self.config.outlier)))
            .collect();
        let peers: Vec<outlier::Peer> = compared.iter().map(|(_, peer)| *peer).collect();
        let mut found: Vec<(ReplicaId, Reason)> = Vec::new();
        for (at, (id, _)) in compared.iter().enumerate() {
            let reason = outlier::judge(&peers, at, &self.config.outlier);
            let Some(record) = self.replicas.get_mut(id) else { continue };
            record.slow = match reason {
                Some(Reason::Slow { ratio }) => Some(ratio),
                _ => None,
            };
            found.extend(reason.filter(|reason| self.config.ejects(reason)).map(|one| (*id, one)));
        }
        // The worst first; no more than may be out together with those that are.
        found.sort_by(|a, b| b.1.cmp_strength(&a.1));
        let out = self.replicas.values().filter(|record| record.is_out()).count();
        let free = self.config.ejected_max(peers.len()).saturating_sub(out);
        for (id, reason) in found.into_iter().take(free) {
            if let Some(record) = self.replicas.get_mut(&id) {
                record.eject(now, reason, &self.config.breaker);
            }
        }
    }

    /// What each replica's record says, and then what may be said of all of them together.
    fn verdicts(&mut self, now: Time) -> BTreeMap<ReplicaId, Verdict> {
        let config = &self.config;
        let mut verdicts: BTreeMap<ReplicaId, Verdict> =
            self.replicas.iter_mut().map(|(id, record)| (*id, record.judge(now, config))).collect();
        let up = verdicts.values().filter(|verdict| **verdict != Verdict::Down).count();
        let mut ejected: Vec<(ReplicaId, Reason)> = verdicts
            .iter()
            .filter_map(|(id, verdict)| match verdict {
                Verdict::Ejected { reason, .. } => Some((*id, *reason)),
                _ => None,
            })
            .collect();
        // Weakest evidence first: it is let back first.
        ejected.sort_by(|a, b| a.1.cmp_strength(&b.1));
        let out = ejected.len();
        let over = out.saturating_sub(config.ejected_max(up));
        let soft = ejected.iter().filter(|(_, reason)| reason.is_soft());
        let back: Vec<(ReplicaId, Reason)> =
            if out == up { ejected } else { soft.take(over).copied().collect() };
        for (id, reason) in back {
            verdicts.insert(id, Verdict::Panic { reason });
        }
        self.hurry(now, &mut verdicts);
        verdicts
    }

    /// Where nobody takes work, the one that has room first is tried before that.
    fn hurry(&mut self, now: Time, verdicts: &mut BTreeMap<ReplicaId, Verdict>) {
        if verdicts.values().any(Verdict::is_open) {
            return;
        }
        let waits = |id: &ReplicaId| {
            let record = self.replicas.get(id);
            record.is_some_and(|record| record.may_hurry(now, &self.config))
        };
        let busy = verdicts.iter().filter_map(|(id, verdict)| match verdict {
            Verdict::Busy { until } => Some((*until, *id)),
            _ => None,
        });
        let Some((_, id)) = busy.filter(|(_, id)| waits(id)).min() else { return };
        if let Some(record) = self.replicas.get_mut(&id) {
            record.hurry(now);
            verdicts.insert(id, record.judge(now, &self.config));
        }
    }

    /// Parts are beside the best one's: where all are warming up, all get their whole part.
    fn level(&mut self) {
        let most = self.replicas.values().map(|record| record.weight).fold(0.0, f64::max);
        if most > 0.0 {
            self.replicas.values_mut().for_each(|record| record.weight /= most);
        }
    }
}

impl BoardConfig {
    /// How many of so many may be out on soft evidence.
    const fn ejected_max(&self, up: usize) -> usize {
        let part = up * self.ejected_percent_max as usize / 100;
        if part < up { part } else { up.saturating_sub(1) }
    }

    /// Whether being worse in this way ejects.
    fn ejects(&self, reason: &Reason) -> bool {
        match reason {
            Reason::Slow { ratio } => *ratio >= self.outlier.eject_factor,
            _ => true,
        }
    }
}
