//! The tests by which a canary is compared with its baseline: small, exact where it matters, and
//! with their sources.

use serde::{Deserialize, Serialize};

/// The chance that a standard normal number is larger: by its series below two (Abramowitz and Stegun
/// 26.2.11), and by the continued fraction of Mills' ratio above (26.2.14).
pub fn normal_above(z: f64) -> f64 {
    if z.is_nan() {
        return 1.0;
    }
    if z < 0.0 {
        return 1.0 - normal_above(-z);
    }
    let density = (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    if z < 2.0 {
        let (mut term, mut sum) = (z, z);
        for n in 1..60 {
            term *= z * z / f64::from(2 * n + 1);
            sum += term;
        }
        return (0.5 - density * sum).max(0.0);
    }
    let tail = (1..=80).rev().fold(0.0, |below, n| f64::from(n) / (z + below));
    density / (z + tail)
}

/// How sure it is that the first of each pair of samples holds larger values than the second, all pairs
/// together.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct RankTest {
    /// The chance of such ranks where both are alike.
    pub p: f64,
    /// Values of the first samples that were compared.
    pub first: u32,
    /// Values of the second samples that were compared.
    pub second: u32,
}

/// Ranks within each stratum, added up with weights that are best when the difference is the same in
/// all: van Elteren's extension of the Wilcoxon–Mann–Whitney test (van Elteren, "On the combination of
/// independent two sample tests of Wilcoxon", 1960), with the usual correction for ties. Comparing only
/// like with like, it is not fooled by arms with different mixes. None where nothing can be compared.
pub fn ranks_above(strata: &[(Vec<f64>, Vec<f64>)]) -> Option<RankTest> {
    let (mut sum, mut variance) = (0.0, 0.0);
    let (mut first, mut second) = (0_u32, 0_u32);
    for (a, b) in strata.iter().filter(|(a, b)| !a.is_empty() && !b.is_empty()) {
        let (n, m) = (a.len() as f64, b.len() as f64);
        let all = n + m;
        let (ranks, ties) = rank_sum(a, b);
        sum += (ranks - n * (all + 1.0) / 2.0) / (all + 1.0);
        let spread = n * m / 12.0 * ((all + 1.0) - ties / (all * (all - 1.0)).max(1.0));
        variance += spread / ((all + 1.0) * (all + 1.0));
        first = first.saturating_add(u32::try_from(a.len()).unwrap_or(u32::MAX));
        second = second.saturating_add(u32::try_from(b.len()).unwrap_or(u32::MAX));
    }
    (variance > 0.0).then(|| RankTest { p: normal_above(sum / variance.sqrt()), first, second })
}

/// The sum of the first sample's ranks among both, and Σ(t³ − t) over groups of t equal values.
fn rank_sum(a: &[f64], b: &[f64]) -> (f64, f64) {
    let mine = a.iter().map(|value| (*value, true));
    let mut all: Vec<(f64, bool)> = mine.chain(b.iter().map(|value| (*value, false))).collect();
    all.sort_by(|x, y| x.0.total_cmp(&y.0));
    let (mut sum, mut ties, mut before) = (0.0, 0.0, 0.0);
    for same in all.chunk_by(|x, y| x.0 == y.0) {
        let t = same.len() as f64;
        let mine = same.iter().filter(|(_, mine)| *mine).count() as f64;
        sum += mine * (before + (t + 1.0) / 2.0);
        ties += t * t * t - t;
        before += t;
    }
    (sum, ties)
}

/// How many times as large the first samples' medians are as the second's: the mean of the logarithms,
/// weighted by how much each stratum tells.
pub fn median_ratio(strata: &[(Vec<f64>, Vec<f64>)]) -> f64 {
    let (mut sum, mut weights) = (0.0, 0.0);
    for (a, b) in strata {
        let (Some(of_a), Some(of_b)) = (median(a), median(b)) else { continue };
        let (n, m) = (a.len() as f64, b.len() as f64);
        let weight = n * m / (n + m);
        sum += weight * (of_a.max(1e-9) / of_b.max(1e-9)).ln();
        weights += weight;
    }
    if weights > 0.0 { (sum / weights).exp() } else { 1.0 }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// The part of a chance of error that look number `look`, from one, may use: `α·6/(π²·look²)`. All looks
/// together use α, however many there are: spending as Lan and DeMets do ("Discrete sequential boundaries
/// for clinical trials", Biometrika 1983), with the union bound, so that the looks may depend on each
/// other in any way.
pub fn spent_at(look: u32, alpha: f64) -> f64 {
    let look = f64::from(look.max(1));
    alpha * 6.0 / (std::f64::consts::PI * look).powi(2)
}

/// Rate ratios that are betted on.
const RATIOS: [f64; 5] = [1.5, 2.0, 4.0, 12.0, 60.0];

/// A bet that one arm fails more often than another, which may be looked at after every failure.
///
/// Given that a request failed, it is one of the arm's with a chance of at most its share of the
/// requests, if it fails no more often. The bet multiplies by how much more likely the failure is where it
/// fails more often; if it does not, the product exceeds `1/α` at any time with a chance of at most α (Ville's
/// inequality). This is the test of count data by Lindon and Malek ("Anytime-valid inference for multinomial count data", NeurIPS 2022; used for deployments
/// in Lindon, Sanden and Shirikian, "Rapid regression detection in software deployments through sequential
/// testing", KDD 2022), one-sided, with a mixture over a few rate ratios.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Bet {
    logs: [f64; RATIOS.len()],
}

