//! PostgreSQL, for several gateways that share a ledger.
//!
//! One connection writes, one reads. Either is made when it is needed, and again after it broke.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use pilotage_lens::usage::{Group, Row, Seconds, Sums};
use pilotage_shell::secret::Secret;
use pilotage_shell::tasks;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, Transaction};

use super::migrations::{ID, STEPS};
use super::sql::{self, Adds, Sorted, Statement, Value, int, uint};
use super::tls::Tls;
use super::{
    Ask, AskRows, Batch, Dimension, Done, Forgotten, Old, Page, QUESTION, Range, Spent, Store,
    StoreError, Summed, Used,
};
use crate::meter::Key;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Which of all locks of a database is that of making our tables; any number that nobody else uses.
const MIGRATION_LOCK: i64 = 0x7069_6c6f_7461_6765;

/// A store in a PostgreSQL database.
#[derive(Debug)]
pub struct Postgres {
    url: Secret,
    writes: Lane,
    reads: Lane,
}

#[derive(Default)]
struct Lane {
    client: Mutex<Option<Client>>,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").finish_non_exhaustive()
    }
}

impl Postgres {
    /// The database of that URL.
    pub fn at(url: Secret) -> Self {
        Self { url, writes: Lane::default(), reads: Lane::default() }
    }

    /// A connection, which is made first where there is none. Waiting for it counts: a question has so long in all.
    async fn held<'a>(&self, lane: &'a Lane) -> Done<Held<'a>> {
        let until = sleep(QUESTION).deadline();
        let take = async {
            let mut place = lane.client.lock().await;
            let client = match place.take().filter(|client| !client.is_closed()) {
                Some(client) => client,
                None => connect(&self.url).await?,
            };
            Ok::<_, StoreError>(Held { place, client, until })
        };
        let taken = timeout_at(until, take).await;
        taken.unwrap_or_else(|_| Err(StoreError::Slow(QUESTION.as_secs())))
    }
}

/// A connection in use. Taken out of its place: whoever gives up in the middle leaves none behind.
struct Held<'a> {
    place: MutexGuard<'a, Option<Client>>,
    client: Client,
    /// When the time of the question is over.
    until: Instant,
}

impl Held<'_> {
    /// Ends the use: a connection that is well goes back.
    fn end<T>(mut self, done: Result<Result<T, tokio_postgres::Error>, Elapsed>) -> Done<T> {
        let Ok(done) = done else {
            return Err(StoreError::Slow(QUESTION.as_secs()));
        };
        if !self.client.is_closed() {
            *self.place = Some(self.client);
        }
        done.map_err(|error| wrong(&error))
    }
}

async fn connect(url: &Secret) -> Done<Client> {
    // What is wrong with the URL is not repeated: a password is in it.
    let mut config: Config = url.expose().parse().map_err(|_| {
        StoreError::Away("DATABASE_URL is no address of a PostgreSQL database; write postgres://USER:PASSWORD@HOST/NAME".to_owned())
    })?;
    config.connect_timeout(CONNECT).application_name("pilotage");
    let connecting = async {
        let (mut client, connection) =
            config.connect(Tls::new()).await.map_err(|error| wrong(&error))?;
        tasks::spawn("usage-postgres", async move {
            if let Err(error) = connection.await {
                tracing::warn!(%error, "the connection to the usage database broke");
            }
        });
        migrate(&mut client).await.map_err(|error| wrong(&error))?;
        Ok(client)
    };
    match timeout(QUESTION, connecting).await {
        Ok(client) => client,
        Err(_) => Err(StoreError::Away("it does not answer".to_owned())),
    }
}

