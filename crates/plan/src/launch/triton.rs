//! Triton with its OpenAI front end and the vLLM backend: a model repository is written, then served.
//!
//! The repository's form is that of the vLLM backend: `NAME/config.pbtxt`, and `NAME/1/model.json` with vLLM's
//! engine arguments.

use serde_json::{Map, Value, json};

use super::arguments::{no_adapters, note_key, note_missing, one_node, unsupported};
use super::base::{SHARED_BYTES, base, command};
use super::instead::REMOVE;
use super::{
    Arguments, Engine, Env, File, LISTEN, Launch, LaunchError, LaunchSpec, PORT, SCRATCH, Secret,
    Weights,
};
use crate::size::{Dtype, Task};

const ENGINE: Engine = Engine::Triton;

/// The front end's program in NVIDIA's container.
const FRONT_END: &str = "/opt/tritonserver/python/openai/openai_frontend/main.py";

/// The folder of models.
const REPOSITORY: &str = "models";

/// What Pilotage sets.
pub(super) const OURS: &[(&str, &str)] = &[
    ("--model-repository", REMOVE),
    ("--tokenizer", REMOVE),
    ("--host", REMOVE),
    ("--openai-port", REMOVE),
    ("--backend", REMOVE),
];

/// How to start it.
pub(super) fn spec(launch: &Launch) -> Result<LaunchSpec, LaunchError> {
    one_node(ENGINE, launch)?;
    no_adapters(ENGINE, launch)?;
    let wanted = &launch.features;
    if wanted.task != Task::Generate {
        let instead = "choose vLLM or SGLang";
        return Err(unsupported(ENGINE, "is not started for embeddings or scores here", instead));
    }
    let mut args = Arguments::new(ENGINE, launch);
    args.set("--model-repository", format!("{SCRATCH}/{REPOSITORY}"));
    args.set("--tokenizer", launch.weights()).set("--backend", "vllm");
    args.set("--host", LISTEN).set("--openai-port", PORT);
    let leader = command("python3", args.finish(&[FRONT_END], launch)?);
    let mut spec = base(ENGINE, launch, leader, "/health/ready").share_memory(SHARED_BYTES);
    spec.scratch();
    spec.files = files(launch);
    if matches!(launch.weights, Weights::Repository { .. }) {
        spec.env.push(Env::secret("HF_TOKEN", Secret::HubToken));
    }
    let missing = [
        (wanted.kv_events, "events of its cache"),
        (wanted.tool_parser.is_some(), "parser for tool calls by flag"),
        (wanted.reasoning_parser.is_some(), "parser for thinking"),
        (wanted.chat_template.is_some(), "template of chats by flag"),
    ];
    note_key(&mut spec, launch);
    note_missing(&mut spec, &missing);
    Ok(spec)
}

fn files(launch: &Launch) -> Vec<File> {
    let folder = format!("{REPOSITORY}/{}", launch.served);
    let config =
        "backend: \"vllm\"\ninstance_group [\n  {\n    count: 1\n    kind: KIND_MODEL\n  }\n]\n";
    let engine = serde_json::to_string_pretty(&Value::Object(engine_arguments(launch)));
    vec![
        File { path: format!("{folder}/config.pbtxt"), content: config.to_owned() },
        File { path: format!("{folder}/1/model.json"), content: engine.unwrap_or_default() + "\n" },
    ]
}

/// vLLM's arguments, by their names in `AsyncEngineArgs`.
fn engine_arguments(launch: &Launch) -> Map<String, Value> {
    let shape = &launch.shape;
    let mut all = Map::new();
    let mut set = |name: &str, value: Value| drop(all.insert(name.to_owned(), value));
    set("model", json!(launch.weights()));
    set("tensor_parallel_size", json!(shape.tensor));
    if shape.pipeline > 1 {
        set("pipeline_parallel_size", json!(shape.pipeline));
    }
    if shape.expert_parallel {
        set("enable_expert_parallel", json!(true));
    }
    set("max_model_len", json!(shape.context));
    set("max_num_seqs", json!(shape.sequences));
    set("max_num_batched_tokens", json!(shape.batch_tokens));
    set("gpu_memory_utilization", json!(shape.utilisation));
    if shape.kv_dtype == Dtype::Fp8 {
        set("kv_cache_dtype", json!("fp8"));
    }
    if !shape.graphs {
        set("enforce_eager", json!(true));
    }
    if let Some(is_wanted) = launch.features.prefix_cache {
        set("enable_prefix_caching", json!(is_wanted));
    }
    if launch.features.priority {
        set("scheduling_policy", json!("priority"));
    }
    if launch.features.trusts_remote_code {
        set("trust_remote_code", json!(true));
    }
    all
}
