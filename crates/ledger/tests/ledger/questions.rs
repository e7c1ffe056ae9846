//! Questions over HTTP.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use pilotage_ledger::*;
use pilotage_lens::usage::{Entitled, Replica};
use pilotage_shell::clock::Clock;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::record::record;
use crate::support::{Unsure, settings, until};

async fn ask(ledger: &Ledger, path: &str) -> (u16, String) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = ledger.router().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn answer(ledger: &Ledger, path: &str) -> Value {
    let (status, body) = ask(ledger, path).await;
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// A ledger with 20 requests of now.
async fn filled(folder: &std::path::Path) -> (Ledger, Arc<Unsure>) {
    let store = Unsure::at(folder.join("usage.db"), false, 0);
    let clock = Clock::start();
    let now = clock.unix_ms();
    let budget = Budget {
        tenant: "org".to_owned(),
        tenant_path: "org".to_owned(),
        window: "month",
        limit_micros: 1000,
        spent_micros: None,
        from_ms: now - 10 * 86_400_000,
        until_ms: now + 20 * 86_400_000,
    };
    let replica = Replica {
        name: "tiny-0".to_owned(),
        model: "tiny".to_owned(),
        hardware: "cpu".to_owned(),
        accelerators: 1,
        micros_per_hour: 3_600_000,
    };
    let entitled = vec![Entitled { tenant: "ann".to_owned(), guaranteed: 100, weight: 1000 }];
    let looks = Looks {
        now: Arc::new(move || Now { replicas: vec![replica.clone()], entitled: entitled.clone() }),
        budgets: Arc::new(move || vec![budget.clone()]),
    };
    let ledger = Ledger::open_with(settings(folder), clock, looks, store.clone()).unwrap();
    for n in 0..20 {
        ledger.add(&record(n, if n < 10 { "ann" } else { "=bob,\"x\"" }, now));
    }
    until("rows", || async { ledger.state().stored_rows >= 20 }).await;
    (ledger, store)
}

#[tokio::test]
async fn sums_pages_and_budgets_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, _) = filled(folder.path()).await;
    let body = answer(&ledger, "/usage?by=tenant,model,day").await;
    assert_eq!(body["by"], json!(["tenant", "model", "day"]));
    assert_eq!(body["rows"].as_array().unwrap().len(), 2);
    let ann = &body["rows"][1];
    let expect = json!({"tenant": "ann", "model": "tiny", "requests": 10, "output_tokens": 45, "input_tokens": 145});
    for (name, value) in expect.as_object().unwrap() {
        assert_eq!(&ann[name], value, "{name}");
    }
    assert_eq!(body["total"]["requests"], 20);
    assert_eq!(body["total"]["price"], "0.00019");
    // Twenty at once on one replica: a second of it was busy.
    assert_eq!(body["total"]["gpu_seconds"], 1.0);
    let (_, csv) = ask(&ledger, "/usage?by=tenant&format=csv").await;
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines[0].starts_with("tenant,requests,input_tokens"), "{csv}");
    assert!(lines[1].starts_with("\"'=bob,\"\"x\"\"\",10,"), "{csv}");
    let mut path = "/usage/rows?limit=6".to_owned();
    let mut seen = 0;
    loop {
        let page = answer(&ledger, &path).await;
        seen += page["rows"].as_array().unwrap().len();
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/usage/rows?limit=6&after={next}");
    }
    assert_eq!(seen, 20);
    let one = answer(&ledger, "/usage/rows?id=req-3").await;
    assert_eq!(one["rows"][0]["input_tokens"], 13);
    assert_eq!(
        (&one["rows"][0]["t_prefill_ms"], &one["rows"][0]["lane"]),
        (&json!(1000.0), &json!("tiny"))
    );
    assert_eq!(one["rows"][0]["detail"], Value::Null);
    let budgets = answer(&ledger, "/usage/budgets").await;
    // 190 in ten days are 570 in thirty.
    assert_eq!(
        (&budgets[0]["spent"], &budgets[0]["forecast"]),
        (&json!("0.00019"), &json!("0.000569"))
    );
    assert_eq!(budgets[0]["exhausted_at"], Value::Null);
    ledger.close(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn a_request_of_long_ago_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let store = Unsure::at(folder.path().join("usage.db"), false, 0);
    let clock = Clock::start();
    let ledger =
        Ledger::open_with(settings(folder.path()), clock, Looks::default(), store.clone()).unwrap();
    let now = clock.unix_ms();
    for n in 1..=20 {
        ledger.add(&record(n, "ann", now - 60_000 + u64::from(n)));
    }
    let mut slow = (*record(21, "ann", now)).clone();
    slow.phases.queue = pilotage_core::Span::from_millis(9000);
    slow.total = slow.phases.total();
    slow.attempts = 2;
    slow.earlier_replicas = vec!["tiny-1".into()];
    ledger.add(&Arc::new(slow.clone()));
    until("rows", || async { ledger.state().stored_rows >= 21 }).await;
    let told = answer(&ledger, "/usage/why?id=req-21").await;
    let explanation = &told["explanation"];
    assert_eq!((&told["from"], &explanation["phase"]), (&json!("ledger"), &json!("queue")));
    assert_eq!(explanation["compared_with"], 20);
    let verdict = explanation["verdict"].as_str().unwrap();
    assert!(verdict.contains("10.0 times the usual 1.0 s: 9.0 s of it waiting"), "{verdict}");
    // The same words as the gateway has for it while it remembers it.
    let others: Vec<pilotage_lens::Record> =
        (1..=20).map(|n| (*record(n, "ann", 0)).clone()).collect();
    let usual = pilotage_lens::why::Usual::among(&others);
    let own = serde_json::to_value(pilotage_lens::why::explain(&slow, usual.as_ref())).unwrap();
    assert_eq!(*explanation, own);
    let record = &told["record"];
    assert_eq!((&record["t_queue_ms"], &record["t_total_ms"]), (&json!(9000.0), &json!(10_000.0)));
    assert_eq!(
        (&record["lane"], &record["earlier_replicas"]),
        (&json!("tiny"), &json!(["tiny-1"]))
    );
    let (status, body) = ask(&ledger, "/usage/why?id=req-99").await;
    assert_eq!(status, 404, "{body}");
    assert!(body.contains("no request `req-99` is in the ledger"), "{body}");
    // One of before phases were kept is there, and not explained.
    let row = pilotage_lens::usage::Row {
        request_id: "old".to_owned(),
        unix_ms: now,
        total_us: 1500,
        ..Default::default()
    };
    let entries = vec![(1, Entry::Row(Box::new(row)))];
    store.inner.put(Batch { instance: "other".to_owned(), entries }).await.unwrap();
    let told = answer(&ledger, "/usage/why?id=old").await;
    assert_eq!(
        (&told["record"]["request_id"], &told["explanation"]),
        (&json!("old"), &Value::Null)
    );
    assert_eq!(told["record"]["t_total_ms"], 1.5);
    ledger.close(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn costs_sum_up_to_the_bill() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, store) = filled(folder.path()).await;
    // What comes over a minute by the meter: 60 s at a thousandth a second.
    let up = pilotage_lens::usage::UpTime {
        hour: Clock::start().unix_ms() / 3_600_000,
        model: "tiny".to_owned(),
        hardware: "cpu".to_owned(),
        up_ms: 60_000,
        cost_micros: 60_001,
        entitled: vec![Entitled { tenant: "ann".to_owned(), guaranteed: 100, weight: 1000 }],
    };
    let entries = vec![(1, Entry::Up(Box::new(up)))];
    store.inner.put(Batch { instance: "other".to_owned(), entries }).await.unwrap();
    let body = answer(&ledger, "/usage/cost").await;
    assert_eq!((&body["bill"], &body["sums"]), (&json!("0.060001"), &json!(true)));
    let micros =
        |value: &Value| (value.as_str().unwrap().parse::<f64>().unwrap() * 1e6).round() as u64;
    let tenants: u64 =
        body["tenants"].as_array().unwrap().iter().map(|one| micros(&one["total"])).sum();
    assert_eq!(tenants + micros(&body["overhead"]) + micros(&body["unshared"]), 60_001);
    assert_eq!(micros(&body["usage"]), 1000);
    ledger.close(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn wrong_questions_are_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, _) = filled(folder.path()).await;
    for (path, part) in [
        ("/usage?by=colour", "`by` takes some of tenant"),
        ("/usage?from=yesterday", "write a date as 2027-01-31"),
        ("/usage?from=1h&to=2h", "not before"),
        ("/usage?tenat=ann", "unknown field `tenat`"),
        ("/usage?format=xml", "`json` or `csv`"),
        ("/usage/rows?limit=0", "1 to 1000"),
        ("/usage/rows?limit=1001", "1 to 1000"),
        ("/usage/rows?after=x", "`next`"),
        ("/usage/cost?from=3000d", "400 days"),
    ] {
        let (status, body) = ask(&ledger, path).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status, 400, "{path}");
        assert_eq!(body["error"]["type"], "invalid_request_error");
        assert!(body["error"]["message"].as_str().unwrap().contains(part), "{path}: {body}");
    }
    let state = answer(&ledger, "/ledger").await;
    assert_eq!(
        (&state["kind"], &state["condition"], &state["lost_rows"]),
        (&json!("sqlite"), &json!("ok"), &json!(0))
    );
    ledger.close(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn a_database_that_is_away_is_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path());
    settings.place = Where::Sqlite("/proc/none/usage.db".into());
    let ledger = Ledger::open(settings, Clock::start(), Looks::default()).unwrap();
    let (status, body) = ask(&ledger, "/usage").await;
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("usage_database_unavailable"), "{body}");
    ledger.close(Duration::from_secs(10)).await;
}
