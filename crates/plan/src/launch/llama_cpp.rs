//! llama.cpp's server: `llama-server`, one GGUF file.
//!
//! Several nodes work by its RPC backend: each of the others runs `rpc-server`, and the first divides the layers
//! among them. The project calls that protocol insecure, so it stays in a private network.

use super::arguments::{note_missing, unsupported};
use super::base::{base, command};
use super::instead::{BATCH, CONTEXT, PARALLEL, REMOVE, SHAPE, SOURCE, THREADS};
use super::{
    Arguments, Engine, Env, LISTEN, Launch, LaunchError, LaunchSpec, PEERS, PORT, PortRole,
    RENDEZVOUS, Secret, Weights,
};
use crate::size::{Dtype, Task};

const ENGINE: Engine = Engine::LlamaCpp;

/// Layers on the accelerator: more than any model has.
const ALL_LAYERS: &str = "999";

/// What Pilotage sets.
pub(super) const OURS: &[(&str, &str)] = &[
    ("--model", SOURCE),
    ("--model-url", SOURCE),
    ("--hf-repo", SOURCE),
    ("--hf-file", SOURCE),
    ("--alias", REMOVE),
    ("--host", REMOVE),
    ("--port", REMOVE),
    ("--api-key", REMOVE),
    ("--api-key-file", REMOVE),
    ("--metrics", REMOVE),
    ("--ctx-size", CONTEXT),
    ("--parallel", PARALLEL),
    ("--batch-size", BATCH),
    ("--ubatch-size", BATCH),
    ("--threads", THREADS),
    ("--rpc", SHAPE),
    ("--models-dir", REMOVE),
    ("--models-preset", REMOVE),
];

/// How to start it.
pub(super) fn spec(launch: &Launch) -> Result<LaunchSpec, LaunchError> {
    if launch.shape.data > 1 || launch.shape.expert_parallel {
        let what = "divides layers or matrices, not experts";
        return Err(unsupported(ENGINE, what, "choose a shape without EP"));
    }
    let words = arguments(launch)?;
    let mut spec = base(ENGINE, launch, command("llama-server", words), "/health");
    if launch.nodes() > 1 {
        let words = ["--host", "0.0.0.0", "--port", RENDEZVOUS];
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        spec.worker = Some(command("rpc-server", words));
        spec.port(PortRole::Rendezvous, 50_052);
        let note = "its nodes speak a protocol without protection: keep it in a private network";
        spec.notes.push(note.to_owned());
    }
    if launch.has_key {
        spec.env.push(Env::secret("LLAMA_API_KEY", Secret::EngineKey));
    }
    let wanted = &launch.features;
    let missing = [
        (wanted.priority, "priorities"),
        (wanted.kv_events, "events of its cache"),
        (wanted.tool_parser.is_some(), "choice of a parser for tool calls"),
        (wanted.reasoning_parser.is_some(), "choice of a parser for thinking"),
    ];
    note_missing(&mut spec, &missing);
    Ok(spec)
}

fn arguments(launch: &Launch) -> Result<Vec<String>, LaunchError> {
    let (shape, wanted) = (&launch.shape, &launch.features);
    let mut args = Arguments::new(ENGINE, launch);
    match &launch.weights {
        Weights::Local => args.set("--model", super::WEIGHTS),
        Weights::Repository { id, .. } => args.set("--hf-repo", id),
    };
    args.set("--alias", &launch.served).set("--host", LISTEN).set("--port", PORT);
    // Its context is that of all slots together.
    let slots = u64::from(shape.sequences.max(1));
    args.set("--ctx-size", shape.context.saturating_mul(slots));
    args.set("--parallel", shape.sequences);
    args.set("--batch-size", shape.batch_tokens);
    args.set("--ubatch-size", shape.batch_tokens.min(512));
    args.maybe("--threads", launch.threads);
    args.switch("--metrics");
    if !launch.accelerator.is_processor() {
        args.set("--n-gpu-layers", ALL_LAYERS);
        let mode = if shape.tensor > 1 { "row" } else { "layer" };
        if launch.accelerators_on_node() > 1 {
            args.set("--split-mode", mode);
        }
    }
    if shape.kv_dtype == Dtype::Fp8 || shape.kv_dtype == Dtype::Int8 {
        args.set("--cache-type-k", "q8_0").set("--cache-type-v", "q8_0");
    }
    if launch.nodes() > 1 {
        args.set("--rpc", PEERS);
    }
    if wanted.prefix_cache == Some(false) {
        args.switch("--no-cache-prompt");
    }
    match wanted.task {
        Task::Generate => args.switch("--jinja"),
        Task::Embed => args.switch("--embeddings"),
        Task::Rerank => args.switch("--reranking"),
    };
    if !wanted.adapters.is_empty() {
        let paths: Vec<_> = wanted.adapters.iter().map(|adapter| adapter.path.as_str()).collect();
        args.set("--lora", paths.join(","));
    }
    args.maybe("--chat-template-file", wanted.chat_template.as_ref());
    args.finish(&[], launch)
}
