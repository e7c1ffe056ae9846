//! What accelerators tell of themselves, as one table: what is measured, what it is called here, and under which names
//! NVIDIA's two ways of telling have it: the library NVML on the machine itself, and DCGM's exporter on a cluster.
//!
//! Who asks them is somebody else's. What is not told stays unknown.

mod dcgm;
mod owner;
mod xid;

pub use dcgm::readings;
pub use owner::{Holder, Owned, owned};
pub use xid::Xids;

/// Most accelerators that are told of.
pub const GPUS_MAX: usize = 1024;

/// What is measured of an accelerator, in the order of [`TABLE`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Measure {
    /// The part of the time in which anything ran.
    Utilisation,
    /// Memory that is taken.
    MemoryUsed,
    /// Memory that there is.
    MemoryTotal,
    /// How warm it is.
    Temperature,
    /// What it draws.
    Power,
    /// What it may draw.
    PowerLimit,
    /// How fast its processors run.
    Clock,
    /// How fast they can.
    ClockMax,
    /// Errors of its memory that could not be corrected.
    EccUncorrected,
    /// Transfers to the host that had to be repeated.
    PcieReplays,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What.
    pub measure: Measure,
    /// Its metric; of one that counts without `_total`.
    pub name: &'static str,
    /// What it tells.
    pub help: &'static str,
    /// Whether it only grows.
    pub counts: bool,
    /// NVML's function for it.
    pub nvml: &'static str,
    /// DCGM's fields for it, the better ones first.
    pub dcgm: &'static [&'static str],
    /// What one of DCGM's units is in ours.
    pub dcgm_unit: f64,
}

const MIB: f64 = 1_048_576.0;
const PERCENT: f64 = 0.01;
const MHZ: f64 = 1e6;

/// Everything that is measured.
pub const TABLE: [Row; 10] = [
    Row {
        measure: Measure::Utilisation,
        name: "pilotage_gpu_utilization_ratio",
        help: "Part of the time in which anything ran on an accelerator, from 0 to 1: not how much of it worked",
        counts: false,
        nvml: "nvmlDeviceGetUtilizationRates",
        dcgm: &["DCGM_FI_DEV_GPU_UTIL"],
        dcgm_unit: PERCENT,
    },
    Row {
        measure: Measure::MemoryUsed,
        name: "pilotage_gpu_memory_used_bytes",
        help: "Memory of an accelerator that is taken",
        counts: false,
        nvml: "nvmlDeviceGetMemoryInfo",
        dcgm: &["DCGM_FI_DEV_FB_USED"],
        dcgm_unit: MIB,
    },
    Row {
        measure: Measure::MemoryTotal,
        name: "pilotage_gpu_memory_total_bytes",
        help: "Memory of an accelerator",
        counts: false,
        nvml: "nvmlDeviceGetMemoryInfo",
        dcgm: &["DCGM_FI_DEV_FB_TOTAL"],
        dcgm_unit: MIB,
    },
    Row {
        measure: Measure::Temperature,
        name: "pilotage_gpu_temperature_celsius",
        help: "How warm an accelerator is",
        counts: false,
        nvml: "nvmlDeviceGetTemperature",
        dcgm: &["DCGM_FI_DEV_GPU_TEMP"],
        dcgm_unit: 1.0,
    },
    Row {
        measure: Measure::Power,
        name: "pilotage_gpu_power_watts",
        help: "Power that an accelerator draws",
        counts: false,
        nvml: "nvmlDeviceGetPowerUsage",
        dcgm: &["DCGM_FI_DEV_POWER_USAGE"],
        dcgm_unit: 1.0,
    },
    Row {
        measure: Measure::PowerLimit,
        name: "pilotage_gpu_power_limit_watts",
        help: "Power that an accelerator may draw",
        counts: false,
        nvml: "nvmlDeviceGetEnforcedPowerLimit",
        dcgm: &["DCGM_FI_DEV_ENFORCED_POWER_LIMIT", "DCGM_FI_DEV_POWER_MGMT_LIMIT"],
        dcgm_unit: 1.0,
    },
    Row {
        measure: Measure::Clock,
        name: "pilotage_gpu_sm_clock_hertz",
        help: "Clock of an accelerator's processors",
        counts: false,
        nvml: "nvmlDeviceGetClockInfo",
        dcgm: &["DCGM_FI_DEV_SM_CLOCK"],
        dcgm_unit: MHZ,
    },
    Row {
        measure: Measure::ClockMax,
        name: "pilotage_gpu_sm_clock_max_hertz",
        help: "Clock that an accelerator's processors can have",
        counts: false,
        nvml: "nvmlDeviceGetMaxClockInfo",
        dcgm: &["DCGM_FI_DEV_MAX_SM_CLOCK"],
        dcgm_unit: MHZ,
    },
    Row {
        measure: Measure::EccUncorrected,
        name: "pilotage_gpu_ecc_uncorrected",
        help: "Errors of an accelerator's memory that could not be corrected, since its driver was loaded",
        counts: true,
        nvml: "nvmlDeviceGetTotalEccErrors",
        dcgm: &["DCGM_FI_DEV_ECC_DBE_VOL_TOTAL"],
        dcgm_unit: 1.0,
    },
    Row {
        measure: Measure::PcieReplays,
        name: "pilotage_gpu_pcie_replays",
        help: "Transfers between an accelerator and its host that had to be repeated",
        counts: true,
        nvml: "nvmlDeviceGetPcieReplayCounter",
        dcgm: &["DCGM_FI_DEV_PCIE_REPLAY_COUNTER"],
        dcgm_unit: 1.0,
    },
];

