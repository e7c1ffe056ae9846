//! The hardware that models run on: what memory, bandwidth and arithmetic each class has.
//!
//! A catalogue of what vendors publish ([`catalogue`]); what a machine really reaches of it is a
//! matter of calibration, not of this table.

mod amd;
mod google;
mod intel;
mod nvidia;
mod processor;

use serde::Serialize;

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
    /// Memory in bytes that its driver reports, which is less than what is printed on the box. For
    /// processors a common amount of a socket, to be replaced by what the machine has.
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
    /// What to know about them: assumptions, and what could not be verified. Empty where nothing
    /// is.
    pub note: &'static str,
}

/// Dense operations a second (a multiplication and an addition are two), without the factor for
/// sparsity.
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
    /// Seconds that a collective operation takes however small it is.
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

/// All classes, by vendor, then by age.
pub fn catalogue() -> impl Iterator<Item = &'static Accelerator> {
    let vendors = [
        nvidia::CLASSES.as_slice(),
        amd::CLASSES.as_slice(),
        intel::CLASSES.as_slice(),
        google::CLASSES.as_slice(),
        processor::CLASSES.as_slice(),
    ];
    vendors.into_iter().flatten()
}

/// Most letters of what a class is called that is in no catalogue.
const NAME_MAX: usize = 63;

/// What the class of a device is called, by its driver's name for it: of one that is in no catalogue that name, in
/// letters, digits and dashes. None where there is nothing of them.
pub fn class_name(device: &str, memory_bytes: Option<u64>) -> Option<String> {
    if let Some(known) = Accelerator::by_device_name(device, memory_bytes) {
        return Some(known.id.to_owned());
    }
    let lower = device.to_ascii_lowercase();
    let words = lower.split(|letter: char| !letter.is_ascii_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let name: String = words.join("-").chars().take(NAME_MAX).collect();
    Some(name).filter(|name| !name.is_empty())
}

impl Accelerator {
    /// A desktop's processor, which stands for any machine without accelerators where its speed does not matter.
    pub const PROCESSOR: Self = processor::CLASSES[0];

    /// A small device of NVIDIA, which stands for those of theirs that are in no catalogue.
    pub const GENERIC: Self = nvidia::CLASSES[8];

    /// Whether it is processor cores rather than a device of its own.
    pub const fn is_processor(&self) -> bool {
        matches!(self.vendor, Vendor::Cpu)
    }

    /// The same class with another amount of memory: what a driver reports, a part of a device, or a processor's.
    pub const fn with_memory(self, memory_bytes: u64) -> Self {
        Self { memory_bytes, ..self }
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
        catalogue().find(|class| class.id.eq_ignore_ascii_case(id))
    }

    /// The class that a driver's name for a device means: `NVIDIA H100 80GB HBM3`, `AMD Instinct
    /// MI300X`. Where several have its words, the memory decides, if it is known.
    pub fn by_device_name(name: &str, memory_bytes: Option<u64>) -> Option<&'static Self> {
        let words = words(name);
        let all = |class: &&Self| self::words(class.name).iter().all(|word| words.contains(word));
        let off = |class: &&Self| class.memory_bytes.abs_diff(memory_bytes.unwrap_or_default());
        let most = catalogue().filter(all).map(|class| self::words(class.name).len()).max()?;
        let exact = |class: &&Self| self::words(class.name).len() == most;
        match memory_bytes {
            Some(_) => catalogue().filter(all).min_by_key(off),
            None => catalogue().filter(all).find(exact),
        }
    }
}

/// The words of a device's name that tell it from others, in lower case.
fn words(name: &str) -> Vec<String> {
    let name = name.to_ascii_lowercase();
    let parts = name.split(|letter: char| !letter.is_ascii_alphanumeric());
    let says = |word: &&str| !word.is_empty() && !NOISE.contains(word) && !word.ends_with("gb");
    let mut words: Vec<String> = parts.filter(says).map(str::to_owned).collect();
    words.sort_unstable();
    words.dedup();
    words
}

/// Words that tell nothing about a class.
const NOISE: [&str; 16] = [
    "amd",
    "apple",
    "data",
    "center",
    "edition",
    "generation",
    "geforce",
    "google",
    "gpu",
    "graphics",
    "instinct",
    "intel",
    "nvidia",
    "r",
    "series",
    "tm",
];

