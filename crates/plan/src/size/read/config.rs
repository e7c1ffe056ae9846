//! `config.json` of transformers: what a model is and how many parameters it has, without a byte of
//! its weights.
//!
//! Counts are of what runtimes load: layers that only predict further tokens
//! (`num_nextn_predict_layers`) are left out, as they are in published sizes.

use serde_json::{Map, Value};

use super::super::facts::{Attention, Evidence, Format, Layer, Modalities, ModelFacts, Task};
use super::super::quantization::Dtype;
use super::family::{Family, Pattern};
use super::feedforward::FeedForward;
use super::fields::{self, Fields};
use super::mixer::{Heads, Mixer, WIDTH_MAX, narrow, states};
use super::parameters::{Parameters, product};
use super::tensors::Tensors;
use super::{ReadError, family, quant, vision};

const WHAT: &str = "config.json";

/// Layers that are believed.
pub(super) const LAYERS_MAX: u64 = 1024;

/// Tokens of a vocabulary that are believed.
pub(super) const VOCABULARY_MAX: u64 = 1 << 22;

/// The longest context that is believed.
const CONTEXT_MAX: u64 = 1 << 32;

/// A window that is believed; what is longer is no window.
const WINDOW_MAX: u64 = 1 << 24;

/// Weights of fewer parameters than this share of what a configuration describes are not all there. What is counted
/// is within a few percent of what models have.
const COMPLETE_PERCENT: u64 = 90;

/// Weights of more are not all loaded, or others.
const EXCESS_PERCENT: u64 = 110;

