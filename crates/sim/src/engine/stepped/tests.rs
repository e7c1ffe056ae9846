//! What steps take, what is found in the cache, and what a forecast is worth.

use super::*;

fn engine() -> Stepped {
    let model = EngineModel::preset("vllm-like").unwrap();
    Stepped::new(EngineModel { kv_tokens: 160, ..model }, 64)
}

fn job(id: u64, input: u32, output: u32) -> Job {
    let prefix = [7, 8].into();
    Job { id: RequestId(id), input, output, generated: 0, prefix, block_tokens: 16, adapter: 0 }
}

/// Milliseconds of a step, whose answers begin, with what was found, and whose end.
type Step = (f64, Vec<(u64, u32)>, Vec<u64>);

fn step(engine: &mut Stepped) -> Option<Step> {
    let ms = engine.start()?.as_nanos() as f64 / 1e6;
    let done = engine.complete();
    let begun = done.begun.iter().map(|(id, cached)| (id.0, *cached)).collect();
    Some((ms, begun, done.ended.iter().map(|id| id.0).collect()))
}

#[test]
fn prompts_share_steps_with_answers() {
    let mut engine = engine();
    assert_eq!(step(&mut engine), None);
    engine.put(job(1, 40, 3));
    assert_eq!(step(&mut engine), Some((8.0, vec![(1, 0)], vec![])));
    engine.put(job(2, 80, 1));
    // Of 80 tokens 32 are in the cache; one of 64 is the other's.
    assert_eq!(step(&mut engine), Some((15.0 + 48.0 * 0.2, vec![(2, 32)], vec![2])));
    assert_eq!(step(&mut engine), Some((15.0, vec![], vec![1])));
    assert_eq!((step(&mut engine), engine.kv_tokens()), (None, 0));
    assert_eq!(engine.cached(&[7, 8, 9], 16, 100), 32);
    assert_eq!(engine.cached(&[7, 8], 16, 32), 16, "the last token is always computed");
    engine.slowness = 3.0;
    engine.put(job(3, 100, 1));
    // 68 tokens are left, of which a step takes 64.
    assert_eq!(step(&mut engine).unwrap().0, 38.4);
    assert_eq!(step(&mut engine), Some((2.4, vec![(3, 32)], vec![3])));
}

#[test]
fn who_came_last_begins_again_where_memory_is_short() {
    let mut engine = engine();
    engine.put(job(1, 64, 40));
    step(&mut engine);
    engine.put(job(2, 60, 40));
    let mut ended = Vec::new();
    let mut again = false;
    for _ in 0..200 {
        let Some((_, _, ends)) = step(&mut engine) else { break };
        again |= engine.gauges().waiting == 1;
        ended.extend(ends);
    }
    assert!(again, "ten blocks do not hold both");
    assert_eq!((ended, engine.kv_tokens()), (vec![1, 2], 0));
    engine.put(job(3, 30, 5));
    engine.put(job(4, 30, 5));
    step(&mut engine);
    assert_eq!(engine.take(RequestId(3)).unwrap().generated, 1);
    assert_eq!(engine.crash(), [RequestId(4)]);
    assert_eq!((engine.kv_tokens(), engine.cached(&[7, 8], 16, 100)), (0, 0));
}

#[test]
fn a_forecast_comes_true_when_nobody_else_comes() {
    let check = |ahead: &[(u32, u32)], input: u32, output: u32| {
        let model = EngineModel::preset("vllm-like").unwrap();
        let mut engine = Stepped::new(model, 512);
        for (at, (input, output)) in (10..).zip(ahead) {
            engine.put(job(at, *input, *output));
            step(&mut engine);
        }
        let asked = job(1, input, output);
        let forecast = engine.forecast(&asked);
        engine.put(asked);
        let (mut ms, mut cached) = (0.0, 0);
        loop {
            let (took, begun, ended) = step(&mut engine).unwrap();
            ms += took;
            cached = begun.iter().find(|(id, _)| *id == 1).map_or(cached, |(_, found)| *found);
            if ended.contains(&1) {
                break;
            }
        }
        assert_eq!(forecast.cached, cached, "{ahead:?}");
        let foretold = forecast.end.as_nanos() as f64 / 1e6;
        assert!((foretold - ms).abs() < 0.03 * ms + 16.0, "{ahead:?}: {foretold} and {ms}");
    };
    check(&[], 100, 5);
    check(&[(40, 60)], 100, 5);
    check(&[(2000, 60), (1000, 30), (70, 200)], 700, 40);
    check(&[(400, 60); 12], 300, 50);
}
