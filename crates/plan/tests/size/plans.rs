//! What an expert would read: ten well-known models and a tiny one on five classes of hardware.

use std::fmt::Write as _;

use pilotage_plan::hardware::Accelerator;
use pilotage_plan::size::memory::remedies;
use pilotage_plan::size::{
    Calibration, Candidate, Config, Dtype, Found, Goal, Means, ModelFacts, Ranks, Runtime, Shape,
    search,
};
use serde_json::{Value, json};

use crate::config;

const GIB: f64 = 1_073_741_824.0;

const GOAL: Goal = Goal {
    context: 8192,
    prompt: 1024,
    answer: 256,
    concurrency: 32,
    ttft_seconds: Some(2.0),
    tpot_seconds: Some(0.05),
    tokens_per_second: None,
    requests_per_second: None,
};

/// The model, in 8 bits where its name here says so.
fn facts(name: &str) -> ModelFacts {
    let (model, eight) = match name.strip_suffix(" fp8") {
        Some(model) => (model, true),
        None => (name, false),
    };
    let mut config: Value = serde_json::from_str(&config(model)).unwrap();
    if eight {
        config["quantization_config"] =
            json!({"quant_method": "fbgemm_fp8", "modules_to_not_convert": ["lm_head"]});
    }
    Config::parse(config.to_string().as_bytes()).unwrap().facts().unwrap()
}

fn plan(facts: &ModelFacts, class: &str) -> String {
    let accelerator = Accelerator::by_id(class).unwrap();
    let processor = accelerator.is_processor();
    let runtime = if processor { Runtime::LlamaCpp } else { Runtime::VLLM };
    let means = Means {
        accelerator,
        runtime,
        calibration: Calibration::assumed(accelerator),
        accelerators_max: if processor { 1 } else { 2 * accelerator.per_node },
        kv_dtype: if processor { Dtype::F16 } else { Dtype::Bf16 },
        utilisation: 0.9,
        ranks: Ranks::default(),
    };
    let goal = if processor {
        Goal { concurrency: 4, ttft_seconds: None, tpot_seconds: Some(0.2), ..GOAL }
    } else {
        GOAL
    };
    let context = goal.context.min(facts.context_max.unwrap_or(u64::MAX));
    let goal = Goal { context, ..goal };
    let found = search(facts, &means, &goal);
    written(facts, &means, &goal, &found)
}

fn written(facts: &ModelFacts, means: &Means<'_>, goal: &Goal, found: &Found) -> String {
    let mut text = String::new();
    for candidate in found.candidates.iter().take(2) {
        writeln!(text, "    {}", line(candidate)).unwrap();
    }
    for rejected in found.rejected.iter().take(4) {
        writeln!(text, "    not {}: {}", rejected.shape, rejected.why).unwrap();
    }
    if found.candidates.is_empty() {
        let (batch_tokens, sequences) = means.runtime.default_batch(means.accelerator);
        let single =
            Shape { batch_tokens, sequences, ..Shape::single(goal.context, means.kv_dtype) };
        let widest = found.rejected.iter().map(|rejected| rejected.shape.tensor).max().unwrap_or(1);
        let shape = Shape { tensor: widest, ..single };
        let helps = remedies(facts, &shape, means.accelerator, means.runtime);
        writeln!(text, "    what would help at TP{widest}: {helps:?}").unwrap();
    }
    text
}

fn line(candidate: &Candidate) -> String {
    let Candidate { shape, memory, speed, accelerators } = candidate;
    format!(
        "{shape} on {accelerators}: weights {:.1}, steps {:.1}, cache {:.1} of {:.1} GiB each; \
         {:.0} thousand tokens ({:.0} to {:.0}); TTFT {:.0} ms, TPOT {:.1} ms ({:.1} to {:.1}), {:.0} tokens/s a replica",
        memory.weights_bytes as f64 / GIB,
        (memory.activation_bytes + memory.graph_bytes + memory.runtime_bytes) as f64 / GIB,
        memory.cache_bytes as f64 / GIB,
        memory.budget_bytes as f64 / GIB,
        memory.tokens.likely / 1e3,
        memory.tokens.low / 1e3,
        memory.tokens.high / 1e3,
        speed.ttft_seconds.likely * 1e3,
        speed.tpot_seconds.likely * 1e3,
        speed.tpot_seconds.low * 1e3,
        speed.tpot_seconds.high * 1e3,
        speed.tokens_per_second.likely,
    )
}

