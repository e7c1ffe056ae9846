//! When a process that died is started again: at once after it has served for a while, with growing
//! pauses when it keeps dying. Pure: time is an argument.

use std::time::Duration;

/// The pause after the first death in a row.
const PAUSE_FIRST: Duration = Duration::from_millis(200);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Having served this long makes up for all deaths before. Loading does not count: it takes some
/// programs longer than this, and one that dies of it every time serves nobody.
const LIFE_GOOD: Duration = Duration::from_secs(60);

/// Deaths in a row that make a crash loop.
const DEATHS_LOOP: u32 = 5;

/// How a process has been doing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Record {
    deaths: u32,
}

impl Record {
    /// The process died after it has been ready for so long, zero when it never was; how long to wait
    /// before the next. `jitter` is uniform in [0, 1): processes that died together do not come back
    /// together.
    pub(super) fn died(&mut self, served: Duration, jitter: f64) -> Duration {
        self.deaths = if served >= LIFE_GOOD { 1 } else { self.deaths.saturating_add(1) };
        let pause = PAUSE_FIRST.saturating_mul(1 << (self.deaths - 1).min(16)).min(PAUSE_MAX);
        pause.mul_f64(0.75 + jitter * 0.5).min(PAUSE_MAX)
    }

    /// Whether it keeps dying.
    pub(super) const fn is_loop(self) -> bool {
        self.deaths >= DEATHS_LOOP
    }
}

/// Codes that stand for signals: 128 and the signal's number. So end shells, and the warden, which cannot
/// die of every signal that its program died of.
const CODES_OF_SIGNALS: std::ops::RangeInclusive<i32> = 129..=159;

/// How a process ended, in words that say what to do where that is known.
pub(super) fn reason(code: Option<i32>, signal: Option<i32>, is_ours: bool) -> String {
    let coded = code.filter(|code| CODES_OF_SIGNALS.contains(code)).map(|code| code - 128);
    match (code, signal.or(coded)) {
        (_, Some(signal)) => named(signal, is_ours),
        (Some(code), None) => format!("it exited with code {code}"),
        (None, None) => "for a reason the system does not tell".to_owned(),
    }
}

fn named(signal: i32, is_ours: bool) -> String {
    let text = match signal {
        1 => "SIGHUP: its terminal is gone",
        2 => "SIGINT: somebody interrupted it",
        4 => "SIGILL: this CPU lacks an instruction the binary was built for",
        6 if is_ours => "SIGABRT: it aborted, most likely on a failed check inside llama.cpp",
        6 => "SIGABRT: it aborted, most likely on a failed check of its own",
        7 => "SIGBUS: a mapped file was cut, or the disk failed",
        8 => "SIGFPE: it divided by zero",
        9 => "SIGKILL: somebody killed it, possibly the system for lack of memory",
        11 => "SIGSEGV: it touched memory that is not its own",
        15 => "SIGTERM: somebody stopped it",
        _ => return format!("signal {signal}"),
    };
    text.to_owned()
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

    #[test]
    fn who_never_served_keeps_dying() {
        let mut record = Record::default();
        // It loaded for as long as it may each time, and was never ready.
        for _ in 0..DEATHS_LOOP {
            record.died(Duration::ZERO, 0.5);
        }
        assert!(record.is_loop());
    }

    #[test]
    fn ends_are_told_in_words() {
        let check = |code, signal, is_ours, expect: &str| {
            let told = reason(code, signal, is_ours);
            assert!(told.starts_with(expect), "{told}");
        };
        check(Some(3), None, false, "it exited with code 3");
        check(Some(139), None, false, "SIGSEGV: ");
        check(Some(135), None, false, "SIGBUS: ");
        check(Some(137), None, false, "SIGKILL: ");
        check(Some(143), None, false, "SIGTERM: ");
        check(Some(160), None, false, "it exited with code 160");
        check(None, Some(31), false, "signal 31");
        check(None, None, false, "for a reason");
        assert!(reason(None, Some(6), true).contains("llama.cpp"));
        assert!(!reason(Some(134), None, false).contains("llama.cpp"));
    }
}
