//! Scenarios about the gateway and its clients.

use std::collections::BTreeMap;

use super::{Evidence, LOAD, Load, each, phases_share, work_all};
use crate::record::Termination::{ClientCancel, Ok as Answered, QueueFull};

pub(super) fn change(evidence: &mut Evidence, id: &str) -> bool {
    let requests = evidence.gateway.traffic.requests.unwrap_or(0.0);
    match id {
        "S14" => herd(evidence),
        "S17" => {
            evidence.gateway.phases.read = Some(requests * 0.02);
            evidence.gateway.traffic.loop_delay_s = Some(0.03);
            evidence.gateway.traffic.cpu_use = Some(0.95);
            total(evidence);
        }
        "S18" => connect_bound(evidence, requests),
        "S19" => {
            evidence.gateway.phases.flush = Some(requests * 0.2);
            total(evidence);
            evidence.gateway.traffic.client_blocked_s = phases_share(&evidence.gateway.phases, 0.4);
        }
        "S20" => {
            evidence.gateway.outcomes =
                Some(BTreeMap::from([(Answered, requests * 0.92), (QueueFull, requests * 0.08)]));
            evidence.gateway.traffic.saturation = Some(1.3);
        }
        "S21" => {
            evidence.gateway.upstream =
                Some(BTreeMap::from([(200, requests * 0.9), (429, requests * 0.1)]));
            evidence.gateway.traffic.retry_after = Some(requests * 0.1);
        }
        "S23" => each(evidence, |one| {
            one.deltas.context_overflows = one.deltas.requests.map(|requests| requests * 0.06);
        }),
        "S24" => retry_storm(evidence),
        "S25" => cancel_leak(evidence, requests),
        _ => return false,
    }
    true
}

fn total(evidence: &mut Evidence) {
    evidence.gateway.phases.total = None;
    evidence.gateway.phases.total = evidence.gateway.phases.sum();
}

fn herd(evidence: &mut Evidence) {
    assert!(super::work::change(evidence, "S13"));
    evidence.gateway.traffic.metrics_age_s = Some(15.0);
    evidence.gateway.traffic.herd_share = Some(0.85);
}

fn connect_bound(evidence: &mut Evidence, requests: f64) {
    let gateway = &mut evidence.gateway;
    let new = requests * 0.6;
    gateway.dial = super::Lasted::new(new * 0.03, new);
    gateway.traffic.connections_new = Some(new);
    gateway.traffic.connections_reused = Some(requests - new);
    gateway.traffic.syn_retransmits = Some(new * 0.05);
    gateway.phases.connect = gateway.phases.connect.map(|connect| connect + new * 0.03);
    total(evidence);
}

fn retry_storm(evidence: &mut Evidence) {
    work_all(evidence, &Load { running: 40.0, ..LOAD });
    let requests = evidence.gateway.traffic.requests.unwrap_or(0.0);
    evidence.gateway.outcomes =
        Some(BTreeMap::from([(Answered, requests * 0.7), (ClientCancel, requests * 0.3)]));
    evidence.gateway.traffic.repeated = Some(requests * 0.4);
    evidence.gateway.traffic.disconnects = Some(requests * 0.3);
    each(evidence, |one| {
        one.deltas.finished_abort = one.deltas.requests.map(|requests| requests * 0.3);
    });
}

fn cancel_leak(evidence: &mut Evidence, requests: f64) {
    work_all(evidence, &Load { running: 30.0, ..LOAD });
    let gateway = &mut evidence.gateway;
    gateway.outcomes =
        Some(BTreeMap::from([(Answered, requests * 0.8), (ClientCancel, requests * 0.2)]));
    gateway.traffic.disconnects = Some(requests * 0.2);
    gateway.traffic.in_flight = gateway.traffic.in_flight.map(|inside| inside * 0.6);
}
