//! DeepSpeed by MII: its OpenAI server, `python -m mii.entrypoints.openai_api_server`.

use super::arguments::{no_adapters, no_pipeline, note_key, note_missing, one_node, unsupported};
use super::base::{SHARED_BYTES, base, command};
use super::instead::{CONTEXT, REMOVE, SHAPE, SOURCE};
use super::{
    Arguments, Engine, Env, LISTEN, Launch, LaunchError, LaunchSpec, PORT, Secret, Weights,
};
use crate::size::Task;

const ENGINE: Engine = Engine::DeepSpeed;

/// What Pilotage sets.
pub(super) const OURS: &[(&str, &str)] = &[
    ("--model", SOURCE),
    ("--deployment-name", REMOVE),
    ("--host", REMOVE),
    ("--port", REMOVE),
    ("--api-keys", REMOVE),
    ("--tensor-parallel", SHAPE),
    ("--replica-num", "write `spec.replicas`"),
    ("--max-length", CONTEXT),
    ("--max_length", CONTEXT),
];

/// How to start it.
pub(super) fn spec(launch: &Launch) -> Result<LaunchSpec, LaunchError> {
    no_pipeline(ENGINE, launch)?;
    one_node(ENGINE, launch)?;
    no_adapters(ENGINE, launch)?;
    let wanted = &launch.features;
    if wanted.task != Task::Generate {
        let instead = "choose vLLM or SGLang";
        return Err(unsupported(ENGINE, "serves no embeddings and no scores", instead));
    }
    let mut args = Arguments::new(ENGINE, launch);
    args.set("--model", launch.weights()).set("--deployment-name", &launch.served);
    args.set("--host", LISTEN).set("--port", PORT);
    args.set("--tensor-parallel", launch.shape.tensor);
    args.set("--max-length", launch.shape.context);
    args.maybe("--chat-template", wanted.chat_template.as_ref());
    let words = args.finish(&["-m", "mii.entrypoints.openai_api_server"], launch)?;
    let mut spec =
        base(ENGINE, launch, command("python", words), "/health").share_memory(SHARED_BYTES);
    if matches!(launch.weights, Weights::Repository { .. }) {
        spec.env.push(Env::secret("HF_TOKEN", Secret::HubToken));
    }
    let missing = [
        (wanted.priority, "priorities"),
        (wanted.kv_events, "events of its cache"),
        (wanted.tool_parser.is_some(), "tool calls"),
        (wanted.reasoning_parser.is_some(), "parser for thinking"),
        (wanted.prefix_cache == Some(true), "cache of prefixes"),
    ];
    note_key(&mut spec, launch);
    note_missing(&mut spec, &missing);
    spec.notes.push("it has no metrics, and little is done to keep it up to date".to_owned());
    Ok(spec)
}
