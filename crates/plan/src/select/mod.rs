//! Which program runs a model: `runtime: auto`, decided and explained.
//!
//! Every program is asked the same questions in the same order (does it run on the hardware, read the files, know
//! the model, its quantisation, and have the features?); the first that it fails is its reason. Those that pass
//! are ordered by what is wanted, and the first is taken. There are no scores: an order says all that is known.

mod hardware;
mod order;
mod proposal;
mod support;

#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::hardware::Accelerator;
use crate::launch::{Engine, Features};
use crate::size::{Format, ModelFacts, Task};

use support::Support;

pub use proposal::{NoProposal, Proposal, Question, Short, propose, sizing, takes};

/// What is wanted of a program.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The model.
    pub facts: &'a ModelFacts,
    /// What it runs on.
    pub accelerator: &'a Accelerator,
    /// Nodes of one replica; 1 where nobody knows yet.
    pub nodes: u32,
    /// What it has to be able to do.
    pub features: &'a Features,
    /// What matters most.
    pub aim: Aim,
    /// The program that was asked for; none lets the order decide.
    pub asked: Option<Engine>,
    /// The programs on this machine, where it has to be one of them.
    pub installed: Option<&'a [Engine]>,
}

/// What matters most.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    /// Nothing in particular.
    #[default]
    Balance,
    /// Tokens a second for the money.
    Throughput,
    /// The interfaces and features that everybody has.
    Standard,
    /// Little hardware, few requests at once.
    Edge,
}

/// What was decided.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Selection {
    /// The program; none where none can.
    pub engine: Option<Engine>,
    /// Why it, or why none.
    pub reason: String,
    /// What to know before it is started: it may not run the model after all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// All others: those that could, in their order, then those that cannot.
    pub others: Vec<Other>,
}

/// A program that was not taken.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Other {
    /// Which.
    pub engine: Engine,
    /// Whether it could.
    pub can: bool,
    /// Why it was not taken.
    pub reason: String,
}

/// Decides.
pub fn select(wish: &Wish<'_>) -> Selection {
    let asked_for = |engine: &Engine| wish.asked.is_none_or(|asked| asked == *engine);
    let ordered = order::order(wish);
    let mut others = Vec::new();
    let mut refused = Vec::new();
    let mut chosen = None;
    for engine in ordered.engines {
        match cannot(engine, wish) {
            Some(reason) => refused.push(Other { engine, can: false, reason }),
            None if chosen.is_none() && asked_for(&engine) && order::volunteers(engine, wish) => {
                chosen = Some(engine);
            }
            None => others.push(Other { engine, can: true, reason: order::remark(engine, wish) }),
        }
    }
    let reason = match (chosen, wish.asked) {
        (Some(engine), Some(_)) if support::guesses(engine, wish.facts) => {
            format!("asked for, and it goes by the model type `{}`", wish.facts.family)
        }
        (Some(_), Some(_)) => "asked for, and it runs this".to_owned(),
        (Some(engine), None) => order::reason(engine, wish, ordered.because),
        (None, Some(asked)) => refused.iter().find(|other| other.engine == asked).map_or_else(
            || format!("{} is not known here", asked.title()),
            |other| format!("{} {}", asked.title(), other.reason),
        ),
        (None, None) => nothing(wish),
    };
    others.append(&mut refused);
    let warning = chosen.and_then(|engine| order::warning(engine, wish.facts));
    Selection { engine: chosen, reason, warning, others }
}

/// The first question that a program fails.
fn cannot(engine: Engine, wish: &Wish<'_>) -> Option<String> {
    hardware::refuses(engine, wish.accelerator)
        .or_else(|| format(engine, wish))
        .or_else(|| model(engine, wish.facts))
        .or_else(|| hardware::refuses_weights(engine, &wish.facts.quantization, wish.accelerator))
        .or_else(|| features(engine, wish))
        .or_else(|| nodes(engine, wish.nodes))
        .or_else(|| absent(engine, wish.installed))
}

