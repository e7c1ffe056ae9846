//! llama.cpp, through `llama-cpp-2`: the only file that touches it.
//!
//! KV streams are separate (`kv_unified` off): in one unified cache every sequence attends over the
//! cells of all, and throughput falls with more than four. In return a stream is copied whole or
//! not at all; asking for a part aborts the process. Other calls that abort instead of returning an
//! error, and are never made: a batch of more tokens than `n_batch`, a position out of order.

use std::num::NonZeroU32;
use std::path::Path;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{LlamaContextParams, LlamaPoolingType};
use llama_cpp_2::context::session::{LlamaStateSeqFlags, SeqState};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;
use llama_cpp_2::{LogOptions, send_logs_to_tracing};

use super::{Backend, BackendError, Grammar, ModelFacts, Vocabulary};
use crate::batch::Entry;
use crate::config::EngineConfig;
use crate::job::{JobError, Token};
use crate::sample::TokenSet;

/// A model in memory.
pub struct Loaded {
    llama: LlamaBackend,
    model: LlamaModel,
    facts: ModelFacts,
    vocabulary_len: usize,
}

/// Loads the weights. The file was checked by [`crate::gguf`] before.
///
/// # Errors
/// llama.cpp cannot use them; its own words are in the log.
pub fn load(path: &Path, gpu_layers: Option<u32>) -> Result<Loaded, BackendError> {
    send_logs_to_tracing(LogOptions::default());
    let llama = LlamaBackend::init().map_err(said)?;
    let layers = gpu_layers.unwrap_or(if cfg!(feature = "cuda") { 999 } else { 0 });
    let params = LlamaModelParams::default().with_n_gpu_layers(layers);
    let model = LlamaModel::load_from_file(&llama, path, &params)
        .map_err(|_| BackendError("llama.cpp cannot load it; the log above says why".to_owned()))?;
    let facts = facts(&model);
    let vocabulary_len = usize::try_from(model.n_vocab()).unwrap_or(0);
    Ok(Loaded { llama, model, facts, vocabulary_len })
}

fn facts(model: &LlamaModel) -> ModelFacts {
    let vocab = model.vocab();
    let text = |token: LlamaToken| {
        if token.0 < 0 {
            return String::new();
        }
        String::from_utf8_lossy(&vocab.token_to_piece(token, true, None)).into_owned()
    };
    let chat_template =
        model.chat_template(None).ok().and_then(|template| template.to_string().ok());
    let head_size = u64::try_from(model.n_embd()).unwrap_or(0) / u64::from(model.n_head().max(1));
    let elements = 2 * u64::from(model.n_layer()) * u64::from(model.n_head_kv()) * head_size;
    ModelFacts {
        name: model.meta_val_str("general.name").ok(),
        chat_template,
        bos: text(vocab.bos()),
        eos: text(vocab.eos()),
        controls: vocab.tokens().filter(|token| vocab.is_control(*token)).map(text).collect(),
        embedding_size: u32::try_from(model.n_embd()).unwrap_or(0),
        context_trained: model.n_ctx_train(),
        parameters: model.n_params(),
        weight_bytes: model.size(),
        cell_bytes: elements * 2,
        recurrent: model.is_recurrent() || model.is_hybrid(),
    }
}

impl Vocabulary for Loaded {
    fn tokenize(&self, text: &str, begin: bool, special: bool) -> Vec<Token> {
        let vocab = self.model.vocab();
        vocab.tokenize(text.as_bytes(), begin, special).into_iter().map(|token| token.0).collect()
    }

    fn piece(&self, token: Token, special: bool) -> Vec<u8> {
        if usize::try_from(token).is_ok_and(|token| token < self.vocabulary_len) {
            self.model.vocab().token_to_piece(LlamaToken(token), special, None)
        } else {
            Vec::new()
        }
    }

    fn is_end(&self, token: Token) -> bool {
        self.model.vocab().is_eog(LlamaToken(token))
    }

    fn size(&self) -> usize {
        self.vocabulary_len
    }

    fn model(&self) -> &ModelFacts {
        &self.facts
    }
}

/// A loaded model with its KV streams.
pub struct Llama<'model> {
    loaded: &'model Loaded,
    context: LlamaContext<'model>,
    batch: LlamaBatch<'static>,
    /// Made when the first embedding is asked for.
    embedder: Option<LlamaContext<'model>>,
    config: EngineConfig,
}

impl<'model> Llama<'model> {
    /// Makes the streams.
    ///
    /// # Errors
    /// Too little memory, most likely.
    pub fn new(loaded: &'model Loaded, config: &EngineConfig) -> Result<Self, BackendError> {
        let cells = config.context.saturating_mul(config.slots);
        let params = params(config, cells, config.step_tokens.max(config.slots))
            .with_n_seq_max(config.slots)
            .with_kv_unified(false);
        let context = loaded.model.new_context(&loaded.llama, params).map_err(|_| {
            let mib = (u64::from(cells) * loaded.facts.cell_bytes) >> 20;
            BackendError(format!(
                "cannot make {} KV streams of {} tokens ({mib} MiB); lower --parallel or --context",
                config.slots, config.context,
            ))
        })?;
        let batch = LlamaBatch::new(config.step_tokens.max(config.slots) as usize, 1);
        Ok(Self { loaded, context, batch, embedder: None, config: config.clone() })
    }

    fn embedder(&mut self) -> Result<&mut LlamaContext<'model>, BackendError> {
        if self.embedder.is_none() {
            let config = &self.config;
            let params = params(config, config.context, config.context)
                .with_n_seq_max(1)
                .with_embeddings(true)
                .with_pooling_type(LlamaPoolingType::Mean);
            let made = self.loaded.model.new_context(&self.loaded.llama, params);
            self.embedder = Some(made.map_err(said)?);
        }
        self.embedder.as_mut().ok_or_else(|| BackendError("no context for embeddings".to_owned()))
    }
}

