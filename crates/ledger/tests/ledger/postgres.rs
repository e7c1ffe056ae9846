//! PostgreSQL: the same suite, and a server that dies.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pilotage_ledger::*;
use pilotage_lens::usage::Replica;
use pilotage_shell::clock::Clock;
use pilotage_shell::secret::Secret;

use crate::record::record;
use crate::support::{NOON, Server, all_rows, by, open, settings, until};

#[tokio::test]
async fn postgres() {
    let Some(server) = Server::start() else { return };
    let store = Postgres::at(server.url());
    until("the server", || async { store.sums(by(&[])).await.is_ok() }).await;
    crate::stores::suite(&store).await;
    // A second gateway finds the tables made.
    assert!(Postgres::at(server.url()).sums(by(&[])).await.is_ok());
}

#[tokio::test]
async fn a_server_that_dies_loses_nothing() {
    let Some(mut server) = Server::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Postgres::at(server.url()));
    let ledger = open(settings(folder.path()), store.clone());
    let add = |from: u32| {
        for n in from..from + 500 {
            ledger.add(&record(n, "ann", NOON));
        }
    };
    add(0);
    until("rows", || async { ledger.state().stored_rows >= 500 }).await;
    server.kill();
    add(500);
    until("the state to show it", || async { ledger.state().condition == "store_away" }).await;
    until("the journal to have all", || async { ledger.state().behind_rows == 500 }).await;
    server.again();
    until("rows again", || async { ledger.state().stored_rows >= 1000 }).await;
    assert_eq!(ledger.state().condition, "ok");
    assert_eq!(all_rows(&*store, AskRows::default()).await.len(), 1000);
    ledger.close(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn an_address_that_is_none_is_said_without_its_password() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path());
    settings.place = Where::Postgres(Secret::new("postgres://me:hunter2@[/x".to_owned()));
    let clock = Clock::start();
    let ledger = Ledger::open(settings, clock, Looks::default()).unwrap();
    ledger.add(&record(1, "ann", NOON));
    until("an error", || async { ledger.state().last_error.is_some() }).await;
    let error = ledger.state().last_error.unwrap();
    assert!(error.contains("DATABASE_URL") && !error.contains("hunter2"), "{error}");
}

/// What each of the gateways below sees: the same replica.
fn looks() -> Looks {
    let replica = Replica {
        name: "tiny-0".to_owned(),
        model: "tiny".to_owned(),
        hardware: "cpu".to_owned(),
        accelerators: 1,
        micros_per_hour: 3_600_000_000,
    };
    let now = Arc::new(move || Now { replicas: vec![replica.clone()], ..Now::default() });
    Looks { now, ..Looks::default() }
}

/// Runs only as a child of the next test: a gateway's ledger of its own, which adds rows until it is killed.
#[tokio::test]
async fn child_beside_another() {
    let Ok(folder) = std::env::var("LEDGER_TEST_GATEWAY") else { return };
    let url = Secret::new(std::env::var("LEDGER_TEST_URL").unwrap());
    let first: u32 = std::env::var("LEDGER_TEST_FIRST").unwrap().parse().unwrap();
    let mut settings = settings(folder.as_ref());
    settings.place = Where::Postgres(url);
    settings.bounds.batch_rows_max = 50;
    let ledger = Ledger::open(settings, Clock::start(), looks()).unwrap();
    let mut written = ledger.written();
    let mut last = 0;
    for n in first.. {
        let sequence = ledger.add(&record(n, "ann", NOON));
        // Not so far ahead that rows would be folded.
        if sequence - last > 200 {
            last = *written.wait_for(|written| *written + 200 >= sequence).await.unwrap();
            println!("written {last}");
        }
    }
}

#[tokio::test]
async fn two_gateways_and_one_of_them_killed_bill_everything_once() {
    let Some(server) = Server::start() else { return };
    let store = Postgres::at(server.url());
    until("the server", || async { store.sums(by(&[])).await.is_ok() }).await;
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let spawn = |folder: &tempfile::TempDir, first: u32| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "postgres::child_beside_another", "--nocapture"])
            .env("LEDGER_TEST_GATEWAY", folder.path())
            .env("LEDGER_TEST_URL", server.url().expose())
            .env("LEDGER_TEST_FIRST", first.to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut children = [spawn(&folders[0], 1), spawn(&folders[1], 1_000_000)];
    let stored = || async {
        let sums = store.sums(by(&[])).await.unwrap_or_default();
        sums.iter().map(|one| one.sums.requests).sum::<u64>()
    };
    // Both look at their replica at their starts, and are killed in the middle of storing.
    until("rows", || async { stored().await > 2000 }).await;
    children[0].kill().unwrap();
    children[0].wait().unwrap();
    let then = stored().await;
    until("more rows of the other", || async { stored().await > then + 1000 }).await;
    children[1].kill().unwrap();
    children[1].wait().unwrap();
    // What was left in their journals is stored at their next start. Both see the same replica for a while.
    let begun = Instant::now();
    let ledgers = folders.each_ref().map(|folder| {
        let mut settings = settings(folder.path());
        settings.place = Where::Postgres(server.url());
        Ledger::open(settings, Clock::start(), looks()).unwrap()
    });
    until("some seconds", || async { begun.elapsed() > Duration::from_secs(12) }).await;
    for ledger in &ledgers {
        until("the rest", || async { ledger.state().behind_rows == 0 }).await;
        ledger.close(Duration::from_secs(20)).await;
    }
    let seen_ms = begun.elapsed().as_millis() as u64;
    let hour = Clock::start().unix_ms() / 3_600_000;
    let pools = store.pools(Range { from: hour - 1, until: hour + 1 }).await.unwrap();
    let ups: std::collections::BTreeMap<_, u64> = pools
        .iter()
        .map(|one| ((one.at, &one.group.model, &one.group.hardware), one.up_ms))
        .collect();
    let up_ms: u64 = ups.values().sum();
    assert!((8000..seen_ms + 2000).contains(&up_ms), "{up_ms} ms up in {seen_ms} ms");
    let rows = all_rows(&store, AskRows::default()).await;
    let ids: std::collections::BTreeSet<&str> =
        rows.iter().map(|row| row["request_id"].as_str().unwrap()).collect();
    assert_eq!(rows.len(), ids.len(), "a row is there twice");
    assert_eq!(stored().await, rows.len() as u64);
    // Each gateway's rows are there without a gap.
    for first in [1u32, 1_000_000] {
        let mine = ids.iter().filter_map(|id| id.strip_prefix("req-")?.parse::<u32>().ok());
        let mut mine: Vec<u32> = mine.filter(|n| (*n < 1_000_000) == (first == 1)).collect();
        mine.sort_unstable();
        assert!(mine.len() > 500, "{}", mine.len());
        assert_eq!((mine[0], mine[mine.len() - 1]), (first, first + mine.len() as u32 - 1));
    }
}
