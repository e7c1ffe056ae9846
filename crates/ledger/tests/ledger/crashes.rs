//! Databases that are away, disks that fail, processes that are killed: every row is there, once.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pilotage_ledger::*;

use crate::record::record;
use crate::support::{NOON, Unsure, all_rows, by, open, settings, until};

const PATIENCE: Duration = Duration::from_secs(20);

async fn ids(store: &dyn Store) -> BTreeSet<String> {
    let rows = all_rows(store, AskRows::default()).await;
    let ids: BTreeSet<String> =
        rows.iter().map(|row| row["request_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(rows.len(), ids.len(), "a row is there twice");
    ids
}

fn segments(folder: &Path) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut found: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|end| end == "segment")).collect();
    found.sort();
    found
}

#[tokio::test]
async fn rows_are_written_then_stored() {
    let folder = tempfile::tempdir().unwrap();
    let store = Unsure::at(folder.path().join("usage.db"), false, 0);
    let ledger = open(settings(folder.path()), store.clone());
    let mut written = ledger.written();
    let mut stranger = (*record(7, "nobody", NOON)).clone();
    (stranger.tenant, stranger.attempts) = (None, 0);
    assert_eq!(ledger.add(&Arc::new(stranger)), 0);
    let last = (0..100).fold(0, |_, n| ledger.add(&record(n, "ann", NOON)));
    written.wait_for(|written| *written >= last).await.unwrap();
    ledger.close(PATIENCE).await;
    assert_eq!(ids(&*store).await.len(), 100);
    let state = ledger.state();
    assert_eq!((state.behind_rows, state.lost_rows, state.condition), (0, 0, "ok"));
}

#[tokio::test]
async fn a_store_that_fails_after_it_stored_has_everything_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = Unsure::at(folder.path().join("usage.db"), false, 2);
    let mut settings = settings(folder.path());
    settings.bounds.batch_rows_max = 7;
    settings.bounds.segment_bytes_max = 4000;
    let ledger = open(settings, store.clone());
    (0..300).for_each(|n| {
        ledger.add(&record(n, "ann", NOON));
    });
    until("all", || async { ledger.state().stored_rows >= 300 }).await;
    ledger.close(PATIENCE).await;
    assert_eq!(ids(&*store).await.len(), 300);
    assert_eq!(store.sums(by(&[])).await.unwrap()[0].sums.requests, 300);
}

#[tokio::test]
async fn what_a_crash_left_is_stored_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let store = Unsure::at(folder.path().join("usage.db"), true, 0);
    let mut settings = settings(folder.path());
    settings.bounds.segment_bytes_max = 10_000;
    let ledger = open(settings.clone(), store.clone());
    let mut written = ledger.written();
    for n in 0..100 {
        let sequence = ledger.add(&record(n, "ann", NOON));
        written.wait_for(|written| *written >= sequence).await.unwrap();
    }
    ledger.close(PATIENCE).await;
    drop(ledger);
    let files = segments(folder.path());
    assert!(files.len() > 3, "{files:?}");
    // The last frame was not written to its end.
    let mut last = std::fs::File::options().append(true).open(files.last().unwrap()).unwrap();
    last.write_all(&[77, 1, 0, 0, 1, 2]).unwrap();
    // A bit of the second file turned, and one of the third's first length: what is before and behind holds.
    let turn = |file: &Path, at: usize| {
        let mut bytes = std::fs::read(file).unwrap();
        bytes[at] ^= 8;
        std::fs::write(file, bytes).unwrap();
    };
    turn(&files[1], std::fs::metadata(&files[1]).unwrap().len() as usize / 2);
    turn(&files[2], 24 + 2);
    store.away.store(false, Ordering::Relaxed);
    let ledger = reopen(&settings, &store).await;
    until("what is left", || async { ledger.state().behind_rows == 0 }).await;
    until("files to go", || async { segments(folder.path()).is_empty() }).await;
    let found = ids(&*store).await;
    assert_eq!(found.len(), 98);
    assert!(found.contains("req-99"));
    let state = ledger.state();
    assert_eq!((state.damaged_files, state.lost_rows), (2, 2));
    let aside = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
    assert_eq!(
        aside.filter(|path| path.extension().is_some_and(|end| end == "damaged")).count(),
        2
    );
    ledger.close(PATIENCE).await;
}

