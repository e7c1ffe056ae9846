//! What goes wrong with resources and pods, as it is told.

use pilotage_cluster::fault::{Fault, Meets, Trouble};
use pilotage_cluster::world::Fate;
use serde_json::json;

use super::kit::{SMALL, Stage, deployment};

#[tokio::test(start_paused = true)]
async fn the_older_of_two_models_has_the_name() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    stage.model("team-b", "small", json!({})).await;
    stage.pass(5).await;
    stage.model("team-a", "small", json!({})).await;
    stage.pass(30).await;
    let told = stage.condition("Model", "team-a", "small", "Accepted").await;
    assert!(
        told.starts_with("False NameTaken: the namespace `team-b` has a Model `small`"),
        "{told}"
    );
    assert!(stage.events("team-a", "small").await.contains(&"NameTaken".to_owned()));
    assert!(stage.condition("Model", "team-b", "small", "Ready").await.starts_with("True Serving"));
    assert_eq!(stage.names("apps/v1", "deployments", "team-a").await, Vec::<String>::new());
    stage.delete(&super::kit::resource("Model", "team-b", "small")).await;
    stage.pass(30).await;
    assert!(stage.condition("Model", "team-a", "small", "Ready").await.starts_with("True Serving"));
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_circle_of_tenants_is_told_to_all_of_it() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    stage.apply("Tenant", "team-a", "x", json!({"parent": "y"})).await;
    stage.apply("Tenant", "team-b", "y", json!({"parent": "x"})).await;
    stage.pass(10).await;
    for (namespace, name) in [("team-a", "x"), ("team-b", "y")] {
        let told = stage.condition("Tenant", namespace, name, "Accepted").await;
        assert!(told.starts_with("False TenantCycle:") && told.contains("x → y"), "{told}");
    }
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_model_keeps_what_runs() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    stage.model("team-a", "small", json!({})).await;
    stage.pass(30).await;
    stage.model("team-a", "small", json!({"fleet": "none"})).await;
    stage.pass(30).await;
    let told = stage.condition("Model", "team-a", "small", "Accepted").await;
    assert!(told.starts_with("False ReferenceMissing: spec.fleet:"), "{told}");
    let told = stage.condition("Model", "team-a", "small", "Ready").await;
    assert_eq!(told, "True Serving: 2 copies of a former spec go on");
    assert_eq!(stage.get(&deployment("team-a", "small")).await["spec"]["replicas"], 2);
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_rendered_is_told() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    stage.apply("Model", "team-a", "local", json!({"source": "file:model.gguf"})).await;
    stage.pass(10).await;
    let told = stage.condition("Model", "team-a", "local", "Accepted").await;
    assert!(told.starts_with("False RenderFailed: spec.source: a file of one machine"), "{told}");
    operator.stop().await;
}

