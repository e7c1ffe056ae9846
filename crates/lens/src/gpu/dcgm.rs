//! What DCGM's exporter shows, as readings. Fields that nobody configured there stay unknown.

use std::collections::BTreeMap;

use super::{GPUS_MAX, Measure, REASONS, Reading, TABLE};
use crate::triage::observe::page::{Sample, samples};

/// The begin of its names.
const PREFIX: &str = "DCGM_FI_DEV_";

/// The field of reasons, by its name now and before DCGM 3.3.
const EVENTS: [&str; 2] =
    ["DCGM_FI_DEV_CLOCKS_EVENT_REASONS", "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS"];

/// The error that came last.
const XID: &str = "DCGM_FI_DEV_XID_ERRORS";

/// What adds up to all memory where that is not told by itself, in MiB.
const MEMORY: [&str; 3] = ["DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_FREE", "DCGM_FI_DEV_FB_RESERVED"];

/// Values from here on say that there is none (`DCGM_FP64_BLANK` is 2^47).
const BLANK: f64 = 140_737_488_355_328.0;

/// The accelerators of a page, at most [`GPUS_MAX`].
pub fn readings(page: &str) -> Vec<Reading> {
    let mut all: BTreeMap<(String, String), (Reading, BTreeMap<String, f64>)> = BTreeMap::new();
    let told = samples(page).filter(|sample| sample.name.starts_with(PREFIX));
    for sample in told.filter(|sample| (0.0..BLANK).contains(&sample.value)) {
        let key = key(&sample.labels);
        if all.len() >= GPUS_MAX && !all.contains_key(&key) {
            continue;
        }
        let (reading, fields) = all.entry(key).or_default();
        describe(reading, &sample);
        fields.insert(sample.name, sample.value);
    }
    all.into_values().map(|(reading, fields)| filled(reading, &fields)).collect()
}

/// Which accelerator, or part of one, a series is about.
fn key(labels: &BTreeMap<String, String>) -> (String, String) {
    let label = |name: &str| labels.get(name).map(String::as_str).unwrap_or_default();
    let uuid = [label("UUID"), label("uuid")].into_iter().find(|text| !text.is_empty());
    let gpu = match label("GPU_I_ID") {
        "" => label("gpu").to_owned(),
        part => format!("{}/{part}", label("gpu")),
    };
    (uuid.unwrap_or_else(|| label("Hostname")).to_owned(), gpu)
}

/// Labels of pods have another name where the exporter's own pod has them.
fn describe(reading: &mut Reading, sample: &Sample) {
    let labels = &sample.labels;
    let first = |names: &[&str]| {
        let found = names.iter().filter_map(|name| labels.get(*name));
        found.into_iter().find(|text| !text.is_empty()).cloned().unwrap_or_default()
    };
    let (uuid, gpu) = key(labels);
    (reading.uuid, reading.gpu) = (uuid, gpu);
    let told = [
        (&mut reading.model, &["modelName"][..]),
        (&mut reading.node, &["Hostname", "hostname"]),
        (&mut reading.pod, &["exported_pod", "pod", "pod_name"]),
        (&mut reading.namespace, &["exported_namespace", "namespace", "pod_namespace"]),
    ];
    for (text, names) in told {
        if text.is_empty() {
            *text = first(names);
        }
    }
}

