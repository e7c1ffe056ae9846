//! What shapes are tried, how fast their engines are, which are best and which is taken.

use pilotage_plan::hardware::Accelerator;
use pilotage_plan::size::{Calibration, Config, Dtype, ModelFacts, Runtime, Setting};

use super::*;
use crate::scenario::Scenario;

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
        nodes: 1,
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
    let all = ways(&means(&facts, "h100-sxm", 4), &|_| true).list;
    assert!(all.len() > 10 && all.len() <= WAYS_MAX, "{}", all.len());
    assert!(all.iter().all(|way| way.shape.accelerators() <= 4));
    assert!(
        ways(&means(&facts, "t4", 1), &|_| true).list.is_empty(),
        "16 GB do not hold it with 8192 tokens"
    );
}

#[test]
fn more_hardware_is_faster_and_neither_beats_the_other() {
    let facts = facts();
    let means = means(&facts, "h100-sxm", 4);
    let all = ways(&means, &|_| true).list;
    let scenario = scenario(4.0);
    let is_plain = |way: &&Way| {
        way.shape.batch_tokens == 2048
            && way.shape.sequences == 256
            && way.shape.kv_dtype == Dtype::Bf16
            && way.shape.replicas == 1
            && way.shape.pipeline == 1
    };
    let limits = Limits { ttft_seconds: Some(10.0), tpot_seconds: Some(1.0) };
    let mut tried: Vec<Tried> =
        all.iter().filter(is_plain).map(|way| try_out(&scenario, way, limits)).collect();
    assert_eq!(tried.iter().map(|one| one.accelerators.unwrap()).collect::<Vec<_>>(), [1, 2, 4]);
    assert!(
        tried.windows(2).all(|pair| pair[1].outcome.tpot_p99 < pair[0].outcome.tpot_p99),
        "{tried:?}"
    );
    let again: Vec<Tried> =
        all.iter().filter(is_plain).map(|way| try_out(&scenario, way, limits)).collect();
    assert_eq!(tried, again, "the same seed gives the same");
    mark_best(&mut tried);
    assert!(tried.iter().all(|one| one.best && one.outcome.good.get() == 1.0), "{tried:?}");
    // One that is slower with more is beaten, and so is one that loses requests.
    let first = tried[0].clone();
    let with = |change: &dyn Fn(&mut Tried)| {
        let mut one = first.clone();
        change(&mut one);
        one
    };
    let slow = with(&|one| (one.accelerators, one.outcome.ttft_p99) = (Some(8), 99.0.into()));
    let lossy = with(&|one| (one.outcome.lost, one.outcome.ttft_p99) = (1, 0.0.into()));
    let failed = with(&|one| one.failed = Some("nobody listens there".to_owned()));
    tried.extend([slow, lossy, failed]);
    mark_best(&mut tried);
    assert_eq!(
        tried.iter().map(|one| one.best).collect::<Vec<_>>(),
        [true, true, true, false, false, false]
    );
}

#[test]
fn times_that_nobody_knows_hold_no_limit_and_are_no_better() {
    let limits = |tpot_seconds| Limits { ttft_seconds: Some(1.0), tpot_seconds };
    let of = |limits: Limits, untimed: bool| {
        let mut tally = Tally::new(limits);
        for _ in 0..10 {
            match untimed {
                true => tally.answered_untimed(0.5),
                false => tally.answered(0.5, Some(0.05)),
            }
        }
        Tried { outcome: tally.outcome(10.0), ..Tried::default() }
    };
    let check = |limits: Limits, untimed: bool, (good, tpot): (f64, Option<f64>)| {
        let outcome = of(limits, untimed).outcome;
        assert_eq!((outcome.good.get(), outcome.tpot_p99.map(Rounded::get)), (good, tpot));
    };
    check(limits(None), true, (1.0, None));
    check(limits(Some(1.0)), true, (0.0, None));
    check(limits(Some(1.0)), false, (1.0, Some(0.05)));
    let best = |mut tried: Vec<Tried>| {
        mark_best(&mut tried);
        (tried.iter().map(|one| one.best).collect::<Vec<_>>(), tried)
    };
    let (marked, tried) = best(vec![of(limits(None), true), of(limits(None), false)]);
    assert_eq!(marked, [false, true]);
    assert!(pick(&tried, Goal::Latency, &limits(None), 8.0).is_some_and(|pick| pick.place == 1));
    let (marked, tried) = best(vec![of(limits(None), true), of(limits(None), true)]);
    assert_eq!(marked, [true, false], "of equals the first");
    let picked = pick(&tried, Goal::Latency, &limits(None), 8.0).unwrap();
    assert!(picked.reason.contains("a first token within 0.50 s"), "{}", picked.reason);
    let short = Tried { short: true, ..of(limits(None), false) };
    assert_eq!(best(vec![short, of(limits(None), true)]).0, [false, true]);
}

fn mixture() -> ModelFacts {
    let text = CONFIG
        .replace("LlamaForCausalLM", "MixtralForCausalLM")
        .replace("\"llama\"", "\"mixtral\"");
    let text = text.replace(
        "\"tie_word_embeddings\"",
        "\"num_local_experts\": 8, \"num_experts_per_tok\": 2, \"tie_word_embeddings\"",
    );
    Config::parse(text.as_bytes()).unwrap().facts().unwrap()
}

