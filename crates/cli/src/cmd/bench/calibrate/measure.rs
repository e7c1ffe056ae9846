//! The rounds of measurements: a warm-up, then everything that there is time for once in each round, forwards and
//! backwards in turn, so that a server that gets slower is not taken for one that is slow with long prompts.

use std::time::Duration;

use anyhow::{bail, ensure};
use pilotage_lab::calibrate::{
    Design, Doubt, Gauge, GaugeError, Probe, Reading, Seen, Unread, doubts, sum,
};
use pilotage_lab::load::{Target, TargetError};
use pilotage_plan::size::{Load, Phase, Point};
use pilotage_shell::clock::Clock;

use crate::args::BenchCalibrate;
use crate::cmd::probe::Answering;
use crate::output;

use super::budget::{Budget, work};
use super::told::Told;

/// Tokens of the prompt that tells how the server counts them.
const TRIED_TOKENS: u32 = 128;

/// Tokens of prompts and answers of whole loads.
const LOAD_TOKENS: (u32, u32) = (128, 64);

/// Requests of a whole load, for each that is under way at once …
const LOAD_TURNS: u64 = 4;

/// … and at least.
const LOAD_REQUESTS_MIN: u64 = 8;

/// With fewer rounds nothing is known of how times are spread.
const REPEATS_TOLD: u32 = 3;

/// Nothing is begun after that many times what it may take.
const WITHIN_TIMES_MAX: u64 = 2;

/// After that a server tells of no request that has ended.
const SETTLED: Duration = Duration::from_millis(300);

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
    let mut told = Told::new(clock, probes.len() as u64 * u64::from(args.repeats));
    warm_up(&gauge, &probes, seed).await?;
    let mut rounds = Rounds {
        budget: Budget::new(Duration::from_secs(args.within), args.repeats),
        repeats: args.repeats,
        seed,
        clock,
        end_nanos: clock.now_nanos() + args.within * WITHIN_TIMES_MAX * 1_000_000_000,
        read: vec![Vec::new(); probes.len()],
    };
    rounds.run(&gauge, &probes, &mut idle, &mut told).await?;
    told.end();
    notes.extend(rounds.left_out(&probes, args.within));
    let mut found: Vec<Seen> = Vec::new();
    for (probe, read) in probes.iter().zip(&rounds.read).filter(|(_, read)| !read.is_empty()) {
        match sum(*probe, read) {
            Ok(seen) => found.push(seen),
            Err(why) => notes.push(format!("{}: {why}; left out", named(*probe))),
        }
    }
    if args.repeats < REPEATS_TOLD {
        notes.push(format!(
            "measured {} only: how far times are from their medians is not known; --repeats 5 tells",
            if args.repeats == 1 { "once" } else { "twice" }
        ));
    }
    let loads = if rounds.is_over() {
        notes.push("no whole load was measured: there was no time left".to_owned());
        Vec::new()
    } else {
        loads(&gauge, &found, seed, &mut notes).await?
    };
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

/// What runs for the first time takes longer. The smallest are asked for: nobody knows yet how long others take.
async fn warm_up<F: Fn() -> Result<Target, TargetError>>(
    gauge: &Gauge<F>,
    probes: &[Probe],
    seed: u64,
) -> anyhow::Result<()> {
    let is_prompt = |probe: &&Probe| matches!(probe, Probe::Prompt { .. });
    let prompt = probes.iter().find(is_prompt);
    let steps = probes.iter().find(|probe| !is_prompt(probe));
    for probe in prompt.into_iter().chain(steps) {
        // What it reads is nothing yet.
        let _ = gauge.read(*probe, seed.wrapping_add(2)).await.map_err(refused)?;
    }
    Ok(())
}

/// What each round read of each probe; nothing of those there was no time for.
struct Rounds {
    budget: Budget,
    repeats: u32,
    seed: u64,
    clock: Clock,
    end_nanos: u64,
    read: Vec<Vec<Result<Reading, Unread>>>,
}

impl Rounds {
    async fn run<F: Fn() -> Result<Target, TargetError>>(
        &mut self,
        gauge: &Gauge<F>,
        probes: &[Probe],
        idle: &mut Idle<'_>,
        told: &mut Told,
    ) -> anyhow::Result<()> {
        let mut order: Vec<usize> = (0..probes.len()).collect();
        order.sort_by(|one, other| work(probes[*one]).total_cmp(&work(probes[*other])));
        for round in 0..self.repeats {
            for at in &order {
                told.inc();
                if self.is_over() || !self.is_due(round, *at, probes[*at]) {
                    continue;
                }
                idle.look().await;
                let number = u64::from(round) * probes.len() as u64 + *at as u64 + 3;
                let seed = self.seed.wrapping_add(number.wrapping_mul(SEED_STRIDE));
                let begin = self.clock.now_nanos();
                let read = gauge.read(probes[*at], seed).await.map_err(refused)?;
                let seconds = self.clock.now_nanos().saturating_sub(begin) as f64 / 1e9;
                if round == 0 {
                    self.budget.took(probes[*at], seconds, read.err());
                }
                self.read[*at].push(read);
            }
            order.reverse();
        }
        Ok(())
    }

    /// Whether it takes much longer than it may: then all that is left is left out.
    fn is_over(&self) -> bool {
        self.clock.now_nanos() >= self.end_nanos
    }

    /// Whether it is measured in that round: what had no time in the first is left out of all, and what could not
    /// be read twice is not tried again.
    fn is_due(&self, round: u32, at: usize, probe: Probe) -> bool {
        let read = &self.read[at];
        if round == 0 {
            return self.budget.has_room(probe);
        }
        let is_unread = read.len() >= 2 && read.iter().all(Result::is_err);
        !read.is_empty() && !is_unread
    }

    /// What there was no time or no use for.
    fn left_out(&self, probes: &[Probe], within: u64) -> Option<String> {
        let none = probes.iter().zip(&self.read).filter(|(_, read)| read.is_empty());
        let (mut prompts, mut steps) = (Vec::new(), Vec::new());
        for (probe, _) in none {
            match probe {
                Probe::Prompt { tokens } => prompts.push(tokens.to_string()),
                Probe::Steps { sequences, prompt, .. } => {
                    steps.push(format!("{sequences} x {prompt}"));
                }
            }
        }
        let mut parts = Vec::new();
        if !prompts.is_empty() {
            parts.push(format!("prompts of {} tokens", prompts.join(", ")));
        }
        if !steps.is_empty() {
            parts.push(format!("answers of {} tokens at once", steps.join(", ")));
        }
        (!parts.is_empty()).then(|| {
            let parts = parts.join(" and ");
            format!(
                "not measured, as too much for the server or for {within} s (--within): {parts}"
            )
        })
    }
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
    /// Some servers tell of a request a little longer than it runs: they are looked at again.
    async fn look(&mut self) {
        for last in [false, true] {
            match self.server.load().await {
                None => return,
                Some(0) => {
                    self.looks += 1;
                    return;
                }
                Some(_) if last => {
                    self.looks += 1;
                    self.times += 1;
                }
                Some(_) => tokio::time::sleep(SETTLED).await,
            }
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
        429 | 500.. => output::hint("it refuses or fails what it may be asked: look into its log"),
        404 => output::hint(
            "is that its model? --model NAME; a base model takes --endpoint completions",
        ),
        400..=499 => output::hint(
            "lengths beyond the server's context are refused: lower --prompts and --contexts",
        ),
        _ => {}
    }
    error.into()
}
