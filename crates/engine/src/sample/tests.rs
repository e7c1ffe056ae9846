//! The sampler against a naive one that sorts everything, and against the distributions it should
//! follow.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::candidates::draw;
use super::{Sampler, Sampling, TokenSet, best, logprob};
use crate::job::Token;

fn greedy() -> Sampling {
    Sampling { temperature: 0.0, ..Sampling::default() }
}

fn sample(sampling: &Sampling, logits: &[f32]) -> Token {
    Sampler::new(sampling, 1, &[]).sample(logits, None)
}

/// How often each token comes out of 4,000 draws.
fn shares(sampling: &Sampling, logits: &[f32]) -> Vec<f64> {
    let mut sampler = Sampler::new(&Sampling { seed: Some(5), ..sampling.clone() }, 0, &[]);
    let mut counts = vec![0.0; logits.len()];
    for _ in 0..4000 {
        counts[sampler.sample(logits, None) as usize] += 1.0 / 4000.0;
    }
    counts
}

#[test]
fn draws_follow_the_distribution() {
    let check = |sampling: Sampling, logits: &[f32], expect: &[f64]| {
        for (share, expect) in shares(&sampling, logits).iter().zip(expect) {
            assert!((share - expect).abs() < 0.03, "{sampling:?}: {share} instead of {expect}");
        }
    };
    let logits = [0.5_f32.ln(), 0.3_f32.ln(), 0.15_f32.ln(), 0.05_f32.ln()];
    let plain = Sampling::default;
    check(plain(), &logits, &[0.5, 0.3, 0.15, 0.05]);
    check(Sampling { temperature: 0.5, ..plain() }, &logits, &[0.685, 0.247, 0.062, 0.007]);
    check(Sampling { top_k: 2, ..plain() }, &logits, &[0.625, 0.375, 0.0, 0.0]);
    check(Sampling { top_p: 0.79, ..plain() }, &logits, &[0.625, 0.375, 0.0, 0.0]);
    check(Sampling { top_p: 0.81, ..plain() }, &logits, &[0.526, 0.316, 0.158, 0.0]);
    check(Sampling { min_p: 0.25, ..plain() }, &logits, &[0.526, 0.316, 0.158, 0.0]);
    check(Sampling { top_p: 0.0001, ..plain() }, &logits, &[1.0, 0.0, 0.0, 0.0]);
    check(Sampling { logit_bias: vec![(0, -100.0)], ..plain() }, &logits, &[0.0, 0.6, 0.3, 0.1]);
}

#[test]
fn penalties_see_prompt_and_answer_as_defined() {
    let check =
        |sampling: Sampling, prompt: &[Token], answer: &[Token], logits: &[f32], expect: Token| {
            let mut sampler = Sampler::new(&sampling, 0, prompt);
            answer.iter().for_each(|token| sampler.accept(*token));
            assert_eq!(sampler.sample(logits, None), expect, "{sampling:?}");
        };
    let repetition = Sampling { repetition_penalty: 2.0, ..greedy() };
    check(repetition.clone(), &[0], &[], &[3.0, 2.0, 1.0], 1);
    check(repetition.clone(), &[0], &[1], &[3.0, 2.0, 1.0], 0);
    check(repetition, &[], &[0], &[-1.0, -1.5, -3.0], 1);
    let presence = Sampling { presence_penalty: 1.5, ..greedy() };
    check(presence.clone(), &[0], &[], &[3.0, 2.0, 1.0], 0);
    check(presence, &[], &[0, 0, 0], &[3.0, 2.0, 1.0], 1);
    let frequency = Sampling { frequency_penalty: 0.6, ..greedy() };
    check(frequency.clone(), &[], &[0], &[3.0, 2.0, 1.0], 0);
    check(frequency, &[], &[0, 0], &[3.0, 2.0, 1.0], 1);
}

