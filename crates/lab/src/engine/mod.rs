//! A scripted engine: an HTTP server that speaks like an inference server, without a model. It is
//! there to measure and to try what stands in front of it, so it answers at once or in the time that
//! a real engine would take, misbehaves where it is told to, and counts what happens to it.
//!
//! It writes HTTP itself: half of its faults are violations that no HTTP library would send.

mod answer;
mod ask;
mod config;
mod connection;
pub mod fault;
mod kv;
mod live;
mod metrics;
pub mod model;
mod piece;
mod prepared;
mod render;
mod request;
mod stats;
#[cfg(test)]
mod tests;
mod text;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use pilotage_shell::clock::Clock;
use pilotage_shell::tasks;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

pub use config::{AnswerShape, EngineConfig};
pub use kv::{KvEvents, Layout};
pub use metrics::Gauges;
pub use piece::{Act, LAST_CHUNK, Part, Piece};
pub use stats::{Fingerprint, Seen, Stats};
pub use text::{TOKEN_BYTES, VOICE_TOKENS, Voice, tokens};

use fault::{AtAccept, Faults, Rule};
use kv::Publisher;
use live::Live;
use prepared::Prepared;
use stats::Counts;

/// A running engine. It stops, and breaks off its connections, when the handle is dropped.
#[derive(Debug)]
pub struct Engine {
    addr: SocketAddr,
    shared: Arc<Shared>,
    /// Dropped, it stops the engine.
    _stop: watch::Sender<()>,
}

impl Engine {
    /// Serves on a listener. Only a modelled engine has a cache to tell of.
    ///
    /// # Errors
    /// The listener has no address.
    pub fn start(
        config: EngineConfig,
        listener: TcpListener,
        events: Option<KvEvents>,
        clock: Clock,
    ) -> io::Result<Self> {
        let addr = listener.local_addr()?;
        let created = clock.unix_ms() / 1000;
        let live = config.pace.map(|pace| {
            let adapters = config.adapters.clone();
            let publisher =
                events.map(|events| Publisher::start(events, pace.block_tokens, adapters));
            Live::start(pace, clock, publisher)
        });
        let shared = Arc::new(Shared {
            prepared: Prepared::new(&config, created),
            created,
            counts: Counts::default(),
            faults: Faults::default(),
            frozen: Mutex::new(None),
            changed: Notify::new(),
            answers: AtomicU64::new(0),
            live,
            clock,
            config,
        });
        shared.set_faults(&shared.config.faults);
        let (stop, stopped) = watch::channel(());
        drop(tasks::spawn("scripted engine", accept(listener, Arc::clone(&shared), stopped)));
        Ok(Self { addr, shared, _stop: stop })
    }

    /// Where it listens.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What happened to it so far.
    pub fn stats(&self) -> Stats {
        self.shared.counts.stats()
    }

    /// The requests for work that came, in their order, where the engine writes them down.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.counts.seen.lock().clone()
    }

    /// What its metrics tell; of an engine that answers at once, only what runs and what ended.
    pub fn gauges(&self) -> Gauges {
        self.shared.gauges()
    }

    /// What goes wrong from now on, instead of what did so far.
    pub fn set_faults(&self, rules: &[Rule]) {
        self.shared.set_faults(rules);
    }
}

/// What all connections of an engine share.
#[derive(Debug)]
struct Shared {
    config: EngineConfig,
    /// Seconds since 1970 at which it was started, which its answers claim to be of.
    created: u64,
    prepared: Prepared,
    live: Option<Live>,
    faults: Faults,
    /// The metrics that it tells, where they stand still.
    frozen: Mutex<Option<String>>,
    /// Tells that faults changed.
    changed: Notify,
    /// Answers begun, which numbers them.
    answers: AtomicU64,
    counts: Counts,
    clock: Clock,
}

impl Shared {
    /// Whether all answers are the prepared ones.
    fn is_plain(&self) -> bool {
        self.live.is_none() && !self.config.record && !self.faults.any()
    }

    /// Orders come in bodies, but to a plain engine that is not worth keeping all others.
    fn keeps_bodies(&self) -> bool {
        !self.is_plain()
    }

    fn next_answer(&self) -> u64 {
        self.answers.fetch_add(1, Relaxed)
    }

    fn set_faults(&self, rules: &[Rule]) {
        self.faults.set(rules);
        *self.frozen.lock() = self.faults.freezes().then(|| self.page());
        self.changed.notify_waiters();
    }

    fn gauges(&self) -> Gauges {
        let stats = self.counts.stats();
        self.live.as_ref().map_or_else(
            || Gauges {
                running: stats.active,
                stopped: stats.finished,
                aborted: stats.aborted,
                ..Gauges::default()
            },
            Live::gauges,
        )
    }

    fn metrics(&self) -> String {
        self.frozen.lock().clone().unwrap_or_else(|| self.page())
    }

    fn page(&self) -> String {
        let config = &self.config;
        let adapters = (!config.adapters.is_empty()).then_some(config.adapters.len());
        let now_s = self.clock.unix_ms() as f64 / 1000.0;
        metrics::render(&config.model, &self.gauges(), adapters, now_s)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, mut stopped: watch::Receiver<()>) {
    loop {
        let changed = shared.changed.notified();
        let accepted = tokio::select! {
            accepted = listener.accept(), if !shared.faults.ignores() => accepted,
            () = changed => continue,
            _ = stopped.changed() => return,
        };
        // Out of file descriptors, most likely: another connection may end meanwhile.
        let Ok((socket, _)) = accepted else {
            tokio::task::yield_now().await;
            continue;
        };
        shared.counts.connections.fetch_add(1, Relaxed);
        match shared.faults.at_accept() {
            None => {}
            Some(AtAccept::Reset | AtAccept::ResetSome) => {
                let _ = socket.set_zero_linger();
                continue;
            }
            Some(AtAccept::Close | AtAccept::Ignore) => continue,
        }
        let (shared, mut stopped) = (Arc::clone(&shared), stopped.clone());
        drop(tasks::spawn("scripted connection", async move {
            tokio::select! {
                () = connection::serve(socket, shared) => {}
                _ = stopped.changed() => {}
            }
        }));
    }
}
