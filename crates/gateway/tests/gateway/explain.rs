//! What an operator is told about a request is what then happens, and asking changes nothing.

use axum::body::Body;
use axum::http::Request;
use pilotage_core::traffic::{Capabilities, Feature, Features};
use pilotage_core::{Band, Policy, ReplicaId};
use pilotage_gateway::{Gateway, TenantConfig};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::support::{
    chat, config, engine, gateway, send, status, text, until_idle, until_queued, until_up,
};

async fn ask(gateway: &Gateway, key: &str, question: &Value) -> (u16, String) {
    let request = Request::post("/explain/route")
        .header("authorization", format!("Bearer {key}"))
        .body(Body::from(question.to_string()))
        .unwrap();
    let response = gateway.admin_router(Default::default()).oneshot(request).await.unwrap();
    (response.status().as_u16(), text(response).await)
}

async fn told(gateway: &Gateway, question: &Value) -> Value {
    let (status, body) = ask(gateway, "pk-admin", question).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn what_is_told_happens() {
    let engines = [engine().await, engine().await, engine().await];
    let mut config = config();
    config.lanes[0].scheduler.policy = Policy::Cost;
    let gateway = gateway(config, &engines.each_ref());
    until_up(&gateway, 3).await;
    let secret = "the launch code is 0000";
    let body =
        json!({"model": "public", "messages": [{"role": "user", "content": secret.repeat(40)}]});
    for _ in 0..4 {
        let before = status(&gateway).await["lanes"].clone();
        let told = told(&gateway, &json!({"request": body})).await;
        assert_eq!(status(&gateway).await["lanes"], before);
        assert!(!told.to_string().contains("launch"), "{told}");
        assert_eq!((&told["tenant"], &told["band"]), (&json!("team"), &json!("standard")));
        let lane = &told["lanes"][0];
        assert_eq!((&lane["name"], &lane["policy"]), (&json!("lane"), &json!("cost")));
        assert_eq!(lane["policies"].as_array().unwrap().len(), Policy::ALL.len() - 1);
        let replicas = lane["replicas"].as_array().unwrap();
        let near: Vec<&Value> = replicas.iter().filter(|one| one["near"] == true).collect();
        let chosen = replicas.iter().find(|one| one["chosen"] == true).unwrap();
        assert_eq!(chosen["name"], lane["decision"]["replica"]);
        engines.iter().for_each(|engine| engine.json(200, "{}"));
        let mut request = chat(&body.to_string());
        request.headers_mut().insert("x-pilotage-why", "1".parse().unwrap());
        let response = send(&gateway, request).await;
        let why = response.headers()["x-pilotage-why"].to_str().unwrap().to_owned();
        // Equal ones are drawn by the request's number, and the explanation took one.
        let same = near.iter().any(|one| {
            let id = one["id"].as_u64().unwrap();
            let cost = one["costs_ms"]["total"].as_f64().unwrap() as u64;
            why.contains(&format!(" replica={id} cost_ms={cost} "))
        });
        assert!(same, "{why}: {lane}");
        drop(response);
        until_idle(&gateway).await;
    }
    // The prompt is in the cache of one by now, and that is where it would go.
    let told = told(&gateway, &json!({"request": body})).await;
    let replicas = told["lanes"][0]["replicas"].as_array().unwrap();
    assert!(replicas.iter().any(|one| one["chosen"] == true && one["cached_tokens"] != 0));
}

#[tokio::test]
async fn what_each_model_lacks_is_told() {
    let mut config = config();
    let features = Features::of(&[Feature::Text]);
    config.lanes[0].capabilities = Capabilities { features, ..Capabilities::default() };
    let gateway = gateway(config, &[]);
    let image = json!([{"role": "user", "content": [{"image_url": "data:image/png;base64,AA=="}]}]);
    let told = told(&gateway, &json!({"request": {"model": "alias", "messages": image}})).await;
    let lacks = json!([{"name": "lane", "open": false, "lacks": "has no vision"}]);
    assert_eq!((&told["models"], &told["lanes"]), (&lacks, &json!([])));
    let said = "no model of the route fits the request: `lane` has no vision";
    assert_eq!(told["route"]["said"], said);
}

#[tokio::test]
async fn it_is_asked_in_a_tenants_name_with_the_admin_key() {
    let mut config = config();
    let other = TenantConfig { highest_band: Band::Bulk, ..TenantConfig::named("other") };
    config.tenants.push(other);
    let gateway = gateway(config, &[]);
    let ask = async |key: &str, more: Value, expect: u16| {
        let mut question = json!({"request": {"model": "public", "messages": []}});
        question.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, body) = ask(&gateway, key, &question).await;
        assert_eq!(status, expect, "{body}");
        serde_json::from_str::<Value>(&body).unwrap()
    };
    ask("pk-client", json!({"tenant": "team"}), 401).await;
    let error = ask("pk-admin", json!({}), 400).await;
    assert_eq!(error["error"]["param"], "tenant");
    ask("pk-admin", json!({"tenant": "nobody"}), 400).await;
    ask("pk-admin", json!({"tenant": "team", "path": "/v1/nothing"}), 400).await;
    ask("pk-admin", json!({"tenant": "team", "what": 1}), 400).await;
    ask("pk-admin", json!({"tenant": "team", "headers": {"authorization": "x"}}), 400).await;
    let headers = json!({"x-pilotage-band": "realtime"});
    let told = ask("pk-admin", json!({"tenant": "other", "headers": headers}), 200).await;
    assert_eq!((&told["tenant"], &told["band"]), (&json!("other"), &json!("bulk")));
    let decision = &told["lanes"][0]["decision"];
    assert_eq!(decision, &json!({"decision": "full"}));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_may_kill_engines_is_said_to_wait_for_its_trial() {
    let engines = [engine().await, engine().await, engine().await];
    let feeds = engines.each_ref().map(|engine| engine.slow());
    let gateway = gateway(config(), &engines.each_ref());
    let body = json!({"model": "public", "messages": [{"role": "user", "content": "boom"}]});
    let question = json!({"request": body});
    let suspicion = async || told(&gateway, &question).await["lanes"][0].clone();
    assert_eq!(suspicion().await["suspicion"], Value::Null);
    let killed = async {
        for _ in 0..2 {
            let id = loop {
                let lane = status(&gateway).await["lanes"][0].clone();
                let replicas = lane["replicas"].as_array().unwrap();
                let busy = |one: &&Value| one["in_flight"] == 1 && one["up"] == true;
                match replicas.iter().find(busy) {
                    Some(one) => break one["id"].as_u64().unwrap(),
                    None => tokio::task::yield_now().await,
                }
            };
            gateway.lane("lane").unwrap().replica_died(ReplicaId(u32::try_from(id).unwrap()));
        }
        until_queued(&gateway, 1).await;
        suspicion().await
    };
    let text = body.to_string();
    let lane = tokio::select! {
        lane = killed => lane,
        answer = send(&gateway, chat(&text)) => panic!("{}", answer.status()),
    };
    assert_eq!(lane["decision"], json!({"decision": "apart"}));
    let told = &lane["suspicion"];
    assert_eq!((&told["ruling"], &told["deaths"]), (&json!("trial"), &json!(2)));
    assert!((1.0..=5000.0).contains(&told["wait_ms"].as_f64().unwrap()), "{told}");
    assert!(told["said"].as_str().unwrap().contains("if none dies until then"), "{told}");
    let others = lane["policies"].as_array().unwrap();
    assert!(others.iter().all(|one| one["decision"] == "apart"), "{others:?}");
    drop(feeds);
    until_idle(&gateway).await;
}
