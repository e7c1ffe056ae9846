//! Watches of answers that several callers share, and of copies: each caller learns what happened to the
//! one generation.

use std::sync::Arc;

use pilotage_core::traffic::Role;
use pilotage_core::{Band, Span};
use pilotage_lens::{Mark, Termination};

use super::{Part, Watch};
use crate::forward::generation::{Count, Generation, Member, Piece};
use crate::quotas::{Header, Lease};

impl Watch {
    /// The request joined a generation. Its lease is there if somebody pays together with others.
    pub(in crate::forward) fn joins(
        &mut self,
        member: &Member,
        (lease, input): (Option<Lease>, u32),
        limits: Vec<Header>,
    ) {
        self.part = Part::Caller(Arc::clone(member.generation()), member.number());
        self.lease = lease;
        self.estimated_input = input;
        self.limits = limits;
        self.mark(Mark::Lined);
    }

    /// What happened to the generation so far is what happened to its caller.
    pub(in crate::forward) fn learn(&mut self) {
        let Part::Caller(generation, _) = &self.part else { return };
        let told = generation.told();
        if let Some(timeline) = &told.timeline {
            // Set once: a later attempt of the generation must not undo what its caller has seen since.
            if self.attempts == 0 {
                self.timeline.joined(self.now(), timeline);
            }
            self.timeline.followed(timeline);
        }
        self.lane = told.lane.or_else(|| self.lane.take());
        self.failed = told.failed;
        if let Some(place) = self.place.as_mut().filter(|_| told.is_elsewhere) {
            place.role = Role::Stable;
        }
        self.attempts = told.attempts;
        self.stops = told.stops;
        self.detours = told.detours;
        self.why = told.why;
    }

    /// The caller has the next piece of the answer, up to so many tokens.
    pub(in crate::forward) fn gets(&mut self, piece: &Piece) {
        let now = self.now();
        // What comes together came without a gap.
        let more = piece.events.saturating_sub(self.events);
        self.events = piece.events;
        for one in 0..more {
            if let Some(before) = self.token_at {
                self.gap(if one == 0 { now.since(before) } else { Span::ZERO });
            }
            self.token_at = Some(now);
        }
        self.shares(piece.count);
        // The end alone is no token.
        if more > 0 || !piece.is_last {
            self.mark(Mark::LastToken);
        }
    }

    /// The caller has so many tokens of the answer.
    pub(in crate::forward) fn shares(&mut self, Count { tokens, reasoning, counted }: Count) {
        self.tokens = tokens;
        self.reasoning = reasoning;
        self.counted = counted;
        self.show(|seen| seen.output = tokens.output);
    }

    /// The caller has all of the answer: it ended as the generation did, or so if that did not say.
    pub(in crate::forward) fn end_shared(&mut self, otherwise: Termination) {
        let Part::Caller(generation, _) = &self.part else { return };
        let told = generation.told();
        self.shares(told.count());
        let (status, termination) = told.end.unwrap_or((200, otherwise));
        self.end(status, termination);
    }

    /// The watch of a generation that begins for this request.
    pub(in crate::forward) fn generation(&self, generation: Arc<Generation>) -> Self {
        let mut watch = self.beside();
        watch.part = Part::Generation(generation);
        // Its attempts are those of who asked first, in that one's trace.
        watch.traced = self.traced.clone();
        watch.tenant.clone_from(&self.tenant);
        // A model's failure is told as it happens: whoever has its end on its account may see another's answer.
        watch.place.clone_from(&self.place);
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
