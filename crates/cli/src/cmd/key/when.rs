//! Times as people type them: `90d` from now, or a moment with its zone.

use pilotage_plan::Timestamp;
use pilotage_shell::date;

use crate::exit::Wrong;

/// The last second that a date can be written of.
const LAST_S: u64 = 253_402_300_799;

/// The moment that was typed, as a manifest has it. It must be ahead.
pub(super) fn moment(now_s: u64, text: &str) -> anyhow::Result<String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        if at.unix_seconds() <= now_s {
            let message = format!("{text} is over, so that the key would never count");
            return Err(Wrong::new(message).hint("name a moment that is ahead, or `90d`").into());
        }
        return Ok(text.to_owned());
    }
    after(now_s, text).map(date::utc)
}

/// Seconds since 1970, that much time from now.
pub(super) fn after(now_s: u64, text: &str) -> anyhow::Result<u64> {
    let span = span_s(text).ok_or_else(|| {
        Wrong::new(format!("`{text}` is no time"))
            .hint("write a number and a unit (30m, 12h, 90d, 4w), or 2027-01-31T12:00:00Z")
    })?;
    Ok(now_s.saturating_add(span).min(LAST_S))
}

fn span_s(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return None,
    };
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    let number = number.parse::<u64>().ok().filter(|number| digits && *number > 0)?;
    number.checked_mul(seconds)
}

/// A span for people: its largest unit of which there are two, or else one.
pub(super) fn shown(seconds: u64) -> String {
    let units = [("d", 86_400), ("h", 3600), ("m", 60)];
    let unit = units.into_iter().find(|(_, length)| seconds >= 2 * length);
    unit.map_or_else(
        || format!("{seconds}s"),
        |(name, length)| format!("{}{name}", seconds / length),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_they_are_typed() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(moment(1_795_231_523, text).ok().as_deref(), expect, "{text}");
        };
        check("90d", Some("2027-02-19T03:25:23Z"));
        check("1w", Some("2026-11-28T03:25:23Z"));
        check("12h", Some("2026-11-21T15:25:23Z"));
        check("30m", Some("2026-11-21T03:55:23Z"));
        check("1s", Some("2026-11-21T03:25:24Z"));
        check("9999999999w", Some("9999-12-31T23:59:59Z"));
        check("2027-01-31T12:00:00+01:00", Some("2027-01-31T12:00:00+01:00"));
        for bad in [
            "",
            "d",
            "90",
            "0d",
            "-1d",
            "+1d",
            "1.5d",
            "90 d",
            "90D",
            "1y",
            "é",
            "99999999999999999999d",
            "18446744073709551615w",
            "tomorrow",
            "2027-01-31",
            "2026-11-21T03:25:23Z",
            "2020-01-01T00:00:00Z",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn what_is_made_for_manifests_reads_back() {
        for seconds in [0, 1, 951_782_399, 951_782_400, 1_795_231_523, 4_107_542_399, LAST_S] {
            let read = date::utc(seconds).parse::<Timestamp>().unwrap();
            assert_eq!(read.unix_seconds(), seconds);
        }
    }

    #[test]
    fn spans_are_short() {
        let check = |seconds, expect: &str| assert_eq!(shown(seconds), expect);
        check(0, "0s");
        check(119, "119s");
        check(120, "2m");
        check(7200, "2h");
        check(90 * 86_400, "90d");
    }
}
