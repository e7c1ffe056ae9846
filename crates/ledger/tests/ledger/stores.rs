//! What every store does, whichever it is.

use std::collections::BTreeSet;

use pilotage_ledger::*;
use pilotage_lens::usage::{Entitled, Row, UpTime};

use crate::record::record;
use crate::support::{HOUR_MS, NOON, all_rows, by};

/// A row each, from the first number on.
fn rows(
    from: u32,
    until: u32,
    tenant: impl Fn(u32) -> &'static str,
    at: impl Fn(u32) -> u64,
) -> Vec<(u64, Entry)> {
    let row = |n: u32| Entry::Row(Box::new(Row::of(&record(n, tenant(n), at(n)), 1_000_000)));
    (from..until).map(|n| (u64::from(n), row(n))).collect()
}

fn batch(entries: Vec<(u64, Entry)>) -> Batch {
    Batch { instance: "0123456789abcdef".to_owned(), entries }
}

async fn total(store: &dyn Store) -> (u64, u64) {
    let sums = store.sums(by(&[])).await.unwrap();
    (sums.iter().map(|one| one.sums.requests).sum(), sums.iter().map(|one| one.sums.output).sum())
}

/// The suite.
pub(crate) async fn suite(store: &dyn Store) {
    what_comes_twice_is_there_once(store).await;
    pages_hold_every_row_once(store).await;
    names_are_only_names(store).await;
    sums_are_the_same_by_hours_and_by_days(store).await;
    costs_follow_what_was_used(store).await;
    where_time_went_comes_for_who_asks(store).await;
    copies_are_overhead_alone(store).await;
    attempts_count_where_they_were(store).await;
    crate::meters::what_several_see_counts_once(store).await;
    what_is_old_is_forgotten(store).await;
}

async fn what_comes_twice_is_there_once(store: &dyn Store) {
    let at = |n: u32| NOON + u64::from(n % 5) * HOUR_MS;
    let tenant = |n: u32| if n.is_multiple_of(2) { "ann" } else { "bob" };
    store.put(batch(rows(1, 21, tenant, at))).await.unwrap();
    store.put(batch(rows(1, 21, tenant, at))).await.unwrap();
    // Some of it is new.
    store.put(batch(rows(11, 31, tenant, at))).await.unwrap();
    store.put(batch(Vec::new())).await.unwrap();
    assert_eq!(total(store).await, (30, (1..31).sum()));
    let found = all_rows(store, AskRows::default()).await;
    let ids: BTreeSet<&str> = found.iter().map(|row| row["request_id"].as_str().unwrap()).collect();
    assert_eq!((found.len(), ids.len()), (30, 30));
}

async fn pages_hold_every_row_once(store: &dyn Store) {
    let ask = |tenant: Option<&str>, model: Option<&str>, id: Option<&str>| AskRows {
        tenant: tenant.map(str::to_owned),
        model: model.map(str::to_owned),
        request_id: id.map(str::to_owned),
        ..AskRows::default()
    };
    let check = async |ask: AskRows, expect: usize| {
        let rows = all_rows(store, ask.clone()).await;
        let times: Vec<u64> = rows.iter().map(|row| row["unix_ms"].as_u64().unwrap()).collect();
        assert_eq!(rows.len(), expect, "{ask:?}");
        assert!(times.is_sorted_by(|one, next| one >= next), "{times:?}");
    };
    check(ask(Some("ann"), None, None), 15).await;
    check(ask(None, Some("tiny"), None), 30).await;
    check(ask(Some("bob"), Some("tiny"), None), 15).await;
    check(ask(Some("bob"), Some("none"), None), 0).await;
    check(ask(None, None, Some("req-7")), 1).await;
    let within = AskRows { from_ms: NOON + HOUR_MS, ..ask(None, None, None) };
    check(within, 24).await;
}

