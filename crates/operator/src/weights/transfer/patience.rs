//! When to try again, and when to give up.

use std::time::Duration;

use http::{HeaderMap, header};

use super::ask::Cut;
use crate::weights::Progress;

/// Attempts in a row that bring nothing.
const ATTEMPTS_MAX: u32 = 5;

/// The longest that a server may ask to be left alone.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// How often nothing came.
#[derive(Default)]
pub(super) struct Patience {
    idle: u32,
}

impl Patience {
    /// Waits before another attempt.
    ///
    /// # Errors
    /// There shall be none.
    pub(super) async fn wait(
        &mut self,
        cut: Cut,
        brought: bool,
        progress: &dyn Progress,
    ) -> Result<(), Cut> {
        let (reason, after) = match cut {
            Cut::Transient(reason, after) => (reason, after),
            cut => return Err(cut),
        };
        self.idle = if brought { 0 } else { self.idle + 1 };
        if self.idle >= ATTEMPTS_MAX {
            return Err(Cut::Transient(reason, after));
        }
        if let Some(after) = after.filter(|after| *after > WAIT_MAX) {
            let seconds = after.as_secs();
            return Err(Cut::Final(format!("{reason} and asks to be left alone for {seconds} s")));
        }
        progress.note(&format!("{reason}; trying again"));
        let own = Duration::from_millis(200 << self.idle);
        tokio::time::sleep(after.map_or(own, |after| after.max(own))).await;
        Ok(())
    }
}

/// How long the server asks to be left alone: seconds, or a date beside the server's own.
pub(super) fn after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    let after = text(header::RETRY_AFTER)?;
    if let Ok(seconds) = after.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let (then, now) = (httpdate::parse_http_date(after).ok()?, text(header::DATE)?);
    Some(then.duration_since(httpdate::parse_http_date(now).ok()?).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_say_when_to_come_again() {
        let check = |after_text: &str, date: &str, expect: Option<u64>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, after_text.parse().unwrap());
            headers.insert(header::DATE, date.parse().unwrap());
            assert_eq!(after(&headers), expect.map(Duration::from_secs), "{after_text}");
        };
        let now = "Sun, 06 Nov 1994 08:49:37 GMT";
        check("7", now, Some(7));
        check("Sun, 06 Nov 1994 08:50:37 GMT", now, Some(60));
        check("Sun, 06 Nov 1994 08:00:00 GMT", now, Some(0));
        check("Sun, 06 Nov 1994 08:50:37 GMT", "x", None);
        check("soon", now, None);
        check("-1", now, None);
    }
}
