//! Each rule finds what it is for, and nothing in what is well.

use pilotage_plan::lint::{Finding, lint};
use pilotage_plan::parse_all;
use pilotage_plan::render::kubernetes::{Cluster, Platform};

const HEAD: &str = "apiVersion: pilotage.dev/v1alpha1\nkind: ";

fn findings(model: &str, others: &str) -> Vec<Finding> {
    on(&Cluster::default(), model, others)
}

/// The Model is on the Fleet, where there is one.
fn on(cluster: &Cluster, model: &str, others: &str) -> Vec<Finding> {
    let fleet = if others.contains("kind: Fleet") { ", fleet: f" } else { "" };
    let text = format!("{HEAD}Model\nmetadata: {{name: m}}\nspec: {{{model}{fleet}}}\n{others}");
    lint(&parse_all([("m.yaml", text.as_str())]).unwrap(), cluster).unwrap()
}

fn fleet(spec: &str) -> String {
    format!("---\n{HEAD}Fleet\nmetadata: {{name: f}}\nspec: {{kind: nodes, {spec}}}\n")
}

fn route(spec: &str) -> String {
    format!("---\n{HEAD}Route\nmetadata: {{name: r}}\nspec: {{targets: [{{model: m}}], {spec}}}\n")
}

const ELSEWHERE: &str = "---\napiVersion: pilotage.dev/v1alpha1\nkind: Model\nmetadata: {name: e}\nspec: {endpoints: [{url: 'https://h'}]}\n";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A Model of which nothing is to be said, on a Fleet.
fn good() -> String {
    let digest = "a".repeat(64);
    format!(
        "source: 'hf:o/r@{COMMIT}', digest: 'sha256:{digest}', sizeBytes: 1000000000, runtime: vllm, replicas: 2"
    )
}

#[test]
fn what_is_well_has_no_findings() {
    let labelled = fleet("hardware: h100-sxm, nodes: 4, nodeSelector: {gpu: h100}");
    assert_eq!(findings(&good(), &labelled), Vec::new());
}

#[test]
fn each_rule_finds_its_own() {
    let check = |rule: &str, model: &str, others: &str| {
        let found = findings(model, others);
        let finding = found.iter().find(|finding| finding.rule == rule);
        assert!(finding.is_some(), "{rule}: {found:#?}");
        assert!(found.iter().all(|one| one.file == "m.yaml" && one.line > 0), "{found:#?}");
    };
    let (good, h100) = (good(), fleet("hardware: h100-sxm, nodes: 4"));
    let moving = "source: 'hf:o/r', runtime: vllm, replicas: 2";
    check("no-memory-limit", moving, &h100);
    check("no-digest", moving, &h100);
    check("moving-source", moving, &h100);
    check("moving-source", "source: 'oci://h/r:latest'", "");
    check("one-copy", &good.replace("replicas: 2", "replicas: 1"), &h100);
    check(
        "claim-of-one-node",
        &format!("{good}, storage: {{kind: claim, access: ReadWriteOnce}}"),
        &h100,
    );
    check("each-copy-fetches", &good.replace("1000000000", "90000000000"), &h100);
    let cold = format!("{good}, scaling: {{min: 0, max: 2, zero: cold}}");
    check("cold-start-outlasts-queue", &cold, &h100);
    check("no-hardware", &good, "");
    check(
        "too-few-nodes",
        &format!("{good}, parallelism: {{tensor: 8}}"),
        &fleet("hardware: h100-sxm, nodes: 1"),
    );
    check(
        "no-room-to-replace",
        &format!("{good}, parallelism: {{tensor: 8}}"),
        &fleet("hardware: h100-sxm, nodes: 2"),
    );
    check("slow-network", &format!("{good}, parallelism: {{tensor: 8, pipeline: 2}}"), &h100);
    check("tensor-parallel-over-nodes", &format!("{good}, parallelism: {{tensor: 16}}"), &h100);
    let spot = fleet("hardware: h100-sxm, spot: true");
    check("spot-without-floor", &good, &spot);
    check("spot-without-floor", &good, &(spot + &route("policy: cost")));
    check("cannot-run", "source: 'hf:o/r', runtime: deepspeed", &h100);
    check("labels-of-nodes", &good, &h100);
    check("accelerator-unused", "source: 'https://h/w.gguf'", &h100);
}

#[test]
fn what_a_platform_takes_for_granted_is_said() {
    let check = |platform, model: &str, hardware: &str, rule: &str, expect: &str| {
        let cluster = Cluster { platform, ..Cluster::default() };
        let found = on(&cluster, model, &fleet(&format!("hardware: {hardware}")));
        let told = found.iter().find(|finding| finding.rule == rule).map(|one| one.what.clone());
        assert!(told.as_ref().is_some_and(|told| told.contains(expect)), "{expect}: {told:?}");
    };
    let (good, labels) = (good(), "labels-of-nodes");
    check(
        Platform::Plain,
        &good,
        "a100-80",
        labels,
        "`nvidia.com/gpu.family: ampere`, `nvidia.com/gpu.memory`",
    );
    check(Platform::Eks, &good, "a100-40", labels, "eks.amazonaws.com/instance-gpu-memory");
    check(
        Platform::Eks,
        &good,
        "rtx-pro-6000",
        labels,
        "nothing says which nodes have a rtx-pro-6000",
    );
    let claim = format!("{good}, storage: {{kind: claim}}");
    check(Platform::Eks, &claim, "l4", "class-of-storage", "`efs-sc`");
    let found = on(&Cluster { platform: Platform::Aks, ..Cluster::default() }, &claim, "");
    assert!(found.iter().all(|finding| finding.rule != "class-of-storage"), "{found:#?}");
}

#[test]
fn a_way_out_is_one() {
    let check = |rule: &str, model: &str, others: &str| {
        let found = findings(model, others);
        assert!(found.iter().all(|finding| finding.rule != rule), "{rule}: {found:#?}");
    };
    let (good, fast) = (good(), fleet("hardware: h100-sxm, nodes: 4, fastNetwork: true"));
    check("slow-network", &format!("{good}, parallelism: {{tensor: 8, pipeline: 2}}"), &fast);
    check("tensor-parallel-over-nodes", &format!("{good}, parallelism: {{tensor: 16}}"), &fast);
    let full = fleet("hardware: h100-sxm, nodes: 2");
    let giving =
        format!("{good}, parallelism: {{tensor: 8}}, updates: {{surge: 0, unavailable: 1}}");
    check("no-room-to-replace", &giving, &full);
    let spot = fleet("hardware: h100-sxm, spot: true");
    check("spot-without-floor", &good, &(spot + &route("fallbacks: [e]") + ELSEWHERE));
    let cold = format!("{good}, scaling: {{min: 0, max: 2, zero: cold}}");
    let patient = route("timeouts: {queueSeconds: 3600}");
    check("cold-start-outlasts-queue", &cold, &(fast + &patient));
}

#[test]
fn errors_come_first_and_findings_read_well() {
    let found = findings(
        "source: 'hf:o/r', runtime: vllm, parallelism: {tensor: 8}, replicas: 9",
        &fleet("hardware: h100-sxm, nodes: 8"),
    );
    let text: Vec<String> = found.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!("findings", text.join("\n\n"));
}