async fn names_are_only_names(store: &dyn Store) {
    let before = total(store).await.0;
    let names = ["'; DROP TABLE rows; --", "%_\\", "\u{202e}\u{0}x", "$1 ?1", "a/b", "{}\"\n", ""];
    for (at, name) in names.iter().enumerate() {
        let number = 1000 + u32::try_from(at).unwrap();
        let row = Entry::Row(Box::new(Row::of(&record(number, name, NOON), 0)));
        store.put(batch(vec![(u64::from(number), row)])).await.unwrap();
        let kept = pilotage_lens::usage::name(name).into_owned();
        let ask = AskRows { tenant: Some(kept.clone()), ..AskRows::default() };
        let found = all_rows(store, ask).await;
        assert_eq!(found.len(), 1, "{name:?}");
        assert_eq!(found[0]["tenant"], kept, "{name:?}");
        let path = format!("org/{kept}");
        let sums = Ask { below: Some(path), ..by(&[Dimension::Tenant]) };
        let found = store.sums(sums).await.unwrap();
        assert_eq!((found.len(), &found[0].keys[0]), (1, &kept), "{name:?}");
    }
    let long = "x".repeat(5000);
    let row = Entry::Row(Box::new(Row::of(&record(1100, &long, NOON), 0)));
    store.put(batch(vec![(1100, row)])).await.unwrap();
    assert_eq!(total(store).await.0, before + 8);
    // Those below `org` are all; `or` is above nobody.
    for (path, expect) in [("org", before + 8), ("or", 0), ("org/a", 1), ("org/ann", 15)] {
        let sums = store.sums(Ask { below: Some(path.to_owned()), ..by(&[]) }).await.unwrap();
        assert_eq!(sums.iter().map(|one| one.sums.requests).sum::<u64>(), expect, "{path}");
    }
}

async fn sums_are_the_same_by_hours_and_by_days(store: &dyn Store) {
    let at = |n: u32| NOON + u64::from(n) * 5 * HOUR_MS;
    store.put(batch(rows(2000, 2040, |_| "days", at))).await.unwrap();
    let noon = NOON / HOUR_MS;
    for (from, until) in [(2000, 2040), (2003, 2031), (2001, 2002), (2000, 2005)] {
        let (from, until) = (noon + from * 5, noon + until * 5);
        let range = Range { from, until };
        let whole = Ask { range, tenant: Some("days".to_owned()), ..by(&[]) };
        let hours = Ask { by: vec![Dimension::Hour], ..whole.clone() };
        let by_days: u64 = store.sums(whole).await.unwrap().iter().map(|one| one.sums.output).sum();
        let found = store.sums(hours).await.unwrap();
        let by_hours: u64 = found.iter().map(|one| one.sums.output).sum();
        let expect =
            (2000..2040u64).filter(|n| (from..until).contains(&(noon + n * 5))).sum::<u64>();
        assert_eq!((by_days, by_hours), (expect, expect));
        assert!(found.iter().all(|one| one.keys[0].parse::<u64>().is_ok()));
    }
}

async fn costs_follow_what_was_used(store: &dyn Store) {
    // A day of its own: two tenants, one of which used twice as much, on replicas that were busy for a tenth.
    let hour = NOON / HOUR_MS + 100_000;
    let entitled = vec![Entitled { tenant: "dave".to_owned(), guaranteed: 500, weight: 1 }];
    let up = UpTime {
        hour,
        model: "tiny".to_owned(),
        hardware: "cpu".to_owned(),
        up_ms: 30_000,
        cost_micros: 3000,
        entitled: entitled.clone(),
    };
    let row = |n: u32, tenant| {
        Entry::Row(Box::new(Row::of(&record(n, tenant, hour * HOUR_MS), 1_000_000)))
    };
    let entries = vec![
        (3000, Entry::Up(Box::new(up.clone()))),
        (3001, row(90, "eve")),
        (3002, row(190, "dave")),
        (3003, Entry::Up(Box::new(UpTime { hour: hour + 1, ..up }))),
    ];
    store.put(batch(entries)).await.unwrap();
    let range = Range { from: hour, until: hour + 2 };
    let found = store.sums(Ask { range, ..by(&[Dimension::Tenant]) }).await.unwrap();
    let mut got: Vec<_> = found
        .iter()
        .map(|one| {
            (one.keys[0].as_str(), one.accelerator_us.round(), one.cost_micros.map(f64::round))
        })
        .collect();
    got.sort_by_key(|one| one.0);
    // Two of thirty seconds were busy: 200 of the hour's 3000, a third of it eve's.
    assert_eq!(got, [("dave", 1_333_333.0, Some(133.0)), ("eve", 666_667.0, Some(67.0))]);
    let pools = store.pools(range).await.unwrap();
    assert_eq!(pools.len(), 3);
    assert_eq!((pools[2].at, pools[2].cost_micros, pools[2].up_ms), (hour + 1, 3000, 30_000));
    assert_eq!(*pools[2].entitled, *entitled);
    assert_eq!(pools[0].sums.kv_token_ms, 200_000);
}

