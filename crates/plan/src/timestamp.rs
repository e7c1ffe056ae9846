//! A moment as RFC 3339 writes it (`2027-01-31T12:00:00Z`), so that a manifest can say from when and
//! until when something counts.
//!
//! The text is kept as it was written, so that a resource reads back as its owner knows it.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The `format` of moments in the schemas.
pub(crate) const FORMAT: &str = "date-time";

/// A moment from 1970 on, to the second.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp {
    unix_seconds: u64,
    text: String,
}

/// Why a text is not a moment.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum TimestampError {
    /// It is not of the form that RFC 3339 gives.
    #[error("this is not a date and time with its zone; write it as `2027-01-31T12:00:00Z`")]
    Form,
    /// There is no such day or time of day.
    #[error("there is no such day or time; write one that the calendar has, after 1970")]
    Range,
}

impl Timestamp {
    /// Seconds since 1970, UTC.
    pub const fn unix_seconds(&self) -> u64 {
        self.unix_seconds
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let mut rest = Rest(text.as_bytes());
        let days = date(&mut rest)?;
        rest.one_of(b"Tt")?;
        let second = time(&mut rest)?;
        let offset = zone(&mut rest)?;
        if !rest.0.is_empty() {
            return Err(TimestampError::Form);
        }
        let unix = days * 86_400 + second - offset;
        let unix_seconds = u64::try_from(unix).map_err(|_| TimestampError::Range)?;
        Ok(Self { unix_seconds, text: text.to_owned() })
    }
}

/// A moment as the API server of Kubernetes writes it, in UTC.
pub fn text(unix_seconds: u64) -> String {
    let (days, second) = (unix_seconds / 86_400, unix_seconds % 86_400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    // The inverse of `date`, by the same author (`civil_from_days`).
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let of_years = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * of_years + of_years / 4 - of_years / 100);
    let fifth = (5 * of_year + 2) / 153;
    let day = of_year - (153 * fifth + 2) / 5 + 1;
    let month = if fifth < 10 { fifth + 3 } else { fifth - 9 };
    let year = of_years + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Days since 1970 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms",
/// `days_from_civil`).
fn date(rest: &mut Rest<'_>) -> Result<i64, TimestampError> {
    let year = rest.digits(4)?;
    rest.one_of(b"-")?;
    let month = rest.digits(2)?;
    rest.one_of(b"-")?;
    let day = rest.digits(2)?;
    if !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) {
        return Err(TimestampError::Range);
    }
    let shifted = if month > 2 { year } else { year - 1 };
    let era = shifted.div_euclid(400);
    let of_era = shifted.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Ok(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

const fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Seconds of the day; a fraction is passed over, a leap second is the one after it.
fn time(rest: &mut Rest<'_>) -> Result<i64, TimestampError> {
    let hour = rest.digits(2)?;
    rest.one_of(b":")?;
    let minute = rest.digits(2)?;
    rest.one_of(b":")?;
    let second = rest.digits(2)?;
    if rest.one_of(b".").is_ok() {
        rest.digits(1)?;
        while rest.digits(1).is_ok() {}
    }
    if hour > 23 || minute > 59 || second > 60 {
        return Err(TimestampError::Range);
    }
    Ok(hour * 3600 + minute * 60 + second)
}

/// Seconds that the zone is ahead of UTC.
fn zone(rest: &mut Rest<'_>) -> Result<i64, TimestampError> {
    let sign = match rest.one_of(b"Zz+-")? {
        b'+' => 1,
        b'-' => -1,
        _ => return Ok(0),
    };
    let hours = rest.digits(2)?;
    rest.one_of(b":")?;
    let minutes = rest.digits(2)?;
    if hours > 23 || minutes > 59 {
        return Err(TimestampError::Range);
    }
    Ok(sign * (hours * 3600 + minutes * 60))
}

/// What is still to be read.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn digits(&mut self, count: usize) -> Result<i64, TimestampError> {
        let (digits, rest) = self.0.split_at_checked(count).ok_or(TimestampError::Form)?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return Err(TimestampError::Form);
        }
        self.0 = rest;
        Ok(digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0')))
    }

    fn one_of(&mut self, expected: &[u8]) -> Result<u8, TimestampError> {
        let (&first, rest) = self.0.split_first().ok_or(TimestampError::Form)?;
        if !expected.contains(&first) {
            return Err(TimestampError::Form);
        }
        self.0 = rest;
        Ok(first)
    }
}

impl TryFrom<String> for Timestamp {
    type Error = TimestampError;

    fn try_from(text: String) -> Result<Self, TimestampError> {
        text.parse()
    }
}

impl From<Timestamp> for String {
    fn from(timestamp: Timestamp) -> Self {
        timestamp.text
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl JsonSchema for Timestamp {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": FORMAT })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back(seconds in 0..253_402_300_800u64) {
            prop_assert_eq!(text(seconds).parse::<Timestamp>().unwrap().unix_seconds(), seconds);
        }
    }

    #[test]
    fn moments_as_date_prints_them() {
        let check = |text: &str, expect: Result<u64, TimestampError>| {
            let read = text.parse::<Timestamp>().map(|moment| moment.unix_seconds());
            assert_eq!(read, expect, "{text}");
        };
        check("1970-01-01T00:00:00Z", Ok(0));
        check("2000-02-29t00:00:00z", Ok(951_782_400));
        check("2026-11-21T03:25:23Z", Ok(1_795_231_523));
        check("2026-11-21T03:25:23.999Z", Ok(1_795_231_523));
        check("2026-11-21T04:55:23+01:30", Ok(1_795_231_523));
        check("2026-11-20T22:25:23-05:00", Ok(1_795_231_523));
        check("2016-12-31T23:59:60Z", Ok(1_483_228_800));
        check("9999-12-31T23:59:59Z", Ok(253_402_300_799));
        for bad in [
            "",
            "2027-01-31",
            "2027-01-31 12:00:00Z",
            "2027-01-31T12:00:00",
            "2027-01-31T12:00Z",
            "2027-01-31T12:00:00.Z",
            "2027-01-31T12:00:00Z ",
            "+027-01-31T12:00:00Z",
            "2027-01-31T12:00:00+1:00",
            "1800000000",
            "tomorrow",
        ] {
            check(bad, Err(TimestampError::Form));
        }
        for bad in [
            "2027-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2027-13-01T00:00:00Z",
            "2027-00-01T00:00:00Z",
            "2027-04-31T00:00:00Z",
            "2027-01-31T24:00:00Z",
            "2027-01-31T12:60:00Z",
            "2027-01-31T12:00:00+24:00",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+00:01",
        ] {
            check(bad, Err(TimestampError::Range));
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String, near in "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[+-][0-9]{2}:[0-9]{2})") {
            let _ = text.parse::<Timestamp>();
            if let Ok(read) = near.parse::<Timestamp>() {
                prop_assert_eq!(read.to_string(), near);
            }
        }
    }
}
