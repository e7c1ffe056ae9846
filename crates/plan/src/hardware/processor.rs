//! Processors: one socket's cores, or the whole of a machine whose memory processor and graphics
//! share.
//!
//! Rates are computed from cores, clock and vector width, bandwidth from channels and their speed:
//! no vendor publishes the former. Memory is a common amount, to be replaced by what the machine
//! has.

use super::{
    Accelerator, ETHERNET_25, Flops, Link, NETWORK_200, Vendor, flops, gib, giga, slow, tera,
};

/// The classes, smallest first.
pub(super) const CLASSES: [Accelerator; 6] = [
    Accelerator {
        source: "computed: 8 cores × 32 operations × 4.0 GHz; 2 × DDR5-5600",
        note: "without 16-bit arithmetic: weights are widened to 32 bits",
        ..class("cpu-avx2", "desktop processor with AVX2", "avx2", 32.0, 89.6, plain(1.0))
    },
    Accelerator {
        vendor: Vendor::Apple,
        source: "Apple M4: 120 GB/s of unified memory",
        note: "as remembered; graphics with 10 cores, about 4 TFLOPS; three quarters of 32 GB",
        ..class("apple-m4", "M4", "apple9", 24.0, 120.0, flops(4.0, 4.0, [None, None], None))
    },
    Accelerator {
        vendor: Vendor::Apple,
        source: "Apple M4 Max: 546 GB/s of unified memory",
        note: "as remembered; graphics with 40 cores, about 17 TFLOPS; three quarters of 128 GB",
        ..class(
            "apple-m4-max",
            "M4 Max",
            "apple9",
            96.0,
            546.0,
            flops(17.0, 17.0, [None, None], None),
        )
    },
    Accelerator {
        vendor: Vendor::Apple,
        source: "Apple M3 Ultra: 819 GB/s of unified memory",
        note: "as remembered; graphics with 80 cores, about 28 TFLOPS; three quarters of 512 GB",
        ..class(
            "apple-m3-ultra",
            "M3 Ultra",
            "apple9",
            384.0,
            819.0,
            flops(28.0, 28.0, [None, None], None),
        )
    },
    Accelerator {
        per_node: 2,
        link: SOCKETS,
        node_link: NETWORK_200,
        source: "computed: 56 cores × 2048 AMX operations × 2.0 GHz (tomshardware.com on Sapphire Rapids: 1024 BF16 multiply-adds a clock and core); 8 × DDR5-4800",
        note: "Xeon Platinum 8480+",
        ..class(
            "xeon-amx",
            "Xeon with AMX",
            "sapphire-rapids",
            256.0,
            307.2,
            flops(7.2, 229.4, [None, Some(tera(458.8))], None),
        )
    },
    Accelerator {
        per_node: 2,
        link: SOCKETS,
        node_link: NETWORK_200,
        source: "computed: 96 cores × 64 BF16 operations × 2.4 GHz; 12 × DDR5-4800",
        note: "EPYC 9654",
        ..class(
            "epyc-zen4",
            "EPYC Zen 4",
            "zen4",
            384.0,
            460.8,
            flops(7.4, 14.7, [None, Some(tera(29.5))], None),
        )
    },
];

/// What two sockets have between them, roughly: three links of 48 GB/s.
const SOCKETS: Link = slow("socket to socket", 144.0);

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
        vendor: Vendor::Cpu,
        generation,
        memory_bytes: gib(memory_gib),
        bandwidth: giga(gigabytes_a_second),
        flops,
        per_node: 1,
        link: SOCKETS,
        node_link: ETHERNET_25,
        source: "",
        note: "",
    }
}

/// Vectors of 32-bit numbers and nothing else.
const fn plain(f32: f64) -> Flops {
    Flops { f32: tera(f32), half: tera(f32), bf16: false, fp8: None, int8: None, fp4: None }
}
