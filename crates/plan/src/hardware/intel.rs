//! Intel's accelerators: Gaudi, Max and Arc.

use super::{
    Accelerator, ETHERNET_25, Flops, NETWORK_200, PCIE_4, Vendor, fast, flops, gib, giga, slow,
    tera,
};

/// The classes, oldest first.
pub(super) const CLASSES: [Accelerator; 5] = [
    Accelerator {
        id: "arc-a770",
        name: "Arc A770",
        vendor: Vendor::Intel,
        generation: "xe-hpg",
        memory_bytes: gib(15.9),
        bandwidth: giga(560.0),
        flops: flops(19.7, 137.6, [None, Some(tera(275.2))], None),
        per_node: 1,
        link: PCIE_4,
        node_link: ETHERNET_25,
        source: "public specification pages (fpsbench.com): 19.66 TFLOPS FP32, 512 XMX cores",
        note: "matrix rates computed (512 cores, 128 FP16 operations a clock, 2.1 GHz); 560 GB/s is of the 16 GB limited edition; memory nominal",
    },
    Accelerator {
        id: "max-1550",
        name: "Max 1550",
        vendor: Vendor::Intel,
        generation: "xe-hpc",
        memory_bytes: gib(127.9),
        bandwidth: giga(3276.8),
        flops: flops(52.4, 838.9, [None, Some(tera(1677.7))], None),
        per_node: 6,
        link: fast("Xe Link", 159.0),
        node_link: NETWORK_200,
        source: "ark.intel.com by way of glennklockwood.com: 128 Xe cores, 1.6 GHz, 128 GB, 3.2768 TB/s",
        note: "matrix rates computed from cores and clock; measured on one of Aurora's two stacks: 263 TFLOPS; link as remembered",
    },
    Accelerator {
        id: "gaudi2",
        name: "Gaudi 2",
        vendor: Vendor::Intel,
        generation: "gaudi2",
        memory_bytes: gib(94.6),
        bandwidth: giga(2460.0),
        flops: flops(11.0, 432.0, [Some(tera(865.0)), None], None),
        per_node: 8,
        link: fast("21 × 100 GbE RoCE", 262.5),
        node_link: slow("3 × 100 GbE RoCE", 37.5),
        source: "Intel, Gaudi 3 at Hot Chips 2024: 432 TFLOPS BF16, 96 GB, 2.46 TB/s",
        note: "memory as remembered of logs (94.6 GiB); vector rate as remembered",
    },
    Accelerator {
        id: "gaudi3",
        name: "Gaudi 3",
        vendor: Vendor::Intel,
        generation: "gaudi3",
        memory_bytes: gib(126.5),
        bandwidth: giga(3670.0),
        flops: flops(14.3, 1835.0, [Some(tera(1835.0)), None], None),
        per_node: 8,
        link: fast("21 × 200 GbE RoCE", 525.0),
        node_link: slow("3 × 200 GbE RoCE", 75.0),
        source: "Intel, Gaudi 3 at Hot Chips 2024: 1835 TFLOPS BF16 and FP8, 128 GB, 3.67 TB/s, 24 × 200 GbE",
        note: "memory as remembered of logs; 32-bit rate half of the published 28.7 TFLOPS BF16 vector",
    },
    Accelerator {
        id: "arc-b60",
        name: "Arc Pro B60",
        vendor: Vendor::Intel,
        generation: "xe2-hpg",
        memory_bytes: gib(23.9),
        bandwidth: giga(456.0),
        flops: b60(),
        per_node: 8,
        link: slow("PCIe 5 x8", 28.4),
        node_link: ETHERNET_25,
        source: "ai-dynamo/aiconfigurator@095f58a, systems/b60.yaml",
        note: "the same file measures 220 GB/s in memory-bound kernels",
    },
];

const fn b60() -> Flops {
    flops(12.28, 98.304, [None, Some(tera(197.0))], None)
}
