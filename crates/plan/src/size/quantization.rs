//! How numbers are stored: data types of weights and caches, and the ways in which weights are
//! quantised, with what each takes, scales included.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A data type of tensors, activations and caches.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Dtype {
    /// 64 bits floating point.
    F64,
    /// 32 bits floating point.
    F32,
    /// 16 bits floating point, range of 8 exponent bits.
    Bf16,
    /// 16 bits floating point (IEEE half).
    F16,
    /// 8 bits floating point, either form.
    Fp8,
    /// 8 bits whole number.
    Int8,
    /// 4 bits floating point (E2M1).
    Fp4,
    /// 4 bits whole number.
    Int4,
}

/// How the linear layers of a model are stored.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantization {
    /// As they were trained.
    #[default]
    None,
    /// 8 bits floating point; one scale a block of `block` × `block` weights, or one a tensor or
    /// channel.
    Fp8 {
        /// Edge of a block that has its own scale.
        block: Option<u32>,
    },
    /// 8 bits whole numbers, a scale a channel.
    Int8,
    /// AWQ: packed whole numbers with scales and zeros by group.
    Awq {
        /// Bits a weight.
        bits: u32,
        /// Weights that share a scale.
        group: u32,
    },
    /// GPTQ: packed whole numbers with scales and zeros by group.
    Gptq {
        /// Bits a weight.
        bits: u32,
        /// Weights that share a scale.
        group: u32,
    },
    /// Packed whole numbers of compressed-tensors, with scales by group.
    Packed {
        /// Bits a weight.
        bits: u32,
        /// Weights that share a scale.
        group: u32,
    },
    /// 4 bits floating point, an 8-bit scale for 32 weights.
    Mxfp4,
    /// 4 bits floating point, an 8-bit scale for 16 weights.
    Nvfp4,
    /// bitsandbytes, quantised while loading or stored so.
    BitsAndBytes {
        /// Bits a weight: 4 or 8.
        bits: u32,
    },
    /// A mixture of ggml's block types, by the name of the mixture: `Q4_K_M`.
    Gguf {
        /// The name.
        name: String,
    },
    /// A method that this program does not know, by the name its files give.
    Other {
        /// The name.
        name: String,
    },
}

impl Dtype {
    /// Bytes an element: one half for 4 bits.
    pub const fn bytes(self) -> f64 {
        match self {
            Self::F64 => 8.0,
            Self::F32 => 4.0,
            Self::Bf16 | Self::F16 => 2.0,
            Self::Fp8 | Self::Int8 => 1.0,
            Self::Fp4 | Self::Int4 => 0.5,
        }
    }

    /// As configurations and safetensors headers write it; `None` for a name that is not of this
    /// list.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.trim_start_matches("torch.").to_ascii_lowercase();
        Some(match name.as_str() {
            "float64" | "f64" | "double" => Self::F64,
            "float32" | "f32" | "float" => Self::F32,
            "bfloat16" | "bf16" => Self::Bf16,
            "float16" | "f16" | "half" | "fp16" => Self::F16,
            "fp8" | "fp8_e4m3" | "fp8_e5m2" | "float8_e4m3fn" | "float8_e5m2" | "f8_e4m3"
            | "f8_e5m2" => Self::Fp8,
            "int8" | "i8" => Self::Int8,
            "fp4" | "nvfp4" | "mxfp4" | "f4" => Self::Fp4,
            "int4" | "i4" | "u4" => Self::Int4,
            _ => return None,
        })
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::Fp8 => "fp8",
            Self::Int8 => "int8",
            Self::Fp4 => "fp4",
            Self::Int4 => "int4",
        })
    }
}

impl Quantization {
    /// Bits that one weight of a quantised layer takes, scales and zero points included; `None`
    /// where the method does not say, and where weights are as they were trained.
    ///
    /// A group has a 16-bit scale and, with AWQ and GPTQ, a zero point of the weights' own bits.
    /// NVFP4 and MXFP4 have an 8-bit scale for 16 and 32 weights. bitsandbytes' 4 bits have a
    /// 32-bit scale for 64 weights.
    pub fn bits_per_weight(&self) -> Option<f64> {
        Some(match *self {
            Self::Fp8 { block: Some(block) } => 8.0 + 32.0 / squared(block),
            Self::Fp8 { block: None } | Self::Int8 | Self::BitsAndBytes { bits: 8 } => 8.0,
            Self::Awq { bits, group } | Self::Gptq { bits, group } => {
                f64::from(bits) + (16.0 + f64::from(bits)) / f64::from(group.max(1))
            }
            Self::Packed { bits, group } => f64::from(bits) + 16.0 / f64::from(group.max(1)),
            Self::Mxfp4 => 4.0 + 8.0 / 32.0,
            Self::Nvfp4 => 4.0 + 8.0 / 16.0,
            Self::BitsAndBytes { bits } => f64::from(bits) + 32.0 / 64.0,
            Self::None | Self::Gguf { .. } | Self::Other { .. } => return None,
        })
    }

    /// What its matrix products are computed in, on hardware that can: weights of whole-number
    /// groups are widened to the activations' type first.
    pub const fn computes_in(&self, activations: Dtype) -> Dtype {
        match self {
            Self::Fp8 { .. } => Dtype::Fp8,
            Self::Int8 => Dtype::Int8,
            Self::Nvfp4 => Dtype::Fp4,
            _ => activations,
        }
    }
}

impl fmt::Display for Quantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Fp8 { .. } => f.write_str("fp8"),
            Self::Int8 => f.write_str("int8"),
            Self::Awq { bits, .. } => write!(f, "awq {bits} bits"),
            Self::Gptq { bits, .. } => write!(f, "gptq {bits} bits"),
            Self::Packed { bits, .. } => write!(f, "packed {bits} bits"),
            Self::Mxfp4 => f.write_str("mxfp4"),
            Self::Nvfp4 => f.write_str("nvfp4"),
            Self::BitsAndBytes { bits } => write!(f, "bitsandbytes {bits} bits"),
            Self::Gguf { name } => write!(f, "gguf {name}"),
            Self::Other { name } => write!(f, "{name}, which is not known here"),
        }
    }
}

fn squared(edge: u32) -> f64 {
    let edge = f64::from(edge.max(1));
    edge * edge
}
