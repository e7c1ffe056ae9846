//! Which hardware each program runs on, by vendor and generation.

use crate::hardware::{Accelerator, Vendor};
use crate::launch::Engine;
use crate::size::{Dtype, Quantization};

/// Why a program does not run on that hardware; none where it does.
///
/// | Program | Where that is said |
/// |---|---|
/// | vLLM | docs/getting_started/installation at v0.21.0: compute capability 7.5, MI200, MI300, MI350, XPU, x86 and Arm; TPU, Gaudi by plugins |
/// | SGLang | docs.sglang.io/docs/hardware-platforms: NVIDIA, Jetson Orin, AMD (MI300X), Xeon with AMX, XPU, TPU by its JAX engine |
/// | TGI | docs/source/installation_{nvidia,amd,gaudi,intel,tpu}.md at v3.3.7: H100, A100, A10G, T4; MI210, MI250, MI300 |
/// | TensorRT-LLM | nvidia.github.io/TensorRT-LLM/supported-hardware: Ampere, Ada, Hopper, Blackwell |
/// | Triton | its vLLM backend's container is built for NVIDIA |
/// | DeepSpeed | its kernels for generation are built for NVIDIA from Ampere on; from memory |
/// | llama.cpp, Ollama | CUDA, ROCm, Metal, SYCL, processors; from memory for Ollama |
pub(super) fn refuses(engine: Engine, hardware: &Accelerator) -> Option<String> {
    let name = hardware.name;
    let is_there = match engine {
        Engine::Vllm => vllm(hardware),
        Engine::Sglang => sglang(hardware),
        Engine::Tgi => tgi(hardware),
        Engine::TensorRtLlm | Engine::DeepSpeed => nvidia_from(hardware, &["volta", "turing"]),
        Engine::Triton => nvidia_from(hardware, &["volta"]),
        Engine::LlamaCpp => !matches!(hardware.vendor, Vendor::Google) && !is_gaudi(hardware),
        Engine::Ollama => {
            matches!(hardware.vendor, Vendor::Nvidia | Vendor::Amd | Vendor::Apple | Vendor::Cpu)
        }
        Engine::Embedded => matches!(hardware.vendor, Vendor::Cpu | Vendor::Apple),
    };
    if is_there {
        return None;
    }
    Some(match engine {
        Engine::Embedded => format!("computes on processors, not on {name}"),
        _ => format!("does not run on {name}"),
    })
}

fn is_gaudi(hardware: &Accelerator) -> bool {
    hardware.generation.starts_with("gaudi")
}

fn nvidia_from(hardware: &Accelerator, without: &[&str]) -> bool {
    hardware.vendor == Vendor::Nvidia && !without.contains(&hardware.generation)
}

fn vllm(hardware: &Accelerator) -> bool {
    match hardware.vendor {
        Vendor::Nvidia => hardware.generation != "volta",
        Vendor::Amd | Vendor::Intel | Vendor::Google | Vendor::Cpu => true,
        Vendor::Apple => false,
    }
}

fn sglang(hardware: &Accelerator) -> bool {
    match hardware.vendor {
        Vendor::Nvidia => hardware.generation != "volta",
        Vendor::Amd => hardware.generation != "cdna2",
        Vendor::Intel => !is_gaudi(hardware),
        Vendor::Cpu => hardware.generation == "sapphire-rapids",
        Vendor::Google => true,
        Vendor::Apple => false,
    }
}

fn tgi(hardware: &Accelerator) -> bool {
    match hardware.vendor {
        Vendor::Nvidia => hardware.generation != "volta" && hardware.generation != "blackwell",
        Vendor::Amd => hardware.generation != "cdna4",
        Vendor::Intel | Vendor::Google => true,
        Vendor::Apple | Vendor::Cpu => false,
    }
}

/// Why a program does not take weights quantised so on that hardware; none where it does.
///
/// | Program | Where that is said |
/// |---|---|
/// | vLLM | docs.vllm.ai/en/v0.14.0/features/quantization: on x86 AWQ, GPTQ and INT8 only; FP8 on Ampere as weights alone (fp8 page of v0.32.0); MXFP4 from Ampere on and on ROCm (quantization/mxfp4.py), open on processors (issue 23934); the rest from memory |
/// | SGLang | `QUANTIZATION_CHOICES` of server_args.py at 0.5.9; docs.sglang.io/docs/hardware-platforms/cpu_server: BF16, INT8, FP8 |
/// | TGI | the enum of its launcher at v3.3.7 |
/// | TensorRT-LLM | the page of its PyTorch backend (1.0.0rc4); MXFP4 on Hopper and Blackwell, which its guide to gpt-oss is for |
/// | Ollama | convert/ at 01cf744 reads 16 and 32 bits, and MXFP4 of gpt-oss |
pub(super) fn refuses_weights(
    engine: Engine,
    quantization: &Quantization,
    hardware: &Accelerator,
) -> Option<String> {
    let is_taken = match (engine, quantization) {
        (_, Quantization::None | Quantization::Gguf { .. }) => true,
        (Engine::DeepSpeed | Engine::LlamaCpp | Engine::Embedded, _) => false,
        (Engine::Tgi, _) => matches!(
            quantization,
            Quantization::Awq { .. }
                | Quantization::Gptq { .. }
                | Quantization::Packed { .. }
                | Quantization::BitsAndBytes { .. }
                | Quantization::Fp8 { .. }
        ),
        (Engine::TensorRtLlm, Quantization::Fp8 { .. }) => hardware.computes(Dtype::Fp8),
        (Engine::TensorRtLlm, Quantization::Nvfp4) => hardware.computes(Dtype::Fp4),
        (Engine::TensorRtLlm, Quantization::Mxfp4) => {
            matches!(hardware.generation, "hopper" | "blackwell")
        }
        (Engine::TensorRtLlm, _) => matches!(quantization, Quantization::Awq { .. }),
        (Engine::Ollama, _) => *quantization == Quantization::Mxfp4,
        (Engine::Vllm, _) if hardware.is_processor() => matches!(
            quantization,
            Quantization::Awq { .. }
                | Quantization::Gptq { .. }
                | Quantization::Packed { .. }
                | Quantization::Int8
        ),
        (Engine::Sglang, _) if hardware.is_processor() => {
            matches!(quantization, Quantization::Int8 | Quantization::Fp8 { .. })
        }
        (Engine::Sglang, Quantization::Nvfp4) => {
            hardware.vendor == Vendor::Nvidia && hardware.computes(Dtype::Fp4)
        }
        (Engine::Vllm | Engine::Triton, Quantization::Nvfp4) => hardware.vendor == Vendor::Nvidia,
        (_, Quantization::Other { .. }) => false,
        _ => true,
    };
    (!is_taken).then(|| format!("does not take {quantization} weights on {}", hardware.name))
}