/// What both contexts share. Micro-batches are as large as batches: a step is one computation.
fn params(config: &EngineConfig, cells: u32, batch: u32) -> LlamaContextParams {
    let threads = i32::try_from(config.threads).unwrap_or(1);
    LlamaContextParams::default()
        .with_n_ctx(NonZeroU32::new(cells))
        .with_n_batch(batch)
        .with_n_ubatch(batch)
        .with_n_threads(threads)
        .with_n_threads_batch(threads)
        .with_no_perf(true)
}

impl<'model> Backend for Llama<'model> {
    type Swapped = SeqState;
    type Grammar = LlamaGrammar<'model>;

    fn compute(&mut self, entries: &[Entry]) -> Result<(), BackendError> {
        self.batch.clear();
        for entry in entries {
            let position = i32::try_from(entry.position).map_err(said)?;
            let added = self.batch.add(
                LlamaToken(entry.token),
                position,
                &[sequence(entry.slot)],
                entry.logits,
            );
            added.map_err(said)?;
        }
        self.context.decode(&mut self.batch).map_err(said)
    }

    fn logits(&self, index: usize) -> &[f32] {
        self.context.get_logits_ith(i32::try_from(index).unwrap_or(i32::MAX))
    }

    fn copy(&mut self, from: u32, to: u32) -> Result<(), BackendError> {
        self.keep(to, 0)?;
        self.context.copy_kv_cache_seq(sequence(from), sequence(to), None, None).map_err(said)
    }

    fn keep(&mut self, slot: u32, len: u32) -> Result<(), BackendError> {
        let cut = self.context.clear_kv_cache_seq(Some(slot), Some(len), None).map_err(said)?;
        if cut {
            Ok(())
        } else {
            Err(BackendError("the model's cells cannot be cut there".to_owned()))
        }
    }

    fn swap_out(&mut self, slot: u32) -> Result<SeqState, BackendError> {
        let state = self.context.state_seq_get(sequence(slot), LlamaStateSeqFlags::empty());
        self.keep(slot, 0)?;
        state.map_err(said)
    }

    fn swap_in(&mut self, slot: u32, swapped: &SeqState) -> Result<(), BackendError> {
        self.context.state_seq_set(swapped, sequence(slot)).map_err(said)
    }

    fn grammar(&self, gbnf: &str) -> Result<LlamaGrammar<'model>, JobError> {
        let sampler = LlamaSampler::grammar(&self.loaded.model, gbnf, "root")
            .map_err(|error| JobError::BadGrammar(error.to_string()))?;
        Ok(LlamaGrammar { sampler, loaded: self.loaded })
    }

    fn embed(&mut self, prompts: &[Vec<Token>]) -> Result<Vec<Vec<f32>>, BackendError> {
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(1);
        let context = self.embedder()?;
        let mut batch = LlamaBatch::new(longest, 1);
        let mut vectors = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            batch.clear();
            for (at, token) in prompt.iter().enumerate() {
                let position = i32::try_from(at).map_err(said)?;
                batch.add(LlamaToken(*token), position, &[0], true).map_err(said)?;
            }
            context.clear_kv_cache();
            context.decode(&mut batch).map_err(said)?;
            vectors.push(unit(context.embeddings_seq_ith(0).map_err(said)?));
        }
        Ok(vectors)
    }
}

/// A vector of the same direction and length one; zero stays zero.
fn unit(vector: &[f32]) -> Vec<f32> {
    let length = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
    vector.iter().map(|x| (f64::from(*x) * scale) as f32).collect()
}

/// A grammar in llama.cpp's own sampler for them.
pub struct LlamaGrammar<'model> {
    sampler: LlamaSampler,
    loaded: &'model Loaded,
}

impl Grammar for LlamaGrammar<'_> {
    fn allows(&mut self, token: Token) -> bool {
        let one = vec![LlamaTokenData::new(LlamaToken(token), 0.0, 0.0)];
        let mut one = LlamaTokenDataArray::new(one, false);
        self.sampler.apply(&mut one);
        one.data.iter().any(|candidate| candidate.logit().is_finite())
    }

    fn allowed(&mut self) -> TokenSet {
        let len = self.loaded.vocabulary_len;
        let token = |at: usize| LlamaToken(i32::try_from(at).unwrap_or(i32::MAX));
        let all = (0..len).map(|at| LlamaTokenData::new(token(at), 0.0, 0.0)).collect();
        let mut all = LlamaTokenDataArray::new(all, false);
        self.sampler.apply(&mut all);
        let mut set = TokenSet::with_len(len);
        for candidate in all.data.iter().filter(|candidate| candidate.logit().is_finite()) {
            set.insert(candidate.id().0);
        }
        set
    }

    fn accept(&mut self, token: Token) -> Result<(), BackendError> {
        self.sampler.try_accept(LlamaToken(token)).map_err(said)
    }
}

/// The grammar of a JSON schema.
///
/// # Errors
/// [`JobError::BadGrammar`] when the schema is not one, or uses what llama.cpp cannot express.
pub fn grammar_from_schema(schema: &str) -> Result<String, JobError> {
    llama_cpp_2::json_schema_to_grammar(schema)
        .map_err(|error| JobError::BadGrammar(error.to_string()))
}

fn sequence(slot: u32) -> i32 {
    i32::try_from(slot).unwrap_or(i32::MAX)
}

fn said(error: impl std::fmt::Display) -> BackendError {
    BackendError(error.to_string())
}