async fn migrate(client: &mut Client) -> Result<(), tokio_postgres::Error> {
    // A gateway that hangs must not keep locks from the others.
    client.batch_execute("SET idle_in_transaction_session_timeout = 60000").await?;
    let transaction = client.transaction().await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&MIGRATION_LOCK]).await?;
    // Ours are in a schema of their own, for `rows` and `sums` are names that others may like, too.
    transaction
        .batch_execute(
            "CREATE SCHEMA IF NOT EXISTS pilotage_usage; SET search_path TO pilotage_usage; \
             CREATE TABLE IF NOT EXISTS steps (done BIGINT PRIMARY KEY)",
        )
        .await?;
    let done: i64 =
        transaction.query_one("SELECT COALESCE(MAX(done), 0) FROM steps", &[]).await?.get(0);
    for (at, step) in STEPS.iter().enumerate().skip(usize::try_from(done).unwrap_or_default()) {
        for statement in *step {
            let id = "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY";
            transaction.batch_execute(&statement.replace(ID, id)).await?;
        }
        let number = i64::try_from(at + 1).unwrap_or_default();
        transaction.execute("INSERT INTO steps (done) VALUES ($1)", &[&number]).await?;
    }
    transaction.commit().await?;
    // What was given up here is given up there as well.
    client.batch_execute("SET statement_timeout = 20000").await
}

/// What was wrong: the row, or the store. Classes 22 and 23 of SQLSTATE are data and constraints; 54000 is what
/// is too large for an index.
fn wrong(error: &tokio_postgres::Error) -> StoreError {
    let Some(told) = error.as_db_error() else { return StoreError::Away(whole(error)) };
    let code = told.code().code();
    // It was cancelled, which it is by its own limit.
    if code == "57014" {
        return StoreError::Slow(QUESTION.as_secs());
    }
    let refused = code.starts_with("22") || code.starts_with("23") || code.starts_with("54");
    let text = format!("{} ({code})", told.message());
    if refused { StoreError::Refused(text) } else { StoreError::Away(text) }
}

/// An error with what it comes from.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(&format!(": {inner}"));
        source = inner.source();
    }
    text
}

impl Store for Postgres {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn put(&self, batch: Batch) -> BoxFuture<'_, Done<()>> {
        async move {
            let mut held = self.held(&self.writes).await?;
            let done = timeout(QUESTION, put(&mut held.client, batch)).await;
            held.end(done)
        }
        .boxed()
    }

    fn sums(&self, ask: Ask) -> BoxFuture<'_, Done<Vec<Summed>>> {
        async move {
            let held = self.held(&self.reads).await?;
            let job = async {
                let mut found = Vec::new();
                for (step, piece) in sql::pieces(ask.range, ask.by.contains(&Dimension::Hour)) {
                    let rows = query(&held.client, &sql::sums(step, piece, &ask)).await?;
                    found.extend(rows.iter().map(|row| summed(row, ask.by.len())));
                }
                Ok(found)
            };
            let done = timeout_at(held.until, job).await;
            held.end(done)
        }
        .boxed()
    }

    fn rows(&self, ask: AskRows) -> BoxFuture<'_, Done<Page>> {
        async move {
            let held = self.held(&self.reads).await?;
            let job = async {
                let rows = query(&held.client, &sql::rows(&ask)).await?;
                let found = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3)));
                Ok(sql::page(found.collect(), ask.limit))
            };
            let done = timeout_at(held.until, job).await;
            held.end(done)
        }
        .boxed()
    }

    fn pools(&self, range: Range) -> BoxFuture<'_, Done<Vec<Used>>> {
        async move {
            let held = self.held(&self.reads).await?;
            let job = async {
                let mut found = Vec::new();
                for (step, piece) in sql::pieces(range, false) {
                    found.extend(
                        query(&held.client, &sql::pools(step, piece)).await?.iter().map(used),
                    );
                }
                let mut lists = BTreeMap::new();
                for digest in sql::digests(&found) {
                    let parts = query(&held.client, &sql::list(&digest)).await?;
                    lists.insert(digest, parts.iter().map(|row| row.get(0)).collect());
                }
                Ok(sql::entitle(found, &lists))
            };
            let done = timeout_at(held.until, job).await;
            held.end(done)
        }
        .boxed()
    }

    fn spent(&self, range: Range, by_hour: bool) -> BoxFuture<'_, Done<Vec<Spent>>> {
        let step = if by_hour { 0 } else { 1 };
        async move {
            let held = self.held(&self.reads).await?;
            let job = async {
                let rows = query(&held.client, &sql::spent(step, range)).await?;
                let found = rows.iter().map(|row| Spent {
                    tenant_path: row.get(0),
                    at: uint(row.get(1)),
                    charged_micros: uint(row.get(2)),
                });
                Ok(found.collect())
            };
            let done = timeout_at(held.until, job).await;
            held.end(done)
        }
        .boxed()
    }

    fn forget(&self, old: Old) -> BoxFuture<'_, Done<Forgotten>> {
        async move {
            let mut held = self.held(&self.writes).await?;
            let done = timeout_at(held.until, forget(&mut held.client, old)).await;
            held.end(done)
        }
        .boxed()
    }
}

