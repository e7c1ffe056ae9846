//! Discovery: which groups, versions and resources there are.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::kinds::{Kinds, Resource, Version};

/// The release that the server says it is, where nobody says another one: 1.35.
pub(crate) const MINOR: u32 = 35;

/// `/version`.
pub(crate) fn version(minor: u32) -> Value {
    json!({
        "major": "1",
        "minor": minor.to_string(),
        "gitVersion": format!("v1.{minor}.0"),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "",
        "platform": "linux/amd64",
    })
}

/// `/api`.
pub(crate) fn core() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

/// `/apis`.
pub(crate) fn groups(kinds: &Kinds) -> Value {
    let all: Vec<Value> = versions(kinds).iter().map(|(name, all)| described(name, all)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": all})
}

/// `/apis/GROUP`.
pub(crate) fn group(kinds: &Kinds, name: &str) -> Option<Value> {
    let all = versions(kinds);
    let mut group = described(name, all.get(name)?);
    group["kind"] = "APIGroup".into();
    group["apiVersion"] = "v1".into();
    Some(group)
}

/// `/apis/GROUP/VERSION`.
pub(crate) fn resources(kinds: &Kinds, group: &str, version: &str) -> Option<Value> {
    let mut all = Vec::new();
    for (_, resource) in kinds.iter().filter(|(_, one)| &*one.group == group) {
        let served = resource.versions.iter().filter(|one| one.served && &*one.name == version);
        served.for_each(|version| all.extend(entries(resource, version)));
    }
    let named = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    (!all.is_empty()).then(|| {
        json!({
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": named,
            "resources": all,
        })
    })
}

/// The versions of each group but the core's, newest first.
fn versions(kinds: &Kinds) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (_, resource) in kinds.iter().filter(|(_, one)| !one.group.is_empty()) {
        let known = groups.entry(resource.group.to_string()).or_default();
        for version in resource.versions.iter().filter(|one| one.served) {
            if !known.iter().any(|name| **name == *version.name) {
                known.push(version.name.to_string());
            }
        }
    }
    for known in groups.values_mut() {
        known.sort_by_key(|name| std::cmp::Reverse(rank(name)));
    }
    groups
}

/// How new a version is: those without a stage first, then by number.
fn rank(name: &str) -> (u8, u64, u64) {
    let name = name.strip_prefix('v').unwrap_or(name);
    let split = name.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(name.len());
    let (major, stage) = name.split_at(split);
    let number = |text: &str| text.parse().unwrap_or_default();
    let (level, minor) = match stage {
        "" => (2, 0),
        stage if stage.starts_with("beta") => (1, number(stage.trim_start_matches("beta"))),
        stage => (0, number(stage.trim_start_matches("alpha"))),
    };
    (level, number(major), minor)
}

fn described(name: &str, versions: &[String]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| json!({"groupVersion": format!("{name}/{version}"), "version": version}))
        .collect();
    json!({"name": name, "preferredVersion": versions.first(), "versions": versions})
}

const VERBS: [&str; 8] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// A resource and its subresources.
fn entries(resource: &Resource, version: &Version) -> Vec<Value> {
    let (kind, plural) = (&resource.kind, &resource.plural);
    let mut main = json!({
        "name": plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": kind,
        "verbs": VERBS,
    });
    if !resource.short.is_empty() {
        main["shortNames"] = resource.short.iter().map(|name| Value::from(&**name)).collect();
    }
    if !resource.categories.is_empty() {
        main["categories"] = resource.categories.iter().map(|name| Value::from(&**name)).collect();
    }
    let part = |name: &str, kind: &str, verbs: &[&str]| {
        json!({
            "name": format!("{plural}/{name}"),
            "singularName": "",
            "namespaced": resource.namespaced,
            "kind": kind,
            "verbs": verbs,
        })
    };
    let mut all = vec![main];
    if version.status {
        all.push(part("status", kind, &["get", "patch", "update"]));
    }
    if version.scale.is_some() {
        let mut scale = part("scale", "Scale", &["get", "patch", "update"]);
        scale["group"] = "autoscaling".into();
        scale["version"] = "v1".into();
        all.push(scale);
    }
    if &**plural == "pods" && resource.group.is_empty() {
        let mut eviction = part("eviction", "Eviction", &["create"]);
        eviction["group"] = "policy".into();
        eviction["version"] = "v1".into();
        all.extend([eviction, part("binding", "Binding", &["create"])]);
    }
    all
}

#[cfg(test)]
mod tests {
    #[test]
    fn newer_versions_come_first() {
        let mut all = vec!["v1alpha1", "v2beta1", "v1", "v10", "v2", "v2beta2"];
        all.sort_by_key(|name| std::cmp::Reverse(super::rank(name)));
        assert_eq!(all, ["v10", "v2", "v1", "v2beta2", "v2beta1", "v1alpha1"]);
    }
}
