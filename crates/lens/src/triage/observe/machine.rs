//! What is below a replica: its accelerators by DCGM's exporter or by ours, its container by cAdvisor.

use std::collections::BTreeMap;

use super::super::evidence::{Gpu, Host, ratio};
use super::series::{Point, Seen, Series};

/// A process of Python that serves requests has one core to itself.
const PYTHON: [&str; 2] = ["vllm", "sglang"];

/// DCGM counts violations in microseconds up to version 3 and in nanoseconds from then on; of which, its
/// size tells: more seconds than passed are nanoseconds.
const MICROS: f64 = 1e6;
const NANOS: f64 = 1e9;

/// The beginnings of series about accelerators: DCGM's names, and the gateway's own.
const DCGM: &str = "DCGM_FI_";
pub(super) const OURS: &str = "pilotage_gpu_";

/// Why a clock is low, by what holds it: heat, or power.
const HEAT: [&str; 2] = ["sw_thermal_slowdown", "hw_thermal_slowdown"];
const POWER: [&str; 2] = ["sw_power_cap", "hw_power_brake_slowdown"];

/// The accelerators, by their number.
pub(super) fn gpus(seen: &Seen<'_>) -> Vec<Gpu> {
    let mut by_id: BTreeMap<&str, Vec<Series>> = BTreeMap::new();
    let is_gpu = |one: &&Series| one.name.starts_with(DCGM) || one.name.starts_with(OURS);
    for one in seen.0.iter().filter(is_gpu) {
        let label = |name: &str| one.labels.get(name).map(String::as_str);
        // Numbers are those of a node, of which a replica may have several.
        let id = label("UUID").or_else(|| label("uuid")).or_else(|| label("gpu"));
        by_id.entry(id.unwrap_or_default()).or_default().push(one.clone());
    }
    let named = by_id.into_iter().map(|(id, series)| {
        let number = series.iter().find_map(|one| one.labels.get("gpu").cloned());
        gpu(&number.unwrap_or_else(|| id.to_owned()), &Seen(&series))
    });
    named.collect()
}

/// What the gateway shows of accelerators that are a replica's, which clusters call by its pod.
pub(super) fn of_replica<'a>(
    gateway: &'a [Series],
    replica: &'a str,
) -> impl Iterator<Item = &'a Series> {
    let is_its = move |one: &&Series| {
        let own = one.labels.get("replica").map(String::as_str).unwrap_or_default();
        own == replica || own.split_once('@').is_some_and(|(_, pod)| pod == replica)
    };
    gateway.iter().filter(|one| one.name.starts_with(OURS)).filter(is_its)
}

fn gpu(name: &str, seen: &Seen<'_>) -> Gpu {
    let mean = |names: &[&str]| seen.gauge(names, None);
    let most = |name: &str| {
        let of = seen.of(&[name], None);
        let values = of.iter().flat_map(|one| &one.points).map(|point| point.value);
        values.filter(|value| value.is_finite()).reduce(f64::max)
    };
    let mega = |hertz: Option<f64>| hertz.map(|hertz| hertz / 1e6);
    let own_max =
        || most("pilotage_gpu_sm_clock_max_hertz").or_else(|| most("pilotage_gpu_sm_clock_hertz"));
    let held = |name: &str| seen.of(&[name], None).first().and_then(|one| violation_s(one));
    Gpu {
        name: Some(name.to_owned()),
        sm_clock_mhz: mean(&["DCGM_FI_DEV_SM_CLOCK"])
            .or_else(|| mega(mean(&["pilotage_gpu_sm_clock_hertz"]))),
        sm_clock_max_mhz: most("DCGM_FI_DEV_MAX_SM_CLOCK")
            .or_else(|| most("DCGM_FI_DEV_SM_CLOCK"))
            .or_else(|| mega(own_max())),
        sm_active: mean(&["DCGM_FI_PROF_SM_ACTIVE"]),
        dram_active: mean(&["DCGM_FI_PROF_DRAM_ACTIVE"]),
        tensor_active: mean(&["DCGM_FI_PROF_PIPE_TENSOR_ACTIVE"]),
        thermal_violation_s: held("DCGM_FI_DEV_THERMAL_VIOLATION")
            .or_else(|| throttled_s(seen, HEAT)),
        power_violation_s: held("DCGM_FI_DEV_POWER_VIOLATION").or_else(|| throttled_s(seen, POWER)),
        temperature_c: mean(&["DCGM_FI_DEV_GPU_TEMP", "pilotage_gpu_temperature_celsius"]),
        ecc_uncorrected: seen
            .grown(&["DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", "pilotage_gpu_ecc_uncorrected_total"], None),
        row_remap_failures: seen.newest(&["DCGM_FI_DEV_ROW_REMAP_FAILURE"]),
        xids: xids(seen).or_else(|| counted(seen)),
    }
}

/// Seconds of the window in which the gateway saw any of these reasons: the one that held longest.
fn throttled_s(seen: &Seen<'_>, reasons: [&str; 2]) -> Option<f64> {
    let of = seen.of(&["pilotage_gpu_throttled"], None);
    let own = of.into_iter().filter(|one| {
        one.labels.get("reason").is_some_and(|reason| reasons.contains(&reason.as_str()))
    });
    let held = own.filter_map(|one| {
        let (first, last) = (one.points.first()?, one.points.last()?);
        Some(one.mean()? * (last.at_s - first.at_s))
    });
    held.reduce(f64::max)
}

