//! The container image of a program's release for a vendor's hardware, where the project publishes one.

use super::{Engine, Launch, Version};
use crate::hardware::Vendor;

/// The image, or that there is none. Without a release it is the newest whose flags are known.
pub(super) fn image(engine: Engine, launch: &Launch) -> (Option<String>, Option<String>) {
    if engine == Engine::Embedded {
        return (None, None);
    }
    let version = launch.version.or_else(|| engine.table().newest());
    let Some(version) = version else { return (None, None) };
    let vendor = launch.accelerator.vendor;
    match name(engine, vendor, launch.accelerator.generation, version) {
        Some(image) => (Some(image), None),
        None => {
            let what = format!(
                "no image of {} for {} is known here; name one",
                engine.title(),
                launch.accelerator.name
            );
            (None, Some(what))
        }
    }
}

/// Names as used in the projects' own documentation and deployment files: Docker Hub `vllm/vllm-openai`,
/// `vllm/vllm-openai-rocm`, `vllm/vllm-openai-cpu` (with the processor's architecture behind it),
/// `lmsysorg/sglang`, `ollama/ollama`; `ghcr.io/huggingface/text-generation-inference` (README at v3.3.7);
/// `nvcr.io/nvidia/tensorrt-llm/release`; `nvcr.io/nvidia/tritonserver` (its OpenAI front end's page);
/// `ghcr.io/ggml-org/llama.cpp`.
fn name(engine: Engine, vendor: Vendor, generation: &str, v: Version) -> Option<String> {
    Some(match (engine, vendor) {
        (Engine::Vllm, Vendor::Nvidia) => format!("vllm/vllm-openai:v{v}"),
        (Engine::Vllm, Vendor::Amd) => format!("vllm/vllm-openai-rocm:v{v}"),
        (Engine::Vllm, Vendor::Cpu) => format!("vllm/vllm-openai-cpu:v{v}-x86_64"),
        (Engine::Sglang, Vendor::Nvidia) => format!("lmsysorg/sglang:v{v}"),
        (Engine::Sglang, Vendor::Amd) => {
            let family = if generation == "cdna4" { "mi35x" } else { "mi30x" };
            format!("lmsysorg/sglang:v{v}-rocm720-{family}")
        }
        (Engine::Tgi, Vendor::Nvidia) => {
            format!("ghcr.io/huggingface/text-generation-inference:{v}")
        }
        (Engine::Tgi, Vendor::Amd) => {
            format!("ghcr.io/huggingface/text-generation-inference:{v}-rocm")
        }
        (Engine::TensorRtLlm, Vendor::Nvidia) => {
            format!("nvcr.io/nvidia/tensorrt-llm/release:{v}")
        }
        (Engine::Triton, Vendor::Nvidia) => {
            format!("nvcr.io/nvidia/tritonserver:{v}-vllm-python-py3")
        }
        (Engine::LlamaCpp, Vendor::Nvidia) => {
            format!("ghcr.io/ggml-org/llama.cpp:server-cuda-b{v}")
        }
        (Engine::LlamaCpp, Vendor::Amd) => format!("ghcr.io/ggml-org/llama.cpp:server-rocm-b{v}"),
        (Engine::LlamaCpp, Vendor::Cpu) => format!("ghcr.io/ggml-org/llama.cpp:server-b{v}"),
        (Engine::Ollama, Vendor::Amd) => format!("ollama/ollama:{v}-rocm"),
        (Engine::Ollama, Vendor::Nvidia | Vendor::Cpu) => format!("ollama/ollama:{v}"),
        _ => return None,
    })
}

/// What Kubernetes calls a vendor's accelerators: the names that their device plugins register.
pub(super) fn resource(vendor: Vendor, generation: &str) -> Option<&'static str> {
    match vendor {
        Vendor::Nvidia => Some("nvidia.com/gpu"),
        Vendor::Amd => Some("amd.com/gpu"),
        Vendor::Intel if generation.starts_with("gaudi") => Some("habana.ai/gaudi"),
        // The kernel's driver has another name from Xe2 on, and Intel's plugin counts cards by that.
        Vendor::Intel if generation.starts_with("xe2") => Some("gpu.intel.com/xe"),
        Vendor::Intel => Some("gpu.intel.com/i915"),
        Vendor::Google => Some("google.com/tpu"),
        Vendor::Apple | Vendor::Cpu => None,
    }
}
