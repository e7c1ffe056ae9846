//! Where an object is other than it is to be: what was written by hand over what was rendered.
//!
//! Contract: only fields that were rendered are looked at; what the API server fills in and what others
//! add is theirs. Lists whose entries are known by a key may hold others' entries, all other lists are as
//! they were rendered.

use serde_json::Value;

/// A field that is other than it is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Its path: `spec.template.spec.containers[engine].image`.
    pub path: String,
    /// What is there; none when nothing is.
    pub is: Option<Value>,
    /// What is to be there.
    pub wanted: Value,
}

/// Most differences that are told of one object.
const TOLD_MAX: usize = 20;

/// Lists whose entries are known by a field, as Kubernetes' types say: the list, and the fields.
const KEYED: [(&str, &[&str]); 10] = [
    ("conditions", &["type"]),
    ("containers", &["name"]),
    ("initContainers", &["name"]),
    ("env", &["name"]),
    ("volumes", &["name"]),
    ("volumeMounts", &["mountPath"]),
    ("ports", &["containerPort", "port", "protocol"]),
    ("imagePullSecrets", &["name"]),
    ("topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"]),
    ("ownerReferences", &["uid"]),
];

/// The fields of `wanted` that are others in `live`.
pub fn differences(live: &Value, wanted: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    if let Value::Object(fields) = wanted {
        for (name, wanted) in fields {
            let sent = ["apiVersion", "kind"].contains(&name.as_str());
            if !sent {
                field(live.get(name), wanted, name, &mut found);
            }
        }
    }
    found.truncate(TOLD_MAX);
    found
}

fn field(live: Option<&Value>, wanted: &Value, path: &str, found: &mut Vec<Difference>) {
    match (live, wanted) {
        (Some(Value::Object(live)), Value::Object(wanted)) => {
            for (name, value) in wanted {
                field(live.get(name), value, &format!("{path}.{name}"), found);
            }
        }
        (Some(Value::Array(live)), Value::Array(wanted)) => list(live, wanted, path, found),
        (live, wanted) if live.is_none() && is_nothing(wanted) => {}
        (live, wanted) if live == Some(wanted) => {}
        (live, wanted) => {
            found.push(Difference {
                path: path.to_owned(),
                is: live.cloned(),
                wanted: wanted.clone(),
            });
        }
    }
}

/// Empty texts, lists and maps are left out by API servers.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty() || fields.values().all(is_nothing),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(is) => !is,
        Value::Number(number) => number.as_u64() == Some(0),
    }
}

fn list(live: &[Value], wanted: &[Value], path: &str, found: &mut Vec<Difference>) {
    let whole = |found: &mut Vec<Difference>| {
        found.push(Difference {
            path: path.to_owned(),
            is: Some(Value::Array(live.to_vec())),
            wanted: Value::Array(wanted.to_vec()),
        });
    };
    let name = path.rsplit('.').next().unwrap_or(path);
    // A policy's ports are no list of that sort, though they are called so.
    let is_policy = path.contains("ingress[") || path.contains("egress[");
    let keys = KEYED.iter().find(|(list, _)| *list == name && !is_policy).map(|(_, keys)| *keys);
    let Some(keys) = keys else {
        if live.len() != wanted.len() {
            return whole(found);
        }
        for (index, (live, wanted)) in live.iter().zip(wanted).enumerate() {
            field(Some(live), wanted, &format!("{path}[{index}]"), found);
        }
        return;
    };
    for (index, wanted) in wanted.iter().enumerate() {
        let same = |one: &&Value| {
            keys.iter().all(|key| wanted.get(key).is_none() || one.get(key) == wanted.get(key))
        };
        let label = keys.iter().find_map(|key| wanted.get(key));
        let label = label.map_or_else(|| index.to_string(), plain);
        field(live.iter().find(same), wanted, &format!("{path}[{label}]"), found);
    }
}

/// A value as it is shown: text without quotes.
pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(live: Value, wanted: Value, expect: &[&str]) {
        let paths: Vec<String> =
            differences(&live, &wanted).into_iter().map(|one| one.path).collect();
        assert_eq!(paths, expect);
    }

    #[test]
    fn others_fields_are_theirs() {
        check(json!({"spec": {"a": 1, "filled": 2}, "status": {}}), json!({"spec": {"a": 1}}), &[]);
        check(json!({"spec": {"a": 2}}), json!({"spec": {"a": 1}}), &["spec.a"]);
        check(json!({"spec": {}}), json!({"spec": {"a": 1, "none": {}, "empty": ""}}), &["spec.a"]);
    }

    #[test]
    fn entries_are_known_by_their_keys() {
        let sidecar = json!([{"name": "proxy"}, {"name": "engine", "image": "a", "more": 1}]);
        check(
            json!({"spec": {"containers": sidecar}}),
            json!({"spec": {"containers": [{"name": "engine", "image": "b"}]}}),
            &["spec.containers[engine].image"],
        );
        check(
            json!({"spec": {"containers": [{"name": "x"}]}}),
            json!({"spec": {"containers": [{"name": "engine"}]}}),
            &["spec.containers[engine]"],
        );
    }

    #[test]
    fn whole_lists_are_as_rendered() {
        let wanted =
            json!({"spec": {"ingress": [{"ports": [{"port": "http", "protocol": "TCP"}]}]}});
        check(wanted.clone(), wanted.clone(), &[]);
        let opened =
            json!({"spec": {"ingress": [{"ports": [{"port": "http", "protocol": "TCP"}]}, {}]}});
        check(opened, wanted.clone(), &["spec.ingress"]);
        let more = json!({"spec": {"ingress": [{"ports": [{"port": "http", "protocol": "TCP"}, {"port": 1}]}]}});
        check(more, wanted, &["spec.ingress[0].ports"]);
        check(json!({"args": ["a", "c"]}), json!({"args": ["a", "b"]}), &["args[1]"]);
    }
}
