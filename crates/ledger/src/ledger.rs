//! The ledger itself: what the gateway hands records to, and what answers questions about them.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use pilotage_lens::Record;
use pilotage_lens::usage::{Entitled, Replica};
use pilotage_shell::clock::Clock;
use pilotage_shell::tasks;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::buffer::Buffer;
use crate::journal::{self, Journal, JournalError, Writer};
use crate::meter::Meter;
use crate::settings::{Settings, Where};
use crate::state::{Shared, State};
use crate::store::{Postgres, Sqlite, Store};
use crate::storer::{self, Storer};

/// Between two looks at which replicas are up.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// What is up now, and who may count on what.
#[derive(Clone, Debug, Default)]
pub struct Now {
    /// Replicas that are up.
    pub replicas: Vec<Replica>,
    /// Who may count on what, of every Model.
    pub entitled: Vec<Entitled>,
}

/// A tenant's budget, as the gateway holds to it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Budget {
    /// Whose.
    pub tenant: String,
    /// The same below those above it, divided by `/`: what those below it spend is its own, too.
    pub tenant_path: String,
    /// `hour`, `day` or `month`.
    pub window: &'static str,
    /// What can be spent in it, in millionths of the currency's unit.
    pub limit_micros: u64,
    /// What is spent by now, as the gateway counts it; nothing where it does not say.
    pub spent_micros: Option<u64>,
    /// When the window began, in milliseconds since 1970.
    pub from_ms: u64,
    /// When it ends.
    pub until_ms: u64,
}

/// Looks at what is there now.
pub type Look<T> = Arc<dyn Fn() -> T + Send + Sync>;

/// What a ledger asks whoever serves.
#[derive(Clone)]
pub struct Looks {
    /// Which replicas are up.
    pub now: Look<Now>,
    /// Which budgets there are.
    pub budgets: Look<Vec<Budget>>,
}

impl Default for Looks {
    fn default() -> Self {
        Self { now: Arc::new(Now::default), budgets: Arc::new(Vec::new) }
    }
}

impl std::fmt::Debug for Looks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Looks").finish_non_exhaustive()
    }
}

/// A usage ledger. Copies are the same one.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    buffer: Arc<Buffer>,
    journal: Arc<Journal>,
    pub(crate) store: Arc<dyn Store>,
    state: Arc<Shared>,
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) looks: Looks,
    meter: Mutex<Meter>,
    written: watch::Receiver<u64>,
    /// Ends looks at once, and the rest once it has nothing left to do.
    stop: CancellationToken,
    writer: Mutex<Option<JoinHandle<()>>>,
    storer: Mutex<Option<tokio::task::JoinHandle<Option<()>>>>,
}

impl Ledger {
    /// Opens the ledger and begins to write. The store is reached when it can be: that it is away stops nothing.
    pub fn open(settings: Settings, clock: Clock, looks: Looks) -> Result<Self, JournalError> {
        let store: Arc<dyn Store> = match &settings.place {
            Where::Sqlite(path) => Arc::new(Sqlite::at(path.clone())),
            Where::Postgres(url) => Arc::new(Postgres::at(url.clone())),
        };
        Self::open_with(settings, clock, looks, store)
    }

