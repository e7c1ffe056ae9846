//! Moves entries from the journal into the store, and forgets what is old.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pilotage_shell::clock::Clock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::journal::{Damage, Journal, Next, Place};
use crate::settings::Settings;
use crate::state::Shared;
use crate::store::{Batch, Old, Store, StoreError};

/// The wait after the first failure.
const RETRY_WAIT_MIN: Duration = Duration::from_millis(100);

/// Between two looks for what is old.
const FORGET_EVERY_NANOS: u64 = 600_000_000_000;

/// Between two batches that are not full. A transaction of many rows costs little more than one of a single row, and
/// what waits is on disk already.
const GATHER: Duration = Duration::from_millis(250);
const HOUR_MS: u64 = 3_600_000;

/// How long it is kept which seconds of replicas were seen. A gateway's journal that could not be stored for longer
/// adds nothing to the time in which they were up, for nobody knows then what others saw.
const METERS_AGE: Duration = Duration::from_secs(45 * 86_400);

/// The task's parts.
#[derive(Debug)]
pub(crate) struct Storer {
    pub(crate) journal: Arc<Journal>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) state: Arc<Shared>,
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) written: watch::Receiver<u64>,
    pub(crate) stop: CancellationToken,
}

/// Before a journal that could not be read is read again.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// The journal could not be read.
struct Unread;

/// Says what damage was found in the journal.
pub(crate) fn tell(journal: &Journal, state: &Shared) {
    for Damage { path, rows } in journal.damage() {
        let path = path.display();
        tracing::error!(%path, rows, "a file of the usage journal is damaged");
        state.damaged(rows, format!("{path} is damaged; what else is in it is stored"));
    }
}

impl Storer {
    /// Stores what comes, until it shall stop and everything is stored, or the store is away.
    pub(crate) async fn run(mut self) {
        let mut place = None;
        let mut failures = 0;
        let mut forget_at = 0;
        loop {
            self.written.mark_unchanged();
            // Between two batches that come, one that goes: it is the larger one, so that whatever comes, as much
            // can go, and nobody who writes waits for more than that.
            if self.clock.now_nanos() >= forget_at && failures == 0 && !self.forget().await {
                forget_at = self.clock.now_nanos() + FORGET_EVERY_NANOS;
            }
            let Ok(next) = self.next(place.clone()).await else {
                if self.wait(READ_AGAIN).await {
                    return;
                }
                continue;
            };
            match next {
                Some(next) => match self.put(next).await {
                    Ok((behind, full)) => {
                        place = Some(behind);
                        failures = 0;
                        if !full {
                            self.wait(GATHER).await;
                        }
                    }
                    Err(error) => {
                        self.away(&error);
                        failures += 1;
                        if self.wait(backoff(failures, self.settings.bounds.retry_wait_max)).await {
                            return;
                        }
                    }
                },
                None if self.stop.is_cancelled() => return,
                None if self.clock.now_nanos() >= forget_at => {}
                None => {
                    tokio::select! {
                        () = self.journal.came.notified() => {}
                        changed = self.written.changed() => if changed.is_err() { return },
                        () = self.stop.cancelled() => {}
                    }
                }
            }
        }
    }

