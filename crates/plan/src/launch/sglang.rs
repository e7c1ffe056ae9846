//! SGLang: `python -m sglang.launch_server`.
//!
//! Several nodes run the same command with their rank and the address of the first one
//! (`--nnodes`, `--node-rank`, `--dist-init-addr` of sglang/srt/server_args.py).

use super::arguments::note_key;
use super::base::{base, command};
use super::instead::{BATCH, CONTEXT, PARALLEL, REMOVE, SHAPE, SOURCE};
use super::{
    ADAPTERS_AT_ONCE, Arguments, EVENTS, Engine, Env, LEADER, LISTEN, Launch, LaunchError,
    LaunchSpec, PORT, PortRole, RANK, RENDEZVOUS, Secret, Weights,
};
use crate::hardware::Vendor;
use crate::size::{Dtype, Task};

const ENGINE: Engine = Engine::Sglang;

/// Shared memory for each accelerator: its documentation gives a container 32 GiB for eight.
const SHARED_BYTES: u64 = 4 << 30;

/// Most sequences that it captures graphs for on most hardware.
const GRAPHS_MAX: u32 = 512;

/// The highest rank of adapters that it makes room for: few are of a higher one.
const RANK_MAX: u32 = 64;

/// Where its ranks find each other on one node.
const NCCL_PORT: &str = "--nccl-port";

/// What Pilotage sets.
pub(super) const OURS: &[(&str, &str)] = &[
    ("--model-path", SOURCE),
    ("--revision", SOURCE),
    ("--served-model-name", REMOVE),
    ("--host", REMOVE),
    ("--port", REMOVE),
    ("--api-key", REMOVE),
    ("--config", "write its flags one by one"),
    ("--tp-size", SHAPE),
    ("--pp-size", SHAPE),
    ("--dp-size", SHAPE),
    ("--ep-size", SHAPE),
    ("--nnodes", SHAPE),
    ("--node-rank", SHAPE),
    ("--dist-init-addr", SHAPE),
    ("--nccl-port", REMOVE),
    ("--context-length", CONTEXT),
    ("--max-running-requests", PARALLEL),
    ("--chunked-prefill-size", BATCH),
];

/// How to start it.
pub(super) fn spec(launch: &Launch) -> Result<LaunchSpec, LaunchError> {
    let several = launch.nodes() > 1;
    let on_node = |rank: &str| {
        let mut args = Arguments::new(ENGINE, launch);
        args.set("--model-path", launch.weights());
        args.maybe("--revision", launch.revision());
        args.set("--served-model-name", &launch.served);
        args.set("--host", LISTEN).set("--port", PORT);
        args.switch("--enable-metrics");
        shape(&mut args, launch);
        features(&mut args, launch);
        if several {
            args.set("--nnodes", launch.nodes()).set("--node-rank", rank);
            args.set("--dist-init-addr", format!("{LEADER}:{RENDEZVOUS}"));
        } else if args.has(NCCL_PORT) {
            // By itself it takes one that is free at that moment, which another may take meanwhile.
            args.set(NCCL_PORT, RENDEZVOUS);
        }
        Ok(command("python", args.finish(&["-m", "sglang.launch_server"], launch)?))
    };
    let mut spec = base(ENGINE, launch, on_node("0")?, "/health").share_memory(SHARED_BYTES);
    if several {
        spec.worker = Some(on_node(RANK)?);
    }
    spec.port(PortRole::Rendezvous, 20_000);
    if launch.features.kv_events {
        spec.port(PortRole::KvEvents, 5557);
    }
    if matches!(launch.weights, Weights::Repository { .. }) {
        spec.env.push(Env::secret("HF_TOKEN", Secret::HubToken));
    }
    note_key(&mut spec, launch);
    Ok(spec)
}

fn shape(args: &mut Arguments, launch: &Launch) {
    let shape = &launch.shape;
    // Its tensor-parallel group holds the attention's data-parallel ranks.
    let tensor = shape.tensor.saturating_mul(shape.data.max(1));
    if tensor > 1 {
        args.set("--tp-size", tensor);
    }
    if shape.pipeline > 1 {
        args.set("--pp-size", shape.pipeline);
    }
    if shape.data > 1 {
        args.set("--dp-size", shape.data).switch("--enable-dp-attention");
    }
    if shape.expert_parallel {
        args.set("--ep-size", tensor);
    }
    args.set("--context-length", shape.context);
    args.set("--max-running-requests", shape.sequences.saturating_mul(shape.data.max(1)));
    args.set("--chunked-prefill-size", shape.batch_tokens);
    args.set("--mem-fraction-static", static_share(launch));
    if matches!(shape.kv_dtype, Dtype::Fp8 | Dtype::Int8) {
        args.set("--kv-cache-dtype", "fp8_e4m3");
    }
    if !shape.graphs {
        args.switch("--disable-cuda-graph");
    }
    if launch.accelerator.vendor == Vendor::Cpu {
        args.set("--device", "cpu");
    }
}

/// The share of memory for weights and cache. What else it needs, in MiB, is as it reckons itself
/// (`ServerArgs._handle_gpu_memory_settings` of 0.5.9): for activations, graphs and communication.
pub(super) fn static_share(launch: &Launch) -> f64 {
    let shape = &launch.shape;
    let memory = launch.accelerator.memory_bytes >> 20;
    let memory = f64::from(u32::try_from(memory).unwrap_or(u32::MAX));
    let graphs = if shape.graphs { f64::from(shape.sequences.min(GRAPHS_MAX)) * 2.0 } else { 0.0 };
    let ranks = f64::from(shape.accelerators_per_replica());
    let rest =
        512.0 + f64::from(shape.batch_tokens.max(2048)) * 1.5 + graphs + ranks / 8.0 * 1024.0;
    let rest = if memory > 60.0 * 1024.0 { rest.max(10.0 * 1024.0) } else { rest };
    let share = ((memory - rest) / memory).clamp(0.1, 1.0).min(shape.utilisation);
    (share * 1000.0).floor() / 1000.0
}

fn features(args: &mut Arguments, launch: &Launch) {
    let wanted = &launch.features;
    if wanted.prefix_cache == Some(false) {
        args.switch("--disable-radix-cache");
    }
    if wanted.task != Task::Generate {
        args.switch("--is-embedding");
    }
    if wanted.loads_adapters {
        // Without adapters at its start it has to be told what they may change and how large they are.
        args.switch("--enable-lora").set("--lora-target-modules", "all");
        args.set("--max-lora-rank", RANK_MAX).set("--max-loras-per-batch", ADAPTERS_AT_ONCE);
    }
    if !wanted.adapters.is_empty() {
        if args.has("--enable-lora") {
            args.switch("--enable-lora");
        }
        args.word("--lora-paths");
        for adapter in &wanted.adapters {
            args.word(format!("{}={}", adapter.name, adapter.path));
        }
    }
    args.maybe("--tool-call-parser", wanted.tool_parser.as_ref());
    args.maybe("--reasoning-parser", wanted.reasoning_parser.as_ref());
    args.maybe("--chat-template", wanted.chat_template.as_ref());
    if wanted.priority {
        args.switch("--enable-priority-scheduling");
    }
    if wanted.trusts_remote_code {
        args.switch("--trust-remote-code");
    }
    if wanted.kv_events {
        let config = format!(r#"{{"publisher":"zmq","endpoint":"tcp://*:{EVENTS}"}}"#);
        args.set("--kv-events-config", config);
    }
}
