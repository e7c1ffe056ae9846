//! Which shape of a model is worth its hardware? The same requests, played by simulated engines of every shape
//! whose times a roofline gives, and those marked that no other beats in everything.

use pilotage_core::Span;
use pilotage_plan::hardware::Accelerator;
use pilotage_plan::size::memory::{memory, tensor_sizes};
use pilotage_plan::size::{Calibration, Dtype, ModelFacts, Runtime, Setting, Shape};
use serde::Serialize;

use crate::engine::EngineModel;
use crate::report::Rounded;
use crate::run::{Fate, Options, run};
use crate::scenario::{Replica, Scenario};

/// Ways that are tried at most.
pub const WAYS_MAX: usize = 400;

/// Most KV tokens of an engine that is simulated: blocks are kept one by one.
const KV_TOKENS_MAX: f64 = 4e6;

/// Tokens a step and sequences at once that are tried.
const STEP_TOKENS: [u32; 3] = [512, 2048, 8192];
const SEQUENCES: [u32; 2] = [64, 256];

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
    /// Accelerators there are.
    pub accelerators_max: u32,
    /// Tokens of context, prompt and answer together.
    pub context: u64,
}

/// What is wanted of each request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Seconds to the first token, at most.
    pub ttft_seconds: Option<f64>,
    /// Seconds for each further token, at most.
    pub tpot_seconds: Option<f64>,
}

/// One way to run the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Way {
    /// Its shape.
    pub shape: Shape,
    /// What one replica does.
    pub engine: EngineModel,
}

/// What a way came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tried {
    /// Its shape.
    pub shape: Shape,
    /// The shape in a few words.
    pub name: String,
    /// Accelerators of all replicas.
    pub accelerators: u32,
    /// The 99th percentile of times to the first token, in seconds.
    pub ttft_p99: Rounded,
    /// The 99th percentile of times for each further token, in seconds.
    pub tpot_p99: Rounded,
    /// Requests a second that were as good as wanted.
    pub goodput: Rounded,
    /// The part of requests that were.
    pub good: Rounded,
    /// Requests that were refused or not finished.
    pub lost: u64,
    /// Whether no other way is as good in everything and better in something, or equal and before it.
    pub best: bool,
}

/// The ways there are, the smallest first.
pub fn ways(means: &Means<'_>) -> Vec<Way> {
    let node = means.accelerator.per_node.max(1);
    let plain = if means.facts.dtype == Dtype::F16 { Dtype::F16 } else { Dtype::Bf16 };
    let narrow = means.accelerator.computes(Dtype::Fp8).then_some(Dtype::Fp8);
    let mut ways = Vec::new();
    for tensor in tensor_sizes(means.facts).into_iter().filter(|size| *size <= node) {
        for kv_dtype in [Some(plain), narrow].into_iter().flatten() {
            for batch_tokens in STEP_TOKENS {
                for sequences in SEQUENCES {
                    let graphs = !means.accelerator.is_processor();
                    let shape = Shape {
                        tensor,
                        batch_tokens,
                        sequences,
                        graphs,
                        ..Shape::single(means.context, kv_dtype)
                    };
                    replicated(means, shape, &mut ways);
                }
            }
        }
    }
    ways.sort_by_key(|way| (way.shape.accelerators(), way.shape.tensor));
    ways.truncate(WAYS_MAX);
    ways
}

/// A shape with every number of replicas that there are accelerators for, doubling.
fn replicated(means: &Means<'_>, shape: Shape, ways: &mut Vec<Way>) {
    let Some(engine) = engine(means, &shape) else { return };
    let mut replicas = 1;
    while replicas * shape.tensor <= means.accelerators_max {
        ways.push(Way { shape: Shape { replicas, ..shape }, engine: engine.clone() });
        replicas *= 2;
    }
}

