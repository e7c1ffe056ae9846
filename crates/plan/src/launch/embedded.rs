//! The embedded engine: `pilotage engine`, one GGUF file, mostly on processors.

use super::arguments::{no_adapters, note_missing, one_node, unsupported};
use super::base::{base, command};
use super::instead::{BATCH, CONTEXT, PARALLEL, REMOVE, SOURCE, THREADS};
use super::{
    Arguments, Engine, Env, LISTEN, Launch, LaunchError, LaunchSpec, PORT, Secret, WEIGHTS, Weights,
};
use crate::size::Task;

const ENGINE: Engine = Engine::Embedded;

/// What Pilotage sets.
pub(super) const OURS: &[(&str, &str)] = &[
    ("--model", SOURCE),
    ("--served-name", REMOVE),
    ("--listen", REMOVE),
    ("--parallel", PARALLEL),
    ("--context", CONTEXT),
    ("--batch-tokens", BATCH),
    ("--threads", THREADS),
    ("--queue-max", "write `spec.queueMax`"),
];

/// How to start it.
pub(super) fn spec(launch: &Launch) -> Result<LaunchSpec, LaunchError> {
    one_node(ENGINE, launch)?;
    no_adapters(ENGINE, launch)?;
    let (shape, wanted) = (&launch.shape, &launch.features);
    if shape.accelerators_per_replica() > 1 {
        let what = "computes on one device";
        return Err(unsupported(ENGINE, what, "choose llama.cpp or vLLM, or a shape of one"));
    }
    if wanted.task == Task::Rerank {
        return Err(unsupported(ENGINE, "does not score texts", "choose llama.cpp or vLLM"));
    }
    if launch.weights != Weights::Local {
        let instead = "name a GGUF file, which Pilotage fetches";
        return Err(unsupported(ENGINE, "fetches no weights itself", instead));
    }
    let mut args = Arguments::new(ENGINE, launch);
    args.set("--model", WEIGHTS).set("--served-name", &launch.served);
    args.set("--listen", format!("{LISTEN}:{PORT}"));
    args.set("--parallel", shape.sequences).set("--context", shape.context);
    args.maybe("--threads", launch.threads);
    args.set("--batch-tokens", shape.batch_tokens);
    let words = args.finish(&["engine"], launch)?;
    let mut spec = base(ENGINE, launch, command("pilotage", words), "/health");
    if launch.has_key {
        spec.env.push(Env::secret("PILOTAGE_ENGINE_KEY", Secret::EngineKey));
    }
    let missing = [
        (wanted.kv_events, "events of its cache"),
        (wanted.chat_template.is_some(), "template of chats outside of its file of weights"),
    ];
    note_missing(&mut spec, &missing);
    Ok(spec)
}
