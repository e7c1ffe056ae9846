//! A whole answer to "how do I run this model here?": program, shape, memory, speed, command.
//!
//! For each number of nodes a program is chosen, then the cheapest shape that meets the goal; fewer nodes come
//! first, since ranks of one node talk faster. Where the hardware is not enough for all requests at once, the most
//! that it is enough for are planned for, and that is said.

use serde::Serialize;
use thiserror::Error;

use super::{Aim, Selection, Wish, select};
use crate::hardware::Accelerator;
use crate::launch::{self, Engine, Features, Launch, LaunchError, LaunchSpec, Version, Weights};
use crate::size::memory::{has_whole_experts, memory, possible, remedies};
use crate::size::search::{Rejected, Why};
use crate::size::{
    Calibration, Candidate, Dtype, Goal, Means, Memory, ModelFacts, Ranks, Release, Remedy,
    Runtime, Shape, ShapeError, search,
};

/// The share of memory that a program takes where nobody says: vLLM's own.
const UTILISATION: f64 = 0.9;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// The model.
    pub facts: &'a ModelFacts,
    /// Its name in requests.
    pub served: String,
    /// Where its weights are.
    pub weights: Weights,
    /// What it runs on; `per_node` is what nodes really have.
    pub accelerator: Accelerator,
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
    /// What is wanted of it.
    pub goal: Goal,
    /// What is known of the hardware's real speed.
    pub calibration: Calibration,
    /// What was decided about the shape.
    pub ranks: Ranks,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Proposal {
    /// Which program, and why.
    pub selection: Selection,
    /// In which shape, with its memory and speed.
    pub candidate: Candidate,
    /// How one replica is started.
    pub launch: LaunchSpec,
    /// Requests at once that it is planned for; fewer than asked for where the hardware is not enough.
    pub concurrency: u32,
    /// Shapes that were tried and do not do, with why.
    pub rejected: Vec<(String, String)>,
}

/// Why there is none.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum NoProposal {
    /// The model cannot have the shape that was decided.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// No program runs it.
    #[error("{}", .0.reason)]
    Engine(Box<Selection>),
    /// It fits no shape there is.
    #[error("the model does not fit: each accelerator lacks {} bytes", .0.short_bytes)]
    Memory(Box<Short>),
    /// No shape meets the goal.
    #[error("no shape meets the goal")]
    Goal {
        /// Which program, and why.
        selection: Box<Selection>,
        /// The shapes that were tried, with why not.
        rejected: Vec<(String, String)>,
    },
    /// The program is not started so.
    #[error(transparent)]
    Launch(#[from] LaunchError),
}

/// A model that does not fit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Short {
    /// Which program, and why.
    pub selection: Selection,
    /// The shape that lacks least.
    pub shape: Shape,
    /// What its memory would hold.
    pub memory: Memory,
    /// What each accelerator lacks.
    pub short_bytes: u64,
    /// What would make it fit, each alone.
    pub remedies: Vec<Remedy>,
}

/// What was tried with so many nodes.
struct Tried {
    selection: Selection,
    engine: Engine,
    rejected: Vec<Rejected>,
}

/// Answers.
///
/// # Errors
/// [`NoProposal`].
pub fn propose(question: &Question<'_>) -> Result<Proposal, NoProposal> {
    possible(question.facts, &question.decided())?;
    let mut tried = Vec::new();
    let mut refused = None;
    for nodes in 1..=question.nodes.max(1) {
        let selection = select(&question.wish(nodes));
        match selection.engine {
            None => _ = refused.get_or_insert(selection),
            Some(engine) => match question.candidate(engine, nodes, question.goal.concurrency) {
                Ok((candidate, rejected)) => {
                    let concurrency = question.goal.concurrency;
                    return question.proposal(selection, candidate, &rejected, concurrency);
                }
                Err(rejected) => tried.push(Tried { selection, engine, rejected }),
            },
        }
    }
    if tried.is_empty() {
        let none = || select(&question.wish(1));
        return Err(NoProposal::Engine(Box::new(refused.unwrap_or_else(none))));
    }
    // What was decided takes more nodes than the program has.
    let untried = tried.iter().all(|one: &Tried| one.rejected.is_empty());
    if let (true, Some(refused)) = (untried, &refused) {
        return Err(NoProposal::Engine(Box::new(refused.clone())));
    }
    question.for_fewer(tried)
}

