//! How fast is written, and when not at all: a limit with a name, and a pause when the API server is away
//! or says that it has too much to do.

use parking_lot::Mutex;
use pilotage_plan::cluster::Failure;
use pilotage_shell::clock::Clock;

use super::chance;

/// Writes a second, in the long run: a thousand Models, each of which takes ten until it is ready, come up
/// within half a minute of it.
pub(super) const WRITES_PER_SECOND_MAX: u64 = 400;

/// Writes that may come at once after a quiet time.
pub(super) const WRITES_BURST_MAX: u64 = 800;

/// The first pause when the API server is away; twice as long after each further one.
const PAUSE_MS: u64 = 500;

/// The longest.
const PAUSE_MS_MAX: u64 = 30_000;

/// Lets writes through.
#[derive(Debug)]
pub(super) struct Gate {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the next write is due, were all of them spaced evenly.
    due_nanos: u64,
    shut_until_nanos: u64,
    failures: u32,
}

impl Gate {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, state: Mutex::new(State::default()) }
    }

    /// Waits for the turn of a write.
    pub(super) async fn pass(&self) {
        let at = {
            let now = self.clock.now_nanos();
            let mut state = self.state.lock();
            let each = 1_000_000_000 / WRITES_PER_SECOND_MAX;
            let at = state.due_nanos.max(now.saturating_sub(each * WRITES_BURST_MAX));
            state.due_nanos = at + each;
            at
        };
        self.clock.sleep_until_nanos(at).await;
    }

    /// Until when nothing is tried, in nanoseconds of the clock; none when it is open.
    pub(super) fn shut_until(&self) -> Option<u64> {
        let until = self.state.lock().shut_until_nanos;
        (until > self.clock.now_nanos()).then_some(until)
    }

    /// The API server answered.
    pub(super) fn answered(&self) {
        self.state.lock().failures = 0;
    }

    /// The API server is away, or has too much to do. Those who fail together count once.
    pub(super) fn failed(&self, failure: &Failure) {
        let now = self.clock.now_nanos();
        let mut state = self.state.lock();
        if state.shut_until_nanos > now {
            return;
        }
        state.failures += 1;
        let doubled = PAUSE_MS.saturating_mul(1 << (state.failures - 1).min(16)).min(PAUSE_MS_MAX);
        let asked = u64::from(failure.retry_after_s.unwrap_or_default()) * 1000;
        let ms = doubled.max(asked) * (1000 + u64::from(chance())) / 1000;
        state.shut_until_nanos = now + ms * 1_000_000;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn writes_have_a_limit() {
        let clock = Clock::start();
        clock.sleep_until_nanos(10_000_000_000).await;
        let gate = Gate::new(clock);
        for _ in 0..WRITES_BURST_MAX {
            gate.pass().await;
        }
        assert_eq!(clock.now_nanos(), 10_000_000_000);
        for _ in 0..WRITES_PER_SECOND_MAX {
            gate.pass().await;
        }
        assert!(clock.now_nanos() >= 10_990_000_000, "{}", clock.now_nanos());
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_end() {
        let clock = Clock::start();
        let gate = Gate::new(clock);
        assert_eq!(gate.shut_until(), None);
        let mut before = 0;
        for _ in 0..10 {
            gate.failed(&Failure::default());
            gate.failed(&Failure::default());
            let until = gate.shut_until().unwrap();
            let pause = until - clock.now_nanos();
            assert!(pause >= before / 2 && pause <= 60_000_000_000, "{pause}");
            before = pause;
            clock.sleep_until_nanos(until).await;
        }
        assert!(before >= 30_000_000_000);
        gate.answered();
        let asked = Failure { code: 429, retry_after_s: Some(7), ..Failure::default() };
        gate.failed(&asked);
        assert!(gate.shut_until().unwrap() - clock.now_nanos() >= 7_000_000_000);
    }
}