    /// What is to be stored next.
    ///
    /// # Errors
    /// The journal cannot be read now. What was answered for is not given up for that: the disk may be well again.
    async fn next(&self, place: Option<Place>) -> Result<Option<Next>, Unread> {
        let (journal, rows) = (Arc::clone(&self.journal), self.settings.bounds.batch_rows_max);
        let read = move || journal.next(place.as_ref(), rows);
        let next = tokio::task::spawn_blocking(read).await;
        tell(&self.journal, &self.state);
        let error = match next {
            Ok(Ok(next)) => {
                self.state.unread(self.clock.unix_ms(), None);
                return Ok(next);
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::warn!(error, "the usage journal cannot be read; it is tried again");
        let told = format!("the journal cannot be read now: {error}");
        self.state.unread(self.clock.unix_ms(), Some(told));
        Err(Unread)
    }

    /// Stores a batch. What the store refuses for what it is, is written beside the journal: it must not stand
    /// in the way of the rest. Says where the next one begins, and whether this one was full.
    async fn put(&self, next: Next) -> Result<(Place, bool), StoreError> {
        let Next { batch, behind } = next;
        let entries = batch.entries.len() as u64;
        let full = batch.entries.len() >= self.settings.bounds.batch_rows_max;
        match self.put_in_time(batch.clone()).await {
            Err(StoreError::Refused(_)) => {
                for entry in batch.entries {
                    let one = Batch { instance: batch.instance.clone(), entries: vec![entry] };
                    if let Err(StoreError::Refused(error)) =
                        keep_away(self.put_in_time(one.clone()).await)?
                    {
                        self.refuse(&one, &error)?;
                    }
                }
            }
            done => done?,
        }
        self.journal.stored(entries);
        self.state.stored(entries);
        if self.state.store(self.clock.unix_ms(), None) {
            tracing::info!("usage is stored again");
        }
        Ok((behind, full))
    }

    async fn put_in_time(&self, batch: Batch) -> Result<(), StoreError> {
        let limit = self.settings.bounds.store_timeout;
        match tokio::time::timeout(limit, self.store.put(batch)).await {
            Ok(Err(StoreError::Slow(seconds))) => {
                Err(StoreError::Away(format!("nothing was stored within {seconds} s")))
            }
            Ok(done) => done,
            Err(_) => Err(StoreError::Away(format!("no answer within {} s", limit.as_secs()))),
        }
    }

    fn refuse(&self, batch: &Batch, error: &str) -> Result<(), StoreError> {
        let path: PathBuf = self.settings.folder.join("refused.jsonl");
        let wrong =
            |error: std::io::Error| StoreError::Away(format!("{}: {error}", path.display()));
        let mut line = serde_json::to_vec(&batch.entries).unwrap_or_default();
        line.push(b'\n');
        let mut file =
            std::fs::File::options().append(true).create(true).open(&path).map_err(wrong)?;
        file.write_all(&line).and_then(|()| file.sync_data()).map_err(wrong)?;
        tracing::error!(error, path = %path.display(), "the store refused a row of usage; it is kept there");
        self.state.refused(error.to_owned());
        Ok(())
    }

    fn away(&self, error: &StoreError) {
        if self.state.store(self.clock.unix_ms(), Some(error.to_string())) {
            tracing::error!(%error, "usage waits in the journal");
        }
    }

    /// Waits; whether to give up, for it shall stop.
    async fn wait(&self, wait: Duration) -> bool {
        tokio::select! {
            () = self.clock.sleep_until_nanos(self.clock.now_nanos() + nanos(wait)) => false,
            () = self.stop.cancelled() => true,
        }
    }

    /// Forgets some of what is old; whether there is more of it.
    async fn forget(&self) -> bool {
        let now = self.clock.unix_ms();
        let before =
            |age: Duration| now.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        let old = Old {
            rows_before_ms: before(self.settings.rows_age_max),
            hours_before: before(self.settings.hours_age_max) / HOUR_MS,
            meters_before: before(METERS_AGE) / HOUR_MS,
        };
        match self.store.forget(old).await {
            Ok(gone) => gone.more,
            Err(error) => {
                tracing::warn!(%error, "what is old in the usage ledger stays for now");
                false
            }
        }
    }
}

/// Passes on that a store is away; leaves the rest.
fn keep_away(done: Result<(), StoreError>) -> Result<Result<(), StoreError>, StoreError> {
    match done {
        Err(StoreError::Away(error)) => Err(StoreError::Away(error)),
        done => Ok(done),
    }
}

/// The wait before the next attempt: it doubles, and half of it is random so that gateways do not come all at
/// once.
fn backoff(failures: u32, max: Duration) -> Duration {
    let doubled = RETRY_WAIT_MIN.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(max);
    let mut random = [0; 1];
    let _ = getrandom::fill(&mut random);
    doubled / 2 + doubled.mul_f64(f64::from(random[0]) / 512.0)
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_their_limit() {
        let max = Duration::from_secs(30);
        let check = |failures: u32, low: u64, high: u64| {
            let wait = backoff(failures, max).as_millis();
            assert!((u128::from(low)..=u128::from(high)).contains(&wait), "{failures}: {wait}");
        };
        check(1, 50, 100);
        check(4, 400, 800);
        check(40, 15_000, 30_000);
    }
}