/// So many 10^12 a second.
const fn tera(value: f64) -> f64 {
    value * 1e12
}

/// So many 10^9 bytes a second.
const fn giga(value: f64) -> f64 {
    value * 1e9
}

/// So many 2^30 bytes.
const fn gib(value: f64) -> u64 {
    (value * 1_073_741_824.0) as u64
}

/// Tensor cores' figures: 32 bits outside, 16 bits, then 8 bits of either kind, then 4.
const fn flops(f32: f64, half: f64, eight: [Option<f64>; 2], fp4: Option<f64>) -> Flops {
    Flops { f32: tera(f32), half: tera(half), bf16: true, fp8: eight[0], int8: eight[1], fp4 }
}

/// A link by name and 10^9 bytes a second in one direction. The latency is not of a datasheet, and nobody
/// looked it up: ten microseconds for an all-reduce over a switch of the node's own and thirty over PCIe and
/// networks are assumed.
const fn fast(name: &'static str, bandwidth: f64) -> Link {
    Link { name, bandwidth: giga(bandwidth), latency_seconds: 10e-6 }
}

/// As [`fast`], through the host or a network.
const fn slow(name: &'static str, bandwidth: f64) -> Link {
    Link { name, bandwidth: giga(bandwidth), latency_seconds: 30e-6 }
}

const PCIE_3: Link = slow("PCIe 3 x16", 16.0);
const PCIE_4: Link = slow("PCIe 4 x16", 32.0);
const PCIE_5: Link = slow("PCIe 5 x16", 64.0);
/// One 25 Gbit/s network for a machine's few accelerators: what small cloud machines have.
const ETHERNET_25: Link = slow("Ethernet 25 Gbit/s", 3.1);
const NETWORK_200: Link = slow("200 Gbit/s an accelerator", 25.0);
const NETWORK_400: Link = slow("400 Gbit/s an accelerator", 50.0);
const NETWORK_800: Link = slow("800 Gbit/s an accelerator", 100.0);
const NO_LINK: Link = slow("none", 1.0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_sound() {
        let mut ids: Vec<&str> = catalogue().map(|class| class.id).collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count, "two classes have one id");
        assert!(count >= 40, "{count} classes");
        for class in catalogue() {
            let Accelerator { id, flops, .. } = class;
            assert!(class.memory_bytes >= gib(8.0), "{id}");
            assert!((50e9..10e12).contains(&class.bandwidth), "{id}");
            assert!(flops.half >= flops.f32, "{id}");
            for eight in [flops.fp8, flops.int8].into_iter().flatten() {
                assert!(eight >= flops.half, "{id}: eight bits are not slower than sixteen");
            }
            assert!(flops.fp4.is_none_or(|four| four > flops.half), "{id}");
            assert!(class.per_node >= 1 && !class.source.is_empty(), "{id}");
            assert!(class.link.bandwidth > 0.0 && class.node_link.bandwidth > 0.0, "{id}");
        }
    }

    #[test]
    fn devices_are_known_by_what_drivers_call_them() {
        let check = |name: &str, gib_of: Option<f64>, expect: Option<&str>| {
            let found = Accelerator::by_device_name(name, gib_of.map(gib));
            assert_eq!(found.map(|class| class.id), expect, "{name}");
        };
        check("NVIDIA H100 80GB HBM3", Some(79.2), Some("h100-sxm"));
        check("NVIDIA H100 PCIe", None, Some("h100-pcie"));
        check("NVIDIA H100 NVL", Some(93.1), Some("h100-nvl"));
        check("NVIDIA A100-SXM4-40GB", Some(39.4), Some("a100-40"));
        check("NVIDIA A100-SXM4-80GB", Some(79.2), Some("a100-80"));
        check("NVIDIA L4", None, Some("l4"));
        check("NVIDIA L40S", None, Some("l40s"));
        check("Tesla T4", None, Some("t4"));
        check("NVIDIA GeForce RTX 4090", None, Some("rtx-4090"));
        check("AMD Instinct MI300X", None, Some("mi300x"));
        check("A toaster", None, None);
    }
}
