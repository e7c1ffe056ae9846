//! What `pilotage plan` prints for well-known models on common hardware, for an expert to read: a snapshot a model.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Parser as _;
use pilotage_plan::select::propose;
use pilotage_plan::size::{Config, Gguf, ModelFacts, Partial};
use serde_json::{Value, json};

use super::{Typed, question, show};
use crate::args::PlanModel;

/// As many accelerators as machines with them usually have.
const CLASSES: [&str; 5] = ["l4", "a100-80", "h100-sxm", "mi300x", "xeon-amx"];

/// The command line without its first words.
#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    plan: PlanModel,
}

/// What somebody sees who types that.
fn printed(facts: &ModelFacts, line: &str) -> String {
    let words = std::iter::once("plan").chain(line.split(' '));
    let args = Line::try_parse_from(words).unwrap().plan;
    let typed = Typed::parse(&args, args.model.as_deref().unwrap()).unwrap();
    let question = question(&args, &typed, facts).unwrap();
    let mut text = format!("$ pilotage plan {line}\n");
    let lines = match propose(&question) {
        Ok(proposal) => show::lines(&question, &proposal, &typed.source.place()),
        Err(error) => {
            let mut lines = show::refusal_lines(&question, &error);
            lines.push(format!("error: {}", show::headline(&question, &error)));
            lines
        }
    };
    lines.iter().for_each(|line| writeln!(text, "{line}").unwrap());
    text
}

fn check(name: &str, facts: &ModelFacts, lines: &[String]) {
    let texts: Vec<String> = lines.iter().map(|line| printed(facts, line)).collect();
    insta::with_settings!({ omit_expression => true }, {
        insta::assert_snapshot!(name, texts.join("\n\n"));
    });
}

/// The model on each class, and on others besides.
fn on_all(model: &str, others: &[&str]) -> Vec<String> {
    let classes = CLASSES.iter().map(|class| format!("{model} --hardware {class}"));
    classes.chain(others.iter().map(|other| format!("{model} {other}"))).collect()
}

fn config(name: &str, change: impl FnOnce(&mut Value)) -> ModelFacts {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../plan/tests/size/models");
    let path: PathBuf = [folder, &format!("{name}.json")].iter().collect();
    let mut config: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(&mut config);
    Config::parse(config.to_string().as_bytes()).unwrap().facts().unwrap()
}

#[test]
fn llama_8b() {
    let facts = config("llama-3.1-8b", |_| {});
    check("llama-3.1-8b", &facts, &on_all("hf:meta-llama/Llama-3.1-8B-Instruct", &[]));
}

#[test]
fn llama_70b() {
    let facts = config("llama-3.1-70b", |_| {});
    check("llama-3.1-70b", &facts, &on_all("hf:meta-llama/Llama-3.1-70B-Instruct", &[]));
}

#[test]
fn llama_405b_fp8() {
    let facts = config("llama-3.1-405b", |config| {
        config["quantization_config"] = json!({
            "quant_method": "compressed-tensors",
            "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float"}}},
            "ignore": ["lm_head"],
        });
    });
    let lines =
        on_all("hf:RedHatAI/Meta-Llama-3.1-405B-Instruct-FP8", &["--hardware l4 --nodes 8"]);
    check("llama-3.1-405b-fp8", &facts, &lines);
}

#[test]
fn qwen_7b() {
    let facts = config("qwen2.5-7b", |_| {});
    check("qwen2.5-7b", &facts, &on_all("hf:Qwen/Qwen2.5-7B-Instruct", &[]));
}

#[test]
fn qwen_30b_a3b() {
    let facts = config("qwen3-30b-a3b", |_| {});
    check("qwen3-30b-a3b", &facts, &on_all("hf:Qwen/Qwen3-30B-A3B", &[]));
}

#[test]
fn mixtral() {
    let facts = config("mixtral-8x7b", |_| {});
    check("mixtral-8x7b", &facts, &on_all("hf:mistralai/Mixtral-8x7B-Instruct-v0.1", &[]));
}

#[test]
fn deepseek_v3() {
    let facts = config("deepseek-v3", |_| {});
    let others = ["--hardware h100-sxm --nodes 2", "--hardware h200 --goal throughput"];
    check("deepseek-v3", &facts, &on_all("hf:deepseek-ai/DeepSeek-V3", &others));
}

#[test]
fn gpt_oss_120b() {
    let facts = config("gpt-oss-120b", |_| {});
    check("gpt-oss-120b", &facts, &on_all("hf:openai/gpt-oss-120b", &[]));
}

#[test]
fn gemma_27b() {
    let facts = config("gemma-3-27b", |_| {});
    check("gemma-3-27b", &facts, &on_all("hf:google/gemma-3-27b-it", &[]));
}