impl Question<'_> {
    fn wish(&self, nodes: u32) -> Wish<'_> {
        Wish {
            facts: self.facts,
            accelerator: &self.accelerator,
            nodes,
            features: &self.features,
            aim: self.aim,
            asked: self.asked,
            installed: None,
        }
    }

    /// The cheapest shape of exactly so many nodes a replica, for so many requests at once.
    fn candidate(
        &self,
        engine: Engine,
        nodes: u32,
        concurrency: u32,
    ) -> Result<(Candidate, Vec<Rejected>), Vec<Rejected>> {
        let found = search(self.facts, &self.means(engine), &Goal { concurrency, ..self.goal });
        let (mut candidates, mut rejected) = (found.candidates, found.rejected);
        if self.aim == Aim::Throughput {
            candidates.sort_by(|one, other| rate(other).total_cmp(&rate(one)));
        }
        for candidate in candidates {
            if self.nodes_of(&candidate.shape) != nodes {
                continue;
            }
            if takes(engine, &candidate.shape, nodes) {
                return Ok((candidate, rejected));
            }
            let why = Why::Program(not_taken(engine, &candidate.shape));
            rejected.push(Rejected { shape: candidate.shape, why });
        }
        Err(rejected)
    }

    /// The shape as far as it was decided.
    fn decided(&self) -> Shape {
        let tensor = self.ranks.tensor.unwrap_or(1);
        Shape {
            tensor,
            expert_parallel: has_whole_experts(self.facts, tensor),
            pipeline: self.ranks.pipeline.unwrap_or(1),
            ..Shape::single(self.goal.context, cache_dtype(self.facts.dtype))
        }
    }

    fn means(&self, engine: Engine) -> Means<'_> {
        let runtime = sizing(engine, self.version);
        let (batch_tokens, sequences) = runtime.default_batch(&self.accelerator);
        let kv_dtype = cache_dtype(self.facts.dtype);
        let shape = Shape {
            batch_tokens,
            sequences,
            utilisation: UTILISATION,
            ..Shape::single(self.goal.context, kv_dtype)
        };
        Means {
            accelerator: &self.accelerator,
            runtime,
            calibration: self.calibration,
            accelerators_max: self.accelerator.per_node.saturating_mul(self.nodes),
            kv_dtype,
            utilisation: launch::memory_share(engine, &self.launch(shape)),
            ranks: self.ranks,
        }
    }

    fn nodes_of(&self, shape: &Shape) -> u32 {
        shape.accelerators_per_replica().div_ceil(self.accelerator.per_node.max(1)).max(1)
    }

    fn proposal(
        &self,
        selection: Selection,
        candidate: Candidate,
        rejected: &[Rejected],
        concurrency: u32,
    ) -> Result<Proposal, NoProposal> {
        let engine = selection.engine.unwrap_or(Engine::Vllm);
        let cache_bytes = Some(candidate.memory.cache_bytes);
        let launch = Launch { cache_bytes, ..self.launch(candidate.shape) };
        let launch = launch::spec(engine, &launch)?;
        let rejected = described(rejected);
        Ok(Proposal { selection, candidate, launch, concurrency, rejected })
    }

    /// The most requests at once that there is a shape for, or why there is none even for one.
    fn for_fewer(&self, tried: Vec<Tried>) -> Result<Proposal, NoProposal> {
        for (index, tried) in tried.iter().enumerate() {
            let nodes = u32::try_from(index + 1).unwrap_or(u32::MAX);
            let at = |concurrency| self.candidate(tried.engine, nodes, concurrency).ok();
            let (mut low, mut high) = (0, self.goal.concurrency.max(1));
            while high - low > 1 {
                let middle = low + (high - low) / 2;
                if at(middle).is_some() { low = middle } else { high = middle }
            }
            if let Some((candidate, rejected)) = at(low.max(1)) {
                let selection = tried.selection.clone();
                return self.proposal(selection, candidate, &rejected, low.max(1));
            }
        }
        Err(self.impossible(tried))
    }

    fn impossible(&self, tried: Vec<Tried>) -> NoProposal {
        let lacks = |one: &Rejected| match one.why {
            Why::Memory { short_bytes } => Some((short_bytes, one.shape)),
            _ => None,
        };
        let all_lack = tried
            .iter()
            .flat_map(|one| &one.rejected)
            .all(|one| lacks(one).is_some() || matches!(one.why, Why::Shape(_)));
        let shortest = |tried: &Tried| {
            let least = tried.rejected.iter().filter_map(lacks);
            least.min_by_key(|(short, shape)| (*short, shape.accelerators()))
        };
        let best = tried.iter().filter_map(|one| Some((shortest(one)?, one)));
        let best = best.min_by_key(|((short, _), _)| *short);
        if let (true, Some(((short_bytes, shape), tried))) = (all_lack, best)
            && let Some(short) = self.short(tried, shape, short_bytes)
        {
            return NoProposal::Memory(Box::new(short));
        }
        let selection = tried.first().map(|one| one.selection.clone());
        let rejected = tried.last().map(|one| described(&one.rejected)).unwrap_or_default();
        let none = || select(&self.wish(1));
        NoProposal::Goal { selection: Box::new(selection.unwrap_or_else(none)), rejected }
    }

    fn short(&self, tried: &Tried, shape: Shape, short_bytes: u64) -> Option<Short> {
        let runtime = sizing(tried.engine, self.version);
        let memory = memory(self.facts, &shape, &self.accelerator, runtime).ok()?;
        let mut remedies = remedies(self.facts, &shape, &self.accelerator, runtime);
        remedies.retain(|remedy| {
            let shape = match *remedy {
                Remedy::Tensor(tensor) => Shape { tensor, ..shape },
                Remedy::Pipeline(pipeline) => Shape { pipeline, ..shape },
                _ => return true,
            };
            takes(tried.engine, &shape, self.nodes_of(&shape))
        });
        let selection = tried.selection.clone();
        Some(Short { selection, shape, memory, short_bytes, remedies })
    }

    fn launch(&self, shape: Shape) -> Launch {
        Launch {
            served: self.served.clone(),
            weights: self.weights.clone(),
            weight_bytes: Some(self.facts.weights.total()),
            shape,
            accelerator: self.accelerator,
            cache_bytes: None,
            threads: None,
            version: self.version,
            features: self.features.clone(),
            has_key: true,
            extra: Vec::new(),
        }
    }
}

