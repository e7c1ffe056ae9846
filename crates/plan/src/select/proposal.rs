//! A whole answer to "how do I run this model here?": program, shape, memory, command.
//!
//! The smallest shape that has room for the sequences wanted is taken; where none has, the one with most room. A
//! node is filled before another one is added, since ranks of one node talk faster.

use serde::Serialize;
use thiserror::Error;

use super::{Aim, Selection, Wish, select};
use crate::hardware::Accelerator;
use crate::launch::{self, Engine, Features, Launch, LaunchError, LaunchSpec, Version, Weights};
use crate::size::memory::{memory, remedies, tensor_sizes};
use crate::size::{Dtype, Memory, ModelFacts, Release, Remedy, Runtime, Shape};

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// The model.
    pub facts: &'a ModelFacts,
    /// Its name in requests.
    pub served: String,
    /// Where its weights are.
    pub weights: Weights,
    /// What it runs on.
    pub accelerator: &'static Accelerator,
    /// Accelerators of one node.
    pub per_node: u32,
    /// Nodes there are.
    pub nodes: u32,
    /// What it has to be able to do.
    pub features: Features,
    /// What matters most.
    pub aim: Aim,
    /// The program that was asked for.
    pub asked: Option<Engine>,
    /// Its release.
    pub version: Option<Version>,
    /// Tokens of each sequence.
    pub context: u64,
    /// Sequences at once.
    pub sequences: u32,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Proposal {
    /// Which program, and why.
    pub selection: Selection,
    /// In which shape.
    pub shape: Shape,
    /// What each accelerator's memory holds.
    pub memory: Memory,
    /// How it is started.
    pub launch: LaunchSpec,
}

/// Why there is none.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum NoProposal {
    /// No program runs it.
    #[error("{}", .0.reason)]
    Engine(Box<Selection>),
    /// It fits no shape there is.
    #[error(
        "the model does not fit: each of {accelerators} accelerators lacks {short_bytes} bytes"
    )]
    Memory {
        /// Which program, and why.
        selection: Box<Selection>,
        /// The shape with most room.
        shape: Shape,
        /// What its memory would hold.
        memory: Memory,
        /// How many accelerators that is.
        accelerators: u32,
        /// What each of them lacks.
        short_bytes: u64,
        /// What would make it fit.
        remedies: Vec<Remedy>,
    },
    /// No shape of the hardware divides the model.
    #[error("{0}")]
    Shape(String),
    /// The program is not started so.
    #[error(transparent)]
    Launch(#[from] LaunchError),
}

/// A shape with what it comes to.
struct Candidate {
    selection: Selection,
    engine: Engine,
    shape: Shape,
    memory: Memory,
}

/// Answers.
///
/// # Errors
/// [`NoProposal`].
pub fn propose(question: &Question<'_>) -> Result<Proposal, NoProposal> {
    let mut best: Option<Candidate> = None;
    let mut refused: Option<Selection> = None;
    let mut wrong = None;
    for pipeline in 1..=question.nodes.max(1) {
        let selection = select(&question.wish(pipeline));
        let Some(engine) = selection.engine else {
            refused.get_or_insert(selection);
            continue;
        };
        for shape in question.shapes(engine, pipeline) {
            let runtime = sizing(engine, question.version);
            match memory(question.facts, &shape, question.accelerator, runtime) {
                Ok(memory) => {
                    let selection = selection.clone();
                    let next = Candidate { selection, engine, shape, memory };
                    if next.is_enough(question) {
                        return next.propose(question);
                    }
                    if best.as_ref().is_none_or(|best| next.has_more_room(best)) {
                        best = Some(next);
                    }
                }
                Err(error) => wrong = Some(error.to_string()),
            }
        }
    }
    match (best, refused) {
        (Some(best), _) if best.memory.fits() => best.propose(question),
        (Some(best), _) => Err(best.does_not_fit(question)),
        (None, Some(selection)) => Err(NoProposal::Engine(Box::new(selection))),
        (None, None) => {
            let text = "no shape of this hardware divides the model".to_owned();
            Err(NoProposal::Shape(wrong.unwrap_or(text)))
        }
    }
}

impl Candidate {
    fn is_enough(&self, question: &Question<'_>) -> bool {
        self.memory.fits() && self.memory.sequences.likely >= f64::from(question.sequences)
    }

