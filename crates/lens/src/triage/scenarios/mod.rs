//! Evidence for tests: a system that is well, and 34 that differ from it in what one signature is
//! about. Numbers fit together: rates follow from times by Little's law, sums from rates.

pub(super) mod lab;
mod machine;
mod traffic;
mod work;

use std::collections::{BTreeMap, BTreeSet};

use pilotage_core::Span;

use super::evidence::*;
use crate::record::Termination;

/// Five minutes.
const WINDOW_S: f64 = 300.0;

/// What a replica is given to do.
#[derive(Clone, Copy)]
struct Load {
    running: f64,
    waiting: f64,
    input: f64,
    output: f64,
    tpot_s: f64,
    prefill_s: f64,
}

/// As in the system that is well.
const LOAD: Load = Load {
    running: 20.0,
    waiting: 0.0,
    input: 1000.0,
    output: 200.0,
    tpot_s: 0.009,
    prefill_s: 0.04,
};

/// Four replicas of an 8B model on an accelerator with 80 GB, a third full.
pub(super) fn healthy() -> Evidence {
    let mut evidence = well();
    evidence.baseline = Some(Box::new(well()));
    evidence
}

/// The system in which a signature is to be found.
pub(super) fn scenario(id: &str) -> Evidence {
    let mut evidence = healthy();
    let known = [work::change, machine::change, traffic::change];
    assert!(known.iter().any(|change| change(&mut evidence, id)), "no scenario {id}");
    evidence
}

fn well() -> Evidence {
    let mut evidence = Evidence {
        window: Some(Span::from_secs(300)),
        sight: Sight {
            age_s: Some(5.0),
            interval_s: Some(15.0),
            resets: Some(0.0),
            ..Sight::default()
        },
        goals: Goals { ttft_s: Some(1.0), tpot_s: Some(0.05) },
        replicas: (0..4).map(replica).collect(),
        gateway: Gateway { dial: Lasted::new(0.1, 100.0), ..Gateway::default() },
        cluster: Cluster {
            desired: Some(4.0),
            ready: Some(4.0),
            pending: Some(0.0),
            short_s: Some(0.0),
            image_pull_s: Some(8.0),
            weights_s: Some(40.0),
            ..Cluster::default()
        },
        alerts: Some(Alerts {
            rules: vec![rule("KvCacheFull", "vllm:kv_cache_usage_perc")],
            exposed: BTreeSet::from([
                "vllm:kv_cache_usage_perc".to_owned(),
                "vllm:num_preemptions_total".to_owned(),
            ]),
        }),
        ..Evidence::default()
    };
    settle(&mut evidence);
    evidence
}

fn rule(name: &str, series: &str) -> AlertRule {
    AlertRule { name: name.to_owned(), refers_to: BTreeSet::from([series.to_owned()]) }
}

fn replica(number: usize) -> Replica {
    let mut replica = Replica {
        name: format!("llama-{number}"),
        runtime: Some(Runtime::Vllm),
        version: Some("0.33.0".to_owned()),
        start: Start { age_s: Some(86_400.0), first_ttft_s: Some(0.06) },
        config: Config {
            max_num_seqs: Some(64.0),
            max_num_batched_tokens: Some(8192.0),
            max_model_len: Some(32_768.0),
            gpu_memory_utilization: Some(0.9),
            block_size: Some(16.0),
            num_gpu_blocks: Some(27_000.0),
            dtype: Some("bfloat16".to_owned()),
            tensor: Some(1.0),
            enforce_eager: Some(false),
            prefix_caching: Some(true),
            max_loras: Some(4.0),
            spec_tokens: Some(3.0),
            ..Config::default()
        },
        dims: Dims {
            parameters: Some(8.03e9),
            weight_bytes: Some(16.06e9),
            layers: Some(32.0),
            kv_heads: Some(8.0),
            head_dim: Some(128.0),
            kv_number_bytes: Some(2.0),
            ..Dims::default()
        },
        accelerator: Accelerator {
            memory_bytes: Some(80e9),
            bandwidth_bytes_s: Some(3.35e12),
            flops: Some(989e12),
            ..Accelerator::default()
        },
        gpus: vec![gpu()],
        host: Host {
            cpu_cores: Some(0.4),
            cpu_cores_max: Some(1.0),
            throttled: Some(0.0),
            steal: Some(0.0),
            psi_cpu: Some(0.02),
            psi_memory: Some(0.0),
            psi_io: Some(0.01),
        },
        ..Replica::default()
    };
    replica.gauges.health_s = Some(0.004);
    replica.gauges.health_ok = Some(true);
    load(&mut replica, &LOAD);
    replica
}

fn gpu() -> Gpu {
    Gpu {
        sm_clock_mhz: Some(1980.0),
        sm_clock_max_mhz: Some(1980.0),
        sm_active: Some(0.9),
        dram_active: Some(0.6),
        tensor_active: Some(0.25),
        thermal_violation_s: Some(0.0),
        power_violation_s: Some(3.0),
        temperature_c: Some(65.0),
        ecc_uncorrected: Some(0.0),
        row_remap_failures: Some(0.0),
        xids: Some(Vec::new()),
        ..Gpu::default()
    }
}

