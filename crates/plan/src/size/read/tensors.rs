//! Tensors added up by what divides them: names say which part of a model one is, in safetensors
//! and GGUF alike.

use std::collections::BTreeMap;

use super::super::facts::{Evidence, Format, ModelFacts, WeightBytes};
use super::super::number::{Number as _, whole};
use super::ReadError;
use super::config::LAYERS_MAX;
use super::elements::Elements;

/// Tensors of a model; the largest mixtures stored expert by expert have a few hundred thousand.
pub const TENSORS_MAX: u64 = 1 << 20;

/// One tensor, as a header describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor<'a> {
    /// Its name.
    pub name: &'a str,
    /// Elements as stored: a packed one may hold several parameters.
    pub elements: u64,
    /// Bytes.
    pub bytes: u64,
}

/// The part of a model that a tensor belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// Divided by tensor parallelism.
    Divided,
    /// Projection to keys or values.
    KeyValue,
    /// A routed expert.
    Expert,
    /// Whole on every rank.
    Replicated,
    /// Input embeddings.
    Embeddings,
    /// Output head.
    Head,
    /// Encoder of images or sound.
    Encoder,
}

/// Sums over tensors: as many numbers as the model has layers, however many tensors there are.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensors {
    format: Format,
    evidence: Evidence,
    count: u64,
    elements: u64,
    /// Elements outside of layers and encoders, but for the head's.
    ends: Elements,
    head: Elements,
    layer_elements: BTreeMap<u64, Elements>,
    outside: WeightBytes,
    /// Bytes in layers of the decoder. Runtimes leave out those beyond the configuration's number.
    layers: BTreeMap<u64, WeightBytes>,
    /// The total that an index names, where no header was read.
    total: u64,
}

impl Tensors {
    /// None yet, of files in that format.
    pub const fn new(format: Format) -> Self {
        Self {
            format,
            evidence: Evidence::Headers,
            count: 0,
            elements: 0,
            ends: Elements::NONE,
            head: Elements::NONE,
            layer_elements: BTreeMap::new(),
            outside: EMPTY,
            layers: BTreeMap::new(),
            total: 0,
        }
    }

    /// What an index says: a total without its parts.
    pub const fn from_total(format: Format, count: u64, total: u64) -> Self {
        let mut tensors = Self::new(format);
        tensors.evidence = Evidence::Index;
        tensors.count = count;
        tensors.total = total;
        tensors.elements = total / 2;
        tensors
    }

    /// Adds one.
    ///
    /// # Errors
    /// [`ReadError::TooLarge`] when there are more than any model has.
    pub fn add(&mut self, tensor: &Tensor<'_>) -> Result<(), ReadError> {
        self.count += 1;
        if self.count > TENSORS_MAX {
            let (bytes, max) = (self.count, TENSORS_MAX);
            return Err(ReadError::TooLarge { what: "the list of tensors (entries)", bytes, max });
        }
        self.elements = self.elements.saturating_add(tensor.elements);
        let part = classify(tensor.name);
        let layer = layer_of(tensor.name).filter(|layer| *layer < 2 * LAYERS_MAX);
        match (part, layer) {
            (Part::Encoder, _) => {}
            (_, Some(layer)) => {
                self.layer_elements.entry(layer).or_insert(Elements::NONE).take(tensor);
            }
            (Part::Head, None) => self.head.take(tensor),
            (_, None) => self.ends.take(tensor),
        }
        let sums = match layer {
            Some(layer) if part != Part::Encoder => self.layers.entry(layer).or_default(),
            _ => &mut self.outside,
        };
        let sum = match part {
            Part::Divided => &mut sums.divided,
            Part::KeyValue => &mut sums.key_value,
            Part::Expert => &mut sums.experts,
            Part::Replicated => &mut sums.replicated,
            Part::Embeddings => &mut sums.embeddings,
            Part::Head => &mut sums.head,
            Part::Encoder => &mut sums.encoders,
        };
        *sum = sum.saturating_add(tensor.bytes);
        Ok(())
    }

