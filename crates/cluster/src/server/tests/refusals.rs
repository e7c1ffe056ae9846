//! What a server does not take, in the words that clients act on.

use http::Method;
use serde_json::{Value, json};

use super::{
    CRDS, Cluster, DEPLOYMENTS, Limits, MAPS, MODELS, PODS, Pulled, Rig, definition, map, pod,
};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";
const CORE_EVENTS: &str = "/api/v1/namespaces/default/events";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/default/events";

/// `value` with something else at a place.
fn with(mut value: Value, at: &str, other: Value) -> Value {
    *value.pointer_mut(at).unwrap() = other;
    value
}

fn deployment(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [{"name": "c", "image": "i:1", "ports": [{"containerPort": 80, "name": "http"}],
                "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}}]}}}})
}

/// Fields that a refusal names.
fn fields(answer: &(u16, Value)) -> Vec<&str> {
    assert_eq!(answer.0, 422, "{}", answer.1);
    let causes = answer.1["details"]["causes"].as_array().unwrap();
    causes.iter().map(|cause| cause["field"].as_str().unwrap()).collect()
}

#[test]
fn what_is_applied_says_what_it_is() {
    let mut rig = Rig::new();
    let target = format!("{MAPS}/m?fieldManager=x");
    let check = |rig: &mut Rig, body: Value, expect: &str| {
        let (status, said) = rig.apply(&target, body);
        let said = said["message"].as_str().unwrap_or_default();
        assert!(status == 400 && said.contains(expect), "{status} {said}");
    };
    let whole = map("m", json!({}));
    let mut kindless = whole.clone();
    kindless.as_object_mut().unwrap().remove("kind");
    check(&mut rig, kindless, "Object 'Kind' is missing");
    let mut versionless = whole.clone();
    versionless.as_object_mut().unwrap().remove("apiVersion");
    check(&mut rig, versionless, "Incorrect version specified in apply patch");
    let other = with(whole.clone(), "/metadata/name", json!("other"));
    check(&mut rig, other, "the name of the object (other) does not match the name on the URL (m)");
    let nameless = with(whole.clone(), "/metadata", json!({}));
    check(&mut rig, nameless, "undeterminable");
    let elsewhere = with(whole.clone(), "/metadata", json!({"name": "m", "namespace": "other"}));
    check(&mut rig, elsewhere, "does not match the namespace on the URL (default)");
    assert_eq!(rig.apply(&target, whole).0, 201);
    // A kind that every cluster has is known by the path when it is created.
    assert_eq!(rig.post(MAPS, json!({"metadata": {"name": "n"}})).0, 201);
}

#[test]
fn pods_of_workloads_are_as_they_must_be() {
    let mut rig = Rig::new();
    let pod = "/spec/template/spec";
    let first = format!("{pod}/containers/0");
    let cases: [(&str, Value, &[&str]); 13] = [
        ("", json!("OnFailure"), &["spec.template.spec.restartPolicy"]),
        ("/image", json!(""), &["spec.template.spec.containers[0].image"]),
        ("/name", json!("C"), &["spec.template.spec.containers[0].name"]),
        (
            "/ports/0/containerPort",
            json!(0),
            &["spec.template.spec.containers[0].ports[0].containerPort"],
        ),
        (
            "/ports/0/name",
            json!("a-name-too-long-x"),
            &["spec.template.spec.containers[0].ports[0].name"],
        ),
        (
            "/volumeMounts/0/name",
            json!("w"),
            &["spec.template.spec.containers[0].volumeMounts[0].name"],
        ),
        (
            "/resources/requests",
            json!({"cpu": "3"}),
            &["spec.template.spec.containers[0].resources.requests[cpu]"],
        ),
        (
            "/resources/requests",
            json!({"nvidia.com/gpu": "1"}),
            &["spec.template.spec.containers[0].resources.limits"],
        ),
        ("^/containers", json!([]), &["spec.template.spec.containers"]),
        ("^/volumes", json!([{"name": "v"}]), &["spec.template.spec.volumes[0]"]),
        ("^^/spec/selector/matchLabels", json!({}), &["spec.selector"]),
        ("^^/spec/selector/matchLabels", json!({"app": "b"}), &["spec.template.metadata.labels"]),
        ("^^/metadata", json!({"name": "d", "labels": {"a b": "x"}}), &["metadata.labels"]),
    ];
    for (at, value, expect) in cases {
        let mut body = deployment("d");
        match at {
            "" => body["spec"]["template"]["spec"]["restartPolicy"] = value,
            _ if at.starts_with("^^") => body = with(body, &at[2..], value),
            _ if at.starts_with('^') => body = with(body, &format!("{pod}{}", &at[1..]), value),
            _ => body = with(body, &format!("{first}{at}"), value),
        }
        assert_eq!(fields(&rig.post(DEPLOYMENTS, body)), expect, "{at}");
    }
    assert_eq!(rig.post(DEPLOYMENTS, deployment("d")).0, 201);
    let job = json!({"metadata": {"name": "j"}, "spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let refused = rig.post(JOBS, job.clone());
    assert_eq!(fields(&refused), ["spec.template.spec.restartPolicy"]);
    assert!(
        refused.1["message"]
            .as_str()
            .unwrap()
            .contains("supported values: \"OnFailure\", \"Never\"")
    );
    let mut job = job;
    job["spec"]["template"]["spec"]["restartPolicy"] = "Never".into();
    assert_eq!(rig.post(JOBS, job.clone()).0, 201);
    // Pods carry the name of their job in a label.
    job["metadata"]["name"] = "j".repeat(64).into();
    assert_eq!(rig.post(JOBS, job).0, 422);
}

#[test]
fn names_and_owners_have_their_forms() {
    let mut rig = Rig::new();
    let service =
        |name: &str| json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
    assert_eq!(fields(&rig.post(SERVICES, service("0a"))), ["metadata.name"]);
    assert_eq!(fields(&rig.post(SERVICES, service(&"a".repeat(64)))), ["metadata.name"]);
    assert_eq!(rig.post(SERVICES, service("a")).0, 201);
    let owned = |owners: Value| {
        with(map("m", json!({})), "/metadata", json!({"name": "m", "ownerReferences": owners}))
    };
    let nobody = json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": ""}]);
    assert_eq!(fields(&rig.post(MAPS, owned(nobody))), ["metadata.ownerReferences.uid"]);
    let two: Vec<Value> = ["u", "v"]
        .iter()
        .map(|uid| json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid, "controller": true}))
        .collect();
    assert_eq!(fields(&rig.post(MAPS, owned(two.into()))), ["metadata.ownerReferences"]);
    // An owner that there is not is as good as gone, whatever its name.
    let uid = rig.post(PODS, pod("p")).1["metadata"]["uid"].clone();
    let owner = |uid: Value| json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid}]);
    assert_eq!(rig.post(MAPS, owned(owner(uid))).0, 201);
    assert_eq!(rig.get(&format!("{MAPS}/m")).0, 200);
    rig.delete(&format!("{MAPS}/m"), Value::Null);
    assert_eq!(rig.post(MAPS, owned(owner(json!("another")))).0, 201);
    assert_eq!(rig.get(&format!("{MAPS}/m")).0, 404);
}

