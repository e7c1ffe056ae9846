//! A timer that is exact to tens of microseconds, for who measures: Tokio's own sleeps round up to
//! whole milliseconds.

use crate::clock::Clock;

/// Waits for moments of a [`Clock`].
#[derive(Debug)]
pub struct Timer {
    clock: Clock,
    #[cfg(target_os = "linux")]
    kernel: Option<tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>>,
}

impl Timer {
    /// A timer for moments of that clock. Made inside a Tokio runtime.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            #[cfg(target_os = "linux")]
            kernel: linux::create(),
        }
    }

    /// Waits until that many nanoseconds after the clock's start; at once when they are over.
    pub async fn sleep_until_nanos(&self, nanos: u64) {
        #[cfg(target_os = "linux")]
        if let Some(kernel) = &self.kernel {
            let left = nanos.saturating_sub(self.clock.now_nanos());
            if left == 0 || linux::wait(kernel, left).await.is_ok() {
                return;
            }
        }
        self.clock.sleep_until_nanos(nanos).await;
    }
}

/// The kernel's timers, which are files that become readable.
#[cfg(target_os = "linux")]
mod linux {
    use std::os::fd::OwnedFd;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    /// None where the kernel has no more of them: the caller then sleeps less exactly.
    #[expect(
        deprecated,
        reason = "its successor is unsafe for the sake of types whose file may change: an OwnedFd's \
                  does not"
    )]
    pub(super) fn create() -> Option<AsyncFd<OwnedFd>> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).ok()?;
        AsyncFd::with_interest(timer, Interest::READABLE).ok()
    }

    /// Waits so long. Setting it again takes back an expiry that nobody read.
    pub(super) async fn wait(timer: &AsyncFd<OwnedFd>, nanos: u64) -> std::io::Result<()> {
        let part = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let value =
            Timespec { tv_sec: part(nanos / 1_000_000_000), tv_nsec: part(nanos % 1_000_000_000) };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(timer.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = timer.readable().await?;
            let mut expiries = [0; 8];
            let read = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut expiries)?));
            if let Ok(read) = read {
                return read.map(|_| ());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn never_wakes_early_and_can_be_given_up() {
        let clock = Clock::start();
        let timer = Timer::new(clock);
        timer.sleep_until_nanos(0).await;
        for step in 1..=20 {
            let at = step * 300_000;
            timer.sleep_until_nanos(at).await;
            assert!(clock.now_nanos() >= at);
        }
        let far = timer.sleep_until_nanos(u64::MAX / 2);
        tokio::select! { biased; () = far => unreachable!(), () = std::future::ready(()) => {} }
        let soon = clock.now_nanos() + 200_000;
        timer.sleep_until_nanos(soon).await;
        assert!(clock.now_nanos() >= soon);
    }
}
