//! Connections that wait for another request.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::uri::{Authority, Scheme};
use parking_lot::Mutex;

use super::socket::Socket;
use super::{IDLE_PER_HOST_MAX, IDLE_TIMEOUT};
use crate::clock::Clock;
use crate::tasks;

/// Between two looks for connections that were closed or have waited long enough.
const LOOK: Duration = Duration::from_secs(5);

/// Where connections lead to.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Origin {
    encrypted: bool,
    authority: Authority,
}

impl Origin {
    /// Nothing where the address names no host.
    pub(super) fn of(url: &Uri) -> Option<Self> {
        let encrypted = url.scheme() == Some(&Scheme::HTTPS);
        Some(Self { encrypted, authority: url.authority()?.clone() })
    }
}

/// Connections that are open and not in use.
pub(super) struct Pool {
    clock: Clock,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// The one that waits shortest is the last.
    idle: HashMap<Origin, Vec<Idle>>,
    /// Whether somebody looks after them.
    looked_after: bool,
}

struct Idle {
    socket: Socket,
    since_nanos: u64,
}

impl Pool {
    pub(super) fn new() -> Self {
        Self { clock: Clock::start(), waiting: Mutex::default() }
    }

    /// Connections that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.lock().idle.values().map(Vec::len).sum()
    }

    /// The connection that has waited shortest.
    pub(super) fn take(&self, origin: &Origin) -> Option<Socket> {
        let oldest = self.oldest_nanos();
        let mut waiting = self.waiting.lock();
        let idle = waiting.idle.get_mut(origin)?;
        while let Some(mut one) = idle.pop() {
            if one.is_good(oldest) {
                return Some(one.socket);
            }
        }
        None
    }

    /// Keeps a connection for the next request.
    pub(super) fn put(self: &Arc<Self>, origin: Origin, socket: Socket) {
        let since_nanos = self.clock.now_nanos();
        let mut waiting = self.waiting.lock();
        let idle = waiting.idle.entry(origin).or_default();
        if idle.len() < IDLE_PER_HOST_MAX {
            idle.push(Idle { socket, since_nanos });
        }
        if !std::mem::replace(&mut waiting.looked_after, true) {
            let pool = Arc::downgrade(self);
            tasks::spawn("idle connections", async move {
                loop {
                    tokio::time::sleep(LOOK).await;
                    let Some(pool) = pool.upgrade() else { break };
                    if !pool.tidy() {
                        break;
                    }
                }
            });
        }
    }

    /// Closes what was closed by the other side or has waited long enough. Whether anything is left to be
    /// looked after.
    fn tidy(&self) -> bool {
        let oldest = self.oldest_nanos();
        let mut waiting = self.waiting.lock();
        waiting.idle.retain(|_, idle| {
            idle.retain_mut(|one| one.is_good(oldest));
            !idle.is_empty()
        });
        waiting.looked_after = !waiting.idle.is_empty();
        waiting.looked_after
    }

    /// Since when a connection may have waited.
    fn oldest_nanos(&self) -> u64 {
        let longest = u64::try_from(IDLE_TIMEOUT.as_nanos()).unwrap_or(u64::MAX);
        self.clock.now_nanos().saturating_sub(longest)
    }
}

impl Idle {
    fn is_good(&mut self, oldest_nanos: u64) -> bool {
        self.since_nanos >= oldest_nanos && self.socket.is_quiet()
    }
}
