//! NVIDIA's classes. Arithmetic is dense, with 32-bit accumulation; memory is what CUDA reports.

use super::{
    Accelerator, ETHERNET_25, Flops, Link, NETWORK_200, NETWORK_400, NETWORK_800, NO_LINK, PCIE_3,
    PCIE_4, PCIE_5, Vendor, fast, flops, gib, giga, tera,
};

/// The vendor's system descriptions for its own configurator, which cite its datasheets.
const AIC: &str = "ai-dynamo/aiconfigurator@095f58a, systems/*.yaml (NVIDIA datasheets)";
const REPORTED: &str = "memory as torch reports it in public logs";

/// The classes, oldest first.
pub(super) const CLASSES: [Accelerator; 21] = [
    Accelerator {
        per_node: 8,
        link: fast("NVLink 2", 150.0),
        node_link: NETWORK_200,
        source: "gpu-specs (winston-zhang-orz/gpu-specs, specs.md): 125 TFLOPS; 900 GB/s",
        note: "no bfloat16; memory nominal, less the usual share of ECC and driver",
        ..class("v100-32", "Tesla V100 32GB", "volta", 31.7, 900.0, no_bf16(15.7, 125.0, None))
    },
    Accelerator {
        link: PCIE_3,
        node_link: ETHERNET_25,
        per_node: 4,
        source: "public specification pages (fpsbench.com, T4): 65.13 TFLOPS FP16, 320 GB/s; 130 TOPS INT8",
        note: "no bfloat16; memory from a vLLM log (14.56 GiB)",
        ..class("t4", "Tesla T4", "turing", 14.56, 320.0, no_bf16(8.1, 65.0, Some(tera(130.0))))
    },
    Accelerator {
        link: PCIE_4,
        node_link: ETHERNET_25,
        per_node: 4,
        source: "A10 datasheet by way of astroC86/gpu-datasheet: 600 GB/s",
        note: "arithmetic as NVIDIA lists the A10G for clouds (70 TFLOPS), which could not be looked up again; the A10 has 125",
        ..class("a10g", "A10G", "ampere", 22.05, 600.0, ampere(31.2, 70.0))
    },
    Accelerator {
        link: fast("NVLink 3", 300.0),
        node_link: NETWORK_200,
        source: "A100 datasheet by way of astroC86/gpu-datasheet: 1555 GB/s, 312 TFLOPS",
        note: REPORTED,
        ..class("a100-40", "A100 SXM4 40GB", "ampere", 39.38, 1555.0, ampere(19.5, 312.0))
    },
    Accelerator {
        link: fast("NVLink 3", 300.0),
        node_link: NETWORK_200,
        source: AIC,
        note: REPORTED,
        ..class("a100-80", "A100 SXM4 80GB", "ampere", 79.15, 2039.0, ampere(19.5, 312.0))
    },
    Accelerator {
        link: PCIE_4,
        node_link: NETWORK_200,
        source: AIC,
        note: REPORTED,
        ..class("a100-pcie", "A100 80GB PCIe", "ampere", 79.15, 1935.0, ampere(19.5, 312.0))
    },
    Accelerator {
        per_node: 2,
        link: PCIE_4,
        node_link: ETHERNET_25,
        source: "GA102 whitepaper by way of public tables: 936.2 GB/s, 35.6 TFLOPS FP32, 142 FP16 tensor",
        note: "142 is with 16-bit accumulation; with 32 bits, which models need, half; memory from a vLLM log (23.58 GiB)",
        ..class("rtx-3090", "RTX 3090", "ampere", 23.58, 936.2, ampere(35.6, 71.0))
    },
    Accelerator {
        per_node: 1,
        link: NO_LINK,
        node_link: ETHERNET_25,
        source: "Jetson AGX Orin 64GB: 204.8 GB/s LPDDR5",
        note: "arithmetic and memory could not be looked up: 42.5 TFLOPS FP16 and 85 TOPS INT8 dense of its GPU as remembered; memory shared with the processor",
        ..class("jetson-orin", "Jetson AGX Orin", "ampere", 61.4, 204.8, ampere(5.3, 42.5))
    },
    Accelerator {
        per_node: 4,
        link: PCIE_4,
        node_link: NETWORK_200,
        source: AIC,
        note: REPORTED,
        ..class("l4", "L4", "ada", 22.03, 300.0, eight(30.3, 121.0, 242.0))
    },
    Accelerator {
        link: PCIE_4,
        node_link: NETWORK_200,
        source: "public catalogues (L40, 48 GB): 864 GB/s, 181 TFLOPS FP16 dense",
        note: "arithmetic as remembered of the datasheet (half the L40S's)",
        ..class("l40", "L40", "ada", 44.4, 864.0, eight(90.5, 181.0, 362.0))
    },
    Accelerator {
        link: PCIE_4,
        node_link: NETWORK_400,
        source: AIC,
        note: REPORTED,
        ..class("l40s", "L40S", "ada", 44.42, 864.0, eight(91.6, 362.05, 733.0))
    },
    Accelerator {
        per_node: 2,
        link: PCIE_4,
        node_link: ETHERNET_25,
        source: "Ada whitepaper by way of hmc-tech.com: 165.2 FP16, 330.3 FP8, 660.6 INT8; 1008 GB/s",
        note: REPORTED,
        ..class("rtx-4090", "RTX 4090", "ada", 23.52, 1008.0, split(82.6, 165.2, 330.3, 660.6))
    },
    Accelerator {
        per_node: 4,
        link: PCIE_4,
        node_link: ETHERNET_25,
        source: "public tables: RTX 6000 Ada, 960 GB/s",
        note: "arithmetic as remembered of the datasheet: 1457 FP8 with sparsity; memory from a log with 47.5 GiB",
        ..class("rtx-6000-ada", "RTX 6000 Ada", "ada", 47.5, 960.0, eight(91.1, 364.2, 728.5))
    },
    Accelerator {
        link: PCIE_5,
        node_link: NETWORK_400,
        source: AIC,
        note: "pairs may have an NVLink bridge; memory as the SXM form's",
        ..class("h100-pcie", "H100 PCIe", "hopper", 79.19, 2000.0, eight(51.2, 756.5, 1513.0))
    },
    Accelerator {
        link: fast("NVLink 4", 450.0),
        node_link: NETWORK_400,
        source: AIC,
        note: REPORTED,
        ..class("h100-sxm", "H100 80GB HBM3", "hopper", 79.19, 3350.0, eight(67.0, 989.0, 1978.0))
    },
    Accelerator {
        link: fast("NVLink bridge", 300.0),
        node_link: NETWORK_400,
        source: "H100 NVL datasheet",
        note: "not looked up again: 94 GB, 3.9 TB/s, 835 TFLOPS dense; memory nominal; bridges join pairs only",
        ..class("h100-nvl", "H100 NVL", "hopper", 93.1, 3938.0, eight(60.0, 835.0, 1670.0))
    },
    Accelerator {
        link: fast("NVLink 4", 450.0),
        node_link: NETWORK_400,
        source: AIC,
        note: REPORTED,
        ..class("h200", "H200", "hopper", 139.8, 4800.0, eight(67.0, 989.0, 1978.0))
    },
    Accelerator {
        per_node: 1,
        link: fast("NVLink 4", 450.0),
        node_link: NETWORK_400,
        source: "GH200 datasheet (96 GB HBM3): 4 TB/s, arithmetic as H100 SXM",
        note: "not looked up again; memory nominal less what H100 loses",
        ..class("gh200", "GH200 480GB", "hopper", 94.5, 4000.0, eight(67.0, 989.0, 1978.0))
    },
    Accelerator {
        link: fast("NVLink 5", 900.0),
        node_link: NETWORK_800,
        source: AIC,
        note: REPORTED,
        ..class("b200", "B200", "blackwell", 178.35, 7700.0, four(75.0, 2250.0))
    },
    Accelerator {
        per_node: 2,
        link: PCIE_5,
        node_link: ETHERNET_25,
        source: "VladislavDuma/gpu_specs: 1792 GB/s, 419 TFLOPS FP16 tensor with 16-bit accumulation",
        note: "with 32-bit accumulation half; memory as remembered of logs (31.36 GiB)",
        ..class("rtx-5090", "RTX 5090", "blackwell", 31.36, 1792.0, four(104.8, 209.5))
    },
    Accelerator {
        link: PCIE_5,
        node_link: NETWORK_400,
        source: AIC,
        note: "measured clock; 97887 MiB by nvidia-smi, less the driver's own",
        ..class("rtx-pro-6000", "RTX PRO 6000", "blackwell", 94.97, 1792.0, four(116.0, 467.8))
    },
];

