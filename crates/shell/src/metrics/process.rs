//! The process itself, read from `/proc` when somebody looks. Where there is no `/proc` the values are left
//! out: absent is not zero.

use super::model::{Family, Kind, Metric, Number};

/// Name, help, kind and what reads it.
type Row = (&'static str, &'static str, Kind, fn() -> Option<f64>);

/// What is told of the process, under the names that Prometheus' clients use.
pub(super) const ROWS: [Row; 5] = [
    (
        "process_cpu_seconds_total",
        "Processor time of this process in seconds",
        Kind::Counter,
        cpu_seconds,
    ),
    (
        "process_max_fds",
        "File descriptors that this process may open",
        Kind::Gauge,
        descriptors_max,
    ),
    ("process_open_fds", "Open file descriptors of this process", Kind::Gauge, descriptors),
    (
        "process_resident_memory_bytes",
        "Resident memory of this process in bytes",
        Kind::Gauge,
        resident_bytes,
    ),
    ("process_threads", "Threads of this process", Kind::Gauge, threads),
];

pub(super) fn families() -> Vec<Family> {
    let row = |(name, help, kind, read): &Row| {
        let number = Number { value: read()? };
        let metric = match kind {
            Kind::Counter => Metric { counter: Some(number), ..Default::default() },
            _ => Metric { gauge: Some(number), ..Default::default() },
        };
        Some(Family {
            name: (*name).to_owned(),
            help: format!("{help}."),
            kind: *kind as i32,
            metric: vec![metric],
        })
    };
    ROWS.iter().filter_map(row).collect()
}

fn status(key: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

fn resident_bytes() -> Option<f64> {
    status("VmRSS:").map(|kib| kib * 1024.0)
}

fn threads() -> Option<f64> {
    status("Threads:")
}

fn descriptors() -> Option<f64> {
    // The directory being read is one of them.
    std::fs::read_dir("/proc/self/fd").ok().map(|all| all.count().saturating_sub(1) as f64)
}

fn descriptors_max() -> Option<f64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program stands in parentheses, and may hold anything.
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    // Linux tells these in hundredths of a second, whatever the kernel's own clock.
    Some((user + system) / 100.0)
}
