//! Measures what a server's prompts and steps take, one thing at a time: single prompts of several lengths, and
//! bursts of several answers whose common steps are looked at once all of them are being written.
//!
//! ```text
//! Design ──probes──▶ Gauge::read ──▶ Reading … ──sum──▶ Seen ──verdict──▶ which may be believed
//! ```

mod sum;
mod verdict;
mod window;

use std::time::Duration;

use pilotage_shell::clock::Clock;
use thiserror::Error;

use crate::load::{Bench, Limits, LoadError, Target, TargetError};
use crate::record::{Outcome, Sample};
use crate::workload::{Length, Load, Spec, Tenant, WarmUp, Workload};

pub use sum::{Seen, sum};
pub use verdict::{Doubt, doubts};
pub use window::{Reading, Unread};

/// Steps of a burst that all of its answers must have in common.
pub const STEPS_MIN: u32 = 6;

/// Prompt tokens of a burst for which its answers are a token longer: while prompts are read, the first answers
/// go on.
const PROMPT_TOKENS_A_STEP: u32 = 96;

/// What is measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Design {
    /// Tokens of prompts that are sent alone.
    pub prompts: Vec<u32>,
    /// Answers at once.
    pub concurrencies: Vec<u32>,
    /// Tokens of the prompts of those.
    pub contexts: Vec<u32>,
    /// Tokens of their answers.
    pub answer: u32,
    /// Tokens that the server takes at most, prompt and answer together.
    pub context_max: Option<u64>,
}

/// One thing to measure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Probe {
    /// A prompt alone.
    Prompt {
        /// Its tokens.
        tokens: u32,
    },
    /// Answers at once.
    Steps {
        /// How many.
        sequences: u32,
        /// Tokens of each prompt.
        prompt: u32,
        /// Tokens of each answer.
        answer: u32,
    },
}

impl Design {
    /// The probes, those that the server has no room for left out.
    pub fn probes(&self) -> Vec<Probe> {
        let fits = |tokens: u32| self.context_max.is_none_or(|most| u64::from(tokens) <= most);
        let prompts = self.prompts.iter().map(|tokens| Probe::Prompt { tokens: *tokens });
        let steps = self.concurrencies.iter().flat_map(|sequences| {
            self.contexts.iter().map(|prompt| {
                let read_meanwhile = sequences.saturating_mul(*prompt) / PROMPT_TOKENS_A_STEP;
                let answer = self.answer.saturating_add(read_meanwhile);
                Probe::Steps { sequences: *sequences, prompt: *prompt, answer }
            })
        });
        prompts.chain(steps).filter(|probe| fits(probe.tokens())).collect()
    }
}

impl Probe {
    /// Tokens that one of its sequences has in the end.
    const fn tokens(&self) -> u32 {
        match *self {
            Self::Prompt { tokens } => tokens.saturating_add(1),
            Self::Steps { prompt, answer, .. } => prompt.saturating_add(answer),
        }
    }
}

/// Why nothing was sent, or no answer came.
#[derive(Debug, Error)]
pub enum GaugeError {
    /// Nothing could be sent.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// There is no such server.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// An answer was none.
    #[error("a request was answered with status {status}")]
    Refused {
        /// How it ended.
        outcome: Outcome,
        /// The status; zero where there is none.
        status: u16,
    },
    /// It did not come to an end.
    #[error(
        "a short request was not answered in time: the server hangs, or needs a longer --timeout"
    )]
    Late,
    /// A connection broke.
    #[error("the connection broke in the middle of a short request")]
    Broken,
    /// There was none.
    #[error("no request was sent")]
    Silent,
}

/// Sends probes to one server.
#[derive(Debug)]
pub struct Gauge<F> {
    clock: Clock,
    target: F,
    /// Tokens that the server counts for one that is asked for.
    ratio: f64,
    timeout: Duration,
}

