//! SQLite in a file of this machine: one thread writes, one reads beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use pilotage_lens::usage::{Group, Seconds, Sums};
use pilotage_shell::clock::Clock;
use rusqlite::{Connection, OpenFlags, ToSql, Transaction, params};
use tokio::sync::oneshot;

use super::migrations::{ID, STEPS};
use super::sql::{self, Adds, Sorted, Statement, Value, int, uint};
use super::{
    Ask, AskRows, Batch, Dimension, Done, Forgotten, Old, Page, QUESTION, Range, Spent, Store,
    StoreError, Summed, Used,
};
use crate::meter::Key;

/// Questions that wait for a thread; more are refused.
const WAITING_MAX: usize = 64;

/// How long a lock is waited for.
const BUSY: Duration = Duration::from_secs(5);

/// Steps of SQLite's machine between two looks whether a question has taken too long: some ten microseconds of work.
const STEPS_BETWEEN_LOOKS: i32 = 10_000;

/// Fewer pages of the write-ahead log make writing wait for the disk more often, more make reading slower.
const PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY; \
     PRAGMA cache_size = -16384; PRAGMA wal_autocheckpoint = 4000;";

/// Of the threads that work on the file. Half of the way down: they go on beside a gateway that is always busy.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

type Job = Box<dyn FnOnce(&mut Lane) + Send>;

/// A store in a file.
#[derive(Debug)]
pub struct Sqlite {
    writes: SyncSender<Job>,
    reads: SyncSender<Job>,
    limit: Duration,
    clock: Clock,
}

/// A thread's connection, made when it is needed first, and again after it failed.
struct Lane {
    path: PathBuf,
    writes: bool,
    clock: Clock,
    /// When what runs is given up; zero for never.
    until: Arc<AtomicU64>,
    connection: Option<Connection>,
}

impl Sqlite {
    /// The store in that file, which is made when it is not there.
    pub fn at(path: PathBuf) -> Self {
        Self::with_limit(path, QUESTION)
    }

    /// The same, where questions are given up after so long, waiting for others included.
    pub fn with_limit(path: PathBuf, limit: Duration) -> Self {
        let clock = Clock::start();
        let (writes, jobs) = sync_channel(WAITING_MAX);
        start(Lane::new(path.clone(), true, clock), jobs);
        let (reads, jobs) = sync_channel(WAITING_MAX);
        start(Lane::new(path, false, clock), jobs);
        Self { writes, reads, limit, clock }
    }

    /// Asks the thread that reads, which gives up in time.
    fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, Done<T>> {
        let limit = self.limit;
        let nanos = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        let until = self.clock.now_nanos().saturating_add(nanos).max(1);
        self.ask(&self.reads, move |lane| lane.run_until(until, limit, job))
    }

    /// Asks the thread that writes. What it began it ends.
    fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, Done<T>> {
        self.ask(&self.writes, move |lane| lane.run(job))
    }

    fn ask<T: Send + 'static>(
        &self,
        jobs: &SyncSender<Job>,
        run: impl FnOnce(&mut Lane) -> Done<T> + Send + 'static,
    ) -> BoxFuture<'static, Done<T>> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |lane| {
            let _ = answer.send(run(lane));
        });
        let sent = jobs.try_send(job);
        async move {
            match sent {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => {
                    return Err(StoreError::Away(
                        "too many questions at once; ask again in a moment".to_owned(),
                    ));
                }
                Err(TrySendError::Disconnected(_)) => return Err(gone()),
            }
            answered.await.unwrap_or_else(|_| Err(gone()))
        }
        .boxed()
    }
}

fn gone() -> StoreError {
    StoreError::Away("its thread is gone".to_owned())
}

fn start(mut lane: Lane, jobs: Receiver<Job>) {
    let name = if lane.writes { "usage-writes" } else { "usage-reads" };
    let thread = std::thread::Builder::new().name(name.to_owned());
    // Without the thread the channel is closed, and everything asked answers so.
    let _ = thread.spawn(move || {
        give_way();
        jobs.into_iter().for_each(|job| job(&mut lane));
    });
}

/// Lets requests have the processor before this thread. On Linux alone threads have a niceness of their own.
fn give_way() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "usage is stored at the priority of requests");
    }
}

impl Lane {
    fn new(path: PathBuf, writes: bool, clock: Clock) -> Self {
        Self { path, writes, clock, until: Arc::default(), connection: None }
    }

