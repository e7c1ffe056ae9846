//! The hardware that models run on: what memory, bandwidth and arithmetic each class has.
//!
//! A catalogue of what vendors publish ([`CATALOGUE`]); what a machine really reaches of it is a matter of
//! calibration, not of this table.

mod catalogue;

use serde::Serialize;

pub use catalogue::CATALOGUE;

use crate::size::Dtype;

/// One class of accelerator, or one socket of processor cores.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Accelerator {
    /// A short name that is typed: `h100-sxm`.
    pub id: &'static str,
    /// What its vendor calls it.
    pub name: &'static str,
    /// Who makes it.
    pub vendor: Vendor,
    /// The generation, as kernels name what they are built for: `hopper`, `cdna3`, `gaudi3`, `v5e`.
    pub generation: &'static str,
    /// Memory in bytes that its driver reports, which is less than what is printed on the box. For processors a
    /// common amount of a socket, to be replaced by what the machine has.
    pub memory_bytes: u64,
    /// Memory bandwidth in bytes a second.
    pub bandwidth: f64,
    /// Dense arithmetic.
    pub flops: Flops,
    /// Accelerators of the usual node.
    pub per_node: u32,
    /// How accelerators of one node reach each other.
    pub link: Link,
    /// How nodes reach each other, for each accelerator.
    pub node_link: Link,
    /// Where the figures come from.
    pub source: &'static str,
    /// What to know about them: assumptions, and what could not be verified. Empty where nothing is.
    pub note: &'static str,
}

/// Dense operations a second (a multiplication and an addition are two), without the factor for sparsity.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Flops {
    /// 32 bits floating point, outside matrix units.
    pub f32: f64,
    /// 16 bits floating point, in matrix units where there are such.
    pub half: f64,
    /// Whether those 16 bits may be bfloat16.
    pub bf16: bool,
    /// 8 bits floating point.
    pub fp8: Option<f64>,
    /// 8 bits whole numbers.
    pub int8: Option<f64>,
    /// 4 bits floating point.
    pub fp4: Option<f64>,
}

/// How one accelerator reaches others.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Link {
    /// What it is: `NVLink 4`, `PCIe 4 x16`.
    pub name: &'static str,
    /// Bytes a second in one direction, for one accelerator.
    pub bandwidth: f64,
    /// Seconds until the first byte of a collective operation arrives.
    pub latency_seconds: f64,
}

/// Who makes an accelerator.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Vendor {
    /// NVIDIA: CUDA.
    Nvidia,
    /// AMD: ROCm.
    Amd,
    /// Intel accelerators: Gaudi, Max, Arc.
    Intel,
    /// Google: TPU.
    Google,
    /// Apple: Metal, memory shared with the processor.
    Apple,
    /// Processor cores of any make.
    Cpu,
}

impl Accelerator {
    /// Whether it is processor cores rather than a device of its own.
    pub const fn is_processor(&self) -> bool {
        matches!(self.vendor, Vendor::Cpu)
    }

    /// Whether matrix products in this type are native: without, they are widened to 16 bits first.
    pub const fn computes(&self, dtype: Dtype) -> bool {
        match dtype {
            Dtype::F32 | Dtype::F16 => true,
            Dtype::Bf16 => self.flops.bf16,
            Dtype::Fp8 => self.flops.fp8.is_some(),
            Dtype::Int8 => self.flops.int8.is_some(),
            Dtype::Fp4 => self.flops.fp4.is_some(),
            Dtype::F64 | Dtype::Int4 => false,
        }
    }

    /// Operations a second in this type, or in 16 bits where it is not native.
    pub fn flops_in(&self, dtype: Dtype) -> f64 {
        let native = match dtype {
            Dtype::F64 | Dtype::F32 => Some(self.flops.f32),
            Dtype::Fp8 => self.flops.fp8,
            Dtype::Int8 => self.flops.int8,
            Dtype::Fp4 => self.flops.fp4,
            Dtype::Bf16 | Dtype::F16 | Dtype::Int4 => None,
        };
        native.unwrap_or(self.flops.half)
    }

    /// The class with that id.
    pub fn by_id(id: &str) -> Option<&'static Self> {
        CATALOGUE.iter().find(|class| class.id.eq_ignore_ascii_case(id))
    }
}
