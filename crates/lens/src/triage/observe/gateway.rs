//! The gateway by its records and by its own metrics.

use std::collections::BTreeMap;

use super::super::evidence::{Gateway, PhaseSeconds, Traffic, ratio};
use super::record::Ended;
use super::series::{Seen, Series};
use super::{Observed, record};
use crate::record::Termination;

/// Fewest picks between two looks that say where they went.
const PICKS_MIN: usize = 4;

const LOOP_DELAY: &[&str] = &["pilotage_event_loop_delay_seconds"];
const CONNECTIONS: &[&str] = &["pilotage_upstream_connections_total"];
const FAULTS: &[&str] = &["pilotage_upstream_faults_total"];
const WORKERS: &[&str] = &["pilotage_runtime_workers"];

/// The families of its metrics that anything is concluded from, beside those of accelerators.
const READ: [&str; 12] = [
    "pilotage_event_loop_delay_seconds",
    "pilotage_phase_seconds_total",
    "pilotage_queue_requests",
    "pilotage_queue_time_seconds",
    "pilotage_request_duration_seconds",
    "pilotage_requests_total",
    "pilotage_requests_in_flight",
    "pilotage_runtime_workers",
    "pilotage_upstream_connect_seconds",
    "pilotage_upstream_connections_total",
    "pilotage_upstream_faults_total",
    "process_cpu_seconds_total",
];

/// Whether anything is concluded from a metric of the gateway: of some hundred for each model it is from few.
pub(super) fn is_read(name: &str) -> bool {
    let ends = ["_sum", "_count"];
    let family = ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    READ.contains(&family) || name.starts_with(super::machine::OURS)
}

/// The gateway in a window of so many seconds.
pub(super) fn gateway(observed: &Observed, window_s: f64) -> Gateway {
    let seen = Seen(&observed.gateway);
    let own: Option<Vec<Ended>> = observed
        .records
        .as_ref()
        .map(|records| records.iter().filter(|one| !one.mirror).cloned().collect());
    let records = own.as_deref();
    let phases = records.map_or_else(|| counted_phases(&seen), record::phases);
    Gateway {
        dial: seen.lasted(&["pilotage_upstream_connect_seconds"]),
        outcomes: records.map_or_else(|| counted_outcomes(&seen), |all| Some(outcomes(all))),
        upstream: records.map(upstream),
        picks: records.map(picks),
        traffic: traffic(observed, records, (&seen, window_s)),
        phases,
    }
}

/// Requests that a replica refused because prompt and answer are longer than its context, as the gateway
/// counts its answers. One that never did has no series, where its lane has that of all others.
pub(super) fn too_long(gateway: &[Series], replica: &str) -> Option<f64> {
    let counted = Seen(gateway).of(FAULTS, Some(("fault", "too_long")));
    let is = |one: &Series, name: &str| one.labels.get("replica").is_some_and(|own| own == name);
    let since = counted.iter().find(|one| is(one, "_other")).and_then(|one| one.points.first());
    let own = counted.iter().find(|one| is(one, replica));
    match (own, since) {
        (None, Some(_)) => Some(0.0),
        (None, None) => None,
        // It began with its first fault, after it was looked for: all of it is new.
        (Some(own), Some(since)) if own.points.first().is_some_and(|one| one.at_s > since.at_s) => {
            let first = own.points.first().map_or(0.0, |one| one.value);
            Some(own.growth().unwrap_or(0.0) + first)
        }
        (Some(own), _) => own.growth(),
    }
}

fn outcomes(records: &[Ended]) -> BTreeMap<Termination, f64> {
    let mut found = BTreeMap::new();
    for ended in records.iter().filter_map(Ended::termination) {
        *found.entry(ended).or_insert(0.0) += 1.0;
    }
    found
}

fn counted_outcomes(seen: &Seen<'_>) -> Option<BTreeMap<Termination, f64>> {
    let mut found = BTreeMap::new();
    for ended in Termination::ALL {
        if let Some(count) =
            seen.grown(&["pilotage_requests_total"], Some(("termination", ended.name())))
        {
            found.insert(ended, count);
        }
    }
    (!found.is_empty()).then_some(found)
}

