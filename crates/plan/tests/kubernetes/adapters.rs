//! Adapters of copies that run: another list is another ConfigMap, and nothing else.

use pilotage_plan::adapters::AdapterList;
use pilotage_plan::render::kubernetes::{Cluster, Mesh, Object, Rendered, Version};
use pilotage_plan::{Resource, parse, update};
use proptest::prelude::*;
use serde_json::Value;

use crate::objects::{FLEET, TENSOR, WIDE, manifest, rendered};

fn with(spec: &str, adapters: &[(String, String)], cluster: &Cluster) -> Rendered {
    let sources: Vec<String> =
        adapters.iter().map(|(name, source)| format!("{name}: '{source}'")).collect();
    let spec = format!("{spec}, adapterSources: {{{}}}", sources.join(", "));
    rendered(&[FLEET, &manifest("llama", &spec)], cluster)
}

fn pairs(adapters: &[(&str, &str)]) -> Vec<(String, String)> {
    adapters.iter().map(|(name, source)| ((*name).to_owned(), (*source).to_owned())).collect()
}

fn one<'a>(rendered: &'a Rendered, kind: &str, name: &str) -> &'a Value {
    let found = |object: &&Object| object.kind() == kind && object.name() == name;
    rendered.objects.iter().find(found).map_or(&Value::Null, Object::value)
}

fn list(rendered: &Rendered) -> AdapterList {
    let map = one(rendered, "ConfigMap", "llama-adapters");
    AdapterList::read(map["data"]["adapters.json"].as_str().unwrap().as_bytes()).unwrap()
}

/// What adapters are, but none.
fn some() -> impl Strategy<Value = Vec<(String, String)>> {
    let source = prop_oneof!["hf:[a-z]{1,8}/[a-z]{1,8}", "oci://[a-z]{1,8}\\.io/[a-z]{1,8}:1"];
    proptest::collection::btree_map("[a-z][a-z0-9-]{0,12}[a-z]", source, 1..12)
        .prop_map(|all| all.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn another_list_is_another_map_and_nothing_else(
        before in some(),
        after in some(),
        sglang: bool,
        kind in prop_oneof!["ephemeral", "claim"],
        canary: bool,
    ) {
        let runtime = if sglang { "sglang" } else { "vllm" };
        let updates = if canary { ", updates: {canary: {}}" } else { "" };
        let spec = format!(
            "source: 'hf:o/base', runtime: {runtime}, storage: {{kind: {kind}}}{updates}"
        );
        let plain = Cluster::default();
        let (first, second) = (with(&spec, &before, &plain), with(&spec, &after, &plain));
        let others = |rendered: &Rendered| -> Vec<Value> {
            let is_list = |object: &&Object| object.name() == "llama-adapters";
            rendered.objects.iter().filter(|one| !is_list(one)).map(|one| one.value().clone()).collect()
        };
        prop_assert_eq!(others(&first), others(&second));
        let names: Vec<String> = list(&second).adapters.into_iter().map(|one| one.name).collect();
        let expect: Vec<String> = after.into_iter().map(|(name, _)| name).collect();
        prop_assert_eq!(names, expect);
    }
}

#[test]
fn copies_of_several_nodes_have_theirs_from_the_start() {
    let adapters = pairs(&[("sql", "hf:o/sql")]);
    let wide = with(&format!("{WIDE}, fleet: h100"), &adapters, &Cluster::default());
    assert_eq!(one(&wide, "ConfigMap", "llama-adapters"), &Value::Null);
    let group = one(&wide, "LeaderWorkerSet", "llama");
    for role in ["leaderTemplate", "workerTemplate"] {
        let pod = &group["spec"]["leaderWorkerTemplate"][role]["spec"];
        assert_eq!(pod["initContainers"][1]["name"], "fetch-adapter-0");
        assert!(pod["containers"][0]["args"].to_string().contains("sql=/weights/adapters/sql"));
    }
}

/// Pods of the one that serves mount the list and are asked, whatever shape comes next.
#[test]
fn the_list_is_there_as_long_as_some_version_loads_adapters() {
    let adapters = pairs(&[("sql", "hf:o/sql")]);
    let narrow = format!("{TENSOR}, fleet: h100, updates: {{canary: {{}}}}");
    let wide = format!("{WIDE}, fleet: h100, updates: {{canary: {{}}}}");
    let version = |spec: &str, is_kept: bool| {
        let text = manifest("llama", &format!("{spec}, adapterSources: {{sql: 'hf:o/sql'}}"));
        let Resource::Model(model) = parse("m.yaml", &text).unwrap().remove(0) else { panic!() };
        Version {
            revision: update::revision(&model.spec),
            kept: is_kept.then(|| update::what_runs(&model.spec)),
            replicas: Some(1),
        }
    };
    let check = |before: &str, after: &str, expect: bool| {
        let versions = vec![version(before, true), version(after, false)];
        let versions = [("llama".to_owned(), versions)].into();
        let with = with(after, &adapters, &Cluster { versions, ..Cluster::default() });
        let policy = one(&with, "NetworkPolicy", "llama-engines")["spec"]["ingress"].to_string();
        assert_eq!(policy.contains("9470"), expect, "{policy}");
        assert_eq!(!one(&with, "ConfigMap", "llama-adapters").is_null(), expect);
    };
    check(&narrow, &wide, true);
    check(&wide, &narrow, true);
    let other = format!("{wide}, runtimeArgs: ['--seed', '2']");
    check(&wide, &other, false);
}

#[test]
fn a_claim_holds_weights_and_lends_adapters() {
    let claim = format!("{TENSOR}, storage: {{kind: claim}}");
    let adapters = pairs(&[("law", "file:loras/law"), ("sql", "hf:o/sql")]);
    let with = with(&claim, &adapters, &Cluster::default());
    let job = with.objects.iter().find(|object| object.kind() == "Job").unwrap().value();
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(pod["containers"].as_array().unwrap().len(), 1);
    assert_eq!(pod["initContainers"], Value::Null);
    assert_eq!(list(&with).adapters[0].source.to_string(), "file:/weights/loras/law");
}

#[test]
fn meshes_let_the_probe_pass() {
    let adapters = pairs(&[("sql", "hf:o/sql")]);
    let check = |mesh, key: &str| {
        let with = with(TENSOR, &adapters, &Cluster { mesh: Some(mesh), ..Cluster::default() });
        let pod = &one(&with, "Deployment", "llama")["spec"]["template"];
        assert_eq!(pod["metadata"]["annotations"][key], "9470", "{pod}");
    };
    check(Mesh::Istio, "traffic.sidecar.istio.io/excludeInboundPorts");
    check(Mesh::Linkerd, "config.linkerd.io/skip-inbound-ports");
}
