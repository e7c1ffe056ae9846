//! PostgreSQL: the same suite, and a server that dies.

use std::sync::Arc;

use pilotage_ledger::*;

use crate::record::record;
use crate::support::{NOON, Server, all_rows, open, settings, until};

#[tokio::test]
async fn postgres() {
    let Some(server) = Server::start() else { return };
    let store = Postgres::at(server.url());
    until("the server", || async { store.sums(crate::support::by(&[])).await.is_ok() }).await;
    crate::stores::suite(&store).await;
    // A second gateway finds the tables made.
    assert!(Postgres::at(server.url()).sums(crate::support::by(&[])).await.is_ok());
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
    ledger.close(std::time::Duration::from_secs(10)).await;
}

#[tokio::test]
async fn an_address_that_is_none_is_said_without_its_password() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path());
    settings.place = Where::Postgres(pilotage_shell::secret::Secret::new(
        "postgres://me:hunter2@[/x".to_owned(),
    ));
    let clock = pilotage_shell::clock::Clock::start();
    let ledger = Ledger::open(settings, clock, Looks::default()).unwrap();
    ledger.add(&record(1, "ann", NOON));
    until("an error", || async { ledger.state().last_error.is_some() }).await;
    let error = ledger.state().last_error.unwrap();
    assert!(error.contains("DATABASE_URL") && !error.contains("hunter2"), "{error}");
}
