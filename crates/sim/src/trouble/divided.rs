//! Prompts and answers on replicas of their own: two runs, and a network between them that carries the KV
//! cache of each prompt, one after the other from each replica.

use pilotage_lens::triage::evidence::Role;
use pilotage_lens::triage::observe::{Ended, Observed};

use super::front::EPOCH_S;
use super::machine::KV_BYTES;
use super::setup::{Setup, WARM_S, WINDOW_S};
use super::world::World;
use crate::Arrival;
use crate::arrival::{seconds, time};

/// What is observed of both.
pub(super) fn observed(
    world: &World,
    setup: &Setup,
    (prompts, bytes_s): (usize, f64),
    seed: u64,
) -> Observed {
    let first = Setup { replicas: prompts, ..setup.clone() };
    let mut scenario = first.scenario(seed);
    let whole: Vec<Arrival> = scenario.arrivals.clone();
    for one in &mut scenario.arrivals {
        (one.output, one.output_max) = (1, 1);
    }
    let mut computed = world.play(&scenario, &first, ("prompt", Role::Prefill), None);
    let (moved, times) = transfer(&computed.run, &whole, prompts, bytes_s);
    // The cache is there: what is left of a prompt costs nothing.
    let second = Setup { replicas: setup.replicas - prompts, token_ms: 0.0, ..setup.clone() };
    let mut scenario = second.scenario(seed);
    scenario.arrivals = moved.iter().map(|(_, arrival)| arrival.clone()).collect();
    let answers = world.play(&scenario, &second, ("answer", Role::Decode), Some(&times));
    let mut rows = Vec::new();
    for ((place, arrival), record) in moved.iter().zip(&answers.run.records) {
        let prompt = &computed.run.records[*place];
        let (Some(end), Some(token)) = (record.end, record.first_token) else { continue };
        let came = prompt.came.map_or(0.0, seconds);
        let sent = prompt.dispatched.map_or(came, seconds);
        let (token, end) = (seconds(token), seconds(end));
        let ms = |seconds: f64| Some(seconds.max(0.0) * 1e3);
        rows.push(Ended {
            unix_ms: ms(EPOCH_S + end),
            request_id: Some(format!("r{place}")),
            lane: Some("m".to_owned()),
            replica: record.replica.map(|at| format!("answer-{at}")),
            status: Some(200),
            termination: Some("ok".to_owned()),
            input: Some(f64::from(arrival.input)),
            output: Some(f64::from(arrival.output)),
            t_queue_ms: ms(sent - came),
            t_connect_ms: ms(0.0),
            t_prefill_ms: ms(token - sent),
            t_decode_ms: ms(end - token),
            t_total_ms: ms(end - came),
            ..Ended::default()
        });
    }
    rows.retain(|one| {
        one.unix_ms.is_some_and(|at| {
            at / 1e3 - EPOCH_S >= WARM_S && at / 1e3 - EPOCH_S <= WARM_S + WINDOW_S
        })
    });
    computed.replicas.extend(answers.replicas);
    let mut observed = world.assemble(computed, Vec::new());
    observed.records = Some(rows);
    observed
}

/// A prompt's place, and the arrival that it becomes at the replicas for answers.
type Moved = (usize, Arrival);

/// When each prompt's cache is there, as an arrival at the replicas for answers with its place among the
/// prompts; and when each transfer ended and how long it took, its waiting for the others included.
fn transfer(
    run: &crate::run::Run,
    whole: &[Arrival],
    prompts: usize,
    bytes_s: f64,
) -> (Vec<Moved>, Vec<(f64, f64)>) {
    let mut order: Vec<(f64, usize)> = Vec::new();
    for (place, record) in run.records.iter().enumerate() {
        order.extend(
            record.end.filter(|_| record.first_token.is_some()).map(|end| (seconds(end), place)),
        );
    }
    order.sort_by(|left, right| left.0.total_cmp(&right.0));
    let mut free = vec![0.0_f64; prompts];
    let mut moved: Vec<Moved> = Vec::new();
    let mut times = Vec::new();
    for (ready, place) in order {
        let link = &mut free[run.records[place].replica.unwrap_or(0) as usize % prompts];
        let done = ready.max(*link) + f64::from(whole[place].input) * KV_BYTES / bytes_s;
        *link = done;
        times.push((done, done - ready));
        moved.push((place, Arrival { at: time(done), ..whole[place].clone() }));
    }
    moved.sort_by_key(|(_, arrival)| arrival.at);
    times.sort_by(|left: &(f64, f64), right| left.0.total_cmp(&right.0));
    (moved, times)
}