/// Gives a replica that to do, and lets everything that counts follow.
fn load(replica: &mut Replica, load: &Load) {
    let residence = load.prefill_s + load.output * load.tpot_s;
    let requests = load.running / residence * WINDOW_S;
    let (prompts, answers) = (requests * load.input, requests * load.output);
    let queue = load.waiting * WINDOW_S;
    replica.gauges.running = Some(load.running);
    replica.gauges.waiting = Some(load.waiting);
    replica.gauges.waiting_capacity = Some(0.0);
    replica.gauges.waiting_deferred = Some(0.0);
    replica.gauges.lora_waiting = Some(0.0);
    let blocks = replica.config.num_gpu_blocks.unwrap_or(0.0) * 16.0;
    replica.gauges.kv_use = Some(load.running * (load.input + load.output / 2.0) / blocks);
    replica.deltas = Deltas {
        requests: Some(requests),
        prompt_tokens: Some(prompts),
        cached_tokens: Some(prompts / 2.0),
        generation_tokens: Some(answers),
        iterations: Some(WINDOW_S / load.tpot_s),
        preemptions: Some(0.0),
        finished_length: Some(requests * 0.05),
        finished_abort: Some(requests * 0.01),
        prefix_queries: Some(prompts),
        prefix_hits: Some(prompts / 2.0),
        draft_tokens: Some(answers),
        accepted_tokens: Some(answers * 0.8),
        loras_loaded: Some(0.0),
        kv_transfers_failed: Some(0.0),
        kv_transfers_expired: Some(0.0),
        context_overflows: Some(0.0),
    };
    replica.times = Times {
        ttft: Lasted::new(queue + requests * (load.prefill_s + 0.01), requests),
        itl: Lasted::new(answers * load.tpot_s, answers),
        tpot: Lasted::new(requests * load.tpot_s, requests),
        queue: Lasted::new(queue, requests),
        prefill: Lasted::new(requests * load.prefill_s, requests),
        decode: Lasted::new(answers * load.tpot_s, requests),
        itl_beside_prefill: Lasted::new(answers * 0.2 * load.tpot_s * 1.1, answers * 0.2),
        itl_alone: Lasted::new(answers * 0.8 * load.tpot_s * 0.97, answers * 0.8),
        kv_transfer: Lasted::new(requests * 0.001, requests),
        itl_p50_s: Some(load.tpot_s),
        itl_max_s: Some(load.tpot_s * 4.0),
    };
}

/// Lets the gateway count what replicas did.
fn settle(evidence: &mut Evidence) {
    let sum =
        |of: fn(&Replica) -> Option<f64>| -> f64 { evidence.replicas.iter().filter_map(of).sum() };
    let requests = sum(|one| one.deltas.requests);
    let engine = sum(|one| Some(one.times.queue.seconds? + one.times.prefill.seconds?));
    let decode = sum(|one| one.times.decode.seconds);
    let inside = sum(|one| Some(one.gauges.running? + one.gauges.waiting?));
    let picks =
        evidence.replicas.iter().map(|one| (one.name.clone(), one.deltas.requests.unwrap_or(0.0)));
    let gateway = &mut evidence.gateway;
    gateway.picks = Some(picks.collect());
    let mut phases = PhaseSeconds {
        read: Some(requests * 0.0004),
        queue: Some(requests * 0.002),
        retry: Some(0.0),
        connect: Some(requests * 0.001),
        prefill: Some(engine),
        decode: Some(decode),
        flush: Some(requests * 0.0005),
        total: None,
    };
    phases.total = phases.sum();
    gateway.phases = phases;
    gateway.outcomes = Some(BTreeMap::from([
        (Termination::Ok, requests * 0.99),
        (Termination::ClientCancel, requests * 0.01),
    ]));
    gateway.upstream = Some(BTreeMap::from([(200, requests)]));
    gateway.traffic = Traffic {
        requests: Some(requests),
        in_flight: Some(inside),
        // Replicas have queues of their own here.
        queued: None,
        loop_delay_s: Some(0.0005),
        cpu_use: Some(0.2),
        connections_new: Some(100.0),
        connections_reused: Some(requests),
        syn_retransmits: Some(0.0),
        client_blocked_s: phases_share(&gateway.phases, 0.01),
        metrics_age_s: Some(2.0),
        metrics_interval_s: Some(5.0),
        herd_share: Some(0.3),
        prefix_homes: Some(1.1),
        disconnects: Some(requests * 0.01),
        repeated: Some(requests * 0.01),
        retry_after: Some(0.0),
        saturation: Some(0.4),
    };
}

fn phases_share(phases: &PhaseSeconds, share: f64) -> Option<f64> {
    phases.total.map(|total| total * share)
}

/// Gives every replica that to do.
fn work_all(evidence: &mut Evidence, all: &Load) {
    evidence.replicas.iter_mut().for_each(|replica| load(replica, all));
    settle(evidence);
}

/// Changes every replica.
fn each(evidence: &mut Evidence, change: impl Fn(&mut Replica)) {
    evidence.replicas.iter_mut().for_each(change);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_scenario_for_each_signature() {
        for rule in super::super::rules::RULES {
            assert_ne!(scenario(rule.id), healthy(), "{}", rule.id);
        }
    }
}
