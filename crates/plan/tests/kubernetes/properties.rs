//! What holds for every object: names, labels, selectors, rights.

use std::collections::BTreeSet;

use pilotage_plan::parse_all;
use pilotage_plan::render::kubernetes::{Cluster, HELD, HELD_HERE, HELD_MOVING, Object, render};
use proptest::prelude::*;
use serde_json::Value;

use crate::objects;

pub(crate) fn every() -> impl Iterator<Item = (&'static str, Vec<Object>)> {
    let models = objects::all().into_iter().map(|(name, rendered)| (name, rendered.objects));
    models.chain(objects::installations())
}

/// The pod templates of an object.
fn templates(object: &Value) -> Vec<&Value> {
    let spec = &object["spec"];
    let group = &spec["leaderWorkerTemplate"];
    [&spec["template"], &group["leaderTemplate"], &group["workerTemplate"]]
        .into_iter()
        .filter(|template| template["spec"]["containers"].is_array())
        .collect()
}

fn containers(template: &Value) -> impl Iterator<Item = &Value> {
    let of =
        |list: &str| template["spec"][list].as_array().into_iter().flatten().collect::<Vec<_>>();
    of("containers").into_iter().chain(of("initContainers"))
}

fn matches(selector: &Value, labels: &Value) -> bool {
    let mut pairs = selector.as_object().into_iter().flatten();
    pairs.all(|(key, value)| labels[key] == *value)
}

fn check_metadata(metadata: &Value) -> Result<(), String> {
    let name = metadata["name"].as_str().unwrap_or_default();
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if name.is_empty() || name.len() > 63 || !name.chars().all(plain) {
        return Err(format!("name {name:?}"));
    }
    check_labels(&metadata["labels"])
}

fn check_labels(labels: &Value) -> Result<(), String> {
    for (key, value) in labels.as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or("?");
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let ends = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
        let good =
            value.chars().all(plain) && ends(value.chars().next()) && ends(value.chars().last());
        if value.len() > 63 || !good || key.rsplit('/').next().unwrap_or_default().len() > 63 {
            return Err(format!("label {key}: {value:?}"));
        }
    }
    Ok(())
}

