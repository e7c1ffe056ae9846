//! Looks for the highest rate that holds: doubles it until it does not, then halves the gap.

/// Loads that are tried at most.
pub const PROBES_MAX: usize = 40;

/// A search under way.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    holds: Option<f64>,
    fails: Option<f64>,
    start: f64,
    most: f64,
    precision: f64,
    probes: usize,
}

impl Search {
    /// Begins at a rate and goes no higher than another; ends when the two are closer than that
    /// part of themselves. All are above zero.
    pub const fn new(start: f64, most: f64, precision: f64) -> Self {
        Self { holds: None, fails: None, start, most, precision, probes: 0 }
    }

    /// The rate to try next; none when it is found.
    pub fn next(&self) -> Option<f64> {
        if self.probes >= PROBES_MAX {
            return None;
        }
        match (self.holds, self.fails) {
            (None, None) => Some(self.start.min(self.most)),
            (Some(holds), None) => (holds < self.most).then(|| (holds * 2.0).min(self.most)),
            // Nothing holds down to a thousandth of where it began.
            (None, Some(fails)) => (fails > self.start / 1e3).then_some(fails / 2.0),
            (Some(holds), Some(fails)) => {
                (fails / holds > 1.0 + self.precision).then(|| (holds * fails).sqrt())
            }
        }
    }

    /// What came of that rate.
    pub fn tell(&mut self, rate: f64, holds: bool) {
        self.probes += 1;
        if holds {
            self.holds = Some(self.holds.map_or(rate, |best| best.max(rate)));
        } else {
            self.fails = Some(self.fails.map_or(rate, |least| least.min(rate)));
        }
    }

    /// The highest rate that held.
    pub const fn best(&self) -> Option<f64> {
        self.holds
    }

    /// The lowest rate that did not.
    pub const fn limit(&self) -> Option<f64> {
        self.fails
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(capacity: f64, start: f64, most: f64) -> (Option<f64>, usize) {
        let mut search = Search::new(start, most, 0.05);
        while let Some(rate) = search.next() {
            search.tell(rate, rate <= capacity);
        }
        (search.best(), search.probes)
    }

    #[test]
    fn ends_are_respected() {
        assert_eq!(found(1e9, 1.0, 100.0).0, Some(100.0));
        assert_eq!(found(0.0, 1.0, 100.0).0, None);
        assert_eq!(found(50.0, 200.0, 100.0).0.map(|rate| rate <= 50.0), Some(true));
    }

    proptest! {
        #[test]
        fn what_is_found_is_near_the_capacity_and_below_it(capacity in 0.1_f64..10_000.0) {
            let (best, probes) = found(capacity, 1.0, 1e6);
            let best = best.unwrap();
            prop_assert!(best <= capacity && capacity / best <= 1.051, "{best} of {capacity}");
            prop_assert!(probes < PROBES_MAX);
        }
    }
}
