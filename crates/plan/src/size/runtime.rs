//! What a runtime takes besides weights and cache: the memory of its libraries, of a step at its
//! largest and of captured graphs, and what its memory setting is a share of.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::hardware::{Accelerator, Vendor};

/// A program that runs models.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    /// vLLM, of that release: what it reserves changed several times.
    Vllm(Release),
    /// SGLang.
    Sglang,
    /// TensorRT-LLM, its PyTorch back end.
    TensorrtLlm,
    /// Text Generation Inference.
    Tgi,
    /// llama.cpp's server.
    LlamaCpp,
    /// The embedded engine.
    Embedded,
}

/// The second number of a release before 1.0, which is where vLLM's changes are.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Release(pub u32);

impl Release {
    /// A release newer than all that are known.
    pub const LATEST: Self = Self(u32::MAX);

    /// The release in a version's text: `0.19.1` is 19, `1.2` the latest.
    pub fn from_version(version: &str) -> Option<Self> {
        let mut parts = version.trim_start_matches('v').split('.');
        let major: u32 = parts.next()?.parse().ok()?;
        let minor: u32 = parts.next()?.parse().ok()?;
        Some(if major == 0 { Self(minor) } else { Self::LATEST })
    }
}

/// What the memory setting of a runtime is a share of, and what has to fit into that share.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Share {
    /// Of all memory; weights, cache, steps and libraries have to fit.
    Whole,
    /// Of all memory; only weights, cache and libraries have to fit. Steps take from the rest.
    WholeWithoutSteps,
    /// Of what is free once weights are loaded and the largest step was tried: the cache is that
    /// share.
    Free,
}

/// What a runtime takes on each accelerator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Overhead {
    pub share: Share,
    /// Libraries, contexts and their workspaces, in GiB.
    pub libraries_gib: f64,
    /// More of it once there are several ranks: buffers of collective operations.
    pub collectives_gib: f64,
    /// How far off the two may be.
    pub unsure_gib: f64,
    /// Bytes that sampling takes for one sequence and one token of the vocabulary.
    pub logit_bytes: f64,
    /// MiB that captured graphs take in one layer; none where they are not in the share.
    pub graph_mib_a_layer: f64,
    /// Tokens whose logits are computed at once besides those of running sequences.
    pub logit_rows: Option<u32>,
}

impl Runtime {
    /// The newest vLLM.
    pub const VLLM: Self = Self::Vllm(Release::LATEST);

    pub(super) fn overhead(self, accelerator: &Accelerator) -> Overhead {
        match self {
            Self::Vllm(release) => vllm(release, accelerator),
            Self::Tgi => Overhead { unsure_gib: 1.0, ..vllm(Release(10), accelerator) },
            // From one start-up line (vllm-project/vllm issue 21348): 16.5 GiB of cache beside 55.2
            // GiB of weights at 0.93 of 79.2 GiB leave 1.9 GiB with four ranks.
            Self::Sglang => Overhead {
                share: Share::WholeWithoutSteps,
                libraries_gib: 0.9,
                collectives_gib: 1.0,
                unsure_gib: 0.6,
                ..PLAIN
            },
            // From the sequences that fit in ai-dynamo/aiconfigurator@095f58a,
            // tests/integration/test_trtllm_kv_cache_capacity.py: 3.6 to 5.5 GiB on an H100.
            Self::TensorrtLlm => Overhead {
                share: Share::Free,
                libraries_gib: 3.6,
                collectives_gib: 0.9,
                unsure_gib: 1.0,
                logit_rows: Some(0),
                ..PLAIN
            },
            Self::LlamaCpp => ggml(accelerator, 0.4),
            Self::Embedded => ggml(accelerator, 0.15),
        }
    }

    /// The most sequences of a runtime that reserves room for each of them, as long as the context, when it starts;
    /// none where room is given out as sequences grow. 256 are `LLAMA_MAX_SEQ` of llama.cpp's `src/llama-cparams.h`.
    pub const fn slots_max(self) -> Option<u32> {
        match self {
            Self::LlamaCpp | Self::Embedded => Some(256),
            Self::Vllm(_) | Self::Sglang | Self::TensorrtLlm | Self::Tgi => None,
        }
    }

