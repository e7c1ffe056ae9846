//! How patient to be with a program: a start may take as long as its weights take to load, and a busy server is
//! not a dead one.

use super::{Engine, Launch, Probe, Probes};

/// Seconds that any start may take: processes, libraries, compilation, graphs. vLLM and SGLang compile for
/// minutes the first time.
const START_SECONDS: u64 = 600;

/// Bytes a second that weights are loaded at least, from a disk over a network. Slower ones are waited for by
/// raising the patience by hand.
const LOAD_BYTES_PER_SECOND: u64 = 100_000_000;

/// Longest patience: a day is no start any more.
const START_SECONDS_MAX: u64 = 6 * 3600;

/// Seconds between two questions while it starts.
const START_PERIOD: u32 = 10;

/// The probes of a program that answers at one path.
pub(super) fn probes(path: &str, launch: &Launch) -> Probes {
    Probes {
        startup: Probe {
            path: path.to_owned(),
            period_seconds: START_PERIOD,
            timeout_seconds: 5,
            failures: start_failures(launch.weight_bytes),
        },
        readiness: Probe {
            path: path.to_owned(),
            period_seconds: 10,
            timeout_seconds: 10,
            failures: 3,
        },
        // Under load vLLM's /health may take 40 seconds, and starting again would lose what runs. Progress, which
        // the gateway sees, tells a hung engine sooner than this does.
        liveness: Probe {
            path: path.to_owned(),
            period_seconds: 30,
            timeout_seconds: 60,
            failures: 20,
        },
    }
}

/// Seconds that a start with weights of so many bytes may take.
pub(crate) fn start_seconds(weight_bytes: Option<u64>) -> u64 {
    let loading = weight_bytes.unwrap_or(0) / LOAD_BYTES_PER_SECOND;
    START_SECONDS.saturating_add(loading).min(START_SECONDS_MAX)
}

fn start_failures(weight_bytes: Option<u64>) -> u32 {
    let seconds = start_seconds(weight_bytes);
    u32::try_from(seconds.div_ceil(u64::from(START_PERIOD))).unwrap_or(u32::MAX)
}

/// Seconds that a program gets to finish what runs.
pub(super) const fn grace_seconds(engine: Engine) -> u32 {
    match engine {
        // Answers of a large model take minutes; the gateway has stopped sending before.
        Engine::Vllm | Engine::Sglang | Engine::Tgi | Engine::TensorRtLlm | Engine::Triton => 300,
        Engine::DeepSpeed | Engine::Embedded | Engine::LlamaCpp | Engine::Ollama => 120,
    }
}
