//! What apply does, told by objects before and after.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{ApplyError, Managers, Scope, Set, Who};
use crate::shape::{NodeId, Types, builtin};

/// An object and its managers, written to in turn.
struct Live {
    types: Types,
    root: NodeId,
    object: Value,
    managers: Managers,
}

impl Live {
    fn of(kind: &str) -> Self {
        let mut types = Types::new();
        let root = builtin(&mut types, kind);
        let managers = Managers::read(&json!({}), "2026-01-01T00:00:00Z");
        Self { types, root, object: json!({}), managers }
    }

    fn apply(&mut self, who: &str, config: Value, force: bool) -> Result<(), Vec<String>> {
        let ignored = Set::default();
        let scope =
            Scope { types: &self.types, root: self.root, ignored: &ignored, api_version: "v1" };
        let mut managers = self.managers.clone();
        let who = Who::applier(who, "");
        match scope.apply((&self.object, &config), &mut managers, &who, force) {
            Ok(object) => {
                (self.object, self.managers) = (object, managers);
                Ok(())
            }
            Err(ApplyError::Conflicts(all)) => {
                Err(all.into_iter().map(|one| format!("{} {}", one.manager, one.path)).collect())
            }
            Err(ApplyError::Invalid(what)) => Err(vec![what]),
        }
    }

    fn update(&mut self, who: &str, new: Value) {
        let ignored = Set::default();
        let scope =
            Scope { types: &self.types, root: self.root, ignored: &ignored, api_version: "v1" };
        let who = Who::updater(who, "v1", "");
        scope.updated(&self.object, &new, &mut self.managers, &who);
        self.object = new;
    }

    fn owned(&self, who: &str) -> Vec<String> {
        let found = self.managers.write();
        let found = found.iter().filter(|entry| entry["manager"] == who);
        found.flat_map(|entry| Set::read(&entry["fieldsV1"]).unwrap().paths()).collect()
    }
}

fn labels(of: &[(&str, &str)]) -> Value {
    let labels: serde_json::Map<String, Value> =
        of.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect();
    json!({"metadata": {"labels": labels}})
}

#[test]
fn what_is_not_applied_any_more_goes() {
    let mut live = Live::of("Pod");
    live.apply("a", labels(&[("x", "1"), ("y", "2")]), false).unwrap();
    live.apply("a", labels(&[("x", "1")]), false).unwrap();
    assert_eq!(live.object, labels(&[("x", "1")]));
    assert_eq!(live.owned("a"), [".metadata.labels.x"]);
}

#[test]
fn what_another_manages_stays() {
    let mut live = Live::of("Pod");
    live.apply("a", labels(&[("x", "1"), ("y", "2")]), false).unwrap();
    live.apply("b", labels(&[("y", "2")]), false).unwrap();
    live.apply("a", labels(&[("x", "1")]), false).unwrap();
    assert_eq!(live.object, labels(&[("x", "1"), ("y", "2")]));
    assert_eq!(live.owned("b"), [".metadata.labels.y"]);
}

#[test]
fn another_value_is_a_conflict_unless_forced() {
    let mut live = Live::of("Pod");
    live.apply("a", labels(&[("x", "1")]), false).unwrap();
    let refused = live.apply("b", labels(&[("x", "2")]), false);
    assert_eq!(refused, Err(vec!["\"a\" .metadata.labels.x".to_owned()]));
    live.apply("b", labels(&[("x", "2")]), true).unwrap();
    assert_eq!(live.object, labels(&[("x", "2")]));
    assert!(live.owned("a").is_empty());
}

#[test]
fn an_update_takes_what_it_changes() {
    let mut live = Live::of("Deployment");
    live.apply("a", json!({"spec": {"replicas": 1, "paused": true}}), false).unwrap();
    live.update("hpa", json!({"spec": {"replicas": 3, "paused": true}}));
    assert_eq!(live.owned("a"), [".spec.paused"]);
    assert_eq!(live.owned("hpa"), [".spec.replicas"]);
    let refused = live.apply("a", json!({"spec": {"replicas": 1, "paused": true}}), false);
    let said = "\"hpa\" using v1 at 2026-01-01T00:00:00Z .spec.replicas";
    assert_eq!(refused, Err(vec![said.to_owned()]));
}

