//! The ways to run a model with what there is, and how fast the engines of each are by the roofline.

use pilotage_plan::hardware::Accelerator;
use pilotage_plan::size::memory::{has_whole_experts, memory, tensor_sizes};
use pilotage_plan::size::{Calibration, Dtype, ModelFacts, Runtime, Setting, Shape};

use crate::engine::EngineModel;

/// Ways that are tried at most. Where there are more, those stay whose steps are as runtimes have them by themselves.
pub const WAYS_MAX: usize = 400;

/// Stages that are tried at most.
const STAGES_MAX: u32 = 16;

/// Most KV tokens of an engine that is simulated: blocks are kept one by one.
const KV_TOKENS_MAX: f64 = 4e6;

/// Tokens a step and sequences at once that are tried, the usual first.
const STEP_TOKENS: [u32; 3] = [2048, 8192, 1024];
const SEQUENCES: [u32; 2] = [256, 64];

/// Sequences and context that lines are drawn through.
const BATCH: f64 = 16.0;
const CONTEXT: u64 = 1024;

/// What may be used.
#[derive(Clone, Copy, Debug)]
pub struct Means<'a> {
    /// The model.
    pub facts: &'a ModelFacts,
    /// The hardware.
    pub accelerator: &'a Accelerator,
    /// What runs the model.
    pub runtime: Runtime,
    /// How much of the hardware's rates is reached.
    pub calibration: Calibration,
    /// Nodes there are.
    pub nodes: u32,
    /// Accelerators there are, on all nodes together.
    pub accelerators_max: u32,
    /// Tokens of context, prompt and answer together.
    pub context: u64,
}

/// One way to run the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Way {
    /// Its shape.
    pub shape: Shape,
    /// What one replica does.
    pub engine: EngineModel,
}

/// The ways there are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ways {
    /// The smallest first.
    pub list: Vec<Way>,
    /// How many more there would be.
    pub left_out: usize,
}

/// The ways there are of those that a program `starts`.
pub fn ways(means: &Means<'_>, starts: &dyn Fn(&Shape) -> bool) -> Ways {
    let mut ranked = Vec::new();
    for layout in layouts(means).into_iter().filter(starts) {
        for (rank, shape) in settings(means, layout).into_iter().enumerate() {
            let Some(engine) = engine(means, &shape) else { continue };
            let each = shape.accelerators_per_replica();
            let doubled = std::iter::successors(Some(1_u32), |replicas| replicas.checked_mul(2));
            let fitting = doubled
                .take_while(|replicas| replicas.saturating_mul(each) <= means.accelerators_max);
            ranked.extend(fitting.map(|replicas| {
                (rank, Way { shape: Shape { replicas, ..shape }, engine: engine.clone() })
            }));
        }
    }
    let order = |way: &Way| {
        let Shape { tensor, pipeline, data, .. } = way.shape;
        (way.shape.accelerators(), pipeline, data, tensor)
    };
    ranked.sort_by_key(|(rank, way)| (*rank, order(way)));
    let left_out = ranked.len().saturating_sub(WAYS_MAX);
    ranked.truncate(WAYS_MAX);
    let mut list: Vec<Way> = ranked.into_iter().map(|(_, way)| way).collect();
    list.sort_by_key(order);
    Ways { list, left_out }
}

