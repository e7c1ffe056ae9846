//! The horizontal pod autoscaler of Kubernetes: `ceil(replicas · metric / target)`, unless that is within
//! a tenth; down only to the most of the last 300 seconds; up at most to twice as many, or four more, in
//! 15 seconds.
//!
//! Pods that are not ready count as if they had nothing to do when it would go up, as its documentation
//! says. It never goes to zero.

use std::collections::VecDeque;

use pilotage_core::scale::Policy;
use pilotage_core::{Span, Time};

use super::{Look, Scale, Wanted};

const SYNC: Span = Span::from_secs(15);
const TOLERANCE: f64 = 0.1;
const DOWN_WINDOW: Span = Span::from_secs(300);
const UP_PODS: u32 = 4;

type Read = fn(&Look) -> f64;

/// On a metric of pods, of which the mean is to be something.
#[derive(Debug)]
pub(super) struct Pods {
    limits: Limits,
    read: Read,
    target: f64,
}

/// On a metric of the whole, of which each replica is to have so much.
#[derive(Debug)]
pub(super) struct External {
    pub(super) limits: Limits,
    read: Read,
    target: f64,
}

/// Between which numbers, and how fast.
#[derive(Debug)]
pub(super) struct Limits {
    min: u32,
    max: u32,
    recommended: VecDeque<(Time, u32)>,
}

impl Limits {
    fn new(policy: &Policy) -> Self {
        Self { min: policy.min.max(1), max: policy.max, recommended: VecDeque::new() }
    }

    fn settle(&mut self, now: Time, current: u32, count: f64) -> u32 {
        let count = if count < f64::from(self.max) { count.max(0.0) as u32 } else { self.max };
        if self.recommended.is_empty() {
            // What runs when it begins is its first recommendation.
            self.recommended.push_back((now, current));
        }
        self.recommended.push_back((now, count));
        while self.recommended.front().is_some_and(|(at, _)| now.since(*at) > DOWN_WINDOW) {
            self.recommended.pop_front();
        }
        let settled = if count < current {
            let most = self.recommended.iter().map(|(_, count)| *count).max().unwrap_or(count);
            most.min(current)
        } else {
            count.min(current.saturating_mul(2).max(current.saturating_add(UP_PODS)))
        };
        settled.clamp(self.min, self.max)
    }
}

fn near(ratio: f64) -> bool {
    (ratio - 1.0).abs() <= TOLERANCE
}

impl Pods {
    pub(super) fn new(policy: &Policy, read: Read, target: f64) -> Self {
        Self { limits: Limits::new(policy), read, target }
    }

    fn count(&self, look: &Look) -> f64 {
        let (ready, current) = (f64::from(look.ready), f64::from(look.wanted));
        let ratio = (self.read)(look) / self.target;
        if look.ready == 0 {
            return current;
        }
        if look.starting == 0 || ratio <= 1.0 {
            return if near(ratio) { current } else { (ratio * ready).ceil() };
        }
        let all = ready + f64::from(look.starting);
        let idle = ratio * ready / all;
        if near(idle) || idle < 1.0 { current } else { (idle * all).ceil() }
    }
}

impl Scale for Pods {
    fn every(&self) -> Span {
        SYNC
    }

    fn decide(&mut self, now: Time, look: &Look) -> Wanted {
        let count = self.count(look);
        Wanted::awake(self.limits.settle(now, look.wanted, count))
    }
}

impl External {
    pub(super) fn new(policy: &Policy, read: Read, target: f64) -> Self {
        Self { limits: Limits::new(policy), read, target }
    }

    /// What it reads.
    pub(super) fn metric(&self, look: &Look) -> f64 {
        (self.read)(look)
    }

    fn count(&self, look: &Look) -> f64 {
        let current = f64::from(look.wanted);
        let each = self.metric(look) / self.target;
        if current > 0.0 && near(each / current) { current } else { each.ceil() }
    }
}

impl Scale for External {
    fn every(&self) -> Span {
        SYNC
    }

    fn decide(&mut self, now: Time, look: &Look) -> Wanted {
        let count = self.count(look);
        Wanted::awake(self.limits.settle(now, look.wanted, count))
    }
}