    /// Tokens a step and sequences at once where nobody says, on that accelerator.
    ///
    /// vLLM's (`vllm/engine/arg_utils.py`, `get_batch_defaults`): 8192 and 1024 for a server on
    /// what has 70 GiB and is no A100, 2048 and 128 for one on a processor, else 2048 and 256. llama.cpp's: `--batch-size 2048`, of
    /// which `--ubatch-size 512` at once.
    pub fn default_batch(self, accelerator: &Accelerator) -> (u32, u32) {
        let large = accelerator.memory_bytes >= 70 << 30 && !accelerator.id.starts_with("a100");
        match self {
            Self::LlamaCpp | Self::Embedded => (512, 8),
            Self::TensorrtLlm => (8192, 2048),
            Self::Sglang => (8192, 256),
            Self::Tgi => (4096, 128),
            Self::Vllm(_) if accelerator.is_processor() => (2048, 128),
            Self::Vllm(_) if large => (8192, 1024),
            Self::Vllm(_) => (2048, 256),
        }
    }
}

const PLAIN: Overhead = Overhead {
    share: Share::Whole,
    libraries_gib: 0.25,
    collectives_gib: 0.4,
    unsure_gib: 0.2,
    logit_bytes: 14.0,
    graph_mib_a_layer: 0.0,
    logit_rows: None,
};

/// vLLM. All figures are of its own start-up lines, of which jgchn/llm-d-planner (accuracy/results)
/// has some sixty on H100 and llm-d/llm-d-benchmark
/// (config_explorer/empirical-vllm-memory-results.md) older ones.
///
/// - Sampling: 14 bytes for a sequence and token: logits in 16 and in 32 bits and sorted positions
///   in 64. Up to 0.16 sorting kept several copies: 38. The first engine, up to 0.7, sampled
///   greedily at start-up: 6.
/// - Ranks: 0.4 GiB of buffers where there is NVLink; its own all-reduce is switched off over PCIe.
///   From 0.17 on, on Hopper and newer, 1.8 GiB: with the buffers of all-reduces fused with norms.
/// - Libraries: 0.25 GiB, up to 0.16 between 0.01 and 0.26, half of the lines below 0.13.
/// - Graphs: captured after the cache was sized, outside of its share, up to 0.20; inside from 0.21
///   on.
fn vllm(release: Release, accelerator: &Accelerator) -> Overhead {
    let recent = release >= Release(17);
    let nvlink =
        accelerator.vendor == Vendor::Nvidia && accelerator.link.name.starts_with("NVLink");
    let fused = recent && matches!(accelerator.generation, "hopper" | "blackwell");
    Overhead {
        collectives_gib: match (nvlink, fused) {
            (false, _) => 0.0,
            (true, false) => 0.4,
            (true, true) => 1.8,
        },
        libraries_gib: if recent { 0.25 } else { 0.13 },
        logit_bytes: match release.0 {
            0..=7 => 6.0,
            8..=16 => 38.0,
            _ => 14.0,
        },
        graph_mib_a_layer: if release >= Release(21) { 25.0 } else { 0.0 },
        ..PLAIN
    }
}

/// What ggml's back ends take: a context on a device, next to nothing on processors. Logits are 32
/// bits of each token of a sub-batch.
const fn ggml(accelerator: &Accelerator, libraries_gib: f64) -> Overhead {
    let libraries_gib = if accelerator.is_processor() { 0.1 } else { libraries_gib };
    Overhead {
        libraries_gib,
        collectives_gib: 0.1,
        logit_bytes: 4.0,
        logit_rows: Some(512),
        ..PLAIN
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vllm(_) => "vLLM",
            Self::Sglang => "SGLang",
            Self::TensorrtLlm => "TensorRT-LLM",
            Self::Tgi => "TGI",
            Self::LlamaCpp => "llama.cpp",
            Self::Embedded => "the embedded engine",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read() {
        let check = |text: &str, expect: Option<Release>| {
            assert_eq!(Release::from_version(text), expect, "{text}");
        };
        check("0.19.1", Some(Release(19)));
        check("v0.8.5.post1", Some(Release(8)));
        check("1.2.3", Some(Release::LATEST));
        check("nightly", None);
    }
}
