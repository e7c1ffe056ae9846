//! Parameters of a model by what divides them: counted from a configuration before anything is
//! known of bytes.

use super::super::facts::WeightBytes;
use super::super::number::whole;
use super::super::quantization::{Dtype, Quantization};
use crate::size::number::Number as _;

/// Parameters, in the classes of [`WeightBytes`]; linear layers apart from what is never quantised.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Parameters {
    /// Linear layers of attention and state space models.
    pub attention: u64,
    /// Linear layers of dense and shared feed-forward parts.
    pub dense: u64,
    /// Projections to keys and values.
    pub key_value: u64,
    /// Routed experts.
    pub experts: u64,
    /// Linear layers that every rank has whole.
    pub repeated: u64,
    /// Norms, biases, routers: every rank has them whole and nobody quantises them.
    pub small: u64,
    /// Input embeddings.
    pub embeddings: u64,
    /// The output head.
    pub head: u64,
    /// Encoders of images and sound.
    pub encoders: u64,
}

impl Parameters {
    pub(super) const fn total(&self) -> u64 {
        self.attention
            .saturating_add(self.dense)
            .saturating_add(self.key_value)
            .saturating_add(self.experts)
            .saturating_add(self.repeated)
            .saturating_add(self.small)
            .saturating_add(self.embeddings)
            .saturating_add(self.head)
            .saturating_add(self.encoders)
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.add_times(other, 1);
    }

    pub(super) fn add_times(&mut self, other: &Self, times: u64) {
        let add = |sum: &mut u64, value: u64| {
            *sum = sum.saturating_add(value.saturating_mul(times));
        };
        add(&mut self.attention, other.attention);
        add(&mut self.dense, other.dense);
        add(&mut self.key_value, other.key_value);
        add(&mut self.experts, other.experts);
        add(&mut self.repeated, other.repeated);
        add(&mut self.small, other.small);
        add(&mut self.embeddings, other.embeddings);
        add(&mut self.head, other.head);
        add(&mut self.encoders, other.encoders);
    }

    /// Bytes, with what a quantisation leaves out in `dtype`.
    pub(super) fn bytes(&self, stored: &Stored, dtype: Dtype) -> WeightBytes {
        let plain = dtype.bytes();
        let packed = stored.quantization.bits_per_weight().map_or(plain, |bits| bits / 8.0);
        let bytes = |count: u64, each: f64| whole(count.approximate() * each);
        let of = |quantised: bool| if quantised { packed } else { plain };
        let dense = bytes(self.dense, of(stored.dense));
        let attention = bytes(self.attention, of(stored.attention));
        let repeated = bytes(self.repeated, of(stored.attention));
        WeightBytes {
            divided: dense.saturating_add(attention),
            key_value: bytes(self.key_value, of(stored.attention)),
            experts: bytes(self.experts, packed),
            replicated: repeated.saturating_add(bytes(self.small, plain)),
            embeddings: bytes(self.embeddings, plain),
            head: bytes(self.head, of(stored.head)),
            encoders: bytes(self.encoders, plain),
        }
    }
}

/// What of a model is quantised, and how. Experts always are: they are most of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Stored {
    pub quantization: Quantization,
    pub attention: bool,
    pub dense: bool,
    pub head: bool,
}

/// A product that does not overflow.
pub(super) fn product(factors: &[u64]) -> u64 {
    factors.iter().fold(1, |product, factor| product.saturating_mul(*factor))
}
