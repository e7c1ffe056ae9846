//! Ollama: `ollama serve`, set up by its environment. It loads models on demand, from its own store.

use super::arguments::{no_adapters, no_pipeline, note_key, note_missing, one_node};
use super::base::{base, command};
use super::instead::{CONTEXT, PARALLEL, REMOVE};
use super::{Arguments, Engine, Env, LISTEN, Launch, LaunchError, LaunchSpec, PORT};
use crate::size::Dtype;

const ENGINE: Engine = Engine::Ollama;

/// What Pilotage sets.
pub(super) const OURS: &[(&str, &str)] = &[
    ("OLLAMA_HOST", REMOVE),
    ("OLLAMA_NUM_PARALLEL", PARALLEL),
    ("OLLAMA_CONTEXT_LENGTH", CONTEXT),
    ("OLLAMA_MAX_LOADED_MODELS", REMOVE),
];

/// How to start it.
pub(super) fn spec(launch: &Launch) -> Result<LaunchSpec, LaunchError> {
    no_pipeline(ENGINE, launch)?;
    one_node(ENGINE, launch)?;
    no_adapters(ENGINE, launch)?;
    let wanted = &launch.features;
    let mut spec =
        base(ENGINE, launch, command("ollama", vec!["serve".to_owned()]), "/api/version");
    let mut args = Arguments::new(ENGINE, launch);
    args.word(format!("OLLAMA_HOST={LISTEN}:{PORT}"));
    args.word(format!("OLLAMA_NUM_PARALLEL={}", launch.shape.sequences));
    args.word(format!("OLLAMA_CONTEXT_LENGTH={}", launch.shape.context));
    args.word("OLLAMA_MAX_LOADED_MODELS=1");
    // Never unloaded: the gateway counts on what is ready.
    args.word("OLLAMA_KEEP_ALIVE=-1");
    if matches!(launch.shape.kv_dtype, Dtype::Fp8 | Dtype::Int8) {
        args.word("OLLAMA_KV_CACHE_TYPE=q8_0").word("OLLAMA_FLASH_ATTENTION=1");
    }
    for word in args.finish(&[], launch)? {
        if let Some((name, value)) = word.split_once('=') {
            spec.env.push(Env::plain(name, value));
        }
    }
    let missing = [
        (wanted.priority, "priorities"),
        (wanted.kv_events, "events of its cache"),
        (wanted.chat_template.is_some(), "template of chats outside of its model files"),
    ];
    note_key(&mut spec, launch);
    note_missing(&mut spec, &missing);
    let note = "a file of weights is taken into its store first: `ollama create NAME`, with a Modelfile that says \
                `FROM` and the path";
    spec.notes.push(note.to_owned());
    Ok(spec)
}