fn format(engine: Engine, wish: &Wish<'_>) -> Option<String> {
    if support::reads(engine, wish.facts.format) {
        return None;
    }
    Some(match wish.facts.format {
        Format::Gguf => "reads safetensors, not GGUF".to_owned(),
        _ => "reads GGUF files; convert the weights first".to_owned(),
    })
}

fn model(engine: Engine, facts: &ModelFacts) -> Option<String> {
    let name = match facts.format {
        Format::Gguf => &facts.family,
        _ => &facts.architecture,
    };
    // In GGUF the families have other names than in transformers.
    if engine == Engine::Sglang && facts.format == Format::Gguf {
        return None;
    }
    match support::support(engine, facts) {
        Support::Listed | Support::Multimodal => None,
        Support::Until(release) => Some(format!("has not had {name} since {release}")),
        Support::Otherwise => Some(format!("has {name}, but not for {}", purpose(facts.task))),
        Support::Unlisted if engine == Engine::Ollama && facts.format != Format::Gguf => {
            Some(format!("does not convert {name}"))
        }
        Support::Unlisted => Some(format!("does not list {name}")),
    }
}

const fn purpose(task: Task) -> &'static str {
    match task {
        Task::Generate => "writing",
        Task::Embed => "embeddings",
        Task::Rerank => "scores",
    }
}

fn features(engine: Engine, wish: &Wish<'_>) -> Option<String> {
    let wanted = wish.features;
    let has_lora = matches!(engine, Engine::Vllm | Engine::Sglang | Engine::Tgi | Engine::LlamaCpp);
    if !wanted.adapters.is_empty() && !has_lora {
        return Some("is not started with LoRA adapters here".to_owned());
    }
    if wanted.loads_adapters && engine.dialect().wire().differences().adapters.is_none() {
        return Some("loads no LoRA adapters while it runs".to_owned());
    }
    if wanted.kv_events && !matches!(engine, Engine::Vllm | Engine::Sglang) {
        return Some("does not tell what its cache holds".to_owned());
    }
    let orders =
        matches!(engine, Engine::Vllm | Engine::Sglang | Engine::Triton | Engine::Embedded);
    if wanted.priority && !orders {
        return Some("has no priorities of requests".to_owned());
    }
    let pools = matches!(
        engine,
        Engine::Vllm | Engine::Sglang | Engine::LlamaCpp | Engine::Embedded | Engine::Ollama
    );
    if wish.facts.task != Task::Generate && !pools {
        return Some(format!("serves no {}", purpose(wish.facts.task)));
    }
    let sees = !matches!(engine, Engine::Embedded | Engine::DeepSpeed);
    let takes = wish.facts.modalities;
    if (takes.vision || takes.audio) && !sees {
        return Some("takes text only, and this model takes more".to_owned());
    }
    None
}

fn nodes(engine: Engine, nodes: u32) -> Option<String> {
    let several =
        matches!(engine, Engine::Vllm | Engine::Sglang | Engine::TensorRtLlm | Engine::LlamaCpp);
    (nodes > 1 && !several).then(|| format!("runs on one node, and {nodes} are needed"))
}

fn absent(engine: Engine, installed: Option<&[Engine]>) -> Option<String> {
    let is_there = engine == Engine::Embedded || installed?.contains(&engine);
    (!is_there).then(|| "is not installed on this machine".to_owned())
}

/// What to do where no program can.
fn nothing(wish: &Wish<'_>) -> String {
    let facts = wish.facts;
    if !support::knows(facts) {
        return format!(
            "unknown architecture `{}`: no runtime lists it, and none that goes by the model type `{}` can take its \
             place here; check `architectures` in config.json, or name a runtime that has code for it",
            facts.architecture, facts.family
        );
    }
    let could_be_gguf =
        matches!(facts.format, Format::Safetensors | Format::Pickle | Format::Unknown);
    if could_be_gguf && hardware::refuses(Engine::LlamaCpp, wish.accelerator).is_none() {
        return format!(
            "nothing runs {} from these files on {}; weights converted to GGUF would run by llama.cpp",
            facts.architecture, wish.accelerator.name
        );
    }
    format!("nothing runs {} on {}", facts.architecture, wish.accelerator.name)
}