async fn where_time_went_comes_for_who_asks(store: &dyn Store) {
    let ask =
        |detail| AskRows { request_id: Some("req-3".to_owned()), detail, ..AskRows::default() };
    let without = all_rows(store, ask(false)).await;
    let with = all_rows(store, ask(true)).await;
    assert_eq!(without[0]["detail"], serde_json::Value::Null);
    let row: Row = serde_json::from_value(with[0].clone()).unwrap();
    let again = row.record().unwrap();
    assert_eq!((again.phases, again.total.as_millis()), (record(3, "", 0).phases, 1000));
    let mut apart = with[0].clone();
    apart.as_object_mut().unwrap().remove("detail");
    assert_eq!(apart, without[0]);
}

async fn copies_are_overhead_alone(store: &dyn Store) {
    let hour = NOON / HOUR_MS + 300_000;
    let copy = |n: u32, mirror| {
        let record = record(n, if mirror { "" } else { "copied" }, hour * HOUR_MS);
        let record = pilotage_lens::Record { mirror, ..(*record).clone() };
        Entry::Row(Box::new(Row::of(&record, 1_000_000)))
    };
    store.put(batch(vec![(4000, copy(90, false)), (4001, copy(40, true))])).await.unwrap();
    let range = Range { from: hour, until: hour + 1 };
    let found = store.sums(Ask { range, ..by(&[Dimension::Tenant]) }).await.unwrap();
    let asked: Vec<_> = found.iter().filter(|one| one.sums.requests > 0).collect();
    assert_eq!((asked.len(), asked[0].keys[0].as_str(), asked[0].sums.input), (1, "copied", 100));
    let pools = store.pools(range).await.unwrap();
    let sum = |of: fn(&Used) -> u64| pools.iter().map(of).sum::<u64>();
    assert_eq!(
        (sum(|one| one.sums.kv_token_ms), sum(|one| one.sums.overhead_kv_token_ms)),
        (100_000, 50_000)
    );
    assert_eq!(sum(|one| one.sums.busy_us), 2_000_000);
    // As a request it is there, and says what it is.
    let copies = all_rows(store, AskRows { from_ms: hour * HOUR_MS, ..AskRows::default() }).await;
    assert_eq!(copies.iter().filter(|row| row["mirror"] == true).count(), 1);
}