fn filled(mut reading: Reading, fields: &BTreeMap<String, f64>) -> Reading {
    let first = |names: &[&str]| names.iter().find_map(|name| fields.get(*name)).copied();
    for row in &TABLE {
        if let Some(value) = first(row.dcgm) {
            reading.set(row.measure, value * row.dcgm_unit);
        }
    }
    if reading.value(Measure::MemoryTotal).is_none()
        && let (Some(used), Some(free)) = (first(&MEMORY[..1]), first(&MEMORY[1..2]))
    {
        let reserved = first(&MEMORY[2..]).unwrap_or_default();
        reading.set(Measure::MemoryTotal, (used + free + reserved) * 1_048_576.0);
    }
    let known = REASONS.iter().fold(0, |all, (_, bit)| all | bit);
    reading.throttled = first(&EVENTS).map(|bits| bits as u64 & known);
    reading.last_xid = first(&[XID]).filter(|code| *code < 1e6).map(|code| code as u32);
    reading
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two nodes' pages have this form: by the names of dcgm-exporter 3 and 4.
    const PAGE: &str = r#"# HELP DCGM_FI_DEV_SM_CLOCK SM clock frequency (in MHz).
# TYPE DCGM_FI_DEV_SM_CLOCK gauge
DCGM_FI_DEV_SM_CLOCK{gpu="0",UUID="GPU-a",pci_bus_id="00000000:01:00.0",device="nvidia0",modelName="NVIDIA H100 80GB HBM3",Hostname="n1",DCGM_FI_DRIVER_VERSION="580.65.06",container="vllm",namespace="llm",pod="m-0"} 1755
DCGM_FI_DEV_SM_CLOCK{gpu="1",UUID="GPU-b",pci_bus_id="00000000:02:00.0",device="nvidia1",modelName="NVIDIA H100 80GB HBM3",Hostname="n1",DCGM_FI_DRIVER_VERSION="580.65.06"} 345
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-a",Hostname="n1",namespace="llm",pod="m-0"} 97
# TYPE DCGM_FI_DEV_XID_ERRORS gauge
DCGM_FI_DEV_XID_ERRORS{gpu="0",UUID="GPU-a",Hostname="n1",err_code="31",err_msg="GPU memory page fault",namespace="llm",pod="m-0"} 31
DCGM_FI_DEV_FB_FREE{gpu="0",UUID="GPU-a",Hostname="n1"} 2136
DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-a",Hostname="n1"} 78000
DCGM_FI_DEV_FB_RESERVED{gpu="0",UUID="GPU-a",Hostname="n1"} 1423
DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-a",Hostname="n1"} 698.5
DCGM_FI_DEV_POWER_MGMT_LIMIT{gpu="0",UUID="GPU-a",Hostname="n1"} 700
DCGM_FI_DEV_CLOCKS_EVENT_REASONS{gpu="0",UUID="GPU-a",Hostname="n1"} 5
DCGM_FI_DEV_MEMORY_TEMP{gpu="1",UUID="GPU-b",Hostname="n1"} 9223372036854775794
DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-c",GPU_I_PROFILE="2g.20gb",GPU_I_ID="3",Hostname="n1"} 50
DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-c",GPU_I_PROFILE="2g.20gb",GPU_I_ID="5",Hostname="n1"} 51
process_cpu_seconds_total 4
"#;

    #[test]
    fn a_page_of_the_exporter_is_read() {
        let all = readings(PAGE);
        let names: Vec<_> = all.iter().map(|one| (one.uuid.as_str(), one.gpu.as_str())).collect();
        assert_eq!(names, [("GPU-a", "0"), ("GPU-b", "1"), ("GPU-c", "0/3"), ("GPU-c", "0/5")]);
        let busy = &all[0];
        let place = (busy.namespace.as_str(), busy.pod.as_str(), busy.node.as_str());
        assert_eq!(place, ("llm", "m-0", "n1"));
        let of = |measure| busy.value(measure);
        assert_eq!(of(Measure::Clock), Some(1.755e9));
        assert_eq!(of(Measure::Utilisation), Some(0.97));
        assert_eq!(of(Measure::MemoryTotal), Some(81_559.0 * 1_048_576.0));
        assert_eq!((of(Measure::Power), of(Measure::PowerLimit)), (Some(698.5), Some(700.0)));
        assert_eq!((busy.throttled, busy.last_xid), (Some(4), Some(31)), "idle is no trouble");
        assert_eq!(all[1].value(Measure::Clock), Some(3.45e8));
        assert_eq!((all[1].last_xid, all[1].throttled), (None, None));
        assert_eq!(all[2].value(Measure::Temperature), Some(50.0));
    }

    #[test]
    fn no_page_makes_more_than_there_can_be() {
        let line = |at: usize| format!("DCGM_FI_DEV_GPU_TEMP{{gpu=\"0\",UUID=\"GPU-{at}\"}} 1\n");
        let page: String = (0..GPUS_MAX + 10).map(line).collect();
        assert_eq!(readings(&page).len(), GPUS_MAX);
        assert!(readings("<html>DCGM_FI_DEV_GPU_TEMP</html>").is_empty());
    }
}