/// A configuration, taken apart as far as all architectures agree.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The whole.
    whole: Map<String, Value>,
    /// The part about the decoder, which is the whole for models of text alone.
    text: Map<String, Value>,
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// [`ReadError::NotJson`] and [`ReadError::TooLarge`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ReadError> {
        let whole = fields::parse(WHAT, bytes)?;
        let mut text = decoder(&whole).clone();
        for name in ["quantization_config", "compression_config", "torch_dtype", "dtype"] {
            if let (false, Some(value)) = (text.contains_key(name), whole.get(name)) {
                text.insert(name.to_owned(), value.clone());
            }
        }
        if let (false, Some(tied)) =
            (text.contains_key("tie_word_embeddings"), whole.get("tie_word_embeddings"))
        {
            text.insert("tie_word_embeddings".to_owned(), tied.clone());
        }
        for (name, value) in defaults(text.get("model_type").and_then(Value::as_str)) {
            text.entry(*name).or_insert_with(|| Value::from(*value));
        }
        Ok(Self { whole, text })
    }

    /// Adds `hf_quant_config.json`, in which NVIDIA's model optimiser says how weights are stored where
    /// the configuration itself does not.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn with_quantization(mut self, bytes: &[u8]) -> Result<Self, ReadError> {
        let beside = fields::parse("hf_quant_config.json", bytes)?;
        let part = beside.get("quantization").and_then(Value::as_object);
        if let (Some(part), false) = (part, self.text.contains_key("quantization_config")) {
            let mut part = part.clone();
            part.insert("quant_method".to_owned(), Value::from("modelopt"));
            self.text.insert("quantization_config".to_owned(), Value::Object(part));
        }
        Ok(self)
    }

    /// The architecture's name: `LlamaForCausalLM`, or the model type where there is none.
    pub fn architecture(&self) -> &str {
        let list = self.whole.get("architectures").and_then(Value::as_array);
        let named = list.and_then(|list| list.first()).and_then(Value::as_str);
        named.unwrap_or_else(|| self.family_name())
    }

    /// The model type of its decoder: `llama`.
    pub fn family_name(&self) -> &str {
        let named = [&self.text, &self.whole];
        let named = named.into_iter().find_map(|object| object.get("model_type")?.as_str());
        named.unwrap_or("unknown")
    }

    /// What the model is, from the configuration alone.
    ///
    /// # Errors
    /// [`ReadError::UnknownArchitecture`] for a family that is not known, and what is wrong with a
    /// field.
    pub fn facts(&self) -> Result<ModelFacts, ReadError> {
        let name = self.family_name();
        let unknown = || ReadError::UnknownArchitecture { name: self.architecture().to_owned() };
        let family = family::find(name).ok_or_else(unknown)?;
        let fields = self.fields();
        let outline = Outline::read(&fields, family)?;
        let mut parameters = self.ends(family, &outline)?;
        let mut layers = Vec::with_capacity(outline.kinds.len());
        for (at, kind) in outline.kinds.iter().enumerate() {
            let (own, layer) = outline.layer(at, *kind, family, &fields)?;
            parameters.add(&own);
            layers.push(layer);
        }
        self.put_together(&outline, layers, &parameters)
    }

    /// What the model is, with bytes and their division taken from its tensors. With tensors an
    /// architecture that is not known suffices too, taken to have full attention in all layers.
    ///
    /// # Errors
    /// As [`Self::facts`], but for [`ReadError::UnknownArchitecture`]; [`ReadError::Incomplete`] where tensors are
    /// missing.
    pub fn facts_with(&self, tensors: &Tensors) -> Result<ModelFacts, ReadError> {
        let mut facts = match self.facts() {
            Err(ReadError::UnknownArchitecture { .. }) => self.bare(tensors)?,
            other => {
                let facts = other?;
                complete(&facts, tensors)?;
                facts
            }
        };
        tensors.refine(&mut facts);
        Ok(facts)
    }

    /// Percent of the parameters described here that the tensors have, where that is a good deal more than all: the
    /// files hold what no runtime loads, or belong to another configuration.
    pub fn excess(&self, tensors: &Tensors) -> Option<u64> {
        let (percent, _) = tensors.share(&self.facts().ok()?)?;
        (percent > EXCESS_PERCENT).then_some(percent)
    }

    fn fields(&self) -> Fields<'_> {
        Fields::new(WHAT, &self.text)
    }

    /// Parameters outside layers.
    fn ends(&self, family: &Family, outline: &Outline) -> Result<Parameters, ReadError> {
        let fields = self.fields();
        let hidden = outline.heads.hidden;
        let table = product(&[outline.vocabulary, hidden]);
        let tied = fields.flag(&["tie_word_embeddings"]).unwrap_or(family.tied);
        let task = self.task(family);
        let mut sum = Parameters { embeddings: table, ..Parameters::default() };
        if !tied && task == Task::Generate {
            sum.head = table;
        }
        if family.norms > 0 {
            sum.small = family.norm_vectors * hidden;
        }
        if family.positions {
            let rows =
                outline.context.unwrap_or(0) + if family.names.contains(&"opt") { 2 } else { 0 };
            sum.small = sum.small.saturating_add(product(&[rows, hidden]));
        }
        if family.encoder {
            let kinds = fields.number(&["type_vocab_size"], VOCABULARY_MAX)?.unwrap_or(0);
            sum.small = sum.small.saturating_add(product(&[kinds, hidden]));
            sum.dense = product(&[hidden, hidden + 1]);
        }
        sum.add(&per_layer_embeddings(&fields, outline)?);
        sum.encoders = vision::parameters(&Fields::new(WHAT, &self.whole), hidden)?;
        Ok(sum)
    }

    fn put_together(
        &self,
        outline: &Outline,
        layers: Vec<Layer>,
        counted: &Parameters,
    ) -> Result<ModelFacts, ReadError> {
        let fields = self.fields();
        let stored = quant::read(&fields, layers.len())?;
        let dtype = dtype(&fields)?;
        let mixture = outline.forward.as_ref().and_then(|forward| forward.mixture.as_ref());
        let experts = mixture.map(|mixture| mixture.experts);
        let idle = experts.map_or(0, |experts| {
            let (count, busy) = (u64::from(experts.count), u64::from(experts.per_token));
            counted.experts / count * (count - busy)
        });
        let latent = outline.heads.latent.is_some();
        let kv_heads = if latent { 1 } else { narrow(outline.heads.kv_heads) };
        let family = family::find(self.family_name());
        Ok(ModelFacts {
            architecture: self.architecture().to_owned(),
            family: self.family_name().to_owned(),
            task: family.map_or(Task::Generate, |family| self.task(family)),
            modalities: self.modalities(),
            format: Format::Unknown,
            dtype,
            known_from: Evidence::Config,
            parameters: counted.total(),
            active_parameters: counted.total().saturating_sub(idle),
            weights: counted.bytes(&stored, dtype),
            quantization: stored.quantization,
            layers,
            hidden: narrow(outline.heads.hidden),
            intermediate: outline.forward.as_ref().map_or(0, |forward| {
                narrow(forward.widths.iter().copied().max().unwrap_or_default())
            }),
            heads: narrow(outline.heads.heads),
            kv_heads,
            head_dim: narrow(outline.heads.key),
            vocabulary: narrow(outline.vocabulary),
            context_max: outline.context,
            rotary_rows: rotary_rows(&fields, outline.context),
            experts,
        })
    }

    /// An architecture that is not known, from the few fields that all have.
    fn bare(&self, tensors: &Tensors) -> Result<ModelFacts, ReadError> {
        let fields = self.fields();
        let heads = Heads::read(&fields)?;
        let count = layer_count(&fields)?;
        let layer = Layer { attention: heads.keeps(None), experts: false };
        let outline = Outline {
            heads,
            kinds: vec![Mixer::Full; count],
            forward: None,
            vocabulary: fields.required(&["vocab_size"], VOCABULARY_MAX)?,
            context: context(&fields)?,
        };
        let parameters = Parameters { dense: tensors.parameters(), ..Parameters::default() };
        self.put_together(&outline, vec![layer; count], &parameters)
    }

    fn task(&self, family: &Family) -> Task {
        let name = self.architecture();
        if name.ends_with("ForSequenceClassification") {
            Task::Rerank
        } else if family.encoder || (name.ends_with("Model") && !name.ends_with("LMHeadModel")) {
            Task::Embed
        } else {
            Task::Generate
        }
    }

    fn modalities(&self) -> Modalities {
        let has = |names: &[&str]| {
            names.iter().any(|name| self.whole.get(*name).is_some_and(Value::is_object))
        };
        Modalities {
            vision: has(&["vision_config", "vision_tower_config"]),
            audio: has(&["audio_config", "audio_encoder"]),
        }
    }
}

