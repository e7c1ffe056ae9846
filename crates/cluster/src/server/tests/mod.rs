//! Calls and their answers, one after the other.

mod refusals;

use http::Method;
use serde_json::{Value, json};

use super::{Cluster, Limits, Payload};
use crate::api::call::Call;
use crate::fault::{Fault, Meets, Trouble};
use crate::store::Pulled;

/// A cluster to talk to.
struct Rig {
    cluster: Cluster,
    now_ms: u64,
}

const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
const PODS: &str = "/api/v1/namespaces/default/pods";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const MODELS: &str = "/apis/example.org/v1/namespaces/default/models";

impl Rig {
    fn new() -> Self {
        let now_ms = 1_767_225_600_000;
        Self { cluster: Cluster::new(now_ms, Limits::default(), 7), now_ms }
    }

    fn call(&mut self, method: Method, target: &str, content: &str, body: &Value) -> super::Answer {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let call = Call {
            method,
            path: path.into(),
            query: query.into(),
            content_type: content.into(),
            accept: "application/json".into(),
            user_agent: "test/1".into(),
            user: "tester".into(),
            body: body.into(),
        };
        self.cluster.handle(self.now_ms, &call)
    }

    fn ask(&mut self, method: Method, target: &str, content: &str, body: Value) -> (u16, Value) {
        let answer = self.call(method, target, content, &body);
        match answer.payload {
            Payload::Text(text) => {
                (answer.status, serde_json::from_slice(&text).unwrap_or_default())
            }
            _ => (0, Value::Null),
        }
    }

    fn get(&mut self, target: &str) -> (u16, Value) {
        self.ask(Method::GET, target, "", Value::Null)
    }

    fn post(&mut self, target: &str, body: Value) -> (u16, Value) {
        self.ask(Method::POST, target, "application/json", body)
    }

    fn put(&mut self, target: &str, body: Value) -> (u16, Value) {
        self.ask(Method::PUT, target, "application/json", body)
    }

    fn merge(&mut self, target: &str, body: Value) -> (u16, Value) {
        self.ask(Method::PATCH, target, MERGE, body)
    }

    fn apply(&mut self, target: &str, body: Value) -> (u16, Value) {
        self.ask(Method::PATCH, target, APPLY, body)
    }

    fn delete(&mut self, target: &str, body: Value) -> (u16, Value) {
        self.ask(Method::DELETE, target, "application/json", body)
    }

    fn watch(&mut self, target: &str) -> Box<super::Stream> {
        match self.call(Method::GET, target, "", &Value::Null).payload {
            Payload::Stream(stream) => stream,
            other => panic!("{other:?}"),
        }
    }

    /// Events as `TYPE name`, until there are none.
    fn pull(&mut self, stream: &mut super::Stream) -> Vec<String> {
        let mut all = Vec::new();
        while let Pulled::Lines(lines) = self.cluster.pull(self.now_ms, stream) {
            for line in String::from_utf8(lines).unwrap().lines() {
                let event: Value = serde_json::from_str(line).unwrap();
                let object = &event["object"];
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                let code = object["code"].as_u64().map(|code| code.to_string());
                let said = code.unwrap_or_else(|| name.to_owned());
                all.push(format!("{} {said}", event["type"].as_str().unwrap()).trim().to_owned());
            }
        }
        all
    }
}

fn map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "i:1"}]}})
}

fn deployment(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

fn definition() -> Value {
    json!({"metadata": {"name": "models.example.org"}, "spec": {
    "group": "example.org", "scope": "Namespaced",
    "names": {"plural": "models", "kind": "Model"},
    "versions": [{"name": "v1", "served": true, "storage": true,
        "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas"}},
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {
            "spec": {"type": "object", "required": ["from"], "properties": {
                "from": {"type": "string"},
                "replicas": {"type": "integer", "default": 1},
                "ports": {"type": "array", "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {"type": "object", "required": ["name"], "properties": {
                        "name": {"type": "string"}, "port": {"type": "integer"}}}}}},
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}
        }}}}]}})
}

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

