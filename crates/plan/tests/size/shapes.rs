//! Shapes that models can have and cannot: what is said of those, and what holds for all others.

use pilotage_plan::hardware::{Accelerator, catalogue};
use pilotage_plan::size::memory::{longest_context, memory, remedies, tensor_sizes};
use pilotage_plan::size::{
    Calibration, Dtype, Found, Goal, Means, Ranks, Remedy, Runtime, Shape, ShapeError, search,
};
use proptest::prelude::*;

use crate::{facts, rows};

fn h100() -> &'static Accelerator {
    Accelerator::by_id("h100-sxm").unwrap()
}

#[test]
fn shapes_that_cannot_be_are_named() {
    let single = Shape::single(8192, Dtype::Bf16);
    let check = |model: &str, shape: Shape, expect: &str| {
        let error = memory(&facts(model), &shape, h100(), Runtime::VLLM).unwrap_err().to_string();
        assert!(error.contains(expect), "{model}: {error}");
    };
    let tensor = |tensor| Shape { tensor, ..single };
    check(
        "qwen2.5-7b",
        tensor(8),
        "does not divide the model's 28 attention heads; use one of 1, 2, 4, 28",
    );
    check("llama-3.1-8b", tensor(3), "use one of 1, 2, 4, 8, 16, 32");
    check("phi-4", tensor(4), "neither divides the model's 10 KV heads");
    check("llama-3.1-8b", Shape { pipeline: 33, ..single }, "more than the model's 32 layers");
    check("llama-3.1-8b", Shape { tensor: 2, expert_parallel: true, ..single }, "this model has 0");
    check("phi-4", Shape { context: 20_000, ..single }, "longer than the 16384");
    check("phi-4", Shape { utilisation: f64::NAN, ..single }, "above 0 and at most 1");
    check("phi-4", Shape { tensor: 0, ..single }, "at least 1");
}

#[test]
fn blocks_that_share_a_scale_are_not_cut() {
    let single = Shape::single(8192, Dtype::Bf16);
    let of = |model: &str, tensor, expert_parallel| {
        let shape = Shape { tensor, expert_parallel, ..single };
        memory(&facts(model), &shape, h100(), Runtime::VLLM)
    };
    // 1536 wide experts, by 8, are parts of 192, of blocks of 128.
    let error = of("qwen3-235b-a22b-fp8", 8, false).unwrap_err();
    assert!(matches!(error, ShapeError::Blocks { tensor: 8, width: 1536, block: 128, .. }));
    assert!(of("qwen3-235b-a22b-fp8", 8, true).is_ok());
    assert!(of("qwen3-235b-a22b-fp8", 4, false).is_ok());
    assert!(of("qwen3-235b-a22b", 8, false).is_ok());
    assert!(of("deepseek-v3", 16, false).is_ok());
    assert!(tensor_sizes(&facts("qwen3-235b-a22b-fp8")).contains(&8));
    let error = of("qwen3-32b-fp8", 16, false).unwrap_err().to_string();
    assert!(error.contains("use one of 1, 2, 4, 8"), "{error}");
}

fn found(model: &str, class: &str, runtime: Runtime, concurrency: u32) -> Found {
    let accelerator = Accelerator::by_id(class).unwrap();
    let means = Means {
        accelerator,
        runtime,
        calibration: Calibration::assumed(accelerator),
        accelerators_max: accelerator.per_node,
        kv_dtype: Dtype::Bf16,
        utilisation: 0.9,
        ranks: Ranks::default(),
    };
    let goal = Goal {
        context: 8192,
        prompt: 1024,
        answer: 256,
        concurrency,
        ttft_seconds: None,
        tpot_seconds: None,
        tokens_per_second: None,
        requests_per_second: None,
    };
    search(&facts(model), &means, &goal)
}

