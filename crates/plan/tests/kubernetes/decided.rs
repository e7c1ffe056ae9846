//! What is decided for a Model beyond what it says: where it runs, what it asks for, whom it may reach.

use pilotage_plan::parse_all;
use pilotage_plan::render::kubernetes::install::{self, Installation};
use pilotage_plan::render::kubernetes::{Cluster, Mesh, Platform, Rendered, render};
use serde_json::{Value, json};

const HEAD: &str = "apiVersion: pilotage.dev/v1alpha1\nkind: ";

fn fleet(name: &str, spec: &str) -> String {
    format!("{HEAD}Fleet\nmetadata: {{name: {name}}}\nspec: {{kind: nodes, {spec}}}\n")
}

fn rendered(cluster: &Cluster, spec: &str, fleets: &[String]) -> Rendered {
    let model = format!("{HEAD}Model\nmetadata: {{name: m}}\nspec: {{{spec}}}\n");
    let text: Vec<&str> = std::iter::once(&model).chain(fleets).map(String::as_str).collect();
    render(&parse_all([("m.yaml", text.join("---\n").as_str())]).unwrap(), cluster).unwrap()
}

fn of<'a>(rendered: &'a Rendered, kind: &str) -> &'a Value {
    rendered.objects.iter().find(|object| object.kind() == kind).unwrap().value()
}

fn pod(cluster: &Cluster, spec: &str, fleets: &[String]) -> Value {
    of(&rendered(cluster, spec, fleets), "Deployment")["spec"]["template"].clone()
}

fn asked(pod: &Value) -> &Value {
    &pod["spec"]["containers"][0]["resources"]
}

const VLLM: &str = "source: 'hf:o/r', runtime: vllm, sizeBytes: 16000000000";

#[test]
fn a_fleet_moves_nobody_who_does_not_name_it() {
    let plain = Cluster::default();
    let fleets = [fleet("a", "hardware: h100-sxm, perNode: 8"), fleet("b", "hardware: l4")];
    for spec in
        [VLLM, "source: 'https://h/w.gguf'", "source: 'https://h/w.gguf', runtime: llama.cpp"]
    {
        let alone = rendered(&plain, spec, &[]);
        assert_eq!(rendered(&plain, spec, &fleets[..1]), alone, "{spec}");
        assert_eq!(rendered(&plain, spec, &fleets), alone, "{spec}");
        let named = format!("{spec}, fleet: a");
        assert_ne!(rendered(&plain, &named, &fleets), alone, "{spec}");
    }
    // The engine of the laptop stays on processors.
    let pod = pod(&plain, "source: 'https://h/w.gguf'", &fleets[..1]);
    assert_eq!(asked(&pod)["requests"]["nvidia.com/gpu"], Value::Null);
    assert_eq!(pod["spec"]["nodeSelector"], Value::Null);
}

#[test]
fn nodes_are_those_of_the_class_and_of_no_smaller_one() {
    let find = |platform, hardware: &str, more: &str| {
        let cluster = Cluster { platform, ..Cluster::default() };
        let fleets = [fleet("f", &format!("hardware: {hardware}{more}"))];
        let spec = pod(&cluster, &format!("{VLLM}, fleet: f"), &fleets)["spec"].clone();
        let terms = &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
            ["nodeSelectorTerms"];
        (spec["nodeSelector"].clone(), terms.as_array().cloned().unwrap_or_default())
    };
    /// Whether a node with labels is one of those.
    fn fits((selector, terms): &(Value, Vec<Value>), labels: &Value) -> bool {
        let has = |(key, value): (&String, &Value)| labels[key] == *value;
        let holds = |one: &Value| {
            let label = labels[one["key"].as_str().unwrap()].as_str().unwrap_or_default();
            let number = |text: &str| text.parse::<i64>().ok();
            let bound = one["values"][0].as_str().unwrap();
            match one["operator"].as_str().unwrap() {
                "In" => label == bound,
                "Gt" => number(label) > number(bound),
                "Lt" => number(label).is_some_and(|label| Some(label) < number(bound)),
                other => panic!("{other}"),
            }
        };
        let all = |term: &Value| term["matchExpressions"].as_array().unwrap().iter().all(holds);
        selector.as_object().into_iter().flatten().all(has)
            && (terms.is_empty() || terms.iter().any(all))
    }
    let gfd = |family: &str, memory: &str| json!({"nvidia.com/gpu.family": family, "nvidia.com/gpu.memory": memory});
    let large = find(Platform::Plain, "a100-80", "");
    assert!(fits(&large, &gfd("ampere", "81920")));
    // A100 with 40 GB, A40, A10, and one that says no size.
    for memory in ["40960", "46068", "23028", ""] {
        assert!(!fits(&large, &gfd("ampere", memory)), "{memory}");
    }
    assert!(!fits(&large, &gfd("hopper", "81559")));
    assert!(fits(&find(Platform::OpenShift, "h200", ""), &gfd("hopper", "143771")));
    let aws = |whose: &str, name: &str, memory: &str| json!({format!("{whose}/instance-gpu-name"): name, format!("{whose}/instance-gpu-memory"): memory});
    for whose in ["karpenter.k8s.aws", "eks.amazonaws.com"] {
        let small = find(Platform::Eks, "a100-40", "");
        assert!(fits(&small, &aws(whose, "a100", "40960")));
        assert!(!fits(&small, &aws(whose, "a100", "81920")));
        assert!(fits(&find(Platform::Eks, "a10g", ""), &aws(whose, "a10g", "24576")));
    }
    // Who says how nodes are labelled is taken at the word, and knows spot nodes by it, too.
    let said = find(Platform::Eks, "a100-40", ", nodeSelector: {pool: gpu}, spot: true");
    assert_eq!(said, (json!({"pool": "gpu"}), Vec::new()));
    let spot = find(Platform::Eks, "l4", ", spot: true").0;
    assert_eq!(spot, json!({"karpenter.sh/capacity-type": "spot"}));
}