/// What is written is read again while it is written: damage to that file costs what is damaged.
#[tokio::test]
async fn damage_to_the_file_that_is_written_costs_one_row() {
    let folder = tempfile::tempdir().unwrap();
    let store = Unsure::at(folder.path().join("usage.db"), true, 0);
    let ledger = open(settings(folder.path()), store.clone());
    let mut written = ledger.written();
    let mut add = async |range: std::ops::Range<u32>| {
        for n in range {
            let sequence = ledger.add(&record(n, "ann", NOON));
            written.wait_for(|written| *written >= sequence).await.unwrap();
        }
    };
    add(0..20).await;
    let files = segments(folder.path());
    assert_eq!(files.len(), 1);
    // In its place, as a disk does it.
    let file = std::fs::File::options().read(true).write(true).open(&files[0]).unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[byte[0] ^ 1], middle).unwrap();
    store.away.store(false, Ordering::Relaxed);
    until("the damage to be seen", || async { ledger.state().damaged_files == 1 }).await;
    add(20..40).await;
    until("all else", || async { ledger.state().stored_rows >= 39 }).await;
    let state = ledger.state();
    assert_eq!((state.behind_rows, state.lost_rows, state.condition), (0, 1, "ok"), "{state:?}");
    assert_eq!(ids(&*store).await.len(), 39);
    ledger.close(PATIENCE).await;
}

/// One file was taken away, and one cannot be read for a while: what is behind them waits, and is stored in the end.
#[tokio::test]
async fn files_that_go_or_cannot_be_read_cost_what_was_in_them_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let store = Unsure::at(folder.path().join("usage.db"), true, 0);
    let mut settings = settings(folder.path());
    settings.bounds.segment_bytes_max = 10_000;
    let ledger = open(settings, store.clone());
    let mut written = ledger.written();
    for n in 0..100 {
        let sequence = ledger.add(&record(n, "ann", NOON));
        written.wait_for(|written| *written >= sequence).await.unwrap();
    }
    let files = segments(folder.path());
    std::fs::remove_file(&files[0]).unwrap();
    let aside = folder.path().join("aside");
    std::fs::rename(&files[2], &aside).unwrap();
    std::fs::create_dir(&files[2]).unwrap();
    store.away.store(false, Ordering::Relaxed);
    until("it to be seen", || async { ledger.state().condition == "journal_unread" }).await;
    let state = ledger.state();
    assert!(!state.store_up && state.last_error.unwrap().contains("cannot be read"));
    assert_eq!(state.damaged_files, 1);
    std::fs::remove_dir(&files[2]).unwrap();
    std::fs::rename(&aside, &files[2]).unwrap();
    // Nobody writes meanwhile: it is looked at again all the same.
    until("the rest", || async { ledger.state().behind_rows == 0 }).await;
    let state = ledger.state();
    assert!(state.store_up && state.condition == "ok", "{state:?}");
    assert!((5..50).contains(&state.lost_rows), "{state:?}");
    assert_eq!(ids(&*store).await.len() as u64, 100 - state.lost_rows);
    ledger.close(PATIENCE).await;
}

/// Opens it once whoever had it is gone.
async fn reopen(settings: &Settings, store: &Arc<Unsure>) -> Ledger {
    let clock = pilotage_shell::clock::Clock::start();
    let opened = parking_lot::Mutex::new(None);
    until("the folder to be free", || async {
        let ledger = Ledger::open_with(settings.clone(), clock, Looks::default(), store.clone());
        *opened.lock() = ledger.ok();
        opened.lock().is_some()
    })
    .await;
    opened.into_inner().unwrap()
}

#[tokio::test]
async fn two_processes_do_not_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let store = Unsure::at(folder.path().join("usage.db"), false, 0);
    let _ledger = open(settings(folder.path()), store.clone());
    let clock = pilotage_shell::clock::Clock::start();
    let second = Ledger::open_with(settings(folder.path()), clock, Looks::default(), store);
    assert!(second.unwrap_err().to_string().contains("in use by another process"));
}

