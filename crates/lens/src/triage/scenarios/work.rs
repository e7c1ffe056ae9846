//! Scenarios about what replicas have to do, and the limits they meet.

use super::{Evidence, LOAD, Lasted, Load, WINDOW_S, each, load, settle, work_all};
use crate::triage::evidence::Role;

pub(super) fn change(evidence: &mut Evidence, id: &str) -> bool {
    match id {
        "S01" => slot_bound(evidence),
        "S02" => kv_bound(evidence),
        "S03" => preemption(evidence),
        "S04" => prefill_bound(evidence),
        "S05" => interference(evidence),
        "S06" => bandwidth_bound(evidence),
        "S07" => work_all(evidence, &Load { running: 1.5, tpot_s: 0.0066, ..LOAD }),
        "S13" => imbalance(evidence),
        "S15" => prefix_miss(evidence),
        "S16" => cold_start(evidence),
        "S22" => long_outputs(evidence),
        "S26" => kv_transfer(evidence),
        "S27" => pd_ratio(evidence),
        "S32" => {
            work_all(evidence, &Load { tpot_s: 0.011, ..LOAD });
            each(evidence, |one| {
                one.deltas.accepted_tokens = one.deltas.draft_tokens.map(|all| all * 0.3);
            });
        }
        "S33" => lora_thrash(evidence),
        _ => return false,
    }
    true
}

fn slot_bound(evidence: &mut Evidence) {
    each(evidence, |one| one.config.max_num_seqs = Some(8.0));
    work_all(evidence, &Load { running: 8.0, waiting: 12.0, tpot_s: 0.0075, ..LOAD });
}

fn kv_bound(evidence: &mut Evidence) {
    each(evidence, |one| one.config.num_gpu_blocks = Some(5_000.0));
    work_all(
        evidence,
        &Load {
            running: 41.0,
            waiting: 10.0,
            input: 1800.0,
            tpot_s: 0.012,
            prefill_s: 0.07,
            ..LOAD
        },
    );
    each(evidence, |one| one.gauges.waiting_capacity = Some(10.0));
}

fn preemption(evidence: &mut Evidence) {
    kv_bound(evidence);
    each(evidence, |one| {
        one.deltas.preemptions = one.deltas.requests.map(|requests| requests * 0.2);
        one.times.itl_max_s = Some(2.0);
    });
}

fn prefill_bound(evidence: &mut Evidence) {
    work_all(
        evidence,
        &Load {
            running: 3.0,
            waiting: 0.5,
            input: 24_000.0,
            output: 20.0,
            tpot_s: 0.012,
            prefill_s: 0.45,
        },
    );
    each(evidence, |one| {
        one.deltas.iterations = Some(WINDOW_S / 0.012);
        one.gpus[0].tensor_active = Some(0.7);
    });
}

fn interference(evidence: &mut Evidence) {
    work_all(evidence, &Load { tpot_s: 0.014, ..LOAD });
    each(evidence, |one| {
        let count = one.times.itl_alone.count.unwrap_or(0.0) / 4.0;
        one.times.itl_beside_prefill = Lasted::new(count * 0.03, count);
        one.times.itl_alone = Lasted::new(count * 4.0 * 0.01, count * 4.0);
    });
}

fn bandwidth_bound(evidence: &mut Evidence) {
    evidence.goals.tpot_s = Some(0.004);
    work_all(evidence, &Load { tpot_s: 0.006, ..LOAD });
    each(evidence, |one| one.gpus[0].dram_active = Some(0.9));
}

fn imbalance(evidence: &mut Evidence) {
    for (number, running) in [45.0, 12.0, 12.0, 11.0].into_iter().enumerate() {
        let waiting = if number == 0 { 6.0 } else { 0.0 };
        load(&mut evidence.replicas[number], &Load { running, waiting, ..LOAD });
    }
    settle(evidence);
}

fn prefix_miss(evidence: &mut Evidence) {
    work_all(evidence, &Load { prefill_s: 0.075, ..LOAD });
    each(evidence, |one| {
        one.deltas.prefix_hits = one.deltas.prefix_queries.map(|all| all * 0.1);
        one.deltas.cached_tokens = one.deltas.prefix_hits;
    });
    evidence.gateway.traffic.prefix_homes = Some(3.5);
}

fn cold_start(evidence: &mut Evidence) {
    let cold = &mut evidence.replicas[3];
    load(cold, &Load { prefill_s: 0.09, ..LOAD });
    cold.start.age_s = Some(60.0);
    cold.start.first_ttft_s = Some(1.5);
    cold.deltas.prefix_hits = cold.deltas.prefix_queries.map(|all| all * 0.1);
    settle(evidence);
}

fn long_outputs(evidence: &mut Evidence) {
    work_all(evidence, &Load { running: 42.0, output: 420.0, ..LOAD });
    each(evidence, |one| {
        one.deltas.finished_length = one.deltas.requests.map(|requests| requests * 0.3);
    });
}

/// Two replicas for prompts and two for answers, now and before.
fn divide(evidence: &mut Evidence, prompts: &Load, answers: &Load) {
    let divided = |evidence: &mut Evidence, prompts: &Load, answers: &Load| {
        for (number, replica) in evidence.replicas.iter_mut().enumerate() {
            if number < 2 {
                load(replica, prompts);
                replica.role = Role::Prefill;
                replica.times.decode = Lasted::default();
            } else {
                load(replica, answers);
                replica.role = Role::Decode;
                replica.times.prefill = Lasted::default();
            }
        }
        settle(evidence);
    };
    if let Some(before) = evidence.baseline.as_deref_mut() {
        divided(before, &PROMPTS, &ANSWERS);
    }
    divided(evidence, prompts, answers);
}

const PROMPTS: Load = Load { running: 4.0, output: 1.0, ..LOAD };
const ANSWERS: Load = Load { running: 30.0, ..LOAD };

fn kv_transfer(evidence: &mut Evidence) {
    divide(evidence, &PROMPTS, &ANSWERS);
    for one in &mut evidence.replicas[2..] {
        let requests = one.deltas.requests.unwrap_or(0.0);
        one.times.kv_transfer = Lasted::new(requests * 0.4, requests);
        one.times.ttft = Lasted::new(requests * 0.55, requests);
        one.deltas.kv_transfers_expired = Some(4.0);
    }
}

fn pd_ratio(evidence: &mut Evidence) {
    divide(evidence, &Load { waiting: 12.0, ..PROMPTS }, &Load { running: 10.0, ..LOAD });
}

fn lora_thrash(evidence: &mut Evidence) {
    work_all(evidence, &Load { waiting: 6.0, ..LOAD });
    each(evidence, |one| {
        one.gauges.lora_waiting = Some(3.0);
        one.gauges.waiting_deferred = Some(6.0);
        one.deltas.loras_loaded = one.deltas.requests.map(|requests| requests * 0.2);
    });
}
