//! How much a model needs and how fast it will be: from the bytes of its files to the shapes that
//! fit.
//!
//! ```text
//! config.json, index, headers ──▶ ModelFacts ──(Shape, Accelerator)──▶ memory, speed ──▶ search
//! ```
//!
//! Nothing here reads a file: a reader takes bytes, and says which it needs next where they come
//! from afar.

mod cache;
pub mod calibration;
pub mod facts;
pub mod fitted;
pub mod memory;
mod number;
pub mod pace;
pub mod quantization;
pub mod read;
pub mod runtime;
pub mod search;
pub mod shape;
pub mod speed;
mod squares;

pub use calibration::{Calibration, FitError, Measurement};
pub use facts::{Attention, Experts, Format, Layer, Modalities, ModelFacts, Task, WeightBytes};
pub use fitted::{Errors, Fit, Stored, Subject};
pub use memory::{Band, Memory, Remedy, ShapeError};
pub use pace::{Pace, Phase, Point};
pub use quantization::{Dtype, Quantization};
pub use read::{Config, Gguf, Index, Partial, ReadError, Tensors};
pub use runtime::{Release, Runtime};
pub use search::{Candidate, Found, Goal, Means, Ranks, search};
pub use shape::Shape;
pub use speed::{Load, Setting, Speed, Work};
