//! The one clock. Decisions use nanoseconds since the process started, which never go back;
//! wall-clock time is for records that people read.

#![expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A monotonic clock with an origin. Copies share the origin.
///
/// Built on Tokio's clock, so that a test with paused time moves it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that starts at zero now.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Nanoseconds since the start.
    pub fn now_nanos(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Waits until that many nanoseconds after the start; at once when they are over.
    pub async fn sleep_until_nanos(&self, nanos: u64) {
        tokio::time::sleep_until(self.origin + Duration::from_nanos(nanos)).await;
    }

    /// Milliseconds since 1970, by the wall clock. May go back: never compute spans with it.
    pub fn unix_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Nanoseconds that this process has computed for, on all cores together.
pub fn process_cpu_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let whole = u64::try_from(time.tv_sec).unwrap_or_default();
    whole * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn moves_with_tokios_time() {
        let clock = Clock::start();
        assert_eq!(clock.now_nanos(), 0);
        clock.sleep_until_nanos(5_000_000).await;
        assert_eq!(clock.now_nanos(), 5_000_000);
        clock.sleep_until_nanos(1).await;
        assert_eq!(clock.now_nanos(), 5_000_000);
    }
}