#[test]
fn a_step_is_as_large_as_leaves_room() {
    let first = |class: &str| found("gpt-oss-120b", class, Runtime::VLLM, 16).candidates.remove(0);
    let (tight, roomy) = (first("h100-sxm"), first("mi300x"));
    assert_eq!((tight.accelerators, tight.shape.batch_tokens), (1, 4096));
    assert!(tight.memory.sequences.low >= 1.0, "{:?}", tight.memory);
    assert_eq!((roomy.accelerators, roomy.shape.batch_tokens), (1, 8192));
}

#[test]
fn slots_are_as_many_as_are_asked_for_and_fit() {
    let first = |model: &str, concurrency| {
        found(model, "l4", Runtime::LlamaCpp, concurrency).candidates.remove(0)
    };
    let small = first("smollm2-135m", 16);
    assert_eq!((small.shape.sequences, small.shape.replicas), (16, 1));
    let large = first("llama-3.1-8b", 16);
    let slots = large.shape.sequences;
    assert!(f64::from(slots) <= large.memory.sequences.low, "{slots} {:?}", large.memory);
    assert!(slots * large.shape.replicas >= 16, "{:?}", large.shape);
}

#[test]
fn what_does_not_fit_says_by_how_much_and_what_helps() {
    let facts = facts("llama-3.1-70b");
    let (tokens, sequences) = Runtime::VLLM.default_batch(h100());
    let shape = Shape { batch_tokens: tokens, sequences, ..Shape::single(8192, Dtype::Bf16) };
    let found = memory(&facts, &shape, h100(), Runtime::VLLM).unwrap();
    assert!(!found.fits());
    let gib = found.short_bytes() as f64 / 1_073_741_824.0;
    assert!((60.0..75.0).contains(&gib), "{gib}");
    let helps = remedies(&facts, &shape, h100(), Runtime::VLLM);
    assert!(helps.contains(&Remedy::Tensor(4)), "{helps:?}");
    assert!(helps.contains(&Remedy::Weights { bits: 4 }), "{helps:?}");
    for help in helps {
        let (shape, facts, on) = match help {
            Remedy::Context(context) => (Shape { context, ..shape }, facts.clone(), h100()),
            Remedy::Fp8Cache => (Shape { kv_dtype: Dtype::Fp8, ..shape }, facts.clone(), h100()),
            Remedy::Weights { bits } => (shape, facts.with_bits(bits), h100()),
            Remedy::Tensor(tensor) => (Shape { tensor, ..shape }, facts.clone(), h100()),
            Remedy::Pipeline(pipeline) => (Shape { pipeline, ..shape }, facts.clone(), h100()),
            Remedy::Hardware(id) => (shape, facts.clone(), Accelerator::by_id(id).unwrap()),
        };
        assert!(memory(&facts, &shape, on, Runtime::VLLM).unwrap().fits(), "{shape} {}", on.id);
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "shown when it fails, and with --no-capture")]
fn sequences_are_those_that_tensorrt_llm_had_room_for() {
    let mut worst = 0.0_f64;
    for row in rows(include_str!("trtllm.tsv")) {
        let number = |at: usize| row[at].parse::<u32>().unwrap();
        let (prompt, answer, measured) = (number(2), number(3), f64::from(number(4)));
        let shape = Shape {
            tensor: number(1),
            batch_tokens: 2 * prompt,
            utilisation: 0.8,
            ..Shape::single(u64::from(prompt + answer + 1000), Dtype::Bf16)
        };
        let found = memory(&facts(row[0]), &shape, h100(), Runtime::TensorrtLlm).unwrap();
        let error = 100.0 * (found.sequences.likely / measured - 1.0);
        println!(
            "{:14} tp{} {prompt:5} {answer:5}: {:6.1} for {measured:4.0}, {error:+.1} %",
            row[0], row[1], found.sequences.likely
        );
        worst = worst.max(error.abs());
        let within =
            found.sequences.low.floor() <= measured && measured <= found.sequences.high.ceil();
        assert!(within, "{row:?}: {:?}", found.sequences);
    }
    assert!(worst < 10.0, "{worst}");
}

