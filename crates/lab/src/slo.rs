//! What a good answer is: limits on its times, as the one who waits for it set them.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::record::Sample;

/// Limits on the times of a request, in milliseconds. All those set must hold.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Slo {
    /// From when it should have been sent to the first token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft: Option<f64>,
    /// For each token after the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tpot: Option<f64>,
    /// From when it should have been sent to the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub e2e: Option<f64>,
}

/// Why a text is no objective.
#[derive(Debug, Error, PartialEq)]
#[error("`{0}` is no objective: write ttft=500ms,tpot=50ms,e2e=10s, or some of them")]
pub struct SloError(String);

impl Slo {
    /// Whether a request that was answered holds it. One without tokens cannot miss a limit on them.
    pub fn holds(&self, sample: &Sample) -> bool {
        let within = |limit: Option<f64>, time: Option<f64>| {
            limit.zip(time).is_none_or(|(limit, time)| time * 1e3 <= limit)
        };
        within(self.ttft, sample.ttft())
            && within(self.tpot, sample.tpot())
            && within(self.e2e, Some(sample.e2e()))
    }
}

impl FromStr for Slo {
    type Err = SloError;

    fn from_str(text: &str) -> Result<Self, SloError> {
        let wrong = || SloError(text.to_owned());
        let mut slo = Self::default();
        for part in text.split(',') {
            let (name, limit) = part.trim().split_once('=').ok_or_else(wrong)?;
            let limit = Some(millis(limit).ok_or_else(wrong)?);
            match name {
                "ttft" => slo.ttft = limit,
                "tpot" => slo.tpot = limit,
                "e2e" | "e2el" => slo.e2e = limit,
                _ => return Err(wrong()),
            }
        }
        Ok(slo)
    }
}

/// Milliseconds of `500ms`, `1.5s`, `200us` or `2m`.
pub fn millis(text: &str) -> Option<f64> {
    let unit = text.trim_start_matches(|char: char| char.is_ascii_digit() || char == '.');
    let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
    let factor = match unit {
        "us" | "µs" => 1e-3,
        "ms" => 1.0,
        "s" => 1e3,
        "m" | "min" => 60e3,
        "h" => 3_600e3,
        _ => return None,
    };
    Some(number * factor).filter(|millis| millis.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::answered;

    #[test]
    fn texts_are_read() {
        let check = |text: &str, expect: Option<(Option<f64>, Option<f64>, Option<f64>)>| {
            let read = text.parse::<Slo>().ok().map(|slo| (slo.ttft, slo.tpot, slo.e2e));
            assert_eq!(read, expect, "{text}");
        };
        check("ttft=500ms,tpot=50ms", Some((Some(500.0), Some(50.0), None)));
        check("e2e=1.5s", Some((None, None, Some(1_500.0))));
        check("ttft=200us, e2e=2m", Some((Some(0.2), None, Some(120e3))));
        check("ttft=500", None);
        check("speed=1s", None);
        check("", None);
    }

    #[test]
    fn every_limit_must_hold() {
        let slo: Slo = "ttft=20ms,tpot=10ms,e2e=110ms".parse().unwrap();
        let check = |first: u64, end: u64, expect: bool| {
            assert_eq!(slo.holds(&answered(0, first, end)), expect, "{first} {end}");
        };
        check(20, 110, true);
        check(21, 100, false);
        check(10, 101, false);
        check(20, 111, false);
        let whole = Sample { first: None, ..answered(0, 1, 100) };
        assert!(slo.holds(&whole));
    }
}
