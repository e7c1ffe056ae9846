//! What applying resources would change, before anything is applied.

use serde_json::{Value, json};

use super::kit::{SMALL, Stage, resource};
use crate::kubernetes::{Change, Deed, Preview};

fn model(namespace: &str, name: &str, more: &Value) -> Value {
    let mut spec = json!({"source": SMALL, "sizeBytes": 98_362_432, "replicas": 2});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"apiVersion": "pilotage.dev/v1alpha1", "kind": "Model",
        "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

async fn preview(stage: &Stage, resources: &[Value]) -> Preview {
    stage.written();
    let preview = stage.idle("diff").preview(resources).await.unwrap();
    assert!(stage.writes().iter().all(|one| one.dry_run || one.user != "diff"));
    preview
}

fn deeds(preview: &Preview) -> Vec<String> {
    let changes = preview.changes.iter().filter(|change| change.deed() != Deed::Keep);
    changes
        .map(|change| format!("{} {} {}", change.deed().name(), change.of()[1], change.of()[3]))
        .collect()
}

fn lines(change: &Change) -> Vec<String> {
    let hunks = change.hunks();
    let lines = hunks.iter().flat_map(|hunk| &hunk.lines).map(ToString::to_string);
    lines.filter(|line| !line.starts_with(' ')).collect()
}

#[tokio::test(start_paused = true)]
async fn a_new_model_is_shown_with_all_that_comes_of_it() {
    let stage = Stage::new().await;
    let made = preview(&stage, &[model("team-a", "small", &json!({}))]).await;
    let all = deeds(&made);
    for expect in [
        "make Model small",
        "make Deployment small",
        "make Service small-engines",
        "make NetworkPolicy small-engines",
        "make PodDisruptionBudget small",
        "make Secret small-key",
    ] {
        assert!(all.contains(&expect.to_owned()), "{expect}: {all:?}");
    }
    assert_eq!(made.notes, Vec::<String>::new());
    assert_eq!(stage.get(&resource("Model", "team-a", "small")).await, Value::Null);
    // In a namespace that is not there yet, too.
    let absent = preview(&stage, &[model("nowhere", "other", &json!({}))]).await;
    assert!(absent.changes.iter().all(|change| !change.is_exact), "{:?}", deeds(&absent));
    assert!(deeds(&absent).contains(&"make Deployment other".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_change_is_shown_where_it_is_and_nothing_at_rest() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    stage.model("team-a", "small", json!({})).await;
    stage.pass(30).await;
    operator.stop().await;
    let same = preview(&stage, &[model("team-a", "small", &json!({}))]).await;
    assert_eq!(deeds(&same), Vec::<String>::new());
    let more = json!({"replicas": 3});
    let changed = preview(&stage, &[model("team-a", "small", &more)]).await;
    assert_eq!(deeds(&changed), ["change Model small", "change Deployment small"]);
    assert_eq!(lines(&changed.changes[0]), ["-  replicas: 2", "+  replicas: 3"]);
    let deployment = changed.changes.iter().find(|change| change.of()[1] == "Deployment").unwrap();
    assert_eq!(lines(deployment), ["-  replicas: 2", "+  replicas: 3"]);
    // One that runs elsewhere from now on has nothing here.
    let mut elsewhere = model("team-a", "small", &json!({}));
    elsewhere["spec"] = json!({"endpoints": [{"url": "http://10.1.1.1:8000"}]});
    let gone = deeds(&preview(&stage, &[elsewhere]).await);
    assert!(gone.contains(&"delete Deployment small".to_owned()), "{gone:?}");
}

#[tokio::test(start_paused = true)]
async fn what_would_not_count_is_said() {
    let stage = Stage::new().await;
    stage.model("team-a", "small", json!({})).await;
    stage.pass(5).await;
    let taken = preview(&stage, &[model("team-b", "small", &json!({}))]).await;
    assert_eq!(deeds(&taken), ["make Model small"]);
    assert!(
        taken.notes.iter().any(|note| note.contains("team-b/small would not count: NameTaken")),
        "{:?}",
        taken.notes
    );
}
