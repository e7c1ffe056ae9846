//! The programs that run models: their names, and what is the same in all versions of each.

use std::fmt;

use serde::Serialize;

use super::flags::{self, Table};
use crate::api::{Dialect, Runtime};

/// A program that runs models.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Engine {
    /// The engine inside of Pilotage.
    #[serde(rename = "embedded")]
    Embedded,
    /// vLLM.
    #[serde(rename = "vllm")]
    Vllm,
    /// SGLang.
    #[serde(rename = "sglang")]
    Sglang,
    /// Text Generation Inference of Hugging Face.
    #[serde(rename = "tgi")]
    Tgi,
    /// TensorRT-LLM by `trtllm-serve`.
    #[serde(rename = "trtllm")]
    TensorRtLlm,
    /// Triton with its OpenAI front end.
    #[serde(rename = "triton")]
    Triton,
    /// DeepSpeed by MII.
    #[serde(rename = "deepspeed")]
    DeepSpeed,
    /// llama.cpp's server.
    #[serde(rename = "llama.cpp")]
    LlamaCpp,
    /// Ollama.
    #[serde(rename = "ollama")]
    Ollama,
}

impl Engine {
    /// All of them, in the order in which a reader wants to meet them.
    pub const ALL: [Self; 9] = [
        Self::Embedded,
        Self::Vllm,
        Self::Sglang,
        Self::Tgi,
        Self::TensorRtLlm,
        Self::Triton,
        Self::DeepSpeed,
        Self::LlamaCpp,
        Self::Ollama,
    ];

    /// The name in manifests and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
            Self::Tgi => "tgi",
            Self::TensorRtLlm => "trtllm",
            Self::Triton => "triton",
            Self::DeepSpeed => "deepspeed",
            Self::LlamaCpp => "llama.cpp",
            Self::Ollama => "ollama",
        }
    }

    /// What people call it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Embedded => "the embedded engine",
            Self::Vllm => "vLLM",
            Self::Sglang => "SGLang",
            Self::Tgi => "TGI",
            Self::TensorRtLlm => "TensorRT-LLM",
            Self::Triton => "Triton",
            Self::DeepSpeed => "DeepSpeed",
            Self::LlamaCpp => "llama.cpp",
            Self::Ollama => "Ollama",
        }
    }

    /// The Python package that it is.
    pub const fn package(self) -> Option<&'static str> {
        match self {
            Self::Vllm => Some("vllm"),
            Self::Sglang => Some("sglang"),
            Self::TensorRtLlm => Some("tensorrt_llm"),
            Self::DeepSpeed => Some("deepspeed_mii"),
            Self::Embedded | Self::Tgi | Self::Triton | Self::LlamaCpp | Self::Ollama => None,
        }
    }

    /// Which server it is, in manifests.
    pub const fn dialect(self) -> Dialect {
        match self {
            Self::Embedded => Dialect::Pilotage,
            Self::Vllm => Dialect::Vllm,
            Self::Sglang => Dialect::Sglang,
            Self::Tgi => Dialect::Tgi,
            Self::TensorRtLlm => Dialect::Trtllm,
            // Started with their OpenAI front ends.
            Self::Triton | Self::DeepSpeed => Dialect::OpenAi,
            Self::LlamaCpp => Dialect::LlamaCpp,
            Self::Ollama => Dialect::Ollama,
        }
    }

    /// Whose metrics it tells, at its port for requests: Triton's front end tells Triton's.
    pub const fn metrics_of(self) -> Dialect {
        match self {
            Self::Triton => Dialect::Triton,
            other => other.dialect(),
        }
    }

    /// The one of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|engine| engine.name() == name)
    }

    /// Its flags, or variables, by release.
    pub fn table(self) -> Table {
        flags::table(self)
    }

    /// Whether it is set up by its environment instead of flags.
    pub const fn is_set_by_environment(self) -> bool {
        matches!(self, Self::Ollama)
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Runtime {
    /// The name of a program in manifests.
    pub const fn of(engine: Engine) -> Self {
        match engine {
            Engine::Embedded => Self::Embedded,
            Engine::Vllm => Self::Vllm,
            Engine::Sglang => Self::Sglang,
            Engine::Tgi => Self::Tgi,
            Engine::TensorRtLlm => Self::Trtllm,
            Engine::Triton => Self::Triton,
            Engine::DeepSpeed => Self::Deepspeed,
            Engine::LlamaCpp => Self::LlamaCpp,
            Engine::Ollama => Self::Ollama,
        }
    }

    /// The program of that name; none where Pilotage chooses.
    pub const fn engine(self) -> Option<Engine> {
        Some(match self {
            Self::Auto => return None,
            Self::Embedded => Engine::Embedded,
            Self::Vllm => Engine::Vllm,
            Self::Sglang => Engine::Sglang,
            Self::Tgi => Engine::Tgi,
            Self::Trtllm => Engine::TensorRtLlm,
            Self::Triton => Engine::Triton,
            Self::Deepspeed => Engine::DeepSpeed,
            Self::LlamaCpp => Engine::LlamaCpp,
            Self::Ollama => Engine::Ollama,
        })
    }
}
