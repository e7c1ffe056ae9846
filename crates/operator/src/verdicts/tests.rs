//! Verdicts on a cluster in memory: told once, put right when somebody changes them, and never others'.

use kube::api::{DeleteParams, ListParams};
use pilotage_cluster::foreign::gateway_api;
use pilotage_cluster::serve::Server;
use pilotage_shell::tasks;

use super::*;

/// What waits for ever fails after that long, in time that takes none.
const FOR_EVER: Duration = Duration::from_secs(3600);

fn api(client: &Client, object: &Value) -> (Api<DynamicObject>, String) {
    let text = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default();
    let version = text("/apiVersion");
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let of = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, text("/kind")));
    let api = match text("/metadata/namespace") {
        "" => Api::all_with(client.clone(), &of),
        namespace => Api::namespaced_with(client.clone(), namespace, &of),
    };
    (api, text("/metadata/name").to_owned())
}

async fn put(client: &Client, object: Value) {
    let (api, name) = api(client, &object);
    let how = PatchParams::apply("test").force();
    api.patch(&name, &how, &Patch::Apply(&object)).await.unwrap();
}

async fn get(client: &Client, object: &Value) -> Value {
    let (api, name) = api(client, object);
    serde_json::to_value(api.get(&name).await.unwrap()).unwrap()
}

fn of_gateway(kind: &str, name: &str, spec: Value) -> Value {
    let mut object = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": kind,
        "metadata": {"name": name}, "spec": spec});
    if kind != "GatewayClass" {
        object["metadata"]["namespace"] = "n".into();
    }
    object
}

fn route(gateway: &str) -> Value {
    let backend =
        json!({"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "p"});
    let spec = json!({"parentRefs": [{"name": gateway}], "rules": [{"backendRefs": [backend]}]});
    of_gateway("HTTPRoute", "chat", spec)
}

fn pool() -> Value {
    json!({"apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool",
        "metadata": {"name": "p", "namespace": "n"},
        "spec": {"selector": {"matchLabels": {"app": "p"}}, "targetPorts": [{"number": 8000}]}})
}

/// A cluster with Gateways of ours and of others, and who says what becomes of routes.
async fn cluster() -> (Server, Client, tokio::task::JoinHandle<Option<()>>) {
    let server = Server::default();
    let client = Client::new(server.connect(""), "default");
    for crd in pilotage_plan::crd::all() {
        put(&client, crd).await;
    }
    for definition in gateway_api() {
        put(&client, definition).await;
    }
    for name in ["n", "pilotage"] {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        put(&client, namespace).await;
    }
    put(
        &client,
        json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "pilotage-gateway", "namespace": "pilotage"},
        "spec": {"clusterIP": "10.96.0.9", "ports": [{"name": "http", "port": 80}]}}),
    )
    .await;
    for (name, controller) in [("ours", "pilotage.dev/gateway"), ("theirs", "istio.io/gateway")] {
        let class = of_gateway("GatewayClass", name, json!({"controllerName": controller}));
        put(&client, class).await;
        let listeners = json!([{"name": "http", "port": 80, "protocol": "HTTP"}]);
        let spec = json!({"gatewayClassName": name, "listeners": listeners});
        put(&client, of_gateway("Gateway", name, spec)).await;
    }
    let settings = Settings {
        namespace: None,
        system: "pilotage".to_owned(),
        gateways: "pilotage-gateway".to_owned(),
    };
    let own = client.clone();
    let work = tasks::spawn("verdicts", async move { judge(own, &settings).await });
    (server, client, work)
}