#[test]
fn objects_are_created_read_and_deleted() {
    let mut rig = Rig::new();
    let (status, made) = rig.post(MAPS, map("a", json!({"k": "v"})));
    assert_eq!((status, &made["metadata"]["name"]), (201, &json!("a")));
    assert_eq!(made["kind"], "ConfigMap");
    assert_eq!(rig.post(MAPS, map("a", json!({}))).1["reason"], "AlreadyExists");
    assert_eq!(rig.get(&format!("{MAPS}/a")).1, made);
    assert_eq!(rig.get(&format!("{MAPS}/b")).1["message"], "configmaps \"b\" not found");
    let (_, list) = rig.get(MAPS);
    assert_eq!(
        (list["items"].as_array().unwrap().len(), &list["kind"]),
        (1, &json!("ConfigMapList"))
    );
    assert_eq!(rig.delete(&format!("{MAPS}/a"), Value::Null).1["status"], "Success");
    assert_eq!(rig.get(&format!("{MAPS}/a")).0, 404);
    let named = json!({"metadata": {"generateName": "x-"}});
    let (_, made) = rig.post(MAPS, named);
    assert_eq!(made["metadata"]["name"].as_str().unwrap().len(), 7);
    assert_eq!(rig.post("/api/v1/namespaces/none/configmaps", map("a", json!({}))).0, 404);
    assert_eq!(rig.post(MAPS, map("A_", json!({}))).1["reason"], "Invalid");
    assert_eq!(rig.get("/apis/nothing.org/v1/things").0, 404);
}

