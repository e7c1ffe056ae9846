//! Engines that share each step between prompts and answers, as vLLM does: so many sequences at once,
//! prompts computed in pieces between the tokens of others, a cache of prefixes, a queue in order of
//! arrival. When the KV cache is full, whoever came last begins again.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};

use pilotage_chance::mix;
use pilotage_core::{RequestId, Span};

use super::blocks::Blocks;
use super::model::pairs;
use super::{Done, EngineModel, Extras, Forecast, Gauges, Job};
use crate::text::Text;

/// Tokens of one block of the KV cache.
const BLOCK_TOKENS: u32 = 16;

/// One replica.
#[derive(Debug)]
pub(crate) struct Stepped {
    model: EngineModel,
    tokens_max: u32,
    /// How many times longer everything takes.
    pub(super) slowness: f64,
    /// Blocks that somebody else holds.
    foreign: Vec<u32>,
    busy: bool,
    steps: u64,
    blocks: Blocks,
    waiting: VecDeque<Sequence>,
    running: Vec<Sequence>,
    tally: Tally,
    /// Adapters in memory, those used last at the end.
    loaded: Vec<u32>,
    /// Milliseconds that this step loads adapters.
    loading_ms: f64,
}

/// What it has done since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Tally {
    /// Sequences put out of the batch for want of memory.
    pub(crate) preemptions: u64,
    /// Tokens drafted.
    pub(crate) drafted: u64,
    /// Those that were right.
    pub(crate) accepted: u64,
    /// Adapters loaded.
    pub(crate) loads: u64,
    /// Steps that decoded.
    pub(crate) decode_steps: u64,
    /// Tokens in the KV cache, added up over these.
    pub(crate) kv_token_steps: u64,
    /// Prompt tokens computed.
    pub(crate) prompt_tokens: u64,
}

/// Blocks that somebody else leaves.
const FREE_MIN: u32 = 1024;

#[derive(Clone, Debug)]
struct Sequence {
    job: Job,
    /// Tokens of prompt and answer that are computed.
    computed: u32,
    /// Those that this step computes.
    planned: u32,
    held: Vec<u32>,
    /// Its full blocks that have their names.
    named: u32,
    /// Tokens of the prompt found in the cache the first time.
    cached: Option<u32>,
    /// Whether its first token here has come.
    begun: bool,
}

/// The prompts of a step.
#[derive(Clone, Copy, Debug, Default)]
struct Prompts {
    tokens: u64,
    pairs: f64,
    sequences: usize,
}

impl Prompts {
    fn add(&mut self, before: u32, tokens: u32) {
        self.tokens += u64::from(tokens);
        self.pairs += pairs(before, tokens);
        self.sequences += usize::from(tokens > 0);
    }
}

impl Sequence {
    fn new(job: Job) -> Self {
        let (computed, planned, named) = (0, 0, 0);
        Self { job, computed, planned, held: Vec::new(), named, cached: None, begun: false }
    }

    fn tokens(&self) -> u32 {
        self.job.input.saturating_add(self.job.generated)
    }

    /// Tokens that are there and not computed.
    fn missing(&self) -> u32 {
        self.tokens().saturating_sub(self.computed)
    }

    /// Whether the step only adds a token to an answer that has begun.
    fn decodes(&self) -> bool {
        self.begun && self.missing() == 1
    }

    fn is_over(&self) -> bool {
        self.job.generated >= self.job.output
    }

    /// Takes from the cache what is there of it.
    fn look_up(&mut self, blocks: &mut Blocks) {
        // The last token is always computed: the answer begins with what comes out for it.
        let most = self.tokens().saturating_sub(1) / BLOCK_TOKENS;
        for at in 0..most {
            let Some(block) = blocks.find(block_name(&self.job, at)) else { break };
            blocks.hold(block);
            self.held.push(block);
        }
        self.named = u32::try_from(self.held.len()).unwrap_or(u32::MAX);
        self.computed = self.named * BLOCK_TOKENS;
        let found = self.computed.min(self.job.input);
        self.cached.get_or_insert(found);
    }