#[test]
fn claims_and_services_keep_what_they_have() {
    let mut rig = Rig::new();
    let claim = |size: &str, mode: &str| {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"},
            "spec": {"accessModes": [mode], "resources": {"requests": {"storage": size}}}})
    };
    let bare = json!({"metadata": {"name": "c"}, "spec": {}});
    assert_eq!(
        fields(&rig.post(CLAIMS, bare)),
        ["spec.accessModes", "spec.resources.requests.storage"]
    );
    assert_eq!(rig.post(CLAIMS, claim("1024Mi", "ReadWriteOnce")).0, 201);
    let target = format!("{CLAIMS}/c?fieldManager=x&force=true");
    let refused = rig.apply(&target, claim("512Mi", "ReadWriteOnce"));
    assert_eq!(fields(&refused), ["spec.resources.requests.storage"]);
    assert_eq!(fields(&rig.apply(&target, claim("1Gi", "ReadOnlyMany"))), ["spec"]);
    let (status, there) = rig.apply(&target, claim("1.5Gi", "ReadWriteOnce"));
    assert_eq!(
        (status, &there["spec"]["resources"]["requests"]["storage"]),
        (200, &json!("1536Mi"))
    );
    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    assert_eq!(rig.post(SERVICES, service).0, 201);
    let headless = json!({"spec": {"clusterIP": "None"}});
    assert_eq!(fields(&rig.merge(&format!("{SERVICES}/s"), headless)), ["spec.clusterIPs[0]"]);
}

