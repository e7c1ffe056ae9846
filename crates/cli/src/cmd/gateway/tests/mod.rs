//! A gateway of a cluster in memory: which pods get requests, and what becomes of those under way.

mod kept;
mod pools;
mod regions;
mod rig;

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use pilotage_cluster::fault::{Fault, Meets, Trouble};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use rig::*;

#[tokio::test(start_paused = true)]
async fn pods_serve_their_model_with_its_key() {
    let engine = Engine::start().await;
    let mut rig = Rig::start().await;
    rig.model(&vllm()).await;
    let secret = |key: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": "pilotage-engine-keys", "namespace": "pilotage"},
        "stringData": {"n.m": key, "other.m": "not this one"}})
    };
    rig.put(secret("first")).await;
    rig.put(slice(&[("p", "1", engine.at, true, false)])).await;
    rig.replicas(1, 1).await;
    assert_eq!(rig.answered("m").await, Ok(engine.at.port()));
    assert_eq!(engine.last_key(), "Bearer first");
    // Another key: what is sent from now on has it, what runs goes on.
    engine.ends.send_replace(false);
    let asked = rig.ask("m", true);
    let (status, body) = rig.during(asked).await;
    assert_eq!(status, StatusCode::OK);
    rig.put(secret("second")).await;
    rig.replicas(1, 2).await;
    assert_eq!(rig.answered("m").await, Ok(engine.at.port()));
    assert_eq!(engine.last_key(), "Bearer second");
    engine.ends.send_replace(true);
    assert!(ends_well(&mut rig, body).await);
    rig.replicas(1, 1).await;
}

/// Whether a stream ends as it should.
async fn ends_well(rig: &mut Rig, body: Body) -> bool {
    let whole = rig.during(body.collect()).await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&whole);
    text.contains("\"end\"") && text.ends_with("data: [DONE]\n\n")
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_leaves_gets_nothing_new_and_ends_what_it_has() {
    let (one, two) = (Engine::start().await, Engine::start().await);
    let mut rig = Rig::start().await;
    rig.model(&vllm()).await;
    rig.put(slice(&[("p", "1", one.at, true, false)])).await;
    rig.replicas(1, 1).await;
    one.ends.send_replace(false);
    let asked = rig.ask("m", true);
    let (_, body) = rig.during(asked).await;
    rig.put(slice(&[("q", "2", two.at, true, false)])).await;
    rig.put(slice(&[("p", "1", one.at, false, true)])).await;
    rig.replicas(1, 2).await;
    for _ in 0..4 {
        assert_eq!(rig.answered("m").await, Ok(two.at.port()));
    }
    one.ends.send_replace(true);
    assert!(ends_well(&mut rig, body).await);
    delete(&rig.client, &slice(&[("p", "1", one.at, false, true)])).await;
    rig.replicas(1, 1).await;
    assert_eq!((one.asked(), two.asked()), (1, 4));
}

#[tokio::test(start_paused = true)]
async fn a_stream_goes_on_elsewhere_when_its_pod_is_gone() {
    let engines = [Engine::start().await, Engine::start().await];
    let [one, two] = &engines;
    let mut rig = Rig::start().await;
    rig.model(&vllm()).await;
    let slices = [("p", "1", one.at), ("q", "2", two.at)]
        .map(|(name, uid, at)| slice(&[(name, uid, at, true, false)]));
    for slice in &slices {
        rig.put(slice.clone()).await;
    }
    rig.replicas(2, 2).await;
    for engine in &engines {
        engine.ends.send_replace(false);
    }
    let asked = rig.ask("m", true);
    let (_, body) = rig.during(asked).await;
    let at = engines.iter().position(|engine| engine.asked() == 1).unwrap();
    engines[1 - at].ends.send_replace(true);
    delete(&rig.client, &slices[at]).await;
    assert!(ends_well(&mut rig, body).await);
    assert_eq!((one.asked(), two.asked()), (1, 1));
    rig.replicas(1, 1).await;
}