/// Why a clock is lower than it could be, by NVML's names (`nvmlClocksEventReasons`) and bits. What an idle
/// accelerator does, and what somebody set, is no trouble and not among them.
pub const REASONS: [(&str, u64); 6] = [
    ("sw_power_cap", 0x4),
    ("hw_slowdown", 0x8),
    ("sync_boost", 0x10),
    ("sw_thermal_slowdown", 0x20),
    ("hw_thermal_slowdown", 0x40),
    ("hw_power_brake_slowdown", 0x80),
];

/// The metric that has a series for each of [`REASONS`].
pub const THROTTLED: &str = "pilotage_gpu_throttled";

/// The metric of all errors that a driver reports (XID), without `_total`.
pub const XID_ERRORS: &str = "pilotage_gpu_xid_errors";

/// The same by their code.
pub const XIDS: &str = "pilotage_gpu_xids";

/// One accelerator at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Its number on its machine; of a part of one `0/3`.
    pub gpu: String,
    /// What it is told from all others by.
    pub uuid: String,
    /// What its driver calls its class.
    pub model: String,
    /// The namespace of the pod that has it; empty where nobody says one.
    pub namespace: String,
    /// That pod.
    pub pod: String,
    /// The machine that it is in; empty where that is this one.
    pub node: String,
    /// What was measured, by the number of its [`Measure`].
    pub values: [Option<f64>; TABLE.len()],
    /// Bits of [`REASONS`] that hold.
    pub throttled: Option<u64>,
    /// The code of the last error that its driver reported, zero for none.
    pub last_xid: Option<u32>,
}

impl Reading {
    /// What was measured.
    pub const fn value(&self, measure: Measure) -> Option<f64> {
        self.values[measure as usize]
    }

    /// It was measured.
    pub const fn set(&mut self, measure: Measure, value: f64) {
        self.values[measure as usize] = Some(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_named_as_prometheus_wants() {
        for (at, row) in TABLE.iter().enumerate() {
            assert_eq!(row.measure as usize, at, "{}", row.name);
            assert!(row.name.starts_with("pilotage_gpu_") && !row.name.ends_with("_total"));
            assert!(!row.dcgm.is_empty() && row.nvml.starts_with("nvmlDevice"), "{}", row.name);
        }
    }
}
