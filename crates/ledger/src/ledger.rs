//! The ledger itself: what the gateway hands records to, and what answers questions about them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use pilotage_lens::Record;
use pilotage_lens::usage::{Entitled, Replica, UpTime};
use pilotage_shell::clock::Clock;
use pilotage_shell::tasks;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::buffer::Buffer;
use crate::entry::hour;
use crate::journal::{self, Journal, JournalError, Writer};
use crate::settings::{Settings, Where};
use crate::state::{Shared, State};
use crate::store::{Postgres, Sqlite, Store};
use crate::storer::Storer;

/// Between two looks at which replicas are up.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The longest time that counts between two looks: a machine that slept was not up.
const LOOK_GAP_MAX_NANOS: u64 = 60_000_000_000;

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
        for path in journal.damaged() {
            tracing::error!(path = %path.display(), "a file of the usage journal is damaged");
            state.damaged(format!(
                "{} is damaged; what is before the damage is stored",
                path.display()
            ));
        }
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
        let inner = Arc::new(Inner {
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
    /// number. What nobody is known for and that used nothing is no row, number zero: strangers cannot fill the disk.
    pub fn add(&self, record: &Arc<Record>) -> u64 {
        if record.tenant.is_none() && record.tokens.output == 0 {
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
    let mut meter = Meter { last: inner.clock.now_nanos(), ..Meter::default() };
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = inner.stop.cancelled() => return,
        }
        let now = (inner.looks.now)();
        let accelerators = now.replicas.iter().map(|one| (one.name.clone(), one.accelerators));
        inner.buffer.set_accelerators(accelerators.collect());
        for up in meter.look(inner.clock.now_nanos(), inner.clock.unix_ms(), &now) {
            inner.buffer.add_up(up);
        }
    }
}

/// How long replicas were up since it was asked last.
#[derive(Debug, Default)]
struct Meter {
    last: u64,
    /// What prices came to that was less than a millionth, in millionths times nanoseconds of an hour.
    rest: BTreeMap<(String, String), u128>,
}

/// Nanoseconds of an hour.
const HOUR_NANOS: u128 = 3_600_000_000_000;

impl Meter {
    fn look(&mut self, nanos: u64, unix_ms: u64, now: &Now) -> Vec<UpTime> {
        let gone = nanos.saturating_sub(self.last).min(LOOK_GAP_MAX_NANOS);
        // What is less than a millisecond counts at the next look.
        let gone_ms = gone / 1_000_000;
        self.last = nanos - gone % 1_000_000;
        let mut ups: BTreeMap<(String, String), (u64, u128)> = BTreeMap::new();
        for replica in &now.replicas {
            let key = (replica.model.clone(), replica.hardware.clone());
            let (up_ms, cost) = ups.entry(key).or_default();
            *up_ms += gone_ms * u64::from(replica.accelerators.max(1));
            *cost += u128::from(gone_ms) * 1_000_000 * u128::from(replica.micros_per_hour);
        }
        self.rest.retain(|key, _| ups.contains_key(key));
        let ups = ups.into_iter().map(|(key, (up_ms, cost))| {
            let rest = self.rest.entry(key.clone()).or_default();
            let cost = cost + *rest;
            *rest = cost % HOUR_NANOS;
            let cost_micros = u64::try_from(cost / HOUR_NANOS).unwrap_or(u64::MAX);
            let (model, hardware) = key;
            let entitled = now.entitled.clone();
            UpTime { hour: hour(unix_ms), model, hardware, up_ms, cost_micros, entitled }
        });
        ups.filter(|up| up.up_ms > 0).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_prices_add_up() {
        let replica = Replica {
            name: "r".to_owned(),
            model: "m".to_owned(),
            accelerators: 2,
            micros_per_hour: 1000,
            ..Replica::default()
        };
        let now = Now { replicas: vec![replica], ..Now::default() };
        let mut meter = Meter::default();
        let (mut cost, mut up) = (0, 0);
        for second in 1..=3600u64 {
            for one in meter.look(second * 1_000_000_000 + 300_000, 0, &now) {
                cost += one.cost_micros;
                up += one.up_ms;
            }
        }
        assert_eq!((cost, up), (1000, 7_200_000));
        // A machine that slept for an hour was not up for it.
        let slept = meter.look(7200 * 1_000_000_000, 0, &now);
        assert_eq!(slept[0].up_ms, 120_000);
    }
}
