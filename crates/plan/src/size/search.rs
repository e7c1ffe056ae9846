//! Which shapes a model can have on hardware, which of them meet a goal, and what each costs.
//!
//! Deterministic: the same question has the same answer, in the same order.

use std::fmt;

use serde::Serialize;

use super::calibration::Calibration;
use super::facts::ModelFacts;
use super::memory::{Memory, ShapeError, has_whole_experts, memory, tensor_sizes};
use super::number::whole;
use super::quantization::Dtype;
use super::runtime::Runtime;
use super::shape::Shape;
use super::speed::{Load, Setting, Speed};
use crate::hardware::Accelerator;

/// Stages of a pipeline that are tried.
const PIPELINE_MAX: u32 = 16;

/// Replicas that a plan may have.
const REPLICAS_MAX: u32 = 4096;

/// Tokens of a step below which prompts are read slowly for no room worth the name.
const STEP_MIN: u32 = 1024;

/// Tokens of a step for each sequence at most: sampling takes memory for all of them. vLLM's own defaults have as
/// many.
const STEP_OF_SEQUENCE: u32 = 8;

/// Bytes in the GiB of messages.
const GIB: f64 = 1_073_741_824.0;

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Goal {
    /// The longest context, in tokens.
    pub context: u64,
    /// Tokens of a typical prompt.
    pub prompt: u64,
    /// Tokens of a typical answer.
    pub answer: u64,
    /// Requests at once, over all replicas.
    pub concurrency: u32,
    /// Seconds to the first token, at most.
    pub ttft_seconds: Option<f64>,
    /// Seconds for each further token, at most.
    pub tpot_seconds: Option<f64>,
    /// Tokens of answers a second, at least.
    pub tokens_per_second: Option<f64>,
    /// Requests a second, at least.
    pub requests_per_second: Option<f64>,
}

/// What may be used.
#[derive(Clone, Copy, Debug)]
pub struct Means<'a> {
    /// The hardware.
    pub accelerator: &'a Accelerator,
    /// What runs the model.
    pub runtime: Runtime,
    /// What is known of the hardware's real speed.
    pub calibration: Calibration,
    /// Accelerators there are.
    pub accelerators_max: u32,
    /// The cache's type.
    pub kv_dtype: Dtype,
    /// The share of memory that the runtime may take.
    pub utilisation: f64,
    /// What was decided about the shape.
    pub ranks: Ranks,
}

/// What somebody decided about a shape; the rest is searched.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Ranks {
    /// Ranks that divide each layer.
    pub tensor: Option<u32>,
    /// Stages that divide the layers; one where only the ranks were decided and the model has room in them.
    pub pipeline: Option<u32>,
}

/// A shape that meets the goal.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candidate {
    /// The shape, with as many replicas as the goal needs.
    pub shape: Shape,
    /// Memory of each accelerator.
    pub memory: Memory,
    /// Speed of one replica, with its part of the load.
    pub speed: Speed,
    /// What it costs.
    pub accelerators: u32,
}

/// A shape that does not.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejected {
    /// The shape.
    pub shape: Shape,
    /// Why not.
    pub why: Why,
}

/// Why a shape does not meet a goal.
#[derive(Clone, Debug, PartialEq)]
pub enum Why {
    /// The model cannot have it.
    Shape(ShapeError),
    /// An accelerator lacks so many bytes.
    Memory {
        /// Bytes it lacks.
        short_bytes: u64,
    },
    /// The first token takes so long, alone on the replica.
    Ttft {
        /// Seconds it takes.
        seconds: f64,
    },
    /// A token takes so long, alone on the replica.
    Tpot {
        /// Seconds it takes.
        seconds: f64,
    },
    /// So many accelerators are needed for all replicas.
    Accelerators {
        /// As many as needed.
        needed: u32,
        /// As many as there are.
        there: u32,
    },
    /// The program is not started in it.
    Program(String),
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Shapes that meet the goal: those that surely fit first, of them the cheapest, of those the one with the
    /// shortest TPOT.
    pub candidates: Vec<Candidate>,
    /// Shapes that do not, in the order in which they were tried.
    pub rejected: Vec<Rejected>,
}

