//! Watches of answers that several callers share, and of copies: each caller learns what happened to the
//! one generation.

use std::sync::Arc;

use pilotage_core::{Band, Tokens};
use pilotage_lens::{Mark, Termination};

use super::{Part, Watch};
use crate::forward::generation::{Generation, Member, Told};
use crate::quotas::{Header, Lease};

impl Watch {
    /// The request joined a generation. Its lease is there if somebody pays together with others.
    pub(in crate::forward) fn joins(
        &mut self,
        member: &Member,
        (lease, input): (Option<Lease>, u32),
        limits: Vec<Header>,
    ) {
        self.part = Part::Caller(Arc::clone(member.generation()), !member.is_first());
        self.lease = lease;
        self.estimated_input = input;
        self.limits = limits;
        self.mark(Mark::Lined);
    }

    /// What happened to the generation so far is what happened to its caller.
    pub(in crate::forward) fn learn(&mut self) {
        let Part::Caller(generation, _) = &self.part else { return };
        let told = generation.told();
        // Set once: a later attempt of the generation must not undo what its caller has seen since.
        if self.attempts == 0 {
            let marks = [(Mark::Dispatched, told.dispatched), (Mark::Answered, told.answered)];
            for (mark, at) in marks {
                if let Some(at) = at {
                    self.timeline.set(at, mark);
                }
            }
        }
        self.lane = told.lane.or_else(|| self.lane.take());
        self.attempts = told.attempts;
        self.stops = told.stops;
        self.detours = told.detours;
        self.why = told.why;
    }

    /// The caller has so many tokens of the answer.
    pub(in crate::forward) const fn shares(&mut self, tokens: Tokens, counted: bool) {
        self.tokens = tokens;
        self.counted = counted;
    }

    /// The caller has all of the answer: it ended as the generation did, or so if that did not say.
    pub(in crate::forward) fn end_shared(&mut self, otherwise: Termination) {
        let Part::Caller(generation, _) = &self.part else { return };
        let Told { tokens, counted, end, .. } = generation.told();
        self.shares(tokens, counted);
        let (status, termination) = end.unwrap_or((200, otherwise));
        self.end(status, termination);
    }

    /// The watch of a generation that begins for this request.
    pub(in crate::forward) fn generation(&self, generation: Arc<Generation>) -> Self {
        let mut watch = self.beside();
        watch.part = Part::Generation(generation);
        // Its attempts are those of who asked first, in that one's trace.
        watch.traced = self.traced.clone();
        watch.tenant.clone_from(&self.tenant);
        watch.band = self.band;
        watch.estimated_input = self.estimated_input;
        watch
    }

    /// The watch of a copy of this request.
    pub(in crate::forward) fn copy(&self) -> Self {
        let mut watch = self.beside();
        watch.part = Part::Copy;
        watch.band = Band::Batch;
        watch
    }

    /// A watch that begins now.
    fn beside(&self) -> Self {
        let gateway = self.gateway.clone();
        let (id, traced) = (self.request_id.clone(), self.traced.beside());
        let mut watch = Self::unseen(gateway, self.path, id, traced);
        watch.stream = self.stream;
        watch.mark(Mark::Read);
        watch
    }
}