#[test]
fn weights_come_from_the_ports_of_their_sources() {
    let spec = "source: 'https://files.internal:8443/w.gguf'";
    let adapters = format!("{VLLM}, adapterSources: {{sql: 'oci://registry:5000/a/b:c'}}");
    let ports = |rendered: &Rendered| {
        let egress = of(rendered, "NetworkPolicy")["spec"]["egress"].clone();
        let last = egress.as_array().unwrap().last().unwrap()["ports"].clone();
        last.as_array().unwrap().iter().map(|one| one["port"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(ports(&rendered(&Cluster::default(), spec, &[])), [443, 8443]);
    assert_eq!(ports(&rendered(&Cluster::default(), &adapters, &[])), [443, 5000]);
    assert_eq!(ports(&rendered(&Cluster::default(), "source: 'hf:o/r/w.gguf'", &[])), [443]);
    let key = |mesh| match mesh {
        Mesh::Istio => "traffic.sidecar.istio.io/excludeOutboundPorts",
        Mesh::Linkerd => "config.linkerd.io/skip-outbound-ports",
    };
    for mesh in Mesh::ALL {
        let cluster = Cluster { mesh: Some(mesh), ..Cluster::default() };
        let past =
            |spec: &str| pod(&cluster, spec, &[])["metadata"]["annotations"][key(mesh)].clone();
        assert_eq!(past(spec), "443,8443");
        assert_eq!(past(&adapters), "443", "another list of adapters is no other pod");
    }
}

#[test]
fn what_is_asked_for_fits_and_is_enough() {
    let cpu = |spec: &str| asked(&pod(&Cluster::default(), spec, &[]))["requests"]["cpu"].clone();
    // Machines with one accelerator have four processors, of which pods get a part.
    assert_eq!(cpu(VLLM), "3");
    assert_eq!(cpu(&format!("{VLLM}, parallelism: {{tensor: 2}}")), "8");
    assert_eq!(cpu(&format!("{VLLM}, podTemplate: {{cpuMillis: 6000}}")), "6");
    let memory = |zero: &str| {
        let spec = format!(
            "source: 'hf:o/r', runtime: vllm, sizeBytes: 17179869184, scaling: {{max: 2, zero: {zero}}}"
        );
        let limit = asked(&pod(&Cluster::default(), &spec, &[]))["limits"]["memory"].clone();
        limit.as_str().unwrap().trim_end_matches("Gi").parse::<u64>().unwrap()
    };
    // One that sleeps holds 16 GiB of weights beside its own.
    assert_eq!(memory("warm"), memory("always") + 16);
    let intel = [fleet("f", "hardware: arc-b60"), fleet("g", "hardware: max-1550")];
    let limits = |of: &str| {
        let spec = format!("{VLLM}, image: 'corp/vllm:1', fleet: {of}");
        asked(&pod(&Cluster::default(), &spec, &intel))["limits"].clone()
    };
    assert_eq!(limits("f")["gpu.intel.com/xe"], "1");
    assert_eq!(limits("g")["gpu.intel.com/i915"], "1");
}

/// An object of an installation.
fn part(installation: &Installation, kind: &str, name: &str) -> Value {
    let all = install::objects(installation);
    let found = all.iter().find(|object| object.kind() == kind && object.name() == name);
    found.unwrap().value().clone()
}

#[test]
fn keda_reaches_the_operator_however_it_was_installed() {
    let policy = part(&Installation::default(), "NetworkPolicy", "pilotage-operator");
    let rules = policy["spec"]["ingress"].as_array().unwrap();
    let rule = rules.iter().find(|rule| rule["ports"][0]["port"] == "scaler").unwrap();
    let reaches = |labels: &Value| {
        rule["from"].as_array().unwrap().iter().any(|peer| {
            let mut wanted = peer["podSelector"]["matchLabels"].as_object().unwrap().iter();
            wanted.all(|(key, value)| labels[key] == *value)
        })
    };
    let by_chart = json!({"app": "keda-operator", "name": "keda-operator", "app.kubernetes.io/name": "keda-operator", "app.kubernetes.io/part-of": "keda-operator"});
    let by_manifests = json!({"app": "keda-operator", "name": "keda-operator"});
    assert!(reaches(&by_chart) && reaches(&by_manifests));
    assert!(!reaches(&json!({"app": "other"})));
}

#[test]
fn ports_that_are_asked_from_outside_are_past_istio() {
    let cluster = |mesh| Cluster { mesh: Some(mesh), ..Installation::default().cluster };
    for (name, expect) in [("pilotage-gateway", "8081"), ("pilotage-operator", "6443,8081,9090")] {
        let annotations = |mesh| {
            let installation = Installation {
                cluster: cluster(mesh),
                external_metrics: true,
                ..Installation::default()
            };
            part(&installation, "Deployment", name)["spec"]["template"]["metadata"]["annotations"]
                .clone()
        };
        let istio = annotations(Mesh::Istio);
        assert_eq!(istio["traffic.sidecar.istio.io/excludeInboundPorts"], expect, "{name}");
        let linkerd = annotations(Mesh::Linkerd);
        assert_eq!(linkerd["config.linkerd.io/skip-inbound-ports"], Value::Null, "{name}");
    }
}

#[test]
fn nodes_of_a_copy_are_together_and_copies_apart() {
    let fleets = [fleet("f", "hardware: h100-sxm, perNode: 8, fastNetwork: true")];
    let spec = format!("{VLLM}, parallelism: {{tensor: 8, pipeline: 2}}, replicas: 2, fleet: f");
    let matches = |selector: &Value, labels: &Value| {
        selector["matchLabels"].as_object().unwrap().iter().all(|(key, one)| labels[key] == *one)
    };
    let groups = Cluster::default();
    let mut pairs = groups.clone();
    pairs.has.leader_worker_set = false;
    let all = rendered(&pairs, &spec, &fleets);
    let sets = all.objects.iter().filter(|one| one.kind() == "StatefulSet");
    let pods: Vec<&Value> = sets.map(|one| &one.value()["spec"]["template"]).collect();
    assert_eq!(pods.len(), 4);
    for pod in &pods {
        let near = &pod["spec"]["affinity"]["podAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
            [0]["podAffinityTerm"];
        assert_eq!(near["topologyKey"], "topology.kubernetes.io/zone");
        let of = |pod: &Value| pod["metadata"]["labels"]["pilotage.dev/copy"].clone();
        for other in &pods {
            let is_near = matches(&near["labelSelector"], &other["metadata"]["labels"]);
            assert_eq!(is_near, of(pod) == of(other));
        }
        let apart = pod["spec"]["topologySpreadConstraints"].as_array();
        let serves = pod["metadata"]["labels"]["pilotage.dev/role"] == "serves";
        assert_eq!(apart.map(Vec::len), serves.then_some(2));
        // The one that serves stands for its copy.
        let counted = apart.into_iter().flatten().map(|one| {
            let all = pods.iter().map(|pod| &pod["metadata"]["labels"]);
            all.filter(|labels| matches(&one["labelSelector"], labels)).count()
        });
        assert!(counted.into_iter().all(|count| count == 2));
    }
    let all = rendered(&groups, &spec, &fleets);
    let group = &of(&all, "LeaderWorkerSet")["spec"]["leaderWorkerTemplate"];
    let apart = group["leaderTemplate"]["spec"]["topologySpreadConstraints"].as_array().unwrap();
    assert_eq!(apart.len(), 2);
    assert_eq!(
        apart[0]["matchLabelKeys"],
        json!(["leaderworkerset.sigs.k8s.io/template-revision-hash"])
    );
    assert_eq!(group["workerTemplate"]["spec"]["topologySpreadConstraints"], Value::Null);
}
