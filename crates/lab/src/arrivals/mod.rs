//! When requests are meant to be sent: arrival processes whose rate may change with time, from a
//! seed. The answer to "when" never depends on how the server does, which is what makes a loop open.

pub mod trace;

use std::str::FromStr;

use pilotage_chance::Draws;
use thiserror::Error;

/// How the gaps between arrivals vary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Process {
    /// Independent of each other, as many users are.
    Poisson,
    /// Gamma-distributed gaps with that coefficient of variation: above one they come in bursts.
    Gamma(f64),
    /// Evenly spaced.
    Constant,
}

/// Why a text is no arrival process.
#[derive(Debug, Error, PartialEq)]
#[error("`{0}` is no arrival process: use poisson, constant, gamma:CV or trace:FILE")]
pub struct ProcessError(String);

impl FromStr for Process {
    type Err = ProcessError;

    fn from_str(text: &str) -> Result<Self, ProcessError> {
        let wrong = || ProcessError(text.to_owned());
        match text.split_once(':') {
            None if text == "poisson" => Ok(Self::Poisson),
            None if text == "constant" => Ok(Self::Constant),
            Some(("gamma", cv)) => {
                let cv: f64 = cv.parse().map_err(|_| wrong())?;
                (0.01..=100.0).contains(&cv).then_some(Self::Gamma(cv)).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }
}

/// The rate over time, in requests a second: constant, or a straight line that ends level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// The rate at the start.
    pub from: f64,
    /// The rate at the end.
    pub to: f64,
    /// How long the way takes, in seconds.
    pub seconds: f64,
}

impl Profile {
    /// The same rate always.
    pub const fn constant(rate: f64) -> Self {
        Self { from: rate, to: rate, seconds: 1.0 }
    }

    /// Whether the rate changes, so that there is no steady state to speak of.
    pub fn is_ramp(&self) -> bool {
        (self.from - self.to).abs() > f64::EPSILON
    }

    /// When that many arrivals are to be expected: the integral of the rate, solved for time.
    fn time_of(&self, expected: f64) -> f64 {
        let whole = f64::midpoint(self.from, self.to) * self.seconds;
        if !self.is_ramp() {
            return expected / self.from;
        }
        if expected >= whole {
            return self.seconds + (expected - whole) / self.to;
        }
        let bend = (self.to - self.from) / self.seconds;
        let root = (self.from * self.from + 2.0 * bend * expected).max(0.0).sqrt();
        2.0 * expected / (self.from + root)
    }
}

/// Times of arrival in nanoseconds, without end.
#[derive(Clone, Debug)]
pub struct Arrivals {
    draws: Draws,
    process: Process,
    profile: Profile,
    expected: f64,
}

impl Arrivals {
    /// The times that belong to a seed. Rates of the profile are above zero at its end.
    pub fn new(seed: u64, process: Process, profile: Profile) -> Self {
        Self { draws: Draws::of_part(seed, "arrivals"), process, profile, expected: 0.0 }
    }
}

impl Iterator for Arrivals {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        // Drawn at a rate of one, then stretched to the rate of the moment: bursts stay bursts.
        self.expected += match self.process {
            Process::Poisson => self.draws.exponential(),
            Process::Constant => 1.0,
            Process::Gamma(cv) => self.draws.gamma(1.0 / (cv * cv)) * cv * cv,
        };
        Some((self.profile.time_of(self.expected) * 1e9) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(process: Process, rate: f64) -> Vec<f64> {
        let times = Arrivals::new(3, process, Profile::constant(rate)).take(40_000);
        let mut last = 0;
        times.map(|at| (at - std::mem::replace(&mut last, at)) as f64 / 1e9).collect()
    }

    #[test]
    fn gaps_have_their_mean_and_variation() {
        let check = |process: Process, rate: f64, cv: f64| {
            let gaps = gaps(process, rate);
            let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
            let squares = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>();
            let got = (squares / gaps.len() as f64).sqrt() / mean;
            assert!((mean * rate - 1.0).abs() < 0.04, "{process:?} {mean}");
            assert!((got - cv).abs() < 0.08 * cv.max(0.01), "{process:?} {got}");
        };
        check(Process::Poisson, 10.0, 1.0);
        check(Process::Gamma(2.0), 5.0, 2.0);
        check(Process::Gamma(0.5), 2_000.0, 0.5);
        check(Process::Constant, 100.0, 0.0);
    }

    #[test]
    fn a_ramp_sends_what_its_area_says() {
        let check = |from: f64, to: f64, before: f64, expect: f64| {
            let profile = Profile { from, to, seconds: 100.0 };
            let times = Arrivals::new(1, Process::Constant, profile);
            let count = times.take_while(|at| (*at as f64) < before * 1e9).count();
            assert!((count as f64 - expect).abs() <= 1.0, "{from} to {to}: {count}");
        };
        check(1.0, 21.0, 100.0, 1_100.0);
        check(1.0, 21.0, 50.0, 300.0);
        check(20.0, 2.0, 100.0, 1_100.0);
        check(0.0, 10.0, 100.0, 500.0);
        check(1.0, 21.0, 110.0, 1_310.0);
        check(8.0, 8.0, 100.0, 800.0);
    }

    #[test]
    fn processes_are_read() {
        let check = |text: &str, expect: Option<Process>| {
            assert_eq!(text.parse::<Process>().ok(), expect, "{text}");
        };
        check("poisson", Some(Process::Poisson));
        check("constant", Some(Process::Constant));
        check("gamma:2.5", Some(Process::Gamma(2.5)));
        check("gamma:0", None);
        check("gamma:NaN", None);
        check("uniform", None);
    }
}
