//! InferencePools of a cluster in memory: for clients by HTTPRoutes, and for proxies by name.

use pilotage_cluster::foreign::gateway_api;
use pilotage_gateway::{Pick, Picked};

use super::*;

fn pod(name: &str, at: std::net::SocketAddr, ready: bool) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "n", "labels": {"app": "p"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
        "status": {"podIP": at.ip().to_string(), "phase": "Running",
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}})
}

/// A pod and its status, which is written apart.
async fn put_pod(rig: &Rig, object: Value) {
    rig.put(object.clone()).await;
    let (api, name) = api(&rig.client, &object);
    let status = json!({ "status": object["status"] });
    let how = kube::api::PatchParams::default();
    api.patch_status(&name, &how, &kube::api::Patch::Merge(&status)).await.unwrap();
}

fn pool(ports: &[u16]) -> Value {
    let ports: Vec<Value> = ports.iter().map(|port| json!({ "number": port })).collect();
    json!({"apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool",
        "metadata": {"name": "p", "namespace": "n"},
        "spec": {"selector": {"matchLabels": {"app": "p"}}, "targetPorts": ports}})
}

async fn define_all(client: &kube::Client) {
    for definition in gateway_api() {
        put(client, definition).await;
    }
}

fn of_gateway(kind: &str, name: &str, spec: Value) -> Value {
    let mut object = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": kind,
        "metadata": {"name": name}, "spec": spec});
    if kind != "GatewayClass" {
        object["metadata"]["namespace"] = "n".into();
    }
    object
}

/// A cluster with a Gateway of ours and one of others.
async fn with_gateways() -> Rig {
    let (server, client) = cluster();
    for crd in pilotage_plan::crd::all() {
        put(&client, crd).await;
    }
    define_all(&client).await;
    let tenant = json!({"keys": [{"name": "k", "sha256": client_hash()}]});
    put(&client, resource("Tenant", "n", "team", &tenant)).await;
    for (name, controller) in [("ours", "pilotage.dev/gateway"), ("theirs", "istio.io/gateway")] {
        let class = of_gateway("GatewayClass", name, json!({"controllerName": controller}));
        put(&client, class).await;
        let listeners = json!([{"name": "http", "port": 80, "protocol": "HTTP"}]);
        let spec = json!({"gatewayClassName": name, "listeners": listeners});
        put(&client, of_gateway("Gateway", &format!("{name}-gateway"), spec)).await;
    }
    Rig::on(server, client).await
}