#[test]
fn seeds_repeat_and_differ() {
    let logits: Vec<f32> = (0..500).map(|at| (at % 7) as f32 * 0.1).collect();
    let run = |seed| {
        let mut sampler =
            Sampler::new(&Sampling { seed: Some(seed), ..Sampling::default() }, 9, &[]);
        (0..20).map(|_| sampler.sample(&logits, None)).collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn only_allowed_tokens_come_out() {
    let mut allowed = TokenSet::with_len(200);
    allowed.insert(3);
    allowed.insert(130);
    allowed.insert(-1);
    let logits: Vec<f32> = (0..200).map(|at| at as f32).collect();
    for sampling in
        [greedy(), Sampling::default(), Sampling { temperature: 100.0, ..Sampling::default() }]
    {
        let token = Sampler::new(&sampling, 3, &[]).sample(&logits, Some(&allowed));
        assert!(allowed.contains(token), "{token}");
    }
    assert!(!allowed.contains(-1) && !allowed.contains(4) && !allowed.contains(100_000));
    assert_eq!((allowed.first(), TokenSet::with_len(9).first()), (Some(3), None));
    let broken = [f32::NAN; 200];
    for sampling in [greedy(), Sampling::default()] {
        let token = Sampler::new(&sampling, 3, &[]).sample(&broken, Some(&allowed));
        assert_eq!(token, 3, "the first allowed one when no logit is a number");
    }
}

#[test]
fn broken_logits_still_give_a_token() {
    for logits in [
        &[f32::NAN; 4][..],
        &[f32::NEG_INFINITY; 4],
        &[f32::NAN, 1.0, f32::NAN],
        &[f32::INFINITY, 1.0],
    ] {
        for sampling in [
            greedy(),
            Sampling::default(),
            Sampling { top_k: 2, top_p: 0.5, ..Sampling::default() },
        ] {
            let token = sample(&sampling, logits);
            assert!((token as usize) < logits.len());
        }
    }
    assert_eq!(sample(&Sampling::default(), &[f32::NAN, 1.0, f32::NAN]), 1);
}

#[test]
fn log_probabilities_are_those_of_the_model() {
    let logits = [0.5_f32.ln() + 7.0, 0.3_f32.ln() + 7.0, 0.2_f32.ln() + 7.0];
    let answer = logprob(&logits, 2, 2);
    assert!((answer.logprob - 0.2_f32.ln()).abs() < 1e-5);
    assert_eq!(answer.top.iter().map(|(token, _)| *token).collect::<Vec<_>>(), [0, 1]);
    assert!((answer.top[0].1 - 0.5_f32.ln()).abs() < 1e-5);
}

/// Every step by the book, with full sorts.
fn naive(logits: &[f32], sampling: &Sampling) -> Vec<Token> {
    let mut pool: Vec<(Token, f64)> = logits
        .iter()
        .enumerate()
        .map(|(at, logit)| (at as Token, f64::from(*logit / sampling.temperature)))
        .collect();
    pool.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
    let most = pool[0].1;
    pool.retain(|(_, logit)| (logit - most).exp() >= f64::from(sampling.min_p) - 1e-9);
    if sampling.top_k > 0 {
        pool.truncate(sampling.top_k as usize);
    }
    let total: f64 = pool.iter().map(|(_, logit)| (logit - most).exp()).sum();
    let mut sum = 0.0;
    let enough = pool.iter().position(|(_, logit)| {
        sum += (logit - most).exp();
        sum >= f64::from(sampling.top_p) * total + 1e-9
    });
    pool.truncate(enough.map_or(pool.len(), |at| at + 1));
    pool.into_iter().map(|(token, _)| token).collect()
}

proptest! {
    #[test]
    fn draws_come_from_the_naive_samplers_candidates(
        logits in prop::collection::vec(-8.0f32..8.0, 1..200),
        temperature in 0.2f32..2.0,
        top_k in 0u32..20,
        top_p in 0.05f32..1.0,
        min_p in prop_oneof![Just(0.0f32), 0.01f32..0.9],
        seed: u64,
    ) {
        let sampling = Sampling { temperature, top_k, top_p, min_p, seed: Some(seed), ..Sampling::default() };
        let pool = naive(&logits, &sampling);
        let mut sampler = Sampler::new(&sampling, 0, &[]);
        for _ in 0..8 {
            let token = sampler.sample(&logits, None);
            prop_assert!(pool.contains(&token), "{} not among {:?}", token, pool);
        }
    }

    #[test]
    fn best_is_the_first_of_the_largest(logits in prop::collection::vec(-3i8..3, 1..300)) {
        let logits: Vec<f32> = logits.into_iter().map(f32::from).collect();
        let most = logits.iter().copied().fold(f32::MIN, f32::max);
        let expect = logits.iter().position(|logit| *logit == most).unwrap();
        prop_assert_eq!(best(&logits) as usize, expect);
    }
}

proptest! {
    // Each case draws as often as there are candidates.
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn a_flat_nucleus_is_neither_larger_nor_smaller_than_the_naive_samplers(
        len in 300usize..800,
        top_p in 0.3f32..0.999,
    ) {
        // Nearly equal logits, so that the nucleus is far larger than what is sorted at first, and
        // evenly spaced draws meet nearly every candidate.
        let logits: Vec<f32> = (0..len).map(|at| ((at * 7919) % len) as f32 * 1e-4).collect();
        let sampling = Sampling { top_p, ..Sampling::default() };
        let pool = naive(&logits, &sampling);
        let units = (0..pool.len()).map(|at| (at as f64 + 0.5) / pool.len() as f64);
        let drawn: BTreeSet<Token> = units.map(|unit| draw(&logits, &sampling, unit)).collect();
        prop_assert!(drawn.iter().all(|token| pool.contains(token)), "{drawn:?}");
        prop_assert!(drawn.len() * 10 >= pool.len() * 8, "{} of {}", drawn.len(), pool.len());
    }
}
