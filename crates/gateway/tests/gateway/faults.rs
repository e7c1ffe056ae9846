//! What was wrong with replicas: counted under their names, and told in records and traces.

use std::sync::Arc;

use crate::support::{answer, chat, config, engine, gateway, metrics, send, text, until_idle, up};
use parking_lot::Mutex;
use pilotage_gateway::Gateway;
use pilotage_lens::trace::{Reasons, Tracer};
use pilotage_lens::{AttemptFault, Record, Sink};

const HI: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";
const STREAM: &str = r#"{"model":"public","stream":true}"#;
const WHOLE: &str = r#"{"model":"public"}"#;
/// As vLLM says it.
const TOO_LONG: &str = r#"{"error":{"message":"This model's maximum context length is 4096 tokens. However, you requested 5000 tokens.","type":"BadRequestError","param":null,"code":400}}"#;

#[derive(Debug, Default)]
struct Last(Mutex<Option<Arc<Record>>>);

impl Sink for Last {
    fn take(&self, record: &Arc<Record>) {
        *self.0.lock() = Some(Arc::clone(record));
    }
}

impl Last {
    fn of(gateway: &Gateway) -> Arc<Self> {
        let last = Arc::new(Self::default());
        gateway.add_sink(last.clone());
        last
    }

    fn record(&self) -> Arc<Record> {
        self.0.lock().clone().unwrap()
    }
}

async fn counted(gateway: &Gateway, fault: &str) -> u64 {
    let text = metrics(gateway).await;
    let ends = format!("fault=\"{fault}\"}} ");
    let own = text
        .lines()
        .filter(|line| line.starts_with("pilotage_upstream_faults_total{") && line.contains(&ends));
    own.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

const fn fault(what: &'static str, status: Option<u16>) -> AttemptFault {
    AttemptFault { what, status }
}

#[tokio::test]
async fn each_attempt_says_what_was_wrong_with_it() {
    let (one, other) = (engine().await, engine().await);
    let gateway = gateway(config(), &[]);
    let last = Last::of(&gateway);
    up(&gateway, 1, &format!("http://127.0.0.1:{}", pilotage_shell::port::free().unwrap()));
    up(&gateway, 2, &one.url);
    up(&gateway, 3, &other.url);
    one.json(500, "{}");
    other.json(200, "{}");
    assert_eq!(answer(&gateway, chat(WHOLE)).await.0, 200);
    let record = last.record();
    assert_eq!(record.earlier_replicas.len(), 2);
    let refused = Some(fault("refused", None));
    assert_eq!(record.earlier_faults, [refused, Some(fault("server_error", Some(500)))]);
    assert_eq!(record.fault, None);
    assert_eq!(record.reused, Some(false));
    assert!(other.url.ends_with(record.address.as_ref().unwrap().as_str()), "{record:?}");
    assert_eq!(
        (counted(&gateway, "refused").await, counted(&gateway, "server_error").await),
        (1, 1)
    );
    let own = format!("replica=\"{}\",fault=\"server_error\"}} 1", record.earlier_replicas[1]);
    assert!(metrics(&gateway).await.contains(&own), "{own}");
    until_idle(&gateway).await;
}

#[tokio::test]
async fn statuses_are_told_apart() {
    let check = async |status: u16, body: &'static str, expect: &'static str| {
        let engine = engine().await;
        let gateway = gateway(config(), &[&engine]);
        let last = Last::of(&gateway);
        // Whoever fails is asked twice at most.
        (0..4).for_each(|_| engine.json(status, body));
        drop(answer(&gateway, chat(WHOLE)).await);
        let told = last.record().fault.unwrap();
        assert_eq!(told, fault(expect, Some(status)), "{status}");
        assert!(counted(&gateway, expect).await >= 1, "{status}");
    };
    check(429, "{}", "overloaded").await;
    check(503, "{}", "overloaded").await;
    check(401, "{}", "unauthorized").await;
    check(405, "{}", "missing").await;
    check(500, "{}", "server_error").await;
    check(301, "{}", "garbled").await;
    check(400, TOO_LONG, "too_long").await;
    check(422, r#"{"error":{"message":"no"}}"#, "invalid").await;
}

#[tokio::test]
async fn what_breaks_in_the_middle_is_no_failure_to_begin() {
    let engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    let last = Last::of(&gateway);
    let feed = engine.stream();
    feed.send(Ok(HI.into())).unwrap();
    let response = send(&gateway, chat(STREAM)).await;
    drop(feed);
    drop(text(response).await);
    assert_eq!(last.record().fault, Some(fault("truncated", None)));
    assert_eq!((counted(&gateway, "truncated").await, counted(&gateway, "reset").await), (1, 0));
    until_idle(&gateway).await;
}

/// Keeps what went wrong, as long as there is room.
#[derive(Debug)]
struct Room(Mutex<u32>);

impl Tracer for Room {
    fn samples(&self, _: u128, _: Option<bool>) -> bool {
        false
    }

    fn keeps(&self, record: &Record) -> Reasons {
        let mut room = self.0.lock();
        let goals = pilotage_core::scale::Policy::default().goals;
        let reasons = Reasons::of(record, &goals);
        if *room == 0 || !reasons.any() {
            return Reasons::default();
        }
        *room -= 1;
        reasons
    }
}

#[tokio::test]
async fn traces_that_are_kept_for_how_they_went_are_examples() {
    let engine = engine().await;
    let gateway = gateway(config(), &[&engine]);
    let last = Last::of(&gateway);
    gateway.set_tracer(Arc::new(Room(Mutex::new(1))));
    let exemplars = async || {
        let open = gateway.exposition(Some("application/openmetrics-text")).await;
        String::from_utf8(open.body.to_vec()).unwrap().matches("trace_id=").count()
    };
    let mut kept = Vec::new();
    for _ in 0..2 {
        (0..4).for_each(|_| engine.json(500, "{}"));
        assert_eq!(answer(&gateway, chat(WHOLE)).await.0, 502);
        let record = last.record();
        assert!(!record.sampled);
        kept.push((record.kept.any(), record.trace_id));
    }
    assert_eq!([kept[0].0, kept[1].0], [true, false]);
    let open = gateway.exposition(Some("application/openmetrics-text")).await;
    let open = String::from_utf8(open.body.to_vec()).unwrap();
    assert!(exemplars().await > 0);
    assert!(open.contains(&format!("trace_id=\"{:032x}\"", kept[0].1)), "{open}");
    assert!(!open.contains(&format!("{:032x}", kept[1].1)), "there was no room for it");
}
