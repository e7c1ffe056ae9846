//! How many tokens a prompt or an answer has: always the same, within a range, skewed, or as seen.

use std::fmt;

use pilotage_chance::Draws;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{WorkloadError, positive, within};

/// Most tokens of a prompt or an answer.
pub const LENGTH_MAX: u32 = 10_000_000;

/// A distribution of lengths. In a file, a bare number is always that length.
#[derive(Clone, Debug, PartialEq)]
pub enum Length {
    /// Always the same.
    Fixed(u32),
    /// Each of a range as likely as the other.
    Uniform(Range),
    /// Mostly short, sometimes very long, as real traffic is.
    Lognormal(Lognormal),
    /// One of a list.
    Empirical(Empirical),
}

/// Two lengths and everything between.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Range {
    /// The shortest.
    pub min: u32,
    /// The longest.
    pub max: u32,
}

/// Lengths whose logarithm is normally distributed.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Lognormal {
    /// Half of all lengths are below this one.
    pub median: f64,
    /// The logarithm's standard deviation: 0.5 is mild, 1.5 has a very long tail.
    pub sigma: f64,
    /// The longest; longer ones are cut.
    #[serde(default = "longest")]
    pub max: u32,
}

/// Lengths that were seen.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Empirical {
    /// The lengths.
    pub lengths: Vec<u32>,
    /// How often each was seen; without it, all equally often.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<f64>,
}

impl Length {
    /// A length by chance; never zero.
    pub fn draw(&self, draws: &mut Draws) -> u32 {
        let length = match self {
            Self::Fixed(length) => *length,
            Self::Uniform(range) => draws.within(range.min, range.max),
            Self::Lognormal(lognormal) => lognormal.draw(draws),
            Self::Empirical(empirical) => empirical.draw(draws),
        };
        length.clamp(1, LENGTH_MAX)
    }

    pub(super) fn check(&self) -> Result<(), WorkloadError> {
        let length = |value: u32| within("length", value.into(), 1.0, LENGTH_MAX.into());
        match self {
            Self::Fixed(value) => length(*value),
            Self::Uniform(Range { min, max }) => {
                length(*min)?;
                within("max", f64::from(*max), f64::from(*min), LENGTH_MAX.into())
            }
            Self::Lognormal(Lognormal { median, sigma, max }) => {
                within("median", *median, 1.0, LENGTH_MAX.into())?;
                within("sigma", *sigma, 0.0, 10.0)?;
                length(*max)
            }
            Self::Empirical(empirical) => empirical.check(),
        }
    }
}

impl Lognormal {
    fn draw(self, draws: &mut Draws) -> u32 {
        let length = self.median * (self.sigma * draws.normal()).exp();
        (length.round() as u32).min(self.max)
    }
}

impl Empirical {
    fn draw(&self, draws: &mut Draws) -> u32 {
        let last = u32::try_from(self.lengths.len()).unwrap_or(u32::MAX).saturating_sub(1);
        let at = match self.weights.is_empty() {
            true => draws.within(0, last) as usize,
            false => draws.weighted(&self.weights),
        };
        self.lengths.get(at).copied().unwrap_or(1)
    }

    fn check(&self) -> Result<(), WorkloadError> {
        if self.lengths.is_empty() {
            return Err(WorkloadError::Empty { field: "lengths" });
        }
        for length in &self.lengths {
            within("lengths", (*length).into(), 1.0, LENGTH_MAX.into())?;
        }
        if self.weights.is_empty() {
            return Ok(());
        }
        if self.weights.len() != self.lengths.len() {
            let value = self.weights.len() as f64;
            let expected = format!("as many as `lengths`, {}", self.lengths.len());
            return Err(WorkloadError::Number { field: "weights", value, expected });
        }
        for weight in &self.weights {
            within("weights", *weight, 0.0, f64::MAX)?;
        }
        positive("weights", self.weights.iter().sum(), f64::MAX)
    }
}

fn longest() -> u32 {
    LENGTH_MAX
}

/// All forms but the bare number.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
enum Tagged {
    Fixed(u32),
    Uniform(Range),
    Lognormal(Lognormal),
    Empirical(Empirical),
}

impl Serialize for Length {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fixed(length) => serializer.serialize_u32(*length),
            Self::Uniform(range) => Tagged::Uniform(*range).serialize(serializer),
            Self::Lognormal(lognormal) => Tagged::Lognormal(*lognormal).serialize(serializer),
            Self::Empirical(seen) => Tagged::Empirical(seen.clone()).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LengthVisitor)
    }
}

struct LengthVisitor;

impl<'de> Visitor<'de> for LengthVisitor {
    type Value = Length;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a number of tokens, or one of `uniform`, `lognormal` and `empirical`")
    }

    fn visit_u64<E: de::Error>(self, length: u64) -> Result<Length, E> {
        let outside = |_| E::invalid_value(de::Unexpected::Unsigned(length), &self);
        u32::try_from(length).map(Length::Fixed).map_err(outside)
    }

    fn visit_i64<E: de::Error>(self, length: i64) -> Result<Length, E> {
        let outside = |_| E::invalid_value(de::Unexpected::Signed(length), &self);
        u32::try_from(length).map(Length::Fixed).map_err(outside)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Length, A::Error> {
        let tagged = Tagged::deserialize(MapAccessDeserializer::new(map))?;
        Ok(match tagged {
            Tagged::Fixed(length) => Length::Fixed(length),
            Tagged::Uniform(range) => Length::Uniform(range),
            Tagged::Lognormal(lognormal) => Length::Lognormal(lognormal),
            Tagged::Empirical(empirical) => Length::Empirical(empirical),
        })
    }
}
