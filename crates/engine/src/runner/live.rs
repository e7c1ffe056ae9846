//! One job while it lives: what samples it, what turns its tokens into text, when it ends.

use crate::backend::{Grammar, SharedVocabulary};
use crate::job::{Done, Event, Finish, Job, JobError, Token};
use crate::sample::{self, Sampler};
use crate::text::TextOut;

/// A job and its state.
pub(super) struct Live<G> {
    job: Job,
    grammar: Option<G>,
    sampler: Sampler,
    text: TextOut,
    generated: u32,
    cached: std::cell::Cell<u32>,
}

/// What a token did.
pub(super) enum Progress {
    /// It is part of the answer; compute it.
    More(Token),
    /// The answer is over, and everybody was told.
    End,
}

impl<G: Grammar> Live<G> {
    pub(super) fn new(job: Job, grammar: Option<G>, random: u64) -> Self {
        let sampler = Sampler::new(&job.sampling, random, &job.prompt);
        let text = TextOut::new(&job.stop);
        Self { job, grammar, sampler, text, generated: 0, cached: std::cell::Cell::new(0) }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.job.events.is_closed()
    }

    pub(super) fn prompt_len(&self) -> u64 {
        self.job.prompt.len() as u64
    }

    pub(super) const fn reuses_prefix(&self) -> bool {
        self.job.reuse_prefix
    }

    pub(super) fn started(&self, cached: u32) {
        self.cached.set(cached);
        self.send(Event::Started { cached });
    }

    pub(super) fn failed(&self, error: JobError) {
        self.send(Event::Failed(error));
    }

    /// Takes the next token from the logits.
    pub(super) fn next(&mut self, logits: &[f32], vocabulary: &SharedVocabulary) -> Progress {
        let token = match self.choose(logits) {
            Ok(token) => token,
            Err(error) => {
                self.failed(error);
                return Progress::End;
            }
        };
        self.generated += 1;
        self.sampler.accept(token);
        let logprob = self.job.logprobs.map(|top| sample::logprob(logits, token, top));
        let ends = vocabulary.is_end(token);
        if ends && !self.job.ignore_end {
            return self.finish(Finish::Stop, None);
        }
        let bytes = if ends { Vec::new() } else { vocabulary.piece(token, false) };
        let piece = self.text.push(&bytes);
        self.send(Event::Piece { text: piece.text, token, logprob });
        if piece.stopped.is_some() {
            return self.finish(Finish::Stop, piece.stopped);
        }
        if self.generated >= self.job.tokens_max {
            return self.finish(Finish::Length, None);
        }
        Progress::More(token)
    }

    /// Samples first and asks the grammar about that one token, which is mostly right: asking it
    /// about the whole vocabulary costs as much as computing a token.
    fn choose(&mut self, logits: &[f32]) -> Result<Token, JobError> {
        let token = self.sampler.sample(logits, None);
        let Some(grammar) = &mut self.grammar else { return Ok(token) };
        let token = if grammar.allows(token) {
            token
        } else {
            self.sampler.sample(logits, Some(&grammar.allowed()))
        };
        grammar.accept(token).map_err(|error| JobError::Compute(error.0))?;
        Ok(token)
    }

    fn finish(&mut self, finish: Finish, stop: Option<String>) -> Progress {
        // After a stop text nothing is owed: what was held back was part of it.
        let text = if stop.is_some() { String::new() } else { self.text.finish() };
        let cached = self.cached.get();
        self.send(Event::Done(Done { text, finish, tokens: self.generated, cached, stop }));
        Progress::End
    }

    /// A receiver that is gone is noticed before the next step.
    fn send(&self, event: Event) {
        let _ = self.job.events.send(event);
    }
}
