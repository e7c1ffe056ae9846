//! Wall-clock time for what begins and expires, such that setting the clock back revives nothing.
//!
//! What expires is held against the later of two times: what the wall clock says, and what it said
//! at the start plus the time since. What begins is held against the wall clock. So a clock that is
//! set back keeps expired keys out, and one that jumps ahead and returns leaves nothing behind. The
//! price: where the clock was ahead at the start and is put right, keys and tokens go on to end too
//! early by as much until the next start.

use crate::clock::Clock;

/// Wall-clock time that does not go back for what expires.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    clock: Clock,
    start_unix_ms: u64,
    start_nanos: u64,
}

/// A moment, as it is for what begins and for what ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Moment {
    wall_ms: u64,
    latest_ms: u64,
}

impl WallClock {
    /// One that trusts what the wall clock says now.
    pub fn new(clock: Clock) -> Self {
        Self { clock, start_unix_ms: clock.unix_ms(), start_nanos: clock.now_nanos() }
    }

    /// Now.
    pub fn now(&self) -> Moment {
        self.judge(self.clock.unix_ms(), self.clock.now_nanos())
    }

    fn judge(&self, wall_ms: u64, nanos: u64) -> Moment {
        let since_ms = nanos.saturating_sub(self.start_nanos) / 1_000_000;
        let at_least = self.start_unix_ms.saturating_add(since_ms);
        Moment { wall_ms, latest_ms: wall_ms.max(at_least) }
    }
}

impl Moment {
    /// A moment at which the clock is right.
    pub const fn at_ms(unix_ms: u64) -> Self {
        Self { wall_ms: unix_ms, latest_ms: unix_ms }
    }

    /// Whether what begins then has begun.
    pub const fn has_begun(self, unix_ms: u64) -> bool {
        self.wall_ms >= unix_ms
    }

    /// Whether what ends then is over.
    pub const fn is_over(self, unix_ms: u64) -> bool {
        self.latest_ms >= unix_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_jumps_revives_nothing_and_leaves_nothing_behind() {
        let clock =
            WallClock { clock: Clock::start(), start_unix_ms: 1_000_000, start_nanos: SECOND };
        let check = |wall_ms: u64, nanos: u64, wall: u64, latest: u64| {
            let expect = Moment { wall_ms: wall, latest_ms: latest };
            assert_eq!(clock.judge(wall_ms, nanos), expect);
        };
        check(1_000_000, SECOND, 1_000_000, 1_000_000);
        // Ten seconds on: the clock is right, far back, at zero, far ahead, and right again.
        check(1_010_000, 11 * SECOND, 1_010_000, 1_010_000);
        check(500_000, 11 * SECOND, 500_000, 1_010_000);
        check(0, 11 * SECOND, 0, 1_010_000);
        check(u64::MAX, 11 * SECOND, u64::MAX, u64::MAX);
        check(1_020_000, 21 * SECOND, 1_020_000, 1_020_000);
        // Asleep: the wall clock went on, the other one did not.
        check(9_000_000, 22 * SECOND, 9_000_000, 9_000_000);
        check(u64::MAX, u64::MAX, u64::MAX, u64::MAX);
    }

    #[test]
    fn a_moment_ends_when_it_says() {
        let now = Moment::at_ms(1000);
        assert!(now.has_begun(1000) && !now.has_begun(1001));
        assert!(now.is_over(1000) && !now.is_over(1001));
    }
}