fn counted_phases(seen: &Seen<'_>) -> PhaseSeconds {
    let sum = |phases: &[&'static str]| {
        let of = |phase: &&'static str| {
            seen.grown(&["pilotage_phase_seconds_total"], Some(("phase", *phase)))
        };
        let known: Vec<f64> = phases.iter().filter_map(of).collect();
        (!known.is_empty()).then(|| known.iter().sum())
    };
    PhaseSeconds {
        read: sum(&["auth", "read", "route"]),
        queue: sum(&["queue"]).or_else(|| seen.lasted(&["pilotage_queue_time_seconds"]).seconds),
        retry: sum(&["retry"]),
        connect: sum(&["connect"]),
        prefill: sum(&["prefill"]),
        decode: sum(&["decode"]),
        flush: sum(&["client_blocked"]),
        total: seen.lasted(&["pilotage_request_duration_seconds"]).seconds,
    }
}

/// What replicas answered with.
fn upstream(records: &[Ended]) -> BTreeMap<u16, f64> {
    use Termination::{Budget, QueueFull, Quota};
    let mut found = BTreeMap::new();
    for one in records.iter().filter(|one| one.replica.is_some()) {
        let is_ours = matches!(one.termination(), Some(Quota | Budget | QueueFull));
        if let Some(status) = one.status.filter(|_| !is_ours) {
            *found.entry(status).or_insert(0.0) += 1.0;
        }
    }
    found
}

fn picks(records: &[Ended]) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    for name in records.iter().filter_map(|one| one.replica.as_ref()) {
        *found.entry(name.clone()).or_insert(0.0) += 1.0;
    }
    found
}

/// Of the picks between two looks at replicas, the share of the one that got most, at a mean over all
/// picks. Where all of them went to one there was no other, or that is another trouble.
fn herd_share(records: &[Ended], interval_s: f64) -> Option<f64> {
    let mut names = records.iter().filter_map(|one| one.replica.as_deref());
    let first = names.next()?;
    if names.all(|name| name == first) {
        return None;
    }
    let mut by_look: BTreeMap<u64, BTreeMap<&str, f64>> = BTreeMap::new();
    for one in records {
        if let Some((at, name)) = one.sent_s().zip(one.replica.as_deref()) {
            let look = (at / interval_s).max(0.0) as u64;
            *by_look.entry(look).or_default().entry(name).or_insert(0.0) += 1.0;
        }
    }
    let (mut most, mut all) = (0.0, 0.0);
    for picks in by_look.values() {
        let sum: f64 = picks.values().sum();
        if sum >= PICKS_MIN as f64 {
            most += picks.values().copied().fold(0.0, f64::max);
            all += sum;
        }
    }
    ratio(Some(most), Some(all))
}

/// Requests that had come before under the same id, or whose answer another had asked for. That bodies
/// came again under other ids nobody sees, so that none found says nothing.
fn repeated(records: &[Ended]) -> Option<f64> {
    let mut ids: BTreeMap<&str, u32> = BTreeMap::new();
    for id in records.iter().filter_map(|one| one.request_id.as_deref()) {
        *ids.entry(id).or_default() += 1;
    }
    let again: u32 = ids.values().map(|count| count - 1).sum();
    let merged = records.iter().filter(|one| one.merged).count();
    Some(f64::from(again) + merged as f64).filter(|count| *count > 0.0)
}

