//! What is known of the machines below replicas.

group! {
    /// What one accelerator can do, by its data sheet.
    Accelerator {
        /// Bytes of memory.
        memory_bytes: f64,
        /// Bytes that it reads in a second.
        bandwidth_bytes_s: f64,
        /// Operations in a second, dense, at the model's precision, or with 16 bits where there is another for
        /// fewer.
        flops: f64,
        /// Operations in a second, dense, with eight bits.
        flops_eight_bits: f64,
        /// How many a replica has; they divide each layer where its settings do not say otherwise.
        count: f64,
    }
}

group! {
    /// One accelerator, in the words of DCGM.
    Gpu {
        /// Which one.
        name: String,
        /// `DCGM_FI_DEV_SM_CLOCK`.
        sm_clock_mhz: f64,
        /// The clock that it reaches when nothing holds it back.
        sm_clock_max_mhz: f64,
        /// `DCGM_FI_PROF_SM_ACTIVE`: share of time in which the multiprocessors had work.
        sm_active: f64,
        /// `DCGM_FI_PROF_DRAM_ACTIVE`: share of time in which memory was busy.
        dram_active: f64,
        /// `DCGM_FI_PROF_PIPE_TENSOR_ACTIVE`: share of time in which tensor cores were busy.
        tensor_active: f64,
        /// Seconds of the window in which heat held it back (`DCGM_FI_DEV_THERMAL_VIOLATION`).
        thermal_violation_s: f64,
        /// Seconds in which its power limit did (`DCGM_FI_DEV_POWER_VIOLATION`).
        power_violation_s: f64,
        /// `DCGM_FI_DEV_GPU_TEMP`.
        temperature_c: f64,
        /// Errors of memory that could not be corrected.
        ecc_uncorrected: f64,
        /// Rows of memory that could not be replaced (`DCGM_FI_DEV_ROW_REMAP_FAILURE`).
        row_remap_failures: f64,
        /// Errors that the driver reported (XID), in the order in which they came.
        xids: Vec<u32>,
    }
}

group! {
    /// The machine below a replica, as its process or pod sees it.
    Host {
        /// Cores that the server's process used.
        cpu_cores: f64,
        /// Cores that its busiest part can use: one for each API server process of Python.
        cpu_cores_max: f64,
        /// Share of periods in which the cgroup was throttled (`nr_throttled` by `nr_periods`).
        throttled: f64,
        /// Share of time that the hypervisor gave to others.
        steal: f64,
        /// Share of time in which something waited for a processor (PSI, `some`).
        psi_cpu: f64,
        /// Share of time in which something waited for memory (PSI, `some`).
        psi_memory: f64,
        /// Share of time in which something waited for a disk (PSI, `some`).
        psi_io: f64,
    }
}