/// A fault of writes of a kind, and what is told of it until it is over.
async fn refused(fault: Trouble, resource: &str, reason: &str, says: &str) {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    let meets = Meets { user: "one".to_owned(), ..Meets::calls(&["apply", "create"], resource) };
    stage.server.with(|cluster, _| cluster.faults().add(Fault::new(meets, fault)));
    stage.model("team-a", "small", json!({})).await;
    stage.pass(30).await;
    let told = stage.condition("Model", "team-a", "small", "Degraded").await;
    assert!(told.starts_with(&format!("True {reason}: ")), "{told}");
    assert!(told.contains(says), "{told}");
    let events = stage.events("team-a", "small").await;
    assert_eq!(events.iter().filter(|one| *one == reason).count(), 1, "{events:?}");
    // It is tried again, ever more seldom, and nothing is told twice.
    stage.written();
    stage.rest(600).await;
    let written = stage.written();
    assert!((5..=25).contains(&written.len()), "{written:?}");
    assert!(written.iter().all(|one| !one.contains("status")), "{written:?}");
    stage.server.with(|cluster, _| cluster.faults().clear());
    stage.pass(180).await;
    let told = stage.condition("Model", "team-a", "small", "Degraded").await;
    assert_eq!(told, "False Healthy: ");
    assert!(stage.condition("Model", "team-a", "small", "Ready").await.starts_with("True"));
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_quota_is_told() {
    refused(Trouble::Quota("small".into()), "deployments", "QuotaExceeded", "raise the quota")
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_quota_of_pods_is_told_until_it_is_raised() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    let quotas = "/api/v1/namespaces/team-a/resourcequotas";
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"},
        "spec": {"hard": {"pods": "1"}}});
    stage.post(quotas, &quota).await;
    stage.model("team-a", "small", json!({})).await;
    stage.pass(60).await;
    let told = stage.condition("Model", "team-a", "small", "Degraded").await;
    assert!(
        told.starts_with("True QuotaExceeded: ") && told.contains("exceeded quota: small"),
        "{told}"
    );
    stage.merge(&format!("{quotas}/small"), &json!({"spec": {"hard": {"pods": "2"}}})).await;
    stage.pass(60).await;
    let told = stage.condition("Model", "team-a", "small", "Degraded").await;
    assert_eq!(told, "False Healthy: ");
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_webhook_is_told() {
    let denied = Trouble::Denied("policy.example".into(), "no engines here".into());
    refused(denied, "services", "RefusedByWebhook", "no engines here").await;
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_does_not_answer_is_told_and_keeps_nobody_else_waiting() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    let meets = Meets {
        user: "one".to_owned(),
        namespace: "team-a".to_owned(),
        ..Meets::calls(&["apply"], "deployments")
    };
    let silent = Trouble::Silent("policy.example".to_owned());
    stage.server.with(|cluster, _| cluster.faults().add(Fault::new(meets, silent)));
    for at in 0..40 {
        stage.model("team-a", &format!("small-{at}"), json!({})).await;
    }
    stage.pass(5).await;
    let began = stage.server.now_ms();
    stage.model("team-b", "other", json!({"replicas": 1})).await;
    while !stage.condition("Model", "team-b", "other", "Ready").await.starts_with("True") {
        stage.pass(1).await;
        let waited_s = (stage.server.now_ms() - began) / 1000;
        assert!(waited_s < 10, "others wait for what one webhook does not answer");
    }
    stage.pass(40).await;
    let told = stage.condition("Model", "team-a", "small-7", "Degraded").await;
    assert!(told.starts_with("True WebhookSilent: the Deployment `small-7` was refused"), "{told}");
    stage.server.with(|cluster, _| cluster.faults().clear());
    stage.pass(180).await;
    let told = stage.condition("Model", "team-a", "small-7", "Degraded").await;
    assert_eq!(told, "False Healthy: ");
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_takes_over_tells_nothing_again() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    stage.players.lock().nature.no_images.push("example.com/nobody/has:1".to_owned());
    stage.model("team-a", "pull", json!({"image": "example.com/nobody/has:1"})).await;
    let nowhere = json!({"source": SMALL, "podTemplate": {"nodeSelector": {"disk": "none"}}});
    stage.apply("Model", "team-a", "place", nowhere).await;
    let meets =
        Meets { name: "quota".to_owned(), ..Meets::calls(&["apply", "create"], "deployments") };
    let quota = Trouble::Quota("few".to_owned());
    stage.server.with(|cluster, _| cluster.faults().add(Fault::new(meets, quota)));
    stage.model("team-a", "quota", json!({})).await;
    // Two of them are late besides.
    stage.rest(3 * 3600).await;
    let all = ["pull", "place", "quota"];
    let mut told = Vec::new();
    for name in all {
        told.push(stage.condition("Model", "team-a", name, "Degraded").await);
    }
    for (told, reason) in told.iter().zip(["ImagePullFailed", "Unschedulable", "QuotaExceeded"]) {
        assert!(told.starts_with(&format!("True {reason}")), "{told}");
    }
    operator.kill().await;
    stage.written();
    let operator = stage.operator("two");
    for _ in 0..120 {
        stage.pass(1).await;
        for (name, told) in all.iter().zip(&told) {
            assert_eq!(&stage.condition("Model", "team-a", name, "Degraded").await, told);
        }
    }
    let written = stage.written();
    let again = written.iter().filter(|one| one.contains("status") || one.contains("events"));
    assert_eq!(again.collect::<Vec<_>>(), Vec::<&String>::new());
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_kind_of_others_that_may_not_be_seen_keeps_nothing_from_being_done() {
    let stage = Stage::new().await;
    let monitors = super::kit::foreign("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors");
    stage.define(&monitors).await;
    let forbid = |resource: &str| {
        let meets = Meets { user: "one".to_owned(), ..Meets::calls(&[], resource) };
        let fault = Fault::new(meets, Trouble::Forbidden);
        stage.server.with(|cluster, _| cluster.faults().add(fault));
    };
    forbid("podmonitors");
    let operator = stage.operator("one");
    stage.model("team-a", "small", json!({})).await;
    stage.pass(60).await;
    assert_eq!(operator.operator.hindrance(), None);
    let told = stage.condition("Model", "team-a", "small", "Ready").await;
    assert!(told.starts_with("True Serving"), "{told}");
    let told = stage.condition("Model", "team-a", "small", "Degraded").await;
    assert!(told.starts_with("True Forbidden: the PodMonitor") && told.contains("right"), "{told}");
    operator.stop().await;
    // Without what is its own it cannot work, and says what it lacks.
    forbid("services");
    let operator = stage.operator("one");
    stage.pass(60).await;
    let why = operator.operator.hindrance().unwrap();
    assert!(why.starts_with("Service cannot be listed: ") && why.contains("that right"), "{why}");
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn keys_that_cannot_be_kept_are_told_and_tried_ever_more_seldom() {
    let stage = Stage::new().await;
    let meets = Meets {
        user: "one".to_owned(),
        namespace: "pilotage".to_owned(),
        ..Meets::calls(&["apply"], "secrets")
    };
    let fault = Fault::new(meets, Trouble::Forbidden);
    stage.server.with(|cluster, _| cluster.faults().add(fault));
    let operator = stage.operator("one");
    stage.model("team-a", "small", json!({})).await;
    stage.pass(30).await;
    let why = operator.operator.hindrance().unwrap();
    assert!(why.contains("`pilotage-engine-keys`") && why.contains("ServiceAccount"), "{why}");
    stage.written();
    stage.rest(600).await;
    assert!(stage.written().len() <= 12);
    stage.server.with(|cluster, _| cluster.faults().clear());
    stage.pass(90).await;
    assert_eq!(operator.operator.hindrance(), None);
    let keys = stage.get("/api/v1/namespaces/pilotage/secrets/pilotage-engine-keys").await;
    assert!(keys["data"]["team-a.small"].is_string());
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn missing_rights_are_told() {
    refused(Trouble::Forbidden, "networkpolicies", "Forbidden", "ServiceAccount").await;
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_object_is_left_alone() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    let theirs = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "small-engines"},
        "spec": {"ports": [{"port": 1}]}});
    stage.post("/api/v1/namespaces/team-a/services", &theirs).await;
    stage.model("team-a", "small", json!({})).await;
    stage.pass(30).await;
    let told = stage.condition("Model", "team-a", "small", "Degraded").await;
    assert!(told.starts_with("True Conflict: the Service `small-engines` was refused"), "{told}");
    let service = stage.get("/api/v1/namespaces/team-a/services/small-engines").await;
    assert_eq!(service["spec"]["ports"][0]["port"], 1);
    stage.delete("/api/v1/namespaces/team-a/services/small-engines").await;
    stage.pass(150).await;
    assert!(stage.condition("Model", "team-a", "small", "Degraded").await.starts_with("False"));
    operator.stop().await;
}

