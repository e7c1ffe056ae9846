//! A port for a child process that cannot report the one it chose.

#![expect(clippy::disallowed_methods, reason = "how long ago a port was given out")]

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Ports given out that are remembered.
const GIVEN_MAX: usize = 1024;

/// How long: most children listen long before.
const GIVEN_LIFE: Duration = Duration::from_secs(600);

/// Ports that are tried before none is found.
const TRIES_MAX: usize = 64;

static GIVEN: Mutex<Given> = Mutex::new(Given(VecDeque::new()));

/// A loopback port that was free a moment ago, and that nobody else got from here in the last ten minutes:
/// two children that start together do not meet. Somebody else may take it before the child does: the
/// child then fails to bind, and its supervisor comes here again.
///
/// # Errors
/// No port is free.
pub fn free() -> io::Result<u16> {
    // Those that do not serve are held, so that the system gives another.
    let mut held = Vec::new();
    for _ in 0..TRIES_MAX {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        if GIVEN.lock().take(Instant::now(), port) {
            return Ok(port);
        }
        held.push(listener);
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "all free ports were given to others just now"))
}

/// Ports with when they were given out, the oldest first.
struct Given(VecDeque<(Instant, u16)>);

impl Given {
    /// Remembers a port; false when somebody has it.
    fn take(&mut self, now: Instant, port: u16) -> bool {
        let is_over = |(since, _): &(Instant, u16)| now.duration_since(*since) >= GIVEN_LIFE;
        while self.0.front().is_some_and(is_over) || self.0.len() >= GIVEN_MAX {
            self.0.pop_front();
        }
        let is_free = self.0.iter().all(|(_, given)| *given != port);
        if is_free {
            self.0.push_back((now, port));
        }
        is_free
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn nobody_gets_a_port_that_another_has() {
        let ports: BTreeSet<u16> = (0..GIVEN_MAX / 2).map(|_| free().unwrap()).collect();
        assert_eq!(ports.len(), GIVEN_MAX / 2);
    }

    #[test]
    fn ports_are_forgotten_in_the_end() {
        let (mut given, now) = (Given(VecDeque::new()), Instant::now());
        assert!(given.take(now, 1) && !given.take(now, 1) && given.take(now, 2));
        let later = now + GIVEN_LIFE;
        assert!(given.take(later, 1) && !given.take(later, 1));
        for port in 0..GIVEN_MAX {
            given.take(later, 1000 + u16::try_from(port).unwrap());
        }
        assert!(given.0.len() <= GIVEN_MAX && given.take(later, 1));
    }
}
