//! GGUF: metadata and tensors of a model in ggml's format, versions 2 and 3.
//!
//! A remote file is read from its begin: [`Gguf::parse`] says up to where it still needs it.
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use std::collections::BTreeMap;

use super::super::facts::{
    Attention, Evidence, Experts, Format, Layer, Modalities, ModelFacts, Task,
};
use super::super::quantization::{Dtype, Quantization};
use super::config::{LAYERS_MAX, VOCABULARY_MAX};
use super::mixer::{WIDTH_MAX, narrow};
use super::tensors::{TENSORS_MAX, Tensor, Tensors};
use super::{Partial, ReadError, ggml};

/// Bytes that a first request should ask for.
pub const HEADER_BEGIN: u64 = 1 << 20;

/// Bytes of the largest header that is read; vocabularies are most of it, some ten megabytes.
const HEADER_BYTES_MAX: u64 = 1 << 28;

/// Entries of metadata; real files have a hundred.
const ENTRIES_MAX: u64 = 1 << 16;

/// Elements of an array: a vocabulary's.
const ARRAY_MAX: u64 = 1 << 24;

/// Bytes of a text.
const TEXT_BYTES_MAX: u64 = 16 << 20;

/// Bytes of a text that is kept.
const KEPT_BYTES_MAX: usize = 256;

/// How deep arrays of arrays go.
const DEPTH_MAX: u32 = 4;

/// Dimensions of a tensor.
const DIMENSIONS_MAX: u32 = 8;

const WHAT: &str = "the GGUF header";

/// What a file says of its model.
#[derive(Clone, Debug, PartialEq)]
pub struct Gguf {
    values: BTreeMap<String, Value>,
    tensors: Tensors,
    has_head: bool,
}

/// A value of the metadata, as much of it as sizes depend on.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Number(u64),
    Text(String),
    /// Short lists of numbers, one a layer.
    List(Vec<u64>),
    /// How many elements another list has.
    Length(u64),
}

