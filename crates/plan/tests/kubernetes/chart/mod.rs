//! The chart gives what `install` would apply, whatever its values say.

mod template;

use pilotage_plan::render::kubernetes::install::{self, Installation, Scope};
use pilotage_plan::render::kubernetes::{
    Cluster, Installed, MINOR_DEFAULT, MINOR_MIN, Mesh, Platform, helm,
};
use serde_json::{Value, json};

use self::template::render;
use super::objects::database;

/// All objects of the chart with values that are said, in the order of their kinds and names.
fn chart(said: &Value, there: &Value) -> Vec<Value> {
    let mut values = helm::defaults();
    merge(&mut values, said);
    let files = helm::files().into_iter();
    let templates = files.filter(|(name, _)| {
        name.starts_with("helm/pilotage/templates/") && name.ends_with(".yaml")
    });
    let mut all = Vec::new();
    for (name, text) in templates {
        let text = render(&text, &values, there);
        let is_bare =
            |document: &&str| document.lines().all(|line| line.is_empty() || line.starts_with('#'));
        for document in text.split("\n---\n").filter(|document| !is_bare(document)) {
            let object = serde_saphyr::from_str::<Value>(document);
            assert!(object.is_ok(), "{name}: {object:?}\n{document}");
            all.extend(object.ok().filter(Value::is_object));
        }
    }
    sorted(all)
}

fn merge(values: &mut Value, said: &Value) {
    for (name, value) in said.as_object().unwrap() {
        match value {
            Value::Object(_) if values[name].as_object().is_some_and(|all| !all.is_empty()) => {
                merge(&mut values[name], value);
            }
            _ => values[name] = value.clone(),
        }
    }
}

fn sorted(mut all: Vec<Value>) -> Vec<Value> {
    all.sort_by_key(|one| format!("{} {}", one["kind"], one["metadata"]["name"]));
    all
}

/// What is applied by `install`, of which the chart leaves the namespace to Helm.
fn installed(installation: &Installation) -> Vec<Value> {
    let objects = install::objects(installation);
    let objects = objects.iter().map(|object| object.value().clone());
    sorted(objects.filter(|object| object["kind"] != "Namespace").collect())
}

fn check(said: &Value, installation: &Installation) {
    let there = json!({ "metadata": { "name": "pilotage-admin" } });
    let (found, expect) = (chart(said, &there), installed(installation));
    for (one, other) in found.iter().zip(&expect) {
        assert_eq!(one, other, "{said}");
    }
    assert_eq!(found.len(), expect.len(), "{said}");
}

fn on(cluster: Cluster) -> Installation {
    Installation { cluster, ..Installation::default() }
}

#[test]
fn it_is_what_install_applies() {
    let plain = Installation::default();
    check(&json!({}), &plain);
    check(
        &json!({ "externalMetrics": true, "requireDigest": true }),
        &Installation { external_metrics: true, requires_digest: true, ..plain.clone() },
    );
    let has = Installed { monitors: true, vertical: true, ..plain.cluster.has };
    let monitor_labels = [("release".to_owned(), "prometheus".to_owned())].into();
    check(
        &json!({ "monitors": true, "verticalPodAutoscaler": true, "monitorLabels": { "release": "prometheus" } }),
        &on(Cluster { has, monitor_labels, ..plain.cluster.clone() }),
    );
    check(
        &json!({
            "image": "corp/pilotage:1", "imagePullSecrets": [{ "name": "registry" }],
            "apiServerPorts": [443, 16443], "gateway": { "replicas": { "min": 3, "max": 4 } },
        }),
        &Installation {
            cluster: Cluster { image: "corp/pilotage:1".to_owned(), ..plain.cluster.clone() },
            pull_secrets: vec!["registry".to_owned()],
            api_ports: vec![443, 16443],
            gateways: (3, 4),
            ..Installation::default()
        },
    );
    check(
        &json!({ "usageDatabase": { "secret": "usage", "port": 6432 } }),
        &Installation { usage_database: Some(database("usage", 6432)), ..plain.clone() },
    );
    let small = Installation { scope: Scope::Namespace, ..plain };
    check(&json!({ "scope": "namespace" }), &small);
    // What is of the whole cluster is not in one for a namespace.
    check(&json!({ "scope": "namespace", "externalMetrics": true, "requireDigest": true }), &small);
}

#[test]
fn overlays_are_followed() {
    let plain = Installation::default().cluster;
    for platform in Platform::ALL.into_iter().filter(|one| *one != Platform::Plain) {
        for scope in [Scope::Cluster, Scope::Namespace] {
            let installation =
                Installation { scope, balanced: true, ..on(Cluster { platform, ..plain.clone() }) };
            let scope = if scope == Scope::Cluster { "cluster" } else { "namespace" };
            let service = json!({ "service": { "type": "LoadBalancer" } });
            let said = json!({ "overlays": [platform.name()], "scope": scope, "gateway": service });
            check(&said, &installation);
        }
    }
    for mesh in Mesh::ALL {
        let said = json!({ "overlays": ["gke", mesh.name()] });
        let cluster = Cluster { platform: Platform::Gke, mesh: Some(mesh), ..plain.clone() };
        check(&said, &on(cluster));
    }
}