/// A class with eight to a node over PCIe; the table above says what is different.
const fn class(
    id: &'static str,
    name: &'static str,
    generation: &'static str,
    memory_gib: f64,
    gigabytes_a_second: f64,
    flops: Flops,
) -> Accelerator {
    Accelerator {
        id,
        name,
        vendor: Vendor::Nvidia,
        generation,
        memory_bytes: gib(memory_gib),
        bandwidth: giga(gigabytes_a_second),
        flops,
        per_node: 8,
        link: DEFAULT_LINK,
        node_link: NETWORK_400,
        source: AIC,
        note: "",
    }
}

const DEFAULT_LINK: Link = PCIE_4;

/// Tensor cores before bfloat16.
const fn no_bf16(f32: f64, half: f64, int8: Option<f64>) -> Flops {
    Flops { f32: tera(f32), half: tera(half), bf16: false, fp8: None, int8, fp4: None }
}

/// Ampere: eight bits as whole numbers only, at twice the rate.
const fn ampere(f32: f64, half: f64) -> Flops {
    flops(f32, half, [None, Some(tera(half * 2.0))], None)
}

/// Ada and Hopper: eight bits of both kinds.
const fn eight(f32: f64, half: f64, eight: f64) -> Flops {
    flops(f32, half, [Some(tera(eight)), Some(tera(eight))], None)
}

/// Cards for players, whose rate with 32-bit accumulation is half that of whole numbers.
const fn split(f32: f64, half: f64, fp8: f64, int8: f64) -> Flops {
    flops(f32, half, [Some(tera(fp8)), Some(tera(int8))], None)
}

/// Blackwell: each halving of the width doubles the rate, down to four bits.
const fn four(f32: f64, half: f64) -> Flops {
    let eight = Some(tera(half * 2.0));
    flops(f32, half, [eight, eight], Some(tera(half * 4.0)))
}