impl<F: Fn() -> Result<Target, TargetError>> Gauge<F> {
    /// A gauge of the server that `target` makes.
    pub const fn new(clock: Clock, target: F, timeout: Duration) -> Self {
        Self { clock, target, ratio: 1.0, timeout }
    }

    /// Sends one prompt of that many tokens, and remembers how many the server counts: its tokens are others than
    /// those that prompts are written in.
    ///
    /// # Errors
    /// [`GaugeError`].
    pub async fn try_out(&mut self, tokens: u32, seed: u64) -> Result<Sample, GaugeError> {
        let samples = self.send((1, 1), tokens, 4, seed).await?;
        let sample = samples.into_iter().next().ok_or(GaugeError::Silent)?;
        match sample.outcome {
            Outcome::Ok => {}
            Outcome::Timeout | Outcome::Unfinished => return Err(GaugeError::Late),
            Outcome::Rejected | Outcome::Status => {
                return Err(GaugeError::Refused { outcome: sample.outcome, status: sample.status });
            }
            _ => return Err(GaugeError::Broken),
        }
        if sample.counted && sample.input_tokens > 0 {
            self.ratio = (f64::from(sample.input_tokens) / f64::from(tokens)).clamp(0.25, 8.0);
        }
        Ok(sample)
    }

    /// Measures one thing once. It stays unread where requests are refused because they are too many, or break;
    /// what the server takes for wrong is an error.
    ///
    /// # Errors
    /// [`GaugeError`].
    pub async fn read(
        &self,
        probe: Probe,
        seed: u64,
    ) -> Result<Result<Reading, Unread>, GaugeError> {
        match probe {
            Probe::Prompt { tokens } => {
                let samples = self.send((1, 1), tokens, 1, seed).await?;
                Ok(window::prompt(&samples))
            }
            Probe::Steps { sequences, prompt, answer } => {
                let all = (u64::from(sequences), sequences);
                let samples = self.send(all, prompt, answer, seed).await?;
                Ok(window::steps(&samples, STEPS_MIN))
            }
        }
    }

    /// Tokens of answers a second with so many requests always under way.
    ///
    /// # Errors
    /// [`GaugeError`].
    pub async fn throughput(
        &self,
        (requests, concurrency): (u64, u32),
        (prompt, answer): (u32, u32),
        seed: u64,
    ) -> Result<Result<window::Throughput, Unread>, GaugeError> {
        let samples = self.send((requests, concurrency), prompt, answer, seed).await?;
        Ok(window::throughput(&samples))
    }

    /// Prompts are new with every seed, so that no cache has them.
    async fn send(
        &self,
        (requests, concurrency): (u64, u32),
        prompt: u32,
        answer: u32,
        seed: u64,
    ) -> Result<Vec<Sample>, GaugeError> {
        let asked = (f64::from(prompt) / self.ratio).round().max(1.0) as u32;
        let workload = Workload {
            input: Length::Fixed(asked),
            output: Length::Fixed(answer),
            prefix: None,
            turns: 1,
            think_seconds: 0.0,
            tenants: vec![Tenant { name: "all".to_owned(), weight: 1.0 }],
        };
        let spec = Spec {
            load: Load::Closed { concurrency: concurrency as usize },
            workload,
            seed,
            end_nanos: None,
            requests: Some(requests),
            warm_up: WarmUp::Requests(0),
        };
        let limits = Limits {
            connections: concurrency as usize,
            timeout: self.timeout,
            grace: self.timeout,
        };
        let bench = Bench::new(self.clock, spec, (self.target)()?, limits)?;
        let samples = bench.run().await.book.samples;
        let refused = |sample: &&Sample| sample.outcome == Outcome::Status;
        match samples.iter().find(refused) {
            Some(sample) => {
                Err(GaugeError::Refused { outcome: sample.outcome, status: sample.status })
            }
            None => Ok(samples),
        }
    }
}

#[cfg(test)]
mod tests;