#[test]
fn updates_of_old_versions_are_conflicts() {
    let mut rig = Rig::new();
    let (_, first) = rig.post(MAPS, map("a", json!({"k": "1"})));
    let mut second = first.clone();
    second["data"]["k"] = "2".into();
    let (status, stored) = rig.put(&format!("{MAPS}/a"), second.clone());
    assert_eq!(status, 200);
    assert_ne!(stored["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let (status, refused) = rig.put(&format!("{MAPS}/a"), second);
    assert_eq!((status, &refused["reason"]), (409, &json!("Conflict")));
    let (_, again) = rig.put(&format!("{MAPS}/a"), stored.clone());
    assert_eq!(again["metadata"]["resourceVersion"], stored["metadata"]["resourceVersion"]);
}

#[test]
fn applying_twice_changes_nothing() {
    let mut rig = Rig::new();
    let target = format!("{DEPLOYMENTS}/a?fieldManager=me&force=true");
    let (status, first) = rig.apply(&target, deployment("a"));
    assert_eq!(status, 201, "{first}");
    rig.now_ms += 5000;
    let (status, second) = rig.apply(&target, deployment("a"));
    assert_eq!((status, &second), (200, &first));
    let mut scaled = deployment("a");
    scaled["spec"]["replicas"] = 3.into();
    let (_, third) = rig.apply(&target, scaled);
    assert_eq!(
        (&third["spec"]["replicas"], &third["metadata"]["generation"]),
        (&json!(3), &json!(2))
    );
    let (_, fourth) = rig.apply(&target, deployment("a"));
    assert_eq!(fourth["spec"]["replicas"], 1, "the default comes back");
    assert_eq!(rig.apply(&format!("{DEPLOYMENTS}/a"), deployment("a")).0, 422);
}

#[test]
fn who_is_in_the_way_is_named() {
    let mut rig = Rig::new();
    let mut wanted = deployment("a");
    wanted["spec"]["replicas"] = 1.into();
    rig.apply(&format!("{DEPLOYMENTS}/a?fieldManager=me"), wanted.clone());
    rig.merge(&format!("{DEPLOYMENTS}/a/scale?fieldManager=hpa"), json!({"spec": {"replicas": 4}}));
    let (status, refused) = rig.apply(&format!("{DEPLOYMENTS}/a?fieldManager=me"), wanted.clone());
    assert_eq!(status, 409, "{refused}");
    let cause = &refused["details"]["causes"][0];
    assert_eq!(
        (&cause["field"], &cause["reason"]),
        (&json!(".spec.replicas"), &json!("FieldManagerConflict"))
    );
    let said = cause["message"].as_str().unwrap();
    assert!(
        said.starts_with("conflict with \"hpa\" with subresource \"scale\" using apps/v1"),
        "{said}"
    );
    let (status, forced) =
        rig.apply(&format!("{DEPLOYMENTS}/a?fieldManager=me&force=true"), wanted);
    assert_eq!((status, &forced["spec"]["replicas"]), (200, &json!(1)));
}

#[test]
fn a_status_is_written_apart() {
    let mut rig = Rig::new();
    rig.post(DEPLOYMENTS, deployment("a"));
    let both = json!({"spec": {"replicas": 9}, "status": {"replicas": 2}});
    let (_, got) = rig.merge(&format!("{DEPLOYMENTS}/a/status"), both);
    assert_eq!((&got["spec"]["replicas"], &got["status"]["replicas"]), (&json!(1), &json!(2)));
    assert_eq!(got["metadata"]["generation"], 1);
    let (_, got) = rig.merge(
        &format!("{DEPLOYMENTS}/a"),
        json!({"spec": {"replicas": 9}, "status": {"replicas": 7}}),
    );
    assert_eq!((&got["spec"]["replicas"], &got["status"]["replicas"]), (&json!(9), &json!(2)));
    assert_eq!(got["metadata"]["generation"], 2);
    let condition = json!({"apiVersion": "apps/v1", "kind": "Deployment", "status": {"conditions": [{"type": "Available", "status": "True"}]}});
    let target = format!("{DEPLOYMENTS}/a/status?fieldManager=c&force=true");
    let (status, got) = rig.apply(&target, condition);
    assert_eq!((status, &got["status"]["replicas"]), (200, &json!(2)), "{got}");
    assert_eq!(got["status"]["conditions"][0]["type"], "Available");
}

#[test]
fn definitions_bring_kinds_and_take_them_away() {
    let mut rig = Rig::new();
    assert_eq!(rig.get(MODELS).0, 404);
    let (status, made) = rig.post(CRDS, definition());
    assert_eq!(status, 201, "{made}");
    let (_, made) = rig.get(&format!("{CRDS}/models.example.org"));
    assert_eq!(made["status"]["conditions"][1]["type"], "Established");
    let model = json!({"apiVersion": "example.org/v1", "kind": "Model", "metadata": {"name": "m"},
        "spec": {"from": "x", "other": 1}});
    let strict = rig.post(&format!("{MODELS}?fieldValidation=Strict"), model.clone());
    assert_eq!(strict.1["message"], "strict decoding error: unknown field \"spec.other\"");
    let (status, made) = rig.post(MODELS, model);
    assert_eq!(status, 201);
    assert_eq!(made["spec"], json!({"from": "x", "replicas": 1}));
    let (status, refused) = rig.merge(&format!("{MODELS}/m"), json!({"spec": {"from": 3}}));
    assert_eq!((status, &refused["reason"]), (422, &json!("Invalid")));
    let (_, scaled) = rig.merge(&format!("{MODELS}/m/scale"), json!({"spec": {"replicas": 5}}));
    assert_eq!(scaled["spec"]["replicas"], 5);
    assert_eq!(rig.get("/apis/example.org/v1").0, 200);
    let put =
        rig.put(&format!("{MODELS}/m"), json!({"apiVersion": "example.org/v1", "kind": "Model", "metadata": {"name": "m"}, "spec": {"from": "y"}}));
    assert_eq!(put.0, 422, "an update of a custom object says of which version");
    rig.delete(&format!("{CRDS}/models.example.org"), Value::Null);
    assert_eq!(rig.get(MODELS).0, 404);
    assert_eq!(rig.get("/apis/example.org/v1").0, 404);
}

#[test]
fn finalizers_keep_objects() {
    let mut rig = Rig::new();
    let mut kept = map("a", json!({}));
    kept["metadata"]["finalizers"] = json!(["x.org/wait"]);
    rig.post(MAPS, kept);
    let (_, ending) = rig.delete(&format!("{MAPS}/a"), Value::Null);
    assert!(ending["metadata"]["deletionTimestamp"].is_string());
    let more = json!({"metadata": {"finalizers": ["x.org/wait", "y.org/wait"]}});
    assert_eq!(rig.merge(&format!("{MAPS}/a"), more).0, 422);
    assert_eq!(rig.merge(&format!("{MAPS}/a"), json!({"metadata": {"finalizers": null}})).0, 200);
    assert_eq!(rig.get(&format!("{MAPS}/a")).0, 404);
}

fn owned(name: &str, owner: &Value, blocks: bool) -> Value {
    let mut map = map(name, json!({}));
    map["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "ConfigMap",
        "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"], "blockOwnerDeletion": blocks}]);
    map
}

