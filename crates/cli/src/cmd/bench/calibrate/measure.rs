//! The rounds of measurements: a warm-up, then everything once in each round, forwards and backwards in turn, so
//! that a server that gets slower is not taken for one that is slow with long prompts.

use std::io::IsTerminal as _;

use anyhow::{bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use pilotage_lab::calibrate::{
    Design, Doubt, Gauge, GaugeError, Probe, Reading, Seen, Unread, doubts, sum,
};
use pilotage_lab::load::{Target, TargetError};
use pilotage_plan::size::{Load, Phase, Point};
use pilotage_shell::clock::Clock;

use crate::args::BenchCalibrate;
use crate::cmd::probe::Answering;
use crate::output;

/// Tokens of the prompt that tells how the server counts them.
const TRIED_TOKENS: u32 = 128;

/// Tokens of prompts and answers of whole loads.
const LOAD_TOKENS: (u32, u32) = (128, 64);

/// Requests of a whole load, for each that is under way at once …
const LOAD_TURNS: u64 = 4;

/// … and at least.
const LOAD_REQUESTS_MIN: u64 = 8;

/// What keeps seeds of measurements apart, so that no prompt comes twice.
const SEED_STRIDE: u64 = 1_000_003;

/// What was measured.
#[derive(Debug)]
pub(super) struct Measured {
    /// Prompts and steps.
    pub(super) points: Vec<Point>,
    /// Whole loads, with tokens of answers a second.
    pub(super) loads: Vec<(Load, f64)>,
    /// Why it may not be believed.
    pub(super) doubts: Vec<Doubt>,
    /// What else is to be known.
    pub(super) notes: Vec<String>,
}

/// Makes the server to ask, with answers that go on to their end or without.
pub(super) type Making<'a> = dyn Fn(bool) -> Result<Target, TargetError> + 'a;

/// Measures everything.
pub(super) async fn measure(
    args: &BenchCalibrate,
    server: &Answering,
    design: &Design,
    make: &Making<'_>,
) -> anyhow::Result<Measured> {
    let probes = design.probes();
    let mut notes = Vec::new();
    let left_out = design.prompts.len() + design.concurrencies.len() * design.contexts.len();
    if let Some(most) = design.context_max.filter(|_| probes.len() < left_out) {
        notes.push(format!("what has no room in its {most} tokens of context is left out"));
    }
    let clock = Clock::start();
    let seed = args.seed.unwrap_or_else(|| clock.unix_ms());
    let mut idle = Idle { server, times: 0, looks: 0 };
    let ends = goes_on((args, seed), clock, make, &mut notes).await?;
    let mut gauge = Gauge::new(clock, || make(ends), super::timeout(args));
    let tried = gauge.try_out(TRIED_TOKENS, seed).await.map_err(refused)?;
    if !tried.counted {
        notes.push("the server does not count tokens: lengths are estimates".to_owned());
    }
    let bar = bar(probes.len() as u64 * u64::from(args.repeats));
    warm_up(&gauge, &probes, seed).await?;
    let seen = rounds((args.repeats, seed), &gauge, &probes, &mut idle, &bar).await?;
    bar.finish_and_clear();
    let mut found: Vec<Seen> = Vec::new();
    for (probe, result) in probes.iter().zip(seen) {
        match result {
            Ok(seen) => found.push(seen),
            Err(why) => notes.push(format!("{}: {why}; left out", named(*probe))),
        }
    }
    let loads = loads(&gauge, &found, seed, &mut notes).await?;
    let looks = (idle.looks > 0).then_some((idle.times, idle.looks));
    if looks.is_none() {
        notes.push("it has no metrics that tell whether others use it".to_owned());
    }
    let doubts = doubts(&found, looks);
    Ok(Measured { points: found.iter().map(point).collect(), loads, doubts, notes })
}

/// Whether it takes the field that makes answers go on, which OpenAI's API does not have.
async fn goes_on(
    (args, seed): (&BenchCalibrate, u64),
    clock: Clock,
    make: &Making<'_>,
    notes: &mut Vec<String>,
) -> anyhow::Result<bool> {
    for ends in [true, false] {
        let mut gauge = Gauge::new(clock, || make(ends), super::timeout(args));
        match gauge.try_out(16, seed.wrapping_add(1)).await {
            Ok(_) => return Ok(ends),
            Err(GaugeError::Refused { status: 400 | 422, .. }) if ends => {
                notes.push("it refuses `ignore_eos`: answers may end early".to_owned());
            }
            Err(error) => return Err(refused(error)),
        }
    }
    bail!("it refuses requests with and without `ignore_eos`")
}

/// What runs for the first time takes longer.
async fn warm_up<F: Fn() -> Result<Target, TargetError>>(
    gauge: &Gauge<F>,
    probes: &[Probe],
    seed: u64,
) -> anyhow::Result<()> {
    let is_prompt = |probe: &&Probe| matches!(probe, Probe::Prompt { .. });
    let prompt = probes.iter().rev().find(is_prompt);
    let steps = probes.iter().rev().find(|probe| !is_prompt(probe));
    for probe in prompt.into_iter().chain(steps) {
        // What it reads is nothing yet.
        let _ = gauge.read(*probe, seed.wrapping_add(2)).await.map_err(refused)?;
    }
    Ok(())
}

type Sum = Result<Seen, Unread>;

async fn rounds<F: Fn() -> Result<Target, TargetError>>(
    (repeats, seed): (u32, u64),
    gauge: &Gauge<F>,
    probes: &[Probe],
    idle: &mut Idle<'_>,
    bar: &ProgressBar,
) -> anyhow::Result<Vec<Sum>> {
    let mut read: Vec<Vec<Result<Reading, Unread>>> = vec![Vec::new(); probes.len()];
    for round in 0..repeats {
        idle.look().await;
        let mut order: Vec<usize> = (0..probes.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for at in order {
            // What could not be read twice is not tried again.
            if read[at].len() >= 2 && read[at].iter().all(Result::is_err) {
                bar.inc(1);
                continue;
            }
            let number = u64::from(round) * probes.len() as u64 + at as u64 + 3;
            let seed = seed.wrapping_add(number.wrapping_mul(SEED_STRIDE));
            read[at].push(gauge.read(probes[at], seed).await.map_err(refused)?);
            bar.inc(1);
        }
    }
    Ok(probes.iter().zip(&read).map(|(probe, read)| sum(*probe, read)).collect())
}

/// Whole loads, with as many at once as were measured, and half as many.
async fn loads<F: Fn() -> Result<Target, TargetError>>(
    gauge: &Gauge<F>,
    seen: &[Seen],
    seed: u64,
    notes: &mut Vec<String>,
) -> anyhow::Result<Vec<(Load, f64)>> {
    let at_once = seen.iter().filter_map(|seen| match seen.probe {
        Probe::Steps { sequences, .. } => Some(sequences),
        Probe::Prompt { .. } => None,
    });
    let Some(most) = at_once.max() else { return Ok(Vec::new()) };
    let mut loads = Vec::new();
    let mut sizes = vec![most.div_ceil(2), most];
    sizes.dedup();
    for concurrency in sizes {
        let requests = (LOAD_TURNS * u64::from(concurrency)).max(LOAD_REQUESTS_MIN);
        let seed = seed.wrapping_sub(u64::from(concurrency));
        let read = gauge.throughput((requests, concurrency), LOAD_TOKENS, seed).await;
        let rate = match read.map_err(refused)? {
            Ok(rate) => rate,
            Err(why) => {
                notes.push(format!("a load of {concurrency} at once: {why}; left out"));
                continue;
            }
        };
        let whole = |tokens: f64| tokens.round().max(1.0) as u64;
        let load = Load { prompt: whole(rate.prompt), answer: whole(rate.answer), concurrency };
        loads.push((load, rate.tokens_per_second));
    }
    ensure!(!seen.is_empty(), "nothing could be measured");
    Ok(loads)
}

/// Looks at the server's metrics while we ask nothing.
struct Idle<'a> {
    server: &'a Answering,
    times: usize,
    looks: usize,
}

impl Idle<'_> {
    async fn look(&mut self) {
        if let Some(requests) = self.server.load().await {
            self.looks += 1;
            self.times += usize::from(requests > 0);
        }
    }
}