/// Searches shapes for the goal.
pub fn search(facts: &ModelFacts, means: &Means<'_>, goal: &Goal) -> Found {
    let mut found = Found::default();
    for shape in shapes(facts, means, goal) {
        match weigh(facts, means, goal, &shape) {
            Ok(candidate) => found.candidates.push(candidate),
            Err(why) => found.rejected.push(Rejected { shape, why }),
        }
    }
    found.candidates.sort_by(|one, other| {
        let tpot = |candidate: &Candidate| candidate.speed.tpot_seconds.likely;
        let unsure = |candidate: &Candidate| !surely_fits(&candidate.memory);
        unsure(one)
            .cmp(&unsure(other))
            .then(one.accelerators.cmp(&other.accelerators))
            .then(tpot(one).total_cmp(&tpot(other)))
    });
    found
}

/// Shapes worth trying: ranks within a node, stages over nodes, and for latent attention, whose
/// cache ranks do not divide, attention in parallel with experts divided.
fn shapes(facts: &ModelFacts, means: &Means<'_>, goal: &Goal) -> Vec<Shape> {
    let (batch_tokens, sequences) = means.runtime.default_batch(means.accelerator);
    let sequences = match means.runtime.slots_max() {
        Some(most) => goal.concurrency.clamp(1, most),
        None => sequences,
    };
    let graphs = !means.accelerator.is_processor();
    let single = Shape {
        batch_tokens,
        sequences,
        graphs,
        utilisation: means.utilisation,
        ..Shape::single(goal.context, means.kv_dtype)
    };
    let node = means.accelerator.per_node.max(1);
    let within = |size: &u32| *size <= node && node.is_multiple_of(*size);
    let sizes = match means.ranks.tensor {
        Some(tensor) => vec![tensor],
        None => tensor_sizes(facts).into_iter().filter(within).collect(),
    };
    let pipeline = means.ranks.pipeline.unwrap_or(1);
    let of = |tensor: &u32| {
        let expert_parallel = has_whole_experts(facts, *tensor);
        Shape { tensor: *tensor, pipeline, expert_parallel, ..single }
    };
    let mut shapes: Vec<Shape> = sizes.iter().map(of).collect();
    if means.ranks.pipeline.is_some() {
        return shapes;
    }
    let widest = sizes.last().copied().unwrap_or(1);
    // Stages make each token wait for all of them: they are for what one node surely has no room
    // for.
    let roomy =
        |shape: &Shape| fitted(facts, means, shape).is_ok_and(|(_, room)| surely_fits(&room));
    if !means.accelerator.is_processor() && !shapes.iter().any(roomy) {
        let stages = PIPELINE_MAX.min(u32::try_from(facts.layers.len()).unwrap_or(1));
        shapes.extend((2..=stages).map(|pipeline| Shape { pipeline, ..of(&widest) }));
    }
    let mixture = facts.experts.is_some_and(|experts| experts.count >= node);
    if facts.is_latent() && mixture && node > 1 && means.ranks.tensor.is_none() {
        shapes.push(Shape { data: node, expert_parallel: true, ..single });
    }
    let is_there = |shape: &Shape| shape.accelerators_per_replica() <= means.accelerators_max;
    // What was decided is answered for, whatever it takes.
    shapes
        .retain(|shape| is_there(shape) || means.ranks.tensor.is_some_and(|_| shape.pipeline == 1));
    shapes
}

/// A shape's price for the goal, or why it has none.
fn weigh(
    facts: &ModelFacts,
    means: &Means<'_>,
    goal: &Goal,
    shape: &Shape,
) -> Result<Candidate, Why> {
    let (shape, room) = fitted(facts, means, shape).map_err(Why::Shape)?;
    let each = shape.accelerators_per_replica();
    let there = means.accelerators_max;
    if each > there {
        return Err(Why::Accelerators { needed: each, there });
    }
    if !room.fits() {
        return Err(Why::Memory { short_bytes: room.short_bytes() });
    }
    let setting =
        Setting { facts, shape: &shape, accelerator: means.accelerator, runtime: means.runtime };
    let at = |concurrency: u32| {
        let load = Load { prompt: goal.prompt, answer: goal.answer, concurrency };
        setting.speed(&means.calibration, &load).map_err(Why::Shape)
    };
    let alone = at(1)?;
    check(goal, &alone)?;
    let most = most_at_once(goal, &at)?;
    let speed = at(most)?;
    let replicas = replicas(goal, &speed, most);
    let needed = each.saturating_mul(replicas);
    if needed > there {
        return Err(Why::Accelerators { needed, there });
    }
    // With more than one replica each has its part of the load, and is the faster for it.
    let speed = at(goal.concurrency.div_ceil(replicas).clamp(1, most))?;
    let sequences = match means.runtime.slots_max() {
        Some(_) => shape.sequences.min(goal.concurrency.div_ceil(replicas)).max(1),
        None => shape.sequences,
    };
    let shape = Shape { replicas, sequences, ..shape };
    Ok(Candidate { shape, memory: room, speed, accelerators: needed })
}