fn traffic(observed: &Observed, records: Option<&[Ended]>, own: (&Seen<'_>, f64)) -> Traffic {
    let (seen, window_s) = own;
    let sum = |of: fn(&super::Watched) -> Option<f64>| -> Option<f64> {
        let replicas = &observed.replicas;
        if replicas.is_empty() { None } else { replicas.iter().map(of).sum() }
    };
    let in_flight =
        sum(|one| one.in_flight).or_else(|| seen.gauge(&["pilotage_requests_in_flight"], None));
    let queued = observed.queued.or_else(|| seen.gauge(&["pilotage_queue_requests"], None));
    let demand = in_flight.zip(queued).map(|(inside, queued)| inside + queued);
    let is = |ended: Termination| {
        records.map(|all| all.iter().filter(|one| one.termination() == Some(ended)).count() as f64)
    };
    let blocked = |all: &[Ended]| {
        let known: Vec<f64> = all.iter().filter_map(|one| one.t_client_blocked_ms).collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / 1e3)
    };
    let interval = observed.reports_interval_s;
    Traffic {
        requests: records
            .map(|all| all.len() as f64)
            .or_else(|| seen.grown(&["pilotage_requests_total"], None)),
        in_flight,
        queued,
        loop_delay_s: seen.lasted(LOOP_DELAY).mean().or_else(|| seen.fullest(LOOP_DELAY)),
        cpu_use: ratio(
            ratio(seen.grown(&["process_cpu_seconds_total"], None), Some(window_s)),
            seen.newest(WORKERS),
        ),
        connections_new: seen.grown(CONNECTIONS, Some(("reused", "false"))),
        connections_reused: seen.grown(CONNECTIONS, Some(("reused", "true"))),
        client_blocked_s: records.and_then(blocked),
        metrics_age_s: observed.reports_age_s,
        metrics_interval_s: interval,
        herd_share: records.zip(interval).and_then(|(all, interval)| herd_share(all, interval)),
        disconnects: is(Termination::ClientCancel),
        repeated: records.and_then(repeated),
        saturation: ratio(demand, sum(|one| one.places)),
        ..Traffic::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::series::series;
    use super::*;

    fn ended(value: serde_json::Value) -> Ended {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn whatever_is_looked_for_is_kept() {
        let (code, _) = include_str!("gateway.rs").split_once("#[cfg(test)]").unwrap();
        let names = code.split('"').filter(|text| {
            (text.starts_with("pilotage_") || text.starts_with("process_"))
                && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        });
        let unread: Vec<&str> = names.filter(|name| !is_read(name)).collect();
        assert!(unread.is_empty(), "{unread:?}");
        assert!(is_read("pilotage_upstream_connect_seconds_sum"));
        assert!(is_read("pilotage_gpu_xids_total"));
        assert!(!is_read("pilotage_tenant_requests_total"));
    }

    #[test]
    fn herds_are_seen_between_looks() {
        let sent = |at: f64, replica: &str| ended(json!({"unix_ms": at * 1e3, "replica": replica}));
        let spread: Vec<Ended> =
            (0..8).map(|at| sent(f64::from(at), if at % 2 == 0 { "a" } else { "b" })).collect();
        assert_eq!(herd_share(&spread, 4.0), Some(0.5));
        let herd: Vec<Ended> =
            (0..8).map(|at| sent(f64::from(at), if at < 4 { "a" } else { "b" })).collect();
        assert_eq!(herd_share(&herd, 4.0), Some(1.0));
        assert_eq!(herd_share(&herd[..3], 4.0), None);
        assert_eq!(herd_share(&herd[..4], 4.0), None, "there is one alone");
    }

    #[test]
    fn what_was_too_long_counts_from_the_first() {
        let counted = |replica: &str, values: &[f64]| {
            let labels = [("replica", replica), ("fault", "too_long")];
            series("pilotage_upstream_faults_total", &labels, values)
        };
        let others = || counted("_other", &[0.0, 0.0, 0.0]);
        let check = |all: &[Series], expect: Option<f64>| assert_eq!(too_long(all, "a"), expect);
        check(&[], None);
        check(&[others()], Some(0.0));
        check(&[others(), counted("b", &[4.0, 9.0])], Some(0.0));
        check(&[others(), counted("a", &[4.0, 9.0])], Some(5.0));
        check(&[counted("a", &[4.0, 9.0])], Some(5.0));
        let mut late = counted("a", &[0.0, 2.0, 7.0]);
        late.points.remove(0);
        check(&[others(), late.clone()], Some(7.0));
        late.points.truncate(1);
        check(&[others(), late], Some(2.0));
    }

    #[test]
    fn what_came_again_is_counted_and_none_is_unknown() {
        let id = |id: &str| ended(json!({"request_id": id}));
        assert_eq!(repeated(&[id("a"), id("b"), id("a"), id("a")]), Some(2.0));
        assert_eq!(repeated(&[id("a"), id("b")]), None);
    }

    #[test]
    fn counters_do_where_there_are_no_records() {
        let observed = Observed {
            until_s: 10.0,
            gateway: vec![
                series("pilotage_requests_total", &[("termination", "ok")], &[0.0, 8.0]),
                series("pilotage_requests_total", &[("termination", "queue_full")], &[0.0, 2.0]),
                series("pilotage_queue_time_seconds_sum", &[], &[0.0, 3.0]),
                series("pilotage_queue_time_seconds_count", &[], &[0.0, 10.0]),
            ],
            ..Observed::default()
        };
        let gateway = gateway(&observed, 10.0);
        assert_eq!(gateway.traffic.requests, Some(10.0));
        assert_eq!(gateway.phases.queue, Some(3.0));
        assert_eq!(gateway.ended(&[Termination::QueueFull]), Some(2.0));
        assert_eq!(gateway.traffic.client_blocked_s, None);
    }
}
