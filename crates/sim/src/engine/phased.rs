//! Engines that work in phases, as LightLLM and S-LoRA do: either the prompts of a new batch, while
//! everybody else stands still, or one decode step for all. New requests join after so many steps. A
//! sequence can be paused and go on, or be taken out and come back, which computes its tokens again.
//! When the KV cache runs over, first the paused and then the newest lose their place in it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pilotage_core::{RequestId, Span};

use super::cache::Cache;
use super::model::pairs;
use super::{Done, EngineModel, Gauges, Job};

/// One replica.
#[derive(Debug)]
pub(super) struct Phased {
    model: EngineModel,
    /// How many times longer everything takes.
    pub(super) slowness: f64,
    /// KV tokens that somebody else holds.
    pub(super) foreign: u64,
    phase: Option<Phase>,
    /// Decode steps so far.
    steps: u64,
    steps_since_formation: u32,
    pending: VecDeque<Job>,
    running: BTreeMap<RequestId, Sequence>,
    /// At which step each ends.
    ends: BTreeSet<(u64, RequestId)>,
    paused: VecDeque<(Sequence, bool)>,
    /// Tokens of all that runs or is paused and has kept its place.
    kv: u64,
    cache: Option<Cache>,
}

#[derive(Debug)]
enum Phase {
    Prefill(Vec<(RequestId, u32)>),
    Decode,
}

#[derive(Clone, Debug)]
struct Sequence {
    job: Job,
    /// The step after which it came in.
    joined: u64,
}

impl Sequence {
    fn generated(&self, steps: u64) -> u32 {
        let since = u32::try_from(steps - self.joined).unwrap_or(u32::MAX);
        self.job.generated.saturating_add(since).min(self.job.output)
    }

    fn held(&self, steps: u64) -> u64 {
        u64::from(self.job.input) + u64::from(self.generated(steps))
    }
}

