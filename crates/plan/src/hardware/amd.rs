//! AMD's classes. Arithmetic is dense, of the matrix cores.

use super::{
    Accelerator, Flops, Link, NETWORK_200, NETWORK_400, PCIE_4, Vendor, fast, flops, gib, giga,
    tera,
};

/// The classes, oldest first.
pub(super) const CLASSES: [Accelerator; 5] = [
    Accelerator {
        link: PCIE_4,
        source: "AMD's MI200 launch table by way of public copies: 181 TFLOPS FP16, 1.6 TB/s",
        note: "memory nominal",
        ..class("mi210", "MI210", "cdna2", 63.98, 1638.0, older(22.6, 181.0))
    },
    Accelerator {
        link: fast("Infinity Fabric 3", 150.0),
        source: "AMD's MI200 launch table by way of public copies: 362.1 TFLOPS FP16, 3.2 TB/s",
        note: "one module is two devices of 64 GB: figures are of the module, and a tensor parallel rank is one device",
        ..class("mi250", "MI250", "cdna2", 127.96, 3277.0, older(45.3, 362.1))
    },
    Accelerator {
        source: "AMD datasheet by way of public tables: 1307.4 TFLOPS FP16, 2614.9 FP8, 5.3 TB/s",
        note: "memory as torch reports it in public logs (191.98 GiB)",
        ..class("mi300x", "MI300X", "cdna3", 191.98, 5300.0, newer(163.4, 1307.4, None))
    },
    Accelerator {
        source: "AMD datasheet by way of public tables: as MI300X, 256 GB, 6.0 TB/s",
        note: "memory nominal",
        ..class("mi325x", "MI325X", "cdna3", 255.98, 6000.0, newer(163.4, 1307.4, None))
    },
    Accelerator {
        source: "AMD datasheet by way of public tables: 5033 TFLOPS FP8, 10066 FP4, 8.0 TB/s, 288 GB",
        note: "16 bits as half of FP8; memory nominal",
        ..class("mi355x", "MI355X", "cdna4", 287.98, 8000.0, newer(157.3, 2516.6, Some(10066.0)))
    },
];

/// Seven links of 64 GB/s, one to each of the other seven: an all-reduce uses all of them.
const FABRIC: Link = fast("Infinity Fabric 4", 448.0);

const fn class(
    id: &'static str,
    name: &'static str,
    generation: &'static str,
    memory_gib: f64,
    gigabytes_a_second: f64,
    flops: Flops,
) -> Accelerator {
    let older = matches!(generation.as_bytes(), b"cdna2");
    Accelerator {
        id,
        name,
        vendor: Vendor::Amd,
        generation,
        memory_bytes: gib(memory_gib),
        bandwidth: giga(gigabytes_a_second),
        flops,
        per_node: if older { 4 } else { 8 },
        link: FABRIC,
        node_link: if older { NETWORK_200 } else { NETWORK_400 },
        source: "",
        note: "",
    }
}

/// CDNA 2: eight bits as whole numbers only, no faster than sixteen.
const fn older(f32: f64, half: f64) -> Flops {
    flops(f32, half, [None, Some(tera(half))], None)
}

/// CDNA 3 and 4: eight bits at twice the rate.
const fn newer(f32: f64, half: f64, fp4: Option<f64>) -> Flops {
    let eight = Some(tera(half * 2.0));
    let fp4 = match fp4 {
        Some(four) => Some(tera(four)),
        None => None,
    };
    flops(f32, half, [eight, eight], fp4)
}