#[test]
fn plans_read_sensibly() {
    let models = [
        "smollm2-135m",
        "llama-3.1-8b",
        "qwen2.5-7b",
        "gemma-3-27b",
        "qwen3-30b-a3b",
        "mixtral-8x7b",
        "llama-3.1-70b",
        "gpt-oss-120b",
        "qwen3-235b-a22b",
        "llama-3.1-405b fp8",
        "deepseek-v3",
    ];
    let mut text = String::new();
    for model in models {
        let facts = facts(model);
        let billions = |count: u64| count as f64 / 1e9;
        writeln!(
            text,
            "{model}: {:.1} billion parameters, {:.1} active, {:.1} GiB of weights ({}), {:.1} KiB of cache a token",
            billions(facts.parameters),
            billions(facts.active_parameters),
            facts.weights.total() as f64 / GIB,
            facts.quantization,
            facts.kv_bytes_per_token(2.0) / 1024.0,
        )
        .unwrap();
        for class in ["l4", "a100-80", "h100-sxm", "mi300x", "xeon-amx"] {
            if class == "xeon-amx" && facts.parameters > 40_000_000_000 {
                continue;
            }
            writeln!(text, "  {class}").unwrap();
            text.push_str(&plan(&facts, class));
        }
    }
    insta::with_settings!({ snapshot_path => "snapshots", prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("plans", text);
    });
}

#[test]
fn the_same_question_has_the_same_answer() {
    let facts = facts("qwen3-30b-a3b");
    assert_eq!(plan(&facts, "h100-sxm"), plan(&facts, "h100-sxm"));
}

#[test]
fn a_published_case_is_met() {
    // Qwen2.5-7B in 16 bits on an RTX 4090: 15.2 GB of weights, 15.1 ms a token at full bandwidth,
    // 18.1 measured.
    let facts = facts("qwen2.5-7b");
    let accelerator = Accelerator::by_id("rtx-4090").unwrap();
    let shape = Shape::single(2048, Dtype::F16);
    let setting = pilotage_plan::size::Setting {
        facts: &facts,
        shape: &shape,
        accelerator,
        runtime: Runtime::VLLM,
    };
    let work = setting.decode(1.0, 512);
    let floor = facts.weights.total() as f64 / accelerator.bandwidth;
    assert!((floor - 0.0151).abs() < 0.0002, "{floor}");
    let step = Calibration::assumed(accelerator).seconds(&work);
    assert!((step / 0.0181 - 1.0).abs() < 0.1, "{step}");
}

#[test]
fn more_work_takes_longer() {
    let facts = facts("qwen3-30b-a3b");
    let accelerator = Accelerator::by_id("h100-sxm").unwrap();
    let shape = Shape::single(32_768, Dtype::Bf16);
    let setting = pilotage_plan::size::Setting {
        facts: &facts,
        shape: &shape,
        accelerator,
        runtime: Runtime::VLLM,
    };
    let calibration = Calibration::assumed(accelerator);
    let decode = |batch: f64, context| calibration.seconds(&setting.decode(batch, context));
    assert!(decode(8.0, 1000) > decode(1.0, 1000));
    assert!(decode(8.0, 8000) > decode(8.0, 1000));
    // One token reads 8 of 128 experts, many read all.
    let all = facts.weights.total() as f64 / accelerator.bandwidth;
    let one = setting.decode(1.0, 1).memory_seconds;
    let many = setting.decode(500.0, 1).memory_seconds;
    assert!(one < 0.15 * all, "{one} of {all}");
    assert!(many > 0.95 * (all - 0.02 * all), "{many} of {all}");
}
