//! Elements of tensors as files store them, and the parameters that they are: quantised weights are packed
//! several to an element and have scales beside them, which are no parameters.

use super::super::quantization::Quantization;
use super::tensors::Tensor;

/// Sums of elements by how many parameters one may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Elements {
    /// Of more than a byte, or of a type of less: a parameter each.
    plain: u64,
    /// Of a byte each: a parameter, or two of 4 bits.
    single: u64,
    /// Bytes of words that many parameters are packed into.
    packed_bytes: u64,
}

impl Elements {
    pub(super) const NONE: Self = Self { plain: 0, single: 0, packed_bytes: 0 };

    pub(super) fn take(&mut self, tensor: &Tensor<'_>) {
        let has = |parts: &[&str]| parts.iter().any(|part| tensor.name.contains(part));
        if has(&BESIDE) {
            return;
        }
        let sum = if PACKED.iter().any(|end| tensor.name.ends_with(end)) {
            (&mut self.packed_bytes, tensor.bytes)
        } else if tensor.bytes == tensor.elements {
            (&mut self.single, tensor.elements)
        } else {
            (&mut self.plain, tensor.elements)
        };
        *sum.0 = sum.0.saturating_add(sum.1);
    }

    pub(super) const fn add(&mut self, other: &Self) {
        self.plain = self.plain.saturating_add(other.plain);
        self.single = self.single.saturating_add(other.single);
        self.packed_bytes = self.packed_bytes.saturating_add(other.packed_bytes);
    }

    /// How many parameters they are; none where nothing here knows how the method packs.
    pub(super) fn parameters(&self, stored: &Quantization) -> Option<u64> {
        let (bits, each) = match stored {
            Quantization::None | Quantization::Fp8 { .. } | Quantization::Int8 => (8, 1),
            Quantization::Awq { bits, .. }
            | Quantization::Gptq { bits, .. }
            | Quantization::Packed { bits, .. } => (*bits, 1),
            Quantization::Mxfp4 | Quantization::Nvfp4 => (4, 2),
            Quantization::BitsAndBytes { bits } => (*bits, if *bits == 4 { 2 } else { 1 }),
            Quantization::Gguf { .. } | Quantization::Other { .. } => return None,
        };
        let packed = self.packed_bytes.saturating_mul(8) / u64::from(bits.max(1));
        Some(self.plain.saturating_add(self.single.saturating_mul(each)).saturating_add(packed))
    }
}

/// What is beside weights, and none: scales, zero points, orders and tables of values.
const BESIDE: [&str; 9] = [
    "scale",
    "zero",
    "g_idx",
    "absmax",
    "quant_map",
    "quant_state",
    ".SCB",
    "weight_shape",
    "weight_format",
];

/// How names of packed weights end.
const PACKED: [&str; 3] = [".qweight", ".weight_packed", "_blocks"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_weights_are_unpacked() {
        let check = |stored: Quantization, tensors: &[(&str, u64, u64)], expect: Option<u64>| {
            let mut sums = Elements::NONE;
            for (name, elements, bytes) in tensors {
                sums.take(&Tensor { name, elements: *elements, bytes: *bytes });
            }
            assert_eq!(sums.parameters(&stored), expect, "{stored:?}");
        };
        let gptq = [("a.qweight", 8, 32), ("a.scales", 9, 18), ("a.qzeros", 2, 8), ("n", 5, 10)];
        check(Quantization::Gptq { bits: 4, group: 128 }, &gptq, Some(64 + 5));
        check(Quantization::Awq { bits: 8, group: 128 }, &gptq, Some(32 + 5));
        check(Quantization::Other { name: "new".to_owned() }, &gptq, None);
        let fp8 = [("a.weight", 8, 8), ("a.weight_scale_inv", 2, 8), ("n", 5, 10)];
        check(Quantization::Fp8 { block: None }, &fp8, Some(8 + 5));
        check(Quantization::None, &fp8, Some(8 + 5));
        check(Quantization::Nvfp4, &fp8, Some(16 + 5));
        let mxfp4 = [("experts.up_blocks", 16, 16), ("experts.up_scales", 1, 1), ("n", 5, 10)];
        check(Quantization::Mxfp4, &mxfp4, Some(32 + 5));
        let four = [("a.weight", 16, 16), ("a.weight.absmax", 2, 2), ("n", 5, 10)];
        check(Quantization::BitsAndBytes { bits: 4 }, &four, Some(32 + 5));
        let packed = [("a.weight_packed", 4, 16), ("a.weight_shape", 2, 16), ("n", 5, 20)];
        check(Quantization::Packed { bits: 4, group: 128 }, &packed, Some(32 + 5));
    }
}
