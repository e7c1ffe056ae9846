//! Scenarios about replicas that are ill, and what is below them.

use std::collections::BTreeMap;

use super::{Evidence, LOAD, Load, each, load, rule, settle, work_all};
use crate::triage::evidence::Run;

pub(super) fn change(evidence: &mut Evidence, id: &str) -> bool {
    match id {
        "S08" => host_bound(evidence),
        "S09" => hung(evidence),
        "S10" => slow(evidence, 1, 0.02),
        "S11" => throttled(evidence),
        "S12" => {
            evidence.replicas[3].gpus[0].xids = Some(vec![63, 48]);
            evidence.replicas[3].gpus[0].ecc_uncorrected = Some(1.0);
        }
        "S28" => scale_lag(evidence),
        "S29" => {
            slow(evidence, 1, 0.013);
            evidence.replicas[1].host.throttled = Some(0.35);
            evidence.replicas[1].host.psi_cpu = Some(0.5);
        }
        "S30" => {
            evidence.replicas[2].version = Some("0.29.0".to_owned());
            evidence.replicas[2].config.max_model_len = Some(8_192.0);
        }
        "S31" => {
            evidence.runs = vec![Run {
                label: Some("rate 20".to_owned()),
                completed: Some(600.0),
                rate: Some(20.0),
                sent_rate: Some(14.0),
                ttft_p50_s: Some(0.1),
                delay_p99_s: Some(0.5),
                client_cpu: Some(0.97),
                ..Run::default()
            }];
        }
        "S34" => {
            let alerts = evidence.alerts.as_mut().unwrap();
            alerts.rules.push(rule("Preemptions", "vllm:num_preemptions"));
            alerts.rules.push(rule("ErrorRate", "inference_model_request_error_total"));
        }
        _ => return false,
    }
    true
}

fn host_bound(evidence: &mut Evidence) {
    each(evidence, |one| one.config.enforce_eager = Some(true));
    work_all(evidence, &Load { running: 30.0, waiting: 8.0, tpot_s: 0.03, ..LOAD });
    each(evidence, |one| {
        one.gauges.health_s = Some(4.0);
        one.host.cpu_cores = Some(1.0);
        one.gpus[0].sm_active = Some(0.35);
        one.gpus[0].dram_active = Some(0.2);
    });
}

fn hung(evidence: &mut Evidence) {
    let hung = &mut evidence.replicas[2];
    hung.gauges.running = Some(24.0);
    hung.gauges.waiting = Some(8.0);
    let age = hung.start.clone();
    hung.deltas.requests = Some(0.0);
    hung.deltas.generation_tokens = Some(0.0);
    hung.deltas.prompt_tokens = Some(0.0);
    hung.deltas.iterations = Some(0.0);
    hung.times = Default::default();
    hung.start = age;
    hung.gpus[0].dram_active = Some(0.0);
    hung.gpus[0].sm_active = Some(1.0);
    settle(evidence);
}

fn slow(evidence: &mut Evidence, number: usize, tpot_s: f64) {
    load(&mut evidence.replicas[number], &Load { tpot_s, ..LOAD });
    settle(evidence);
}

fn throttled(evidence: &mut Evidence) {
    slow(evidence, 1, 0.0155);
    let gpu = &mut evidence.replicas[1].gpus[0];
    gpu.thermal_violation_s = Some(120.0);
    gpu.sm_clock_mhz = Some(1_200.0);
    gpu.temperature_c = Some(91.0);
}

fn scale_lag(evidence: &mut Evidence) {
    work_all(evidence, &Load { running: 62.0, waiting: 10.0, tpot_s: 0.012, ..LOAD });
    let cluster = &mut evidence.cluster;
    cluster.desired = Some(6.0);
    cluster.pending = Some(2.0);
    cluster.short_s = Some(240.0);
    cluster.reasons = Some(BTreeMap::from([("Insufficient nvidia.com/gpu".to_owned(), 2.0)]));
}
