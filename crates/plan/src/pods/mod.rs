//! Pods that serve Models: which there are, where they are reached, and which of them get new work.
//!
//! A gateway on Kubernetes knows its replicas by the EndpointSlices of Models' Services, which say all that
//! is told here, and by nothing else. Pure: slices come in as the API server has them.

mod object;
mod slices;

use core::net::IpAddr;
use std::collections::BTreeMap;

use serde::Serialize;

use crate::Ground;
use crate::api::{Dialect, Fleet, Model};
use crate::lane::{EndpointSpec, Written};
use crate::launch::Engine;
use crate::render::kubernetes::name;

pub use object::pod;
pub use slices::{Slice, pods};

/// Most pods of one Model: more than any cluster has nodes with accelerators.
pub const PODS_MAX: usize = 5_000;

/// The label of a slice with the name of its Service.
pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// What slices of Models' Services are selected by: the labels of their Services.
pub const SELECTOR: &str = "app.kubernetes.io/component=engine,app.kubernetes.io/part-of=pilotage";

/// A pod that takes requests.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pod {
    /// Its name, or its address where nobody says one.
    pub name: String,
    /// What tells it from another one of its name, later.
    pub uid: String,
    /// Where it is reached.
    pub address: IpAddr,
    /// Its ports by name.
    pub ports: BTreeMap<String, u16>,
    /// The zone of its node.
    pub zone: Option<String>,
    /// Its node.
    pub node: Option<String>,
    /// Zones that are to use it, where the cluster says.
    pub near: Vec<String>,
    /// Whether it gets work.
    pub stage: Stage,
}

/// Whether a pod gets work; the better one of two slices that differ counts.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Not yet, or not at the moment: what runs there goes on.
    Unready,
    /// It is about to end: what runs there goes on, as long as it can.
    Leaving,
    /// It does.
    Ready,
}

/// What an endpoint has that is a pod.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSpec {
    /// Which one: a pod that is started anew is another one.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// Its namespace, where whoever reaches it knows that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Whether it gets work.
    pub stage: Stage,
    /// Zones that are to use it, where the cluster says.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<String>,
    /// Whose metrics it tells.
    pub metrics_of: Dialect,
}

/// The name of the Service of a Model's pods.
pub fn service(model: &str) -> String {
    name::label(model, "engines")
}

/// The name of the Service of the pods of one of a Model's versions.
pub fn service_of(model: &str, revision: &str) -> String {
    name::label(model, &format!("{revision}-engines"))
}

/// The entry of a Model in the Secret with all keys between gateway and engines.
pub fn key_entry(namespace: &str, model: &str) -> String {
    format!("{namespace}.{model}")
}

/// The entry of a region's gateways there, which all Models have in common. No namespace has such a name.
pub fn key_entry_of_region(region: &str) -> String {
    format!("region_{region}")
}

/// The ports of pods by which they are asked.
const HTTP: &str = "http";
const METRICS: &str = "metrics";
const KV_EVENTS: &str = "kv-events";

/// The endpoints of a Model that are these pods. One without a port for requests is none.
pub(crate) fn endpoints(model: &Model, fleet: Option<&Fleet>, pods: &[Pod]) -> Vec<EndpointSpec> {
    let pods = pods.iter().take(PODS_MAX);
    if !model.spec.is_pool() {
        let ground = Ground::of_copy(model, fleet);
        let on = |spec| EndpointSpec { ground: ground.clone(), ..spec };
        return pods.filter_map(|pod| endpoint(model, pod).map(on)).collect();
    }
    let ports = &model.spec.pool_ports;
    let at = |pod: &Pod, port: u16| {
        let mut pod = pod.clone();
        pod.ports = BTreeMap::from([(HTTP.to_owned(), port)]);
        let mut spec = endpoint(model, &pod)?;
        if ports.len() > 1 {
            spec.name = format!("{}:{port}", spec.name);
        }
        Some(spec)
    };
    pods.flat_map(|pod| ports.iter().filter_map(move |port| at(pod, *port))).collect()
}