/// What is common to all layers, and the kind of each.
struct Outline {
    heads: Heads,
    kinds: Vec<Mixer>,
    forward: Option<FeedForward>,
    vocabulary: u64,
    context: Option<u64>,
}

impl Outline {
    fn read(fields: &Fields<'_>, family: &Family) -> Result<Self, ReadError> {
        let count = layer_count(fields)?;
        let only_states = family.pattern == Pattern::States;
        let heads = if only_states { headless(fields)? } else { Heads::read(fields)? };
        let forward = match only_states {
            true => None,
            false => Some(FeedForward::read(fields, family, heads.hidden, count)?),
        };
        Ok(Self {
            kinds: kinds(fields, family, count)?,
            heads,
            forward,
            vocabulary: fields.required(&["vocab_size"], VOCABULARY_MAX)?,
            context: context(fields)?,
        })
    }

    /// One layer: its parameters, and what it keeps.
    fn layer(
        &self,
        at: usize,
        kind: Mixer,
        family: &Family,
        fields: &Fields<'_>,
    ) -> Result<(Parameters, Layer), ReadError> {
        let (mut own, attention) = match kind {
            Mixer::Full => (self.heads.parameters(family, fields), self.heads.keeps(None)),
            Mixer::Window(tokens) => {
                (self.heads.parameters(family, fields), self.heads.keeps(Some(tokens)))
            }
            Mixer::Shared => (self.heads.parameters(family, fields), Attention::None),
            other => states(other, &self.heads, fields)?,
        };
        let attention = if family.encoder { Attention::None } else { attention };
        own.small = own.small.saturating_add(product(&[
            norms(family, fields),
            family.norm_vectors,
            self.heads.hidden,
        ]));
        let mut experts = false;
        if let Some(forward) = &self.forward {
            if family.pattern == Pattern::Letters {
                experts = letters(fields).as_bytes().get(at) == Some(&b'E');
                if matches!(kind, Mixer::Nothing) {
                    own.add(&forward.parameters(if experts { at } else { usize::MAX }));
                }
            } else {
                own.add(&forward.parameters(at));
                experts = forward.is_mixture(at);
            }
        }
        Ok((own, Layer { attention, experts }))
    }
}

/// Norms of a layer. Falcon's larger models have one for each half, and one in front of both
/// otherwise.
fn norms(family: &Family, fields: &Fields<'_>) -> u64 {
    if fields.flag(&["new_decoder_architecture"]) == Some(true) { 2 } else { family.norms }
}

/// The part about the decoder.
fn decoder(whole: &Map<String, Value>) -> &Map<String, Value> {
    let part = |name: &str| whole.get(name).and_then(Value::as_object);
    let thinker = part("thinker_config").unwrap_or(whole);
    let names = ["text_config", "llm_config", "language_config", "language_model_config"];
    names.iter().find_map(|name| thinker.get(*name)?.as_object()).unwrap_or(thinker)
}