    /// Plans so many tokens for this step; false where there is no place for them.
    fn plan(&mut self, tokens: u32, blocks: &mut Blocks) -> bool {
        self.planned = 0;
        let needed = (self.computed + tokens).div_ceil(BLOCK_TOKENS) as usize;
        let more = needed.saturating_sub(self.held.len());
        if more > blocks.free() as usize {
            return false;
        }
        self.held.extend((0..more).filter_map(|_| blocks.take()));
        self.planned = tokens;
        true
    }

    /// Computes what was planned; whether a token came.
    fn advance(&mut self, blocks: &mut Blocks) -> bool {
        self.computed += std::mem::take(&mut self.planned);
        for at in self.named..self.computed / BLOCK_TOKENS {
            if let Some(block) = self.held.get(at as usize) {
                blocks.name(*block, block_name(&self.job, at));
            }
            self.named = at + 1;
        }
        let comes = self.missing() == 0 && !self.is_over();
        self.job.generated += u32::from(comes);
        comes
    }

    /// Keeps the drafted tokens that are right, up to the first that is wrong.
    fn draft(&mut self, extras: Extras, tally: &mut Tally) {
        let left = self.job.output.saturating_sub(self.job.generated);
        let is_right = |number: &u32| {
            let place = u64::from(self.job.generated + number);
            // The upper bits, as a part of one.
            let draw = (mix(mix(self.job.id.0) ^ place) >> 11) as f64 / (1_u64 << 53) as f64;
            draw < extras.draft_accept
        };
        let kept = (0..extras.drafts.min(left)).take_while(is_right).count() as u32;
        self.job.generated += kept;
        self.computed += kept;
        tally.drafted += u64::from(extras.drafts);
        tally.accepted += u64::from(kept);
    }

    /// Gives its blocks back, the last first: begins are worth more than ends.
    fn release(&mut self, blocks: &mut Blocks) {
        self.held.drain(..).rev().for_each(|block| blocks.release(block));
    }

    fn restart(&mut self, blocks: &mut Blocks) {
        self.release(blocks);
        (self.computed, self.planned, self.named) = (0, 0, 0);
    }
}

impl Stepped {
    pub(super) fn new(model: EngineModel, tokens_max: u32) -> Self {
        let count = model.kv_tokens / u64::from(BLOCK_TOKENS);
        Self {
            model,
            tokens_max: tokens_max.max(1),
            slowness: 1.0,
            foreign: Vec::new(),
            busy: false,
            steps: 0,
            blocks: Blocks::new(u32::try_from(count).unwrap_or(u32::MAX).max(1)),
            waiting: VecDeque::new(),
            running: Vec::new(),
            tally: Tally::default(),
            loaded: Vec::new(),
            loading_ms: 0.0,
        }
    }

    /// What it has done since its start.
    pub(crate) const fn tally(&self) -> Tally {
        self.tally
    }

    /// Who is in the batch.
    pub(crate) fn running(&self) -> impl Iterator<Item = RequestId> {
        self.running.iter().map(|sequence| sequence.job.id)
    }

    /// The adapters of those in the batch and of those that wait, each once.
    pub(crate) fn adapters(&self) -> (BTreeSet<u32>, BTreeSet<u32>) {
        let of = |sequence: &Sequence| sequence.job.adapter;
        (self.running.iter().map(of).collect(), self.waiting.iter().map(of).collect())
    }

    /// How many wait for a place in the batch for their adapter.
    pub(crate) fn deferred(&self) -> usize {
        self.waiting.iter().filter(|sequence| !self.takes(sequence.job.adapter)).count()
    }

