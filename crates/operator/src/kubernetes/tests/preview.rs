//! What applying resources would change, before anything is applied.

use serde_json::{Value, json};

use pilotage_cluster::fault::{Fault, Meets, Trouble};

use super::kit::{SMALL, Stage, foreign, resource};
use crate::kubernetes::{Change, Deed, OperatorError, Preview};

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

impl Stage {
    /// The user has no right to that in a namespace; in all of the cluster where none is named.
    fn forbid(&self, verbs: &[&'static str], resource: &str, namespace: &str) {
        let meets = Meets {
            user: "diff".to_owned(),
            namespace: namespace.to_owned(),
            ..Meets::calls(verbs, resource)
        };
        let fault = Fault::new(meets, Trouble::Forbidden);
        self.server.with(|cluster, _| cluster.faults().add(fault));
    }
}

/// Somebody with rights in `team-a` alone, and none to what others bring.
async fn somebody() -> Stage {
    let stage = Stage::new().await;
    let monitors = foreign("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors");
    stage.define(&monitors).await;
    stage.model("team-b", "taken", json!({})).await;
    stage.pass(5).await;
    for namespace in ["team-b", "pilotage"] {
        stage.forbid(&[], "", namespace);
    }
    let meets = Meets { user: "diff".to_owned(), is_everywhere: true, ..Meets::default() };
    for verb in ["list", "watch"] {
        let fault = Fault::new(Meets { verbs: vec![verb], ..meets.clone() }, Trouble::Forbidden);
        stage.server.with(|cluster, _| cluster.faults().add(fault));
    }
    stage.forbid(&[], "podmonitors", "team-a");
    stage
}

#[tokio::test(start_paused = true)]
async fn who_has_rights_in_one_namespace_sees_that_one() {
    let stage = somebody().await;
    let made = preview(&stage, &[model("team-a", "small", &json!({}))]).await;
    let all = deeds(&made);
    for expect in ["make Model small", "make Deployment small", "make PodMonitor small-engines"] {
        assert!(all.contains(&expect.to_owned()), "{expect}: {all:?}");
    }
    // What the operator may and the user may not is not refused.
    assert!(made.changes.iter().all(|change| change.refusal.is_none()));
    assert_eq!(made.notes.len(), 1, "{:?}", made.notes);
    assert!(made.notes[0].contains("another one than team-a"), "{:?}", made.notes);
    // Where nothing may be seen there is nothing to say.
    let failed = stage.idle("diff").preview(&[model("team-b", "other", &json!({}))]).await;
    let Err(OperatorError::Server(failure)) = failed else { panic!("{failed:?}") };
    assert_eq!(failure.code, 403);
}

#[tokio::test(start_paused = true)]
async fn an_operator_of_one_namespace_is_spoken_for_in_that_one() {
    let stage = Stage::new().await;
    stage.model("team-b", "small", json!({})).await;
    stage.pass(5).await;
    let operator = stage.idle_of("diff", "team-a");
    let both = [model("team-a", "small", &json!({})), model("team-b", "other", &json!({}))];
    let preview = operator.preview(&both).await.unwrap();
    let all = deeds(&preview);
    assert!(all.contains(&"make Deployment small".to_owned()), "{all:?}");
    assert!(!all.contains(&"make Deployment other".to_owned()), "{all:?}");
    let notes = &preview.notes;
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].starts_with("Model team-b/other would not count: the operator"), "{notes:?}");
}
