//! Metrics in Prometheus' format: families are registered where they are made, with their help,
//! and one list of what exists feeds the reference page.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};

/// Boundaries in seconds for the time to first token: those of OpenTelemetry and of vLLM together,
/// so that sums over gateway and engine are valid.
pub const TTFT_SECONDS: [f64; 26] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0,
    1.5, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0,
];

/// Boundaries in seconds for the time per output token and between tokens.
pub const TPOT_SECONDS: [f64; 23] = [
    0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.075, 0.1,
    0.125, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5,
];

/// Boundaries in seconds for whole requests: 0.01 · 2^k up to 655.36, as OpenTelemetry's.
pub const DURATION_SECONDS: [f64; 17] = [
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84,
    327.68, 655.36,
];

/// Boundaries in seconds for what the gateway itself costs.
pub const OVERHEAD_SECONDS: [f64; 11] =
    [0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1];

/// One metric, as the reference page shows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// What it counts.
    pub help: String,
}

/// Where metrics are registered and read. Clones share it.
#[derive(Clone, Debug)]
pub struct Metrics {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    registry: Registry,
    described: Vec<Described>,
    process: Process,
}

impl Metrics {
    /// A registry that holds the process's own metrics.
    pub fn new() -> Self {
        let mut inner = Inner {
            registry: Registry::default(),
            described: Vec::new(),
            process: Process::default(),
        };
        for (name, help, gauge) in inner.process.clone().rows() {
            inner.register(name, help, gauge);
        }
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Adds a metric and gives it back. `name` is without the suffix `_total` of counters.
    pub fn register<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        self.inner.lock().register(name, help, metric.clone());
        metric
    }

    /// Everything in the text format of OpenMetrics, which Prometheus reads.
    pub fn encode(&self) -> String {
        let inner = self.inner.lock();
        inner.process.observe();
        let mut text = String::new();
        // Writing into a string fails only when a metric's own encoder does.
        if encode(&mut text, &inner.registry).is_err() {
            tracing::error!("a metric could not be encoded");
        }
        text
    }

    /// What is registered, by name.
    pub fn described(&self) -> Vec<Described> {
        let mut described = self.inner.lock().described.clone();
        described.sort_by(|one, other| one.name.cmp(&other.name));
        described
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Inner {
    fn register(&mut self, name: &str, help: &str, metric: impl Metric) {
        self.registry.register(name, help.trim_end_matches('.'), metric);
        self.described.push(Described { name: name.to_owned(), help: help.to_owned() });
    }
}

/// The process itself, read from `/proc` when somebody looks. Where there is no `/proc` the values
/// stay at NaN: absent is not zero.
#[derive(Clone, Debug)]
struct Process {
    resident: Gauge<f64, std::sync::atomic::AtomicU64>,
    descriptors: Gauge<f64, std::sync::atomic::AtomicU64>,
}

impl Default for Process {
    fn default() -> Self {
        let process = Self { resident: Gauge::default(), descriptors: Gauge::default() };
        process.resident.set(f64::NAN);
        process.descriptors.set(f64::NAN);
        process
    }
}

impl Process {
    fn rows(self) -> [(&'static str, &'static str, Gauge<f64, std::sync::atomic::AtomicU64>); 2] {
        [
            (
                "process_resident_memory_bytes",
                "Resident memory of this process in bytes",
                self.resident,
            ),
            ("process_open_fds", "Open file descriptors of this process", self.descriptors),
        ]
    }

    fn observe(&self) {
        if let Some(kib) = resident_kib() {
            self.resident.set(kib * 1024.0);
        }
        if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
            // The directory being read is one of them.
            self.descriptors.set(entries.count().saturating_sub(1) as f64);
        }
    }
}

fn resident_kib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn what_is_registered_is_written_and_described() {
        let metrics = Metrics::new();
        let counter =
            metrics.register("pilotage_things", "Things seen.", Counter::<u64>::default());
        counter.inc();
        let text = metrics.encode();
        assert!(text.contains("pilotage_things_total 1\n"), "{text}");
        assert!(text.ends_with("# EOF\n"));
        assert!(metrics.described().iter().any(|each| each.name == "pilotage_things"));
    }

    #[test]
    fn boundaries_rise() {
        let check = |bounds: &[f64]| assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]));
        check(&TTFT_SECONDS);
        check(&TPOT_SECONDS);
        check(&DURATION_SECONDS);
        check(&OVERHEAD_SECONDS);
    }
}
