//! Dates for people and manifests: seconds since 1970 as RFC 3339 in UTC.

/// The last second of the year 9999, beyond which RFC 3339 has no dates.
const LAST: u64 = 253_402_300_799;

/// `2027-01-31T12:00:00Z`; the end of the year 9999 for everything after it.
pub fn utc(unix_seconds: u64) -> String {
    let seconds = unix_seconds.min(LAST);
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of the day number since 1970 (Howard Hinnant, "chrono-Compatible Low-Level
/// Date Algorithms", `civil_from_days`).
pub const fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + (month <= 2) as u64, month, day)
}

/// The number of a day since 1970 (the same source, `days_from_civil`); none before that, and where month or day are
/// none of a calendar.
pub fn day_number(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year > 9999 {
        return None;
    }
    let year = year.checked_sub((month <= 2).into())?;
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let of_era = year % 400 * 365 + year % 400 / 4 - year % 400 / 100 + of_year;
    (year / 400 * 146_097 + of_era).checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_as_the_calendar_has_them() {
        let check = |seconds: u64, expect: &str| assert_eq!(utc(seconds), expect);
        check(0, "1970-01-01T00:00:00Z");
        check(951_782_400, "2000-02-29T00:00:00Z");
        check(1_795_231_523, "2026-11-21T03:25:23Z");
        check(LAST, "9999-12-31T23:59:59Z");
        check(u64::MAX, "9999-12-31T23:59:59Z");
    }

    #[test]
    fn days_have_the_numbers_that_they_are_of() {
        for day in (0..=LAST / 86_400).step_by(17).chain([59, 11_016, 11_017, 19_782]) {
            let (year, month, of_month) = civil(day);
            assert_eq!(day_number(year, month, of_month), Some(day));
        }
        for (year, month, day) in [
            (1969, 12, 31),
            (0, 1, 1),
            (2000, 0, 1),
            (2000, 13, 1),
            (2000, 1, 32),
            (u64::MAX, 1, 1),
        ] {
            assert_eq!(day_number(year, month, day), None);
        }
    }
}
