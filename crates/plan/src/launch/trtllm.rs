//! TensorRT-LLM: `trtllm-serve`, with its PyTorch backend, which needs no engine built before.
//!
//! Several nodes are one MPI world: the first starts all ranks over SSH, the others wait for it
//! (`mpirun … trtllm-llmapi-launch trtllm-serve`, docs/source/commands/trtllm-serve).

use super::arguments::{no_adapters, note_key, note_missing, unsupported};
use super::base::{SHARED_BYTES, base, command};
use super::instead::{BATCH, CONTEXT, PARALLEL, REMOVE, SHAPE};
use super::{
    Arguments, Engine, Env, File, LISTEN, Launch, LaunchError, LaunchSpec, PEERS, PORT, PortRole,
    SCRATCH, Secret, Weights,
};
use crate::size::{Dtype, Task};

const ENGINE: Engine = Engine::TensorRtLlm;

/// The file with what has no flag.
const OPTIONS: &str = "options.yaml";

/// What Pilotage sets.
pub(super) const OURS: &[(&str, &str)] = &[
    ("--host", REMOVE),
    ("--port", REMOVE),
    ("--tp_size", SHAPE),
    ("--pp_size", SHAPE),
    ("--ep_size", SHAPE),
    ("--gpus_per_node", SHAPE),
    ("--max_seq_len", CONTEXT),
    ("--max_batch_size", PARALLEL),
    ("--max_num_tokens", BATCH),
];

/// How to start it.
pub(super) fn spec(launch: &Launch) -> Result<LaunchSpec, LaunchError> {
    let wanted = &launch.features;
    no_adapters(ENGINE, launch)?;
    if wanted.task != Task::Generate {
        let instead = "choose vLLM or SGLang";
        return Err(unsupported(ENGINE, "is not started for embeddings or scores here", instead));
    }
    let args = arguments(launch)?;
    let several = launch.nodes() > 1;
    let leader = if several {
        let ranks = launch.shape.accelerators_per_replica().to_string();
        let words = ["-n", &ranks, "--host", PEERS, "--allow-run-as-root"];
        let mut all: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        all.extend(["trtllm-llmapi-launch".to_owned(), "trtllm-serve".to_owned()]);
        all.extend(args);
        command("mpirun", all)
    } else {
        command("trtllm-serve", args)
    };
    let mut spec = base(ENGINE, launch, leader, "/health").share_memory(SHARED_BYTES);
    if several {
        spec.worker = Some(command("/usr/sbin/sshd", vec!["-D".to_owned()]));
        spec.port(PortRole::Rendezvous, 22);
        let note = "its nodes are one MPI world: the first reaches the others by SSH without a password, with keys \
                    that the executor puts there";
        spec.notes.push(note.to_owned());
    }
    if let Some(options) = options(launch) {
        spec.files.push(File { path: OPTIONS.to_owned(), content: options });
        spec.scratch();
    }
    if matches!(launch.weights, Weights::Repository { .. }) {
        spec.env.push(Env::secret("HF_TOKEN", Secret::HubToken));
    }
    let missing = [
        (wanted.priority, "priorities of requests by flag"),
        (wanted.kv_events, "events of its cache by flag"),
    ];
    note_key(&mut spec, launch);
    note_missing(&mut spec, &missing);
    spec.notes.push("the model's name in requests is the last part of its path".to_owned());
    Ok(spec)
}

fn arguments(launch: &Launch) -> Result<Vec<String>, LaunchError> {
    let (shape, wanted) = (&launch.shape, &launch.features);
    let mut args = Arguments::new(ENGINE, launch);
    args.set("--host", LISTEN).set("--port", PORT).set("--backend", "pytorch");
    args.maybe("--revision", launch.revision());
    let tensor = shape.tensor.saturating_mul(shape.data.max(1));
    args.set("--tp_size", tensor);
    if shape.pipeline > 1 {
        args.set("--pp_size", shape.pipeline);
    }
    if shape.expert_parallel {
        args.set("--ep_size", tensor);
    }
    if launch.nodes() > 1 {
        args.set("--gpus_per_node", launch.accelerators_on_node());
    }
    args.set("--max_seq_len", shape.context);
    args.set("--max_batch_size", shape.sequences);
    args.set("--max_num_tokens", shape.batch_tokens);
    // A share of what is free once the weights are there, where others count the whole memory.
    args.set("--kv_cache_free_gpu_memory_fraction", shape.utilisation);
    args.maybe("--tool_parser", wanted.tool_parser.as_ref());
    args.maybe("--reasoning_parser", wanted.reasoning_parser.as_ref());
    args.maybe("--chat_template", wanted.chat_template.as_ref());
    if wanted.trusts_remote_code {
        args.switch("--trust_remote_code");
    }
    if options(launch).is_some() {
        args.set("--extra_llm_api_options", format!("{SCRATCH}/{OPTIONS}"));
    }
    let weights = launch.weights();
    args.finish(&[weights.as_str()], launch)
}

/// Options of its API that have no flag (`KvCacheConfig` and `LlmArgs` of tensorrt_llm/llmapi/llm_args.py).
fn options(launch: &Launch) -> Option<String> {
    let mut lines = Vec::new();
    let mut cache = Vec::new();
    if let Some(is_wanted) = launch.features.prefix_cache {
        cache.push(format!("  enable_block_reuse: {is_wanted}"));
    }
    if launch.shape.kv_dtype == Dtype::Fp8 {
        cache.push("  dtype: fp8".to_owned());
    }
    if !cache.is_empty() {
        lines.push("kv_cache_config:".to_owned());
        lines.extend(cache);
    }
    if launch.shape.data > 1 {
        lines.push("enable_attention_dp: true".to_owned());
    }
    if !launch.shape.graphs {
        lines.push("cuda_graph_config: null".to_owned());
    }
    (!lines.is_empty()).then(|| lines.join("\n") + "\n")
}