/// Pods of that fate, and what is told of them; then they are well.
async fn ailing(fate: Fate, after: u64, reason: &str, says: &str) {
    let stage = Stage::new().await;
    stage.players.lock().nature.fate = fate;
    let operator = stage.operator("one");
    stage.model("team-a", "small", json!({})).await;
    stage.rest(after).await;
    let told = stage.condition("Model", "team-a", "small", "Degraded").await;
    assert!(told.starts_with(&format!("True {reason}: ")) && told.contains(says), "{told}");
    let told = stage.condition("Model", "team-a", "small", "Ready").await;
    assert!(told.starts_with(&format!("False {reason}: ")), "{told}");
    stage.written();
    stage.rest(600).await;
    let written = stage.written();
    assert!(written.is_empty(), "nothing flaps: {written:?}");
    operator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_image_that_cannot_be_had_is_told() {
    ailing(Fate::NoImage, 60, "ImagePullFailed", "podTemplate.imagePullSecrets").await;
}

#[tokio::test(start_paused = true)]
async fn a_program_that_ends_again_and_again_is_told() {
    ailing(Fate::CrashesAfterMs(2_000), 400, "CrashLooping", "look at the pod's log").await;
}

#[tokio::test(start_paused = true)]
async fn copies_that_never_become_ready_are_told() {
    ailing(Fate::NeverReady, 3 * 3600, "NotReadyInTime", "did not become ready within").await;
}

#[tokio::test(start_paused = true)]
async fn pods_that_no_node_takes_are_told() {
    let stage = Stage::new().await;
    let operator = stage.operator("one");
    let spec = json!({"source": SMALL, "podTemplate": {"nodeSelector": {"disk": "none-has-it"}}});
    stage.apply("Model", "team-a", "small", spec).await;
    stage.pass(60).await;
    let told = stage.condition("Model", "team-a", "small", "Degraded").await;
    assert!(told.starts_with("True Unschedulable: no node takes a copy"), "{told}");
    operator.stop().await;
}