    /// Whether the batch may hold that adapter.
    fn takes(&self, adapter: u32) -> bool {
        let most = self.model.extras.adapters_max as usize;
        let (running, _) = if most == 0 { return true } else { self.adapters() };
        running.contains(&adapter) || running.len() < most
    }

    /// An adapter is used: it is loaded where it is not there, in the place of the one that was used longest ago.
    fn load(&mut self, adapter: u32) {
        let extras = self.model.extras;
        if extras.adapters_max == 0 {
            return;
        }
        let before = self.loaded.len();
        self.loaded.retain(|other| *other != adapter);
        if self.loaded.len() == before {
            self.tally.loads += 1;
            self.loading_ms += extras.adapter_ms;
        }
        self.loaded.push(adapter);
        if self.loaded.len() > extras.adapters_max as usize {
            self.loaded.remove(0);
        }
    }

    pub(super) const fn is_busy(&self) -> bool {
        self.busy
    }

    pub(super) fn kv_tokens(&self) -> u64 {
        u64::from(self.blocks.used()) * u64::from(BLOCK_TOKENS)
    }

    /// Somebody else takes the place of so many tokens, as far as it is free.
    pub(super) fn occupy(&mut self, tokens: u64) {
        std::mem::take(&mut self.foreign).into_iter().for_each(|block| self.blocks.release(block));
        let count = usize::try_from(tokens / u64::from(BLOCK_TOKENS)).unwrap_or(usize::MAX);
        // A sequence that is alone must find place.
        while self.foreign.len() < count && self.blocks.free() > FREE_MIN {
            self.foreign.extend(self.blocks.take());
        }
    }

    pub(super) fn gauges(&self) -> Gauges {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Gauges {
            running: count(self.running.len()),
            waiting: count(self.waiting.len()),
            kv_usage: (self.kv_tokens() as f64 / self.model.kv_tokens.max(1) as f64).min(1.0),
        }
    }

    pub(super) fn cached(&self, prefix: &[u64], block_tokens: u32, input: u32) -> u32 {
        let job = Job {
            id: RequestId(0),
            input: input.min(block_tokens.saturating_mul(prefix.len() as u32).saturating_add(1)),
            output: 0,
            generated: 0,
            prefix: prefix.into(),
            block_tokens,
            adapter: 0,
        };
        self.found(&job).min(input.saturating_sub(1))
    }

    pub(super) fn put(&mut self, job: Job) {
        self.waiting.push_back(Sequence::new(job));
    }

    pub(super) fn start(&mut self) -> Option<Span> {
        if self.busy || (self.running.is_empty() && self.waiting.is_empty()) {
            return None;
        }
        let mut left = self.tokens_max;
        if self.serve(&mut left) {
            self.admit(&mut left);
        }
        let (mut prefill, mut decode) = (Prompts::default(), 0_usize);
        for sequence in &self.running {
            if sequence.decodes() {
                decode += 1;
            } else {
                prefill.add(sequence.computed, sequence.planned);
            }
        }
        self.busy = true;
        let kv_tokens = self.kv_tokens();
        self.tally.prompt_tokens += prefill.tokens;
        if decode > 0 {
            self.tally.decode_steps += 1;
            self.tally.kv_token_steps += kv_tokens;
        }
        let loading = (std::mem::take(&mut self.loading_ms) * 1e6 * self.slowness) as u64;
        Some(self.time(prefill, decode, kv_tokens) + Span::from_nanos(loading))
    }

    pub(super) fn complete(&mut self) -> Done {
        let mut done = Done::default();
        self.busy = false;
        self.steps += 1;
        for sequence in &mut self.running {
            let came = sequence.advance(&mut self.blocks);
            if came && !std::mem::replace(&mut sequence.begun, true) {
                done.begun.push((sequence.job.id, sequence.cached.unwrap_or(0)));
            } else if came {
                sequence.draft(self.model.extras, &mut self.tally);
            }
        }
        let blocks = &mut self.blocks;
        self.running.retain_mut(|sequence| {
            let over = sequence.is_over() && sequence.missing() <= 1;
            if over {
                sequence.release(blocks);
                done.ended.push(sequence.job.id);
            }
            !over
        });
        done
    }

