//! When a fault strikes: decided by the number of the request and a seed, so that the same run fails
//! the same way again.

use serde::Deserialize;

use crate::engine::text::mix;

/// When a fault strikes, by the number of the request since the fault was set, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Each.
    #[default]
    Always,
    /// Only the one with that number.
    Nth(u64),
    /// As many as that, from the first.
    First(u64),
    /// By chance.
    Chance {
        /// From 0 to 1.
        probability: f64,
        /// Whatever decides it.
        seed: u64,
    },
}

impl When {
    /// Whether it strikes the request with that number.
    pub fn strikes(self, number: u64) -> bool {
        match self {
            Self::Always => true,
            Self::Nth(nth) => number == nth,
            Self::First(count) => number <= count,
            Self::Chance { probability, seed } => {
                let draw = (mix(seed ^ mix(number)) >> 11) as f64 / (1_u64 << 53) as f64;
                draw < probability
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strikes_by_number() {
        let struck =
            |when: When| (1..=1000).filter(|number| when.strikes(*number)).collect::<Vec<_>>();
        assert_eq!(struck(When::Nth(3)), [3]);
        assert_eq!(struck(When::First(2)), [1, 2]);
        assert_eq!(struck(When::Always).len(), 1000);
        let chance = struck(When::Chance { probability: 0.1, seed: 7 });
        assert!((60..140).contains(&chance.len()), "{}", chance.len());
        assert_ne!(chance, struck(When::Chance { probability: 0.1, seed: 8 }));
    }
}
