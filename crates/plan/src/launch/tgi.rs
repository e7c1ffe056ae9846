//! Text Generation Inference: `text-generation-launcher`. One node; the project is in maintenance.

use super::arguments::{no_pipeline, note_missing, one_node, unsupported};
use super::base::{base, command};
use super::instead::{CONTEXT, PARALLEL, REMOVE, SHAPE, SOURCE};
use super::{
    Arguments, Engine, Env, LISTEN, Launch, LaunchError, LaunchSpec, METRICS, PORT, PortRole,
    RENDEZVOUS, Secret, Weights,
};
use crate::size::{Dtype, Task};

const ENGINE: Engine = Engine::Tgi;

/// Shared memory: its documentation starts containers with 1 GiB.
const SHARED_BYTES: u64 = 1 << 30;

/// Where it tells its metrics besides the port for requests, since 3.3.
const PROMETHEUS: &str = "--prometheus-port";

/// What Pilotage sets.
pub(super) const OURS: &[(&str, &str)] = &[
    ("--model-id", SOURCE),
    ("--revision", SOURCE),
    ("--hostname", REMOVE),
    ("--port", REMOVE),
    ("--api-key", REMOVE),
    ("--shard-uds-path", REMOVE),
    ("--master-port", REMOVE),
    ("--prometheus-port", REMOVE),
    ("--num-shard", SHAPE),
    ("--sharded", SHAPE),
    ("--max-total-tokens", CONTEXT),
    ("--max-input-tokens", CONTEXT),
    ("--max-input-length", CONTEXT),
    ("--max-concurrent-requests", PARALLEL),
];

/// How to start it.
pub(super) fn spec(launch: &Launch) -> Result<LaunchSpec, LaunchError> {
    no_pipeline(ENGINE, launch)?;
    one_node(ENGINE, launch)?;
    if launch.features.task != Task::Generate {
        let instead = "choose vLLM or SGLang";
        return Err(unsupported(ENGINE, "serves no embeddings and no scores", instead));
    }
    let (shape, wanted) = (&launch.shape, &launch.features);
    let mut args = Arguments::new(ENGINE, launch);
    args.set("--model-id", launch.weights()).maybe("--revision", launch.revision());
    args.set("--hostname", LISTEN).set("--port", PORT);
    places(&mut args);
    args.set("--num-shard", shape.tensor);
    // It wants room for one token of the answer at least.
    let input = shape.context.saturating_sub(1).max(1);
    let input_flag =
        if args.has("--max-input-tokens") { "--max-input-tokens" } else { "--max-input-length" };
    args.set(input_flag, input).set("--max-total-tokens", shape.context);
    args.set("--max-batch-prefill-tokens", u64::from(shape.batch_tokens).max(input));
    args.set("--max-concurrent-requests", shape.sequences);
    args.set("--cuda-memory-fraction", shape.utilisation);
    if shape.kv_dtype == Dtype::Fp8 {
        args.set("--kv-cache-dtype", "fp8_e4m3fn");
    }
    if !shape.graphs && args.has("--cuda-graphs") {
        args.set("--cuda-graphs", "0");
    }
    if !wanted.adapters.is_empty() {
        let named = wanted.adapters.iter().map(|a| format!("{}={}", a.name, a.path));
        args.set("--lora-adapters", named.collect::<Vec<_>>().join(","));
    }
    args.maybe("--tokenizer-config-path", wanted.chat_template.as_ref());
    if wanted.trusts_remote_code {
        args.switch("--trust-remote-code");
    }
    let leader = command("text-generation-launcher", args.finish(&[], launch)?);
    let mut spec = base(ENGINE, launch, leader, "/health").share_memory(SHARED_BYTES);
    environment(&mut spec, launch);
    spec.port(PortRole::Rendezvous, 29_500);
    if args.has(PROMETHEUS) {
        spec.port(PortRole::Metrics, 9_000);
    }
    note_missing(
        &mut spec,
        &[
            (wanted.priority, "priorities"),
            (wanted.kv_events, "events of its cache"),
            (wanted.tool_parser.is_some(), "choice of a parser for tool calls"),
            (wanted.reasoning_parser.is_some(), "parser for thinking"),
        ],
    );
    spec.notes.push("requests name the model `tgi`: it takes other names for adapters".to_owned());
    Ok(spec)
}

/// Where its parts find each other: what it takes by itself is the same for all on a machine. The sockets' path
/// is short, as a socket's has room for some hundred letters.
fn places(args: &mut Arguments) {
    args.set("--shard-uds-path", format!("/tmp/pilotage-tgi-{PORT}"));
    args.set("--master-port", RENDEZVOUS);
    if args.has(PROMETHEUS) {
        args.set(PROMETHEUS, METRICS);
    }
}

fn environment(spec: &mut LaunchSpec, launch: &Launch) {
    if launch.has_key {
        spec.env.push(Env::secret("API_KEY", Secret::EngineKey));
    }
    if matches!(launch.weights, Weights::Repository { .. }) {
        spec.env.push(Env::secret("HF_TOKEN", Secret::HubToken));
    }
    if let Some(is_wanted) = launch.features.prefix_cache {
        spec.env.push(Env::plain("PREFIX_CACHING", if is_wanted { "1" } else { "0" }));
    }
}