    pub(super) fn is_active(&self, id: RequestId) -> bool {
        self.running.iter().chain(&self.waiting).any(|sequence| sequence.job.id == id)
    }

    pub(super) fn take(&mut self, id: RequestId) -> Option<Job> {
        if let Some(at) = self.waiting.iter().position(|sequence| sequence.job.id == id) {
            return self.waiting.remove(at).map(|sequence| sequence.job);
        }
        let at = self.running.iter().position(|sequence| sequence.job.id == id)?;
        let mut sequence = self.running.remove(at);
        sequence.release(&mut self.blocks);
        Some(sequence.job)
    }

    pub(super) fn crash(&mut self) -> Vec<RequestId> {
        let all = self.running.drain(..).chain(self.waiting.drain(..));
        let mut lost: Vec<RequestId> = all.map(|sequence| sequence.job.id).collect();
        lost.sort_unstable();
        *self = Self {
            slowness: self.slowness,
            steps: self.steps,
            ..Self::new(self.model.clone(), self.tokens_max)
        };
        lost
    }

    pub(super) fn progress(&self) -> impl Iterator<Item = (RequestId, u32)> {
        let begun = self.running.iter().filter(|sequence| sequence.begun);
        begun.map(|sequence| (sequence.job.id, sequence.job.generated))
    }

    pub(super) const fn steps(&self) -> u64 {
        self.steps
    }

    /// Gives what runs its tokens of this step; whether nobody had to stand aside for that.
    fn serve(&mut self, left: &mut u32) -> bool {
        let (mut calm, mut at) = (true, 0);
        while let Some(sequence) = self.running.get_mut(at) {
            if sequence.plan((*left).min(sequence.missing()), &mut self.blocks) {
                *left -= sequence.planned;
                at += 1;
                continue;
            }
            calm = false;
            let Some(mut last) = self.running.pop() else { break };
            *left += last.planned;
            self.tally.preemptions += 1;
            last.restart(&mut self.blocks);
            self.waiting.push_front(last);
        }
        calm
    }

    /// Takes in those who wait, in their order, as long as there is place.
    fn admit(&mut self, left: &mut u32) {
        while *left > 0 && self.running.len() < self.model.sequences_max as usize {
            let first = self.waiting.iter().position(|one| self.takes(one.job.adapter));
            let Some((at, mut next)) = first.and_then(|at| Some((at, self.waiting.remove(at)?)))
            else {
                return;
            };
            next.look_up(&mut self.blocks);
            let tokens = (*left).min(next.missing());
            if !next.plan(tokens, &mut self.blocks) {
                next.restart(&mut self.blocks);
                self.waiting.insert(at, next);
                return;
            }
            *left -= tokens;
            self.load(next.job.adapter);
            self.running.push(next);
        }
    }

    fn time(&self, prefill: Prompts, decode: usize, kv_tokens: u64) -> Span {
        let mut nanos = 0.0;
        if prefill.tokens > 0 {
            // What is more than one stage takes at once is a piece of its own.
            let piece = u64::from(self.tokens_max / self.model.stages.max(1)).max(1);
            let pieces = prefill.sequences.max(prefill.tokens.div_ceil(piece) as usize);
            nanos += self.model.prefill_pieces((prefill.tokens, prefill.pairs), pieces).as_nanos()
                as f64;
        }
        if decode > 0 {
            let step = self.model.step(decode, kv_tokens).as_nanos() as f64;
            nanos += step * self.model.extras.step_factor();
        }
        Span::from_nanos(((nanos * self.slowness).round() as u64).max(1))
    }