#[test]
fn smollm_gguf() {
    let facts = match Gguf::parse(&smollm(), None).unwrap() {
        Partial::Done(gguf) => gguf.facts().unwrap(),
        Partial::Needs { end } => panic!("needs {end}"),
    };
    let model = "hf:bartowski/SmolLM2-135M-Instruct-GGUF/SmolLM2-135M-Instruct-Q8_0.gguf";
    check("smollm2-135m-gguf", &facts, &on_all(model, &["--hardware cpu-avx2"]));
}

#[test]
fn a_shape_that_was_decided_is_taken_or_refused() {
    let check = |model: &str, flags: &str, expect: &str| {
        let text = printed(&config(model, |_| {}), &format!("hf:o/{model} {flags}"));
        assert!(text.contains(expect), "{text}");
    };
    check("llama-3.1-8b", "--tensor 4", "shape     TP4 on 4 accelerators");
    check("llama-3.1-8b", "--tensor 2 --pipeline 2", "--pipeline-parallel-size 2");
    check("llama-3.1-8b", "--tensor 3", "error: tensor parallel 3 does not divide");
    check("llama-3.1-8b", "--tensor 16", "it needs 16 accelerators, and there are 8");
    check("llama-3.1-8b", "--pipeline 2 --runtime tgi", "TGI has no pipeline parallelism");
    let two = "--tensor 8 --pipeline 2 --nodes 2";
    check("llama-3.1-405b", two, "shape     TP8 PP2 on 16 accelerators");
    check("llama-3.1-405b", &format!("{two} --runtime tgi"), "TGI runs on one node");
    check("llama-3.1-405b", "--tensor 8 --runtime tgi", "each of 8 × H100 80GB HBM3 lacks");
    // Parts of its experts would cut blocks that share a scale.
    let cut = "shape     TP8 EP8 on 8 accelerators";
    check("qwen3-235b-a22b-fp8", "--tensor 8 --hardware h200", cut);
}

#[test]
fn remedies_are_what_the_runtime_can_do() {
    let facts = config("llama-3.1-405b", |_| {});
    let by = |runtime: &str| printed(&facts, &format!("hf:o/m --runtime {runtime}"));
    assert!(by("vllm").contains("2 stages by pipeline parallelism: --nodes 2"));
    assert!(!by("tgi").contains("pipeline parallelism"));
}

/// The header of SmolLM2-135M as llama.cpp's converter writes it, all matrices in Q8_0.
fn smollm() -> Vec<u8> {
    const F32: u32 = 0;
    const Q8_0: u32 = 8;
    let (width, inner, key, layers) = (576, 1536, 192, 30);
    let mut tensors = vec![
        ("token_embd.weight".to_owned(), vec![width, 49_152], Q8_0),
        ("output_norm.weight".to_owned(), vec![width], F32),
    ];
    for layer in 0..layers {
        let mut tensor = |name: &str, shape: &[u64], kind: u32| {
            tensors.push((format!("blk.{layer}.{name}.weight"), shape.to_vec(), kind));
        };
        tensor("attn_norm", &[width], F32);
        tensor("attn_q", &[width, width], Q8_0);
        tensor("attn_k", &[width, key], Q8_0);
        tensor("attn_v", &[width, key], Q8_0);
        tensor("attn_output", &[width, width], Q8_0);
        tensor("ffn_norm", &[width], F32);
        tensor("ffn_gate", &[width, inner], Q8_0);
        tensor("ffn_up", &[width, inner], Q8_0);
        tensor("ffn_down", &[inner, width], Q8_0);
    }
    let numbers = [
        ("general.file_type", 7),
        ("llama.block_count", 30),
        ("llama.context_length", 8192),
        ("llama.embedding_length", 576),
        ("llama.feed_forward_length", 1536),
        ("llama.attention.head_count", 9),
        ("llama.attention.head_count_kv", 3),
        ("llama.vocab_size", 49_152),
    ];
    let mut file = b"GGUF".to_vec();
    file.extend(3_u32.to_le_bytes());
    file.extend((tensors.len() as u64).to_le_bytes());
    file.extend((numbers.len() as u64 + 1).to_le_bytes());
    let text = |file: &mut Vec<u8>, text: &str| {
        file.extend((text.len() as u64).to_le_bytes());
        file.extend(text.as_bytes());
    };
    text(&mut file, "general.architecture");
    file.extend(8_u32.to_le_bytes());
    text(&mut file, "llama");
    for (name, value) in numbers {
        text(&mut file, name);
        file.extend(4_u32.to_le_bytes());
        file.extend(u32::to_le_bytes(value));
    }
    for (name, shape, kind) in tensors {
        text(&mut file, &name);
        file.extend(u32::try_from(shape.len()).unwrap().to_le_bytes());
        shape.iter().for_each(|side| file.extend(side.to_le_bytes()));
        file.extend(kind.to_le_bytes());
        file.extend(0_u64.to_le_bytes());
    }
    file
}