#[test]
fn entries_of_lists_have_managers_of_their_own() {
    let containers = |all: Value| json!({"spec": {"containers": all}});
    let mut live = Live::of("Pod");
    let port = json!({"containerPort": 80});
    live.apply("a", containers(json!([{"name": "x", "image": "i", "ports": [port]}])), false)
        .unwrap();
    live.apply("b", containers(json!([{"name": "side"}])), false).unwrap();
    let key = r#".spec.containers[name="x"].ports[containerPort=80,protocol="TCP"]"#;
    assert!(live.owned("a").contains(&key.to_owned()), "{:?}", live.owned("a"));
    live.apply("a", containers(json!([{"name": "x", "image": "j"}])), false).unwrap();
    assert_eq!(live.object, containers(json!([{"name": "x", "image": "j"}, {"name": "side"}])));
    live.apply("b", json!({"spec": {"hostname": "h"}}), false).unwrap();
    let left = json!({"spec": {"containers": [{"name": "x", "image": "j"}], "hostname": "h"}});
    assert_eq!(live.object, left);
}

#[test]
fn shared_entries_take_the_order_of_who_applies() {
    let env = |names: &[&str]| {
        let env: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
        json!({"spec": {"containers": [{"name": "c", "env": env}]}})
    };
    let mut live = Live::of("Pod");
    live.apply("a", env(&["a", "b", "c"]), false).unwrap();
    live.apply("b", env(&["c", "a"]), false).unwrap();
    assert_eq!(live.object, env(&["b", "c", "a"]));
}

#[test]
fn sets_of_fields_survive_being_written() {
    let mut live = Live::of("Pod");
    live.update(
        "u",
        json!({"metadata": {"labels": {"a": "1"}, "finalizers": ["x/y"]},
        "spec": {"containers": [{"name": "c", "env": [{"name": "E", "value": "v"}]}]}}),
    );
    let entry = live.managers.write().remove(0);
    let set = Set::read(&entry["fieldsV1"]).unwrap();
    assert_eq!(set.write(), entry["fieldsV1"]);
    assert_eq!(entry["fieldsV1"]["f:metadata"]["f:labels"], json!({".": {}, "f:a": {}}));
    assert_eq!(entry["fieldsV1"]["f:metadata"]["f:finalizers"], json!({".": {}, "v:\"x/y\"": {}}));
}

#[test]
fn whole_maps_are_one_field() {
    let selector = |app: &str| json!({"spec": {"selector": {"matchLabels": {"app": app}}}});
    let mut live = Live::of("Deployment");
    live.apply("a", selector("x"), false).unwrap();
    assert_eq!(live.owned("a"), [".spec.selector"]);
    assert!(live.apply("b", selector("y"), false).is_err());
}

/// What applying does to labels, in the plainest words: who has which, and what they are.
#[derive(Default)]
struct Model {
    has: BTreeMap<u8, BTreeSet<String>>,
    labels: BTreeMap<String, String>,
}

impl Model {
    fn apply(&mut self, who: u8, config: &BTreeMap<String, String>) {
        let last = self.has.insert(who, config.keys().cloned().collect()).unwrap_or_default();
        for name in last.iter().filter(|name| !config.contains_key(*name)) {
            if !self.has.values().any(|names| names.contains(name)) {
                self.labels.remove(name);
            }
        }
        for (name, value) in config {
            if self.labels.insert(name.clone(), value.clone()).is_some_and(|old| old != *value) {
                let others = self.has.iter_mut().filter(|(other, _)| **other != who);
                for (_, names) in others {
                    names.remove(name);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn applying_is_what_the_model_says(
        steps in prop::collection::vec(
            (0_u8..3, prop::collection::btree_map("[a-d]", "[01]", 0..4)),
            1..12,
        )
    ) {
        let mut live = Live::of("Pod");
        let mut model = Model::default();
        for (who, config) in steps {
            let pairs: Vec<(&str, &str)> =
                config.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            // An empty map would be a field of its own.
            let config_of = if pairs.is_empty() { json!({}) } else { labels(&pairs) };
            live.apply(&who.to_string(), config_of.clone(), true).unwrap();
            model.apply(who, &config);
            let got = live.object.pointer("/metadata/labels").cloned().unwrap_or_else(|| json!({}));
            prop_assert_eq!(&got, &json!(model.labels));
            let (object, managers) = (live.object.clone(), live.managers.write());
            live.apply(&who.to_string(), config_of, false).unwrap();
            prop_assert_eq!((&live.object, live.managers.write()), (&object, managers));
        }
    }
}