/// How layers, stages and experts may be divided: ranks within a node first; stages within it, where links are slow
/// enough that they may be worth it; then stages of a node each. Experts whole on their ranks with attention in
/// parallel: with ranks that divide attention, too, they read as much as divided experts do, and are no other way.
fn layouts(means: &Means<'_>) -> Vec<Shape> {
    let Means { facts, accelerator, nodes, .. } = *means;
    let node = accelerator.per_node.max(1);
    let single = Shape {
        graphs: !accelerator.is_processor(),
        ..Shape::single(
            means.context,
            if facts.dtype == Dtype::F16 { Dtype::F16 } else { Dtype::Bf16 },
        )
    };
    let of = |tensor: u32, pipeline: u32| Shape {
        tensor,
        pipeline,
        expert_parallel: has_whole_experts(facts, tensor),
        ..single
    };
    let sizes: Vec<u32> = tensor_sizes(facts).into_iter().filter(|size| *size <= node).collect();
    let mut found: Vec<Shape> = sizes.iter().map(|tensor| of(*tensor, 1)).collect();
    if accelerator.is_processor() {
        return found;
    }
    let stages_max = STAGES_MAX.min(u32::try_from(facts.layers.len()).unwrap_or(u32::MAX));
    for tensor in &sizes {
        let within = [2, 4, 8, 16].into_iter().filter(|stages| tensor * stages <= node);
        found.extend(within.map(|stages| of(*tensor, stages)));
        let experts = facts.experts.map_or(0, |experts| experts.count);
        let parallel = [2, 4, 8, 16].into_iter();
        let parallel = parallel.filter(|data| tensor * data <= node && tensor * data <= experts);
        let whole = |data| Shape { data, expert_parallel: true, ..of(*tensor, 1) };
        found.extend(parallel.map(whole));
    }
    let widest = sizes.last().copied().unwrap_or(1);
    found.extend((2..=nodes).map(|stages| of(widest, stages)));
    found.retain(|shape| {
        shape.pipeline <= stages_max && shape.accelerators_per_replica() <= means.accelerators_max
    });
    found.dedup();
    found
}

/// A layout with the steps and caches that are tried, the usual first.
fn settings(means: &Means<'_>, layout: Shape) -> Vec<Shape> {
    let narrow = means.accelerator.computes(Dtype::Fp8).then_some(Dtype::Fp8);
    let mut found = Vec::new();
    for batch_tokens in STEP_TOKENS {
        for sequences in SEQUENCES {
            for kv_dtype in [Some(layout.kv_dtype), narrow].into_iter().flatten() {
                found.push(Shape { kv_dtype, batch_tokens, sequences, ..layout });
            }
        }
    }
    found
}

/// An engine of that shape; none where it does not fit. Ranks with attention of their own share a step's sequences
/// and prompts evenly, and each stage has a part of the step under way.
pub fn engine(means: &Means<'_>, shape: &Shape) -> Option<EngineModel> {
    let room = memory(means.facts, shape, means.accelerator, means.runtime).ok()?;
    if !room.fits() {
        return None;
    }
    let Means { facts, accelerator, runtime, .. } = *means;
    let setting = Setting { facts, shape, accelerator, runtime };
    let data = f64::from(shape.data.max(1));
    let step = |batch: f64, context: u64| {
        means.calibration.seconds(&setting.decode((batch / data).max(1.0), context)) * 1e3
    };
    let chunk = u64::from(shape.batch_tokens);
    let prompt = |tokens: u64| means.calibration.seconds(&setting.prefill(tokens)) * 1e3;
    let token = (prompt(chunk) - prompt(chunk / 2)) / (chunk - chunk / 2) as f64;
    // With fewer than one sequence a rank some ranks have nothing to do, and nothing is shared.
    let (few, many) = (data, BATCH * data);
    let kv = (step(many, 2 * CONTEXT) - step(many, CONTEXT)) / (many * CONTEXT as f64);
    let each = (step(many, CONTEXT) - step(few, CONTEXT)) / (many - few);
    let sequence = (each - kv * CONTEXT as f64).max(0.0);
    let base = step(few, CONTEXT) - few * (sequence + kv * CONTEXT as f64);
    let parts = shape.pipeline.max(1).saturating_mul(shape.data.max(1));
    Some(EngineModel {
        name: shape.to_string(),
        // Where a step reads prompts, weights are read for both.
        prefill_ms: (prompt(chunk) - token * chunk as f64).max(0.0),
        prefill_ms_per_token: token / data,
        step_ms: base.max(0.0),
        step_ms_per_sequence: sequence,
        step_ms_per_kv_token: kv,
        kv_tokens: room.tokens.likely.min(KV_TOKENS_MAX) as u64,
        sequences_max: shape.sequences.saturating_mul(shape.data.max(1)),
        step_tokens_max: Some(shape.batch_tokens.saturating_mul(parts)),
        stages: shape.pipeline.max(1),
        ..EngineModel::preset("vllm-like")?
    })
}
