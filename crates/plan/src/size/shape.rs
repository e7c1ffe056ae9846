//! How a model is laid out on accelerators: what divides it, how much context, how many sequences.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::quantization::Dtype;

/// One way to run a model. `replicas` copies are independent; each takes
/// [`Shape::accelerators_per_replica`].
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Shape {
    /// Ranks that divide each layer (tensor parallel).
    pub tensor: u32,
    /// Stages that divide the layers (pipeline parallel).
    pub pipeline: u32,
    /// Whether the ranks of a stage divide the experts among them whole, instead of each expert's
    /// matrices.
    pub expert_parallel: bool,
    /// Ranks with attention of their own that share the experts of one replica (data parallel
    /// attention); 1 without. The experts are then divided by `tensor` × `data`.
    pub data: u32,
    /// Independent copies of all this.
    pub replicas: u32,
    /// Longest context in tokens, prompt and answer together.
    pub context: u64,
    /// Sequences that run at once in a replica, for each rank of `data`.
    pub sequences: u32,
    /// Tokens that one step may compute.
    pub batch_tokens: u32,
    /// What the KV cache holds its elements in.
    pub kv_dtype: Dtype,
    /// The share of an accelerator's memory that the runtime may take.
    pub utilisation: f64,
    /// Whether graphs of decode steps are captured, which takes memory and saves time.
    pub graphs: bool,
}

impl Shape {
    /// One accelerator, with what vLLM does when it is not told otherwise: nine tenths of the
    /// memory, 2048 tokens a step, 256 sequences.
    pub const fn single(context: u64, kv_dtype: Dtype) -> Self {
        Self {
            tensor: 1,
            pipeline: 1,
            expert_parallel: false,
            data: 1,
            replicas: 1,
            context,
            sequences: 256,
            batch_tokens: 2048,
            kv_dtype,
            utilisation: 0.9,
            graphs: true,
        }
    }

    /// Accelerators of one replica.
    pub const fn accelerators_per_replica(&self) -> u32 {
        self.tensor.saturating_mul(self.pipeline).saturating_mul(self.data)
    }

    /// Accelerators of all replicas.
    pub const fn accelerators(&self) -> u32 {
        self.accelerators_per_replica().saturating_mul(self.replicas)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TP{}", self.tensor)?;
        if self.pipeline > 1 {
            write!(f, " PP{}", self.pipeline)?;
        }
        if self.data > 1 {
            write!(f, " DP{}", self.data)?;
        }
        if self.expert_parallel {
            write!(f, " EP{}", self.tensor.saturating_mul(self.data))?;
        }
        if self.replicas > 1 {
            write!(f, " ×{}", self.replicas)?;
        }
        Ok(())
    }
}
