//! Which replicas are worse than their peers: by the errors of their attempts, and by how long their
//! first tokens take beside those of requests of the same size.

use std::collections::VecDeque;

use super::verdict::Reason;
use crate::sketch::Sketch;
use crate::{Span, Time};

/// When a replica is worse than its peers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutlierConfig {
    /// Attempts at least before errors are compared.
    pub attempts_min: u32,
    /// Times as many errors as elsewhere.
    pub error_factor: f64,
    /// A part of errors in percent that is never held against a replica.
    pub error_percent_min: f64,
    /// First tokens at least before their times are compared.
    pub first_tokens_min: usize,
    /// Times as long as the peers' median: it gets less from there.
    pub slow_factor: f64,
    /// Times as long as the peers' median: it gets nothing from there.
    pub eject_factor: f64,
    /// How long a first token's time counts.
    pub age_max: Span,
}

impl Default for OutlierConfig {
    fn default() -> Self {
        Self {
            attempts_min: 20,
            error_factor: 3.0,
            error_percent_min: 10.0,
            first_tokens_min: 20,
            slow_factor: 3.0,
            eject_factor: 10.0,
            age_max: Span::from_secs(120),
        }
    }
}

/// First tokens kept for each replica.
const FIRST_TOKENS_MAX: usize = 64;

/// Size classes: one for each doubling of the prompt's tokens.
const CLASSES: usize = 24;

/// First tokens of one class that count.
const CLASS_SAMPLES: u64 = 512;

/// First tokens of one class before its median means something.
const CLASS_MIN: u64 = 10;

/// The size class of a prompt, by the tokens that have to be computed.
pub const fn size_class(prefill: u64) -> usize {
    let bits = (u64::BITS - prefill.leading_zeros()) as usize;
    if bits < CLASSES { bits } else { CLASSES - 1 }
}

/// How long first tokens take in a lane, by size class.
#[derive(Clone, Debug)]
pub struct Pool {
    classes: Vec<Sketch>,
}

impl Default for Pool {
    fn default() -> Self {
        Self { classes: vec![Sketch::fading(CLASS_SAMPLES); CLASSES] }
    }
}

impl Pool {
    /// Takes one in, and says how it compares with its class's median, where that is known.
    pub(super) fn add(&mut self, prefill: u64, ttft: Span) -> Option<f64> {
        let class = self.classes.get_mut(size_class(prefill))?;
        class.add(ttft);
        let median = class.quantile(0.5).filter(|_| class.count() >= CLASS_MIN)?;
        Some(ttft.as_secs_f64() / median.as_secs_f64().max(1e-6))
    }

    /// The span in which this part of first tokens comes, where so many are known of the size.
    pub fn quantile(&self, prefill: u64, part: f64, samples_min: u64) -> Option<Span> {
        let class = self.classes.get(size_class(prefill))?;
        class.quantile(part).filter(|_| class.count() >= samples_min)
    }
}

/// First tokens of one replica, as ratios to the pool's.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace(VecDeque<(Time, f64)>);

impl Pace {
    pub(super) fn add(&mut self, now: Time, ratio: f64) {
        if self.0.len() >= FIRST_TOKENS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((now, ratio));
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The median, where enough is known.
    pub(super) fn median(&self, now: Time, config: &OutlierConfig) -> Option<f64> {
        let fresh = self.0.iter().filter(|(at, _)| now.since(*at) <= config.age_max);
        let mut ratios: Vec<f64> = fresh.map(|(_, ratio)| *ratio).collect();
        if ratios.len() < config.first_tokens_min.max(1) {
            return None;
        }
        ratios.sort_by(f64::total_cmp);
        ratios.get(ratios.len() / 2).copied()
    }
}

/// One replica beside its peers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) attempts: u32,
    pub(super) failures: u32,
    pub(super) pace: Option<f64>,
}

/// What speaks against one of these beside the others, if anything does.
pub(super) fn judge(peers: &[Peer], at: usize, config: &OutlierConfig) -> Option<Reason> {
    let peer = peers.get(at)?;
    let others = || peers.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, one)| one);
    errors(peer, others(), config).or_else(|| slow(peer, others(), config))
}

