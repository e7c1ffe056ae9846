//! When to come back: times told to clients that were refused together must not bring them back
//! together.

use crate::Span;

/// The most that is added, in nanoseconds: a minute.
const MORE_MAX: u64 = 60_000_000_000;

/// The span, and up to a quarter more, at most a minute. The same seed gives the same result; a request's own id is
/// one.
pub fn spread(span: Span, seed: u64) -> Span {
    // One round of splitmix64 (Steele, Lea, Flood, OOPSLA 2014).
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let part = u128::from(mixed >> 32);
    let most = (span.as_nanos() / 4).min(MORE_MAX);
    let more = u128::from(most) * part / u128::from(u32::MAX);
    Span::from_nanos(span.as_nanos().saturating_add(u64::try_from(more).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_up_to_a_quarter() {
        let span = Span::from_secs(8);
        let spans: Vec<u64> = (0..1000).map(|seed| spread(span, seed).as_millis()).collect();
        assert!(spans.iter().all(|ms| (8000..=10_000).contains(ms)));
        let early = spans.iter().filter(|ms| **ms < 9000).count();
        assert!((400..600).contains(&early), "{early} of 1000 in the first half");
        let days = Span::from_secs(20 * 86_400);
        assert!((0..100).all(|seed| spread(days, seed).as_millis() - days.as_millis() <= 60_000));
        assert_eq!(spread(Span::ZERO, 5), Span::ZERO);
        assert_eq!(spread(Span::from_nanos(u64::MAX), 5), Span::from_nanos(u64::MAX));
    }
}