fn check_pod(template: &Value) -> Result<(), String> {
    check_labels(&template["metadata"]["labels"])?;
    let pod = &template["spec"];
    if pod["securityContext"]["runAsNonRoot"] != true {
        return Err("a pod that may run as root".to_owned());
    }
    let volumes: BTreeSet<&str> = pod["volumes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| one["name"].as_str())
        .collect();
    for container in containers(template) {
        let held = &container["securityContext"];
        let good = held["allowPrivilegeEscalation"] == false
            && held["readOnlyRootFilesystem"] == true
            && held["runAsNonRoot"] == true
            && held["capabilities"]["drop"][0] == "ALL"
            && held["seccompProfile"]["type"] == "RuntimeDefault";
        if !good {
            return Err(format!("container {} is not held", container["name"]));
        }
        for mount in container["volumeMounts"].as_array().into_iter().flatten() {
            if !volumes.contains(mount["name"].as_str().unwrap_or_default()) {
                return Err(format!("mount {} of no volume", mount["name"]));
            }
        }
        let text = container.to_string();
        if let Some(word) = [
            "{weights}",
            "{port}",
            "{host}",
            "{scratch}",
            "{leader}",
            "{rank}",
            "{rendezvous}",
            "{peers}",
            "{events}",
        ]
        .iter()
        .find(|word| text.contains(**word))
        {
            return Err(format!("{word} is left"));
        }
    }
    Ok(())
}

fn check_all(objects: &[Object]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    let mut pods = Vec::new();
    for object in objects {
        let place = (object.api_version(), object.kind(), object.namespace(), object.name());
        if !seen.insert(place) {
            return Err(format!("{place:?} is there twice"));
        }
        let value = object.value();
        check_metadata(&value["metadata"]).map_err(|what| format!("{place:?}: {what}"))?;
        for template in templates(value) {
            check_pod(template).map_err(|what| format!("{place:?}: {what}"))?;
            pods.push(&template["metadata"]["labels"]);
            let selector = &value["spec"]["selector"]["matchLabels"];
            if selector.is_object() && !matches(selector, &template["metadata"]["labels"]) {
                return Err(format!("{place:?} does not select its own pods"));
            }
        }
    }
    selectors(objects, &pods)
}

/// Whatever selects pods selects some of those that are rendered with it.
fn selectors(objects: &[Object], pods: &[&Value]) -> Result<(), String> {
    for object in objects {
        let spec = &object.value()["spec"];
        let selector = match object.kind() {
            "Service" => &spec["selector"],
            "NetworkPolicy" => &spec["podSelector"]["matchLabels"],
            "PodDisruptionBudget" | "PodMonitor" => &spec["selector"]["matchLabels"],
            _ => continue,
        };
        if !pods.iter().any(|labels| matches(selector, labels)) {
            return Err(format!("{} {} selects nothing: {selector}", object.kind(), object.name()));
        }
    }
    Ok(())
}

/// Ports that a policy names are those of containers that stay: many networks look for names nowhere else.
fn check_ports(objects: &[Object]) -> Result<(), String> {
    let all = || objects.iter().flat_map(|object| templates(object.value()));
    for policy in objects.iter().filter(|object| object.kind() == "NetworkPolicy") {
        let spec = &policy.value()["spec"];
        let selector = &spec["podSelector"]["matchLabels"];
        let rules = spec["ingress"].as_array().into_iter().flatten();
        let ports = rules.flat_map(|rule| rule["ports"].as_array().into_iter().flatten());
        for name in ports.filter_map(|one| one["port"].as_str()) {
            let mut own = all().filter(|pod| matches(selector, &pod["metadata"]["labels"]));
            let has = |pod: &Value| {
                let mut containers = pod["spec"]["containers"].as_array().into_iter().flatten();
                containers.any(|one| {
                    one["ports"].as_array().into_iter().flatten().any(|port| port["name"] == name)
                })
            };
            if !own.any(has) {
                return Err(format!("{} lets in `{name}`, which no pod has", policy.name()));
            }
        }
    }
    Ok(())
}

#[test]
fn policies_name_ports_that_networks_find() {
    let mut named = 0;
    for (name, objects) in every() {
        assert_eq!(check_ports(&objects), Ok(()), "{name}");
        named += objects.iter().filter(|object| object.kind() == "NetworkPolicy").count();
    }
    assert!(named > 10, "{named}");
}

#[test]
fn every_object_is_as_it_should_be() {
    for (name, objects) in every() {
        assert_eq!(check_all(&objects), Ok(()), "{name}");
    }
}

#[test]
fn selectors_of_copies_do_not_meet() {
    for (name, objects) in every() {
        let all = objects.iter().flat_map(|object| templates(object.value()));
        let labels: Vec<&Value> = all.map(|template| &template["metadata"]["labels"]).collect();
        for object in
            objects.iter().filter(|one| ["Deployment", "StatefulSet"].contains(&one.kind()))
        {
            let selector = &object.value()["spec"]["selector"]["matchLabels"];
            let found = labels.iter().filter(|labels| matches(selector, labels)).count();
            assert_eq!(found, 1, "{name}: {}", object.name());
        }
    }
}

/// What lets go of a pod is its Deployment alone: the copy serves until another one does.
#[test]
fn released_pods_are_found_by_all_but_what_keeps_them() {
    let mut deployments = 0;
    for (name, objects) in every() {
        for object in objects.iter().filter(|one| one.kind() == "Deployment") {
            let value = object.value();
            let here = &value["spec"]["template"]["metadata"]["labels"];
            if here[HELD] != HELD_HERE {
                continue;
            }
            deployments += 1;
            let mut moving = here.clone();
            moving[HELD] = HELD_MOVING.into();
            assert!(!matches(&value["spec"]["selector"]["matchLabels"], &moving), "{name}");
            assert_eq!(selectors(&objects, &[&moving]), Ok(()), "{name}");
            let spread = &value["spec"]["template"]["spec"]["topologySpreadConstraints"];
            let spread = spread.as_array().into_iter().flatten();
            for one in spread {
                assert!(matches(&one["labelSelector"]["matchLabels"], &moving), "{name}");
            }
        }
    }
    assert!(deployments > 5, "{deployments}");
}

#[test]
fn no_copy_is_evicted_before_another_one_is_there() {
    for (name, rendered) in objects::all() {
        let budgets = rendered.objects.iter().filter(|one| one.kind() == "PodDisruptionBudget");
        let most: Vec<&Value> = budgets.map(|one| &one.value()["spec"]["maxUnavailable"]).collect();
        assert_eq!(most, [0], "{name}");
        let workloads = ["Deployment", "StatefulSet", "LeaderWorkerSet"];
        let mut all = rendered.objects.iter().filter(|one| workloads.contains(&one.kind()));
        assert!(all.all(|one| templates(one.value()).iter().all(|template| {
            let tolerations = template["spec"]["tolerations"].as_array().unwrap();
            tolerations.iter().filter(|one| one["tolerationSeconds"] == 60).count() == 2
        })));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_renders_holds(
        name in "[a-z0-9]([-a-z0-9]{0,60}[a-z0-9])?",
        tensor in 1_u32..17,
        pipeline in 1_u32..4,
        replicas in 1_u32..5,
        engine in prop_oneof![Just("vllm"), Just("sglang"), Just("tgi"), Just("triton"), Just("trtllm"), Just("llama.cpp")],
        storage in prop_oneof![Just("ephemeral"), Just("claim")],
        group in any::<bool>(),
    ) {
        let text = format!(
            "apiVersion: pilotage.dev/v1alpha1\nkind: Model\nmetadata: {{name: \"{name}\"}}\nspec: {{source: 'hf:o/r', runtime: {engine}, replicas: {replicas}, parallelism: {{tensor: {tensor}, pipeline: {pipeline}}}, storage: {{kind: {storage}}}}}\n---\n\
             apiVersion: pilotage.dev/v1alpha1\nkind: Fleet\nmetadata: {{name: f}}\nspec: {{kind: nodes, hardware: h100-sxm}}\n",
        );
        let mut cluster = Cluster::default();
        cluster.has.leader_worker_set = group;
        let resources = parse_all([("f.yaml", text.as_str())]).unwrap();
        if let Ok(rendered) = render(&resources, &cluster) {
            prop_assert_eq!(check_all(&rendered.objects), Ok(()));
            let again = render(&resources, &cluster).unwrap();
            prop_assert_eq!(again, rendered);
        }
    }
}