#[test]
fn dependents_go_with_their_owners() {
    for policy in ["Background", "Foreground", "Orphan"] {
        let mut rig = Rig::new();
        let (_, owner) = rig.post(MAPS, map("a", json!({})));
        let (_, child) = rig.post(MAPS, owned("b", &owner, true));
        rig.post(MAPS, owned("c", &child, false));
        rig.delete(&format!("{MAPS}/a"), json!({"propagationPolicy": policy}));
        let left = rig.cluster.count("", "configmaps");
        assert_eq!(left, if policy == "Orphan" { 2 } else { 0 }, "{policy}");
    }
}

#[test]
fn an_owner_waits_for_dependents_that_block_it() {
    let mut rig = Rig::new();
    let (_, owner) = rig.post(MAPS, map("a", json!({})));
    let mut child = owned("b", &owner, true);
    child["metadata"]["finalizers"] = json!(["x.org/wait"]);
    rig.post(MAPS, child);
    rig.delete(&format!("{MAPS}/a?propagationPolicy=Foreground"), Value::Null);
    assert_eq!(rig.get(&format!("{MAPS}/a")).0, 200);
    assert!(rig.get(&format!("{MAPS}/b")).1["metadata"]["deletionTimestamp"].is_string());
    rig.merge(&format!("{MAPS}/b"), json!({"metadata": {"finalizers": null}}));
    assert_eq!(rig.get(&format!("{MAPS}/a")).0, 404);
}

#[test]
fn namespaces_take_their_contents_with_them() {
    let mut rig = Rig::new();
    rig.post("/api/v1/namespaces", json!({"metadata": {"name": "n"}}));
    let mut kept = map("a", json!({}));
    kept["metadata"]["finalizers"] = json!(["x.org/wait"]);
    rig.post("/api/v1/namespaces/n/configmaps", kept);
    rig.post("/api/v1/namespaces/n/configmaps", map("b", json!({})));
    rig.delete("/api/v1/namespaces/n", Value::Null);
    assert_eq!(rig.get("/api/v1/namespaces/n").1["status"]["phase"], "Terminating");
    let refused = rig.post("/api/v1/namespaces/n/configmaps", map("c", json!({})));
    assert_eq!(
        (refused.0, &refused.1["details"]["causes"][0]["reason"]),
        (403, &json!("NamespaceTerminating"))
    );
    assert_eq!(rig.cluster.count("", "configmaps"), 1);
    rig.merge("/api/v1/namespaces/n/configmaps/a", json!({"metadata": {"finalizers": null}}));
    assert_eq!(rig.get("/api/v1/namespaces/n").0, 404);
}

