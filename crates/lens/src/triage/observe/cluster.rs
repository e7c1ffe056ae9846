//! What kube-state-metrics says of deployments and pods, or our own operator and `pilotage up` of copies.

use std::collections::BTreeMap;

use super::super::evidence::Cluster;
use super::series::{Point, Seen, Series};

const DESIRED: &[&str] =
    &["kube_deployment_spec_replicas", "kube_statefulset_replicas", "pilotage_replicas_wanted"];
const READY: &[&str] = &[
    "kube_deployment_status_replicas_ready",
    "kube_statefulset_status_replicas_ready",
    "pilotage_replicas_up",
];

pub(super) fn cluster(seen: &Seen<'_>, until_s: f64) -> Cluster {
    let (desired, ready) = (total(&seen.of(DESIRED, None)), total(&seen.of(READY, None)));
    let newest = |points: &[Point]| points.last().map(|point| point.value);
    let reasons = reasons(seen);
    let unscheduled = seen.newest_sum(&["kube_pod_status_unschedulable"]);
    Cluster {
        desired: newest(&desired),
        ready: newest(&ready),
        pending: unscheduled,
        short_s: short_s(&desired, &ready, until_s),
        restarts: seen.grown(&["kube_pod_container_status_restarts_total"], None),
        reasons: (!reasons.is_empty()).then_some(reasons),
        ..Cluster::default()
    }
}

/// Several series added up, at the times of the first.
fn total(all: &[&Series]) -> Vec<Point> {
    let Some((first, others)) = all.split_first() else { return Vec::new() };
    let at = |series: &Series, at_s: f64| {
        series.points.iter().rev().find(|point| point.at_s <= at_s).map_or(0.0, |point| point.value)
    };
    let sum = |point: &Point| Point {
        at_s: point.at_s,
        value: point.value + others.iter().map(|other| at(other, point.at_s)).sum::<f64>(),
    };
    first.points.iter().map(sum).collect()
}

/// For how long there have been fewer ready than wanted, until now.
fn short_s(desired: &[Point], ready: &[Point], until_s: f64) -> Option<f64> {
    if desired.is_empty() {
        return None;
    }
    let wanted =
        |at_s: f64| desired.iter().rev().find(|one| one.at_s <= at_s).or_else(|| desired.first());
    let is_short = |one: &&Point| wanted(one.at_s).is_some_and(|wanted| one.value < wanted.value);
    let since = ready.iter().rev().take_while(is_short).last();
    (!ready.is_empty()).then(|| since.map_or(0.0, |since| (until_s - since.at_s).max(0.0)))
}

/// Why pods do not run, with how many.
fn reasons(seen: &Seen<'_>) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    for one in seen.of(&["kube_pod_container_status_waiting_reason"], None) {
        let count = one.last().map_or(0.0, |point| point.value);
        if let Some(reason) = one.labels.get("reason").filter(|_| count > 0.0) {
            *found.entry(reason.clone()).or_insert(0.0) += count;
        }
    }
    found
}

impl Seen<'_> {
    /// The newest values of all series together.
    fn newest_sum(&self, names: &[&str]) -> Option<f64> {
        let last: Vec<f64> = self
            .of(names, None)
            .into_iter()
            .filter_map(Series::last)
            .map(|one| one.value)
            .collect();
        (!last.is_empty()).then(|| last.iter().sum())
    }
}

#[cfg(test)]
mod tests {
    use super::super::series::series;
    use super::*;

    #[test]
    fn a_lack_lasts_since_it_began() {
        let check = |ready: &[f64], expect: f64| {
            let all = [
                series("kube_deployment_spec_replicas", &[], &[4.0, 6.0, 6.0, 6.0]),
                series("kube_deployment_status_replicas_ready", &[], ready),
            ];
            let cluster = cluster(&Seen(&all), 20.0);
            assert_eq!(cluster.short_s, Some(expect), "{ready:?}");
            assert_eq!(cluster.desired, Some(6.0));
        };
        check(&[4.0, 4.0, 4.0, 4.0], 15.0);
        check(&[4.0, 6.0, 5.0, 5.0], 10.0);
        check(&[4.0, 4.0, 4.0, 6.0], 0.0);
        assert_eq!(cluster(&Seen(&[]), 20.0), Cluster::default());
    }

    #[test]
    fn deployments_add_up() {
        let all = [
            series("kube_deployment_spec_replicas", &[("deployment", "a")], &[2.0]),
            series("kube_deployment_spec_replicas", &[("deployment", "b")], &[3.0]),
            series(
                "kube_pod_container_status_waiting_reason",
                &[("reason", "ImagePullBackOff")],
                &[1.0],
            ),
        ];
        let cluster = cluster(&Seen(&all), 5.0);
        assert_eq!(cluster.desired, Some(5.0));
        assert_eq!(cluster.reasons, Some(BTreeMap::from([("ImagePullBackOff".to_owned(), 1.0)])));
        assert_eq!(cluster.ready, None);
    }
}
