//! When to send a second copy of a request that has no first token yet.
//!
//! The tail of first-token times is often one stuck replica; a copy elsewhere cuts it for a few
//! percent of extra work (Dean and Barroso, "The Tail at Scale", CACM 2013). It must never become
//! load: only after nearly all requests of the size would have begun, only within a budget, only where
//! another healthy replica has a free place.

use std::fmt;

use serde::Serialize;

use super::budget::Budget;
use super::outlier::Pool;
use crate::{Span, Time};

/// When second copies are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HedgeConfig {
    /// Whether at all.
    pub enabled: bool,
    /// The part of first tokens that would have come by then.
    pub quantile: f64,
    /// First tokens of the size that must be known.
    pub samples_min: u64,
    /// How long at least is waited.
    pub wait_min: Span,
    /// Copies for a hundred requests.
    pub percent: u32,
}

impl Default for HedgeConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            quantile: 0.95,
            samples_min: 50,
            wait_min: Span::from_millis(200),
            percent: HEDGE_PERCENT,
        }
    }
}

/// Copies for a hundred requests.
pub const HEDGE_PERCENT: u32 = 5;

/// A request that runs, as far as a second copy is concerned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hedgeable {
    /// When it was sent.
    pub sent: Time,
    /// Prompt tokens that had to be computed.
    pub prefill: u64,
    /// Whether its answer has begun.
    pub began: bool,
    /// Whether it was copied before.
    pub copied: bool,
    /// Whether computing it twice does nothing that is seen: it stores nothing, calls nothing and is
    /// no copy itself.
    pub safe: bool,
}

/// Why no second copy is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NoHedge {
    /// Nobody asked for copies.
    Disabled,
    /// Its answer has begun.
    Began,
    /// It was copied before.
    Copied,
    /// Computing it twice could be seen.
    Unsafe,
    /// Too little is known of how long such requests take.
    Unknown,
    /// No other healthy replica has a free place.
    NobodyFree,
    /// Enough copies were sent.
    NoBudget,
}

impl fmt::Display for NoHedge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disabled => "copies are not enabled",
            Self::Began => "its answer has begun",
            Self::Copied => "it was copied before",
            Self::Unsafe => "computing it twice could be seen",
            Self::Unknown => "too little is known of how long such requests take",
            Self::NobodyFree => "no other healthy replica has a free place",
            Self::NoBudget => "the budget for copies is used up",
        })
    }
}

/// When a second copy of a request is due, if one may be sent at all. Asked again at that time, the
/// same answer means: now.
pub fn hedge_at(
    config: &HedgeConfig,
    request: &Hedgeable,
    pool: &Pool,
    others_free: bool,
    budget: &Budget,
) -> Result<Time, NoHedge> {
    let due = hedge_due(config, request, pool)?;
    if !others_free {
        return Err(NoHedge::NobodyFree);
    }
    budget.allows().then_some(due).ok_or(NoHedge::NoBudget)
}

/// When that is, as far as it depends on the request alone.
pub fn hedge_due(config: &HedgeConfig, request: &Hedgeable, pool: &Pool) -> Result<Time, NoHedge> {
    let refusals = [
        (!config.enabled, NoHedge::Disabled),
        (request.began, NoHedge::Began),
        (request.copied, NoHedge::Copied),
        (!request.safe, NoHedge::Unsafe),
    ];
    if let Some((_, refusal)) = refusals.into_iter().find(|(holds, _)| *holds) {
        return Err(refusal);
    }
    let usual = pool.quantile(request.prefill, config.quantile, config.samples_min);
    let usual = usual.ok_or(NoHedge::Unknown)?;
    Ok(request.sent + usual.max(config.wait_min))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_late_rare_and_safe() {
        let config = HedgeConfig { enabled: true, ..HedgeConfig::default() };
        let mut pool = Pool::default();
        (0..95).for_each(|_| {
            assert!(pool.add(1000, Span::from_millis(400)).is_none_or(f64::is_finite));
        });
        (0..5).for_each(|_| assert!(pool.add(1000, Span::from_secs(30)).is_some()));
        let sent = Time::from_millis(5000);
        let request = Hedgeable { sent, prefill: 1000, began: false, copied: false, safe: true };
        let rich = Budget::new(5, 1, Span::from_secs(60));
        let poor = Budget::new(5, 0, Span::from_secs(60));
        let due = hedge_at(&config, &request, &pool, true, &rich).unwrap();
        assert!((350..480).contains(&due.since(sent).as_millis()), "{due:?}");
        let check = |request: Hedgeable, idle: bool, budget: &Budget, expect: NoHedge| {
            assert_eq!(hedge_at(&config, &request, &pool, idle, budget), Err(expect));
        };
        check(Hedgeable { began: true, ..request }, true, &rich, NoHedge::Began);
        check(Hedgeable { copied: true, ..request }, true, &rich, NoHedge::Copied);
        check(Hedgeable { safe: false, ..request }, true, &rich, NoHedge::Unsafe);
        check(Hedgeable { prefill: 9, ..request }, true, &rich, NoHedge::Unknown);
        check(request, false, &rich, NoHedge::NobodyFree);
        check(request, true, &poor, NoHedge::NoBudget);
        let off = HedgeConfig::default();
        assert_eq!(hedge_at(&off, &request, &pool, true, &rich), Err(NoHedge::Disabled));
    }
}