/// Whether a sequence fits even where the prediction is off.
fn surely_fits(room: &Memory) -> bool {
    room.missing_bytes == 0 && room.sequences.low >= 1.0
}

/// The shape with the largest step that surely leaves room for a sequence, else that likely does, else as it is;
/// and with no more sequences than there is room for, where a runtime reserves it for each.
fn fitted(
    facts: &ModelFacts,
    means: &Means<'_>,
    shape: &Shape,
) -> Result<(Shape, Memory), ShapeError> {
    let of = |shape: Shape| {
        memory(facts, &shape, means.accelerator, means.runtime).map(|room| (shape, room))
    };
    let usual = of(*shape)?;
    let halved = std::iter::successors(Some(*shape), |shape| {
        let batch_tokens = shape.batch_tokens / 2;
        let sequences = shape.sequences.min((batch_tokens / STEP_OF_SEQUENCE).max(1));
        (batch_tokens >= STEP_MIN).then_some(Shape { batch_tokens, sequences, ..*shape })
    });
    let smaller: Vec<_> = halved.skip(1).filter_map(|shape| of(shape).ok()).collect();
    let all = || std::iter::once(&usual).chain(&smaller);
    let surely = all().find(|(_, room)| surely_fits(room));
    let (shape, room) = *surely.or_else(|| all().find(|(_, room)| room.fits())).unwrap_or(&usual);
    if means.runtime.slots_max().is_none() || !room.fits() {
        return Ok((shape, room));
    }
    let most = u32::try_from(whole(room.sequences.low.floor())).unwrap_or(u32::MAX);
    of(Shape { sequences: shape.sequences.min(most.max(1)), ..shape })
}

/// Whether speeds meet what the goal says of latency.
fn check(goal: &Goal, speed: &Speed) -> Result<(), Why> {
    let over = |limit: Option<f64>, seconds: f64| limit.is_some_and(|limit| seconds > limit);
    let (ttft, tpot) = (speed.ttft_seconds.likely, speed.tpot_seconds.likely);
    if over(goal.ttft_seconds, ttft) {
        return Err(Why::Ttft { seconds: ttft });
    }
    if over(goal.tpot_seconds, tpot) {
        return Err(Why::Tpot { seconds: tpot });
    }
    Ok(())
}

/// The most requests at once with which a replica keeps to the goal's latencies: they grow with it.
fn most_at_once(goal: &Goal, at: &dyn Fn(u32) -> Result<Speed, Why>) -> Result<u32, Why> {
    let keeps = |concurrency: u32| at(concurrency).map(|speed| check(goal, &speed).is_ok());
    let (mut low, mut high) = (1, goal.concurrency.max(1).saturating_add(1));
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if keeps(middle)? { low = middle } else { high = middle }
    }
    // More than fit only wait: without a limit on the first token that would count as keeping to
    // it.
    let running = whole(at(low)?.running);
    Ok(low.min(u32::try_from(running).unwrap_or(u32::MAX)).max(1))
}

/// Replicas for the goal's concurrency and rates.
fn replicas(goal: &Goal, speed: &Speed, most: u32) -> u32 {
    let of = |wanted: Option<f64>, each: f64| {
        let count = wanted.map_or(1.0, |wanted| (wanted / each.max(f64::MIN_POSITIVE)).ceil());
        u32::try_from(whole(count)).unwrap_or(u32::MAX)
    };
    let tokens = of(goal.tokens_per_second, speed.tokens_per_second.likely);
    let requests = of(goal.requests_per_second, speed.requests_per_second.likely);
    goal.concurrency.div_ceil(most.max(1)).max(tokens).max(requests).clamp(1, REPLICAS_MAX)
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape(error) => write!(f, "{error}"),
            Self::Memory { short_bytes } => {
                let gib = *short_bytes as f64 / GIB;
                write!(f, "each accelerator lacks {gib:.1} GiB for weights and one sequence")
            }
            Self::Ttft { seconds } => {
                write!(f, "the first token takes {:.0} ms, even alone", seconds * 1e3)
            }
            Self::Tpot { seconds } => {
                write!(f, "each further token takes {:.1} ms, even alone", seconds * 1e3)
            }
            Self::Accelerators { needed, there } => {
                write!(f, "it needs {needed} accelerators, and there are {there}")
            }
            Self::Program(why) => f.write_str(why),
        }
    }
}