impl Gguf {
    /// Reads the header at the begin of a file, of which `begin` are the first bytes and
    /// `file_bytes` all of them, where that is known.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(begin: &[u8], file_bytes: Option<u64>) -> Result<Partial<Self>, ReadError> {
        let mut reader = Reader { bytes: begin, at: 0 };
        match reader.whole() {
            Ok(gguf) => Ok(Partial::Done(gguf)),
            Err(Stop::Wrong(error)) => Err(error),
            Err(Stop::More(needs)) => more(begin.len() as u64, needs, file_bytes),
        }
    }

    /// The model's architecture: `llama`.
    pub fn architecture(&self) -> &str {
        match self.values.get("general.architecture") {
            Some(Value::Text(text)) => text,
            _ => "unknown",
        }
    }

    /// The number of this file and of all, where a model is in parts.
    pub fn parts(&self) -> Option<(u64, u64)> {
        let count = self.raw("split.count")?;
        (count > 1).then(|| (self.raw("split.no").unwrap_or(0), count))
    }

    /// The tensors of this file.
    pub const fn tensors(&self) -> &Tensors {
        &self.tensors
    }

    /// Adds the tensors of another part of the same model.
    ///
    /// # Errors
    /// [`ReadError::TooLarge`].
    pub fn merge(&mut self, other: &Self) -> Result<(), ReadError> {
        self.has_head |= other.has_head;
        self.tensors.merge(&other.tensors)
    }

    /// What the model is.
    ///
    /// # Errors
    /// A field that is missing or cannot be.
    pub fn facts(&self) -> Result<ModelFacts, ReadError> {
        if self.tensors.count() == 0 {
            let detail = "it has no tensors, as a vocabulary or the first of several parts has";
            return Err(ReadError::Contradiction { what: WHAT, detail: detail.to_owned() });
        }
        let count = self.required("block_count", LAYERS_MAX)?;
        let heads = self.required("attention.head_count", WIDTH_MAX)?;
        let hidden = self.required("embedding_length", WIDTH_MAX)?;
        let key = self
            .number("attention.key_length", WIDTH_MAX)?
            .unwrap_or_else(|| (hidden / heads).max(1));
        let layers = (0..count).map(|at| self.layer(at, heads, hidden, key));
        let layers = layers.collect::<Result<Vec<Layer>, ReadError>>()?;
        let latent = self.number("attention.kv_lora_rank", WIDTH_MAX)?.is_some();
        let kv_heads =
            (0..count).filter_map(|at| self.at_layer("attention.head_count_kv", at)).max();
        let experts = self.experts()?;
        let mut facts = ModelFacts {
            architecture: self.architecture().to_owned(),
            family: self.architecture().to_owned(),
            task: self.task(),
            modalities: Modalities::default(),
            format: Format::Gguf,
            quantization: self.quantization(),
            dtype: Dtype::F16,
            known_from: Evidence::Headers,
            parameters: self.tensors.parameters(),
            active_parameters: self.tensors.parameters(),
            weights: super::super::facts::WeightBytes {
                head: u64::from(self.has_head),
                ..super::super::facts::WeightBytes::default()
            },
            layers,
            hidden: narrow(hidden),
            intermediate: narrow(self.at_layer("feed_forward_length", 0).unwrap_or(0)),
            heads: narrow(heads),
            kv_heads: if latent { 1 } else { narrow(kv_heads.unwrap_or(heads)) },
            head_dim: narrow(key),
            vocabulary: narrow(self.vocabulary()?),
            context_max: self.number("context_length", 1 << 32)?,
            rotary_rows: 0,
            experts,
        };
        self.tensors.refine(&mut facts);
        facts.active_parameters = active(&facts);
        Ok(facts)
    }

    fn layer(&self, at: u64, heads: u64, hidden: u64, key: u64) -> Result<Layer, ReadError> {
        let value = self.number("attention.value_length", WIDTH_MAX)?.unwrap_or(key);
        let kv_heads = self.at_layer("attention.head_count_kv", at).unwrap_or(heads);
        let first = self.number("leading_dense_block_count", LAYERS_MAX)?.unwrap_or(0);
        let experts = self.number("expert_count", 1 << 16)?.unwrap_or(0) > 1 && at >= first;
        let pair_width = narrow(key + value);
        let attention = if self.is_state(at, kv_heads)? {
            Attention::State { bytes: self.state_bytes(hidden)? }
        } else if let Some(rank) = self.number("attention.kv_lora_rank", WIDTH_MAX)? {
            let rope = self.number("rope.dimension_count", WIDTH_MAX)?.unwrap_or(64);
            Attention::Latent { rank: narrow(rank), rope: narrow(rope), index_bytes: 0 }
        } else if let Some(tokens) = self.window(at)? {
            Attention::Window { kv_heads: narrow(kv_heads), pair_width, tokens }
        } else {
            Attention::Full { kv_heads: narrow(kv_heads), pair_width }
        };
        let attention = if self.task() == Task::Generate { attention } else { Attention::None };
        Ok(Layer { attention, experts })
    }

    /// Whether a layer is a state space model: those have no KV heads, or are all but each
    /// so-many-th.
    fn is_state(&self, at: u64, kv_heads: u64) -> Result<bool, ReadError> {
        if self.number("ssm.state_size", WIDTH_MAX)?.is_none() {
            return Ok(false);
        }
        let interval = self.number("full_attention_interval", LAYERS_MAX)?;
        Ok(match interval {
            Some(interval) if interval > 0 => !(at + 1).is_multiple_of(interval),
            _ => kv_heads == 0,
        })
    }

    /// Bytes of a layer's state, which llama.cpp keeps in 32 bits.
    fn state_bytes(&self, hidden: u64) -> Result<u64, ReadError> {
        let inner = self.number("ssm.inner_size", WIDTH_MAX)?.unwrap_or(2 * hidden);
        let state = self.number("ssm.state_size", WIDTH_MAX)?.unwrap_or(16);
        let kernel = self.number("ssm.conv_kernel", 1024)?.unwrap_or(4);
        let groups = self.number("ssm.group_count", WIDTH_MAX)?.unwrap_or(0);
        let mixed = inner.saturating_add(groups.saturating_mul(state).saturating_mul(2));
        let rows = kernel.saturating_sub(1).saturating_mul(mixed);
        Ok(rows.saturating_add(inner.saturating_mul(state)).saturating_mul(4))
    }

    /// The window of a layer. Architectures have patterns of their own; one without is not
    /// windowed, as llama.cpp does not either.
    fn window(&self, at: u64) -> Result<Option<u32>, ReadError> {
        let window = self.number("attention.sliding_window", 1 << 24)?.unwrap_or(0);
        if window == 0 {
            return Ok(None);
        }
        let listed = self.at_layer("attention.sliding_window_pattern", at);
        let step = match self.architecture() {
            "gemma2" | "gpt-oss" => 2,
            "cohere2" | "exaone4" | "llama4" | "olmo2" => 4,
            "gemma3" | "gemma3n" => 6,
            _ => 1,
        };
        let windowed = match listed {
            Some(flag) => flag != 0,
            None => step > 1 && !(at + 1).is_multiple_of(step),
        };
        Ok(windowed.then(|| narrow(window)))
    }

    fn experts(&self) -> Result<Option<Experts>, ReadError> {
        let count = self.number("expert_count", 1 << 16)?.unwrap_or(0);
        if count <= 1 {
            return Ok(None);
        }
        let per_token = self.required("expert_used_count", count)?;
        let width = match self.number("expert_feed_forward_length", WIDTH_MAX)? {
            Some(width) => Some(width),
            None => self.at_layer("feed_forward_length", 0),
        };
        Ok(Some(Experts {
            count: narrow(count),
            per_token: narrow(per_token),
            shared: narrow(self.number("expert_shared_count", 1 << 16)?.unwrap_or(0)),
            intermediate: narrow(width.unwrap_or(0)),
        }))
    }

    fn task(&self) -> Task {
        let pooling = self.raw(&format!("{}.pooling_type", self.architecture()));
        match pooling {
            Some(4) => Task::Rerank,
            Some(_) => Task::Embed,
            None => Task::Generate,
        }
    }

    fn quantization(&self) -> Quantization {
        let number = self.raw("general.file_type").unwrap_or(u64::MAX);
        let name = ggml::mixture(number).unwrap_or("of mixed types");
        Quantization::Gguf { name: name.to_owned() }
    }

    fn vocabulary(&self) -> Result<u64, ReadError> {
        if let Some(size) = self.number("vocab_size", VOCABULARY_MAX)? {
            return Ok(size);
        }
        Ok(match self.values.get("tokenizer.ggml.tokens") {
            Some(Value::Length(length)) => (*length).min(VOCABULARY_MAX),
            Some(Value::List(list)) => list.len() as u64,
            _ => 0,
        })
    }

    fn raw(&self, name: &str) -> Option<u64> {
        match self.values.get(name)? {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// A number of the architecture's own; the greatest, where there is one for each layer.
    fn number(&self, name: &str, max: u64) -> Result<Option<u64>, ReadError> {
        let field = format!("{}.{name}", self.architecture());
        let number = match self.values.get(&field) {
            None => return Ok(None),
            Some(Value::Number(number)) => *number,
            Some(Value::List(list)) => list.iter().copied().max().unwrap_or(0),
            Some(_) => {
                let (expected, found) = ("a number", "something else".to_owned());
                return Err(ReadError::WrongType { what: WHAT, field, expected, found });
            }
        };
        if number > max {
            let value = number.to_string();
            return Err(ReadError::OutOfRange { what: WHAT, field, value, min: 0, max });
        }
        Ok(Some(number))
    }

    fn required(&self, name: &str, max: u64) -> Result<u64, ReadError> {
        let field = format!("{}.{name}", self.architecture());
        match self.number(name, max)? {
            Some(0) => {
                let value = "0".to_owned();
                Err(ReadError::OutOfRange { what: WHAT, field, value, min: 1, max })
            }
            Some(number) => Ok(number),
            None => {
                Err(ReadError::Missing { what: WHAT, field, fix: "take a file that holds a model" })
            }
        }
    }

    /// A number that layers may have one each of.
    fn at_layer(&self, name: &str, at: u64) -> Option<u64> {
        match self.values.get(&format!("{}.{name}", self.architecture()))? {
            Value::Number(number) => Some((*number).min(WIDTH_MAX)),
            Value::List(list) => list.get(usize::try_from(at).ok()?).map(|n| (*n).min(WIDTH_MAX)),
            _ => None,
        }
    }
}

/// Parameters a token passes through, by the share of bytes that idle experts have.
fn active(facts: &ModelFacts) -> u64 {
    use super::super::number::{Number as _, whole};
    let Some(experts) = facts.experts else { return facts.parameters };
    let total = facts.weights.total().max(1).approximate();
    let routed = facts.weights.experts.approximate() / total;
    let busy = f64::from(experts.per_token) / f64::from(experts.count);
    whole(facts.parameters.approximate() * (1.0 - routed * (1.0 - busy)))
}

/// What to ask for next: twice as much as there is, or that the file is cut off.
fn more<T>(has: u64, needs: u64, file: Option<u64>) -> Result<Partial<T>, ReadError> {
    if let Some(file) = file.filter(|file| needs > *file) {
        return Err(ReadError::Truncated { what: WHAT, has: file, needs });
    }
    if needs > HEADER_BYTES_MAX {
        return Err(ReadError::TooLarge { what: WHAT, bytes: needs, max: HEADER_BYTES_MAX });
    }
    let end = needs.max(has.saturating_mul(2)).clamp(HEADER_BEGIN, HEADER_BYTES_MAX);
    Ok(Partial::Needs { end: end.min(file.unwrap_or(u64::MAX)) })
}

/// Why reading ended before the header did.
enum Stop {
    /// Bytes up to here are needed.
    More(u64),
    Wrong(ReadError),
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: u64,
}

impl Reader<'_> {
    fn whole(&mut self) -> Result<Gguf, Stop> {
        if self.take(4)? != b"GGUF" {
            return Err(Stop::Wrong(ReadError::NotThis { what: "a GGUF file" }));
        }
        let version = self.u32()?;
        if !(2..=3).contains(&version) {
            let version = u64::from(version);
            return Err(Stop::Wrong(ReadError::Version { what: WHAT, version, known: "2 and 3" }));
        }
        let tensors = self.count("tensors", TENSORS_MAX)?;
        let entries = self.count("entries of metadata", ENTRIES_MAX)?;
        let mut values = BTreeMap::new();
        for _ in 0..entries {
            let key = self.text()?;
            let kind = self.u32()?;
            if let Some(value) = self.value(kind, 0)? {
                values.insert(key, value);
            }
        }
        let mut gguf = Gguf { values, tensors: Tensors::new(Format::Gguf), has_head: false };
        for _ in 0..tensors {
            self.tensor(&mut gguf)?;
        }
        Ok(gguf)
    }

    fn tensor(&mut self, gguf: &mut Gguf) -> Result<(), Stop> {
        let name = self.text()?;
        let dimensions = self.u32()?;
        if dimensions > DIMENSIONS_MAX {
            return Err(damaged(format!("a tensor has {dimensions} dimensions")));
        }
        let mut elements = 1_u64;
        for _ in 0..dimensions {
            elements = elements.saturating_mul(self.u64()?);
        }
        let kind = self.u32()?;
        self.u64()?;
        let (block, bytes) = ggml::block(kind)
            .ok_or_else(|| damaged(format!("a tensor is of type {kind}, which is not known")))?;
        let bytes = (elements / block).saturating_mul(bytes);
        if elements == u64::MAX || bytes == u64::MAX {
            return Err(damaged("a tensor is larger than any file".to_owned()));
        }
        gguf.has_head |= name == "output.weight";
        gguf.tensors.add(&Tensor { name: &name, elements, bytes }).map_err(Stop::Wrong)
    }

    /// A value, as far as it is kept.
    fn value(&mut self, kind: u32, depth: u32) -> Result<Option<Value>, Stop> {
        if kind == 8 {
            let text = self.text()?;
            return Ok((text.len() <= KEPT_BYTES_MAX).then_some(Value::Text(text)));
        }
        if kind == 9 {
            return self.array(depth);
        }
        let Some(width) = width_of(kind) else {
            return Err(damaged(format!("a value is of type {kind}, which is not known")));
        };
        let bytes = self.take(width)?;
        Ok(number(kind, bytes).map(Value::Number))
    }

    fn array(&mut self, depth: u32) -> Result<Option<Value>, Stop> {
        let kind = self.u32()?;
        let count = self.u64()?;
        if count > ARRAY_MAX || depth >= DEPTH_MAX {
            return Err(damaged(format!("a list has {count} elements, {depth} deep")));
        }
        if let Some(width) = width_of(kind) {
            let bytes = self.take(width * count)?;
            if count > LAYERS_MAX {
                return Ok(Some(Value::Length(count)));
            }
            let each = bytes.chunks_exact(width as usize);
            return Ok(Some(Value::List(
                each.map(|bytes| number(kind, bytes).unwrap_or(0)).collect(),
            )));
        }
        for _ in 0..count {
            if kind == 8 {
                self.skip_text()?;
            } else {
                self.value(kind, depth + 1)?;
            }
        }
        Ok(Some(Value::Length(count)))
    }

    fn count(&mut self, what: &str, max: u64) -> Result<u64, Stop> {
        let count = self.u64()?;
        if count > max {
            return Err(damaged(format!("it names {count} {what}, at most {max} are read")));
        }
        Ok(count)
    }

    fn text(&mut self) -> Result<String, Stop> {
        let length = self.text_length()?;
        let bytes = self.take(length)?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    fn skip_text(&mut self) -> Result<(), Stop> {
        let length = self.text_length()?;
        self.take(length).map(|_| ())
    }

    fn text_length(&mut self) -> Result<u64, Stop> {
        let length = self.u64()?;
        if length > TEXT_BYTES_MAX {
            return Err(damaged(format!("a text has {length} bytes")));
        }
        Ok(length)
    }

    fn u32(&mut self) -> Result<u32, Stop> {
        let bytes = self.take(4)?;
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    }

    fn u64(&mut self) -> Result<u64, Stop> {
        Ok(little(self.take(8)?))
    }

    fn take(&mut self, length: u64) -> Result<&[u8], Stop> {
        let end = self.at.saturating_add(length);
        let range = usize::try_from(self.at).ok().zip(usize::try_from(end).ok());
        let found = range.and_then(|(begin, end)| self.bytes.get(begin..end));
        let found = found.ok_or(Stop::More(end))?;
        self.at = end;
        Ok(found)
    }
}

const fn damaged(detail: String) -> Stop {
    Stop::Wrong(ReadError::Damaged { what: WHAT, detail })
}

fn little(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Bytes of a value of that type, where all have the same.
const fn width_of(kind: u32) -> Option<u64> {
    Some(match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        _ => return None,
    })
}

/// A whole number; none where it is negative or a fraction.
fn number(kind: u32, bytes: &[u8]) -> Option<u64> {
    let value = little(bytes);
    let bits = 8 * bytes.len() as u32;
    match kind {
        1 | 3 | 5 | 11 => (value >> (bits - 1) == 0).then_some(value),
        6 | 12 => None,
        _ => Some(value),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct File {
        bytes: Vec<u8>,
        entries: u64,
        tensors: u64,
    }

    impl File {
        fn text(&mut self, text: &str) {
            self.bytes.extend((text.len() as u64).to_le_bytes());
            self.bytes.extend(text.as_bytes());
        }

        fn number(mut self, key: &str, value: u32) -> Self {
            self.text(key);
            self.bytes.extend(4_u32.to_le_bytes());
            self.bytes.extend(value.to_le_bytes());
            self.entries += 1;
            self
        }

        fn word(mut self, key: &str, value: &str) -> Self {
            self.text(key);
            self.bytes.extend(8_u32.to_le_bytes());
            self.text(value);
            self.entries += 1;
            self
        }

        fn tensor(mut self, name: &str, rows: u64, kind: u32) -> Self {
            self.text(name);
            self.bytes.extend(1_u32.to_le_bytes());
            self.bytes.extend(rows.to_le_bytes());
            self.bytes.extend(kind.to_le_bytes());
            self.bytes.extend(0_u64.to_le_bytes());
            self.tensors += 1;
            self
        }

        fn end(self) -> Vec<u8> {
            let mut file = b"GGUF".to_vec();
            file.extend(3_u32.to_le_bytes());
            file.extend(self.tensors.to_le_bytes());
            file.extend(self.entries.to_le_bytes());
            file.extend(self.bytes);
            file
        }
    }

    fn small() -> File {
        File::default()
            .word("general.architecture", "llama")
            .number("general.file_type", 15)
            .number("llama.block_count", 2)
            .number("llama.embedding_length", 64)
            .number("llama.attention.head_count", 4)
            .number("llama.attention.head_count_kv", 2)
            .number("llama.context_length", 2048)
            .number("llama.vocab_size", 100)
    }

    fn with_tensor(file: File) -> File {
        file.tensor("token_embd.weight", 256, 14)
    }

    fn facts(file: File) -> Result<ModelFacts, ReadError> {
        match Gguf::parse(&file.end(), None)? {
            Partial::Done(gguf) => gguf.facts(),
            Partial::Needs { end } => panic!("needs {end}"),
        }
    }

    #[test]
    fn metadata_and_tensors_become_facts() {
        let file = small()
            .tensor("token_embd.weight", 6400, 14)
            .tensor("blk.0.attn_k.weight", 2048, 12)
            .tensor("blk.1.ffn_up.weight", 2048, 12);
        let facts = facts(file).unwrap();
        assert_eq!(facts.quantization, Quantization::Gguf { name: "Q4_K_M".to_owned() });
        assert_eq!(facts.weights.embeddings, 6400 / 256 * 210);
        assert_eq!(facts.weights.key_value, 2048 / 256 * 144);
        assert_eq!(facts.weights.head, 0);
        assert_eq!(facts.kv_bytes_per_token(2.0), 2.0 * 2.0 * 32.0 * 2.0);
        assert_eq!(facts.context_max, Some(2048));
    }

    #[test]
    fn a_short_begin_says_how_much_is_needed() {
        let whole = small().tensor("token_embd.weight", 6400, 14).end();
        for length in 0..whole.len() {
            let file = whole.len() as u64;
            let found = Gguf::parse(&whole[..length], Some(file)).unwrap();
            assert_eq!(found, Partial::Needs { end: file }, "{length}");
            let cut = Gguf::parse(&whole[..length], Some(length as u64)).unwrap_err();
            assert!(matches!(cut, ReadError::Truncated { .. }), "{length}: {cut}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |bytes: &[u8], expect: &str| {
            let error = Gguf::parse(bytes, None).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        check(b"PK\x03\x04", "not a GGUF file: it does not begin");
        check(b"GGUF\x09\0\0\0", "version 9");
        let mut huge = small().end();
        huge[8..16].copy_from_slice(&(1_u64 << 63).to_le_bytes());
        check(&huge, "9223372036854775808 tensors");
        check(&small().tensor("a", u64::MAX, 0).end(), "larger than any file");
        check(&small().tensor("a", 1, 99).end(), "type 99");
        let mut text = small().end();
        text[24..32].copy_from_slice(&(1_u64 << 62).to_le_bytes());
        check(&text, "a text has 4611686018427387904 bytes");
    }

    #[test]
    fn fields_that_cannot_be_are_named() {
        let check = |file: File, expect: &str| {
            let error = facts(with_tensor(file)).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        assert!(facts(small()).unwrap_err().to_string().contains("no tensors"));
        check(
            File::default().word("general.architecture", "llama"),
            "`llama.block_count` is missing",
        );
        check(small().number("llama.block_count", 1 << 31), "`llama.block_count`");
        check(small().number("llama.attention.head_count", 0), "which must be 1 to");
        check(small().word("llama.embedding_length", "x"), "not a number");
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes: Vec<u8>) {
            let mut file = b"GGUF\x03\0\0\0".to_vec();
            file.extend(bytes);
            if let Ok(Partial::Done(gguf)) = Gguf::parse(&file, None) {
                let _ = gguf.facts();
            }
        }

        #[test]
        fn no_flipped_byte_panics(at in 0_usize..400, byte: u8) {
            let mut file = small().tensor("blk.0.attn_k.weight", 2048, 12).end();
            let at = at % file.len();
            file[at] = byte;
            if let Ok(Partial::Done(gguf)) = Gguf::parse(&file, None) {
                let _ = gguf.facts();
            }
        }
    }
}
