//! Which machines should do the work? The cheapest of several fleets that come up to what is wanted,
//! and how to get there from those that run.
//!
//! Machines that may be taken away count for less than they do, by the time that their successors take
//! to start; some part is always on machines that stay, and no single fleet of the others has more than its
//! share, so that one reclaim is not an outage.

mod consolidate;
mod explain;
mod search;
#[cfg(test)]
mod tests;

use serde::Serialize;
use thiserror::Error;

use crate::Span;

pub use consolidate::{Consolidation, Consolidator, Placed, Step};
pub use explain::{Bill, Way};
pub use search::choose;

/// Most fleets that are weighed against each other.
pub const OFFERS_MAX: usize = 16;

/// Most replicas of one fleet.
pub const COUNT_MAX: u32 = 1024;

/// A kind of machine that a replica can run on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Offer {
    /// What it is called.
    pub name: String,
    /// What a replica costs there in an hour.
    pub price: f64,
    /// What one does there at the goal, in tokens a second or whatever is wanted.
    pub capacity: f64,
    /// Most replicas.
    pub max: u32,
    /// Where it may be taken away: how often in an hour. None where it stays.
    pub interruptions: Option<f64>,
}

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Wish {
    /// How much, in the unit of [`Offer::capacity`].
    pub capacity: f64,
    /// The part of it that is to be on machines that stay.
    pub on_demand: f64,
    /// The most of it that one fleet may have of which machines are taken away.
    pub spot_share_max: f64,
    /// How long a replica takes to start, for what is lost with those that are taken away.
    pub start: Span,
}

/// What makes no sense in what is offered or wanted.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum CostError {
    /// A number outside what it may be.
    #[error("`{field}` of {whose} is {value}, write a number from {least} to {most}")]
    Number {
        /// Which one.
        field: &'static str,
        /// Of which fleet.
        whose: String,
        /// What it is.
        value: f64,
        /// The least it may be.
        least: f64,
        /// The most it may be.
        most: f64,
    },
    /// More fleets than are weighed.
    #[error("{count} fleets are too many to weigh, name at most {OFFERS_MAX}")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// Of those that stay there are too few.
    #[error(
        "all fleets whose machines stay do {} of the {} that are wanted on such: raise their counts, add one, or ask for a smaller part",
        amount(*.most), amount(*.wanted)
    )]
    TooFewStay {
        /// What they do.
        most: f64,
        /// What is wanted of them.
        wanted: f64,
    },
    /// All of them together are too few.
    #[error(
        "all fleets together do {} of the {} that are wanted: raise their counts or add one",
        amount(*.most), amount(*.wanted)
    )]
    TooFew {
        /// What they do, as far as machines may be taken away.
        most: f64,
        /// What is wanted.
        wanted: f64,
    },
}

/// A number of work, no more exact than it is told.
fn amount(of: f64) -> String {
    if of >= 100.0 { format!("{of:.0}") } else { format!("{of:.2}") }
}

impl Offer {
    /// What one does in the mean: what is taken away has to start anew elsewhere, and does nothing meanwhile.
    pub fn lasting(&self, start: Span) -> f64 {
        let lost = self.interruptions.unwrap_or(0.0) * start.as_secs_f64() / 3600.0;
        self.capacity / (1.0 + lost)
    }

    /// What a unit of work costs.
    fn rate(&self, start: Span) -> f64 {
        self.price / self.lasting(start)
    }

    /// Most replicas there for that wish.
    fn most(&self, wish: &Wish) -> u32 {
        let most = self.max.min(COUNT_MAX);
        if self.interruptions.is_none() {
            return most;
        }
        // A share smaller than a replica is one replica, or small wishes had none.
        let share = (wish.capacity * wish.spot_share_max / self.lasting(wish.start) + 1e-9).floor();
        let share = if share < 1.0 && wish.spot_share_max > 0.0 { 1.0 } else { share };
        if share < f64::from(most) { share as u32 } else { most }
    }

    fn check(&self) -> Result<(), CostError> {
        let number = |field, value: f64, least: f64, most: f64| {
            if value >= least && value <= most {
                return Ok(());
            }
            Err(CostError::Number { field, whose: self.name.clone(), value, least, most })
        };
        number("price", self.price, 0.0, 1e6)?;
        number("capacity", self.capacity, 1e-6, 1e12)?;
        number("max", f64::from(self.max), 0.0, f64::from(COUNT_MAX))?;
        number("interruptions", self.interruptions.unwrap_or(0.0), 0.0, 3600.0)
    }
}

impl Wish {
    /// So little may be missing: less than sums are exact to.
    const fn enough(&self) -> f64 {
        1e-9 * self.capacity
    }

    fn check(&self) -> Result<(), CostError> {
        let number = |field, value: f64, most: f64| {
            if value >= 0.0 && value <= most {
                return Ok(());
            }
            let whose = "the wish".to_owned();
            Err(CostError::Number { field, whose, value, least: 0.0, most })
        };
        number("capacity", self.capacity, 1e12)?;
        number("onDemand", self.on_demand, 1.0)?;
        number("spotShareMax", self.spot_share_max, 1.0)
    }
}

/// What so many replicas of each fleet come to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Mix {
    /// Replicas of each fleet, in the order of offers.
    pub counts: Vec<u32>,
    /// What they cost in an hour.
    pub price: f64,
    /// What they do in the mean.
    pub capacity: f64,
    /// How often one of them is taken away in an hour.
    pub interruptions: f64,
}

impl Mix {
    /// So many replicas of each fleet.
    pub fn of(offers: &[Offer], counts: &[u32], start: Span) -> Self {
        let mut mix = Self { counts: counts.to_vec(), ..Self::default() };
        for (offer, count) in offers.iter().zip(counts) {
            let count = f64::from(*count);
            mix.price += count * offer.price;
            mix.capacity += count * offer.lasting(start);
            mix.interruptions += count * offer.interruptions.unwrap_or(0.0);
        }
        mix
    }

    /// Whether it is what is wanted.
    pub fn meets(&self, offers: &[Offer], wish: &Wish) -> bool {
        let pairs =
            offers.iter().zip(&self.counts).filter(|(offer, _)| offer.interruptions.is_none());
        let stays: f64 =
            pairs.map(|(offer, count)| f64::from(*count) * offer.lasting(wish.start)).sum();
        let near = |has: f64, wanted: f64| has >= wanted - wish.enough();
        near(self.capacity, wish.capacity) && near(stays, wish.capacity * wish.on_demand)
    }
}