#[test]
fn pods_on_nodes_end_in_their_own_time() {
    let mut rig = Rig::new();
    rig.post(PODS, pod("a"));
    let bound = json!({"target": {"kind": "Node", "name": "n1"}});
    assert_eq!(rig.post(&format!("{PODS}/a/binding"), bound).0, 201);
    let (_, ending) = rig.delete(&format!("{PODS}/a"), Value::Null);
    assert_eq!(ending["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(ending["metadata"]["deletionTimestamp"], "2026-01-01T00:00:30Z");
    assert_eq!(
        rig.get(&format!("{PODS}?fieldSelector=spec.nodeName=n1")).1["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    rig.delete(&format!("{PODS}/a"), json!({"gracePeriodSeconds": 0}));
    assert_eq!(rig.get(&format!("{PODS}/a")).0, 404);
}

#[test]
fn evictions_ask_budgets() {
    let mut rig = Rig::new();
    rig.post(PODS, pod("a"));
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget =
        json!({"metadata": {"name": "b"}, "spec": {"selector": {"matchLabels": {"app": "a"}}}});
    rig.post(budgets, budget);
    let evict = format!("{PODS}/a/eviction");
    assert_eq!(rig.post(&evict, json!({"metadata": {"name": "a"}})).0, 429);
    rig.merge(&format!("{budgets}/b/status"), json!({"status": {"disruptionsAllowed": 1}}));
    assert_eq!(rig.post(&evict, json!({"metadata": {"name": "a"}})).0, 201);
    assert_eq!(rig.get(&format!("{PODS}/a")).0, 404);
}

#[test]
fn lists_come_in_pages_of_one_version() {
    let mut rig = Rig::new();
    for name in ["a", "b", "c"] {
        rig.post(MAPS, map(name, json!({})));
    }
    let (_, first) = rig.get(&format!("{MAPS}?limit=2"));
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    rig.post(MAPS, map("b2", json!({})));
    rig.delete(&format!("{MAPS}/c"), Value::Null);
    let token =
        first["metadata"]["continue"].as_str().unwrap().replace('=', "%3D").replace('+', "%2B");
    let (_, second) = rig.get(&format!("{MAPS}?limit=2&continue={token}"));
    assert_eq!(second["items"][0]["metadata"]["name"], "c");
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    rig.cluster.compact();
    let (status, gone) = rig.get(&format!("{MAPS}?limit=2&continue={token}"));
    assert_eq!((status, &gone["reason"]), (410, &json!("Expired")));
    assert_eq!(rig.get(&format!("{MAPS}?resourceVersion=99999")).0, 504);
}

#[test]
fn watches_tell_what_comes_and_goes() {
    let mut rig = Rig::new();
    rig.post(PODS, pod("a"));
    let (_, list) = rig.get(PODS);
    let from = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut all = rig.watch(&format!("{PODS}?watch=1&resourceVersion={from}"));
    let mut some = rig.watch(&format!("{PODS}?watch=1&labelSelector=app%3Da"));
    assert_eq!(rig.pull(&mut some), ["ADDED a"]);
    rig.post(PODS, pod("b"));
    rig.merge(&format!("{PODS}/a"), json!({"metadata": {"labels": {"app": "z"}}}));
    rig.merge(&format!("{PODS}/b"), json!({"metadata": {"labels": {"app": "a"}}}));
    rig.delete(&format!("{PODS}/b"), Value::Null);
    assert_eq!(rig.pull(&mut all), ["ADDED b", "MODIFIED a", "MODIFIED b", "DELETED b"]);
    assert_eq!(rig.pull(&mut some), ["DELETED a", "ADDED b", "DELETED b"]);
}

#[test]
fn watches_expire_end_and_are_marked() {
    let mut rig = Rig::new();
    rig.post(MAPS, map("a", json!({})));
    let mut old = rig.watch(&format!("{MAPS}?watch=1&resourceVersion=1"));
    rig.cluster.compact();
    assert_eq!(rig.pull(&mut old), ["ERROR 410"]);
    let marks = "allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    let mut stream = rig.watch(&format!("{MAPS}?watch=1&timeoutSeconds=100&{marks}"));
    assert_eq!(rig.pull(&mut stream), ["ADDED a", "BOOKMARK"]);
    rig.now_ms += 60_000;
    assert_eq!(rig.pull(&mut stream), ["BOOKMARK"]);
    rig.now_ms += 40_000;
    assert_eq!(rig.pull(&mut stream), ["BOOKMARK"]);
    assert_eq!(rig.cluster.pull(rig.now_ms, &mut stream), Pulled::End(None));
    let mut dropped = rig.watch(&format!("{MAPS}?watch=1&resourceVersion=0"));
    rig.cluster.drop_watches(true);
    assert!(matches!(rig.cluster.pull(rig.now_ms, &mut dropped), Pulled::End(Some(_))));
}

#[test]
fn dry_runs_change_nothing() {
    let mut rig = Rig::new();
    let before = rig.cluster.revision();
    assert_eq!(rig.post(&format!("{MAPS}?dryRun=All"), map("a", json!({}))).0, 201);
    assert_eq!(rig.get(&format!("{MAPS}/a")).0, 404);
    rig.post(MAPS, map("a", json!({})));
    let (_, shown) = rig.merge(&format!("{MAPS}/a?dryRun=All"), json!({"data": {"k": "v"}}));
    assert_eq!(shown["data"]["k"], "v");
    assert_eq!(rig.get(&format!("{MAPS}/a")).1["data"], json!({}));
    rig.delete(&format!("{MAPS}/a?dryRun=All"), Value::Null);
    assert_eq!(rig.cluster.revision(), before + 1);
}

#[test]
fn immutable_fields_stay() {
    let mut rig = Rig::new();
    rig.post(DEPLOYMENTS, deployment("a"));
    let other = json!({"spec": {"selector": {"matchLabels": {"app": "b"}},
        "template": {"metadata": {"labels": {"app": "b"}}}}});
    let (status, refused) = rig.merge(&format!("{DEPLOYMENTS}/a"), other);
    assert_eq!((status, &refused["details"]["causes"][0]["field"]), (422, &json!("spec.selector")));
    assert_eq!(
        rig.post(DEPLOYMENTS, json!({"metadata": {"name": "b"}, "spec": {"replicas": "3"}})).0,
        400
    );
    assert_eq!(rig.post(DEPLOYMENTS, json!({"metadata": {"name": "b"}, "spec": {}})).0, 422);
}

#[test]
fn faults_come_as_told_and_calls_are_remembered() {
    let mut rig = Rig::new();
    let faults = [
        (Trouble::TooMany(3), 429),
        (Trouble::Internal, 500),
        (Trouble::Unavailable, 503),
        (Trouble::Forbidden, 403),
        (Trouble::Denied("w.example.org".into(), "no".into()), 403),
        (Trouble::Quota("q".into()), 403),
        (Trouble::Cut, 0),
        (Trouble::Unheard, 0),
    ];
    for (trouble, expect) in faults {
        let said = format!("{trouble:?}");
        let fault = Fault::new(Meets::calls(&["create"], "configmaps"), trouble).times(1);
        rig.cluster.faults().add(fault);
        assert_eq!(rig.post(MAPS, map("a", json!({}))).0, expect, "{said}");
    }
    assert_eq!(rig.get(&format!("{MAPS}/a")).0, 200, "what was done unheard is done");
    assert_eq!(rig.post(MAPS, map("b", json!({}))).0, 201);
    let told: Vec<(u16, bool, bool)> = rig
        .cluster
        .records()
        .take()
        .iter()
        .map(|one| (one.status, one.changed, one.heard))
        .collect();
    assert_eq!(told.first(), Some(&(429, false, true)));
    assert_eq!(told.get(7), Some(&(201, true, false)));
    assert_eq!(told.last(), Some(&(201, true, true)));
    rig.cluster.faults().away_until_ms(rig.now_ms + 1);
    assert_eq!(rig.get(MAPS).0, 0);
}

#[test]
fn patches_of_other_kinds_are_refused_where_servers_do() {
    let mut rig = Rig::new();
    rig.post(CRDS, definition());
    rig.post(MODELS, json!({"apiVersion": "example.org/v1", "kind": "Model", "metadata": {"name": "m"}, "spec": {"from": "x"}}));
    let strategic = "application/strategic-merge-patch+json";
    let got = rig.ask(Method::PATCH, &format!("{MODELS}/m"), strategic, json!({}));
    assert_eq!(got.0, 415);
    rig.post(PODS, pod("a"));
    let patch = json!([{"op": "test", "path": "/metadata/name", "value": "b"}]);
    let got = rig.ask(Method::PATCH, &format!("{PODS}/a"), "application/json-patch+json", patch);
    assert_eq!(got.0, 422);
    assert_eq!(rig.ask(Method::PATCH, &format!("{PODS}/a"), "text/plain", json!({})).0, 415);
}