#[tokio::test(start_paused = true)]
async fn one_bad_resource_leaves_the_others_alone() {
    let engine = Engine::start().await;
    let mut rig = Rig::start().await;
    rig.model(&vllm()).await;
    rig.put(slice(&[("p", "1", engine.at, true, false)])).await;
    let to = |model: &str| json!({"targets": [{"model": model}]});
    rig.put(resource("Route", "n", "good", &to("m"))).await;
    rig.put(resource("Route", "n", "bad", &to("nowhere"))).await;
    let later = tokio::time::sleep(Duration::from_secs(2));
    rig.during(later).await;
    rig.put(resource("Model", "later", "m", &vllm())).await;
    let status = rig.until(|status| status["cluster"]["refusedCount"] == 2).await;
    let refused: Vec<_> = status["cluster"]["refused"].as_array().unwrap().iter().collect();
    let told = |one: &Value| {
        format!("{} {}/{} {}", one["kind"], one["namespace"], one["name"], one["reason"])
    };
    let mut told: Vec<String> = refused.into_iter().map(told).collect();
    told.sort();
    let expect =
        ["\"Model\" \"later\"/\"m\" \"NameTaken\"", "\"Route\" \"n\"/\"bad\" \"ReferenceMissing\""];
    assert_eq!(told, expect);
    rig.replicas(1, 1).await;
    assert_eq!(rig.answered("good").await, Ok(engine.at.port()));
    assert_eq!(rig.answered("bad").await, Err(StatusCode::NOT_FOUND));
    // It is put right.
    rig.put(resource("Route", "n", "bad", &to("m"))).await;
    rig.until(|status| status["cluster"]["refusedCount"] == 1).await;
    assert_eq!(rig.answered("bad").await, Ok(engine.at.port()));
}

#[tokio::test(start_paused = true)]
async fn what_changes_holds_without_losing_a_request() {
    let engine = Engine::start().await;
    let mut rig = Rig::start().await;
    rig.model(&vllm()).await;
    rig.put(slice(&[("p", "1", engine.at, true, false)])).await;
    rig.replicas(1, 1).await;
    engine.ends.send_replace(false);
    let asked = rig.ask("m", true);
    let (_, body) = rig.during(asked).await;
    // The Model goes, and its name with it; what runs there ends as it would have.
    delete(&rig.client, &resource("Model", "n", "m", &vllm())).await;
    rig.put(resource("Model", "n", "other", &vllm())).await;
    rig.until(|status| status["config"]["generation"] == 3).await;
    assert_eq!(rig.answered("m").await, Err(StatusCode::NOT_FOUND));
    engine.ends.send_replace(true);
    assert!(ends_well(&mut rig, body).await);
    rig.until(|status| status["lanes"].as_array().unwrap().len() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_loses_its_cluster_serves_on() {
    let engine = Engine::start().await;
    let mut rig = Rig::start().await;
    rig.model(&vllm()).await;
    rig.put(slice(&[("p", "1", engine.at, true, false)])).await;
    rig.replicas(1, 1).await;
    rig.server.with(|cluster, now_ms| {
        cluster.faults().away_until_ms(now_ms + 3_600_000);
        cluster.drop_watches(true);
    });
    let hour = tokio::time::sleep(Duration::from_secs(1800));
    rig.during(hour).await;
    let status = rig.status().await;
    let source = &status["cluster"]["sources"][0];
    assert!(
        source["error"].is_string() && source["heardMsAgo"].as_u64() > Some(1_700_000),
        "{source}"
    );
    assert_eq!(rig.answered("m").await, Ok(engine.at.port()));
    let hour = tokio::time::sleep(Duration::from_secs(1830));
    rig.during(hour).await;
    rig.put(resource("Route", "n", "new", &json!({"targets": [{"model": "m"}]}))).await;
    rig.until(|status| status["config"]["generation"] == 3).await;
    assert_eq!(rig.answered("new").await, Ok(engine.at.port()));
    let is_well = |status: &Value| {
        let sources = status["cluster"]["sources"].as_array().unwrap();
        // This cluster never had what is of others.
        let others = ["GatewayClass", "Gateway", "HTTPRoute", "InferencePool"];
        let is_others = |one: &Value| others.iter().any(|kind| one["kind"] == *kind);
        sources.iter().all(|one| is_others(one) || one["error"].is_null())
    };
    rig.until(is_well).await;
}

#[tokio::test(start_paused = true)]
async fn a_gateway_waits_for_its_cluster() {
    let (server, client) = cluster();
    for crd in pilotage_plan::crd::all() {
        put(&client, crd).await;
    }
    server.with(|cluster, now_ms| cluster.faults().away_until_ms(now_ms + 120_000));
    let mut rig = Rig::on(server, client).await;
    let ready = async |rig: &Rig| {
        let request = Request::get("/health/ready").body(Body::empty()).unwrap();
        let response = rig.serving.front().gateway.router().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice::<Value>(&body).unwrap())
    };
    let minute = tokio::time::sleep(Duration::from_secs(60));
    rig.during(minute).await;
    let (status, body) = ready(&rig).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body["reason"], "what there is in the cluster is not known yet");
    rig.until(|status| status["ready"] == true).await;
    assert_eq!(ready(&rig).await.0, StatusCode::OK, "though there is no Model at all");
}

