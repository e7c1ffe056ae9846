//! What an engine takes for its work, reckoned by hand.

use pilotage_core::Stop;

use super::*;

fn model() -> EngineModel {
    EngineModel {
        name: "test".to_owned(),
        prefill_ms: 0.0,
        prefill_ms_per_token: 1.0,
        prefill_ms_per_pair: 0.0,
        step_ms: 10.0,
        step_ms_per_sequence: 1.0,
        step_ms_per_kv_token: 0.1,
        kv_tokens: 100,
        sequences_max: 8,
        prefill_tokens_max: 100,
        formation_steps: 3,
        step_tokens_max: None,
        stages: 1,
        pauses_max: 1,
        cache_blocks: Some(8),
        stop: Stop::Anytime,
        extras: Default::default(),
    }
}

fn job(id: u64, input: u32, output: u32) -> Job {
    let prefix = [7, 8].into();
    Job { id: RequestId(id), input, output, generated: 0, prefix, block_tokens: 10, adapter: 0 }
}

/// Milliseconds of the next phase, and who ended with it.
fn phase(engine: &mut Phased) -> Option<(f64, Vec<u64>)> {
    let ms = engine.start()?.as_nanos() as f64 / 1e6;
    let done = engine.complete();
    Some((ms, done.ended.iter().map(|id| id.0).collect()))
}

#[test]
fn phases_take_what_they_cost() {
    let mut engine = Phased::new(model());
    assert_eq!(phase(&mut engine), None);
    engine.put(job(1, 30, 5));
    assert_eq!(phase(&mut engine), Some((30.0, vec![])), "the prompt, and the first token");
    assert_eq!(phase(&mut engine), Some((10.0 + 1.0 + 3.1, vec![])));
    engine.put(job(2, 25, 1));
    assert!(!engine.may_form());
    phase(&mut engine);
    phase(&mut engine);
    assert!(engine.may_form());
    // Of 25 tokens 20 are in the cache, and the one token of the answer comes with the prompt.
    assert_eq!(phase(&mut engine), Some((5.0, vec![2])));
    engine.slowness = 2.0;
    assert_eq!(phase(&mut engine), Some((2.0 * (10.0 + 1.0 + 3.4), vec![1])));
    assert_eq!((phase(&mut engine), engine.kv_tokens()), (None, 0));
}

#[test]
fn a_paused_sequence_goes_on_and_a_lost_one_is_computed_again() {
    let mut engine = Phased::new(EngineModel { formation_steps: 1, ..model() });
    engine.put(job(1, 40, 9));
    phase(&mut engine);
    phase(&mut engine);
    engine.pause(RequestId(1));
    assert_eq!(engine.kv_tokens(), 42);
    engine.put(job(2, 30, 3));
    assert_eq!(phase(&mut engine).unwrap().0, 10.0);
    engine.resume_one();
    assert_eq!(engine.progress().collect::<Vec<_>>(), [(RequestId(1), 2), (RequestId(2), 1)]);
    engine.pause(RequestId(1));
    engine.put(job(3, 60, 2));
    assert_eq!(phase(&mut engine).unwrap().0, 10.0 + 1.0 + 7.3, "a step between two batches");
    // With 42 and 32 there, 61 more find place only where the paused one was.
    assert_eq!(phase(&mut engine).unwrap().0, 40.0);
    assert_eq!(engine.kv_tokens(), 93);
    assert_eq!(phase(&mut engine).unwrap().1, [2, 3]);
    engine.resume_one();
    assert_eq!(phase(&mut engine).unwrap().0, 22.0, "two of its tokens are its own answer");
    assert_eq!(engine.kv_tokens(), 43);
}

#[test]
fn who_outgrows_the_cache_waits_and_who_leaves_takes_its_tokens() {
    let mut engine = Phased::new(EngineModel { formation_steps: 1, ..model() });
    engine.put(job(1, 48, 9));
    engine.put(job(2, 48, 9));
    phase(&mut engine);
    assert_eq!(engine.kv_tokens(), 98);
    phase(&mut engine);
    assert_eq!(engine.kv_tokens(), 100);
    phase(&mut engine);
    assert_eq!(engine.kv_tokens(), 51, "the newer one was taken out");
    assert_eq!(engine.take(RequestId(2)).unwrap().generated, 2);
    assert_eq!(engine.take(RequestId(1)).unwrap().generated, 3);
    assert_eq!(engine.kv_tokens(), 0);
    engine.put(job(3, 5, 5));
    phase(&mut engine);
    assert_eq!(engine.crash(), [RequestId(3)]);
    assert_eq!((phase(&mut engine), engine.kv_tokens()), (None, 0));
}
