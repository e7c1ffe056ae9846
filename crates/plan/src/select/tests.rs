//! Which program is taken for what.

use super::{Aim, Selection, Wish, select};
use crate::hardware::Accelerator;
use crate::launch::{Adapter, Engine, Features};
use crate::size::facts::Evidence;
use crate::size::{
    Attention, Dtype, Experts, Format, Layer, Modalities, ModelFacts, Quantization, Task,
    WeightBytes,
};

fn facts(architecture: &str, family: &str) -> ModelFacts {
    let attention = Attention::Full { kv_heads: 8, pair_width: 256 };
    ModelFacts {
        architecture: architecture.to_owned(),
        family: family.to_owned(),
        task: Task::Generate,
        modalities: Modalities::default(),
        format: Format::Safetensors,
        quantization: Quantization::None,
        dtype: Dtype::Bf16,
        known_from: Evidence::Config,
        parameters: 8_030_261_248,
        active_parameters: 8_030_261_248,
        weights: WeightBytes::default(),
        layers: vec![Layer { attention, experts: false }; 32],
        hidden: 4096,
        intermediate: 14_336,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        vocabulary: 128_256,
        context_max: Some(131_072),
        rotary_rows: 131_072,
        experts: None,
    }
}

fn llama() -> ModelFacts {
    facts("LlamaForCausalLM", "llama")
}

fn gguf() -> ModelFacts {
    let quantization = Quantization::Gguf { name: "Q4_K_M".to_owned() };
    ModelFacts { format: Format::Gguf, quantization, ..facts("llama", "llama") }
}

fn deepseek() -> ModelFacts {
    let attention = Attention::Latent { rank: 512, rope: 64, index_bytes: 0 };
    let experts = Experts { count: 256, per_token: 8, shared: 1, intermediate: 2048 };
    ModelFacts {
        layers: vec![Layer { attention, experts: true }; 61],
        experts: Some(experts),
        quantization: Quantization::Fp8 { block: Some(128) },
        ..facts("DeepseekV3ForCausalLM", "deepseek_v3")
    }
}

struct Case {
    facts: ModelFacts,
    hardware: &'static str,
    aim: Aim,
    nodes: u32,
    features: Features,
    asked: Option<Engine>,
    installed: Option<Vec<Engine>>,
}

fn case(facts: ModelFacts, hardware: &'static str, aim: Aim) -> Case {
    let features = Features::default();
    Case { facts, hardware, aim, nodes: 1, features, asked: None, installed: None }
}

fn run(case: &Case) -> Selection {
    select(&Wish {
        facts: &case.facts,
        accelerator: Accelerator::by_id(case.hardware).unwrap(),
        nodes: case.nodes,
        features: &case.features,
        aim: case.aim,
        asked: case.asked,
        installed: case.installed.as_deref(),
    })
}

fn check(case: Case, expect: Option<Engine>) -> Selection {
    let selection = run(&case);
    assert_eq!(selection.engine, expect, "{selection:#?}");
    selection
}

#[test]
fn the_format_and_the_hardware_decide_first() {
    check(case(gguf(), "cpu-avx2", Aim::Edge), Some(Engine::Embedded));
    check(case(gguf(), "apple-m4-max", Aim::Balance), Some(Engine::LlamaCpp));
    check(case(gguf(), "rtx-4090", Aim::Balance), Some(Engine::LlamaCpp));
    check(case(gguf(), "jetson-orin", Aim::Edge), Some(Engine::LlamaCpp));
    check(case(llama(), "h100-sxm", Aim::Balance), Some(Engine::Vllm));
    check(case(llama(), "mi300x", Aim::Throughput), Some(Engine::Vllm));
    check(case(llama(), "epyc-zen4", Aim::Edge), Some(Engine::Vllm));
    check(case(llama(), "tpu-v6e", Aim::Balance), Some(Engine::Vllm));
    check(case(llama(), "jetson-orin", Aim::Edge), Some(Engine::Sglang));
    let none = check(case(llama(), "v100-32", Aim::Balance), None);
    assert!(none.reason.contains("converted to GGUF"), "{}", none.reason);
    let none = check(case(llama(), "apple-m4", Aim::Edge), None);
    assert!(none.reason.contains("converted to GGUF"), "{}", none.reason);
}

#[test]
fn the_aim_decides_among_those_that_can() {
    check(case(deepseek(), "h200", Aim::Throughput), Some(Engine::Sglang));
    check(case(deepseek(), "h200", Aim::Balance), Some(Engine::Vllm));
    check(case(llama(), "h100-sxm", Aim::Standard), Some(Engine::Vllm));
    let fp4 = ModelFacts { quantization: Quantization::Nvfp4, ..llama() };
    check(case(fp4.clone(), "b200", Aim::Throughput), Some(Engine::TensorRtLlm));
    check(case(fp4, "h100-sxm", Aim::Throughput), Some(Engine::Vllm));
}

