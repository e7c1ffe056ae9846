//! Adapters that some replicas have and others have not, and such that come and go while they are asked for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use pilotage_core::{Capacity, ReplicaId};
use pilotage_gateway::{Gateway, Replica};
use pilotage_shell::clock::Clock;
use pilotage_wire::dialect::Dialect;
use serde_json::{Value, json};

use crate::support::{answer, chat, config, gateway, send};

const ANSWER: &str = r#"{"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;

/// A replica with adapters.
#[derive(Default)]
struct Script {
    has: BTreeSet<&'static str>,
    /// Whether it lists them.
    lists: bool,
    /// The names that it was asked for.
    asked: Vec<String>,
    /// Whether it has listed them without this one.
    read_without_sql: bool,
}

type Scripted = Arc<Mutex<Script>>;

async fn replica(has: &[&'static str], lists: bool) -> (String, Scripted) {
    let has = has.iter().copied().collect();
    let script = Arc::new(Mutex::new(Script { has, lists, ..Script::default() }));
    let router = Router::new().fallback(reply).with_state(Arc::clone(&script));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(pilotage_shell::tasks::spawn(
        "engine",
        async move { axum::serve(listener, router).await },
    ));
    (url, script)
}

async fn reply(State(script): State<Scripted>, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let mut script = script.lock();
    let told = |status: u16, value: String| {
        let builder = Response::builder().status(status);
        builder.header("content-type", "application/json").body(Body::from(value)).unwrap()
    };
    match parts.uri.path() {
        "/v1/models" => {
            script.read_without_sql |= !script.has.contains("sql");
            let base = json!({ "id": "served", "root": "/w", "parent": null });
            let own = script.has.iter().filter(|_| script.lists);
            let own = own.map(|name| json!({ "id": name, "root": "/a", "parent": "served" }));
            let all: Vec<Value> = std::iter::once(base).chain(own).collect();
            told(200, json!({ "data": all }).to_string())
        }
        "/v1/chat/completions" => {
            let asked: Value = serde_json::from_slice(&body).unwrap();
            let name = asked["model"].as_str().unwrap().to_owned();
            let has =
                matches!(name.as_str(), "served" | "public") || script.has.contains(name.as_str());
            script.asked.push(name.clone());
            if has {
                return told(200, ANSWER.to_owned());
            }
            if name.starts_with("public:") {
                let error = json!({ "message": "no", "code": "adapter_not_loaded" });
                return told(503, json!({ "error": error }).to_string());
            }
            // As SGLang says it, where it was asked as that wants it, and as vLLM does.
            let Some((_, adapter)) = name.split_once(':') else {
                let message = format!("The model `{name}` does not exist.");
                let error = json!({ "message": message, "type": "NotFoundError", "code": 404 });
                return told(404, json!({ "error": error }).to_string());
            };
            let message = format!(
                "The following requested LoRA adapters are not loaded: {adapter}\nLoaded adapters: dict_keys([])."
            );
            let error = json!({ "object": "error", "message": message, "type": "BadRequestError", "code": 400 });
            told(400, error.to_string())
        }
        _ => Response::new(Body::empty()),
    }
}

fn before(dialect: Dialect, urls: &[&str]) -> Gateway {
    let mut config = config();
    config.lanes[0].adapters = vec!["law".to_owned(), "sql".to_owned()];
    let gateway = gateway(config, &[]);
    for (id, url) in (1..).zip(urls) {
        let replica = Replica::at(format!("r{id}"), *url, Capacity::of_requests(8));
        let replica = Replica { dialect, metrics: None, ..replica };
        gateway.lane("lane").unwrap().replica_up(ReplicaId(id), replica);
    }
    gateway
}

async fn ask(gateway: &Gateway, model: &str) -> (u16, String) {
    let (status, body) = answer(gateway, chat(&format!(r#"{{"model":"{model}"}}"#))).await;
    (status, body)
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// When requests were sent that are answered at once, and wait for nothing.
struct Begun(Clock, u64);

impl Begun {
    fn now() -> Self {
        let clock = Clock::start();
        Self(clock, clock.now_nanos())
    }

    #[track_caller]
    fn is_moments_ago(&self) {
        self.is_ago(Duration::from_secs(1));
    }

    /// It was at most so long ago.
    #[track_caller]
    fn is_ago(&self, most: Duration) {
        let Self(clock, begun) = self;
        let passed = Duration::from_nanos(clock.now_nanos() - begun);
        assert!(passed < most, "{passed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_adapter_is_asked_for_where_it_is() {
    let (first, without) = replica(&["law"], true).await;
    let (second, with) = replica(&["law", "sql"], true).await;
    let gateway = before(Dialect::Vllm, &[&first, &second]);
    pass(20).await;
    for _ in 0..5 {
        assert_eq!(ask(&gateway, "public:sql").await.0, 200);
    }
    assert_eq!(with.lock().asked, ["sql"; 5]);
    assert_eq!(without.lock().asked, [""; 0]);
    // Once it is everywhere, it is asked for everywhere.
    without.lock().has.insert("sql");
    pass(20).await;
    assert_eq!(ask(&gateway, "public:sql").await.0, 200);
    assert_eq!(without.lock().asked, ["sql"]);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_nowhere_yet_is_to_be_asked_for_later() {
    let (url, script) = replica(&[], true).await;
    let gateway = before(Dialect::Vllm, &[&url]);
    pass(20).await;
    let response = send(&gateway, chat(r#"{"model":"public:sql"}"#)).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (503, &"5".parse().unwrap())
    );
    let body = String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec());
    assert!(body.unwrap().contains("adapter_not_loaded"));
    assert_eq!(script.lock().asked, [""; 0]);
    assert_eq!(ask(&gateway, "public").await.0, 200, "its model is not concerned");
    script.lock().has.insert("sql");
    pass(20).await;
    assert_eq!(ask(&gateway, "public:sql").await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_request_outlives_the_moment_in_which_a_newer_one_takes_its_place() {
    let (url, script) = replica(&["sql"], true).await;
    let gateway = before(Dialect::Vllm, &[&url]);
    pass(20).await;
    script.lock().has.remove("sql");
    let back = async {
        while script.lock().asked.len() < 3 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        script.lock().has.insert("sql");
    };
    let (answered, ()) = tokio::join!(ask(&gateway, "public:sql"), back);
    assert_eq!(answered.0, 200);
    assert!(script.lock().asked.len() >= 4);
}

#[tokio::test(start_paused = true)]
async fn what_a_replica_refuses_and_does_not_list_is_no_wrong_request() {
    let (url, script) = replica(&[], true).await;
    let gateway = before(Dialect::Vllm, &[&url]);
    // It has not been asked for its list yet.
    let (status, body) = ask(&gateway, "public:law").await;
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("adapter_not_loaded") && !script.lock().asked.is_empty(), "{body}");
}

#[tokio::test(start_paused = true)]
async fn sglang_is_asked_for_an_adapter_behind_a_colon() {
    let (url, script) = replica(&["served:sql"], false).await;
    let gateway = before(Dialect::Sglang, &[&url]);
    // It lists none, which says nothing.
    pass(20).await;
    assert_eq!(ask(&gateway, "public:sql").await.0, 200);
    assert_eq!(ask(&gateway, "public").await.0, 200);
    assert_eq!(script.lock().asked, ["served:sql", "served"]);
}

#[tokio::test(start_paused = true)]
async fn one_that_refuses_an_adapter_gives_way_to_one_that_has_it() {
    let (first, without) = replica(&[], false).await;
    let (second, with) = replica(&["served:sql"], false).await;
    // Neither says what it has.
    let gateway = before(Dialect::Sglang, &[&first, &second]);
    pass(20).await;
    let begun = Begun::now();
    for _ in 0..8 {
        assert_eq!(ask(&gateway, "public:sql").await.0, 200);
    }
    begun.is_moments_ago();
    assert_eq!(with.lock().asked.len(), 8);
    assert!(without.lock().asked.len() <= 1, "it is believed for a while");
    // It is asked again later, and may have it by then.
    without.lock().has.insert("served:sql");
    with.lock().has.clear();
    pass(20).await;
    assert_eq!(ask(&gateway, "public:sql").await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_list_read_while_one_takes_the_place_of_another_refuses_nobody() {
    let (url, script) = replica(&["law", "sql"], true).await;
    let gateway = before(Dialect::Vllm, &[&url]);
    pass(20).await;
    script.lock().has.remove("sql");
    // So long that a list is read while it is away.
    let list = async {
        while !script.lock().read_without_sql {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    list.await;
    let back = async {
        while script.lock().asked.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        script.lock().has.insert("sql");
    };
    let (answered, ()) = tokio::join!(ask(&gateway, "public:sql"), back);
    assert_eq!(answered.0, 200);
    // One that does not come back is missed in the end.
    script.lock().has.remove("sql");
    pass(20).await;
    script.lock().asked.clear();
    assert_eq!(ask(&gateway, "public:sql").await.0, 503);
    assert_eq!(script.lock().asked, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn replicas_that_drain_have_no_adapter_for_anybody() {
    let (first, going) = replica(&["sql"], true).await;
    let (second, stays) = replica(&[], true).await;
    let gateway = before(Dialect::Vllm, &[&first, &second]);
    pass(20).await;
    let replica = Replica::at("r1", &first, Capacity::of_requests(0));
    let replica = Replica { dialect: Dialect::Vllm, metrics: None, ..replica };
    gateway.lane("lane").unwrap().replica_up(ReplicaId(1), replica);
    let begun = Begun::now();
    let (status, body) = ask(&gateway, "public:sql").await;
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("adapter_not_loaded"), "{body}");
    begun.is_moments_ago();
    assert_eq!((going.lock().asked.len(), stays.lock().asked.len()), (0, 0));
    assert_eq!(ask(&gateway, "public").await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn another_region_that_lacks_an_adapter_still_serves_its_model() {
    let (url, elsewhere) = replica(&[], true).await;
    let gateway = before(Dialect::Vllm, &[]);
    let replica = Replica::at("oslo", &url, Capacity::of_requests(8));
    let replica = Replica { is_gateway: true, metrics: None, ..replica };
    gateway.lane("lane").unwrap().replica_up(ReplicaId(9), replica);
    let begun = Begun::now();
    let (status, body) = ask(&gateway, "public:sql").await;
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("adapter_not_loaded"), "{body}");
    assert_eq!(ask(&gateway, "public").await.0, 200);
    begun.is_moments_ago();
    assert_eq!(elsewhere.lock().asked, ["public:sql", "public"]);
    // What came from there is not sent back, and there is nobody else.
    let (near, _) = self::replica(&[], true).await;
    let replica = Replica::at("near", &near, Capacity::of_requests(8));
    let replica = Replica { dialect: Dialect::Vllm, metrics: None, ..replica };
    gateway.lane("lane").unwrap().replica_up(ReplicaId(1), replica);
    pass(20).await;
    let mut request = chat(r#"{"model":"public:sql"}"#);
    request.headers_mut().insert("x-pilotage-hops", "1".parse().unwrap());
    let begun = Begun::now();
    assert_eq!(answer(&gateway, request).await.0, 503);
    begun.is_moments_ago();
}

#[tokio::test(start_paused = true)]
async fn what_nobody_has_is_not_asked_for_by_turns() {
    let (first, one) = replica(&[], false).await;
    let (second, other) = replica(&[], false).await;
    let gateway = before(Dialect::Sglang, &[&first, &second]);
    pass(20).await;
    let begun = Begun::now();
    let (status, body) = ask(&gateway, "public:sql").await;
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("adapter_not_loaded"), "{body}");
    begun.is_ago(Duration::from_secs(7));
    assert!(!one.lock().asked.is_empty() && !other.lock().asked.is_empty());
    let begun = Begun::now();
    assert_eq!(ask(&gateway, "public:sql").await.0, 503);
    begun.is_ago(Duration::from_secs(6));
    assert_eq!(ask(&gateway, "public").await.0, 200);
}
