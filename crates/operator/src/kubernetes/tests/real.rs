//! The operator against the cluster that KUBECONFIG names, with definitions installed: run with
//! `cargo nextest run -p pilotage-operator --run-ignored all -E 'test(real_cluster)'`. It makes a namespace of
//! its own, and deletes it.

use std::time::Duration;

use http::{Method, Request};
use kube::Client;
use pilotage_plan::render::kubernetes::Cluster;
use pilotage_shell::clock::Clock;
use pilotage_shell::metrics::Metrics;
use pilotage_shell::tasks;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::kit::SMALL;
use crate::kubernetes::{Operator, Settings, connect};

async fn ask(client: &Client, method: Method, target: &str, body: &Value) -> Value {
    let request = Request::builder().method(method).uri(target);
    let request = request.header("content-type", "application/json");
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    client.request(request.body(body).unwrap()).await.unwrap_or_default()
}

/// Asks until it is so, for a minute and a half.
async fn until(client: &Client, target: &str, is: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..180 {
        let object = ask(client, Method::GET, target, &Value::Null).await;
        if is(&object) {
            return object;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let last = ask(client, Method::GET, target, &Value::Null).await;
    panic!("{target} did not become so: {last:#}");
}

fn holds(object: &Value, kind: &str) -> bool {
    let all = object["status"]["conditions"].as_array();
    all.into_iter().flatten().any(|one| one["type"] == kind && one["status"] == "True")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "wants a cluster, by KUBECONFIG"]
async fn real_cluster_serves_repairs_and_forgets() {
    let client = connect().await.unwrap();
    let space = format!("pilotage-test-{:08x}", pilotage_shell::id::random_u64() >> 32);
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}});
    ask(&client, Method::POST, "/api/v1/namespaces", &namespace).await;
    let settings = Settings {
        cluster: Cluster { system: space.clone(), ..Cluster::default() },
        namespace: Some(space.clone()),
        name: "test".to_owned(),
    };
    let metrics = Metrics::new();
    let operator = Operator::new(client.clone(), settings, Clock::start().unix_ms(), &metrics);
    let stop = CancellationToken::new();
    let (runs, ends) = (operator.clone(), stop.clone());
    let task = tasks::spawn("operator", async move { runs.run(ends).await });

    let models = format!("/apis/pilotage.dev/v1alpha1/namespaces/{space}/models");
    let name = format!("small-{}", &space[14..]);
    let model = json!({
        "apiVersion": "pilotage.dev/v1alpha1", "kind": "Model", "metadata": {"name": name},
        "spec": {"source": SMALL, "sizeBytes": 98_362_432, "replicas": 2},
    });
    ask(&client, Method::POST, &models, &model).await;
    let at = format!("{models}/{name}");
    let model = until(&client, &at, |model| model["status"]["readyReplicas"] == 2).await;
    assert!(
        holds(&model, "Ready") && holds(&model, "Accepted") && !holds(&model, "Degraded"),
        "{model:#}"
    );
    tokio::time::sleep(Duration::from_secs(5)).await;
    // At rest nothing is written, whatever the API server filled in.
    let written = |metrics: &Metrics| {
        let text = metrics.encode();
        let lines = text.lines().filter(|line| line.starts_with("pilotage_operator_writes_total"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let before = written(&metrics);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(written(&metrics), before);
    assert!(before.iter().all(|line| line.contains("done")), "{before:#?}");

    let deployment = format!("/apis/apps/v1/namespaces/{space}/deployments/{name}");
    let scale = json!({"spec": {"replicas": 5}});
    let request = Request::builder().method(Method::PATCH).uri(&deployment);
    let request = request.header("content-type", "application/merge-patch+json");
    client.request::<Value>(request.body(scale.to_string().into_bytes()).unwrap()).await.unwrap();
    until(&client, &deployment, |one| one["spec"]["replicas"] == 2).await;

    ask(&client, Method::DELETE, &at, &Value::Null).await;
    until(&client, &deployment, Value::is_null).await;
    stop.cancel();
    task.await.unwrap();
    ask(&client, Method::DELETE, &format!("/api/v1/namespaces/{space}"), &Value::Null).await;
}
