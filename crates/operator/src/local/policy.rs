//! When a process that died is started again: at once after a long life, with growing pauses when
//! it keeps dying. Pure: time is an argument.

use std::time::Duration;

/// The pause after the first death in a row.
const PAUSE_FIRST: Duration = Duration::from_millis(200);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A life this long makes up for all deaths before.
const LIFE_GOOD: Duration = Duration::from_secs(60);

/// Deaths in a row that make a crash loop.
const DEATHS_LOOP: u32 = 5;

/// How a process has been doing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Record {
    deaths: u32,
}

impl Record {
    /// The process died after a life of that length; how long to wait before the next. `jitter` is
    /// uniform in [0, 1): processes that died together do not come back together.
    pub(super) fn died(&mut self, life: Duration, jitter: f64) -> Duration {
        self.deaths = if life >= LIFE_GOOD { 1 } else { self.deaths.saturating_add(1) };
        let pause = PAUSE_FIRST.saturating_mul(1 << (self.deaths - 1).min(16)).min(PAUSE_MAX);
        pause.mul_f64(0.75 + jitter * 0.5).min(PAUSE_MAX)
    }

    /// Whether it keeps dying.
    pub(super) const fn is_loop(self) -> bool {
        self.deaths >= DEATHS_LOOP
    }
}

/// How a process ended, in words that say what to do where that is known.
pub(super) fn reason(code: Option<i32>, signal: Option<i32>) -> String {
    match (code, signal) {
        (Some(code), _) => format!("it exited with code {code}"),
        (_, Some(4)) => "SIGILL: this CPU lacks an instruction the binary was built for".to_owned(),
        (_, Some(6)) => {
            "SIGABRT: it aborted, most likely on a failed check inside llama.cpp".to_owned()
        }
        (_, Some(7)) => "SIGBUS: a mapped file was cut, or the disk failed".to_owned(),
        (_, Some(9)) => {
            "SIGKILL: somebody killed it, possibly the system for lack of memory".to_owned()
        }
        (_, Some(11)) => "SIGSEGV: it touched memory that is not its own".to_owned(),
        (_, Some(15)) => "SIGTERM: somebody stopped it".to_owned(),
        (_, Some(signal)) => format!("signal {signal}"),
        (None, None) => "for a reason the system does not tell".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_a_good_life_resets_them() {
        let mut record = Record::default();
        let pauses: Vec<u64> =
            (0..10).map(|_| record.died(Duration::ZERO, 0.5).as_millis() as u64).collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        assert!(record.is_loop());
        assert_eq!(record.died(Duration::from_secs(61), 0.5).as_millis(), 200);
        assert!(!record.is_loop());
    }

    #[test]
    fn jitter_stays_within_a_quarter() {
        assert_eq!(Record::default().died(Duration::ZERO, 0.0).as_millis(), 150);
        assert!(Record::default().died(Duration::ZERO, 0.999).as_millis() < 250);
    }
}
