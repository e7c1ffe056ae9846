//! A modelled engine in its own time.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

fn model(blocks: u32, sequences_max: usize, step_tokens_max: usize) -> Model {
    Model::new(ModelConfig { blocks, sequences_max, step_tokens_max, ..ModelConfig::default() })
}

/// A prompt that begins like all others with that number.
fn job(id: u64, beginning: u32, prompt: usize, output: usize) -> Job {
    let prompt = (0..).map(|token| beginning * 100_000 + token).take(prompt).collect();
    Job { id: SequenceId(id), prompt, output, cut: true, adapter: None }
}

/// Plays until nothing is left; each token with the time at which it came.
fn play(model: &mut Model) -> HashMap<u64, Vec<(Duration, Told)>> {
    let mut now = Duration::ZERO;
    let mut all: HashMap<u64, Vec<_>> = HashMap::new();
    while let Some(step) = model.step() {
        now += step.time;
        for told in step.told {
            all.entry(told.sequence.0).or_default().push((now, told));
        }
    }
    all
}

#[test]
fn takes_the_time_of_prefill_then_of_decode() {
    let mut model = model(4096, 8, 512);
    assert!(model.submit(job(1, 1, 1000, 3)));
    let times: Vec<_> = play(&mut model)[&1].iter().map(|(at, _)| at.as_micros()).collect();
    assert_eq!(times, [200_000, 215_000, 230_000]);
    assert_eq!(model.step(), None);
}

#[test]
fn a_prompt_delays_the_tokens_of_others_by_its_pieces() {
    let mut model = model(4096, 8, 512);
    model.submit(job(1, 1, 16, 4));
    model.step();
    model.submit(job(2, 2, 1000, 1));
    let times: Vec<_> = play(&mut model)[&1].iter().map(|(at, _)| at.as_micros()).collect();
    // Beside each token, 511 and 489 tokens of the other's prompt.
    assert_eq!(times, [15_000 + 102_200, 2 * 15_000 + 200_000, 3 * 15_000 + 200_000]);
}

#[test]
fn finds_beginnings_again_but_never_all_of_a_prompt() {
    let mut model = model(4096, 8, 512);
    let cached = |model: &mut Model, job: Job| {
        let id = job.id.0;
        model.submit(job);
        play(model)[&id][0].1.cached
    };
    assert_eq!(cached(&mut model, job(1, 1, 64, 1)), 0);
    assert_eq!(cached(&mut model, job(2, 1, 64, 1)), 48);
    assert_eq!(cached(&mut model, job(3, 1, 65, 1)), 64);
    assert_eq!(cached(&mut model, job(4, 2, 64, 1)), 0);
    let adapter = Some("a".to_owned());
    assert_eq!(cached(&mut model, Job { adapter, ..job(5, 1, 64, 1) }), 0);
    let gauges = model.gauges();
    assert_eq!((gauges.prefix_queries, gauges.prefix_hits), (64 * 4 + 65, 48 + 64));
    assert_eq!((gauges.prompt_tokens, gauges.generation_tokens, gauges.cut), (64 * 4 + 65, 5, 5));
    assert_eq!((gauges.running, gauges.waiting, gauges.kv_usage), (0, 0, 0.0));
    assert_eq!(gauges.steps[13], 5);
}

#[test]
fn the_last_to_come_stands_aside_when_the_cache_is_full() {
    // Two of 64 + 64 tokens need 16 blocks; there are 10.
    let mut model = model(10, 8, 512);
    model.submit(job(1, 1, 64, 64));
    model.submit(job(2, 2, 64, 64));
    let all = play(&mut model);
    assert_eq!((all[&1].len(), all[&2].len()), (64, 64));
    assert!(all[&1][63].0 < all[&2][63].0);
    assert!(model.gauges().preemptions > 0);
    let tokens = |prompt: u32, told: &[(Duration, Told)]| {
        let voice = crate::engine::text::Voice::of(&job(1, prompt, 64, 1).prompt);
        told.iter().enumerate().all(|(index, (_, told))| told.token == voice.token(64 + index))
    };
    assert!(tokens(1, &all[&1]) && tokens(2, &all[&2]), "nothing is lost or said twice");
}

#[test]
fn waits_in_line_and_leaves_when_aborted() {
    let mut model = model(4096, 1, 512);
    for id in 1..=3 {
        model.submit(job(id, id as u32, 16, 5));
    }
    model.step();
    assert_eq!((model.gauges().running, model.gauges().waiting), (1, 2));
    model.abort(SequenceId(1));
    model.abort(SequenceId(2));
    let all = play(&mut model);
    assert!(!all.contains_key(&1) && !all.contains_key(&2));
    assert_eq!(all[&3].len(), 5);
    assert_eq!((model.gauges().aborted, model.gauges().kv_usage), (2, 0.0));
    assert!(!model.submit(job(4, 1, 70_000, 1)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Every sequence gets its tokens in order whatever the cache's size, nothing stays in use, and
    /// the news of the cache add up to what is remembered.
    #[test]
    fn nothing_is_lost(
        blocks in 8_u32..40,
        sequences in 1_usize..5,
        jobs in prop::collection::vec((1_u32..4, 1_usize..100, 1_usize..20), 1..12),
        aborted in 0_u64..12,
    ) {
        let mut model = model(blocks, sequences, 48);
        for (id, (beginning, prompt, output)) in (0..).zip(&jobs) {
            prop_assert!(model.submit(job(id, *beginning, *prompt, *output)));
        }
        let mut came: HashMap<u64, Vec<u32>> = HashMap::new();
        let mut remembered: HashSet<u64> = HashSet::new();
        let mut steps = 0;
        while let Some(step) = model.step() {
            steps += 1;
            prop_assert!(steps < 100_000);
            for told in step.told {
                came.entry(told.sequence.0).or_default().push(told.token);
            }
            for event in step.cache {
                match event {
                    CacheEvent::Stored { hashes, parent, tokens, .. } => {
                        prop_assert_eq!(tokens.len(), hashes.len() * 16);
                        prop_assert!(parent != hashes.first().copied());
                        for hash in hashes {
                            prop_assert!(remembered.insert(hash));
                        }
                    }
                    CacheEvent::Removed { hashes } => {
                        for hash in hashes {
                            prop_assert!(remembered.remove(&hash));
                        }
                    }
                }
            }
            if steps == 3 {
                model.abort(SequenceId(aborted));
            }
        }
        for (id, (beginning, prompt, output)) in (0..).zip(&jobs) {
            let job = job(id, *beginning, *prompt, *output);
            let voice = crate::engine::text::Voice::of(&job.prompt);
            let came = came.remove(&id).unwrap_or_default();
            prop_assert!(came.len() == *output || id == aborted);
            for (index, token) in came.iter().enumerate() {
                prop_assert_eq!(*token, voice.token(prompt + index));
            }
        }
        prop_assert_eq!(model.gauges().kv_usage, 0.0);
        prop_assert_eq!(remembered.len(), model.blocks.remembered());
    }
}