#[test]
fn amounts_and_moments_have_one_form() {
    let mut rig = Rig::new();
    let mut one = pod("p");
    one["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "1000m", "memory": 1024}});
    let limits =
        rig.post(PODS, one.clone()).1["spec"]["containers"][0]["resources"]["limits"].clone();
    assert_eq!(limits, json!({"cpu": "1", "memory": "1024"}));
    one["spec"]["containers"][0]["resources"]["limits"]["cpu"] = "much".into();
    assert_eq!(rig.post(PODS, one).0, 400);
    let lease = |time: &str| json!({"metadata": {"name": "l"}, "spec": {"renewTime": time}});
    assert_eq!(rig.post(LEASES, lease("2026-01-01T00:00:00Z")).0, 400);
    assert_eq!(rig.post(LEASES, lease("2026-01-01T00:00:00.000000Z")).0, 201);
}

#[test]
fn quotas_are_kept() {
    let mut rig = Rig::new();
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "1", "requests.storage": "1Gi", "count/deployments.apps": "0"}}});
    assert_eq!(rig.post(QUOTAS, quota).0, 201);
    assert_eq!(rig.post(PODS, pod("a")).0, 201);
    let (status, said) = rig.post(PODS, pod("b"));
    let due = "pods \"b\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1";
    assert_eq!((status, said["message"].as_str().unwrap()), (403, due));
    assert_eq!(rig.post(DEPLOYMENTS, deployment("d")).0, 403);
    let claim = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "2Gi"}}}});
    assert_eq!(rig.post(CLAIMS, claim).0, 403);
    rig.delete(&format!("{PODS}/a"), Value::Null);
    assert_eq!(rig.post(PODS, pod("b")).0, 201);
    let cpu = json!({"metadata": {"name": "cpu"}, "spec": {"hard": {"requests.cpu": "1"}}});
    rig.post("/api/v1/namespaces/kube-public/resourcequotas", cpu);
    let (status, said) = rig.post("/api/v1/namespaces/kube-public/pods", pod("p"));
    let said = said["message"].as_str().unwrap();
    assert!(status == 403 && said.contains("must specify requests.cpu for: c"), "{said}");
}

#[test]
fn events_are_the_same_in_both_groups() {
    let mut rig = Rig::new();
    let mut watch =
        rig.watch(&format!("{CORE_EVENTS}?watch=1&fieldSelector=involvedObject.name=p"));
    let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"},
        "regarding": {"kind": "Pod", "name": "p"}, "note": "said", "reason": "R", "type": "Normal",
        "reportingController": "c", "eventTime": "2026-01-01T00:00:00.000000Z"});
    let (status, made) = rig.post(EVENTS, event);
    assert_eq!((status, &made["note"], &made["kind"]), (201, &json!("said"), &json!("Event")));
    let core = rig.get(&format!("{CORE_EVENTS}/e")).1;
    assert_eq!((&core["message"], &core["involvedObject"]["name"]), (&json!("said"), &json!("p")));
    assert_eq!(core["apiVersion"], "v1");
    assert_eq!(rig.pull(&mut watch), ["ADDED e"]);
    let series = json!({"series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"}});
    assert_eq!(rig.merge(&format!("{EVENTS}/e"), series).1["series"]["count"], 2);
    let note = json!({"note": "other"});
    assert_eq!(rig.merge(&format!("{EVENTS}/e"), note).1["note"], "other");
    let list = rig.get(&format!("{EVENTS}?fieldSelector=regarding.name=p")).1;
    assert_eq!(
        (list["items"].as_array().unwrap().len(), &list["items"][0]["note"]),
        (1, &json!("other"))
    );
    rig.delete(&format!("{CORE_EVENTS}/e"), Value::Null);
    assert_eq!(rig.get(&format!("{EVENTS}/e")).0, 404);
}

