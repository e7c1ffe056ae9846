//! Calendar windows in UTC, from milliseconds since 1970: hours, days and months, for budgets.

use serde::{Deserialize, Serialize};

use crate::Span;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// A stretch of the calendar, in UTC.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Window {
    /// From the full hour.
    Hour,
    /// From midnight.
    Day,
    /// From the first of the month.
    Month,
}

impl Window {
    /// The name used in manifests, errors and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// The number of the window that a point of time lies in: larger is later.
    pub fn number(self, unix_ms: u64) -> u64 {
        match self {
            Self::Hour => unix_ms / HOUR_MS,
            Self::Day => unix_ms / DAY_MS,
            Self::Month => month(unix_ms / DAY_MS).0,
        }
    }

    /// How long until the next window begins.
    pub fn left(self, unix_ms: u64) -> Span {
        let end = match self {
            Self::Hour => (unix_ms / HOUR_MS + 1).saturating_mul(HOUR_MS),
            Self::Day => (unix_ms / DAY_MS + 1).saturating_mul(DAY_MS),
            Self::Month => {
                let day = unix_ms / DAY_MS;
                let (number, of_month) = month(day);
                (day - of_month + length(number)).saturating_mul(DAY_MS)
            }
        };
        Span::from_millis(end.saturating_sub(unix_ms))
    }
}

/// Days of a month, by its number since January 1970.
const fn length(number: u64) -> u64 {
    let year = 1970 + number / 12;
    match number % 12 {
        1 if is_leap(year) => 29,
        1 => 28,
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// The month that a day since 1970 lies in, and the day within it from zero. The Gregorian calendar
/// repeats after 400 years, which are 146 097 days.
fn month(day: u64) -> (u64, u64) {
    let mut left = day % 146_097;
    let mut number = day / 146_097 * 4800;
    while left >= length(number) {
        left -= length(number);
        number += 1;
    }
    (number, left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_begin_where_the_calendar_says() {
        let check = |unix_s: u64, month: u64, left_days: u64| {
            assert_eq!(Window::Month.number(unix_s * 1000), month, "{unix_s}");
            let left = Window::Month.left(unix_s * 1000).as_millis();
            assert_eq!(left.div_ceil(DAY_MS), left_days, "{unix_s}");
        };
        check(0, 0, 31);
        check(951_782_400, 361, 1); // 2000-02-29
        check(1_709_164_800, 649, 1); // 2024-02-29
        check(1_735_689_599, 659, 1); // 2024-12-31 23:59:59
        check(1_735_689_600, 660, 31); // 2025-01-01
        check(4_107_542_400, 1562, 31); // 2100-03-01: no leap day that year
        assert_eq!(Window::Month.left(1_735_689_599_000), Span::from_secs(1));
        assert_eq!(Window::Day.left(1_735_689_599_000), Span::from_secs(1));
        assert_eq!(Window::Hour.left(1_735_689_600_000), Span::from_secs(3600));
        assert_eq!(Window::Hour.number(7_200_000), 2);
        assert!(Window::Month.number(u64::MAX) > 0, "the end of time is a time");
    }
}
