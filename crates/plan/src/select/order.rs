//! The order of programs for a wish, and what is said of each.

use super::{Aim, Wish};
use crate::hardware::Vendor;
use crate::launch::Engine;
use crate::size::{Dtype, Format, Quantization, Task};

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
        let because = "latent attention in data-parallel ranks with experts across all of them is its strength";
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
        Aim::Edge | Aim::Balance => {
            (&[Engine::Vllm], "it runs the most models on the most hardware, with all features")
        }
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
        because.to_owned()
    } else {
        format!("{}; those before it cannot", strength(engine))
    }
}

/// Whether a program is taken without being asked for.
pub(super) fn volunteers(engine: Engine, wish: &Wish<'_>) -> bool {
    engine != Engine::Ollama || wish.asked == Some(Engine::Ollama)
}

/// What is said of a program that could, but came later.
pub(super) fn remark(engine: Engine) -> String {
    let text = match engine {
        Engine::Vllm => "runs it too, with the widest choice of models and hardware",
        Engine::Sglang => {
            "runs it too; strong where prompts share beginnings and with many experts"
        }
        Engine::TensorRtLlm => "runs it too, on NVIDIA alone and fewer models",
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

const fn strength(engine: Engine) -> &'static str {
    match engine {
        Engine::Vllm => "it runs the most models on the most hardware",
        Engine::Sglang => "it runs this model on this hardware",
        Engine::TensorRtLlm => "it runs this model on NVIDIA's hardware",
        Engine::Tgi => "it runs this model, though in maintenance",
        Engine::Triton => "it runs this model by vLLM's backend",
        Engine::DeepSpeed => "it runs this model, though little maintained",
        Engine::LlamaCpp => "it runs GGUF on any device",
        Engine::Embedded => "it runs GGUF on the processor, with nothing to install",
        Engine::Ollama => "it was asked for",
    }
}
