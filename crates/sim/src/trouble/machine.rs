//! What is below a replica: an accelerator that its work keeps busy, and what may be wrong with it.

use std::fmt::Write as _;

use crate::run::{Counters, Page};

/// An accelerator with 80 GB, by its data sheet, and a model of eight billion parameters in 16 bits on it.
pub(super) const MEMORY_BYTES: f64 = 80e9;
pub(super) const BANDWIDTH: f64 = 3.35e12;
pub(super) const FLOPS: f64 = 989e12;
pub(super) const PARAMETERS: f64 = 8.03e9;
pub(super) const WEIGHT_BYTES: f64 = 16.06e9;
pub(super) const LAYERS: f64 = 32.0;
pub(super) const KV_HEADS: f64 = 8.0;
pub(super) const HEAD_DIM: f64 = 128.0;

/// Bytes of KV cache for each token.
pub(super) const KV_BYTES: f64 = 2.0 * LAYERS * KV_HEADS * HEAD_DIM * 2.0;

const CLOCK_MHZ: f64 = 1980.0;

/// What is wrong with a machine, from the window's begin on.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ill {
    /// Heat lowers the clock, so that everything takes so many times longer.
    Hot(f64),
    /// The driver reports these errors, one after the other.
    Errors(&'static [u32]),
    /// Others take the processors, so that everything takes so many times longer.
    Crowded(f64),
}

impl Ill {
    /// How many times longer everything takes.
    pub(super) const fn slowness(&self) -> f64 {
        match self {
            Self::Hot(times) | Self::Crowded(times) => *times,
            Self::Errors(_) => 1.0,
        }
    }
}

/// What the processor does for each step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Host {
    /// Milliseconds in which the accelerator waits for it.
    pub(super) gap_ms: f64,
    /// Milliseconds in which it works, those among them.
    pub(super) work_ms: f64,
}

impl Host {
    /// A step is one graph, which the accelerator is told to run while the step before still does.
    pub(super) const GRAPHS: Self = Self { gap_ms: 0.4, work_ms: 3.0 };
    /// Kernels are launched one by one, and most of them take less than their launch.
    pub(super) const EAGER: Self = Self { gap_ms: 16.0, work_ms: 19.0 };
}

/// What adds up at one replica.
#[derive(Clone, Debug, Default)]
pub(super) struct Machine {
    before: Counters,
    held_micros: f64,
    throttled: f64,
    periods: f64,
    waited_s: f64,
}

impl Machine {
    /// What its exporters show, a while after the last look.
    pub(super) fn show(
        &mut self,
        page: &Page,
        passed: (f64, f64),
        host: Host,
        ill: Option<&Ill>,
    ) -> String {
        let (span, since_ill) = passed;
        let now = &page.counters;
        // A process that was started again counts from zero.
        let before = if now.steps < self.before.steps { Counters::default() } else { self.before };
        let busy = ((now.busy - before.busy) / span).clamp(0.0, 1.0);
        let waited = (now.steps - before.steps) as f64 * host.gap_ms / 1e3 / span;
        let decoded = (now.decode_steps - before.decode_steps) as f64;
        let read = (now.kv_token_steps - before.kv_token_steps) as f64 * KV_BYTES;
        let computed = (now.computed_tokens - before.computed_tokens) as f64;
        let dram = (decoded * WEIGHT_BYTES + read) / BANDWIDTH / span;
        let tensor = 2.0 * PARAMETERS * computed / FLOPS / span;
        self.before = *now;
        let ill = ill.filter(|_| since_ill > 0.0);
        let clock = match ill {
            Some(Ill::Hot(times)) => CLOCK_MHZ / times,
            _ => CLOCK_MHZ,
        };
        let hot = matches!(ill, Some(Ill::Hot(_)));
        self.held_micros += if hot { span * busy * 1e6 } else { 0.0 };
        let crowded = match ill {
            Some(Ill::Crowded(times)) => 1.0 - 1.0 / times,
            _ => 0.0,
        };
        self.periods += span * 10.0;
        self.throttled += span * 10.0 * crowded * busy;
        self.waited_s += span * crowded * busy;
        let xid = match ill {
            Some(Ill::Errors(codes)) => codes
                .get((since_ill / 10.0) as usize)
                .or_else(|| codes.last())
                .copied()
                .unwrap_or(0),
            _ => 0,
        };
        let heat = 40.0 + 30.0 * busy + if hot { 22.0 } else { 0.0 };
        let mut out = String::new();
        let mut gpu = |name: &str, value: f64| {
            let _ = writeln!(out, "DCGM_FI_{name}{{gpu=\"0\"}} {value}");
        };
        gpu("DEV_SM_CLOCK", clock);
        gpu("DEV_MAX_SM_CLOCK", CLOCK_MHZ);
        gpu("PROF_SM_ACTIVE", (busy - waited).max(0.0));
        gpu("PROF_DRAM_ACTIVE", dram.min(1.0));
        gpu("PROF_PIPE_TENSOR_ACTIVE", tensor.min(1.0));
        gpu("DEV_THERMAL_VIOLATION", self.held_micros);
        gpu("DEV_POWER_VIOLATION", 0.0);
        gpu("DEV_GPU_TEMP", heat);
        gpu("DEV_XID_ERRORS", f64::from(xid));
        let cpu = now.steps as f64 * host.work_ms / 1e3;
        let _ = writeln!(
            out,
            "container_cpu_cfs_throttled_periods_total {}\ncontainer_cpu_cfs_periods_total {}\n\
             container_pressure_cpu_waiting_seconds_total {}\nprocess_cpu_seconds_total {cpu}",
            self.throttled, self.periods, self.waited_s
        );
        out
    }
}