/// An engine of that shape; none where it does not fit.
pub fn engine(means: &Means<'_>, shape: &Shape) -> Option<EngineModel> {
    let room = memory(means.facts, shape, means.accelerator, means.runtime).ok()?;
    if !room.fits() {
        return None;
    }
    let Means { facts, accelerator, runtime, .. } = *means;
    let setting = Setting { facts, shape, accelerator, runtime };
    let step =
        |batch: f64, context: u64| means.calibration.seconds(&setting.decode(batch, context)) * 1e3;
    let chunk = u64::from(shape.batch_tokens);
    let prompt = |tokens: u64| means.calibration.seconds(&setting.prefill(tokens)) * 1e3;
    let token = (prompt(chunk) - prompt(chunk / 2)) / (chunk - chunk / 2) as f64;
    let kv = (step(BATCH, 2 * CONTEXT) - step(BATCH, CONTEXT)) / (BATCH * CONTEXT as f64);
    let each = (step(BATCH, CONTEXT) - step(1.0, CONTEXT)) / (BATCH - 1.0);
    let sequence = (each - kv * CONTEXT as f64).max(0.0);
    let base = step(1.0, CONTEXT) - sequence - kv * CONTEXT as f64;
    Some(EngineModel {
        name: shape.to_string(),
        // Where a step reads prompts, weights are read for both.
        prefill_ms: (prompt(chunk) - token * chunk as f64).max(0.0),
        prefill_ms_per_token: token,
        step_ms: base.max(0.0),
        step_ms_per_sequence: sequence,
        step_ms_per_kv_token: kv,
        kv_tokens: room.tokens.likely.min(KV_TOKENS_MAX) as u64,
        sequences_max: shape.sequences,
        step_tokens_max: Some(shape.batch_tokens),
        ..EngineModel::preset("vllm-like")?
    })
}

/// Plays the scenario's requests with a way's engines in place of its own.
pub fn try_out(scenario: &Scenario, way: &Way, limits: Limits) -> Tried {
    let replica =
        Replica { engine: way.engine.clone(), slowness: 1.0, network: Span::ZERO, region: 0 };
    let replicas = vec![replica; way.shape.replicas as usize];
    let scenario = Scenario { engine: way.engine.clone(), replicas, ..scenario.clone() };
    let played = run(&scenario, Options::default(), &mut |_, _| {});
    let (mut firsts, mut nexts) = (Vec::new(), Vec::new());
    let (mut good, mut lost, mut counted) = (0_u64, 0_u64, 0_u64);
    for (arrival, record) in scenario.arrivals.iter().zip(&played.records) {
        if arrival.at < scenario.warm {
            continue;
        }
        counted += 1;
        let (Some(Fate::Served), Some(first), Some(end)) =
            (record.fate, record.first_token, record.end)
        else {
            lost += 1;
            continue;
        };
        let ttft = first.since(arrival.at).as_secs_f64();
        let after = record.generated.saturating_sub(1);
        let tpot = end.since(first).as_secs_f64() / f64::from(after.max(1));
        good += u64::from(limits.hold(ttft, tpot));
        firsts.push(ttft);
        nexts.push(tpot);
    }
    let last = scenario.arrivals.last().map_or(scenario.warm, |arrival| arrival.at);
    let seconds = last.since(scenario.warm).as_secs_f64().max(1.0);
    Tried {
        shape: way.shape,
        name: name(&way.shape),
        accelerators: way.shape.accelerators(),
        ttft_p99: p99(firsts).into(),
        tpot_p99: p99(nexts).into(),
        goodput: (good as f64 / seconds).into(),
        good: (good as f64 / counted.max(1) as f64).into(),
        lost,
        best: false,
    }
}

/// Marks those that no other beats: in accelerators, times and the part that is good. Of equals the first is
/// marked; what loses requests is beaten.
pub fn mark_best(tried: &mut [Tried]) {
    let beats = |(place, one): (usize, &Tried), (other_place, other): (usize, &Tried)| {
        let pairs = [
            (f64::from(one.accelerators), f64::from(other.accelerators)),
            (one.ttft_p99.get(), other.ttft_p99.get()),
            (one.tpot_p99.get(), other.tpot_p99.get()),
            (-one.good.get(), -other.good.get()),
        ];
        let is_better = pairs.iter().any(|(one, other)| one < other);
        pairs.iter().all(|(one, other)| one <= other) && (is_better || place < other_place)
    };
    let best: Vec<bool> = tried
        .iter()
        .enumerate()
        .map(|one| {
            let others = tried.iter().enumerate().filter(|(_, other)| other.lost == 0);
            one.1.lost == 0 && !others.into_iter().any(|other| beats(other, one))
        })
        .collect();
    tried.iter_mut().zip(best).for_each(|(one, best)| one.best = best);
}

impl Limits {
    fn hold(&self, ttft: f64, tpot: f64) -> bool {
        self.ttft_seconds.is_none_or(|most| ttft <= most)
            && self.tpot_seconds.is_none_or(|most| tpot <= most)
    }
}

fn name(shape: &Shape) -> String {
    format!(
        "{shape}, {} tokens a step, {} sequences, {} cache",
        shape.batch_tokens, shape.sequences, shape.kv_dtype
    )
}