    /// Adds those of another file of the same model.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn merge(&mut self, other: &Self) -> Result<(), ReadError> {
        self.count = self.count.saturating_add(other.count);
        if self.count > TENSORS_MAX {
            let (bytes, max) = (self.count, TENSORS_MAX);
            return Err(ReadError::TooLarge { what: "the list of tensors (entries)", bytes, max });
        }
        self.elements = self.elements.saturating_add(other.elements);
        self.ends.add(&other.ends);
        self.head.add(&other.head);
        for (layer, elements) in &other.layer_elements {
            self.layer_elements.entry(*layer).or_insert(Elements::NONE).add(elements);
        }
        add(&mut self.outside, &other.outside);
        for (layer, bytes) in &other.layers {
            add(self.layers.entry(*layer).or_default(), bytes);
        }
        Ok(())
    }

    /// How many there are.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Bytes of all.
    pub fn bytes(&self) -> u64 {
        match self.evidence {
            Evidence::Headers => self.bytes_of_layers(u64::MAX).total(),
            _ => self.total,
        }
    }

    /// Elements of all, which are parameters where nothing is packed.
    pub const fn parameters(&self) -> u64 {
        self.elements
    }

    /// The decoder's parameters that are there, in percent of those that were counted from the configuration, with
    /// that count; none where no header was read or nothing here knows how weights are packed.
    pub(super) fn share(&self, counted: &ModelFacts) -> Option<(u64, u64)> {
        if self.evidence != Evidence::Headers {
            return None;
        }
        let mut sum = self.ends;
        if counted.weights.head > 0 {
            sum.add(&self.head);
        }
        let layers = self.layer_elements.range(..counted.layers.len() as u64);
        layers.for_each(|(_, elements)| sum.add(elements));
        let found = sum.parameters(&counted.quantization)?;
        // Encoders are counted from few fields of their own; neither side has them.
        let encoders = whole(counted.weights.encoders.approximate() / counted.dtype.bytes());
        let decoder = counted.parameters.saturating_sub(encoders).max(1);
        Some((
            u64::try_from(u128::from(found) * 100 / u128::from(decoder)).unwrap_or(u64::MAX),
            decoder,
        ))
    }

    /// What is not there of what was counted.
    pub(super) fn lacking(&self, counted: &ModelFacts) -> String {
        let count = counted.layers.len() as u64;
        let absent = |layer: &u64| !self.layer_elements.contains_key(layer);
        let layers: Vec<u64> = (0..count).filter(absent).collect();
        let mut lacking = Vec::new();
        if let Some(first) = layers.first() {
            lacking.push(format!("{} of {count} layers, first layer {first}", layers.len()));
        }
        if counted.weights.embeddings > 0 && self.outside.embeddings == 0 {
            lacking.push("the embeddings".to_owned());
        }
        if counted.weights.head > 0 && self.outside.head == 0 {
            lacking.push("the output head".to_owned());
        }
        if lacking.is_empty() {
            return "parts of layers are missing, or they are smaller than it says".to_owned();
        }
        format!("missing: {}", lacking.join(", "))
    }

    /// Replaces what was counted by what is there.
    pub fn refine(&self, facts: &mut ModelFacts) {
        facts.format = self.format;
        facts.known_from = self.evidence;
        match self.evidence {
            Evidence::Headers => {
                let mut bytes = self.bytes_of_layers(facts.layers.len() as u64);
                // Files often keep tied embeddings twice; runtimes load them once.
                if facts.weights.head == 0 {
                    bytes.head = 0;
                }
                facts.weights = bytes;
            }
            _ => facts.weights = scaled(&facts.weights, self.total),
        }
    }

    fn bytes_of_layers(&self, count: u64) -> WeightBytes {
        let mut sum = self.outside;
        for (_, bytes) in self.layers.range(..count) {
            add(&mut sum, bytes);
        }
        sum
    }
}

const EMPTY: WeightBytes = WeightBytes {
    divided: 0,
    key_value: 0,
    experts: 0,
    replicated: 0,
    embeddings: 0,
    head: 0,
    encoders: 0,
};

/// The same division of another total.
fn scaled(weights: &WeightBytes, total: u64) -> WeightBytes {
    let counted = weights.total();
    if counted == 0 {
        return WeightBytes { divided: total, ..EMPTY };
    }
    let ratio = total.approximate() / counted.approximate();
    let scale = |bytes: u64| whole(bytes.approximate() * ratio);
    WeightBytes {
        divided: scale(weights.divided),
        key_value: scale(weights.key_value),
        experts: scale(weights.experts),
        replicated: scale(weights.replicated),
        embeddings: scale(weights.embeddings),
        head: scale(weights.head),
        encoders: scale(weights.encoders),
    }
}

