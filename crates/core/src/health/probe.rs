//! What a replica's `/health` says, and how little that proves.
//!
//! A busy engine answers late or not at all and is fine; a hung one answers at once. So that failed
//! checks eject a replica only when several of the last ones failed and nothing has come from it
//! for a while; a late answer is an answer.

use serde::Serialize;

use super::verdict::Reason;
use crate::{Span, Time};

/// When failed health checks count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProbeConfig {
    /// So many failed
    pub failed_max: u32,
    /// of the last so many, at most 32. While it has work, all of them must have failed.
    pub of: u32,
    /// Good ones in a row that bring it back.
    pub good_min: u32,
    /// A token within this time proves more than any check.
    pub life_max: Span,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self { failed_max: 3, of: 5, good_min: 2, life_max: Span::from_secs(10) }
    }
}

/// How a health check went.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// It said that it is well.
    Good {
        /// How long that took.
        latency: Span,
    },
    /// It said nothing in time, or that it is not.
    Failed,
}

/// The last health checks of one replica, and when something last came from it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Probes {
    /// One bit for each, a failed one is set; the newest is the lowest.
    bits: u32,
    count: u32,
    bad: bool,
    life: Option<Time>,
}

impl Probes {
    /// Something came from it.
    pub(super) const fn live(&mut self, now: Time) {
        self.life = Some(now);
    }

    pub(super) fn add(&mut self, probe: Probe, config: &ProbeConfig) {
        let failed = probe == Probe::Failed;
        self.bits = self.bits << 1 | u32::from(failed);
        self.count = (self.count + 1).min(config.of.clamp(1, 32));
        let good = self.bits.trailing_zeros().min(self.count);
        if self.bad && good >= config.good_min {
            *self = Self { life: self.life, ..Self::default() };
        }
    }

    /// Whether they spoke against it when that was judged last.
    pub(super) const fn is_bad(&self) -> bool {
        self.bad
    }

    /// What speaks against it now.
    pub(super) fn judge(
        &mut self,
        now: Time,
        has_work: bool,
        config: &ProbeConfig,
    ) -> Option<Reason> {
        let of = config.of.clamp(1, 32);
        let window = u32::MAX >> (32 - of);
        let failed = (self.bits & window).count_ones();
        let needed = if has_work { of } else { config.failed_max.clamp(1, of) };
        let alive = self.life.is_some_and(|at| now.since(at) <= config.life_max);
        self.bad = !alive && (self.bad || failed >= needed);
        self.bad.then_some(Reason::Probes { failed, of })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(probes: &str, life: Option<u64>, has_work: bool) -> bool {
        let config = ProbeConfig::default();
        let mut one = Probes::default();
        let mut bad = false;
        if let Some(secs) = life {
            one.live(Time::from_millis(secs * 1000));
        }
        for letter in probes.chars() {
            let good = Probe::Good { latency: Span::from_secs(9) };
            one.add(if letter == 'x' { Probe::Failed } else { good }, &config);
            bad = one.judge(Time::from_millis(100_000), has_work, &config).is_some();
        }
        bad
    }

    #[test]
    fn several_failures_and_no_sign_of_life() {
        let check = |probes: &str, life: Option<u64>, has_work: bool, expect: bool| {
            assert_eq!(judged(probes, life, has_work), expect, "{probes} {life:?} {has_work}");
        };
        check("xx", None, false, false);
        check("xxx", None, false, true);
        check("x.x.x", None, false, true);
        check("x..x..x", None, false, false);
        check("xxxxxxxx", Some(95), false, false);
        check("xxx", Some(80), false, true);
        check("xxxx", None, true, false);
        check("xxxxx", None, true, true);
        check("xxx.", None, false, true);
        check("xxx..", None, false, false);
        check("xxx..x", None, false, false);
    }
}
