//! Parameters of questions: times, ranges, names, each with its limit.

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use pilotage_shell::date;

use super::answer::Wrong;
use crate::store::Range;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// The longest range.
const DAYS_MAX: u64 = 3660;

/// The range when nothing is said.
const DAYS_USUAL: u64 = 30;

/// Parameters of a query, or an error that says which ones there are.
pub(super) struct Ask<T>(pub(super) T);

impl<T, S> FromRequestParts<S> for Ask<T>
where
    T: serde::de::DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Wrong;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Wrong> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(found)) => Ok(Self(found)),
            Err(QueryRejection::FailedToDeserializeQueryString(error)) => {
                Err(Wrong::question(error.body_text()))
            }
            Err(error) => Err(Wrong::question(error.body_text())),
        }
    }
}

/// A stretch of time in milliseconds, without its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Span {
    pub(super) from_ms: u64,
    pub(super) until_ms: u64,
}

impl Span {
    /// The span of these parameters: the last 30 days when there are none.
    pub(super) fn of(now_ms: u64, from: Option<&str>, to: Option<&str>) -> Result<Self, Wrong> {
        let until_ms = match to {
            Some(text) => moment(now_ms, "to", text)?,
            // What ends in this very millisecond is in it.
            None => now_ms + 1,
        };
        let from_ms = match from {
            Some(text) => moment(now_ms, "from", text)?,
            None => until_ms.saturating_sub(DAYS_USUAL * DAY_MS),
        };
        if from_ms >= until_ms {
            return Err(Wrong::question(
                "`from` is not before `to`; `to` itself is not part of the range",
            ));
        }
        if until_ms - from_ms > DAYS_MAX * DAY_MS {
            return Err(Wrong::question(format!("ask for at most {DAYS_MAX} days")));
        }
        Ok(Self { from_ms, until_ms })
    }

    /// Whole hours that hold it.
    pub(super) fn hours(self) -> Range {
        Range { from: self.from_ms / HOUR_MS, until: self.until_ms.div_ceil(HOUR_MS) }
    }
}

/// When a range of hours begins and ends, as text.
pub(super) fn ends(range: Range) -> (String, String) {
    (date::utc(range.from * 3600), date::utc(range.until * 3600))
}

/// Digits of milliseconds since 1970, as programs write a moment.
const MS_DIGITS_MIN: usize = 12;

/// `2027-01-31`, `2027-01-31T12:00:00Z`, milliseconds since 1970, `now`, or so long ago: `90m`, `24h`, `7d`.
fn moment(now_ms: u64, name: &str, text: &str) -> Result<u64, Wrong> {
    let wrong = || {
        let shown: String = text.chars().take(40).collect();
        Wrong::question(format!(
            "`{name}` is `{shown}`; write a date as 2027-01-31, a time as 2027-01-31T12:00:00Z, or how long ago as 24h or 7d"
        ))
    };
    if text == "now" {
        return Ok(now_ms + 1);
    }
    if text.len() >= MS_DIGITS_MIN
        && let Ok(unix_ms) = text.parse::<u64>()
    {
        return Ok(unix_ms);
    }
    if let Some((number, unit)) =
        text.char_indices().last().and_then(|(at, unit)| Some((text.get(..at)?, unit)))
        && let Ok(number) = number.parse::<u64>()
    {
        let ms = match unit {
            'm' => 60_000,
            'h' => HOUR_MS,
            'd' => DAY_MS,
            _ => return Err(wrong()),
        };
        return Ok(now_ms.saturating_sub(number.saturating_mul(ms)));
    }
    date_ms(text).ok_or_else(wrong)
}

fn date_ms(text: &str) -> Option<u64> {
    let (day, time) = match text.split_once('T') {
        Some((day, time)) => (day, time.strip_suffix('Z')?),
        None => (text, "00:00:00"),
    };
    let numbers = |text: &str, by: char| -> Option<[u64; 3]> {
        let parts = text.split(by).map(|part| part.parse().ok()).collect::<Option<Vec<u64>>>()?;
        parts.try_into().ok()
    };
    let ([year, month, day], [hour, minute, second]) = (numbers(day, '-')?, numbers(time, ':')?);
    if !(1970..=9999).contains(&year) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // The day is the one among those of the year that is written so: there is no other way to be right about
    // months and leap years than the one function that knows them.
    let first = (year - 1970) * 365;
    let days = (first..first + 2500).find(|days| date::civil(*days) == (year, month, day))?;
    Some(days * DAY_MS + hour * HOUR_MS + minute * 60_000 + second * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates_times_or_ages() {
        let now = 1_800_000_000_000;
        let check = |text: &str, expect: Option<u64>| {
            assert_eq!(moment(now, "from", text).ok(), expect, "{text}");
        };
        check("1970-01-01", Some(0));
        check("2024-02-29T01:02:03Z", Some(1_709_168_523_000));
        check("9999-12-31", Some(253_402_214_400_000));
        check("2023-02-29", None);
        check("2027-13-01", None);
        check("2h", Some(now - 2 * HOUR_MS));
        check("7d", Some(now - 7 * DAY_MS));
        check("7y", None);
        check("", None);
        check("ä", None);
        check("2024-02-29T01:02:03+01:00", None);
        check("99999999999999999999d", None);
        check("9999999999999999999d", Some(0));
    }

    #[test]
    fn spans_are_bounded() {
        assert!(Span::of(1 << 40, Some("7d"), Some("8d")).is_err());
        assert!(Span::of(1 << 42, Some("1970-01-01"), None).is_err());
        let span = Span::of(10 * DAY_MS, None, None).unwrap();
        assert_eq!(span.hours(), Range { from: 0, until: 241 });
    }
}
