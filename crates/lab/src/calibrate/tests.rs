//! Bursts as they come, and the scripted engine, whose constants are known.

use std::sync::Arc;

use tokio::net::TcpListener;

use super::*;
use crate::engine::model::ModelConfig;
use crate::engine::{Engine, EngineConfig};
use crate::load::{Endpoint, Options};
use crate::record::tests::answered;

/// An answer whose first token came then, with a token every so many milliseconds.
fn answer(first_ms: u64, gap_ms: u64, tokens: u32) -> Sample {
    let gaps = vec![gap_ms as f32 / 1e3; tokens as usize - 1];
    let end = first_ms + gap_ms * u64::from(tokens - 1);
    Sample {
        output_tokens: tokens,
        events: tokens,
        gaps: gaps.into(),
        ..answered(0, first_ms, end)
    }
}

#[test]
fn a_step_is_what_all_answers_have_in_common() {
    let read = window::steps(&[answer(10, 20, 21), answer(90, 20, 21)], 6).unwrap();
    assert!((read.seconds - 0.020).abs() < 1e-6, "{read:?}");
    // From the fifth token of one and the first of the other: 8.5 and 4 on average, and the prompt.
    assert!((110.0..112.0).contains(&read.tokens), "{read:?}");
}

#[test]
fn events_may_hold_several_tokens() {
    let two = Sample { output_tokens: 41, ..answer(10, 20, 21) };
    let read = window::steps(&[two], 6).unwrap();
    assert!((read.seconds - 0.010).abs() < 1e-6, "{read:?}");
}

#[test]
fn what_says_nothing_says_why() {
    let check = |samples: &[Sample], expect: Unread| {
        assert_eq!(window::steps(samples, 6), Err(expect));
    };
    check(&[answer(10, 20, 21), answer(600, 20, 21)], Unread::Apart);
    check(&[answer(10, 20, 3)], Unread::Short);
    check(&[], Unread::Short);
    check(&[Sample { outcome: Outcome::Rejected, ..answer(1, 1, 9) }], Unread::Refused);
    check(&[Sample { outcome: Outcome::Timeout, ..answer(1, 1, 9) }], Unread::Late);
}

#[test]
fn probes_that_have_no_room_are_left_out() {
    let design = Design {
        prompts: vec![32, 1024],
        concurrencies: vec![1, 8],
        contexts: vec![64, 480],
        answer: 32,
        context_max: Some(520),
    };
    let steps = |sequences, prompt, answer| Probe::Steps { sequences, prompt, answer };
    let expect =
        [Probe::Prompt { tokens: 32 }, steps(1, 64, 32), steps(1, 480, 37), steps(8, 64, 37)];
    assert_eq!(design.probes(), expect);
}

fn seen(rounds: &[f64]) -> Seen {
    let reading = |seconds| Ok(Reading { seconds, tokens: 10.0, counted: true });
    let rounds: Vec<_> = rounds.iter().copied().map(reading).collect();
    sum(Probe::Prompt { tokens: 10 }, &rounds).unwrap()
}

#[test]
fn medians_leave_outliers_out() {
    let seen = seen(&[1.0, 1.1, 0.9, 50.0, 1.0]);
    assert!((seen.seconds - 1.0).abs() < 1e-9);
    assert!(seen.spread < 0.2, "{}", seen.spread);
}

#[test]
fn doubts_name_what_is_wrong() {
    let check = |rounds: &[f64], busy, expect: &[&str]| {
        let found = doubts(&[seen(rounds), seen(rounds)], busy);
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), expect.len(), "{found:?}");
        for (found, expect) in found.iter().zip(expect) {
            assert!(found.contains(expect), "{found}");
        }
    };
    check(&[1.0, 1.01, 1.0, 0.99], Some((0, 5)), &[]);
    check(&[1.0, 1.01, 1.0, 0.99], Some((2, 5)), &["2 of 5"]);
    check(&[1.0, 1.0, 1.2, 1.2], None, &["slower"]);
    check(&[1.2, 1.2, 1.0, 1.0], None, &["faster"]);
    check(&[1.0, 2.0, 1.0, 2.0], None, &["do not repeat"]);
}

/// A scripted engine, and a gauge of it.
async fn scripted(pace: ModelConfig) -> (Engine, Gauge<impl Fn() -> Result<Target, TargetError>>) {
    let clock = Clock::start();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = EngineConfig { pace: Some(pace), ..EngineConfig::default() };
    let engine = Engine::start(config, listener, None, clock).unwrap();
    let url = Arc::new(format!("http://{}", engine.addr()));
    let target = move || {
        let options = Options { model: "scripted".to_owned(), stream: true, ..Options::default() };
        Target::new(&url, Endpoint::Chat, options)
    };
    (engine, Gauge::new(clock, target, Duration::from_secs(600)))
}

#[tokio::test(start_paused = true)]
async fn a_scripted_engine_is_read_as_it_is() {
    let pace = ModelConfig {
        prefill_token: Duration::from_micros(300),
        decode_step: Duration::from_millis(25),
        ..ModelConfig::default()
    };
    let (_engine, mut gauge) = scripted(pace).await;
    gauge.try_out(64, 1).await.unwrap();
    let prompt = gauge.read(Probe::Prompt { tokens: 200 }, 2).await.unwrap().unwrap();
    let a_token = prompt.seconds / prompt.tokens;
    assert!((a_token / 300e-6 - 1.0).abs() < 0.1, "{prompt:?}");
    for sequences in [1, 4, 8] {
        let probe = Probe::Steps { sequences, prompt: 100, answer: 40 };
        let read = gauge.read(probe, u64::from(sequences)).await.unwrap().unwrap();
        assert!((read.seconds / 0.025 - 1.0).abs() < 0.1, "{sequences}: {read:?}");
    }
    // It computes eight at once.
    let probe = Probe::Steps { sequences: 16, prompt: 100, answer: 40 };
    assert_eq!(gauge.read(probe, 9).await.unwrap(), Err(Unread::Apart));
}
