//! The decision as numbers, for those who count replicas themselves: a horizontal pod autoscaler that
//! reads external metrics, and KEDA.
//!
//! Both ask for `ceil(value / target)` replicas of a metric with a target average. A horizontal pod
//! autoscaler leaves things alone while that is within its tolerance of what runs, a tenth unless it is
//! told otherwise, so that of eleven replicas it never makes ten or twelve: set its tolerance to zero, and its own
//! stabilisation too, because the decision is damped already.

use serde::Serialize;

/// One number, in thousandths, as `resource.Quantity` writes them with an `m`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Metric {
    /// What it is called.
    pub name: &'static str,
    /// What it is, in thousandths.
    pub value: u64,
    /// What each replica is to have of it, in thousandths.
    pub target: u64,
}

impl Metric {
    /// What an autoscaler makes of it that has no tolerance.
    pub const fn replicas(&self) -> u64 {
        if self.target == 0 { 0 } else { self.value.div_ceil(self.target) }
    }

    /// What a horizontal pod autoscaler makes of it, with so many replicas and that tolerance in
    /// thousandths.
    pub const fn settled(&self, current: u64, tolerance: u64) -> u64 {
        // |value / (target · current) − 1| ≤ tolerance, in whole numbers.
        let usual = self.target as u128 * current as u128;
        let off = (self.value as u128).abs_diff(usual) * 1000;
        if current > 0 && off <= usual * tolerance as u128 { current } else { self.replicas() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_count_as_we_do() {
        let check = |value: u64, current: u64, tolerance: u64, expect: u64| {
            let metric = Metric { name: "replicas", value, target: 1000 };
            assert_eq!(metric.settled(current, tolerance), expect);
        };
        check(5000, 4, 100, 5);
        check(5000, 5, 100, 5);
        check(11_000, 10, 100, 10);
        check(11_000, 10, 0, 11);
        check(0, 3, 100, 0);
        check(1, 0, 100, 1);
    }
}