/// The codes that the gateway counted in the window. One that came for the first time has a series since then only.
fn counted(seen: &Seen<'_>) -> Option<Vec<u32>> {
    let all = seen.of(&["pilotage_gpu_xid_errors_total"], None);
    let began = all.iter().filter_map(|one| one.points.first()).map(|point| point.at_s);
    let began = began.reduce(f64::min)?;
    let is_new = |one: &&&Series| {
        let since = one.points.first().is_some_and(|point| point.at_s > began);
        since || one.growth().is_some_and(|grown| grown > 0.0)
    };
    let of = seen.of(&["pilotage_gpu_xids_total"], None);
    Some(of.iter().filter(is_new).filter_map(|one| one.labels.get("xid")?.parse().ok()).collect())
}

fn violation_s(one: &Series) -> Option<f64> {
    let grown = one.growth()?;
    let (first, last) = (one.points.first()?, one.points.last()?);
    let passed = last.at_s - first.at_s;
    let micros = grown / MICROS;
    Some(if micros <= passed * 1.05 { micros } else { grown / NANOS })
}

/// The codes that came in the window. The gauge is the last error that there was, however long ago: only
/// where it changes, one came. The same code twice in a row is one. Some exporters name the code in a
/// label, too, so that a change begins another series.
fn xids(seen: &Seen<'_>) -> Option<Vec<u32>> {
    let of = seen.of(&["DCGM_FI_DEV_XID_ERRORS"], None);
    if of.is_empty() {
        return None;
    }
    let mut points: Vec<Point> = of.iter().flat_map(|one| &one.points).copied().collect();
    points.retain(|point| point.value.is_finite());
    points.sort_by(|left, right| left.at_s.total_cmp(&right.at_s));
    let came = points.windows(2).filter(|pair| pair[0].value != pair[1].value);
    let codes = came.map(|pair| pair[1].value).filter(|value| (1.0..10_000.0).contains(value));
    Some(codes.map(|value| value as u32).collect())
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
    fn an_error_came_where_the_gauge_of_the_last_one_changes() {
        let check = |values: &[f64], expect: &[u32]| {
            let all = [series("DCGM_FI_DEV_XID_ERRORS", &[("gpu", "0")], values)];
            assert_eq!(gpus(&Seen(&all))[0].xids.as_deref(), Some(expect), "{values:?}");
        };
        check(&[79.0, 79.0, 79.0], &[]);
        check(&[79.0], &[]);
        check(&[0.0, 0.0, 79.0, 79.0], &[79]);
        check(&[79.0, 79.0, 48.0], &[48]);
        check(&[79.0, f64::NAN, 79.0], &[]);
        check(&[63.0, 0.0, 63.0], &[63]);
        let labelled = |code: &str, values: &[f64]| {
            series("DCGM_FI_DEV_XID_ERRORS", &[("gpu", "0"), ("err_code", code)], values)
        };
        let mut all = [labelled("0", &[0.0, 0.0]), labelled("79", &[79.0; 4])];
        all[1].points.drain(..2);
        assert_eq!(gpus(&Seen(&all))[0].xids.as_deref(), Some(&[79][..]), "{all:?}");
    }

    #[test]
    fn what_the_gateway_shows_counts_as_well() {
        let of = |name: &str, more: &[(&str, &str)], values: &[f64]| {
            let labels =
                [&[("gpu", "0"), ("uuid", "GPU-a"), ("replica", "m@m-0"), ("lane", "m")], more]
                    .concat();
            series(name, &labels, values)
        };
        let heat = [("reason", "hw_thermal_slowdown")];
        let mut born = of("pilotage_gpu_xids_total", &[("xid", "79")], &[1.0, 1.0]);
        let mut all = vec![
            of("pilotage_gpu_sm_clock_hertz", &[], &[1.2e9, 1.2e9]),
            of("pilotage_gpu_sm_clock_max_hertz", &[], &[1.98e9, 1.98e9]),
            of("pilotage_gpu_throttled", &heat, &[1.0, 1.0]),
            of("pilotage_gpu_throttled", &[("reason", "sw_power_cap")], &[0.0, 0.0]),
            of("pilotage_gpu_xid_errors_total", &[], &[0.0, 1.0]),
            of("pilotage_gpu_xids_total", &[("xid", "31")], &[4.0, 4.0]),
            of("pilotage_gpu_ecc_uncorrected_total", &[], &[2.0, 3.0]),
        ];
        let passed = all[0].points[1].at_s - all[0].points[0].at_s;
        born.points.remove(0);
        all.push(born);
        let own: Vec<Series> = of_replica(&all, "m-0").cloned().collect();
        assert_eq!(own.len(), all.len());
        assert_eq!(of_replica(&all, "m-1").count(), 0);
        let gpus = gpus(&Seen(&own));
        let [gpu] = &gpus[..] else { panic!("{gpus:?}") };
        assert_eq!(gpu.name.as_deref(), Some("0"));
        assert_eq!((gpu.sm_clock_mhz, gpu.sm_clock_max_mhz), (Some(1200.0), Some(1980.0)));
        assert_eq!((gpu.thermal_violation_s, gpu.power_violation_s), (Some(passed), Some(0.0)));
        assert_eq!((gpu.xids.as_deref(), gpu.ecc_uncorrected), (Some(&[79][..]), Some(1.0)));
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