/// Waits until an object is such.
async fn until(client: &Client, object: &Value, is: impl Fn(&Value) -> bool) -> Value {
    let all = async {
        loop {
            let now = get(client, object).await;
            if is(&now) {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(FOR_EVER, all).await.unwrap()
}

fn condition<'a>(conditions: &'a Value, kind: &str) -> Option<&'a Value> {
    conditions.as_array()?.iter().find(|one| one["type"] == kind)
}

async fn versions(client: &Client) -> Vec<Option<String>> {
    let mut all = Vec::new();
    for object in [route("ours"), pool(), of_gateway("Gateway", "ours", Value::Null)] {
        let (api, _) = api(client, &object);
        let found = api.list(&ListParams::default()).await.unwrap();
        all.extend(found.items.into_iter().map(|one| one.metadata.resource_version));
    }
    all
}

#[tokio::test(start_paused = true)]
async fn what_becomes_of_routes_is_told_once() {
    let (_server, client, work) = cluster().await;
    put(&client, pool()).await;
    put(&client, route("ours")).await;
    let is_accepted = |object: &Value| {
        let parent = &object["status"]["parents"][0];
        let accepted = condition(&parent["conditions"], "Accepted");
        accepted.is_some_and(|one| one["status"] == "True")
    };
    let told = until(&client, &route("ours"), is_accepted).await;
    assert_eq!(told["status"]["parents"][0]["controllerName"], "pilotage.dev/gateway");
    until(&client, &pool(), is_accepted).await;
    let gateway = of_gateway("Gateway", "ours", Value::Null);
    let attached = |object: &Value| object["status"]["listeners"][0]["attachedRoutes"] == 1;
    let told = until(&client, &gateway, attached).await;
    assert_eq!(told["status"]["addresses"][0]["value"], "10.96.0.9");
    let theirs = get(&client, &of_gateway("Gateway", "theirs", Value::Null)).await;
    assert!(theirs["status"].is_null(), "{theirs}");
    // At rest nothing is written.
    let before = versions(&client).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(versions(&client).await, before);
    // Somebody else's word comes beside ours and stays; ours is put right.
    let (routes, name) = api(&client, &route("ours"));
    let theirs = json!({"parentRef": {"name": "theirs"}, "controllerName": "istio.io/gateway", "conditions": []});
    let change = json!({"status": {"parents": [theirs]}});
    routes.patch_status(&name, &PatchParams::default(), &Patch::Merge(&change)).await.unwrap();
    let told = until(&client, &route("ours"), |object| {
        object["status"]["parents"].as_array().is_some_and(|all| all.len() == 2)
    })
    .await;
    assert_eq!(told["status"]["parents"][0], theirs);
    // It leads elsewhere: what was said is taken back, by whom it was said.
    put(&client, route("theirs")).await;
    let told = until(&client, &route("ours"), |object| {
        object["status"]["parents"].as_array().is_some_and(|all| all.len() == 1)
    })
    .await;
    assert_eq!(told["status"]["parents"][0], theirs);
    until(&client, &gateway, |object| object["status"]["listeners"][0]["attachedRoutes"] == 0)
        .await;
    let (pools, name) = api(&client, &pool());
    pools.delete(&name, &DeleteParams::default()).await.unwrap();
    work.abort();
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_refused_is_tried_again() {
    use pilotage_cluster::fault::{Fault, Meets, Trouble};
    let (server, client, work) = cluster().await;
    let gateway = of_gateway("Gateway", "ours", Value::Null);
    until(&client, &gateway, |object| object["status"]["listeners"].is_array()).await;
    let meets = Meets::calls(&["patch"], "httproutes/status");
    server.with(|cluster, _| cluster.faults().add(Fault::new(meets, Trouble::Forbidden)));
    let (routes, _) = api(&client, &route("ours"));
    let object = serde_json::from_value(route("ours")).unwrap();
    routes.create(&kube::api::PostParams::default(), &object).await.unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(get(&client, &route("ours")).await["status"].is_null());
    server.with(|cluster, _| cluster.faults().clear());
    let told =
        until(&client, &route("ours"), |object| object["status"]["parents"].is_array()).await;
    let resolved = condition(&told["status"]["parents"][0]["conditions"], "ResolvedRefs").unwrap();
    assert_eq!(resolved["reason"], "BackendNotFound", "{told}");
    work.abort();
}