    /// The same as [`Self::run`], and given up at that moment.
    fn run_until<T>(
        &mut self,
        until: u64,
        limit: Duration,
        job: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Done<T> {
        let slow = || StoreError::Slow(limit.as_secs());
        if self.clock.now_nanos() >= until {
            return Err(slow());
        }
        self.until.store(until, Ordering::Relaxed);
        let done = self.run(job);
        self.until.store(0, Ordering::Relaxed);
        done.map_err(|error| if matches!(error, StoreError::Slow(_)) { slow() } else { error })
    }

    fn run<T>(&mut self, job: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Done<T> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => {
                let opened = open(&self.path, self.writes).and_then(|mut connection| {
                    give_up(&mut connection, self.clock, Arc::clone(&self.until))?;
                    Ok(connection)
                });
                self.connection.insert(opened.map_err(|error| wrong(&error))?)
            }
        };
        let done = job(connection).map_err(|error| wrong(&error));
        if matches!(done, Err(StoreError::Away(_))) {
            self.connection = None;
        }
        done
    }
}

/// Lets what runs be given up at a moment that somebody sets.
fn give_up(
    connection: &mut Connection,
    clock: Clock,
    until: Arc<AtomicU64>,
) -> rusqlite::Result<()> {
    let is_late = move || {
        let until = until.load(Ordering::Relaxed);
        until > 0 && clock.now_nanos() >= until
    };
    connection.progress_handler(STEPS_BETWEEN_LOOKS, Some(is_late))
}

fn open(path: &Path, writes: bool) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.execute_batch(PRAGMAS)?;
    // Whoever comes first makes the tables.
    migrate(&mut connection)?;
    if !writes {
        connection.execute_batch("PRAGMA query_only = 1")?;
    }
    Ok(connection)
}

fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let done: usize =
        transaction.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))? as usize;
    for step in STEPS.iter().skip(done) {
        for statement in *step {
            transaction.execute_batch(&statement.replace(ID, "INTEGER PRIMARY KEY"))?;
        }
    }
    if done < STEPS.len() {
        transaction.pragma_update(None, "user_version", STEPS.len() as i64)?;
    }
    transaction.commit()
}

/// What was wrong: the row, or the store.
fn wrong(error: &rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode::{ConstraintViolation, OperationInterrupted, TooBig, TypeMismatch};
    match error.sqlite_error_code() {
        Some(ConstraintViolation | TooBig | TypeMismatch) => StoreError::Refused(error.to_string()),
        Some(OperationInterrupted) => StoreError::Slow(0),
        _ => StoreError::Away(error.to_string()),
    }
}

impl Store for Sqlite {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    fn put(&self, batch: Batch) -> BoxFuture<'_, Done<()>> {
        self.write(move |connection| put(connection, batch))
    }

    fn sums(&self, ask: Ask) -> BoxFuture<'_, Done<Vec<Summed>>> {
        self.read(move |connection| {
            let by_hour = ask.by.contains(&Dimension::Hour);
            let mut found = Vec::new();
            for (step, piece) in sql::pieces(ask.range, by_hour) {
                let keys = ask.by.len();
                found.extend(query(connection, &sql::sums(step, piece, &ask), |row| {
                    summed(row, keys)
                })?);
            }
            Ok(found)
        })
    }

    fn rows(&self, ask: AskRows) -> BoxFuture<'_, Done<Page>> {
        self.read(move |connection| {
            let found = query(connection, &sql::rows(&ask), |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?;
            Ok(sql::page(found, ask.limit))
        })
    }

    fn pools(&self, range: Range) -> BoxFuture<'_, Done<Vec<Used>>> {
        self.read(move |connection| {
            let mut found = Vec::new();
            for (step, piece) in sql::pieces(range, false) {
                found.extend(query(connection, &sql::pools(step, piece), used)?);
            }
            let mut lists = BTreeMap::new();
            for digest in sql::digests(&found) {
                let parts = query(connection, &sql::list(&digest), |row| row.get(0))?;
                lists.insert(digest, parts);
            }
            Ok(sql::entitle(found, &lists))
        })
    }

    fn spent(&self, range: Range, by_hour: bool) -> BoxFuture<'_, Done<Vec<Spent>>> {
        let step = if by_hour { 0 } else { 1 };
        self.read(move |connection| {
            query(connection, &sql::spent(step, range), |row| {
                let (at, charged) = (uint(row.get(1)?), uint(row.get(2)?));
                Ok(Spent { tenant_path: row.get(0)?, at, charged_micros: charged })
            })
        })
    }

    fn forget(&self, old: Old) -> BoxFuture<'_, Done<Forgotten>> {
        self.write(move |connection| forget(connection, old))
    }
}