impl Phased {
    pub(super) fn new(model: EngineModel) -> Self {
        Self {
            cache: model.cache_blocks.map(Cache::new),
            model,
            slowness: 1.0,
            foreign: 0,
            phase: None,
            steps: 0,
            steps_since_formation: 0,
            pending: VecDeque::new(),
            running: BTreeMap::new(),
            ends: BTreeSet::new(),
            paused: VecDeque::new(),
            kv: 0,
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.phase.is_some()
    }

    /// Whether new requests may join before the next step.
    pub(super) fn may_form(&self) -> bool {
        self.running.is_empty() || self.steps_since_formation >= self.model.formation_steps
    }

    /// KV tokens that are taken, by whomever.
    pub(super) fn kv_tokens(&self) -> u64 {
        self.kv + self.foreign
    }

    pub(super) fn gauges(&self) -> Gauges {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Gauges {
            running: count(self.running.len()),
            waiting: count(self.pending.len() + self.paused.len()),
            kv_usage: self.kv_tokens() as f64 / self.model.kv_tokens.max(1) as f64,
        }
    }

    /// How many of a prompt's tokens its cache has.
    pub(super) fn cached(&self, prefix: &[u64], block_tokens: u32, input: u32) -> u32 {
        let blocks = self.cache.as_ref().map_or(0, |cache| cache.find(prefix));
        // The last token is always computed: the answer begins with what comes out for it.
        blocks.saturating_mul(block_tokens).min(input.saturating_sub(1))
    }

    /// Takes a request in; it joins when it can.
    pub(super) fn put(&mut self, job: Job) {
        self.pending.push_back(job);
    }

    /// Begins the next phase, and says how long it takes; none when there is nothing to do.
    pub(super) fn start(&mut self) -> Option<Span> {
        if self.phase.is_some() {
            return None;
        }
        let (phase, span) = match self.form() {
            Some(batch) => batch,
            None if self.running.is_empty() => return None,
            None => {
                self.evict();
                (Phase::Decode, self.model.step(self.running.len(), self.kv))
            }
        };
        self.phase = Some(phase);
        let nanos = span.as_nanos() as f64 * self.slowness;
        // Time passes even where all costs are zero, or nothing would ever end.
        Some(Span::from_nanos((nanos.round() as u64).max(1)))
    }

    /// The phase is over.
    pub(super) fn complete(&mut self) -> Done {
        let mut done = Done::default();
        match self.phase.take() {
            None => {}
            Some(Phase::Prefill(begun)) => {
                let there = begun.into_iter().filter(|(id, _)| self.running.contains_key(id));
                done.begun = there.collect();
                for (id, _) in done.begun.clone() {
                    self.begin(id);
                }
            }
            Some(Phase::Decode) => {
                self.steps += 1;
                self.steps_since_formation = self.steps_since_formation.saturating_add(1);
                self.kv += self.running.len() as u64;
            }
        }
        while let Some((step, id)) = self.ends.first().copied().filter(|(at, _)| *at <= self.steps)
        {
            self.ends.remove(&(step, id));
            if let Some(sequence) = self.running.remove(&id) {
                self.kv -= sequence.held(self.steps);
                done.ended.push(id);
            }
        }
        done
    }

    /// Lets those that wait into the batch. Their prompts are computed in one go.
    fn form(&mut self) -> Option<(Phase, Span)> {
        if !self.may_form() {
            return None;
        }
        self.steps_since_formation = 0;
        let (mut begun, mut tokens, mut attended) = (Vec::new(), 0_u64, 0.0);
        while let Some(job) = self.pending.front() {
            let need = u64::from(job.input) + u64::from(job.generated) + 1;
            let alone = self.running.is_empty() && begun.is_empty();
            if !alone && !self.make_room(need) {
                break;
            }
            let Some(job) = self.pending.pop_front() else { break };
            let found = self.cached(&job.prefix, job.block_tokens, job.input);
            if let Some(cache) = &mut self.cache {
                cache.keep(&job.prefix);
            }
            tokens += need - 1 - u64::from(found);
            attended += pairs(found, job.input.saturating_add(job.generated).saturating_sub(found));
            begun.push((job.id, found));
            self.kv += need - 1;
            let (id, joined) = (job.id, self.steps);
            self.running.insert(id, Sequence { job, joined });
        }
        if begun.is_empty() {
            return None;
        }
        self.steps_since_formation = 0;
        Some((Phase::Prefill(begun), self.model.prefill(tokens, attended)))
    }

    /// Whether so many tokens find a place, if need be that of one that is paused.
    fn make_room(&mut self, need: u64) -> bool {
        while self.kv_tokens() + need > self.model.kv_tokens {
            let Some((sequence, kept)) = self.paused.iter_mut().rev().find(|(_, kept)| *kept)
            else {
                return false;
            };
            *kept = false;
            self.kv -= sequence.held(sequence.joined);
        }
        true
    }

    /// A prompt is computed, and with it the first token that comes after.
    fn begin(&mut self, id: RequestId) {
        let Some(sequence) = self.running.get_mut(&id) else { return };
        sequence.job.generated = (sequence.job.generated + 1).min(sequence.job.output.max(1));
        sequence.joined = self.steps;
        self.kv += 1;
        let left = sequence.job.output.saturating_sub(sequence.job.generated);
        self.ends.insert((self.steps + u64::from(left), id));
    }

    /// What the KV cache has outgrown waits again, the newest first.
    fn evict(&mut self) {
        while self.kv_tokens() + self.running.len() as u64 > self.model.kv_tokens {
            if self.paused.iter().any(|(_, kept)| *kept) {
                self.make_room(self.running.len() as u64);
                continue;
            }
            let newest = self.running.iter().max_by_key(|(id, one)| (one.joined, **id));
            let Some(id) = newest.map(|(id, _)| *id).filter(|_| self.running.len() > 1) else {
                return;
            };
            let job = self.take(id);
            self.pending.extend(job);
        }
    }

    /// Whether a request is here and not paused.
    pub(super) fn is_active(&self, id: RequestId) -> bool {
        self.running.contains_key(&id) || self.pending.iter().any(|job| job.id == id)
    }

    /// Takes a request out, with the tokens it has.
    pub(super) fn take(&mut self, id: RequestId) -> Option<Job> {
        if let Some(at) = self.pending.iter().position(|job| job.id == id) {
            return self.pending.remove(at);
        }
        if let Some(at) = self.paused.iter().position(|(one, _)| one.job.id == id) {
            let (sequence, kept) = self.paused.remove(at)?;
            self.kv -= if kept { sequence.held(sequence.joined) } else { 0 };
            return Some(sequence.job);
        }
        let sequence = self.leave(id)?;
        Some(sequence.job)
    }

    /// A sequence leaves the batch, with its count of tokens brought up to date.
    fn leave(&mut self, id: RequestId) -> Option<Sequence> {
        let mut sequence = self.running.remove(&id)?;
        self.kv -= sequence.held(self.steps);
        self.ends.retain(|(_, other)| *other != id);
        sequence.job.generated = sequence.generated(self.steps);
        sequence.joined = self.steps;
        Some(sequence)
    }

    /// A sequence stands still, and keeps its tokens while there is place for them.
    pub(super) fn pause(&mut self, id: RequestId) {
        if let Some(at) = self.pending.iter().position(|job| job.id == id) {
            // Nothing of it is computed: it has no place to keep.
            let joined = self.steps;
            let job = self.pending.remove(at);
            self.paused.extend(job.map(|job| (Sequence { job, joined }, false)));
        } else if let Some(sequence) = self.leave(id) {
            self.kv += sequence.held(self.steps);
            self.paused.push_back((sequence, true));
        }
    }

    /// The one that was paused first goes on; its tokens are computed again where it lost its place.
    pub(super) fn resume_one(&mut self) {
        let Some((mut sequence, kept)) = self.paused.pop_front() else { return };
        if !kept || sequence.job.generated == 0 {
            self.kv -= if kept { sequence.held(sequence.joined) } else { 0 };
            self.pending.push_front(sequence.job);
            return;
        }
        sequence.joined = self.steps;
        let left = sequence.job.output.saturating_sub(sequence.job.generated);
        let id = sequence.job.id;
        self.ends.insert((self.steps + u64::from(left), id));
        self.running.insert(id, sequence);
    }

    /// Everything here is lost: the requests that were here, in the order of their ids.
    pub(super) fn crash(&mut self) -> Vec<RequestId> {
        let pending = self.pending.drain(..).map(|job| job.id);
        let paused = self.paused.drain(..).map(|(sequence, _)| sequence.job.id);
        let running = std::mem::take(&mut self.running).into_keys();
        let mut lost: Vec<RequestId> = pending.chain(paused).chain(running).collect();
        lost.sort_unstable();
        self.ends.clear();
        self.kv = 0;
        self.phase = None;
        if let Some(cache) = &mut self.cache {
            cache.clear();
        }
        lost
    }

    /// Every sequence in the batch whose answer has begun, with its tokens so far.
    pub(super) fn progress(&self) -> impl Iterator<Item = (RequestId, u32)> {
        let steps = self.steps;
        let running = self.running.iter().map(move |(id, one)| (*id, one.generated(steps)));
        running.filter(|(_, generated)| *generated > 0)
    }

    /// Decode steps so far: progress is news only after more of them.
    pub(super) fn steps(&self) -> u64 {
        self.steps
    }
}

#[cfg(test)]
mod tests;
