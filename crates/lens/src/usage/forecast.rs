//! Where spending is heading: what a window will have cost at its end, and when its budget is spent.

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

/// A forecast of spending, in millionths of the currency's unit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Forecast {
    /// At the window's end, when it goes on as in the window so far.
    pub straight: u64,
    /// At the window's end, when each weekday goes on as that weekday was. None before a whole week is known.
    pub by_weekday: Option<u64>,
    /// When the limit is reached, in milliseconds since 1970: by weekdays where they are known. None where that is
    /// not within the window.
    pub exhausted_ms: Option<u64>,
}

/// Forecasts a window from `from_ms` to `until_ms` in which `spent` was spent by `now_ms`. `days` are sums of
/// whole days before today, oldest first: the last one is yesterday. No limit: zero is one.
pub fn forecast(
    now_ms: u64,
    window: (u64, u64),
    spent: u64,
    limit: Option<u64>,
    days: &[u64],
) -> Forecast {
    let (from_ms, until_ms) = window;
    let gone = now_ms.saturating_sub(from_ms).max(1);
    let left = until_ms.saturating_sub(now_ms);
    let straight = spent.saturating_add(scaled(spent, left, gone));
    let weekdays = weekdays(now_ms, days);
    let rate = |at_ms: u64| match &weekdays {
        Some(of_weekday) => (of_weekday[weekday(at_ms)], DAY_MS),
        None => (spent, gone),
    };
    let mut at_ms = now_ms;
    let mut sum = spent;
    let mut exhausted_ms = limit.filter(|limit| spent >= *limit).map(|_| now_ms);
    while at_ms < until_ms {
        // Rates hold until the next midnight, UTC as all days here.
        let next = ((at_ms / DAY_MS + 1) * DAY_MS).min(until_ms);
        let (amount, per) = rate(at_ms);
        let more = scaled(amount, next - at_ms, per);
        if let Some(limit) = limit
            && exhausted_ms.is_none()
            && sum.saturating_add(more) >= limit
        {
            exhausted_ms = Some(at_ms + scaled(per, limit - sum, amount.max(1)));
        }
        sum = sum.saturating_add(more);
        at_ms = next;
    }
    Forecast { straight, by_weekday: weekdays.map(|_| sum), exhausted_ms }
}

/// The mean of each weekday, where each has been seen.
fn weekdays(now_ms: u64, days: &[u64]) -> Option<[u64; 7]> {
    let mut sums = [(0u64, 0u64); 7];
    for (back, amount) in days.iter().rev().enumerate() {
        let ago = (back as u64 + 1) * DAY_MS;
        let (sum, count) = &mut sums[weekday(now_ms.checked_sub(ago)?)];
        (*sum, *count) = (sum.saturating_add(*amount), *count + 1);
    }
    let known = sums.iter().all(|(_, count)| *count > 0);
    known.then(|| sums.map(|(sum, count)| sum / count))
}

/// The day of the week, 0 to 6; 1970 began on day 0 of this count.
const fn weekday(unix_ms: u64) -> usize {
    (unix_ms / DAY_MS % 7) as usize
}

fn scaled(amount: u64, part: u64, of: u64) -> u64 {
    let exact = u128::from(amount) * u128::from(part) / u128::from(of.max(1));
    u64::try_from(exact).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 20 * DAY_MS + DAY_MS / 2;

    #[test]
    fn a_straight_line_until_weekdays_are_known() {
        let window = (20 * DAY_MS, 22 * DAY_MS);
        let got = forecast(NOON, window, 100, Some(300), &[1, 2, 3]);
        assert_eq!((got.straight, got.by_weekday), (400, None));
        // 200 more at 100 in half a day.
        assert_eq!(got.exhausted_ms, Some(NOON + DAY_MS));
        assert_eq!(forecast(NOON, window, 100, Some(401), &[]).exhausted_ms, None);
        assert_eq!(forecast(NOON, window, 100, Some(100), &[]).exhausted_ms, Some(NOON));
    }

    #[test]
    fn weekends_are_as_weekends_were() {
        // Day 20 is weekday 6; the days before it are weekdays 6, 0, 1, 2, 3, 4, 5.
        let days = [700, 0, 10, 20, 30, 40, 50];
        let window = (20 * DAY_MS, 23 * DAY_MS);
        let got = forecast(NOON, window, 100, Some(455), &days);
        // Half of a day as weekday 6, then weekdays 0 and 1.
        assert_eq!(got.by_weekday, Some(100 + 350 + 10));
        // 450 at the first midnight, nothing on the next day, and half of the last one's ten.
        assert_eq!(got.exhausted_ms, Some(22 * DAY_MS + DAY_MS / 2));
        assert_eq!(got.straight, 600);
    }
}
