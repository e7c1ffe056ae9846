//! What requests leave behind: those under way, those that ended a while ago, what they came to over time, and
//! whoever else wants to know. A request's way pays for a few hand-overs, and waits for nobody but a ledger.

mod history;
mod leaving;
mod live;
mod query;
mod recent;
mod usual;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::RwLock;
use pilotage_lens::{Record, Sink};
use pilotage_shell::access;
use tokio::sync::{broadcast, watch};

pub(crate) use history::{History, LaneNow, STEP};
#[doc(hidden)]
pub use leaving::Leaving;
pub(crate) use live::{Live, Seat, Seen};
pub(crate) use query::{Filter, RecordsQuery};
pub(crate) use recent::Recent;

/// Records that a reader of the stream may be behind, before it misses some.
const STREAM_BEHIND_MAX: usize = 2048;

/// What adds a row to a ledger, and returns its number.
pub type AddRow = dyn Fn(&Arc<Record>) -> u64 + Send + Sync;

/// A ledger, as requests see it.
#[derive(Clone)]
pub struct Ledger {
    /// Adds a row. It waits for nothing.
    pub add: Arc<AddRow>,
    /// The number up to which rows survive whatever happens to this process.
    pub written: watch::Receiver<u64>,
    /// How long the end of an answer is held back at most for its row.
    pub patience: Duration,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("patience", &self.patience).finish_non_exhaustive()
    }
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Trail {
    pub(crate) live: Live,
    pub(crate) recent: Recent,
    pub(crate) history: History,
    stream: broadcast::Sender<Arc<Record>>,
    sinks: RwLock<Vec<Arc<dyn Sink>>>,
    ledger: OnceLock<Ledger>,
}

impl Trail {
    /// Nothing yet; so many records are kept.
    pub(crate) fn new(records_max: usize) -> Self {
        Self {
            live: Live::default(),
            recent: Recent::new(records_max),
            history: History::default(),
            stream: broadcast::Sender::new(STREAM_BEHIND_MAX),
            sinks: RwLock::default(),
            ledger: OnceLock::new(),
        }
    }

    pub(crate) fn add_sink(&self, sink: Arc<dyn Sink>) {
        self.sinks.write().push(sink);
    }

    /// The ledger, from now on; a second one changes nothing.
    pub(crate) fn set_ledger(&self, ledger: Ledger) -> bool {
        self.ledger.set(ledger).is_ok()
    }

    /// A request ended; returns the number of its row, where there is a ledger.
    pub(crate) fn ended(&self, seat: Option<Seat>, record: Arc<Record>) -> Option<u64> {
        self.left(seat);
        let row = self.ledger.get().map(|ledger| (ledger.add)(&record));
        self.history.add(&record);
        for sink in self.sinks.read().iter() {
            sink.take(&record);
        }
        if self.stream.receiver_count() > 0 {
            // Nobody who left in this moment misses anything.
            let _ = self.stream.send(Arc::clone(&record));
        }
        access::write(record.unix_ms, &*record);
        self.recent.push(record);
        row
    }

    /// A request is over, whose record comes later.
    pub(crate) fn left(&self, seat: Option<Seat>) {
        if let Some(seat) = seat {
            self.live.leave(seat);
        }
    }

    /// Waits until a row is written, or for as long as the ledger may take.
    pub(crate) async fn booked(&self, row: u64) {
        let Some(ledger) = self.ledger.get() else { return };
        if *ledger.written.borrow() >= row {
            return;
        }
        let mut written = ledger.written.clone();
        // Whoever is late or gone holds up nobody: its own state says so.
        let _ = tokio::time::timeout(ledger.patience, written.wait_for(|at| *at >= row)).await;
    }

    /// Records as they come from now on.
    pub(crate) fn follow(&self) -> broadcast::Receiver<Arc<Record>> {
        self.stream.subscribe()
    }
}
