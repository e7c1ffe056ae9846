//! Knative's autoscaler: requests in flight, averaged over 60 seconds, over what one replica is to have;
//! over 6 seconds, and never down, while that is twice what there is; down to half at once at most, and
//! to zero 30 seconds after nothing was there for a whole window.

use std::collections::VecDeque;

use pilotage_core::scale::{Policy, Zero};
use pilotage_core::{Span, Time};

use super::{Look, Scale, Wanted};

const TICK: Span = Span::from_secs(2);
const STABLE: Span = Span::from_secs(60);
const PANIC: Span = Span::from_secs(6);
const PANIC_AT: f64 = 2.0;
const UTILISATION: f64 = 0.7;
const DOWN_MOST: f64 = 2.0;
const GRACE: Span = Span::from_secs(30);

#[derive(Debug)]
pub(super) struct Knative {
    min: u32,
    max: u32,
    target: f64,
    seen: VecDeque<(Time, f64)>,
    /// Since when it panics, and how many that has come to.
    panics: Option<(Time, u32)>,
    /// Since when nothing is there.
    idle: Option<Time>,
    /// When it first looked: until its window is full, what runs stays.
    begun: Option<Time>,
}

impl Knative {
    pub(super) fn new(policy: &Policy, places: u32) -> Self {
        let min = if policy.zero == Zero::AlwaysWarm { policy.min.max(1) } else { policy.min };
        let target = UTILISATION * f64::from(places);
        Self {
            min,
            max: policy.max,
            target,
            seen: VecDeque::new(),
            panics: None,
            idle: None,
            begun: None,
        }
    }

    fn mean(&self, now: Time, window: Span) -> f64 {
        let recent = self.seen.iter().rev().take_while(|(at, _)| now.since(*at) < window);
        let (sum, count) =
            recent.fold((0.0, 0.0), |(sum, count), (_, one)| (sum + one, count + 1.0));
        if count > 0.0 { sum / count } else { 0.0 }
    }
}

impl Scale for Knative {
    fn every(&self) -> Span {
        TICK
    }

    fn hears(&self) -> bool {
        true
    }

    fn decide(&mut self, now: Time, look: &Look) -> Wanted {
        let begun = *self.begun.get_or_insert(now);
        let there = look.waiting + look.running;
        self.seen.push_back((now, there));
        while self.seen.front().is_some_and(|(at, _)| now.since(*at) >= STABLE) {
            self.seen.pop_front();
        }
        let (stable, panic) = (self.mean(now, STABLE), self.mean(now, PANIC));
        let ready = f64::from(look.ready.max(1));
        let least = (ready / DOWN_MOST).floor();
        let count = |mean: f64| (mean / self.target).ceil().max(least) as u32;
        let (mut wanted, quick) = (count(stable), count(panic));
        if f64::from(quick) / ready >= PANIC_AT {
            let most = self.panics.map_or(0, |(_, most)| most);
            self.panics = Some((now, most.max(quick)));
        }
        if now.since(begun) < STABLE {
            wanted = wanted.max(look.wanted);
        }
        if let Some((since, most)) = self.panics {
            if now.since(since) >= STABLE {
                self.panics = None;
            } else {
                let most = most.max(quick).max(look.ready);
                self.panics = Some((since, most));
                wanted = most;
            }
        }
        if stable > 0.0 {
            self.idle = None;
        } else {
            self.idle.get_or_insert(now);
        }
        let over = self.idle.is_some_and(|since| now.since(since) >= GRACE);
        let floor = if over { self.min } else { self.min.max(u32::from(look.wanted > 0)) };
        let wanted = if over { self.min } else { wanted };
        Wanted::awake(wanted.clamp(floor, self.max.max(floor)))
    }
}