    fn found(&self, job: &Job) -> u32 {
        let most = job.input.saturating_sub(1) / BLOCK_TOKENS;
        let found = (0..most).take_while(|at| self.blocks.find(block_name(job, *at)).is_some());
        u32::try_from(found.count()).unwrap_or(u32::MAX).saturating_mul(BLOCK_TOKENS)
    }

    /// Plays on with one request more, as if nobody else came and memory sufficed.
    pub(super) fn forecast(&self, job: &Job) -> Forecast {
        let cached = self.foreseen(job, self.waiting.len());
        let ahead = self.waiting.iter().enumerate().map(|(at, one)| {
            let found = if one.cached.is_some() { 0 } else { self.foreseen(&one.job, at) };
            (one.tokens() - found.min(one.tokens() - 1), one.job.output - one.job.generated)
        });
        let mut waiting: VecDeque<(u32, u32)> = ahead.collect();
        waiting.push_back((job.input - cached.min(job.input - 1), job.output));
        let mut running: Vec<(u32, u32)> = self.running.iter().map(Self::left).collect();
        let (mut nanos, mut last) = (0_u64, None);
        while last.is_none_or(|left| left > 0) {
            let mut room = self.tokens_max.saturating_sub(running.len() as u32);
            while room > 0 && running.len() < self.model.sequences_max as usize {
                let Some(next) = waiting.pop_front() else { break };
                room = room.saturating_sub(next.0);
                running.push(next);
            }
            nanos += self.play(&mut running);
            if waiting.is_empty() {
                last = running.last().map(|(missing, output)| u64::from(missing + output));
            }
            running.retain(|(missing, output)| missing + output > 0);
        }
        Forecast { end: Span::from_nanos(nanos), cached }
    }

    /// Tokens to compute before the next of the answer comes, and those still to come.
    fn left(sequence: &Sequence) -> (u32, u32) {
        let left = sequence.job.output.saturating_sub(sequence.job.generated);
        (sequence.missing() - u32::from(sequence.begun), left)
    }

    /// One step, or as many alike as there are until one ends: how long they take.
    fn play(&self, running: &mut [(u32, u32)]) -> u64 {
        let decode = running.iter().filter(|(missing, _)| *missing == 0).count();
        let mut room = self.tokens_max.saturating_sub(u32::try_from(decode).unwrap_or(u32::MAX));
        let quiet = decode == running.len();
        let times = running.iter().map(|(_, output)| *output).min().filter(|_| quiet).unwrap_or(1);
        // Of a piece it is not known here how much came before: only its own tokens attend to each other.
        let mut prefill = Prompts::default();
        for (missing, output) in running {
            if *missing == 0 {
                *output = output.saturating_sub(times.max(1));
                continue;
            }
            let part = (*missing).min(room);
            (*missing, room) = (*missing - part, room - part);
            prefill.add(0, part);
            *output = output.saturating_sub(u32::from(part > 0 && *missing == 0));
        }
        self.time(prefill, decode, self.kv_tokens()).as_nanos() * u64::from(times.max(1))
    }

    /// Tokens of a prompt that are in the cache by the time it is looked up, with those that the
    /// requests before it compute.
    fn foreseen(&self, job: &Job, before: usize) -> u32 {
        let shared = |other: &Job| {
            let most = job.input.min(other.input).saturating_sub(1) / BLOCK_TOKENS;
            let same = (0..most).take_while(|at| block_name(job, *at) == block_name(other, *at));
            u32::try_from(same.count()).unwrap_or(u32::MAX).saturating_mul(BLOCK_TOKENS)
        };
        let first = block_name(job, 0);
        let others = self.running.iter().chain(self.waiting.iter().take(before));
        let others = others.map(|sequence| &sequence.job);
        let others = others.filter(|other| block_name(other, 0) == first);
        others.map(shared).fold(self.found(job), u32::max)
    }
}

fn block_name(job: &Job, at: u32) -> u64 {
    Text::of(&job.prefix, job.block_tokens, job.id).block(at, BLOCK_TOKENS)
}