fn forget(connection: &mut Connection, old: Old) -> rusqlite::Result<Forgotten> {
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    transaction.execute(&mark(sql::RAISE_FLOOR), params![int(old.meters_before)])?;
    let mut gone = Forgotten::default();
    for (text, age) in sql::FORGET {
        let text =
            text.replace("{ROW}", "rowid").replace("{IN}", "rowid IN ").replace("{END}", ")");
        let count =
            transaction.execute(&mark(&text), params![old.before(age), sql::FORGET_ROWS])?;
        gone.count(age, count as u64);
    }
    transaction.commit()?;
    Ok(gone)
}

/// SQLite numbers `?1`; `$1` would be a name.
fn mark(text: &str) -> String {
    text.replace('$', "?")
}

fn put(connection: &mut Connection, batch: Batch) -> rusqlite::Result<()> {
    let instance = batch.instance.clone();
    let Some(last) = batch.entries.last().map(|(sequence, _)| *sequence) else { return Ok(()) };
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let upto = transaction
        .prepare("SELECT upto FROM instances WHERE instance = ?1")?
        .query_map(params![instance], |row| row.get::<_, i64>(0))?
        .next()
        .transpose()?;
    let mut sorted = Sorted::of(batch, upto.map_or(0, uint));
    put_rows(&transaction, &instance, &mut sorted)?;
    put_readings(&transaction, &mut sorted)?;
    let (sums, ups) = sorted.sums();
    let text = format!("{} VALUES ({}) {}", sql::INSERT_SUMS, marks(17), sql::ADD_SUMS);
    add(&transaction, &text, &sums, |sums| sums.numbers.to_vec())?;
    let text = format!("{} VALUES (?1, ?2, ?3, ?4, ?6, ?7, ?5) {}", sql::INSERT_UPS, sql::ADD_UPS);
    add(&transaction, &text, &ups, |ups| ups.numbers.to_vec())?;
    let text = "INSERT INTO instances (instance, upto) VALUES (?1, ?2) \
         ON CONFLICT (instance) DO UPDATE SET upto = MAX(upto, excluded.upto)";
    transaction.execute(text, params![instance, int(last)])?;
    transaction.commit()
}

fn put_rows(
    transaction: &Transaction<'_>,
    instance: &str,
    sorted: &mut Sorted,
) -> rusqlite::Result<()> {
    let text = format!(
        "{} VALUES ({}) ON CONFLICT (instance, seq) DO NOTHING",
        sql::INSERT_ROW,
        marks(12)
    );
    let mut insert = transaction.prepare(&text)?;
    for (sequence, mut row) in std::mem::take(&mut sorted.rows) {
        let (body, detail) = sql::texts(&mut row);
        let added = insert.execute(params![
            instance,
            int(sequence),
            int(row.unix_ms),
            row.request_id,
            row.tenant.as_deref().unwrap_or_default(),
            row.model.as_deref().unwrap_or_default(),
            int(row.input),
            int(row.cached),
            int(row.output),
            int(row.charged_micros),
            body,
            detail,
        ])?;
        if added == 1 {
            sorted.count(&row);
        }
    }
    Ok(())
}

/// Counts what was seen of replicas, as far as nobody has seen it before.
fn put_readings(transaction: &Transaction<'_>, sorted: &mut Sorted) -> rusqlite::Result<()> {
    let text = "INSERT INTO entitled (digest, part, hour, body) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (digest, part) DO UPDATE SET hour = MAX(hour, excluded.hour)";
    let mut insert = transaction.prepare(text)?;
    for ((digest, part), (hour, body)) in std::mem::take(&mut sorted.entitled) {
        insert.execute(params![digest, part, hour, body])?;
    }
    if !sorted.has_readings() {
        return Ok(());
    }
    let floor = transaction.query_row(sql::FLOOR, [], |row| row.get(0))?;
    let mut known: BTreeMap<Key, Seconds> = BTreeMap::new();
    let text = "SELECT seconds FROM meters WHERE hour = ?1 AND model = ?2 AND replica = ?3";
    let mut select = transaction.prepare(text)?;
    for key in sorted.read_keys(floor) {
        let at = params![int(key.hour), key.model, key.replica];
        let seconds = select.query_map(at, |row| row.get::<_, String>(0))?.next().transpose()?;
        known.insert(key, seconds.and_then(|text| text.parse().ok()).unwrap_or_default());
    }
    let text =
        "INSERT OR REPLACE INTO meters (hour, model, replica, seconds) VALUES (?1, ?2, ?3, ?4)";
    let mut replace = transaction.prepare(text)?;
    for (key, seconds) in sorted.meter(known) {
        replace.execute(params![int(key.hour), key.model, key.replica, seconds])?;
    }
    Ok(())
}