    fn has_more_room(&self, other: &Self) -> bool {
        let room = |one: &Self| (one.memory.fits(), one.memory.sequences.likely);
        let (mine, theirs) = (room(self), room(other));
        match mine.0.cmp(&theirs.0) {
            std::cmp::Ordering::Equal if mine.0 => mine.1 > theirs.1,
            std::cmp::Ordering::Equal => self.memory.short_bytes() < other.memory.short_bytes(),
            order => order.is_gt(),
        }
    }

    fn propose(self, question: &Question<'_>) -> Result<Proposal, NoProposal> {
        let launch = launch::spec(self.engine, &question.launch(self.shape))?;
        let Self { selection, shape, memory, .. } = self;
        Ok(Proposal { selection, shape, memory, launch })
    }

    fn does_not_fit(self, question: &Question<'_>) -> NoProposal {
        let runtime = sizing(self.engine, question.version);
        NoProposal::Memory {
            remedies: remedies(question.facts, &self.shape, question.accelerator, runtime),
            selection: Box::new(self.selection),
            accelerators: self.shape.accelerators(),
            short_bytes: self.memory.short_bytes(),
            shape: self.shape,
            memory: self.memory,
        }
    }
}

impl Question<'_> {
    fn wish(&self, nodes: u32) -> Wish<'_> {
        Wish {
            facts: self.facts,
            accelerator: self.accelerator,
            nodes,
            features: &self.features,
            aim: self.aim,
            asked: self.asked,
            installed: None,
        }
    }

    /// The shapes to try with so many stages, the smallest first.
    fn shapes(&self, engine: Engine, pipeline: u32) -> Vec<Shape> {
        let is_alone = matches!(engine, Engine::Embedded);
        if is_alone && pipeline > 1 {
            return Vec::new();
        }
        let most = if is_alone { 1 } else { self.per_node };
        // Another node is worth it only for whole ones.
        let least = if pipeline > 1 { self.per_node } else { 1 };
        let sizes = tensor_sizes(self.facts).into_iter();
        let sizes: Vec<u32> = sizes.filter(|size| (1..=most).contains(size)).collect();
        let widest = sizes.last().copied().unwrap_or(1);
        let tried = sizes.into_iter().filter(|size| *size >= least.min(widest));
        tried.map(|tensor| self.shape(engine, tensor, pipeline)).collect()
    }

    fn shape(&self, engine: Engine, tensor: u32, pipeline: u32) -> Shape {
        let (batch_tokens, _) = sizing(engine, self.version).default_batch(self.accelerator);
        let splits_experts = matches!(engine, Engine::Vllm | Engine::Sglang | Engine::TensorRtLlm);
        let experts = self.facts.experts.map_or(0, |experts| experts.count);
        let mut shape = Shape {
            tensor,
            pipeline,
            // Where attention is latent the cache is whole on each rank; whole experts save the exchange of halves.
            expert_parallel: splits_experts
                && self.facts.is_latent()
                && tensor > 1
                && experts >= tensor,
            sequences: self.sequences.max(1),
            batch_tokens,
            ..Shape::single(self.context, cache_dtype(self.facts.dtype))
        };
        shape.utilisation = launch::memory_share(engine, &self.launch(shape));
        shape
    }

    fn launch(&self, shape: Shape) -> Launch {
        Launch {
            served: self.served.clone(),
            weights: self.weights.clone(),
            weight_bytes: Some(self.facts.weights.total()),
            shape,
            accelerator: self.accelerator,
            accelerators_per_node: self.per_node,
            threads: None,
            version: self.version,
            features: self.features.clone(),
            has_key: true,
            extra: Vec::new(),
        }
    }
}

/// Programs keep the cache in 16 bits where weights have more.
const fn cache_dtype(dtype: Dtype) -> Dtype {
    match dtype {
        Dtype::F16 => Dtype::F16,
        _ => Dtype::Bf16,
    }
}

/// What a program's memory is reckoned as.
pub fn sizing(engine: Engine, version: Option<Version>) -> Runtime {
    let release = version.and_then(|version| Release::from_version(&version.to_string()));
    match engine {
        Engine::Vllm => Runtime::Vllm(release.unwrap_or(Release::LATEST)),
        Engine::Triton | Engine::DeepSpeed => Runtime::VLLM,
        Engine::Sglang => Runtime::Sglang,
        Engine::Tgi => Runtime::Tgi,
        Engine::TensorRtLlm => Runtime::TensorrtLlm,
        Engine::LlamaCpp | Engine::Ollama => Runtime::LlamaCpp,
        Engine::Embedded => Runtime::Embedded,
    }
}