/// A Model that failed a request before another one answered pays for that in its own pool.
async fn attempts_count_where_they_were(store: &dyn Store) {
    let hour = NOON / HOUR_MS + 310_000;
    let at = |lane: &str, hardware: &str| pilotage_lens::At {
        lane: Some(lane.into()),
        version: Some("sha256:1".into()),
        hardware: Some(hardware.into()),
        ..Default::default()
    };
    let piece = |at, lost_token_ms| pilotage_lens::Piece {
        at,
        lost_token_ms,
        from_ago: pilotage_core::Span::ZERO,
        until_ago: pilotage_core::Span::ZERO,
    };
    let pieces = vec![
        piece(at("big", "h100"), 300),
        piece(at("tiny", "l4"), 20),
        piece(at("tiny", "cpu"), 1),
    ];
    let ran = pilotage_lens::Ran { used_token_ms: 1000, lost_token_ms: 321, pieces };
    let record = record(10, "fell-back", hour * HOUR_MS);
    let record = pilotage_lens::Record { ran: Some(Box::new(ran)), ..(*record).clone() };
    let row = Row::of_attempts(&record, &[240_000_000, 5, 1_000_000]);
    store.put(batch(vec![(4100, Entry::Row(Box::new(row.clone())))])).await.unwrap();
    let range = Range { from: hour, until: hour + 1 };
    let pools = store.pools(range).await.unwrap();
    let mut found: Vec<_> = pools
        .iter()
        .map(|one| {
            let place = (one.group.model.as_str(), one.group.hardware.as_str());
            (place, one.sums.busy_us, one.sums.overhead_kv_token_ms, one.sums.kv_token_ms)
        })
        .collect();
    found.sort_unstable();
    let expect = [
        (("big", "h100"), 240_000_000, 300, 0),
        (("tiny", "cpu"), 1_000_000, 1, 1000),
        (("tiny", "l4"), 5, 20, 0),
    ];
    assert_eq!(found, expect);
    let sums = store.sums(Ask { range, ..by(&[Dimension::Tenant]) }).await.unwrap();
    assert_eq!((sums.len(), sums[0].sums.requests, sums[0].sums.busy_us), (1, 1, 241_000_005));
    // Its row says so, too.
    let ask = AskRows { from_ms: hour * HOUR_MS, detail: true, ..AskRows::default() };
    let rows = all_rows(store, ask).await;
    let again: Row = serde_json::from_value(rows[0].clone()).unwrap();
    assert_eq!((rows.len(), &again.elsewhere), (1, &row.elsewhere));
}

/// Forgets until nothing more is old: how many rows went.
async fn forget_all(store: &dyn Store, old: Old) -> u64 {
    let mut rows = 0;
    loop {
        let gone = store.forget(old).await.unwrap();
        rows += gone.rows;
        if !gone.more {
            return rows;
        }
    }
}

async fn what_is_old_is_forgotten(store: &dyn Store) {
    let before = all_rows(store, AskRows::default()).await.len();
    let sums = total(store).await;
    let old = Old { rows_before_ms: NOON + 2 * HOUR_MS, ..Old::default() };
    let gone = forget_all(store, old).await;
    assert!(gone > 0);
    assert_eq!(
        all_rows(store, AskRows::default()).await.len(),
        before - usize::try_from(gone).unwrap()
    );
    // What was billed stays.
    assert_eq!(total(store).await, sums);
    // And what comes again is not new.
    store.put(batch(rows(1, 21, |_| "ann", |_| NOON))).await.unwrap();
    assert_eq!(total(store).await, sums);
    much_is_forgotten_in_turns(store, old).await;
}

/// More than fits one turn goes in several, rows and sums alike.
async fn much_is_forgotten_in_turns(store: &dyn Store, old: Old) {
    let many = |n: u32| NOON - u64::from(n) * HOUR_MS;
    for from in (10_000..16_000).step_by(1000) {
        store.put(batch(rows(from, from + 1000, |_| "many", many))).await.unwrap();
    }
    let first = store.forget(old).await.unwrap();
    assert_eq!((first.rows, first.more), (5000, true));
    assert_eq!(forget_all(store, old).await, 1000);
    let hours = |until: u64| Ask {
        range: Range { from: 0, until },
        tenant: Some("many".to_owned()),
        ..by(&[Dimension::Hour])
    };
    let until = NOON / HOUR_MS;
    assert!(store.sums(hours(until)).await.unwrap().len() >= 1000);
    forget_all(store, Old { hours_before: until, ..Old::default() }).await;
    assert!(store.sums(hours(until)).await.unwrap().is_empty());
}

#[tokio::test]
async fn sqlite() {
    let folder = tempfile::tempdir().unwrap();
    suite(&Sqlite::at(folder.path().join("usage.db"))).await;
    // Opened again it is the same.
    let again = Sqlite::at(folder.path().join("usage.db"));
    assert!(total(&again).await.0 > 0);
}