    /// The same, with a store of one's own.
    pub fn open_with(
        settings: Settings,
        clock: Clock,
        looks: Looks,
        store: Arc<dyn Store>,
    ) -> Result<Self, JournalError> {
        let journal = Arc::new(Journal::open(&settings.folder)?);
        let state = Arc::new(Shared::default());
        storer::tell(&journal, &state);
        let bounds = settings.bounds;
        let buffer = Arc::new(Buffer::new(bounds.waiting_max, bounds.folds_max));
        let (publish, written) = watch::channel(0);
        let unsynced = Arc::new(Mutex::new(None));
        let writer = Writer {
            buffer: Arc::clone(&buffer),
            journal: Arc::clone(&journal),
            bounds,
            state: Arc::clone(&state),
            clock,
            unsynced: Arc::clone(&unsynced),
            file: None,
            made: 0,
        };
        let folder = settings.folder.clone();
        let wrong = |error| JournalError::Folder(folder.clone(), error);
        let thread = std::thread::Builder::new().name("usage-journal".to_owned());
        let writer = thread.spawn(move || journal::write(writer, &publish)).map_err(wrong)?;
        let stop = CancellationToken::new();
        let storer = Storer {
            journal: Arc::clone(&journal),
            store: Arc::clone(&store),
            state: Arc::clone(&state),
            settings: settings.clone(),
            clock,
            written: written.clone(),
            stop: stop.clone(),
        };
        let storer = tasks::spawn("usage-storer", storer.run());
        let meter = Meter::new(clock.now_nanos(), clock.unix_ms(), &settings.fleet);
        let inner = Arc::new(Inner {
            meter: Mutex::new(meter),
            buffer,
            journal,
            store,
            state,
            settings,
            clock,
            looks,
            written,
            stop,
            writer: Mutex::new(Some(writer)),
            storer: Mutex::new(Some(storer)),
        });
        tasks::spawn("usage-looks", look(Arc::clone(&inner)));
        tasks::spawn("usage-sync", sync(unsynced, bounds.sync_interval, clock, inner.stop.clone()));
        Ok(Self { inner })
    }

    /// A request ended. Waits for nothing and allocates nothing while the journal keeps up; returns the row's
    /// number. What nobody is known for and that came to no replica is no row, number zero: strangers cannot fill the disk.
    pub fn add(&self, record: &Arc<Record>) -> u64 {
        if record.tenant.is_none() && record.attempts == 0 {
            return 0;
        }
        self.inner.buffer.add(record)
    }

    /// The number up to which rows survive the end of this process, however it ends.
    pub fn written(&self) -> watch::Receiver<u64> {
        self.inner.written.clone()
    }

    /// How it does.
    pub fn state(&self) -> State {
        let inner = &self.inner;
        let (behind_rows, journal_bytes) = inner.journal.lengths();
        let (waiting, folded_rows, folds) = inner.buffer.lengths();
        let mut state = State {
            kind: inner.store.kind(),
            waiting_rows: waiting as u64,
            behind_rows,
            journal_bytes,
            folded_rows,
            waiting_folds: folds as u64,
            ..State::default()
        };
        inner.state.fill(&mut state);
        state
    }

    /// Writes what waits, and stores it where that is possible in time; what is not is stored at the next start.
    pub async fn close(&self, patience: Duration) {
        let inner = &self.inner;
        // What was seen since the last whole minute.
        inner.buffer.add_seen(inner.meter.lock().take());
        inner.buffer.close();
        let writer = inner.writer.lock().take();
        let storer = inner.storer.lock().take();
        let end = async {
            if let Some(writer) = writer {
                let _ = tokio::task::spawn_blocking(move || writer.join()).await;
            }
            inner.stop.cancel();
            if let Some(storer) = storer {
                let _ = storer.await;
            }
        };
        if tokio::time::timeout(patience, end).await.is_err() {
            tracing::warn!("usage waits in the journal for the next start");
        }
        inner.stop.cancel();
    }
}

/// Counts how long replicas are up.
async fn look(inner: Arc<Inner>) {
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = inner.stop.cancelled() => return,
        }
        let now = (inner.looks.now)();
        let accelerators = now.replicas.iter().map(|one| (one.name.clone(), one.accelerators));
        inner.buffer.set_accelerators(accelerators.collect());
        let mut meter = inner.meter.lock();
        if let Some(seen) = meter.look(inner.clock.now_nanos(), inner.clock.unix_ms(), &now) {
            inner.buffer.add_seen(seen);
        }
    }
}

/// Tells the disk to keep what was written, once an interval, beside whoever writes.
async fn sync(
    unsynced: Arc<Mutex<Option<Arc<std::fs::File>>>>,
    interval: Duration,
    clock: Clock,
    stop: CancellationToken,
) {
    let nanos = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
    loop {
        tokio::select! {
            () = clock.sleep_until_nanos(clock.now_nanos().saturating_add(nanos)) => {}
            () = stop.cancelled() => return,
        }
        let Some(file) = unsynced.lock().take() else { continue };
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || file.sync_data()).await {
            tracing::warn!(%error, "the disk does not keep the usage journal");
        }
    }
}