#[tokio::test(start_paused = true)]
async fn who_may_not_read_keys_says_so_and_waits() {
    let (server, client) = cluster();
    let meets = Meets::calls(&["list", "watch"], "secrets");
    server.with(|cluster, _| cluster.faults().add(Fault::new(meets, Trouble::Forbidden)));
    for crd in pilotage_plan::crd::all() {
        put(&client, crd).await;
    }
    let mut rig = Rig::on(server, client).await;
    let secret = |status: &Value| {
        let all = status["cluster"]["sources"].as_array().unwrap().clone();
        all.into_iter().find(|one| one["kind"] == "Secret").unwrap()
    };
    let status = rig.until(|status| secret(status)["error"].is_string()).await;
    assert!(secret(&status)["error"].as_str().unwrap().contains("403"), "{status}");
    assert_eq!(status["ready"], false);
    rig.server.with(|cluster, _| cluster.faults().clear());
    rig.until(|status| status["ready"] == true).await;
}

#[tokio::test(start_paused = true)]
async fn gateways_share_what_tenants_may() {
    let mut rig = Rig::start().await;
    rig.until(|status| status["ready"] == true).await;
    let pods: Vec<Value> = ["gateway-0", "gateway-1", "gateway-2"]
        .iter()
        .zip(1_u8..)
        .map(|(name, at)| {
            json!({"addresses": [format!("10.0.0.{at}")], "zone": "a",
                "conditions": {"ready": *name != "gateway-2"},
                "targetRef": {"kind": "Pod", "name": name, "uid": name}})
        })
        .collect();
    rig.put(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "g", "namespace": "pilotage",
            "labels": {"kubernetes.io/service-name": "pilotage-gateway"}},
        "addressType": "IPv4", "endpoints": pods, "ports": [],
    }))
    .await;
    let status = rig.until(|status| status["cluster"]["gateways"] == 2).await;
    assert_eq!(status["cluster"]["zone"], "a");
    let quota =
        json!({"keys": [{"name": "k", "sha256": client_hash()}], "quota": {"concurrency": 5}});
    rig.put(resource("Tenant", "n", "team", &quota)).await;
    rig.until(|status| status["config"]["generation"] == 3).await;
    let tenants = &rig.serving.front().current.plan().tenants;
    assert_eq!(tenants[0].quota.concurrency, Some(3));
}

#[tokio::test(start_paused = true)]
async fn an_http_route_leads_to_models() {
    let engine = Engine::start().await;
    let mut rig = Rig::start().await;
    rig.model(&vllm()).await;
    rig.put(slice(&[("p", "1", engine.at, true, false)])).await;
    rig.replicas(1, 1).await;
    let [.., routes, _] = pilotage_cluster::foreign::gateway_api();
    rig.put(routes).await;
    let route = |name: &str, more: Value| {
        let mut spec = json!({"rules": [{"backendRefs":
            [{"group": "pilotage.dev", "kind": "Model", "name": "m"}]}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": name, "namespace": "n"}, "spec": spec})
    };
    rig.put(route("by-http", json!({}))).await;
    rig.put(route("hosted", json!({"hostnames": ["a.example.com"]}))).await;
    let status = rig.until(|status| status["cluster"]["refusedCount"] == 1).await;
    let why = status["cluster"]["refused"][0]["message"].as_str().unwrap();
    assert!(why.starts_with("hostnames: "), "{why}");
    assert_eq!(rig.answered("by-http").await, Ok(engine.at.port()));
    assert_eq!(rig.answered("hosted").await, Err(StatusCode::NOT_FOUND));
}