fn add(sum: &mut WeightBytes, other: &WeightBytes) {
    sum.divided = sum.divided.saturating_add(other.divided);
    sum.key_value = sum.key_value.saturating_add(other.key_value);
    sum.experts = sum.experts.saturating_add(other.experts);
    sum.replicated = sum.replicated.saturating_add(other.replicated);
    sum.embeddings = sum.embeddings.saturating_add(other.embeddings);
    sum.head = sum.head.saturating_add(other.head);
    sum.encoders = sum.encoders.saturating_add(other.encoders);
}

/// The part a tensor of that name belongs to.
pub fn classify(name: &str) -> Part {
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    let begins = |parts: &[&str]| parts.iter().any(|part| name.starts_with(part));
    if begins(&["v.", "mm.", "a."]) || has(&ENCODERS) {
        Part::Encoder
    } else if (has(&["experts.", "_exps."]) || name.ends_with("_exps")) && !has(&["shared_expert"])
    {
        Part::Expert
    } else if has(&REPLICATED) {
        Part::Replicated
    } else if has(&[
        "embed_tokens",
        "wte.",
        "word_embeddings",
        "token_embd",
        "tok_embeddings",
        "embed_in.",
    ]) {
        Part::Embeddings
    } else if has(&["lm_head", "embed_out."]) || begins(&["output.weight", "output.scale"]) {
        Part::Head
    } else if has(&["k_proj", "v_proj", "attn_k.", "attn_v.", "self.key.", "self.value."]) {
        Part::KeyValue
    } else {
        Part::Divided
    }
}

const ENCODERS: [&str; 13] = [
    "vision_tower",
    "visual.",
    "vision_model",
    "multi_modal_projector",
    "audio_tower",
    "vpm.",
    "resampler.",
    "mm_projector",
    "vision_encoder",
    "vision_language_adapter",
    "embed_vision",
    "embed_audio",
    "patch_merger",
];

const REPLICATED: [&str; 26] = [
    "norm",
    "ln_",
    ".bias",
    "router",
    "mlp.gate.",
    "block_sparse_moe.gate.",
    "ffn_gate_inp",
    "q_a_proj",
    "kv_a_proj",
    "attn_q_a",
    "attn_kv_a",
    "indexer",
    "e_score",
    "exp_probs",
    "A_log",
    "dt_bias",
    "conv1d",
    "ssm_a",
    "ssm_d.",
    "ssm_dt",
    "rope",
    "wpe.",
    "position_embd",
    "position_embeddings",
    "sinks",
    "shared_expert_gate",
];

/// The number of the layer in a tensor's name: after `layers.`, `h.` or `blk.`.
fn layer_of(name: &str) -> Option<u64> {
    let mut parts = name.split('.');
    while let Some(part) = parts.next() {
        if matches!(part, "layers" | "h" | "blk" | "layer" | "blocks") {
            return parts.next()?.parse().ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_a_tensor_is() {
        let check = |name: &str, expect: Part| assert_eq!(classify(name), expect, "{name}");
        check("model.embed_tokens.weight", Part::Embeddings);
        check("lm_head.weight", Part::Head);
        check("output.weight", Part::Head);
        check("token_embd.weight", Part::Embeddings);
        check("model.layers.0.self_attn.q_proj.weight", Part::Divided);
        check("model.layers.0.self_attn.k_proj.weight_scale_inv", Part::KeyValue);
        check("model.layers.3.mlp.experts.17.down_proj.weight", Part::Expert);
        check("model.layers.3.mlp.shared_experts.down_proj.weight", Part::Divided);
        check("blk.3.ffn_down_exps.weight", Part::Expert);
        check("blk.3.ffn_down_shexp.weight", Part::Divided);
        check("blk.3.ffn_gate_inp.weight", Part::Replicated);
        check("model.layers.3.mlp.gate.weight", Part::Replicated);
        check("model.layers.3.mlp.gate_proj.weight", Part::Divided);
        check("model.layers.3.self_attn.kv_a_proj_with_mqa.weight", Part::Replicated);
        check("model.layers.3.input_layernorm.weight", Part::Replicated);
        check("model.visual.blocks.0.attn.qkv.weight", Part::Encoder);
        check("v.blk.0.attn_q.weight", Part::Encoder);
    }

    #[test]
    fn layers_are_found() {
        assert_eq!(layer_of("model.layers.61.mlp.gate.weight"), Some(61));
        assert_eq!(layer_of("blk.7.attn_k.weight"), Some(7));
        assert_eq!(layer_of("model.norm.weight"), None);
        assert_eq!(layer_of("model.layers.x"), None);
    }
}