fn route(name: &str, gateway: &str) -> Value {
    let backend =
        json!({"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "p"});
    let spec = json!({"parentRefs": [{"name": gateway}], "rules": [{"backendRefs": [backend]}]});
    of_gateway("HTTPRoute", name, spec)
}

#[tokio::test(start_paused = true)]
async fn an_http_route_leads_to_the_pods_of_a_pool() {
    let (one, two) = (Engine::start().await, Engine::start().await);
    let mut rig = with_gateways().await;
    put_pod(&rig, pod("p-0", one.at, true)).await;
    rig.put(pool(&[one.at.port()])).await;
    rig.put(route("theirs", "theirs-gateway")).await;
    rig.put(route("chat", "ours-gateway")).await;
    rig.replicas(1, 1).await;
    assert_eq!(rig.answered("chat").await, Ok(one.at.port()));
    assert_eq!(rig.answered("theirs").await, Err(StatusCode::NOT_FOUND), "it is another's");
    assert_eq!(rig.answered("n.p").await, Err(StatusCode::NOT_FOUND), "it has no name of its own");
    // Its port is another: whoever listens there is asked from now on.
    rig.put(pool(&[two.at.port()])).await;
    rig.until(|status| {
        status["lanes"][0]["replicas"].as_array().is_some_and(|all| {
            all.len() == 1
                && all[0]["url"]
                    .as_str()
                    .is_none_or(|url| url.ends_with(&two.at.port().to_string()))
        })
    })
    .await;
    assert_eq!(rig.answered("chat").await, Ok(two.at.port()));
    put_pod(&rig, pod("p-0", two.at, false)).await;
    rig.replicas(0, 1).await;
    delete(&rig.client, &route("chat", "ours-gateway")).await;
    rig.until(|status| status["lanes"].as_array().unwrap().is_empty()).await;
    assert_eq!(rig.answered("chat").await, Err(StatusCode::NOT_FOUND));
}

#[tokio::test(start_paused = true)]
async fn a_pool_whose_pods_cannot_be_listed_keeps_nobody_waiting() {
    let engine = Engine::start().await;
    let mut rig = with_gateways().await;
    let meets = Meets::calls(&["list", "watch"], "pods");
    rig.server.with(|cluster, _| cluster.faults().add(Fault::new(meets, Trouble::Internal)));
    rig.put(pool(&[engine.at.port()])).await;
    rig.put(route("chat", "ours-gateway")).await;
    rig.until(|status| status["lanes"].as_array().is_some_and(|lanes| lanes.len() == 1)).await;
    rig.model(&vllm()).await;
    rig.put(slice(&[("p", "1", engine.at, true, false)])).await;
    rig.until(|status| status["lanes"].as_array().is_some_and(|lanes| lanes.len() == 2)).await;
    assert_eq!(rig.answered("m").await, Ok(engine.at.port()));
}

/// What a proxy is told of a request for that model.
async fn picked(rig: &mut Rig, model: &str) -> Result<Box<Picked>, StatusCode> {
    let body = json!({"model": model, "messages": [{"role": "user", "content": "hello"}]});
    let request = Request::post("/v1/chat/completions")
        .header("authorization", format!("Bearer {CLIENT}"))
        .header("content-type", "application/json")
        .body(bytes::Bytes::from(body.to_string()))
        .unwrap();
    let gateway = rig.serving.front().gateway.clone();
    let picked = Box::pin(async move { gateway.pick(request, Pick::default()).await });
    rig.during(picked).await.map_err(|refused| refused.status())
}

#[tokio::test(start_paused = true)]
async fn a_picker_chooses_among_the_pods_of_its_pool() {
    let (server, client) = cluster();
    define_all(&client).await;
    for crd in pilotage_plan::crd::all() {
        put(&client, crd).await;
    }
    let tenant = json!({"keys": [{"name": "k", "sha256": client_hash()}]});
    put(&client, resource("Tenant", "n", "team", &tenant)).await;
    // A Model of the same cluster is not its matter.
    put(&client, resource("Model", "n", "m", &vllm())).await;
    let purpose = Purpose::Pool("n".to_owned(), "p".to_owned());
    let mut rig = Rig::of(server, client, purpose).await;
    let status = rig.until(|status| status["cluster"]["error"].is_string()).await;
    assert_eq!(status["cluster"]["error"], "there is no InferencePool n/p");
    assert_eq!(status["ready"], false);
    let (one, two) = (Engine::start().await, Engine::start().await);
    put_pod(&rig, pod("p-0", one.at, true)).await;
    rig.put(pool(&[one.at.port()])).await;
    rig.replicas(1, 1).await;
    let first = picked(&mut rig, "meta-llama/Llama-3.1-8B").await.unwrap();
    assert_eq!(first.address(), one.at.to_string());
    let body: Value = serde_json::from_slice(first.request().body()).unwrap();
    assert_eq!(body["model"], "meta-llama/Llama-3.1-8B", "as its client wrote it");
    drop(first);
    // Another port of each pod: what is free is taken.
    rig.put(pool(&[one.at.port(), two.at.port()])).await;
    rig.replicas(2, 2).await;
    let both =
        [picked(&mut rig, "any").await.unwrap(), picked(&mut rig, "an-adapter").await.unwrap()];
    let mut told = both.each_ref().map(|picked| picked.address().to_owned());
    told.sort();
    let mut expect = [one.at.to_string(), two.at.to_string()];
    expect.sort();
    assert_eq!(told, expect);
    drop(both);
    put_pod(&rig, pod("p-0", one.at, false)).await;
    rig.replicas(0, 2).await;
    assert_eq!((one.asked(), two.asked()), (0, 0), "who carries requests is another");
}