impl Bet {
    /// A request failed: one of the arm's or not, where so many of all requests are the arm's.
    pub fn note(&mut self, is_arms: bool, share: f64, ratio_borne: f64) {
        let share = share.clamp(1e-6, 1.0 - 1e-6);
        let odds = share / (1.0 - share) * ratio_borne.max(1e-6);
        let borne = odds / (1.0 + odds);
        for (log, ratio) in self.logs.iter_mut().zip(RATIOS) {
            let more = odds * ratio / (1.0 + odds * ratio);
            let factor = if is_arms { more / borne } else { (1.0 - more) / (1.0 - borne) };
            *log += factor.ln();
        }
    }

    /// How many times the stake the bet is worth.
    pub fn worth(&self) -> f64 {
        self.logs.iter().map(|log| log.exp()).sum::<f64>() / RATIOS.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::mix;

    fn unit(seed: u64) -> f64 {
        ((mix(seed) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    #[test]
    fn tails_of_the_normal_distribution() {
        // By tables: Abramowitz and Stegun, table 26.1 and 26.2.
        for (z, expect) in [
            (0.0, 0.5),
            (1.0, 0.158_655_253_9),
            (1.959_963_985, 0.025),
            (2.0, 0.022_750_131_9),
            (3.0, 0.001_349_898_0),
            (5.0, 2.866_515_7e-7),
            (-1.0, 0.841_344_746_1),
        ] {
            let found = normal_above(z);
            assert!((found / expect - 1.0).abs() < 1e-6, "{z}: {found}");
        }
        assert!(normal_above(40.0) >= 0.0 && normal_above(f64::NAN) >= 1.0);
    }

    #[test]
    fn ranks_of_one_stratum_are_mann_whitneys() {
        // U = 8 of 9 for {3, 4, 6} beside {1, 2, 5}; z = (8 − 4.5)/√(9·7/12).
        let strata = [(vec![3.0, 4.0, 6.0], vec![1.0, 2.0, 5.0])];
        let test = ranks_above(&strata).unwrap();
        let z: f64 = (8.0_f64 - 4.5 - 1.0) / (9.0_f64 * 7.0 / 12.0).sqrt();
        assert!((test.p - normal_above(z)).abs() < 1e-9, "{test:?}");
        assert_eq!((test.first, test.second), (3, 3));
        assert_eq!(ranks_above(&[(vec![], vec![1.0])]), None);
        assert_eq!(ranks_above(&[(vec![1.0; 9], vec![1.0; 9])]), None);
    }

    #[test]
    fn other_mixes_are_not_slower() {
        // Both arms alike in each stratum; the first has nearly only the slow ones.
        let sample = |seed: u64, count: u64, scale: f64| -> Vec<f64> {
            (0..count).map(|at| scale * (1.0 + unit(seed + at))).collect()
        };
        let strata = [
            (sample(0, 20, 1.0), sample(1000, 300, 1.0)),
            (sample(2000, 300, 50.0), sample(3000, 20, 50.0)),
        ];
        let test = ranks_above(&strata).unwrap();
        assert!(test.p > 0.05, "{test:?}");
        assert!((median_ratio(&strata) - 1.0).abs() < 0.1);
        let (first, second): (Vec<_>, Vec<_>) = strata.into_iter().unzip();
        let fooled = ranks_above(&[(first.concat(), second.concat())]).unwrap();
        assert!(fooled.p < 1e-9);
    }

    #[test]
    fn looks_spend_no_more_than_there_is() {
        let spent: f64 = (1..100_000).map(|look| spent_at(look, 0.05)).sum();
        assert!(spent < 0.05 && spent > 0.0499);
    }

    /// The part of bets that are ever worth twenty times the stake, which is 1/α for α = 0.05.
    fn won(times: f64) -> f64 {
        let wins = (0..2000_u64).filter(|run| {
            let mut bet = Bet::default();
            (0..2000_u64).any(|at| {
                let seed = mix(mix(*run) ^ at);
                let is_arms = unit(seed) < 0.1;
                let rate = if is_arms { 0.05 * times } else { 0.05 };
                if unit(seed ^ 0xfeed) < rate {
                    bet.note(is_arms, 0.1, 1.0);
                }
                bet.worth() >= 20.0
            })
        });
        wins.count() as f64 / 2000.0
    }

    #[test]
    fn a_bet_may_be_looked_at_all_the_time() {
        let (same, double, tenfold) = (won(1.0), won(2.0), won(10.0));
        assert!(same <= 0.05 && same > 0.0, "{same}");
        assert!(double > 0.3 && tenfold > 0.99, "{double} {tenfold}");
    }
}
