//! How fast an engine computes, measured through the same loop that serves: prefill and decode at
//! one number of parallel sequences.

use std::sync::Arc;

use pilotage_core::{Band, TenantId};
use pilotage_shell::clock::Clock;
use serde::Serialize;
use tokio::sync::mpsc::{self, UnboundedReceiver};

use crate::config::EngineConfig;
use crate::job::{Event, Job, Token};
use crate::runner::Engine;
use crate::sample::Sampling;
use crate::start::{StartError, next_id, start};

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Sequences at once.
    pub parallel: u32,
    /// Tokens of each prompt.
    pub prompt_tokens: u32,
    /// Tokens of each answer.
    pub output_tokens: u32,
}

/// What was measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Row {
    /// Sequences at once.
    pub parallel: u32,
    /// Prompt tokens computed per second, all sequences together.
    pub prefill_tokens_per_s: f64,
    /// Tokens generated per second, all sequences together, from when all have their first.
    pub decode_tokens_per_s: f64,
}

/// Measures on an engine of its own, after one round that warms it up.
///
/// # Errors
/// The engine does not start.
pub async fn run(mut config: EngineConfig, plan: Plan, clock: Clock) -> Result<Row, StartError> {
    config.slots = plan.parallel.max(1);
    config.context = plan.prompt_tokens.max(8) + plan.output_tokens + 8;
    let engine = start(config, clock).await?;
    round(&engine, plan, clock, 0).await;
    let (prefill, decode) = round(&engine, plan, clock, 1).await;
    engine.drain().await;
    Ok(Row { parallel: plan.parallel, prefill_tokens_per_s: prefill, decode_tokens_per_s: decode })
}

async fn round(engine: &Engine, plan: Plan, clock: Clock, number: u32) -> (f64, f64) {
    let prefill = Plan { output_tokens: 1, ..plan };
    let begun = clock.now_nanos();
    let tokens = together(engine, prefill, clock, number * 2).await;
    let first = tokens.iter().filter_map(|times| times.first()).max().copied().unwrap_or(begun);
    let prefill_rate =
        rate(u64::from(plan.parallel) * u64::from(plan.prompt_tokens), first - begun);

    let decode = Plan { prompt_tokens: 8, output_tokens: plan.output_tokens, ..plan };
    let tokens = together(engine, decode, clock, number * 2 + 1).await;
    let all_began = tokens.iter().filter_map(|times| times.first()).max().copied().unwrap_or(0);
    let last = tokens.iter().filter_map(|times| times.last()).max().copied().unwrap_or(0);
    let counted = tokens.iter().flatten().filter(|at| **at > all_began).count() as u64;
    (prefill_rate, rate(counted, last.saturating_sub(all_began)))
}

/// Sequences side by side; when each of their tokens came.
async fn together(engine: &Engine, plan: Plan, clock: Clock, salt: u32) -> Vec<Vec<u64>> {
    let receivers: Vec<_> =
        (0..plan.parallel).map(|number| submit(engine, plan, salt * 1000 + number)).collect();
    let mut times = Vec::new();
    let waits: Vec<_> = receivers
        .into_iter()
        .map(|receiver| pilotage_shell::tasks::spawn("bench", collect(receiver, clock)))
        .collect();
    for wait in waits {
        times.push(wait.await.ok().flatten().unwrap_or_default());
    }
    times
}

fn submit(engine: &Engine, plan: Plan, salt: u32) -> UnboundedReceiver<Event> {
    let (events, happened) = mpsc::unbounded_channel();
    let size = u32::try_from(engine.vocabulary().size()).unwrap_or(u32::MAX).max(2);
    // Prompts that share no prefix, so that nothing is reused.
    let token = |at: u32| {
        Token::try_from((salt * 7919 + at * 104_729 + 1) % (size / 2) + size / 4).unwrap_or(0)
    };
    let prompt: Arc<[Token]> = (0..plan.prompt_tokens.max(1)).map(token).collect();
    let job = Job {
        id: next_id(),
        origin: None,
        displaces: None,
        tenant: TenantId::default(),
        band: Band::Standard,
        deadline: None,
        prompt,
        tokens_max: plan.output_tokens.max(1),
        sampling: Sampling { temperature: 0.0, ..Sampling::default() },
        grammar: None,
        stop: Vec::new(),
        logprobs: None,
        reuse_prefix: false,
        ignore_end: true,
        events,
    };
    // A refusal closes the channel, and counts as no tokens.
    let _ = engine.submit(job);
    happened
}

async fn collect(mut happened: UnboundedReceiver<Event>, clock: Clock) -> Vec<u64> {
    let mut times = Vec::new();
    while let Some(event) = happened.recv().await {
        match event {
            Event::Piece { .. } => times.push(clock.now_nanos()),
            Event::Done(_) | Event::Failed(_) => break,
            Event::Started { .. } => {}
        }
    }
    times
}

fn rate(count: u64, nanos: u64) -> f64 {
    count as f64 * 1e9 / nanos.max(1) as f64
}
