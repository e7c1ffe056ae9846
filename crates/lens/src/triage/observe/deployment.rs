//! Which series of a Prometheus server, which may watch all that a company runs, are about one deployment: the
//! replicas of one model in one namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::replica_label;
use super::series::Series;

/// Labels with a namespace: what an exporter tells of comes before the exporter's own.
const NAMESPACES: [&str; 3] = ["exported_namespace", "namespace", "kubernetes_namespace"];

/// Labels with the name of what has pods.
const WORKLOADS: [&str; 2] = ["deployment", "statefulset"];

/// Replicas of one model that belong together.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Deployment {
    /// The model that they say that they have; none where they do not say.
    pub model: Option<String>,
    /// Where they run, where that is known.
    pub namespace: Option<String>,
}

impl fmt::Display for Deployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.model {
            Some(model) => write!(f, "`{model}`")?,
            None => f.write_str("servers that name no model")?,
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None => Ok(()),
        }
    }
}

/// An engine's namespace and its name.
type Name = (Option<String>, String);

/// What there is, the one first that has most to do. Where no engine is seen, what the gateway has lanes for.
pub fn deployments(engines: &[Series], gateway: &[Series]) -> Vec<Deployment> {
    let mut busy: BTreeMap<Deployment, f64> = BTreeMap::new();
    for ((namespace, _), series) in by_engine(engines) {
        let load: f64 = series
            .iter()
            .filter(|one| one.name.contains("running"))
            .filter_map(|one| one.mean())
            .sum();
        for model in models(&series) {
            let of = Deployment { model: model.map(str::to_owned), namespace: namespace.clone() };
            *busy.entry(of).or_default() += load;
        }
    }
    if busy.is_empty() {
        let lanes: BTreeSet<&String> =
            gateway.iter().filter_map(|one| one.labels.get("lane")).collect();
        let of = |lane: &String| Deployment { model: Some(lane.clone()), namespace: None };
        return lanes.into_iter().map(of).collect();
    }
    let mut all: Vec<(Deployment, f64)> = busy.into_iter().collect();
    all.sort_by(|left, right| right.1.total_cmp(&left.1));
    all.into_iter().map(|(of, _)| of).collect()
}

/// The engines of a deployment with their series.
pub(super) fn engines(engines: &[Series], of: &Deployment) -> BTreeMap<Name, Vec<Series>> {
    let mut found = BTreeMap::new();
    for (name, series) in by_engine(engines) {
        let is_here = of.namespace.is_none() || name.0 == of.namespace;
        if is_here && models(&series).contains(&of.model.as_deref()) {
            found.insert(name, series.into_iter().cloned().collect());
        }
    }
    found
}

/// All engines: a process may be anybody's.
fn by_engine(engines: &[Series]) -> BTreeMap<Name, Vec<&Series>> {
    let mut found: BTreeMap<Name, Vec<&Series>> = BTreeMap::new();
    for one in engines {
        if let Some(name) = replica_label(&one.labels) {
            let namespace = namespace(one).map(str::to_owned);
            found.entry((namespace, name.to_owned())).or_default().push(one);
        }
    }
    found.retain(|_, series| series.iter().any(|one| !one.name.starts_with("process_")));
    found
}

/// The models of one engine; none of them has a name where it says none.
fn models<'a>(series: &[&'a Series]) -> BTreeSet<Option<&'a str>> {
    let named = series.iter().filter_map(|one| one.labels.get("model_name"));
    let named: BTreeSet<Option<&str>> = named.map(|name| Some(name.as_str())).collect();
    if named.is_empty() { BTreeSet::from([None]) } else { named }
}

/// Whether a series is about something in one of these namespaces, as far as anybody says.
pub(super) fn is_in(one: &Series, place: &Option<String>) -> bool {
    place.as_deref().zip(namespace(one)).is_none_or(|(place, own)| place == own)
}

fn namespace(one: &Series) -> Option<&str> {
    NAMESPACES.iter().find_map(|name| one.labels.get(*name)).map(String::as_str)
}

/// The gateway's series that are about these engines or about no lane. A lane is theirs by its replicas, or by the
/// name of the model; where neither is there, whose lanes they are is unknown.
pub(super) fn gateway(all: &[Series], model: Option<&str>, names: &BTreeSet<&str>) -> Vec<Series> {
    let is_own = |replica: &str| {
        names.contains(replica)
            || replica.split_once('@').is_some_and(|(_, name)| names.contains(name))
    };
    let mut lanes: BTreeSet<&str> = all
        .iter()
        .filter(|one| one.labels.get("replica").is_some_and(|replica| is_own(replica)))
        .filter_map(|one| one.labels.get("lane"))
        .map(String::as_str)
        .collect();
    lanes.extend(model);
    let is_kept =
        |one: &&Series| one.labels.get("lane").is_none_or(|lane| lanes.contains(lane.as_str()));
    all.iter().filter(is_kept).cloned().collect()
}