async fn forget(client: &mut Client, old: Old) -> Result<Forgotten, tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    // Whoever counts readings of those hours is waited for, and whoever comes later sees the floor.
    transaction.execute(sql::RAISE_FLOOR, &[&int(old.meters_before)]).await?;
    let mut gone = Forgotten::default();
    for (text, age) in sql::FORGET {
        let text = text.replace("{ROW}", "ctid").replace("{IN}", "ctid = ANY(ARRAY");
        let text = text.replace("{END}", "))");
        let count = transaction.execute(&text, &[&old.before(age), &sql::FORGET_ROWS]).await?;
        gone.count(age, count);
    }
    transaction.commit().await?;
    Ok(gone)
}

async fn put(client: &mut Client, batch: Batch) -> Result<(), tokio_postgres::Error> {
    let instance = batch.instance.clone();
    let Some(last) = batch.entries.last().map(|(sequence, _)| *sequence) else { return Ok(()) };
    let transaction = client.transaction().await?;
    let text =
        "INSERT INTO instances (instance, upto) VALUES ($1, 0) ON CONFLICT (instance) DO NOTHING";
    transaction.execute(text, &[&instance]).await?;
    // Whoever stores entries of the same instance waits here, and then sees that they are there.
    let text = "SELECT upto FROM instances WHERE instance = $1 FOR UPDATE";
    let upto: i64 = transaction.query_one(text, &[&instance]).await?.get(0);
    let mut sorted = Sorted::of(batch, uint(upto));
    put_rows(&transaction, &instance, &mut sorted).await?;
    put_lists(&transaction, &mut sorted).await?;
    put_readings(&transaction, &mut sorted).await?;
    let (sums, ups) = sorted.sums();
    let text = format!(
        "{} SELECT * FROM {} {}",
        sql::INSERT_SUMS,
        unnest(&[(2, "bigint"), (6, "text"), (9, "bigint")]),
        sql::ADD_SUMS
    );
    add(&transaction, &text, &sums).await?;
    let text = format!(
        "{} SELECT step, at, model, hardware, up_ms, cost, entitled FROM {} AS t(step, at, model, hardware, entitled, up_ms, cost) {}",
        sql::INSERT_UPS,
        unnest(&[(2, "bigint"), (3, "text"), (2, "bigint")]),
        sql::ADD_UPS
    );
    add(&transaction, &text, &ups).await?;
    let text = "UPDATE instances SET upto = GREATEST(upto, $2) WHERE instance = $1";
    transaction.execute(text, &[&instance, &int(last)]).await?;
    transaction.commit().await
}

