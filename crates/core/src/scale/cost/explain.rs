//! What a mix costs and why it is this one, as `pilotage cost` tells it.

use std::fmt;

use serde::Serialize;

use super::{Consolidation, CostError, Mix, Offer, Wish, amount, choose};

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
    /// How to get from there to the cheapest; none where nothing is saved.
    pub way: Option<Way>,
}

/// How to get from one mix to another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Way {
    /// Replicas to start first, of each fleet.
    pub start: Vec<u32>,
    /// Replicas to drain once those serve, of each fleet.
    pub drain: Vec<u32>,
    /// Whether it is worth it: what runs is too little, some of it is spare, or enough is saved.
    pub worth: bool,
}

impl Way {
    fn of(now: &Mix, best: &Mix, is_enough: bool) -> Option<Self> {
        let less = |a: &[u32], b: &[u32]| -> Vec<u32> {
            a.iter().zip(b).map(|(a, b)| a.saturating_sub(*b)).collect()
        };
        let start = less(&best.counts, &now.counts);
        let drain = less(&now.counts, &best.counts);
        let is_same = now.counts == best.counts;
        if is_same || (is_enough && now.price <= best.price) {
            return None;
        }
        let least = Consolidation::default().saving_min;
        let is_spare = start.iter().all(|count| *count == 0);
        let worth = !is_enough || is_spare || best.price <= now.price * (1.0 - least);
        Some(Self { start, drain, worth })
    }
}

impl Bill {
    /// The cheapest mix for a wish, beside what runs now.
    ///
    /// # Errors
    /// A number that makes no sense, or that all fleets together are too few.
    pub fn of(offers: &[Offer], wish: &Wish, now: Option<&[u32]>) -> Result<Self, CostError> {
        let mut all = choose(offers, wish)?.into_iter();
        let staying = Wish { spot_share_max: 0.0, ..*wish };
        let best = all.next().unwrap_or_default();
        let now = now.map(|counts| Mix::of(offers, counts, wish.start));
        let way = now.as_ref().and_then(|now| Way::of(now, &best, now.meets(offers, wish)));
        Ok(Self {
            fleets: offers.iter().map(|offer| offer.name.clone()).collect(),
            wanted: wish.capacity,
            best,
            others: all.collect(),
            on_demand: choose(offers, &staying).ok().and_then(|all| all.into_iter().next()),
            now,
            way,
        })
    }

    /// What is saved in an hour beside what runs now.
    pub fn saving(&self) -> Option<f64> {
        self.now.as_ref().map(|now| now.price - self.best.price)
    }

    fn counts(&self, counts: &[u32]) -> String {
        let pairs = self.fleets.iter().zip(counts).filter(|(_, count)| **count > 0);
        let parts: Vec<String> = pairs.map(|(name, count)| format!("{count} × {name}")).collect();
        if parts.is_empty() { "nothing".to_owned() } else { parts.join(" + ") }
    }
}

impl fmt::Display for Bill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let best = &self.best;
        write!(
            f,
            "{}: {:.2} an hour, {:.0} a month, for {} of {} wanted",
            self.counts(&best.counts),
            best.price,
            best.price * MONTH_HOURS,
            amount(best.capacity),
            amount(self.wanted),
        )?;
        if best.interruptions > 0.0 {
            write!(f, "; one taken away every {:.1} h", 1.0 / best.interruptions)?;
        }
        if let Some(stays) = self.on_demand.as_ref().filter(|it| it.price > best.price) {
            let percent = (1.0 - best.price / stays.price) * 100.0;
            write!(
                f,
                "; {percent:.0} % less than {} for {:.2}",
                self.counts(&stays.counts),
                stays.price
            )?;
        }
        if let Some(next) = self.others.first() {
            write!(f, "; next {} for {:.2}", self.counts(&next.counts), next.price)?;
        }
        match (&self.now, self.saving()) {
            (Some(now), Some(saving)) if saving > 0.0 => {
                write!(f, "; saves {saving:.2} an hour beside {} now", self.counts(&now.counts))?;
            }
            (Some(now), _) if now.counts != best.counts => {
                write!(f, "; now {}", self.counts(&now.counts))?;
            }
            _ => {}
        }
        match &self.way {
            Some(way) if way.worth => {
                let some = |counts: &[u32]| counts.iter().any(|count| *count > 0);
                if some(&way.start) {
                    write!(f, "; start {}", self.counts(&way.start))?;
                }
                let then = if some(&way.start) { " first, then drain" } else { "; drain" };
                if some(&way.drain) {
                    write!(f, "{then} {}", self.counts(&way.drain))?;
                }
                Ok(())
            }
            Some(_) => f.write_str("; too little is saved to move for it"),
            None => Ok(()),
        }
    }
}
