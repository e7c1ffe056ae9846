//! Native histograms of Prometheus: buckets that grow by a constant factor, of which only those exist that
//! something fell into. Their number is bounded: when there would be more, pairs become one, and the factor
//! its square. Buckets and indices are those of Prometheus' data model, "upper inclusive":
//! bucket i of schema s holds (2^((i-1)/2^s), 2^(i/2^s)].

/// The schema a histogram begins with: 8 buckets for each doubling, each 9 % wider than the one below.
pub(super) const SCHEMA: i32 = 3;

/// The coarsest schema there is: a factor of 2^16, with which all that a number can be fits.
const SCHEMA_MIN: i32 = -4;

/// Most buckets of a series, as Prometheus' own client library recommends.
pub const BUCKETS_MAX: usize = 160;

/// What is not larger counts as zero: 2^-128, the default of Prometheus' own client library.
pub(super) const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;

/// Where the buckets of schema 3 begin between 0.5 and 1: 2^(j/8) / 2.
const BOUNDS: [f64; 8] = [
    0.5,
    0.545_253_866_332_628_8,
    0.594_603_557_501_360_5,
    0.648_419_777_325_504_8,
    std::f64::consts::FRAC_1_SQRT_2,
    0.771_105_412_703_970_4,
    0.840_896_415_253_714_5,
    0.917_004_043_204_671_2,
];

/// Buckets of values that are not negative.
#[derive(Clone, Debug)]
pub(super) struct Native {
    schema: i32,
    zero: u64,
    /// Index and count, by index. All its room is taken at the start, so that counting never allocates.
    buckets: Vec<(i32, u64)>,
}

impl Native {
    pub(super) fn new() -> Self {
        Self { schema: SCHEMA, zero: 0, buckets: Vec::with_capacity(BUCKETS_MAX) }
    }

    /// Counts a value, which is finite and not negative, so many times.
    pub(super) fn count(&mut self, value: f64, times: u64) {
        if value <= ZERO_THRESHOLD {
            self.zero += times;
            return;
        }
        loop {
            let index = index(self.schema, value);
            match self.buckets.binary_search_by_key(&index, |(at, _)| *at) {
                Ok(at) => {
                    self.buckets[at].1 += times;
                    return;
                }
                Err(at) if self.buckets.len() < BUCKETS_MAX => {
                    self.buckets.insert(at, (index, times));
                    return;
                }
                Err(_) => self.halve(),
            }
        }
    }

    /// Two buckets become one, everywhere.
    fn halve(&mut self) {
        debug_assert!(self.schema > SCHEMA_MIN, "all values fit into the coarsest schema");
        self.schema -= 1;
        let mut kept = 0;
        for at in 0..self.buckets.len() {
            let (index, count) = self.buckets[at];
            // Rounded up: a bucket goes where its upper end is.
            let index = (index + 1) >> 1;
            if kept > 0 && self.buckets[kept - 1].0 == index {
                self.buckets[kept - 1].1 += count;
            } else {
                self.buckets[kept] = (index, count);
                kept += 1;
            }
        }
        self.buckets.truncate(kept);
    }

    pub(super) const fn schema(&self) -> i32 {
        self.schema
    }

    pub(super) const fn zero(&self) -> u64 {
        self.zero
    }

    /// Index and count of each bucket that there is, by index.
    pub(super) fn buckets(&self) -> &[(i32, u64)] {
        &self.buckets
    }
}

/// The bucket of a normal positive number.
fn index(schema: i32, value: f64) -> i32 {
    const FRACTION: u64 = (1 << 52) - 1;
    let bits = value.to_bits();
    // value = fraction · 2^exponent with the fraction in [0.5, 1).
    let exponent = i32::try_from((bits >> 52) & 0x7ff).unwrap_or_default() - 1022;
    let fraction = f64::from_bits((bits & FRACTION) | (1022 << 52));
    if schema > 0 {
        let step = 1_usize << (SCHEMA - schema);
        let each = BOUNDS.len() / step;
        let below = BOUNDS.iter().step_by(step).take_while(|bound| **bound < fraction).count();
        let (below, each) = (i32::try_from(below), i32::try_from(each));
        return below.unwrap_or_default() + (exponent - 1) * each.unwrap_or_default();
    }
    let at = if bits & FRACTION == 0 { exponent - 1 } else { exponent };
    let round_up = (1 << -schema) - 1;
    (at + round_up) >> -schema
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn upper(schema: i32, index: i32) -> f64 {
        (f64::from(index) * (-f64::from(schema)).exp2()).exp2()
    }

    #[test]
    fn boundaries_belong_to_the_bucket_below() {
        let check = |schema, value, expect| assert_eq!(index(schema, value), expect, "{value}");
        for schema in SCHEMA_MIN..=SCHEMA {
            check(schema, 1.0, 0);
            check(schema, 1.000_000_1, 1);
        }
        check(3, 2.0, 8);
        check(3, 0.5, -8);
        check(3, 1.09, 1);
        check(3, 1.1, 2);
        check(0, 2.0, 1);
        check(0, 2.1, 2);
        check(0, 0.3, -1);
        check(-1, 4.0, 1);
        check(-1, 4.1, 2);
        check(-4, 0.000_01, -1);
    }

    #[test]
    fn what_does_not_fit_makes_buckets_wider_and_loses_nothing() {
        let mut native = Native::new();
        for step in 0..100_000_u32 {
            native.count(1e-6 * 1.000_3_f64.powi(i32::try_from(step).unwrap()), 1);
        }
        assert!(native.buckets().len() <= BUCKETS_MAX);
        assert!(native.schema() < SCHEMA, "{}", native.schema());
        assert_eq!(native.buckets().iter().map(|(_, count)| count).sum::<u64>(), 100_000);
        for extreme in [0.0, f64::MIN_POSITIVE, f64::MAX, 1e-300, 1e300] {
            native.count(extreme, 1);
        }
        let zero = native.zero();
        assert_eq!(zero, 3, "zero, and what is as good as zero");
        assert_eq!(native.buckets().iter().map(|(_, count)| count).sum::<u64>(), 100_002);
        assert_eq!(native.buckets.capacity(), BUCKETS_MAX, "no room was asked for");
    }

    proptest! {
        #[test]
        fn a_value_is_within_its_bucket(value in 1e-30_f64..1e30, schema in SCHEMA_MIN..=SCHEMA) {
            let index = index(schema, value);
            prop_assert!(value <= upper(schema, index) * (1.0 + 1e-12));
            prop_assert!(value > upper(schema, index - 1) * (1.0 - 1e-12));
        }

        #[test]
        fn a_coarser_schema_has_the_same_bucket_as_two_of_the_finer(
            values in proptest::collection::vec(1e-9_f64..1e9, 1..50),
        ) {
            let (mut once, mut twice) = (Native::new(), Native::new());
            for value in &values {
                once.count(*value, 1);
            }
            once.halve();
            twice.halve();
            for value in &values {
                twice.count(*value, 1);
            }
            prop_assert_eq!(once.buckets(), twice.buckets());
        }
    }
}