fn endpoint(model: &Model, pod: &Pod) -> Option<EndpointSpec> {
    let spec = &model.spec;
    let dialect = spec.dialect();
    let host = match pod.address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    let at = |name: &str| Some(format!("{host}:{}", pod.ports.get(name)?));
    let metrics_of = spec.engine().map_or(dialect, Engine::metrics_of);
    let metrics = |at: String| {
        let path = metrics_of.wire().differences().paths.metrics?;
        Some(format!("http://{at}{path}"))
    };
    Some(EndpointSpec {
        name: format!("{}@{}", model.name(), pod.name),
        lane: model.name().to_owned(),
        url: format!("http://{}", at(HTTP)?),
        key: None,
        ca_file: None,
        region: spec.region.as_ref().map(ToString::to_string),
        zone: pod.zone.clone(),
        slots: spec.parallel,
        kv_tokens: None,
        kv_events: at(KV_EVENTS).map(|at| format!("tcp://{at}")),
        metrics_url: at(METRICS).and_then(metrics),
        // The name was said to them at their start.
        finds_name: spec.source.is_none()
            && spec.served_model.is_none()
            && dialect.lists_its_name(),
        gateway: false,
        pod: Some(PodSpec {
            uid: pod.uid.clone(),
            name: pod.name.clone(),
            namespace: None,
            node: pod.node.clone(),
            stage: pod.stage,
            near: pod.near.clone(),
            metrics_of,
        }),
        ground: Ground::default(),
        written: Written::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Plan, Resource, parse_all, serve};

    fn pod(name: &str, ports: &[(&str, u16)]) -> Pod {
        Pod {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            address: "10.0.0.1".parse().unwrap(),
            ports: ports.iter().map(|(name, port)| ((*name).to_owned(), *port)).collect(),
            zone: Some("a".to_owned()),
            node: None,
            near: Vec::new(),
            stage: Stage::Ready,
        }
    }

    fn resources(specs: &[(&str, &str)]) -> Vec<Resource> {
        let one = |(name, spec): &(&str, &str)| {
            format!(
                "{{apiVersion: pilotage.dev/v1alpha1, kind: Model, metadata: {{name: {name}}}, spec: {{{spec}}}}}"
            )
        };
        let texts: Vec<String> = specs.iter().map(one).collect();
        parse_all(texts.iter().map(|text| ("f", text.as_str()))).unwrap()
    }

    fn served(specs: &[(&str, &str)], pods: &[(&str, Pod)]) -> Plan {
        let mut by_model: BTreeMap<String, Vec<Pod>> = BTreeMap::new();
        for (model, pod) in pods {
            by_model.entry((*model).to_owned()).or_default().push(pod.clone());
        }
        serve(&resources(specs), &by_model).unwrap()
    }

    #[test]
    fn pods_are_endpoints_of_their_model() {
        let check = |spec: &str, ports: &[(&str, u16)], expect: Option<[&str; 3]>| {
            let plan = served(&[("m", spec)], &[("m", pod("m-0", ports))]);
            assert!(plan.processes.is_empty(), "they run elsewhere");
            let told = plan.endpoints.first().map(|one| {
                let text = |said: &Option<String>| said.clone().unwrap_or_default();
                [one.url.clone(), text(&one.kv_events), text(&one.metrics_url)]
            });
            assert_eq!(told, expect.map(|each| each.map(str::to_owned)), "{spec}");
        };
        let vllm = "source: 'hf:o/m', runtime: vllm, parallel: 7";
        check(
            vllm,
            &[("http", 8000), ("kv-events", 5557)],
            Some(["http://10.0.0.1:8000", "tcp://10.0.0.1:5557", ""]),
        );
        check(vllm, &[("metrics", 8000)], None);
        check(
            "source: 'hf:o/m', runtime: triton",
            &[("http", 8000), ("metrics", 8002)],
            Some(["http://10.0.0.1:8000", "", "http://10.0.0.1:8002/metrics"]),
        );
    }

    #[test]
    fn a_model_is_served_with_what_its_manifest_says() {
        let spec = "source: 'hf:o/m', runtime: vllm, parallel: 7, region: oslo, context: 4096";
        let elsewhere = "endpoints: [{url: 'http://h:1'}]";
        let plan = served(&[("m", spec), ("e", elsewhere)], &[("m", pod("m-0", &[("http", 1)]))]);
        let names: Vec<&str> = plan.endpoints.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["e@h:1", "m@m-0"]);
        let found = &plan.endpoints[1];
        assert_eq!((found.slots, found.finds_name), (7, false));
        assert_eq!((found.region.as_deref(), found.zone.as_deref()), (Some("oslo"), Some("a")));
        let lanes: Vec<_> = plan.lanes.iter().map(|lane| (&*lane.name, &lane.replicas)).collect();
        assert_eq!(lanes, [("e", &vec!["e@h:1".to_owned()]), ("m", &Vec::new())]);
    }

    #[test]
    fn gateways_of_other_regions_stand_beside_pods() {
        let spec = "source: 'hf:o/m', runtime: vllm, region: oslo, endpoints: [{url: 'https://paris', region: paris, gateway: true}]";
        let plan = served(&[("m", spec)], &[("m", pod("m-0", &[("http", 1)]))]);
        let told = |one: &EndpointSpec| {
            (one.name.clone(), one.gateway, one.metrics_url.clone(), one.finds_name)
        };
        let told: Vec<_> = plan.endpoints.iter().map(told).collect();
        let owned = |name: &str, gateway| (name.to_owned(), gateway, None, false);
        assert_eq!(told, [owned("m@paris", true), owned("m@m-0", false)]);
        let regions: Vec<_> = plan.endpoints.iter().map(|one| one.region.as_deref()).collect();
        assert_eq!(regions, [Some("paris"), Some("oslo")]);
    }

    #[test]
    fn a_cluster_without_models_is_served_too() {
        assert_eq!(serve(&[], &BTreeMap::new()).unwrap(), Plan::default());
    }
}
