//! What the gateway's own process has to work with, and whether it keeps up.

use pilotage_shell::metrics::{About, Histogram, Labels, Level, Metrics, OVERHEAD_SECONDS};

const NO_LABELS: Labels = Labels::new(&[], &[]);

/// Registers both; returns what the pulse is counted in.
pub(super) fn register(metrics: &Metrics) -> Histogram {
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let help = "Threads that requests are worked on by";
    let about = About::new("pilotage_runtime_workers", help, NO_LABELS);
    metrics.family::<Level>(about).get(&[], &[]).set(workers as u64);
    let help = "How late a task of the gateway gets its turn on the processor";
    let about = About::new("pilotage_event_loop_delay_seconds", help, NO_LABELS);
    metrics.histograms(about, &OVERHEAD_SECONDS).get(&[], &[])
}