#[tokio::test]
async fn what_there_is_no_room_for_is_folded_and_billed() {
    let folder = tempfile::tempdir().unwrap();
    let store = Unsure::at(folder.path().join("usage.db"), true, 0);
    let mut settings = settings(folder.path());
    settings.bounds.waiting_max = 50;
    settings.bounds.folds_max = 3;
    settings.bounds.journal_bytes_max = 20_000;
    let ledger = open(settings, store.clone());
    let tenants = ["ann", "bob", "cid", "dan", "eve"];
    let number = 2000;
    for n in 0..number {
        ledger.add(&record(n, tenants[n as usize % 5], NOON));
    }
    until("the state to show it", || async { ledger.state().condition == "journal_full" }).await;
    let state = ledger.state();
    assert!(state.journal_bytes <= 40_000, "{state:?}");
    assert!(
        state.waiting_rows <= 50 && state.folded_rows > 1000 && state.waiting_folds <= 10,
        "{state:?}"
    );
    store.away.store(false, Ordering::Relaxed);
    until("all", || async { ledger.state().condition == "ok" }).await;
    ledger.close(PATIENCE).await;
    let found = store.sums(by(&[Dimension::Tenant])).await.unwrap();
    for (at, tenant) in tenants.iter().enumerate() {
        let sums = found.iter().filter(|one| one.keys[0] == *tenant).map(|one| one.sums);
        let (requests, output) =
            sums.fold((0, 0), |all, one| (all.0 + one.requests, all.1 + one.output));
        let expect: u64 = (0..u64::from(number)).filter(|n| n % 5 == at as u64).sum();
        assert_eq!((requests, output), (400, expect), "{tenant}");
    }
    assert!(ids(&*store).await.len() < 1000);
}

#[tokio::test]
async fn a_disk_that_fails_for_a_while_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (here, away) = (folder.path().join("ledger"), folder.path().join("away"));
    let store = Unsure::at(folder.path().join("usage.db"), false, 0);
    let ledger = open(settings(&here), store.clone());
    std::fs::rename(&here, &away).unwrap();
    (0..100).for_each(|n| {
        ledger.add(&record(n, "ann", NOON));
    });
    until("the state to show it", || async { ledger.state().condition == "disk_error" }).await;
    assert!(ledger.state().last_error.is_some());
    std::fs::rename(&away, &here).unwrap();
    until("rows", || async { ledger.state().stored_rows >= 100 }).await;
    assert_eq!(ledger.state().condition, "ok");
    ledger.close(PATIENCE).await;
    assert_eq!(ids(&*store).await.len(), 100);
}

/// Runs only as the child of the next test: adds rows, and says of each when it is written.
#[tokio::test]
async fn child_that_is_killed() {
    let Ok(folder) = std::env::var("LEDGER_TEST_FOLDER") else { return };
    let mut settings = settings(folder.as_ref());
    settings.bounds.batch_rows_max = 100;
    settings.bounds.segment_bytes_max = 50_000;
    let clock = pilotage_shell::clock::Clock::start();
    let ledger = Ledger::open(settings, clock, Looks::default()).unwrap();
    let mut written = ledger.written();
    let mut said = 0;
    for n in 1.. {
        ledger.add(&record(n, "ann", NOON));
        // Not so far ahead that rows would be folded.
        if u64::from(n) - said > 500 {
            written.changed().await.unwrap();
        }
        let upto = *written.borrow_and_update();
        while said < upto {
            said += 1;
            println!("written {said}");
        }
    }
}

#[tokio::test]
async fn what_was_written_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crashes::child_that_is_killed", "--nocapture"])
        .env("LEDGER_TEST_FOLDER", folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut last = 0;
    while last < 3000 {
        let line = lines.next().unwrap().unwrap();
        last = line.strip_prefix("written ").and_then(|number| number.parse().ok()).unwrap_or(last);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it said before it died counts, too.
    for line in lines.map_while(Result::ok) {
        last = line.strip_prefix("written ").and_then(|number| number.parse().ok()).unwrap_or(last);
    }
    let clock = pilotage_shell::clock::Clock::start();
    let ledger = Ledger::open(settings(folder.path()), clock, Looks::default()).unwrap();
    until("what is left", || async { ledger.state().behind_rows == 0 }).await;
    ledger.close(PATIENCE).await;
    let ids = ids(&Sqlite::at(folder.path().join("usage.db"))).await;
    for n in 1..=last {
        assert!(ids.contains(&format!("req-{n}")), "{n} of {last}");
    }
    assert_eq!(ledger.state().damaged_files, 0);
}