fn add<const A: usize, const B: usize>(
    transaction: &Transaction<'_>,
    text: &str,
    all: &[Adds<A, B>],
    numbers: impl Fn(&Adds<A, B>) -> Vec<i64>,
) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare(text)?;
    for adds in all {
        let numbers = numbers(adds);
        let keys = [&adds.step as &dyn ToSql, &adds.at].into_iter();
        let names = adds.names.iter().map(|name| name as &dyn ToSql);
        let values: Vec<&dyn ToSql> =
            keys.chain(names).chain(numbers.iter().map(|number| number as &dyn ToSql)).collect();
        insert.execute(values.as_slice())?;
    }
    Ok(())
}

fn marks(count: usize) -> String {
    (1..=count).map(|at| format!("?{at}")).collect::<Vec<_>>().join(", ")
}

fn query<T>(
    connection: &Connection,
    statement: &Statement,
    read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    let mut prepared = connection.prepare(&mark(&statement.text))?;
    let values = statement.values.iter().map(|value| match value {
        Value::Int(int) => int as &dyn ToSql,
        Value::Text(text) => text as &dyn ToSql,
    });
    let values: Vec<&dyn ToSql> = values.collect();
    prepared.query_map(values.as_slice(), read)?.collect()
}

fn summed(row: &rusqlite::Row<'_>, keys: usize) -> rusqlite::Result<Summed> {
    let number = |at: usize| row.get::<_, i64>(keys + at).map(uint);
    let sums = Sums {
        requests: number(0)?,
        input: number(1)?,
        cached: number(2)?,
        output: number(3)?,
        reasoning: number(4)?,
        charged_micros: number(5)?,
        kv_token_ms: number(6)?,
        overhead_kv_token_ms: number(7)?,
        busy_us: number(8)?,
    };
    let names = (0..keys).map(|at| row.get(at)).collect::<rusqlite::Result<_>>()?;
    Ok(Summed {
        keys: names,
        sums,
        accelerator_us: row.get(keys + 9)?,
        cost_micros: row.get(keys + 10)?,
    })
}

fn used(row: &rusqlite::Row<'_>) -> rusqlite::Result<(Used, String)> {
    let number = |at: usize| row.get::<_, i64>(at).map(uint);
    let group = Group {
        model: row.get(1)?,
        hardware: row.get(2)?,
        tenant: row.get(3)?,
        ..Group::default()
    };
    let sums = Sums {
        kv_token_ms: number(4)?,
        overhead_kv_token_ms: number(5)?,
        busy_us: number(6)?,
        ..Sums::default()
    };
    let (up_ms, cost_micros) = (number(7)?, number(8)?);
    let used = Used { at: number(0)?, group, sums, up_ms, cost_micros, ..Used::default() };
    Ok((used, row.get(9)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_question_that_does_not_end_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let limit = Duration::from_millis(50);
        let store = Sqlite::with_limit(folder.path().join("usage.db"), limit);
        let endless = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n) SELECT COUNT(*) FROM n";
        let ask = || store.read(move |one| one.query_row(endless, [], |row| row.get::<_, i64>(0)));
        let (first, second) = tokio::join!(ask(), ask());
        // The second one waited for the first, and so is late from the beginning.
        for done in [first, second] {
            let error = done.unwrap_err();
            assert!(matches!(error, StoreError::Slow(_)), "{error}");
            assert!(error.to_string().contains("ask for less time"), "{error}");
        }
        // Writing has no such limit, and the next question finds a connection that is well.
        store.put(Batch { instance: "i".to_owned(), entries: Vec::new() }).await.unwrap();
        let one = store.read(|one| one.query_row("SELECT 1", [], |row| row.get::<_, i64>(0)));
        assert_eq!(one.await.unwrap(), 1);
    }
}