#[test]
fn each_part_has_values_of_its_own() {
    let there = json!({ "metadata": { "name": "pilotage-admin" } });
    for part in ["gateway", "operator"] {
        let fields = json!({
            "nodeSelector": { "disk": "ssd" },
            "tolerations": [{ "key": "infra", "operator": "Exists" }],
            "affinity": { "podAntiAffinity": {} },
        });
        let mut values = fields.clone();
        values["priorityClassName"] = "high".into();
        values["podAnnotations"] = json!({ "note": "yes" });
        values["resources"] = json!({ "limits": { "memory": "4Gi" } });
        let said = json!({ part: values, "adminSecret": "theirs", "overlays": ["istio"] });
        let all = chart(&said, &there);
        let name = format!("pilotage-{part}");
        let is_its = |one: &&Value| one["kind"] == "Deployment" && one["metadata"]["name"] == name;
        let template = &all.iter().find(is_its).unwrap()["spec"]["template"];
        for (field, value) in fields.as_object().unwrap() {
            assert_eq!(&template["spec"][field], value, "{part}");
        }
        assert_eq!(template["spec"]["priorityClassName"], "high");
        let annotations = &template["metadata"]["annotations"];
        assert_eq!(annotations["note"], "yes");
        assert!(annotations["proxy.istio.io/config"].is_string());
        let container = &template["spec"]["containers"][0];
        assert_eq!(container["resources"]["limits"]["memory"], "4Gi");
        let key = &container["env"][2]["valueFrom"]["secretKeyRef"];
        assert_eq!((&key["name"], &key["key"]), (&json!("theirs"), &json!("key")));
        assert!(all.iter().all(|one| one["kind"] != "Secret"));
    }
}

#[test]
fn the_key_is_made_once_and_kept() {
    let secret = |there: &Value| {
        let all = chart(&json!({}), there);
        all.into_iter().find(|one| one["kind"] == "Secret")
    };
    let made = secret(&json!({})).unwrap();
    assert_eq!(made["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    assert_eq!(made["data"]["key"], format!("base64 of {}", "x".repeat(64)));
    let ours = json!({ "metadata": { "annotations": { "meta.helm.sh/release-name": "ours" } }, "data": { "key": "b2xk" } });
    assert_eq!(secret(&ours).unwrap()["data"]["key"], "b2xk");
    // One that somebody made by hand is not Helm's.
    assert_eq!(
        secret(&json!({ "metadata": { "name": "pilotage-admin" }, "data": { "key": "b2xk" } })),
        None
    );
}

/// Each of the plain manifests, by its folder: the text, and its objects.
fn manifests() -> Vec<(String, String, Vec<Value>)> {
    let files = helm::files().into_iter();
    let files = files.filter_map(|(name, text)| {
        let folder = name.strip_prefix("manifests/")?.strip_suffix("/pilotage.yaml")?.to_owned();
        Some((folder, text))
    });
    let all = files.map(|(folder, text)| {
        let documents = text.split("\n---\n").map(serde_saphyr::from_str::<Value>);
        let objects = documents.collect::<Result<Vec<_>, _>>();
        (folder, text, objects.unwrap())
    });
    all.collect()
}

#[test]
fn each_of_the_manifests_is_whole() {
    let plain = Installation::default();
    let metrics = Installation { external_metrics: true, ..plain.clone() };
    let small = Installation { scope: Scope::Namespace, ..plain.clone() };
    let expect = [("cluster", plain), ("cluster-external-metrics", metrics), ("namespace", small)];
    let all = manifests();
    assert_eq!(all.len(), expect.len());
    for ((folder, text, objects), (name, installation)) in all.iter().zip(&expect) {
        let whole = install::objects(installation).into_iter();
        let whole: Vec<Value> = whole.map(|object| object.value().clone()).collect();
        assert_eq!((folder.as_str(), objects), (*name, &whole));
        let head = text.split("apiVersion").next().unwrap();
        for word in ["deploy/crds", "one of the folders", "pilotage-admin"] {
            assert!(head.contains(word), "{folder}: {word}");
        }
    }
    let takes = |object: &Value| object["kind"] == "APIService";
    assert!(!all[0].2.iter().any(takes) && all[1].2.iter().any(takes));
}

/// One file serves all releases: what is installed does not depend on which one it is.
#[test]
fn the_oldest_kubernetes_gets_the_same() {
    let minors = [MINOR_MIN, MINOR_DEFAULT, 99];
    for scope in [Scope::Cluster, Scope::Namespace] {
        let of = |minor| {
            let cluster = Cluster { minor, ..Installation::default().cluster };
            install::objects(&Installation {
                scope,
                external_metrics: scope == Scope::Cluster,
                requires_digest: true,
                ..on(cluster)
            })
        };
        for minor in minors {
            assert_eq!(of(minor), of(MINOR_DEFAULT), "1.{minor}");
        }
    }
    let cluster = Cluster { minor: MINOR_MIN, ..Installation::default().cluster };
    check(&json!({}), &on(cluster));
    let (_, about) =
        helm::files().into_iter().find(|(name, _)| name == "helm/pilotage/Chart.yaml").unwrap();
    let about: Value = serde_saphyr::from_str(&about).unwrap();
    assert_eq!(about["kubeVersion"], format!(">=1.{MINOR_MIN}.0-0"));
}
