//! When a replica that has no room says to come back: `Retry-After` in seconds or as a date, or
//! milliseconds in `retry-after-ms`, as OpenAI's API and other gateways say it. What makes no sense says
//! nothing.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, header};
use pilotage_core::Span;

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// How long from now on, at this moment of the wall clock. A date is measured by the replica's own clock
/// where it tells that.
pub(super) fn retry_after(headers: &HeaderMap, unix_ms: u64) -> Option<Span> {
    let text = |name: &HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    if let Some(ms) = text(&RETRY_AFTER_MS).and_then(|ms| ms.parse::<f64>().ok()) {
        return seconds(ms / 1000.0);
    }
    let said = text(&header::RETRY_AFTER)?;
    if let Ok(secs) = said.parse::<f64>() {
        return seconds(secs);
    }
    let date = |text: &str| httpdate::parse_http_date(text).ok();
    let now = text(&header::DATE).and_then(date);
    let now = now.unwrap_or_else(|| wall(unix_ms));
    let left = date(said)?.duration_since(now).unwrap_or_default();
    seconds(left.as_secs_f64())
}

fn wall(unix_ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(unix_ms)
}

fn seconds(seconds: f64) -> Option<Span> {
    /// More than anybody is believed, and less than overflows.
    const MOST: f64 = 1e9;
    let sensible = (0.0..f64::INFINITY).contains(&seconds);
    sensible.then(|| Span::from_nanos((seconds.min(MOST) * 1e9) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_dates_and_milliseconds_are_read() {
        // Sun, 06 Nov 1994 08:49:37 GMT.
        let now_ms = 784_111_777_000;
        let check = |headers: &[(&str, &str)], expect_ms: Option<u64>| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.insert(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
            }
            assert_eq!(retry_after(&map, now_ms).map(Span::as_millis), expect_ms, "{headers:?}");
        };
        check(&[], None);
        check(&[("retry-after", "30")], Some(30_000));
        check(&[("retry-after", " 0 ")], Some(0));
        check(&[("retry-after", "1.5")], Some(1500));
        check(&[("retry-after", "30"), ("retry-after-ms", "1200")], Some(1200));
        check(&[("retry-after", "30"), ("retry-after-ms", "soon")], Some(30_000));
        check(&[("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT")], Some(60_000));
        check(&[("retry-after", "Sunday, 06-Nov-94 08:49:47 GMT")], Some(10_000));
        check(&[("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT")], Some(0));
        let skewed = ("date", "Sun, 06 Nov 1994 09:00:00 GMT");
        check(&[("retry-after", "Sun, 06 Nov 1994 09:00:05 GMT"), skewed], Some(5000));
        for nonsense in ["-1", "NaN", "inf", "later", "", "99 bottles"] {
            check(&[("retry-after", nonsense)], None);
        }
        check(&[("retry-after", "99999999999999999999")], Some(1_000_000_000_000));
    }
}
