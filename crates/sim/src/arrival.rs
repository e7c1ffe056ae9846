//! One request as the simulator sees it: when it comes, from whom, and how long it is.

use std::sync::Arc;

use pilotage_core::Time;

const NANOS_PER_SECOND: f64 = 1e9;

/// A request that arrives.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrival {
    /// When it arrives.
    pub at: Time,
    /// Whose it is: a position in the list of tenants that whoever made the arrivals was given or
    /// gave back.
    pub tenant: u32,
    /// Tokens of the prompt, its shared beginning included.
    pub input: u32,
    /// Tokens that the answer will have; a scheduler learns of them one by one.
    pub output: u32,
    /// Tokens that the answer may have; a scheduler knows this from the start.
    pub output_max: u32,
    /// The prompt's first blocks: equal numbers are equal text after equal text. Prompts that share
    /// nothing, or whose source does not say, have none.
    pub prefix: Arc<[u64]>,
    /// Tokens in one block of `prefix`; meaningless where that is empty.
    pub block_tokens: u32,
    /// Equal for the turns of one conversation, where the source tells.
    pub conversation: Option<u64>,
}

/// A point in time from seconds after the origin; what lies before it counts as the origin.
pub fn time(seconds: f64) -> Time {
    Time::from_nanos((seconds * NANOS_PER_SECOND).round() as u64)
}

/// Seconds after the origin.
pub fn seconds(time: Time) -> f64 {
    time.as_nanos() as f64 / NANOS_PER_SECOND
}

/// Sorts by time; what comes at the same moment keeps its order.
pub fn sort(arrivals: &mut [Arrival]) {
    arrivals.sort_by_key(|arrival| arrival.at);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_nanoseconds() {
        let check = |given: f64, expect: u64| assert_eq!(time(given).as_nanos(), expect);
        check(0.0, 0);
        check(1.5, 1_500_000_000);
        check(0.000_000_000_6, 1);
        check(-3.0, 0);
        check(f64::NAN, 0);
        check(f64::INFINITY, u64::MAX);
        assert_eq!(seconds(time(12.25)), 12.25);
    }
}