#[test]
fn models_that_are_not_listed_are_refused() {
    let old = facts("MPTForCausalLM", "mpt");
    let selection = check(case(old, "a100-80", Aim::Balance), Some(Engine::Tgi));
    let vllm = selection.others.iter().find(|other| other.engine == Engine::Vllm).unwrap();
    assert_eq!(selection.warning, None);
    assert!(selection.reason.starts_with("it lists the model type mpt"), "{}", selection.reason);
    assert_eq!(vllm.reason, "has not had MPTForCausalLM since 0.28.0");
    check(case(facts("NobodyForCausalLM", "nobody"), "h100-sxm", Aim::Balance), None);
}

#[test]
fn names_that_nothing_knows_are_said() {
    let made_up = || facts("TotallyMadeUp", "llama");
    let selection = check(case(made_up(), "h100-sxm", Aim::Balance), Some(Engine::Tgi));
    assert!(selection.reason.starts_with("no runtime lists TotallyMadeUp"), "{}", selection.reason);
    let warning = selection.warning.unwrap();
    assert!(warning.contains("`TotallyMadeUp` is not known"), "{warning}");
    assert!(warning.contains("TGI runs it as a model of the type `llama`"), "{warning}");
    let other = |engine| selection.others.iter().find(|other| other.engine == engine).unwrap();
    assert_eq!(other(Engine::DeepSpeed).reason, "may run it too, by the model type `llama`");
    assert_eq!(other(Engine::Vllm).reason, "does not list TotallyMadeUp");

    let mut asked = case(made_up(), "h100-sxm", Aim::Balance);
    asked.asked = Some(Engine::Tgi);
    let selection = check(asked, Some(Engine::Tgi));
    assert!(!selection.reason.contains("runs this"), "{}", selection.reason);
    assert!(selection.warning.is_some());

    let nobody = facts("TotallyMadeUp", "made_up");
    let none = check(case(nobody, "h100-sxm", Aim::Balance), None);
    assert!(none.reason.starts_with("unknown architecture `TotallyMadeUp`"), "{}", none.reason);
    let known = check(case(llama(), "h100-sxm", Aim::Balance), Some(Engine::Vllm));
    assert_eq!(known.warning, None);
    let unnamed = check(case(facts("llama", "llama"), "h100-sxm", Aim::Balance), Some(Engine::Tgi));
    assert_eq!(unnamed.warning, None);
}

#[test]
fn features_refuse() {
    let mut with = case(llama(), "h100-sxm", Aim::Balance);
    with.features.adapters = vec![Adapter { name: "a".to_owned(), path: "/a".to_owned() }];
    with.installed = Some(vec![Engine::TensorRtLlm, Engine::Tgi]);
    check(with, Some(Engine::Tgi));
    let mut with = case(llama(), "h100-sxm", Aim::Balance);
    with.features.kv_events = true;
    with.installed = Some(vec![Engine::Tgi]);
    check(with, None);
    let embed = ModelFacts { task: Task::Embed, ..facts("Qwen3ForCausalLM", "qwen3") };
    check(case(embed, "l4", Aim::Balance), Some(Engine::Vllm));
    let sees = Modalities { vision: true, audio: false };
    let vision = ModelFacts {
        modalities: sees,
        ..facts("Qwen2_5_VLForConditionalGeneration", "qwen2_5_vl")
    };
    check(case(vision, "l40s", Aim::Throughput), Some(Engine::Vllm));
    let vision = ModelFacts { modalities: sees, ..gguf() };
    check(case(vision, "cpu-avx2", Aim::Edge), Some(Engine::LlamaCpp));
}

#[test]
fn who_was_asked_for_is_taken_or_refused() {
    let mut asked = case(gguf(), "rtx-4090", Aim::Balance);
    asked.asked = Some(Engine::Ollama);
    check(asked, Some(Engine::Ollama));
    let mut asked = case(gguf(), "h100-sxm", Aim::Balance);
    asked.asked = Some(Engine::Vllm);
    let selection = check(asked, None);
    assert_eq!(selection.reason, "vLLM reads safetensors, not GGUF");
    let mut asked = case(llama(), "h100-sxm", Aim::Balance);
    asked.asked = Some(Engine::Tgi);
    asked.nodes = 2;
    let selection = check(asked, None);
    assert_eq!(selection.reason, "TGI runs on one node, and 2 are needed");
}

#[test]
fn everybody_gets_a_reason() {
    let cases = [
        ("llama on h100, throughput", case(llama(), "h100-sxm", Aim::Throughput)),
        ("deepseek on h200, throughput", case(deepseek(), "h200", Aim::Throughput)),
        ("gguf on a desktop", case(gguf(), "cpu-avx2", Aim::Edge)),
        ("llama on mi300x", case(llama(), "mi300x", Aim::Balance)),
    ];
    let mut text = String::new();
    for (title, case) in cases {
        let selection = run(&case);
        assert_eq!(selection.others.len() + usize::from(selection.engine.is_some()), 9);
        let name = selection.engine.map_or("none", Engine::name);
        text.push_str(&format!("{title}\n  {name}: {}\n", selection.reason));
        for other in selection.others {
            let mark = if other.can { "could" } else { "cannot" };
            text.push_str(&format!("  {mark} {}: {}\n", other.engine, other.reason));
        }
    }
    insta::assert_snapshot!(text);
}