fn errors<'a>(
    peer: &Peer,
    others: impl Iterator<Item = &'a Peer>,
    config: &OutlierConfig,
) -> Option<Reason> {
    let (attempts, failures) = others.fold((0, 0), |(attempts, failures): (u32, u32), other| {
        (attempts.saturating_add(other.attempts), failures.saturating_add(other.failures))
    });
    if peer.attempts < config.attempts_min || attempts < config.attempts_min {
        return None;
    }
    let elsewhere = f64::from(failures) / f64::from(attempts);
    let borne = (elsewhere * config.error_factor).max(config.error_percent_min / 100.0);
    let surely = lower_bound(peer.failures, peer.attempts);
    (surely > borne).then(|| Reason::Errors {
        percent: f64::from(peer.failures) * 100.0 / f64::from(peer.attempts),
        peers_percent: elsewhere * 100.0,
    })
}

fn slow<'a>(
    peer: &Peer,
    others: impl Iterator<Item = &'a Peer>,
    config: &OutlierConfig,
) -> Option<Reason> {
    let mut paces: Vec<f64> = others.filter_map(|other| other.pace).collect();
    paces.sort_by(f64::total_cmp);
    // The lower of two in the middle: with a fast and a slow peer, the fast one shows what can be.
    let median = paces.get(paces.len().checked_sub(1)? / 2)?;
    let ratio = peer.pace? / median.max(1e-6);
    (ratio >= config.slow_factor).then_some(Reason::Slow { ratio })
}

/// A rate that the true one exceeds in 39 of 40 cases: the lower end of Wilson's interval (Wilson, JASA
/// 1927), so that three failures of four prove less than thirty of forty.
fn lower_bound(failures: u32, attempts: u32) -> f64 {
    const Z: f64 = 1.96;
    let n = f64::from(attempts.max(1));
    let p = f64::from(failures) / n;
    let middle = p + Z * Z / (2.0 * n);
    let spread = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    ((middle - spread) / (1.0 + Z * Z / n)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(peers: &[(u32, u32, Option<f64>)], at: usize) -> Option<&'static str> {
        let peer = |(attempts, failures, pace): &(u32, u32, Option<f64>)| Peer {
            attempts: *attempts,
            failures: *failures,
            pace: *pace,
        };
        let peers: Vec<Peer> = peers.iter().map(peer).collect();
        judge(&peers, at, &OutlierConfig::default()).map(|reason| reason.name())
    }

    #[test]
    fn worse_than_the_peers_and_by_enough() {
        let check = |peers: &[(u32, u32, Option<f64>)], expect: Option<&str>| {
            assert_eq!(name(peers, 0), expect, "{peers:?}");
        };
        check(&[(100, 30, None), (100, 1, None)], Some("errors"));
        check(&[(100, 30, None), (100, 20, None)], None);
        check(&[(100, 12, None), (100, 0, None)], None);
        check(&[(19, 19, None), (100, 0, None)], None);
        check(&[(100, 30, None)], None);
        check(&[(0, 0, Some(3.1)), (0, 0, Some(1.0)), (0, 0, Some(1.0))], Some("slow"));
        check(&[(0, 0, Some(2.9)), (0, 0, Some(1.0)), (0, 0, Some(1.0))], None);
        check(&[(0, 0, Some(3.1)), (0, 0, Some(3.0)), (0, 0, Some(1.0))], Some("slow"));
        check(&[(0, 0, Some(9.0)), (0, 0, None)], None);
        check(&[(0, 0, None), (0, 0, Some(1.0))], None);
    }

    #[test]
    fn sizes_are_compared_with_their_own() {
        let mut pool = Pool::default();
        for _ in 0..20 {
            pool.add(100, Span::from_millis(50));
            pool.add(100_000, Span::from_secs(20));
        }
        assert!((pool.add(100_000, Span::from_secs(20)).unwrap() - 1.0).abs() < 0.2);
        assert!((pool.add(100, Span::from_millis(500)).unwrap() - 10.0).abs() < 2.0);
        assert_eq!(pool.add(1000, Span::from_secs(1)), None);
        assert!(pool.quantile(100_000, 0.95, 10).unwrap() > Span::from_secs(18));
        assert_eq!(pool.quantile(0, 0.95, 10), None);
        let classes: Vec<usize> = [0, 1, 2, 3, 4, 1 << 40].map(size_class).to_vec();
        assert_eq!(classes, [0, 1, 2, 2, 3, 23]);
    }
}