/// What a cluster says of the workloads and pods that these engines are of.
pub(super) fn cluster(all: &[Series], engines: &BTreeSet<&Name>) -> Vec<Series> {
    let label =
        |one: &Series, names: &[&str]| names.iter().find_map(|name| one.labels.get(*name)).cloned();
    let workloads: BTreeSet<Name> = all
        .iter()
        .filter_map(|one| Some((namespace(one).map(str::to_owned), label(one, &WORKLOADS)?)))
        .collect();
    // A pod's name begins with that of what made it; of several the longest. Else all but its last part.
    let owner = |(place, pod): &Name| -> Name {
        let is_its = |(own, name): &&Name| {
            (own.is_none() || place.is_none() || own == place)
                && pod.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('-'))
        };
        let longest = workloads.iter().filter(is_its).max_by_key(|(_, name)| name.len());
        let name = longest.map_or_else(
            || pod.rsplit_once('-').map_or(pod.as_str(), |(stem, _)| stem),
            |(_, name)| name.as_str(),
        );
        (place.clone(), name.to_owned())
    };
    let own: BTreeSet<Name> = engines.iter().map(|name| owner(name)).collect();
    let is_own = |place: &Option<String>, name: &str| {
        own.iter().any(|(own, workload)| {
            (own.is_none() || place.is_none() || own == place) && workload == name
        })
    };
    let is_kept = |one: &&Series| {
        let place = namespace(one).map(str::to_owned);
        if let Some(workload) = label(one, &WORKLOADS) {
            return is_own(&place, &workload);
        }
        let Some(pod) = label(one, &["exported_pod", "pod"]) else { return false };
        let (place, name) = owner(&(place, pod));
        is_own(&place, &name)
    };
    all.iter().filter(is_kept).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::super::series::series;
    use super::*;

    fn running(namespace: &str, pod: &str, model: &str, running: f64) -> Series {
        let labels = [("namespace", namespace), ("pod", pod), ("model_name", model)];
        let labels = &labels[..if model.is_empty() { 2 } else { 3 }];
        series("vllm:num_requests_running", labels, &[running])
    }

    #[test]
    fn models_and_namespaces_are_told_apart() {
        let all = [
            running("prod", "a-0", "a", 3.0),
            running("prod", "a-1", "a", 3.0),
            running("test", "a-0", "a", 5.0),
            running("prod", "t-0", "", 1.0),
            series("process_cpu_seconds_total", &[("pod", "node")], &[1.0]),
        ];
        let found = deployments(&all, &[]);
        let told: Vec<String> = found.iter().map(ToString::to_string).collect();
        let expect = [
            "`a` in namespace prod",
            "`a` in namespace test",
            "servers that name no model in namespace prod",
        ];
        assert_eq!(told, expect);
        let sizes: Vec<usize> = found.iter().map(|of| engines(&all, of).len()).collect();
        assert_eq!(sizes, [2, 1, 1]);
    }

    #[test]
    fn without_engines_there_are_lanes() {
        let lanes = [
            series("pilotage_requests_total", &[("lane", "x")], &[1.0]),
            series("pilotage_requests_total", &[("lane", "y")], &[1.0]),
        ];
        let found = deployments(&[], &lanes);
        let told: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["`x`", "`y`"]);
    }

    #[test]
    fn lanes_are_those_of_the_engines() {
        let of = |labels: &[(&str, &str)]| series("pilotage_x", labels, &[1.0]);
        let all = [
            of(&[]),
            of(&[("lane", "m")]),
            of(&[("lane", "n")]),
            of(&[("lane", "alias"), ("replica", "alias@m-0")]),
            of(&[("lane", "alias")]),
        ];
        let check = |model: Option<&str>, names: &[&str], expect: &[usize]| {
            let names = names.iter().copied().collect();
            let expect: Vec<Series> = expect.iter().map(|at| all[*at].clone()).collect();
            assert_eq!(gateway(&all, model, &names), expect, "{model:?} {names:?}");
        };
        check(Some("m"), &["m-1"], &[0, 1]);
        check(Some("owner/M"), &["m-0"], &[0, 3, 4]);
        check(Some("owner/M"), &["m-1"], &[0]);
        check(None, &[], &[0]);
    }

    #[test]
    fn of_a_cluster_own_workloads_and_pods_count() {
        let of = |labels: &[(&str, &str)]| series("kube_x", labels, &[1.0]);
        let all = [
            of(&[("namespace", "llm"), ("deployment", "m")]),
            of(&[("namespace", "llm"), ("deployment", "m-draft")]),
            of(&[("namespace", "shop"), ("deployment", "m")]),
            of(&[("namespace", "llm"), ("pod", "m-5d4c-new")]),
            of(&[("namespace", "llm"), ("pod", "m-draft-5d4c-x")]),
            of(&[("namespace", "llm"), ("pod", "web-5d4c-x")]),
            of(&[("namespace", "kube"), ("exported_namespace", "llm"), ("pod", "bare-1")]),
        ];
        let check = |place: Option<&str>, pods: &[&str], expect: &[usize]| {
            let names: Vec<Name> =
                pods.iter().map(|pod| (place.map(str::to_owned), (*pod).to_owned())).collect();
            let expect: Vec<Series> = expect.iter().map(|at| all[*at].clone()).collect();
            assert_eq!(cluster(&all, &names.iter().collect()), expect, "{place:?} {pods:?}");
        };
        check(Some("llm"), &["m-5d4c-a"], &[0, 3]);
        check(Some("llm"), &["m-draft-5d4c-a"], &[1, 4]);
        check(Some("llm"), &["bare-0"], &[6]);
        check(None, &["m-5d4c-a"], &[0, 2, 3]);
        check(Some("llm"), &["10.0.0.1:8000"], &[]);
        check(Some("llm"), &[], &[]);
    }
}
