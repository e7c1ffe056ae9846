//! Google's TPUs, one chip each. Interconnect figures are of all links of a chip, in one direction.

use super::{Accelerator, Flops, NETWORK_200, Vendor, fast, flops, gib, giga, slow, tera};

const DOCS: &str = "cloud.google.com/tpu/docs (v5p, v6e, with v5e beside it)";

/// The classes, oldest first.
pub(super) const CLASSES: [Accelerator; 4] = [
    Accelerator {
        source: "public tables after cloud.google.com/tpu/docs/v4: 275 TFLOPS, 1.2 TB/s",
        note: "32 GiB and 6 links of 50 GB/s as remembered",
        ..class("tpu-v4", "TPU v4", "v4", 32.0, 1228.0, tpu(275.0, 275.0), 4, 300.0)
    },
    Accelerator {
        source: DOCS,
        ..class("tpu-v5e", "TPU v5e", "v5e", 16.0, 819.0, tpu(197.0, 393.0), 8, 100.0)
    },
    Accelerator {
        source: DOCS,
        note: "INT8 by public tables",
        ..class("tpu-v5p", "TPU v5p", "v5p", 95.0, 2765.0, tpu(459.0, 918.0), 4, 300.0)
    },
    Accelerator {
        source: DOCS,
        note: "later versions of the page round bandwidth down to 1600 GB/s and links to 3200 Gbit/s",
        node_link: slow("4 × 200 Gbit/s a host", 12.5),
        ..class("tpu-v6e", "TPU v6e", "v6e", 32.0, 1640.0, tpu(918.0, 1836.0), 8, 224.0)
    },
];

#[expect(clippy::too_many_arguments, reason = "columns of the table above")]
const fn class(
    id: &'static str,
    name: &'static str,
    generation: &'static str,
    memory_gib: f64,
    gigabytes_a_second: f64,
    flops: Flops,
    per_node: u32,
    link: f64,
) -> Accelerator {
    Accelerator {
        id,
        name,
        vendor: Vendor::Google,
        generation,
        memory_bytes: gib(memory_gib),
        bandwidth: giga(gigabytes_a_second),
        flops,
        per_node,
        link: fast("ICI", link),
        node_link: NETWORK_200,
        source: "",
        note: "",
    }
}

/// Matrix units: nothing else is worth a model's while, so 32 bits count as an eighth.
const fn tpu(half: f64, int8: f64) -> Flops {
    flops(half / 8.0, half, [None, Some(tera(int8))], None)
}