/// Values that transformers fills in for families whose published configurations leave them out.
fn defaults(family: Option<&str>) -> &'static [(&'static str, u64)] {
    match family {
        Some("gemma3_text") => &[
            ("vocab_size", 262_208),
            ("num_attention_heads", 8),
            ("num_key_value_heads", 4),
            ("head_dim", 256),
            ("max_position_embeddings", 131_072),
        ],
        Some("gemma3n_text") => &[("vocab_size_per_layer_input", 262_144)],
        Some("mamba" | "falcon_mamba") => &[("expand", 2), ("state_size", 16)],
        _ => &[],
    }
}

/// What weights are stored in; 16 bits where the file leaves that to the weights.
fn dtype(fields: &Fields<'_>) -> Result<Dtype, ReadError> {
    let Some((field, value)) = fields.get(&["torch_dtype", "dtype"]) else {
        return Ok(Dtype::Bf16);
    };
    match value.as_str() {
        Some("auto") => Ok(Dtype::Bf16),
        Some(name) => Dtype::from_name(name).ok_or_else(|| {
            let known = "float32, bfloat16, float16, float8_e4m3fn, int8 or auto";
            fields.unknown_word(field, name, known)
        }),
        None => Err(fields.wrong_type(field, "the name of a data type", value)),
    }
}

fn complete(counted: &ModelFacts, tensors: &Tensors) -> Result<(), ReadError> {
    match tensors.share(counted) {
        Some((percent, decoder)) if percent < COMPLETE_PERCENT => {
            let lacking = tensors.lacking(counted);
            Err(ReadError::Incomplete { percent, counted: decoder, lacking })
        }
        _ => Ok(()),
    }
}

fn layer_count(fields: &Fields<'_>) -> Result<usize, ReadError> {
    let names = ["num_hidden_layers", "n_layer", "n_layers", "num_layers"];
    Ok(fields.required(&names, LAYERS_MAX)? as usize)
}

fn context(fields: &Fields<'_>) -> Result<Option<u64>, ReadError> {
    let names = [
        "max_position_embeddings",
        "n_positions",
        "max_sequence_length",
        "seq_length",
        "max_seq_len",
        "model_max_length",
    ];
    fields.positive(&names, CONTEXT_MAX)
}

/// Rows of the table of rotations. Positions that are stretched linearly have rows of their own.
fn rotary_rows(fields: &Fields<'_>, context: Option<u64>) -> u64 {
    let scaling = fields.object(&["rope_scaling", "rope_parameters"]);
    let linear = scaling.filter(|scaling| scaling.text(&["rope_type", "type"]) == Some("linear"));
    let factor = linear.and_then(|scaling| scaling.number(&["factor"], 1 << 10).ok().flatten());
    context.unwrap_or(0).saturating_mul(factor.unwrap_or(1).max(1))
}

/// A model without attention: what counts heads is one.
fn headless(fields: &Fields<'_>) -> Result<Heads, ReadError> {
    let hidden = fields.required(&["hidden_size", "d_model"], WIDTH_MAX)?;
    Ok(Heads { hidden, heads: 1, kv_heads: 1, key: 1, value: 1, latent: None })
}

fn letters<'a>(fields: &Fields<'a>) -> &'a str {
    fields.text(&["hybrid_override_pattern"]).unwrap_or_default()
}

/// The kind of each layer.
fn kinds(fields: &Fields<'_>, family: &Family, count: usize) -> Result<Vec<Mixer>, ReadError> {
    let window = fields.number(&["sliding_window", "attention_chunk_size"], WINDOW_MAX)?;
    let window = window.filter(|tokens| *tokens > 0).map(narrow);
    let windowed = window.map_or(Mixer::Full, Mixer::Window);
    let mut kinds = match fields.list(&["layer_types"]) {
        Some(list) if !matches!(family.pattern, Pattern::WindowedIfAsked) => {
            listed(list, windowed, count, fields)?
        }
        _ => patterned(fields, family, windowed, count)?,
    };
    let shared = fields.number(&["num_kv_shared_layers"], LAYERS_MAX)?.unwrap_or(0) as usize;
    let own = count.saturating_sub(shared);
    kinds.iter_mut().skip(own).for_each(|kind| *kind = Mixer::Shared);
    Ok(kinds)
}