fn p99(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    let rank = (0.99 * times.len() as f64).ceil() as usize;
    times.get(rank.max(1) - 1).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use pilotage_plan::size::Config;

    use super::*;

    const CONFIG: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096,
        "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 8192,
        "torch_dtype": "bfloat16", "tie_word_embeddings": false}"#;

    fn facts() -> ModelFacts {
        Config::parse(CONFIG.as_bytes()).unwrap().facts().unwrap()
    }

    fn means<'a>(facts: &'a ModelFacts, id: &str, most: u32) -> Means<'a> {
        let accelerator = Accelerator::by_id(id).unwrap();
        Means {
            facts,
            accelerator,
            runtime: Runtime::VLLM,
            calibration: Calibration::assumed(accelerator),
            accelerators_max: most,
            context: 8192,
        }
    }

    fn scenario(rate: f64) -> Scenario {
        let text = format!(
            "name: t\ntenants: [{{name: all}}]\nworkloads:\n- seconds: 20\n  arrivals: {{poisson: {{perSecond: {rate}}}}}\n  \
             requests: [{{tenant: all, input: 512, output: 64}}]\n"
        );
        Scenario::read("t", &text, Some(7), &|_| Err(String::new())).unwrap()
    }

    #[test]
    fn an_engine_is_as_fast_as_the_roofline_says() {
        let facts = facts();
        let means = means(&facts, "h100-sxm", 8);
        let shape = Shape::single(8192, Dtype::Bf16);
        let made = engine(&means, &shape).unwrap();
        let setting = Setting {
            facts: &facts,
            shape: &shape,
            accelerator: means.accelerator,
            runtime: means.runtime,
        };
        for (batch, context) in [(1.0, 1024), (16.0, 1024), (8.0, 2048), (16.0, 512)] {
            let expect = means.calibration.seconds(&setting.decode(batch, context)) * 1e3;
            let found = made.step_ms
                + batch * (made.step_ms_per_sequence + made.step_ms_per_kv_token * context as f64);
            assert!((found / expect - 1.0).abs() < 0.05, "{batch} {context}: {found} {expect}");
        }
        let expect = means.calibration.seconds(&setting.prefill(2048)) * 1e3;
        let found = made.prefill_ms + made.prefill_ms_per_token * 2048.0;
        assert!((found / expect - 1.0).abs() < 0.05, "{found} {expect}");
    }

    #[test]
    fn ways_fit_and_stay_within_their_means() {
        let facts = facts();
        let all = ways(&means(&facts, "h100-sxm", 4));
        assert!(all.len() > 10 && all.len() <= WAYS_MAX, "{}", all.len());
        assert!(all.iter().all(|way| way.shape.accelerators() <= 4));
        assert!(ways(&means(&facts, "t4", 1)).is_empty(), "16 GB do not hold it with 8192 tokens");
    }

    #[test]
    fn more_hardware_is_faster_and_neither_beats_the_other() {
        let facts = facts();
        let means = means(&facts, "h100-sxm", 4);
        let all = ways(&means);
        let scenario = scenario(4.0);
        let is_plain = |way: &&Way| {
            way.shape.batch_tokens == 2048
                && way.shape.sequences == 256
                && way.shape.kv_dtype == Dtype::Bf16
                && way.shape.replicas == 1
        };
        let limits = Limits { ttft_seconds: Some(10.0), tpot_seconds: Some(1.0) };
        let mut tried: Vec<Tried> =
            all.iter().filter(is_plain).map(|way| try_out(&scenario, way, limits)).collect();
        assert_eq!(tried.iter().map(|one| one.accelerators).collect::<Vec<_>>(), [1, 2, 4]);
        assert!(tried.windows(2).all(|pair| pair[1].tpot_p99 < pair[0].tpot_p99), "{tried:?}");
        let again: Vec<Tried> =
            all.iter().filter(is_plain).map(|way| try_out(&scenario, way, limits)).collect();
        assert_eq!(tried, again, "the same seed gives the same");
        mark_best(&mut tried);
        assert!(tried.iter().all(|one| one.best && one.good.get() == 1.0), "{tried:?}");
        // One that is slower with more is beaten, and so is one that loses requests.
        let slow = Tried { accelerators: 8, ttft_p99: 99.0.into(), ..tried[0].clone() };
        let lossy = Tried { lost: 1, ttft_p99: 0.0.into(), ..tried[0].clone() };
        tried.extend([slow, lossy]);
        mark_best(&mut tried);
        assert_eq!(
            tried.iter().map(|one| one.best).collect::<Vec<_>>(),
            [true, true, true, false, false]
        );
    }
}