#[test]
fn layouts_are_pruned_and_bounded() {
    let check = |facts: &ModelFacts, (id, nodes, most): (&str, u32, u32), expect: &[&str]| {
        let means = Means { nodes, ..means(facts, id, most) };
        let found = ways(&means, &|_| true);
        assert!(found.list.len() <= WAYS_MAX);
        let mut names: Vec<String> = Vec::new();
        for way in found.list {
            let name = Shape { replicas: 1, ..way.shape }.to_string();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        assert_eq!(names, expect, "{id} {nodes} {most}");
    };
    let dense = facts();
    check(&dense, ("h100-sxm", 1, 2), &["TP1", "TP2", "TP1 PP2"]);
    // Over nodes stages are of a node each, with its widest ranks.
    let across = ["TP8 PP2", "TP8 PP3"];
    let means_across = Means { nodes: 3, ..means(&dense, "h100-sxm", 24) };
    let found = ways(&means_across, &|shape| shape.pipeline == 1 || shape.tensor == 8).list;
    let mut stages: Vec<String> = found
        .iter()
        .filter(|way| way.shape.pipeline > 1)
        .map(|way| Shape { replicas: 1, ..way.shape }.to_string())
        .collect();
    stages.dedup();
    assert_eq!(stages, across);
    // Experts lie whole on ranks whose attention is in parallel.
    let mixed = mixture();
    check(&mixed, ("h100-sxm", 1, 2), &["TP2", "TP1 DP2 EP2", "TP1 PP2"]);
}

#[test]
fn more_ways_than_are_tried_are_counted_and_the_usual_stay() {
    let facts = facts();
    let found = ways(&Means { nodes: 16, ..means(&facts, "h100-sxm", 128) }, &|_| true);
    assert_eq!(found.list.len(), WAYS_MAX);
    assert!(found.left_out > 0);
    let largest = found.list.last().unwrap();
    assert_eq!((largest.shape.accelerators(), largest.shape.batch_tokens), (128, 2048));
}

#[test]
fn stages_pass_prompts_on_and_lines_hold_for_them_too() {
    let facts = facts();
    let means = means(&facts, "h100-sxm", 8);
    let one = Shape::single(8192, Dtype::Bf16);
    let time = |shape: Shape, input: u32| {
        let text = "name: t\ntenants: [{name: all}]\ntrace: {file: t, format: own, take: {tenants: {roundRobin: [all]}}}\n".to_owned();
        let rows = format!("at_s,input,output\n0,{input},1\n");
        let scenario = Scenario::read("t", &text, Some(1), &|_| Ok(rows.clone())).unwrap();
        let made = engine(&means, &shape).unwrap();
        play(&scenario, &made, 1, Limits::default()).ttft_p99.get()
    };
    let two = Shape { pipeline: 2, ..one };
    // Alone, a prompt passes both stages, and what they send each other comes on top.
    let (alone, staged) = (time(one, 2048), time(two, 2048));
    assert!(staged > alone && staged < alone * 1.1, "{alone} {staged}");
    // Two pieces are in a stage each most of the time: three halves of one in place of two.
    let (alone, staged) = (time(one, 4096), time(two, 4096));
    let part = staged / alone;
    assert!((0.7..0.85).contains(&part), "{part}");
    // Ranks with attention of their own read prompts side by side.
    let mixed = mixture();
    let means = Means { facts: &mixed, ..means };
    let shape = Shape { data: 2, expert_parallel: true, ..one };
    let (tensor, data) =
        (engine(&means, &Shape { tensor: 2, ..one }).unwrap(), engine(&means, &shape).unwrap());
    assert_eq!(data.sequences_max, 512);
    let part = data.prefill_ms_per_token / tensor.prefill_ms_per_token;
    assert!((0.8..1.1).contains(&part), "{part}");
}

#[test]
fn the_goal_decides_which_of_the_best_is_taken() {
    let of = |name: &str, accelerators: u32, ttft: f64, good: f64| Tried {
        name: name.to_owned(),
        accelerators: Some(accelerators),
        outcome: Outcome {
            ttft_p99: ttft.into(),
            tpot_p99: Some(0.01.into()),
            good: good.into(),
            requests: 100,
            ..Outcome::default()
        },
        ..Tried::default()
    };
    let limited = Limits { ttft_seconds: Some(1.0), tpot_seconds: None };
    let check = |all: &[Tried], goal: Goal, limits: Limits, expect: Option<(&str, &str)>| {
        let mut all = all.to_vec();
        mark_best(&mut all);
        let picked = pick(&all, goal, &limits, 11.0);
        let found = picked.as_ref().map(|pick| all[pick.place].name.as_str());
        assert_eq!(found, expect.map(|(name, _)| name), "{goal:?} {picked:?}");
        if let (Some(pick), Some((_, words))) = (picked, expect) {
            assert!(pick.reason.contains(words), "{}", pick.reason);
        }
    };
    let all = [of("small", 1, 4.0, 0.5), of("middle", 2, 0.9, 0.99), of("large", 8, 0.4, 1.0)];
    let none = Limits::default();
    check(&all, Goal::Cost, none, Some(("small", "of 3 that no other beats it is the cheapest")));
    check(
        &all,
        Goal::Cost,
        limited,
        Some(("middle", "of 2 that hold the limits it is the cheapest")),
    );
    check(&all, Goal::Latency, limited, Some(("large", "soonest")));
    check(&all, Goal::Balance, none, Some(("middle", "cost times time")));
    check(
        &all[..2],
        Goal::Latency,
        limited,
        Some(("middle", "no other that is best holds the limits")),
    );
    check(&all[..1], Goal::Cost, limited, Some(("small", "none holds the limits")));
    check(&[], Goal::Cost, limited, None);
    check(&[Tried { failed: Some(String::new()), ..all[0].clone() }], Goal::Cost, none, None);
    // Money counts where it is known: the large one is a bargain.
    let priced = |mut one: Tried, cost: f64| {
        one.cost = Some(cost.into());
        one
    };
    let all = [priced(all[1].clone(), 9.0), priced(all[2].clone(), 3.0)];
    check(&all, Goal::Cost, none, Some(("large", "no other is as good")));
}