fn listed(
    list: &[Value],
    windowed: Mixer,
    count: usize,
    fields: &Fields<'_>,
) -> Result<Vec<Mixer>, ReadError> {
    if list.len() != count {
        let detail = format!("layer_types lists {} layers of {count}", list.len());
        return Err(ReadError::Contradiction { what: fields.what(), detail });
    }
    let kind = |value: &Value| match value.as_str().unwrap_or_default() {
        "sliding_attention" | "chunked_attention" => windowed,
        "linear_attention" => Mixer::Delta,
        "mamba" => Mixer::Mamba2,
        _ => Mixer::Full,
    };
    Ok(list.iter().map(kind).collect())
}

fn patterned(
    fields: &Fields<'_>,
    family: &Family,
    windowed: Mixer,
    count: usize,
) -> Result<Vec<Mixer>, ReadError> {
    let every = |step: usize, last: Mixer, others: Mixer| {
        (0..count).map(|at| if (at + 1).is_multiple_of(step) { last } else { others }).collect()
    };
    let number = |names: &[&str], otherwise: u64| {
        fields.positive(names, LAYERS_MAX).map(|n| n.unwrap_or(otherwise) as usize)
    };
    Ok(match family.pattern {
        Pattern::Alike => vec![Mixer::Full; count],
        Pattern::Windowed => vec![windowed; count],
        Pattern::WindowedIfAsked => {
            let asked = fields.flag(&["use_sliding_window"]).unwrap_or(false);
            let from = number(&["max_window_layers"], LAYERS_MAX)?;
            let kind = |at| if asked && at >= from { windowed } else { Mixer::Full };
            (0..count).map(kind).collect()
        }
        Pattern::Every(step) => {
            every(number(&["sliding_window_pattern"], step)?, Mixer::Full, windowed)
        }
        Pattern::Chunks => every(number(&["no_rope_layer_interval"], 4)?, Mixer::Full, windowed),
        Pattern::Interval => {
            every(number(&["full_attention_interval"], 4)?, Mixer::Full, Mixer::Delta)
        }
        Pattern::Periodic => {
            let period = number(&["attn_layer_period"], 8)?;
            let offset = fields.number(&["attn_layer_offset"], LAYERS_MAX)?.unwrap_or(4) as usize;
            let kind = |at| if at % period == offset % period { Mixer::Full } else { Mixer::Mamba };
            (0..count).map(kind).collect()
        }
        Pattern::Lightning => {
            let list = fields.list(&["attn_type_list"]).unwrap_or_default();
            let linear = |at: usize| list.get(at).and_then(Value::as_u64) == Some(0);
            (0..count).map(|at| if linear(at) { Mixer::Lightning } else { Mixer::Full }).collect()
        }
        Pattern::Letters => by_letter(fields, count)?,
        Pattern::States => vec![Mixer::Mamba; count],
    })
}

fn by_letter(fields: &Fields<'_>, count: usize) -> Result<Vec<Mixer>, ReadError> {
    let letters = letters(fields);
    if letters.len() != count {
        let detail =
            format!("hybrid_override_pattern has {} letters for {count} layers", letters.len());
        return Err(ReadError::Contradiction { what: fields.what(), detail });
    }
    let kind = |letter| match letter {
        b'M' => Mixer::Mamba2,
        b'*' => Mixer::Full,
        _ => Mixer::Nothing,
    };
    Ok(letters.bytes().map(kind).collect())
}

/// What Gemma 3n has besides: embeddings for each layer, and mixtures of the residual stream.
fn per_layer_embeddings(fields: &Fields<'_>, outline: &Outline) -> Result<Parameters, ReadError> {
    let Some(width) = fields.positive(&["hidden_size_per_layer_input"], WIDTH_MAX)? else {
        return Ok(Parameters::default());
    };
    let rows = fields.number(&["vocab_size_per_layer_input"], VOCABULARY_MAX)?.unwrap_or(0);
    let layers = outline.kinds.len() as u64;
    let hidden = outline.heads.hidden;
    let streams = fields.number(&["altup_num_inputs"], 64)?.unwrap_or(1).max(1);
    let rank = fields.number(&["laurel_rank"], WIDTH_MAX)?.unwrap_or(0);
    let projections = product(&[hidden, layers, width])
        .saturating_add(product(&[2, streams - 1, hidden, hidden]))
        .saturating_add(product(&[layers, 2, hidden, width + rank]));
    Ok(Parameters {
        embeddings: product(&[rows, layers, width]),
        attention: projections,
        ..Parameters::default()
    })
}
