//! vLLM: `vllm serve`.
//!
//! Several nodes go without Ray: each runs the same command with its rank, all but the first `--headless`
//! (vllm/entrypoints/cli/serve.py and vllm/config/parallel.py of 0.11.2 and later).

use super::arguments::unsupported;
use super::base::{SHARED_BYTES, base, command};
use super::instead::{BATCH, CONTEXT, PARALLEL, REMOVE, SHAPE, SOURCE};
use super::{
    ADAPTERS_AT_ONCE, Arguments, EVENTS, Engine, Env, LEADER, LISTEN, Launch, LaunchError,
    LaunchSpec, PORT, PortRole, RANK, RENDEZVOUS, Secret,
};
use crate::hardware::Vendor;
use crate::size::{Dtype, Task};

const ENGINE: Engine = Engine::Vllm;

/// What Pilotage sets.
pub(super) const OURS: &[(&str, &str)] = &[
    ("--model", SOURCE),
    ("--revision", SOURCE),
    ("--served-model-name", REMOVE),
    ("--host", REMOVE),
    ("--port", REMOVE),
    ("--uds", REMOVE),
    ("--api-key", REMOVE),
    ("--config", "write its flags one by one"),
    ("--grpc", REMOVE),
    ("--headless", SHAPE),
    ("--nnodes", SHAPE),
    ("--node-rank", SHAPE),
    ("--master-addr", SHAPE),
    ("--master-port", SHAPE),
    ("--tensor-parallel-size", SHAPE),
    ("--pipeline-parallel-size", SHAPE),
    ("--data-parallel-size", SHAPE),
    ("--enable-expert-parallel", SHAPE),
    ("--max-model-len", CONTEXT),
    ("--max-num-seqs", PARALLEL),
    ("--max-num-batched-tokens", BATCH),
];

/// How to start it.
pub(super) fn spec(launch: &Launch) -> Result<LaunchSpec, LaunchError> {
    let mut args = Arguments::new(ENGINE, launch);
    args.set("--served-model-name", &launch.served);
    args.set("--host", LISTEN).set("--port", PORT);
    args.maybe("--revision", launch.revision());
    shape(&mut args, launch)?;
    features(&mut args, launch);
    let weights = launch.weights();
    let prefix = ["serve", weights.as_str()];
    let several = launch.nodes() > 1;
    if several {
        nodes(&mut args, launch, "0");
    }
    let leader = command("vllm", args.finish(&prefix, launch)?);
    let mut spec = base(ENGINE, launch, leader, "/health").share_memory(SHARED_BYTES);
    if several {
        let mut args = Arguments::new(ENGINE, launch);
        args.maybe("--revision", launch.revision());
        shape(&mut args, launch)?;
        features(&mut args, launch);
        nodes(&mut args, launch, RANK);
        args.switch("--headless");
        spec.worker = Some(command("vllm", args.finish(&prefix, launch)?));
        spec.port(PortRole::Rendezvous, 29_500);
    }
    if launch.features.kv_events {
        spec.port(PortRole::KvEvents, 5557);
    }
    environment(&mut spec, launch);
    Ok(spec)
}

fn shape(args: &mut Arguments, launch: &Launch) -> Result<(), LaunchError> {
    let shape = &launch.shape;
    if shape.tensor > 1 {
        args.set("--tensor-parallel-size", shape.tensor);
    }
    if shape.pipeline > 1 {
        args.set("--pipeline-parallel-size", shape.pipeline);
    }
    if shape.data > 1 {
        if launch.nodes() > 1 {
            let what = "has data-parallel attention over several nodes only with a start of its own for each";
            return Err(unsupported(ENGINE, what, "choose SGLang, or a shape of one node"));
        }
        args.set("--data-parallel-size", shape.data);
    }
    if shape.expert_parallel {
        args.switch("--enable-expert-parallel");
    }
    args.set("--max-model-len", shape.context);
    args.set("--max-num-seqs", shape.sequences);
    args.set("--max-num-batched-tokens", shape.batch_tokens);
    if launch.accelerator.vendor != Vendor::Cpu {
        args.set("--gpu-memory-utilization", shape.utilisation);
    }
    if let Some(dtype) = kv_dtype(shape.kv_dtype) {
        args.set("--kv-cache-dtype", dtype);
    }
    if !shape.graphs {
        args.switch("--enforce-eager");
    }
    Ok(())
}

