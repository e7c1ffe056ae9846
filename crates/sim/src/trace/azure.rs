//! Azure's public traces: a date and time, and two lengths.

use super::csv::{Record, records};
use super::{Row, TraceError};

const COLUMNS: [&str; 3] = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"];

/// Seconds count from the trace's earliest row.
pub(super) fn rows(text: &str) -> Result<Vec<Row>, TraceError> {
    let records = records(text, COLUMNS, COLUMNS.len())?;
    let mut rows: Vec<Row> = records.iter().map(row).collect::<Result<_, _>>()?;
    let origin = rows.iter().map(|row| row.at).fold(f64::INFINITY, f64::min);
    rows.iter_mut().for_each(|row| row.at -= origin);
    Ok(rows)
}

fn row(record: &Record<'_, 3>) -> Result<Row, TraceError> {
    let at = moment(record.text(0))
        .ok_or_else(|| record.wrong(0, "a time such as 2023-11-16 18:15:46.6805900"))?;
    Ok(Row { at, input: record.tokens(1)?, output: record.tokens(2)?, ..Row::default() })
}

/// Seconds since the year 2000 of `YYYY-MM-DD HH:MM:SS.fraction`, which may end as UTC does.
fn moment(text: &str) -> Option<f64> {
    let text = text.trim_end_matches("+00:00").trim_end_matches('Z');
    let (date, clock) = text.split_once([' ', 'T'])?;
    let mut date = date.splitn(3, '-').map(|part| whole(part, 1, 9999));
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut clock = clock.splitn(3, ':');
    let hour = whole(clock.next()?, 0, 23)?;
    let minute = whole(clock.next()?, 0, 59)?;
    let last = clock.next()?;
    let (second, fraction) = last.split_once('.').unwrap_or((last, "0"));
    let second = whole(second, 0, 60)?;
    let digits = fraction.bytes().all(|byte| byte.is_ascii_digit()) && !fraction.is_empty();
    let fraction = digits.then(|| format!("0.{fraction}").parse::<f64>().ok()).flatten()?;
    if year < 2000 || month > 12 || day > 31 {
        return None;
    }
    let seconds = ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Some(seconds as f64 + fraction)
}

fn whole(text: &str, least: i64, most: i64) -> Option<i64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|number| (least..=most).contains(number))
}

/// Days since the first of January 2000 in the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March have their leap day at the end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let before = |year: i64| year * 365 + year / 4 - year / 100 + year / 400;
    before(year) - before(1999) + (month * 153 + 2) / 5 - 306 + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read() {
        let check = |text: &str, expect: Option<f64>| assert_eq!(moment(text), expect, "{text}");
        check("2000-01-01 00:00:00", Some(0.0));
        check("2000-02-29 00:00:00.5", Some(59.0 * 86_400.0 + 0.5));
        check("2000-03-01 00:00:00", Some(60.0 * 86_400.0));
        check("2001-01-01T00:00:01Z", Some(366.0 * 86_400.0 + 1.0));
        check("2023-11-16 18:15:46.25", Some(753_473_746.25));
        check("2024-05-10 00:00:00.009930+00:00", Some(768_614_400.009_93));
        check("2023-13-16 18:15:46", None);
        check("2023-11-16 24:15:46", None);
        check("2023-11-16", None);
        check("2023-11-16 18:15", None);
        check("2023-11-16 18:15:46.x", None);
        check("yesterday at noon", None);
        check("", None);
    }
}
