//! The autoscaler of `core`, as the program runs it.

use pilotage_core::scale::{Policy, Scaler};
use pilotage_core::{Span, Time};

use super::{Look, Scale, Wanted};

#[derive(Debug)]
pub(super) struct Ours {
    /// None only for a policy that the scenario's reader refuses.
    scaler: Option<Scaler>,
    every: Span,
}

impl Ours {
    pub(super) fn new(policy: &Policy) -> Self {
        Self { scaler: Scaler::new(policy.clone(), Span::ZERO).ok(), every: policy.every }
    }
}

impl Scale for Ours {
    fn every(&self) -> Span {
        self.every
    }

    fn hears(&self) -> bool {
        true
    }

    fn decide(&mut self, now: Time, look: &Look) -> Wanted {
        let decision = self.scaler.as_mut().and_then(|scaler| {
            scaler.observe(now, look.signals.clone());
            scaler.decide(now)
        });
        let Some(decision) = decision else { return Wanted::awake(look.wanted) };
        let why = Some(decision.why.to_string());
        Wanted { awake: decision.awake, asleep: decision.asleep, why }
    }
}
