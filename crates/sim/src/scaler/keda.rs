//! KEDA: from and to zero by itself, between one and the most by a horizontal pod autoscaler. It polls
//! every 30 seconds while there is nothing, and goes to zero when there was nothing for 300 seconds.

use pilotage_core::scale::{Policy, Zero};
use pilotage_core::{Span, Time};

use super::hpa::External;
use super::{Look, Scale, Wanted};

const POLL: Span = Span::from_secs(30);
const COOLDOWN: Span = Span::from_secs(300);

#[derive(Debug)]
pub(super) struct Keda {
    hpa: External,
    /// Whether it may go to zero.
    zero: bool,
    polled: Option<Time>,
    active: Time,
}

impl Keda {
    pub(super) fn new(policy: &Policy, read: fn(&Look) -> f64, target: f64) -> Self {
        let zero = policy.zero != Zero::AlwaysWarm && policy.min == 0;
        Self { hpa: External::new(policy, read, target), zero, polled: None, active: Time::ZERO }
    }
}

impl Scale for Keda {
    fn every(&self) -> Span {
        self.hpa.every()
    }

    fn decide(&mut self, now: Time, look: &Look) -> Wanted {
        let polls = self.polled.is_none_or(|at| now.since(at) >= POLL);
        if polls {
            self.polled = Some(now);
        }
        if polls && self.hpa.metric(look) > 0.0 {
            self.active = now;
            if look.wanted == 0 {
                return Wanted::awake(1);
            }
        }
        if look.wanted == 0 {
            return Wanted::awake(0);
        }
        if self.zero && now.since(self.active) >= COOLDOWN {
            return Wanted::awake(0);
        }
        self.hpa.decide(now, look)
    }
}