#[test]
fn lists_say_which_version_in_a_way_that_counts() {
    let mut rig = Rig::new();
    let check = |rig: &mut Rig, query: &str, expect: u16| {
        assert_eq!(rig.get(&format!("{PODS}?{query}")).0, expect, "{query}");
    };
    check(&mut rig, "resourceVersionMatch=Exact", 422);
    check(&mut rig, "resourceVersionMatch=Exact&resourceVersion=0", 422);
    check(&mut rig, "resourceVersionMatch=Other&resourceVersion=1", 422);
    check(&mut rig, "resourceVersionMatch=NotOlderThan&resourceVersion=0", 200);
    rig.post(PODS, pod("a"));
    let revision = rig.cluster.revision();
    rig.post(PODS, pod("b"));
    let query = format!("resourceVersionMatch=Exact&resourceVersion={revision}");
    assert_eq!(rig.get(&format!("{PODS}?{query}")).1["items"].as_array().unwrap().len(), 1);
    rig.cluster.compact();
    check(&mut rig, &query, 410);
}

#[test]
fn kinds_are_served_a_moment_after_their_definition() {
    let mut rig = Rig::new();
    rig.cluster = Cluster::new(rig.now_ms, Limits { establish_ms: 500, ..Limits::default() }, 7);
    assert_eq!(rig.post(CRDS, definition()).0, 201);
    let established = |rig: &mut Rig| {
        let made = rig.get(&format!("{CRDS}/models.example.org")).1;
        made["status"]["conditions"][1]["status"].clone()
    };
    assert_eq!((established(&mut rig), rig.get(MODELS).0), (json!("False"), 404));
    let mut watch =
        rig.watch(&format!("{CRDS}?watch=1&resourceVersion={}", rig.cluster.revision()));
    assert_eq!(rig.cluster.pull(rig.now_ms, &mut watch), Pulled::Nothing(rig.now_ms + 500));
    rig.now_ms += 500;
    assert_eq!(rig.pull(&mut watch), ["MODIFIED models.example.org"]);
    assert_eq!((established(&mut rig), rig.get(MODELS).0), (json!("True"), 200));
}

#[test]
fn a_judge_stands_for_rules() {
    let mut rig = Rig::new();
    rig.post(CRDS, definition());
    rig.cluster.judge_by(|kind, new, old| {
        let was = old.and_then(|old| old.pointer("/spec/from"));
        let wrong =
            kind == "Model" && was.is_some_and(|was| Some(was) != new.pointer("/spec/from"));
        wrong.then(|| ("spec.from".to_owned(), "it stays".to_owned())).into_iter().collect()
    });
    let model = json!({"apiVersion": "example.org/v1", "kind": "Model", "metadata": {"name": "m"}, "spec": {"from": "a"}});
    assert_eq!(rig.post(MODELS, model).0, 201);
    let refused = rig.merge(&format!("{MODELS}/m"), json!({"spec": {"from": "b"}}));
    assert_eq!(fields(&refused), ["spec.from"]);
    // Kinds that definitions bring say what they are.
    let bare = rig.ask(
        Method::POST,
        MODELS,
        "application/json",
        json!({"metadata": {"name": "n"}, "spec": {"from": "a"}}),
    );
    assert_eq!(bare.0, 400);
}
