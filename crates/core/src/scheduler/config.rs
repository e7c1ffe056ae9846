//! The limits of one lane, and how it decides.

use crate::Span;
use crate::health::BoardConfig;
use crate::preempt::PreemptConfig;
use crate::queue::{FairConfig, QueueLimits};
use crate::route::{InitialSpeed, Policy};

/// The limits of one lane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SchedulerConfig {
    /// What may wait.
    pub queue: QueueLimits,
    /// How turns are given.
    pub fair: FairConfig,
    /// When running work is stopped for other work.
    pub preempt: PreemptConfig,
    /// Attempts for one request, the first one included.
    pub attempts_max: u32,
    /// Retries allowed for each hundred arrivals, so that a broken fleet is not hammered.
    pub retry_percent: u32,
    /// Retries allowed whatever the arrivals: about what one replica has in flight, so that its death
    /// costs no answers.
    pub retries_min: u32,
    /// How long a replica gets no new work after a connection to it failed or broke. It may have
    /// died: the host reports that a moment later, and requests wait instead of using up attempts.
    pub suspension_broken: Span,
    /// How long a replica gets no new work after it said that it has no room.
    pub suspension_overloaded: Span,
    /// How long a request may at least wait for another turn after a failed attempt, and one whose
    /// client has a part of its answer at most.
    pub retry_wait: Span,
    /// How replicas are picked.
    pub policy: Policy,
    /// How they are judged by what comes from them; none for hosts that know better.
    pub health: Option<BoardConfig>,
    /// Whether replicas keep what several prompts begin with only once, as vLLM and SGLang do.
    pub shares_prefixes: bool,
    /// Whether the host tells when a replica has died. Of those elsewhere nobody does: then it is found
    /// by signs.
    pub deaths_told: bool,
    /// How fast replicas are taken to be until they were measured.
    pub initial: InitialSpeed,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            queue: QueueLimits { requests_max: 1024, tokens_max: 16_000_000 },
            fair: FairConfig::default(),
            preempt: PreemptConfig::default(),
            attempts_max: 3,
            retry_percent: 20,
            retries_min: 64,
            suspension_broken: Span::from_secs(1),
            suspension_overloaded: Span::from_millis(100),
            retry_wait: Span::from_secs(10),
            policy: Policy::default(),
            health: None,
            shares_prefixes: false,
            deaths_told: true,
            initial: InitialSpeed::default(),
        }
    }
}
