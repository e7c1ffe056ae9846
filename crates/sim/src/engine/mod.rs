//! An engine that computes nothing: it only knows how long everything takes.
//!
//! There are two kinds: one works in [`phased`] batches, the other in [`stepped`] ones that share
//! each step between prompts and answers.

mod blocks;
mod cache;
mod model;
mod phased;
mod stepped;

use std::sync::Arc;

use pilotage_core::{RequestId, Span};

pub(crate) use model::prefill_max;
pub use model::{EngineModel, Extras};

use phased::Phased;
pub(crate) use stepped::{Stepped, Tally};

/// A request as an engine gets it.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) id: RequestId,
    /// Tokens of the prompt.
    pub(crate) input: u32,
    /// Tokens that the answer will have.
    pub(crate) output: u32,
    /// Those it has already.
    pub(crate) generated: u32,
    pub(crate) prefix: Arc<[u64]>,
    pub(crate) block_tokens: u32,
    /// The adapter that it wants, where the engine has any.
    pub(crate) adapter: u32,
}

/// What a phase brought.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// Requests whose prompt is computed, with its cached tokens: one more token is there.
    pub(crate) begun: Vec<(RequestId, u32)>,
    /// Requests whose answer is complete, all of it.
    pub(crate) ended: Vec<RequestId>,
}

/// What an engine tells of itself when it is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Gauges {
    /// Requests in its batch.
    pub(crate) running: u32,
    /// Requests in its own queue.
    pub(crate) waiting: u32,
    /// The part of its KV cache that is in use.
    pub(crate) kv_usage: f64,
}

/// What would become of a request that an engine got now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Forecast {
    /// How long until its last token, if nobody else came.
    pub(crate) end: Span,
    /// Tokens of its prompt that it would find.
    pub(crate) cached: u32,
}

/// One replica.
#[derive(Debug)]
pub(crate) struct Engine {
    kind: Kind,
    /// Changes whenever a phase that goes on becomes void.
    pub(crate) epoch: u64,
    /// How many times longer everything takes than its model says, faults aside.
    slowness: f64,
}

#[derive(Debug)]
enum Kind {
    Phased(Phased),
    Stepped(Stepped),
}

/// The same call, whichever kind it is.
macro_rules! both {
    ($engine:expr, $inner:ident => $call:expr) => {
        match $engine.kind {
            Kind::Phased(ref $inner) => $call,
            Kind::Stepped(ref $inner) => $call,
        }
    };
    (mut $engine:expr, $inner:ident => $call:expr) => {
        match $engine.kind {
            Kind::Phased(ref mut $inner) => $call,
            Kind::Stepped(ref mut $inner) => $call,
        }
    };
}

impl Engine {
    pub(crate) fn new(model: EngineModel, slowness: f64) -> Self {
        let kind = match model.step_tokens_max {
            Some(tokens) => Kind::Stepped(Stepped::new(model, tokens)),
            None => Kind::Phased(Phased::new(model)),
        };
        let mut engine = Self { kind, epoch: 0, slowness };
        engine.slow_down(1.0);
        engine
    }

    /// From now on everything takes so many times longer than it would.
    pub(crate) fn slow_down(&mut self, times: f64) {
        let slowness = self.slowness * times;
        both!(mut self, inner => inner.slowness = slowness);
    }

    /// From now on somebody else holds so many KV tokens.
    pub(crate) fn occupy(&mut self, tokens: u64) {
        match &mut self.kind {
            Kind::Phased(inner) => inner.foreign = tokens,
            Kind::Stepped(inner) => inner.occupy(tokens),
        }
    }

    pub(crate) fn is_busy(&self) -> bool {
        both!(self, inner => inner.is_busy())
    }

    /// Whether new requests may join before the next step.
    pub(crate) fn may_form(&self) -> bool {
        match &self.kind {
            Kind::Phased(inner) => inner.may_form(),
            Kind::Stepped(_) => true,
        }
    }

    /// KV tokens that are taken, by whomever.
    pub(crate) fn kv_tokens(&self) -> u64 {
        both!(self, inner => inner.kv_tokens())
    }

    /// What it tells of itself.
    pub(crate) fn gauges(&self) -> Gauges {
        both!(self, inner => inner.gauges())
    }

    /// How many of a prompt's tokens its cache has.
    pub(crate) fn cached(&self, prefix: &[u64], block_tokens: u32, input: u32) -> u32 {
        both!(self, inner => inner.cached(prefix, block_tokens, input))
    }

    /// What would become of a request; nobody knows of an engine that works in phases.
    pub(crate) fn forecast(&self, job: &Job) -> Forecast {
        match &self.kind {
            Kind::Phased(_) => Forecast::default(),
            Kind::Stepped(inner) => inner.forecast(job),
        }
    }

    /// Takes a request in; it joins when it can.
    pub(crate) fn put(&mut self, job: Job) {
        both!(mut self, inner => inner.put(job));
    }

    /// Begins the next phase, and says how long it takes; none when there is nothing to do.
    pub(crate) fn start(&mut self) -> Option<Span> {
        both!(mut self, inner => inner.start())
    }

    /// The phase is over.
    pub(crate) fn complete(&mut self) -> Done {
        both!(mut self, inner => inner.complete())
    }

    /// Whether a request is here and not paused.
    pub(crate) fn is_active(&self, id: RequestId) -> bool {
        both!(self, inner => inner.is_active(id))
    }

    /// Takes a request out, with the tokens it has.
    pub(crate) fn take(&mut self, id: RequestId) -> Option<Job> {
        both!(mut self, inner => inner.take(id))
    }

    /// A sequence stands still, and keeps its tokens while there is place for them.
    pub(crate) fn pause(&mut self, id: RequestId) {
        if let Kind::Phased(inner) = &mut self.kind {
            inner.pause(id);
        }
    }

    /// The one that was paused first goes on; its tokens are computed again where it lost its place.
    pub(crate) fn resume_one(&mut self) {
        if let Kind::Phased(inner) = &mut self.kind {
            inner.resume_one();
        }
    }

    /// Everything here is lost: the requests that were here, in the order of their ids.
    pub(crate) fn crash(&mut self) -> Vec<RequestId> {
        self.epoch += 1;
        both!(mut self, inner => inner.crash())
    }

    /// Every sequence in the batch whose answer has begun, with its tokens so far.
    pub(crate) fn progress(&self) -> Vec<(RequestId, u32)> {
        both!(self, inner => inner.progress().collect())
    }

    /// The engine that shares its steps, with what it counts; none where this is one of phases.
    pub(crate) const fn stepped(&self) -> Option<&Stepped> {
        match &self.kind {
            Kind::Phased(_) => None,
            Kind::Stepped(inner) => Some(inner),
        }
    }

    /// Decode steps so far: progress is news only after more of them.
    pub(crate) fn steps(&self) -> u64 {
        both!(self, inner => inner.steps())
    }
}
