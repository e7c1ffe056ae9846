//! What a mix costs and why it is this one, as `pilotage cost` tells it.

use std::fmt;

use serde::Serialize;

use super::{CostError, Mix, Offer, Wish, choose};

/// Hours of a month, as clouds count them.
const MONTH_HOURS: f64 = 730.0;

/// The cheapest mix beside others.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bill {
    /// Names of the fleets, in the order of counts.
    pub fleets: Vec<String>,
    /// What is wanted.
    pub wanted: f64,
    /// The cheapest.
    pub best: Mix,
    /// The next cheapest.
    pub others: Vec<Mix>,
    /// The cheapest without machines that may be taken away; none where those that stay are too few.
    pub on_demand: Option<Mix>,
    /// What runs now.
    pub now: Option<Mix>,
}

impl Bill {
    /// The cheapest mix for a wish, beside what runs now.
    ///
    /// # Errors
    /// A number that makes no sense, or that all fleets together are too few.
    pub fn of(offers: &[Offer], wish: &Wish, now: Option<&[u32]>) -> Result<Self, CostError> {
        let mut all = choose(offers, wish)?.into_iter();
        let staying = Wish { spot_share_max: 0.0, ..*wish };
        Ok(Self {
            fleets: offers.iter().map(|offer| offer.name.clone()).collect(),
            wanted: wish.capacity,
            best: all.next().unwrap_or_default(),
            others: all.collect(),
            on_demand: choose(offers, &staying).ok().and_then(|all| all.into_iter().next()),
            now: now.map(|counts| Mix::of(offers, counts, wish.start)),
        })
    }

    /// What is saved in an hour beside what runs now.
    pub fn saving(&self) -> Option<f64> {
        self.now.as_ref().map(|now| now.price - self.best.price)
    }

    fn counts(&self, mix: &Mix) -> String {
        let pairs = self.fleets.iter().zip(&mix.counts).filter(|(_, count)| **count > 0);
        let parts: Vec<String> = pairs.map(|(name, count)| format!("{count} × {name}")).collect();
        if parts.is_empty() { "nothing".to_owned() } else { parts.join(" + ") }
    }
}

impl fmt::Display for Bill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let best = &self.best;
        write!(
            f,
            "{}: {:.2} an hour, {:.0} a month, for {:.0} of {:.0} wanted",
            self.counts(best),
            best.price,
            best.price * MONTH_HOURS,
            best.capacity,
            self.wanted,
        )?;
        if best.interruptions > 0.0 {
            write!(f, "; one taken away every {:.1} h", 1.0 / best.interruptions)?;
        }
        if let Some(stays) = self.on_demand.as_ref().filter(|it| it.price > best.price) {
            let percent = (1.0 - best.price / stays.price) * 100.0;
            write!(f, "; {percent:.0} % less than {} for {:.2}", self.counts(stays), stays.price)?;
        }
        if let Some(next) = self.others.first() {
            write!(f, "; next {} for {:.2}", self.counts(next), next.price)?;
        }
        match (&self.now, self.saving()) {
            (Some(now), Some(saving)) if saving > 0.0 => {
                write!(f, "; saves {saving:.2} an hour beside {} now", self.counts(now))
            }
            (Some(now), _) if now.counts != best.counts => write!(f, "; now {}", self.counts(now)),
            _ => Ok(()),
        }
    }
}