async fn put_rows(
    transaction: &Transaction<'_>,
    instance: &str,
    sorted: &mut Sorted,
) -> Result<(), tokio_postgres::Error> {
    let mut rows = std::mem::take(&mut sorted.rows);
    if rows.is_empty() {
        return Ok(());
    }
    let (bodies, details): (Vec<String>, Vec<String>) =
        rows.iter_mut().map(|(_, row)| sql::texts(row)).unzip();
    let numbers = |number: fn(&Row) -> u64| -> Vec<i64> {
        rows.iter().map(|(_, row)| int(number(row))).collect()
    };
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let sequences: Vec<i64> = rows.iter().map(|(sequence, _)| int(*sequence)).collect();
    let ids: Vec<&str> = rows.iter().map(|(_, row)| row.request_id.as_str()).collect();
    let tenants: Vec<String> = rows.iter().map(|(_, row)| text(&row.tenant)).collect();
    let models: Vec<String> = rows.iter().map(|(_, row)| text(&row.model)).collect();
    let statement = format!(
        "{} SELECT $1, * FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::bigint[], \
         $8::bigint[], $9::bigint[], $10::bigint[], $11::text[], $12::text[]) ON CONFLICT (instance, seq) DO NOTHING RETURNING seq",
        sql::INSERT_ROW
    );
    let statement = transaction.prepare_typed(&statement, &[Type::TEXT]).await?;
    let values: [&(dyn ToSql + Sync); 12] = [
        &instance,
        &sequences,
        &numbers(|row| row.unix_ms),
        &ids,
        &tenants,
        &models,
        &numbers(|row| row.input),
        &numbers(|row| row.cached),
        &numbers(|row| row.output),
        &numbers(|row| row.charged_micros),
        &bodies,
        &details,
    ];
    let added = transaction.query(&statement, &values).await?;
    let added: std::collections::BTreeSet<i64> = added.iter().map(|row| row.get(0)).collect();
    rows.iter()
        .filter(|(sequence, _)| added.contains(&int(*sequence)))
        .for_each(|(_, row)| sorted.count(row));
    Ok(())
}

/// Keeps lists of who could count on what, each once.
async fn put_lists(
    transaction: &Transaction<'_>,
    sorted: &mut Sorted,
) -> Result<(), tokio_postgres::Error> {
    let text = "INSERT INTO entitled (digest, part, hour, body) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (digest, part) DO UPDATE SET hour = GREATEST(entitled.hour, excluded.hour)";
    for ((digest, part), (hour, body)) in std::mem::take(&mut sorted.entitled) {
        transaction.execute(text, &[&digest, &part, &hour, &body]).await?;
    }
    Ok(())
}

/// Counts what was seen of replicas, as far as nobody has seen it before. Whoever counts the same replica in the same
/// hour waits until the other one is done.
async fn put_readings(
    transaction: &Transaction<'_>,
    sorted: &mut Sorted,
) -> Result<(), tokio_postgres::Error> {
    if !sorted.has_readings() {
        return Ok(());
    }
    let text = format!("{} FOR SHARE", sql::FLOOR);
    let floor: i64 = transaction.query_one(&text, &[]).await?.get(0);
    let keys = sorted.read_keys(floor);
    let hours: Vec<i64> = keys.iter().map(|key| int(key.hour)).collect();
    let models: Vec<&str> = keys.iter().map(|key| key.model.as_str()).collect();
    let replicas: Vec<&str> = keys.iter().map(|key| key.replica.as_str()).collect();
    let keys = unnest(&[(1, "bigint"), (2, "text")]);
    let text = format!(
        "INSERT INTO meters (hour, model, replica, seconds) SELECT hour, model, replica, '' \
         FROM {keys} AS k(hour, model, replica) ON CONFLICT (hour, model, replica) DO NOTHING"
    );
    transaction.execute(&text, &[&hours, &models, &replicas]).await?;
    let text = format!(
        "SELECT m.hour, m.model, m.replica, m.seconds FROM meters m JOIN {keys} AS k(hour, model, replica) \
         ON m.hour = k.hour AND m.model = k.model AND m.replica = k.replica ORDER BY 1, 2, 3 FOR UPDATE OF m"
    );
    let rows = transaction.query(&text, &[&hours, &models, &replicas]).await?;
    let known = rows.iter().map(|row| {
        let key = Key { hour: uint(row.get(0)), model: row.get(1), replica: row.get(2) };
        (key, row.get::<_, &str>(3).parse::<Seconds>().unwrap_or_default())
    });
    let grown = sorted.meter(known.collect());
    let hours: Vec<i64> = grown.iter().map(|(key, _)| int(key.hour)).collect();
    let models: Vec<&str> = grown.iter().map(|(key, _)| key.model.as_str()).collect();
    let replicas: Vec<&str> = grown.iter().map(|(key, _)| key.replica.as_str()).collect();
    let seconds: Vec<&str> = grown.iter().map(|(_, seconds)| seconds.as_str()).collect();
    let text = format!(
        "UPDATE meters m SET seconds = k.seconds FROM {} AS k(hour, model, replica, seconds) \
         WHERE m.hour = k.hour AND m.model = k.model AND m.replica = k.replica",
        unnest(&[(1, "bigint"), (3, "text")])
    );
    transaction.execute(&text, &[&hours, &models, &replicas, &seconds]).await?;
    Ok(())
}

