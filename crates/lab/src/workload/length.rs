//! How many tokens: a number, or a distribution of numbers.

use std::fmt;
use std::str::FromStr;

use pilotage_chance::Draws;
use thiserror::Error;

/// Tokens that one length has at most.
pub const TOKENS_MAX: u32 = 2_000_000;

/// A distribution of lengths in tokens. Draws lie between one and [`TOKENS_MAX`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    /// Always the same.
    Fixed(u32),
    /// Any between these two, with equal chance.
    Uniform(u32, u32),
    /// Normal, with that mean and deviation.
    Normal(f64, f64),
    /// Log-normal, with that median and the deviation of its logarithm: many short, few very long.
    LogNormal(f64, f64),
    /// Exponential, with that mean.
    Exponential(f64),
}

/// Why a text is no length.
#[derive(Debug, Error, PartialEq)]
#[error(
    "`{0}` is no length: use a number of tokens, uniform:LEAST:MOST, normal:MEAN:DEVIATION, \
     lognormal:MEDIAN:SIGMA or exponential:MEAN"
)]
pub struct LengthError(String);

impl Length {
    /// One length.
    pub fn draw(&self, draws: &mut Draws) -> u32 {
        let drawn = match *self {
            Self::Fixed(tokens) => return tokens,
            Self::Uniform(least, most) => {
                let choices = most.saturating_sub(least) as usize + 1;
                return least + draws.below(choices) as u32;
            }
            Self::Normal(mean, deviation) => mean + deviation * draws.normal(),
            Self::LogNormal(median, sigma) => median * (sigma * draws.normal()).exp(),
            Self::Exponential(mean) => mean * draws.exponential(),
        };
        // Converting saturates, so that what is no number becomes one.
        (drawn.round() as u32).clamp(1, TOKENS_MAX)
    }
}

impl FromStr for Length {
    type Err = LengthError;

    fn from_str(text: &str) -> Result<Self, LengthError> {
        let wrong = || LengthError(text.to_owned());
        let parts: Vec<&str> = text.split(':').collect();
        let whole = |part: &str| {
            part.parse().ok().filter(|tokens| (1..=TOKENS_MAX).contains(tokens)).ok_or_else(wrong)
        };
        let number = |part: &str| {
            let number = part.parse::<f64>().ok();
            number.filter(|number| (0.0..=f64::from(TOKENS_MAX)).contains(number)).ok_or_else(wrong)
        };
        match parts[..] {
            ["uniform", least, most] => {
                let (least, most) = (whole(least)?, whole(most)?);
                if least > most { Err(wrong()) } else { Ok(Self::Uniform(least, most)) }
            }
            ["normal", mean, deviation] => Ok(Self::Normal(number(mean)?, number(deviation)?)),
            ["lognormal", median, sigma] => Ok(Self::LogNormal(number(median)?, number(sigma)?)),
            ["exponential", mean] => Ok(Self::Exponential(number(mean)?)),
            [tokens] => Ok(Self::Fixed(whole(tokens)?)),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(tokens) => write!(f, "{tokens}"),
            Self::Uniform(least, most) => write!(f, "uniform:{least}:{most}"),
            Self::Normal(mean, deviation) => write!(f, "normal:{mean}:{deviation}"),
            Self::LogNormal(median, sigma) => write!(f, "lognormal:{median}:{sigma}"),
            Self::Exponential(mean) => write!(f, "exponential:{mean}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_and_written() {
        let check = |text: &str, expect: Option<Length>| {
            let read = text.parse::<Length>().ok();
            assert_eq!(read, expect, "{text}");
            assert!(read.is_none_or(|length| length.to_string() == text), "{text}");
        };
        check("128", Some(Length::Fixed(128)));
        check("uniform:1:9", Some(Length::Uniform(1, 9)));
        check("normal:512:64", Some(Length::Normal(512.0, 64.0)));
        check("lognormal:200:0.8", Some(Length::LogNormal(200.0, 0.8)));
        check("exponential:40", Some(Length::Exponential(40.0)));
        check("0", None);
        check("uniform:9:1", None);
        check("lognormal:200", None);
        check("normal:NaN:1", None);
        check("many", None);
    }

    #[test]
    fn draws_have_their_middle() {
        let check = |length: Length, median: f64| {
            let mut draws = Draws::of_part(1, "test");
            let mut drawn: Vec<u32> = (0..10_001).map(|_| length.draw(&mut draws)).collect();
            drawn.sort_unstable();
            let got = f64::from(drawn[5_000]);
            assert!((got / median - 1.0).abs() < 0.05, "{length}: {got}");
            assert!(drawn[0] >= 1);
        };
        check(Length::Fixed(7), 7.0);
        check(Length::Uniform(100, 200), 150.0);
        check(Length::Normal(500.0, 2_000.0), 500.0);
        check(Length::LogNormal(300.0, 1.0), 300.0);
        check(Length::Exponential(100.0), 100.0 * std::f64::consts::LN_2);
    }
}