#[test]
fn tokens_are_those_that_sglang_had_room_for() {
    // vllm-project/vllm issue 21348: --tp 4 --mem-fraction-static 0.93 on H100, 367404 tokens. One line is not
    // enough to hold a model to; it is enough to notice that it is far off.
    let shape = Shape { tensor: 4, utilisation: 0.93, ..Shape::single(40_960, Dtype::Bf16) };
    let found = memory(&facts("qwen3-235b-a22b-fp8"), &shape, h100(), Runtime::Sglang).unwrap();
    assert!((found.tokens.likely / 367_404.0 - 1.0).abs() < 0.05, "{:?}", found.tokens);
}

const MODELS: [&str; 8] = [
    "llama-3.1-8b",
    "qwen3-30b-a3b",
    "gemma-3-27b",
    "deepseek-v3",
    "gpt-oss-120b",
    "nemotron-h-56b",
    "qwen3.5-35b-a3b",
    "jamba-v0.1",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn more_memory_and_less_context_never_hurt(
        model in 0_usize..8, size in 0_usize..4, context in 1_u64..8000, share in 0.1_f64..0.9, stages in 1_u32..4,
    ) {
        let facts = facts(MODELS[model]);
        let tensor = tensor_sizes(&facts)[size % tensor_sizes(&facts).len()];
        let shape = Shape { tensor, pipeline: stages, utilisation: share, ..Shape::single(context, Dtype::Bf16) };
        for accelerator in [h100(), Accelerator::by_id("l4").unwrap()] {
            let room = |shape: &Shape| memory(&facts, shape, accelerator, Runtime::VLLM).unwrap();
            let found = room(&shape);
            let more = room(&Shape { utilisation: share + 0.1, ..shape });
            prop_assert!(more.cache_bytes >= found.cache_bytes);
            let shorter = room(&Shape { context: context.div_ceil(2), ..shape });
            prop_assert!(shorter.sequences.likely >= found.sequences.likely);
            prop_assert!(found.tokens.low <= found.tokens.likely && found.tokens.likely <= found.tokens.high);
            prop_assert_eq!(found.fits(), found.short_bytes() == 0 && found.sequences.likely >= 1.0);
            let narrow = room(&Shape { tensor: 1, ..shape });
            prop_assert!(narrow.weights_bytes >= found.weights_bytes);
            let eight = room(&Shape { kv_dtype: Dtype::Fp8, ..shape });
            prop_assert!(eight.tokens.likely >= found.tokens.likely);
        }
    }

    #[test]
    fn the_longest_context_fits_and_a_longer_one_does_not(model in 0_usize..8, share in 0.2_f64..1.0) {
        let facts = facts(MODELS[model]);
        let most = facts.context_max.unwrap_or(1 << 20);
        let shape = Shape { utilisation: share, ..Shape::single(most, Dtype::Bf16) };
        let fits = |context: u64| {
            memory(&facts, &Shape { context, ..shape }, h100(), Runtime::VLLM).unwrap().fits()
        };
        match longest_context(&facts, &shape, h100(), Runtime::VLLM) {
            Some(longest) => {
                prop_assert!(fits(longest));
                prop_assert!(longest + 1024 > most || !fits(longest + 1024));
            }
            None => prop_assert!(!fits(1)),
        }
    }
}

#[test]
fn every_class_of_hardware_can_be_asked() {
    let facts = facts("qwen3-30b-a3b");
    for accelerator in catalogue() {
        for runtime in [
            Runtime::VLLM,
            Runtime::Sglang,
            Runtime::TensorrtLlm,
            Runtime::Tgi,
            Runtime::LlamaCpp,
            Runtime::Embedded,
        ] {
            let shape = Shape::single(4096, Dtype::Bf16);
            let found = memory(&facts, &shape, accelerator, runtime);
            assert!(
                !matches!(found, Err(ShapeError::Number { .. })),
                "{} {runtime}",
                accelerator.id
            );
        }
    }
}
