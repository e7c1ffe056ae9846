//! The order of programs for a wish, and what is said of each.

use super::{Aim, Wish, support};
use crate::hardware::Vendor;
use crate::launch::Engine;
use crate::size::{Dtype, Format, ModelFacts, Quantization, Task};

/// An order, and why it is this one.
pub(super) struct Ordered {
    /// All programs, the best first.
    pub(super) engines: Vec<Engine>,
    /// Why the first comes first.
    pub(super) because: &'static str,
}

/// The order for a wish.
pub(super) fn order(wish: &Wish<'_>) -> Ordered {
    let (first, because) = first(wish);
    let mut engines = first.to_vec();
    engines.extend(USUAL.into_iter().filter(|engine| !first.contains(engine)));
    Ordered { engines, because }
}

/// The order where nothing speaks for another one.
const USUAL: [Engine; 9] = [
    Engine::Vllm,
    Engine::Sglang,
    Engine::TensorRtLlm,
    Engine::Tgi,
    Engine::LlamaCpp,
    Engine::Embedded,
    Engine::Triton,
    Engine::DeepSpeed,
    Engine::Ollama,
];

fn first(wish: &Wish<'_>) -> (&'static [Engine], &'static str) {
    let (facts, hardware) = (wish.facts, wish.accelerator);
    if facts.format == Format::Gguf {
        return gguf(wish);
    }
    if facts.task != Task::Generate {
        return (&[Engine::Vllm, Engine::Sglang], "it serves embeddings and scores of most models");
    }
    let is_fp4 = facts.quantization == Quantization::Nvfp4 && hardware.computes(Dtype::Fp4);
    if is_fp4 && hardware.vendor == Vendor::Nvidia && wish.aim == Aim::Throughput {
        let because = "NVFP4 weights on this hardware are what its maker built it for";
        return (&[Engine::TensorRtLlm, Engine::Vllm, Engine::Sglang], because);
    }
    if hardware.id == "jetson-orin" {
        let because = "its documentation covers this module";
        return (&[Engine::Sglang, Engine::Vllm], because);
    }
    if facts.is_latent() && facts.is_mixture() && wish.aim == Aim::Throughput {
        let because = "models with latent attention and many experts are what it is tuned for most, on one node and across many";
        return (&[Engine::Sglang, Engine::Vllm, Engine::TensorRtLlm], because);
    }
    match wish.aim {
        Aim::Throughput => (
            &[Engine::Vllm, Engine::Sglang, Engine::TensorRtLlm],
            "continuous batching with a paged cache, on the widest range of models",
        ),
        Aim::Standard => (
            &[Engine::Vllm, Engine::Tgi],
            "it has the usual interfaces and the most features, and is kept up to date",
        ),
        Aim::Edge | Aim::Balance => (
            &[Engine::Vllm],
            "nothing here speaks for another, and it has the most features and the widest use",
        ),
    }
}

fn gguf(wish: &Wish<'_>) -> (&'static [Engine], &'static str) {
    if wish.accelerator.vendor == Vendor::Cpu {
        let because = "GGUF on a processor needs nothing installed, and is fair inside the batch";
        return (&[Engine::Embedded, Engine::LlamaCpp], because);
    }
    (
        &[Engine::LlamaCpp, Engine::Embedded],
        "GGUF is its own format, and it computes on this device",
    )
}

/// Why a program that came first was taken, or one that moved up because those before it cannot.
pub(super) fn reason(engine: Engine, wish: &Wish<'_>, because: &str) -> String {
    let is_first = first(wish).0.first() == Some(&engine);
    if is_first {
        format!("{}; {because}", basis(engine, wish))
    } else {
        format!("{}; those before it cannot", basis(engine, wish))
    }
}

/// What of the model and the hardware makes a program able.
fn basis(engine: Engine, wish: &Wish<'_>) -> String {
    let (facts, hardware) = (wish.facts, wish.accelerator);
    let model = match facts.format {
        Format::Gguf => format!("it reads GGUF of the {} family", facts.family),
        _ if engine == Engine::Triton => format!("its vLLM backend lists {}", facts.architecture),
        _ if support::guesses(engine, facts) => {
            format!(
                "no runtime lists {}; it goes by the model type `{}`",
                facts.architecture, facts.family
            )
        }
        _ if support::goes_by_family(engine, facts.format) => {
            format!("it lists the model type {}", facts.family)
        }
        _ => format!("it lists {}", facts.architecture),
    };
    let stored = match &facts.quantization {
        Quantization::None => facts.dtype.to_string(),
        Quantization::Gguf { name } => name.clone(),
        other => other.to_string(),
    };
    let native = facts.quantization.computes_in(facts.dtype);
    let widened = native != facts.dtype && !hardware.computes(native);
    let how = if widened { "widens" } else { "takes" };
    let to = if widened { " to 16 bits as it computes," } else { "" };
    format!("{model} and {how} {stored} weights{to} on {}", hardware.name)
}

/// What to know of a program that takes a model of a name that nothing knows.
pub(super) fn warning(engine: Engine, facts: &ModelFacts) -> Option<String> {
    support::guesses(engine, facts).then(|| {
        format!(
            "the architecture `{}` is not known: no runtime lists it. {} runs it as a model of the type `{}`, which \
             is right only if it is built as those are",
            facts.architecture,
            engine.title(),
            facts.family
        )
    })
}

/// Whether a program is taken without being asked for.
pub(super) fn volunteers(engine: Engine, wish: &Wish<'_>) -> bool {
    engine != Engine::Ollama || wish.asked == Some(Engine::Ollama)
}

/// What is said of a program that could, but came later.
pub(super) fn remark(engine: Engine, wish: &Wish<'_>) -> String {
    let facts = wish.facts;
    if support::guesses(engine, facts) {
        return format!("may run it too, by the model type `{}`", facts.family);
    }
    let gguf = facts.format == Format::Gguf;
    let text = match engine {
        Engine::Sglang if gguf => "reads GGUF too, though its kernels are made for other formats",
        Engine::Sglang if facts.is_latent() && facts.is_mixture() => {
            "runs it too; the one to compare with: data-parallel attention and experts over many ranks"
        }
        Engine::Sglang if facts.is_mixture() => {
            "runs it too; the one to compare with where experts are spread over ranks"
        }
        Engine::TensorRtLlm if matches!(wish.accelerator.generation, "hopper" | "blackwell") => {
            "runs it too; often the fastest here once tuned, with fewer models and features"
        }
        Engine::TensorRtLlm => "runs it too, but is tuned for Hopper and Blackwell",
        Engine::LlamaCpp if gguf => "runs it too, as a program to install and keep up to date",
        Engine::Vllm => "runs it too, with the widest choice of models and hardware",
        Engine::Sglang => {
            "runs it too, about as fast; compare where many prompts share long beginnings"
        }
        Engine::Tgi => "runs it too, but is in maintenance: its makers point to vLLM and SGLang",
        Engine::Triton => "runs it by vLLM's backend: one layer more, for who has Triton already",
        Engine::DeepSpeed => {
            "runs it too, without metrics, prefix cache or priorities, and is little maintained"
        }
        Engine::LlamaCpp => "runs it too; made for one machine and few requests at once",
        Engine::Embedded => "runs it too, on the processor",
        Engine::Ollama => "is taken only when asked for: it loads and unloads models by itself",
    };
    text.to_owned()
}