fn point(seen: &Seen) -> Point {
    let tokens = seen.tokens.round().max(1.0) as u64;
    let phase = match seen.probe {
        Probe::Prompt { .. } => Phase::Prefill { tokens },
        Probe::Steps { sequences, .. } => Phase::Decode { sequences, context: tokens },
    };
    let times = seen.rounds.iter().flatten().count();
    Point { phase, seconds: seen.seconds, spread: seen.spread, times }
}

fn named(probe: Probe) -> String {
    match probe {
        Probe::Prompt { tokens } => format!("a prompt of {tokens} tokens"),
        Probe::Steps { sequences, prompt, .. } => {
            format!("{sequences} answers at once after {prompt} tokens each")
        }
    }
}

/// What to do about an answer that is none.
fn refused(error: GaugeError) -> anyhow::Error {
    let GaugeError::Refused { status, .. } = &error else { return error.into() };
    match status {
        401 | 403 => output::hint("a key is given in an environment variable: --key-env NAME"),
        404 => output::hint(
            "is that its model? --model NAME; a base model takes --endpoint completions",
        ),
        _ => output::hint(
            "lengths beyond the server's context are refused: lower --prompts and --contexts",
        ),
    }
    error.into()
}

fn bar(count: u64) -> ProgressBar {
    let shown = std::io::stderr().is_terminal();
    let bar = if shown { ProgressBar::new(count) } else { ProgressBar::hidden() };
    let form = "{bar:32} {pos} of {len} measurements, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(form) {
        bar.set_style(style);
    }
    bar
}
