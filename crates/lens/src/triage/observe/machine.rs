//! What is below a replica: its accelerators by DCGM's exporter or by ours, its container by cAdvisor.

use std::collections::BTreeMap;

use super::super::evidence::{Gpu, Host, ratio};
use super::series::{Seen, Series};

/// A process of Python that serves requests has one core to itself.
const PYTHON: [&str; 2] = ["vllm", "sglang"];

/// DCGM counts violations in microseconds up to version 3 and in nanoseconds from then on; of which, its
/// size tells: more seconds than passed are nanoseconds.
const MICROS: f64 = 1e6;
const NANOS: f64 = 1e9;

/// The accelerators, by their number.
pub(super) fn gpus(seen: &Seen<'_>) -> Vec<Gpu> {
    let mut by_name: BTreeMap<&str, Vec<Series>> = BTreeMap::new();
    let is_gpu =
        |one: &&Series| one.name.starts_with("DCGM_FI_") || one.name.starts_with("pilotage_gpu_");
    for one in seen.0.iter().filter(is_gpu) {
        let name = one.labels.get("gpu").or_else(|| one.labels.get("UUID"));
        by_name.entry(name.map_or("", String::as_str)).or_default().push(one.clone());
    }
    by_name.into_iter().map(|(name, series)| gpu(name, &Seen(&series))).collect()
}

fn gpu(name: &str, seen: &Seen<'_>) -> Gpu {
    let mean = |names: &[&str]| seen.gauge(names, None);
    let most = |name: &str| {
        let of = seen.of(&[name], None);
        let values = of.iter().flat_map(|one| &one.points).map(|point| point.value);
        values.filter(|value| value.is_finite()).reduce(f64::max)
    };
    let held = |name: &str| seen.of(&[name], None).first().and_then(|one| violation_s(one));
    Gpu {
        name: Some(name.to_owned()),
        sm_clock_mhz: mean(&["DCGM_FI_DEV_SM_CLOCK"]),
        sm_clock_max_mhz: most("DCGM_FI_DEV_MAX_SM_CLOCK").or_else(|| most("DCGM_FI_DEV_SM_CLOCK")),
        sm_active: mean(&["DCGM_FI_PROF_SM_ACTIVE"]),
        dram_active: mean(&["DCGM_FI_PROF_DRAM_ACTIVE"]),
        tensor_active: mean(&["DCGM_FI_PROF_PIPE_TENSOR_ACTIVE"]),
        thermal_violation_s: held("DCGM_FI_DEV_THERMAL_VIOLATION"),
        power_violation_s: held("DCGM_FI_DEV_POWER_VIOLATION"),
        temperature_c: mean(&["DCGM_FI_DEV_GPU_TEMP", "pilotage_gpu_temperature_celsius"]),
        ecc_uncorrected: seen.grown(&["DCGM_FI_DEV_ECC_DBE_VOL_TOTAL"], None),
        row_remap_failures: seen.newest(&["DCGM_FI_DEV_ROW_REMAP_FAILURE"]),
        xids: xids(seen),
    }
}

fn violation_s(one: &Series) -> Option<f64> {
    let grown = one.growth()?;
    let (first, last) = (one.points.first()?, one.points.last()?);
    let passed = last.at_s - first.at_s;
    let micros = grown / MICROS;
    Some(if micros <= passed * 1.05 { micros } else { grown / NANOS })
}

/// The codes that the gauge of the last error showed in the window, without its "none".
fn xids(seen: &Seen<'_>) -> Option<Vec<u32>> {
    let of = seen.of(&["DCGM_FI_DEV_XID_ERRORS"], None);
    if of.is_empty() {
        return None;
    }
    let mut codes: Vec<u32> = of
        .iter()
        .flat_map(|one| &one.points)
        .map(|point| point.value)
        .filter(|value| (1.0..10_000.0).contains(value))
        .map(|value| value as u32)
        .collect();
    codes.dedup();
    Some(codes)
}

/// The container and its process.
pub(super) fn host(seen: &Seen<'_>, window_s: f64) -> Host {
    let window = Some(window_s).filter(|window| *window > 0.0);
    let share = |name: &str| ratio(seen.grown(&[name], None), window);
    let python = seen.0.iter().any(|one| PYTHON.iter().any(|begin| one.name.starts_with(begin)));
    Host {
        cpu_cores: share("process_cpu_seconds_total"),
        cpu_cores_max: python.then_some(1.0),
        throttled: ratio(
            seen.grown(&["container_cpu_cfs_throttled_periods_total"], None),
            seen.grown(&["container_cpu_cfs_periods_total"], None),
        ),
        steal: None,
        psi_cpu: share("container_pressure_cpu_waiting_seconds_total"),
        psi_memory: share("container_pressure_memory_waiting_seconds_total"),
        psi_io: share("container_pressure_io_waiting_seconds_total"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::series::series;
    use super::*;

    #[test]
    fn accelerators_are_told_apart() {
        let all = [
            series("DCGM_FI_DEV_SM_CLOCK", &[("gpu", "0")], &[1980.0, 1200.0]),
            series("DCGM_FI_DEV_XID_ERRORS", &[("gpu", "0")], &[0.0, 0.0]),
            series("DCGM_FI_DEV_XID_ERRORS", &[("gpu", "1")], &[0.0, 63.0, 63.0, 48.0]),
            series("DCGM_FI_DEV_THERMAL_VIOLATION", &[("gpu", "1")], &[0.0, 2e6]),
            series("DCGM_FI_DEV_POWER_VIOLATION", &[("gpu", "1")], &[0.0, 2e9]),
        ];
        let gpus = gpus(&Seen(&all));
        assert_eq!((gpus[0].sm_clock_mhz, gpus[0].sm_clock_max_mhz), (Some(1590.0), Some(1980.0)));
        assert_eq!((&gpus[0].xids, &gpus[1].xids), (&Some(vec![]), &Some(vec![63, 48])));
        assert_eq!(gpus[0].thermal_violation_s, None);
        assert_eq!(
            (gpus[1].thermal_violation_s, gpus[1].power_violation_s),
            (Some(2.0), Some(2.0))
        );
    }

    #[test]
    fn shares_are_of_the_window() {
        let all = [
            series("container_cpu_cfs_throttled_periods_total", &[], &[0.0, 30.0]),
            series("container_cpu_cfs_periods_total", &[], &[0.0, 100.0]),
            series("process_cpu_seconds_total", &[], &[0.0, 5.0]),
        ];
        let host = host(&Seen(&all), 10.0);
        assert_eq!((host.throttled, host.cpu_cores, host.psi_cpu), (Some(0.3), Some(0.5), None));
        assert_eq!(host.cpu_cores_max, None, "whose process it is, is not known");
    }
}