/// Arrays as rows: so many of each type.
fn unnest(types: &[(usize, &str)]) -> String {
    let types = types.iter().flat_map(|(count, name)| std::iter::repeat_n(name, *count));
    let arrays: Vec<String> =
        types.enumerate().map(|(at, name)| format!("${}::{name}[]", at + 1)).collect();
    format!("unnest({})", arrays.join(", "))
}

async fn add<const A: usize, const B: usize>(
    transaction: &Transaction<'_>,
    text: &str,
    all: &[Adds<A, B>],
) -> Result<(), tokio_postgres::Error> {
    if all.is_empty() {
        return Ok(());
    }
    let steps: Vec<i64> = all.iter().map(|adds| adds.step).collect();
    let ats: Vec<i64> = all.iter().map(|adds| adds.at).collect();
    let names: Vec<Vec<&str>> =
        (0..A).map(|at| all.iter().map(|adds| adds.names[at].as_str()).collect()).collect();
    let numbers: Vec<Vec<i64>> =
        (0..B).map(|at| all.iter().map(|adds| adds.numbers[at]).collect()).collect();
    let mut values: Vec<&(dyn ToSql + Sync)> = vec![&steps, &ats];
    values.extend(names.iter().map(|names| names as &(dyn ToSql + Sync)));
    values.extend(numbers.iter().map(|numbers| numbers as &(dyn ToSql + Sync)));
    transaction.execute(text, &values).await?;
    Ok(())
}

async fn query(
    client: &Client,
    statement: &Statement,
) -> Result<Vec<tokio_postgres::Row>, tokio_postgres::Error> {
    let values: Vec<&(dyn ToSql + Sync)> = statement
        .values
        .iter()
        .map(|value| match value {
            Value::Int(int) => int as &(dyn ToSql + Sync),
            Value::Text(text) => text as &(dyn ToSql + Sync),
        })
        .collect();
    let types: Vec<Type> = statement
        .values
        .iter()
        .map(|value| match value {
            Value::Int(_) => Type::INT8,
            Value::Text(_) => Type::TEXT,
        })
        .collect();
    let prepared = client.prepare_typed(&statement.text, &types).await?;
    client.query(&prepared, &values).await
}

fn summed(row: &tokio_postgres::Row, keys: usize) -> Summed {
    let number = |at: usize| uint(row.get(keys + at));
    let sums = Sums {
        requests: number(0),
        input: number(1),
        cached: number(2),
        output: number(3),
        reasoning: number(4),
        charged_micros: number(5),
        kv_token_ms: number(6),
        overhead_kv_token_ms: number(7),
        busy_us: number(8),
    };
    let names = (0..keys).map(|at| row.get(at)).collect();
    Summed { keys: names, sums, accelerator_us: row.get(keys + 9), cost_micros: row.get(keys + 10) }
}

fn used(row: &tokio_postgres::Row) -> (Used, String) {
    let number = |at: usize| uint(row.get(at));
    let group =
        Group { model: row.get(1), hardware: row.get(2), tenant: row.get(3), ..Group::default() };
    let sums = Sums {
        kv_token_ms: number(4),
        overhead_kv_token_ms: number(5),
        busy_us: number(6),
        ..Sums::default()
    };
    let (up_ms, cost_micros) = (number(7), number(8));
    let used = Used { at: number(0), group, sums, up_ms, cost_micros, ..Used::default() };
    (used, row.get(9))
}