/// 16 bits are what it takes by itself.
const fn kv_dtype(dtype: Dtype) -> Option<&'static str> {
    match dtype {
        Dtype::Fp8 | Dtype::Int8 => Some("fp8"),
        _ => None,
    }
}

fn features(args: &mut Arguments, launch: &Launch) {
    let wanted = &launch.features;
    match wanted.prefix_cache {
        Some(true) => args.switch("--enable-prefix-caching"),
        Some(false) if args.has("--runner") => args.switch("--no-enable-prefix-caching"),
        _ => args,
    };
    if wanted.task != Task::Generate {
        pooling(args, wanted.task);
    }
    if wanted.loads_adapters || !wanted.adapters.is_empty() {
        args.switch("--enable-lora").set("--max-loras", ADAPTERS_AT_ONCE);
    }
    if !wanted.adapters.is_empty() {
        args.word("--lora-modules");
        for adapter in &wanted.adapters {
            args.word(format!("{}={}", adapter.name, adapter.path));
        }
    }
    if let Some(parser) = &wanted.tool_parser {
        args.switch("--enable-auto-tool-choice").set("--tool-call-parser", parser);
    }
    args.maybe("--reasoning-parser", wanted.reasoning_parser.as_ref());
    args.maybe("--chat-template", wanted.chat_template.as_ref());
    if wanted.priority {
        args.set("--scheduling-policy", "priority");
    }
    if wanted.trusts_remote_code {
        args.switch("--trust-remote-code");
    }
    if wanted.kv_events {
        let config = format!(
            r#"{{"enable_kv_cache_events":true,"publisher":"zmq","endpoint":"tcp://*:{EVENTS}"}}"#
        );
        args.set("--kv-events-config", config);
    }
}

/// Models that do not write: `--task` until 0.10, `--runner` from then on.
fn pooling(args: &mut Arguments, task: Task) {
    if args.has("--runner") {
        args.set("--runner", "pooling");
    } else {
        args.set("--task", if task == Task::Rerank { "score" } else { "embed" });
    }
}

fn nodes(args: &mut Arguments, launch: &Launch, rank: &str) {
    args.set("--nnodes", launch.nodes()).set("--node-rank", rank);
    args.set("--master-addr", LEADER).set("--master-port", RENDEZVOUS);
    args.set("--distributed-executor-backend", "mp");
}

fn environment(spec: &mut LaunchSpec, launch: &Launch) {
    if launch.has_key {
        spec.env.push(Env::secret("VLLM_API_KEY", Secret::EngineKey));
    }
    if launch.revision().is_some() || matches!(launch.weights, super::Weights::Repository { .. }) {
        spec.env.push(Env::secret("HF_TOKEN", Secret::HubToken));
    }
    if launch.features.loads_adapters {
        // Loading and unloading while it runs is refused without.
        spec.env.push(Env::plain("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "True"));
    }
    if let (Vendor::Cpu, Some(bytes)) = (launch.accelerator.vendor, launch.cache_bytes) {
        // In GiB, of each rank. Releases differ in what they take without it: 4 GiB, or a share of what is free.
        let gib = (bytes >> 30).max(1).to_string();
        spec.env.push(Env::plain("VLLM_CPU_KVCACHE_SPACE", gib));
    }
    if let (Vendor::Cpu, Some(threads)) = (launch.accelerator.vendor, launch.threads) {
        spec.env.push(Env::plain("OMP_NUM_THREADS", threads.to_string()));
    }
}
