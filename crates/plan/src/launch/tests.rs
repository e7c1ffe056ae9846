//! What each program is started with, and what is said of arguments that it does not take.

use proptest::prelude::*;

use crate::hardware::Accelerator;
use crate::launch::{
    Adapter, Engine, Features, Launch, LaunchError, Version, Weights, check_extra, flags, spec,
};
use crate::render::process::WeightsSpec;
use crate::size::{Dtype, Shape};

fn launch(hardware: &str, tensor: u32, pipeline: u32) -> Launch {
    let accelerator = *Accelerator::by_id(hardware).unwrap();
    let shape = Shape { tensor, pipeline, ..Shape::single(8192, Dtype::Bf16) };
    Launch {
        served: "llama".to_owned(),
        weights: Weights::Local,
        weight_bytes: Some(16_060_522_496),
        shape,
        accelerator,
        cache_bytes: None,
        threads: None,
        version: None,
        features: Features::default(),
        has_key: true,
        extra: Vec::new(),
    }
}

fn small(hardware: &str) -> Launch {
    let mut launch = launch(hardware, 1, 1);
    launch.shape.sequences = 8;
    launch.shape.batch_tokens = 512;
    launch.threads = Some(4);
    launch
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[test]
fn one_node_of_each() {
    for engine in Engine::ALL {
        let launch = match engine {
            Engine::Embedded | Engine::LlamaCpp | Engine::Ollama => small("epyc-zen4"),
            _ => launch("h100-sxm", 2, 1),
        };
        let spec = spec(engine, &launch).unwrap();
        let text = serde_json::to_string_pretty(&spec).unwrap();
        insta::assert_snapshot!(format!("one_{}", engine.name()), text);
    }
}

#[test]
fn two_nodes_where_it_can() {
    for engine in [Engine::Vllm, Engine::Sglang, Engine::TensorRtLlm, Engine::LlamaCpp] {
        let mut launch = launch("h100-sxm", 8, 2);
        launch.weights = Weights::Repository {
            id: "meta-llama/Llama-3.1-405B-Instruct".to_owned(),
            revision: None,
        };
        let spec = spec(engine, &launch).unwrap();
        assert_eq!(spec.nodes, 2, "{engine}");
        let text = serde_json::to_string_pretty(&spec).unwrap();
        insta::assert_snapshot!(format!("two_{}", engine.name()), text);
    }
}

#[test]
fn two_nodes_where_it_cannot() {
    let check = |engine, expect: &str| {
        let error = spec(engine, &launch("h100-sxm", 16, 1)).unwrap_err();
        assert_eq!(error.to_string(), expect);
    };
    let text =
        "runs on one node, and this shape needs 2; choose vLLM or SGLang, or a shape of one node";
    check(Engine::Tgi, &format!("TGI {text}"));
    check(Engine::Triton, &format!("Triton {text}"));
    check(Engine::DeepSpeed, &format!("DeepSpeed {text}"));
    check(Engine::Ollama, &format!("Ollama {text}"));
}

#[test]
fn features_become_flags() {
    let features = Features {
        prefix_cache: Some(true),
        adapters: vec![Adapter { name: "sql".to_owned(), path: "/a/sql".to_owned() }],
        tool_parser: Some("llama3_json".to_owned()),
        reasoning_parser: Some("deepseek_r1".to_owned()),
        priority: true,
        kv_events: true,
        chat_template: Some("/a/chat.jinja".to_owned()),
        trusts_remote_code: true,
        ..Features::default()
    };
    for engine in [Engine::Vllm, Engine::Sglang, Engine::Tgi, Engine::LlamaCpp] {
        let mut launch = launch("h100-sxm", 8, 1);
        launch.shape.kv_dtype = Dtype::Fp8;
        launch.shape.graphs = false;
        launch.shape.expert_parallel = engine != Engine::LlamaCpp;
        launch.features = features.clone();
        let spec = spec(engine, &launch).unwrap();
        let text = format!("{}\n{}", spec.command_line(), spec.notes.join("\n"));
        insta::assert_snapshot!(format!("features_{}", engine.name()), text);
    }
}

#[test]
fn room_for_adapters_is_the_same_for_all_of_them() {
    let line = |engine, extra: &[&str]| {
        let mut launch = launch("h100-sxm", 1, 1);
        launch.features.loads_adapters = true;
        launch.extra = extra.iter().map(|&word| word.to_owned()).collect();
        spec(engine, &launch).unwrap().command_line()
    };
    let vllm = line(Engine::Vllm, &[]);
    assert!(vllm.contains(" --enable-lora --max-loras 4"), "{vllm}");
    assert!(vllm.contains("VLLM_ALLOW_RUNTIME_LORA_UPDATING=True "), "{vllm}");
    let sglang = line(Engine::Sglang, &[]);
    let room =
        " --enable-lora --lora-target-modules all --max-lora-rank 64 --max-loras-per-batch 4";
    assert!(sglang.contains(room), "{sglang}");
    let said = line(Engine::Vllm, &["--max-loras", "16", "--max-lora-rank", "128"]);
    assert!(!said.contains("--max-loras 4"), "{said}");
    let said = line(Engine::Sglang, &["--max-lora-rank", "16"]);
    assert!(!said.contains("64"), "{said}");
}

#[test]
fn releases_get_the_flags_they_know() {
    let check = |version: &str, task: crate::size::Task, expect: &str| {
        let mut launch = launch("h100-sxm", 1, 1);
        launch.version = Version::parse(version);
        launch.features.task = task;
        let line = spec(Engine::Vllm, &launch).unwrap().command_line();
        assert!(line.contains(expect), "{line}");
    };
    check("0.9.2", crate::size::Task::Embed, "--task embed");
    check("0.9.2", crate::size::Task::Rerank, "--task score");
    check("0.33.0", crate::size::Task::Embed, "--runner pooling");
}

#[test]
fn releases_refuse_what_they_do_not_know() {
    let check = |engine, version: &str, change: fn(&mut Launch), expect: &str| {
        let mut launch = launch("h100-sxm", 8, 2);
        launch.version = Version::parse(version);
        change(&mut launch);
        let error = spec(engine, &launch).unwrap_err();
        assert!(error.to_string().contains(expect), "{error}");
    };
    check(
        Engine::Vllm,
        "0.9.2",
        |_| {},
        "vLLM 0.9.2 has no `--nnodes`, 0.11.2 is the first known to",
    );
    let one = |launch: &mut Launch| {
        launch.shape.pipeline = 1;
        launch.features.priority = true;
    };
    check(Engine::Sglang, "0.4.0", one, "has no `--enable-priority-scheduling`");
}

#[test]
fn a_process_has_no_placeholders_of_its_own() {
    let source = "file:model.gguf".parse().unwrap();
    let weights = WeightsSpec { source, digest: None, signed_by: None, size_bytes: None };
    let spec = spec(Engine::LlamaCpp, &small("epyc-zen4")).unwrap();
    let names = || ("llama-0".to_owned(), "llama".to_owned());
    let process = spec.process(names(), weights.clone(), 4).unwrap();
    assert_eq!(process.slots, 8);
    assert_eq!(process.health_path, "/health");
    assert!(process.args.contains(&"127.0.0.1".to_owned()), "{:?}", process.args);
    assert!(process.args.contains(&"{port}".to_owned()));
    assert_eq!(spec.key_variable(), Some("LLAMA_API_KEY"));
    let two = super::spec(Engine::Vllm, &launch("h100-sxm", 8, 2)).unwrap();
    let error = two.process(names(), weights, 4).unwrap_err();
    assert_eq!(error, LaunchError::Nodes { engine: Engine::Vllm, nodes: 2 });
}

#[test]
fn a_users_arguments_go_behind_ours_and_replace_them() {
    let mut launch = launch("h100-sxm", 2, 1);
    launch.extra = words("--gpu-memory-utilization 0.8 --no-enable-log-requests");
    let line = spec(Engine::Vllm, &launch).unwrap().command_line();
    assert_eq!(line.matches("--gpu-memory-utilization").count(), 1, "{line}");
    assert!(line.ends_with("--gpu-memory-utilization 0.8 --no-enable-log-requests"), "{line}");
}

fn check(engine: Engine, version: &str, typed: &str, expect: &[&str]) {
    let version = Version::parse(version);
    let findings = check_extra(engine, version, &words(typed));
    let said: Vec<String> = findings
        .iter()
        .map(|f| format!("{}: {}", f.severity(), f.describe(engine, version)))
        .collect();
    assert_eq!(said, expect, "{typed}");
}

#[test]
fn flags_are_checked() {
    let vllm = |typed: &str, expect: &[&str]| check(Engine::Vllm, "0.33.0", typed, expect);
    vllm(
        "--swap-space 4",
        &["error: vLLM 0.33.0 has no `--swap-space`, 0.13.0 is the last known to; remove it"],
    );
    vllm(
        "--guided-decoding-backend xgrammar",
        &[
            "error: vLLM 0.33.0 has no `--guided-decoding-backend`, 0.10.2 is the last known to; write `--structured-outputs-config`",
        ],
    );
    vllm(
        "--enable-prefix-cashing",
        &[
            "error: vLLM 0.33.0 has no `--enable-prefix-cashing`; did you mean `--enable-prefix-caching`?",
        ],
    );
    vllm("--zzz 1", &["error: vLLM 0.33.0 has no `--zzz`; remove it"]);
    vllm("--cpu-offload-gb lots", &["error: `--cpu-offload-gb` takes a number"]);
    vllm("--enforce-eager true", &["error: `--enforce-eager` takes no value"]);
    vllm("--max-logprobs", &["error: `--max-logprobs` takes a whole number"]);
    vllm("--max-logprobs -1", &[]);
    vllm("--max_logprobs=20 --no-enable-chunked-prefill", &[]);
    vllm(r#"--speculative-config {"method":"ngram"}"#, &[]);
    vllm(r#"--speculative-config {"method":"#, &["error: `--speculative-config` takes JSON"]);
    vllm("--speculative-config.method ngram --speculative-config.num_speculative_tokens 3", &[]);
    vllm("-O3 --kv-cache-memory-bytes 2.5G", &[]);
    vllm("-tp 2", &["error: Pilotage sets `-tp` itself; it follows from the shape"]);
    vllm(
        "--max-model-len 32k",
        &["error: Pilotage sets `--max-model-len` itself; write `spec.context`"],
    );
    vllm("model", &["error: `model` belongs to no flag; remove it"]);
    vllm("--seed 1 --seed 2", &["warning: `--seed` is there twice, and the last one counts"]);
}

#[test]
fn flags_are_checked_by_release() {
    check(
        Engine::Vllm,
        "0.10.0",
        "--async-scheduling",
        &["warning: vLLM 0.10.0 may not have `--async-scheduling`: 0.10.2 has it, 0.9.2 has not"],
    );
    check(
        Engine::Vllm,
        "0.99.0",
        "--seed 1",
        &["warning: the flags of vLLM 0.99.0 are not known here; checked as those of 0.33.0"],
    );
    check(
        Engine::Vllm,
        "0.9.2",
        "--guided-decoding-backend xgrammar --enable-reasoning",
        &["warning: vLLM 0.9.2 warns of `--enable-reasoning`; write `--reasoning-parser`"],
    );
    check(
        Engine::Sglang,
        "0.5.19",
        "--cuda-graph-max-bs 64",
        &[
            "warning: SGLang 0.5.19 warns of `--cuda-graph-max-bs`; write `--cuda-graph-max-bs-decode`",
        ],
    );
    check(Engine::Sglang, "0.5.23", "--tp 2", &["error: SGLang 0.5.23 has no `--tp`; remove it"]);
    check(
        Engine::LlamaCpp,
        "b11434",
        "--no-mmap",
        &[
            "error: llama.cpp 11434 has no `--no-mmap`, 10630 is the last known to; write `--load-mode`",
        ],
    );
    check(Engine::LlamaCpp, "b9093", "--no-mmap -fa on --temp 0.5", &[]);
    check(Engine::TensorRtLlm, "1.2.0", "--tool_parser qwen3", &[]);
    check(
        Engine::Ollama,
        "0.12.0",
        "OLLAMA_FLASH_ATTENTION=1 OLLAMA_HOST=0.0.0.0",
        &["error: Pilotage sets `OLLAMA_HOST` itself; remove it"],
    );
    check(Engine::Embedded, "0.1.0", "--gpu-layers 20", &[]);
}

#[test]
fn ours_are_flags_of_the_program() {
    for engine in Engine::ALL {
        let table = flags::table(engine);
        for (name, _) in super::ours(engine) {
            let canonical = table.rows(name).last().map(|flag| flag.name);
            assert_eq!(canonical, Some(*name), "{engine}");
        }
    }
}

proptest! {
    #[test]
    fn any_words_are_checked(words in proptest::collection::vec("[-=a-z0-9{}._ ]{0,12}|-{1,2}[a-z-]{1,20}", 0..12)) {
        for engine in Engine::ALL {
            for finding in check_extra(engine, None, &words) {
                prop_assert!(finding.index < words.len());
                prop_assert!(!finding.describe(engine, None).is_empty());
            }
        }
    }
}
