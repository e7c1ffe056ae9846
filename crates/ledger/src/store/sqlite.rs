//! SQLite in a file of this machine: one thread writes, one reads beside it.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use pilotage_lens::usage::{Group, Sums};
use rusqlite::{Connection, OpenFlags, ToSql, Transaction, params};
use tokio::sync::oneshot;

use super::migrations::{ID, STEPS};
use super::sql::{self, Adds, Sorted, Statement, Value, int, uint};
use super::{Ask, AskRows, Batch, Dimension, Done, Page, Range, Store, StoreError, Summed, Used};

/// Questions that wait for a thread; more are refused.
const WAITING_MAX: usize = 64;

/// How long a lock is waited for.
const BUSY: Duration = Duration::from_secs(5);

/// Rows that are forgotten at a time.
const FORGET_ROWS: i64 = 5000;

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
}

/// A thread's connection, made when it is needed first, and again after it failed.
struct Lane {
    path: PathBuf,
    writes: bool,
    connection: Option<Connection>,
}

impl Sqlite {
    /// The store in that file, which is made when it is not there.
    pub fn at(path: PathBuf) -> Self {
        let (writes, jobs) = sync_channel(WAITING_MAX);
        start(path.clone(), true, jobs);
        let (reads, jobs) = sync_channel(WAITING_MAX);
        start(path, false, jobs);
        Self { writes, reads }
    }

    fn ask<T: Send + 'static>(
        &self,
        jobs: &SyncSender<Job>,
        job: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, Done<T>> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |lane| {
            let _ = answer.send(lane.run(job));
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

fn start(path: PathBuf, writes: bool, jobs: Receiver<Job>) {
    let mut lane = Lane { path, writes, connection: None };
    let name = if writes { "usage-writes" } else { "usage-reads" };
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
    fn run<T>(&mut self, job: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Done<T> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => {
                let opened = open(&self.path, self.writes).map_err(|error| wrong(&error))?;
                self.connection.insert(opened)
            }
        };
        let done = job(connection).map_err(|error| wrong(&error));
        if matches!(done, Err(StoreError::Away(_))) {
            self.connection = None;
        }
        done
    }
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
    use rusqlite::ErrorCode::{ConstraintViolation, TooBig, TypeMismatch};
    match error.sqlite_error_code() {
        Some(ConstraintViolation | TooBig | TypeMismatch) => StoreError::Refused(error.to_string()),
        _ => StoreError::Away(error.to_string()),
    }
}

impl Store for Sqlite {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    fn put(&self, batch: Batch) -> BoxFuture<'_, Done<()>> {
        self.ask(&self.writes, move |connection| put(connection, batch))
    }

    fn sums(&self, ask: Ask) -> BoxFuture<'_, Done<Vec<Summed>>> {
        self.ask(&self.reads, move |connection| {
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
        self.ask(&self.reads, move |connection| {
            let found = query(connection, &sql::rows(&ask), |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?;
            Ok(sql::page(found, ask.limit))
        })
    }

    fn pools(&self, range: Range) -> BoxFuture<'_, Done<Vec<Used>>> {
        self.ask(&self.reads, move |connection| {
            let mut found = Vec::new();
            for (step, piece) in sql::pieces(range, false) {
                found.extend(query(connection, &sql::pools(step, piece), used)?);
            }
            Ok(found)
        })
    }

    fn forget(&self, rows_before_ms: u64, before_hour: u64) -> BoxFuture<'_, Done<u64>> {
        self.ask(&self.writes, move |connection| {
            let transaction = connection.transaction()?;
            let gone = transaction.execute(
                "DELETE FROM rows WHERE id IN (SELECT id FROM rows WHERE unix_ms < ?1 ORDER BY unix_ms LIMIT ?2)",
                params![int(rows_before_ms), FORGET_ROWS],
            )?;
            for table in ["sums", "ups"] {
                let text = format!("DELETE FROM {table} WHERE step = 0 AND at < ?1");
                transaction.execute(&text, params![int(before_hour)])?;
            }
            transaction.commit()?;
            Ok(gone as u64)
        })
    }
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
        marks(11)
    );
    let mut insert = transaction.prepare(&text)?;
    for (sequence, row) in std::mem::take(&mut sorted.rows) {
        let body = serde_json::to_string(&row).unwrap_or_default();
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
        ])?;
        if added == 1 {
            sorted.count(&row);
        }
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
    // SQLite numbers `?1`; `$1` would be a name.
    let mut prepared = connection.prepare(&statement.text.replace('$', "?"))?;
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

fn used(row: &rusqlite::Row<'_>) -> rusqlite::Result<Used> {
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
    let entitled = serde_json::from_str(&row.get::<_, String>(9)?).unwrap_or_default();
    Ok(Used { at: number(0)?, group, sums, up_ms: number(7)?, cost_micros: number(8)?, entitled })
}