/// Why it is not.
fn not_taken(engine: Engine, shape: &Shape) -> String {
    let title = engine.title();
    match shape {
        _ if engine == Engine::Embedded => format!("{title} computes on one processor"),
        Shape { pipeline: 2.., .. } if !takes_stages(engine) => {
            format!("{title} has no pipeline parallelism")
        }
        Shape { data: 2.., .. } => format!("{title} is not started with data-parallel attention"),
        _ => format!("{title} is not started in this shape"),
    }
}

/// Whether a program divides layers into stages.
const fn takes_stages(engine: Engine) -> bool {
    !matches!(engine, Engine::Tgi | Engine::DeepSpeed | Engine::Ollama | Engine::Embedded)
}

/// Tokens a second for each accelerator, or requests of models that do not write.
fn rate(candidate: &Candidate) -> f64 {
    let speed = &candidate.speed;
    let rate = speed.tokens_per_second.likely.max(speed.requests_per_second.likely);
    rate / f64::from(candidate.shape.accelerators_per_replica().max(1))
}

/// Whether a program is started in that shape, on so many nodes.
pub const fn takes(engine: Engine, shape: &Shape, nodes: u32) -> bool {
    match engine {
        Engine::Embedded => shape.accelerators_per_replica() == 1,
        Engine::Tgi | Engine::DeepSpeed | Engine::Ollama => {
            nodes == 1 && shape.pipeline == 1 && shape.data == 1
        }
        Engine::LlamaCpp => shape.data == 1 && !shape.expert_parallel,
        Engine::Vllm => shape.data == 1 || nodes == 1,
        Engine::Triton => nodes == 1 && shape.data == 1,
        Engine::Sglang | Engine::TensorRtLlm => true,
    }
}

fn described(rejected: &[Rejected]) -> Vec<(String, String)> {
    rejected.iter().map(|one| (one.shape.to_string(), one.why.to_string())).collect()
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
