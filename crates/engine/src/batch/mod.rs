//! What the next step computes: which sequences, which of their tokens, where their KV cells come
//! from. Pure: no library, no clock, no threads.
//!
//! Every slot is a KV stream of its own, `context` cells long. A step is made in this order:
//!
//! 1. Sequences get slots: those swapped out before come back, then [`Queue`]'s next one, so that
//!    the order of turns is the core's and holds inside the batch as it does in front of it.
//! 2. A sequence that was sent to take another's place, and one that is strictly more urgent, takes
//!    the slot of that other, whose cells move to the host's memory and come back later.
//! 3. Tokens: one for every sequence that generates; what is left of the budget goes to prompts, in
//!    chunks, so that a long prompt slows running answers a little and stops none. Only while a
//!    realtime prompt is computed do less urgent sequences stand still: the one who waits for its
//!    first word waits for nobody else's.
//!
//! The caller carries a [`Step`] out in its order (moves, then the batch) and reports what was
//! generated before it asks for the next.

mod prefix;
mod slot;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use pilotage_core::{
    Band, FairConfig, Queue, QueueFull, QueueLimits, RequestId, TenantId, Ticket, Time, Tokens,
};

use crate::job::{JobId, Token};
use slot::{Running, Slot};

/// The limits of a batcher.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BatchConfig {
    /// Sequences computed at once.
    pub slots: u32,
    /// Cells of each slot: prompt and answer together.
    pub context: u32,
    /// Tokens of one step.
    pub step_tokens: u32,
    /// What may wait.
    pub queue: QueueLimits,
    /// Whether slots can be cut back to a prefix; recurrent models cannot.
    pub prefix_reuse: bool,
    /// Cells that may be held in the host's memory for sequences swapped out.
    pub swapped_cells_max: u64,
    /// Tokens a sequence generates before it can be swapped out: less would be wasted motion.
    pub swap_after_tokens: u32,
    /// How often one sequence can be swapped out.
    pub swaps_max: u32,
    /// How turns are given.
    pub fair: FairConfig,
}

/// A sequence as it comes in.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// Its id.
    pub id: JobId,
    /// The request it belongs to, as whoever sent it names it; siblings share one.
    pub origin: Option<u64>,
    /// The request whose place it was sent to take.
    pub displaces: Option<u64>,
    /// Whose it is.
    pub tenant: TenantId,
    /// How urgent it is.
    pub band: Band,
    /// When waiting stops making sense.
    pub deadline: Option<Time>,
    /// Its prompt, never empty and shorter than the context.
    pub prompt: Arc<[Token]>,
    /// Tokens it may generate.
    pub tokens_max: u32,
    /// Whether it may start from, and leave behind, cells for others.
    pub reuse_prefix: bool,
}

/// A change of cells before the batch is computed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Move {
    /// Bring the slot's cells to the host's memory, under the job's name, and empty the slot.
    SwapOut {
        /// Which slot.
        slot: u32,
        /// Whose cells.
        job: JobId,
    },
    /// Bring the job's cells back into the slot, which is empty.
    SwapIn {
        /// Which slot.
        slot: u32,
        /// Whose cells.
        job: JobId,
    },
    /// Make `to` a copy of `from`, all of it.
    Copy {
        /// The source.
        from: u32,
        /// The target, whose cells are lost.
        to: u32,
    },
    /// Keep the slot's first `len` cells and drop the others.
    Keep {
        /// Which slot.
        slot: u32,
        /// How many stay.
        len: u32,
    },
}

/// One token to compute.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Entry {
    /// In which slot.
    pub slot: u32,
    /// For whom.
    pub job: JobId,
    /// The token.
    pub token: Token,
    /// Its position, from zero.
    pub position: u32,
    /// Whether the next token is sampled from its logits.
    pub logits: bool,
}

/// What to do next. Empty when there is nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Step {
    /// Moves of cells, in this order, before the batch.
    pub moves: Vec<Move>,
    /// The batch.
    pub entries: Vec<Entry>,
    /// Sequences that got their first slot, with the prompt tokens they need not compute.
    pub started: Vec<(JobId, u32)>,
}

/// Decides what each step computes.
#[derive(Debug)]
pub struct Batcher {
    config: BatchConfig,
    queue: Queue,
    waiting: BTreeMap<JobId, Sequence>,
    /// Swapped-out sequences, the longest out first.
    swapped: VecDeque<Running>,
    slots: Vec<Slot>,
    /// Counts admissions, for least-recently-used order.
    turn: u64,
    swap_outs: u64,
    /// Prompt tokens that patient sequences get in one step.
    patient_tokens: u32,
    /// Steps in a row in which only realtime sequences were computed.
    alone: u32,
}

/// Most such steps in a row: one prompt after the other must not stop everybody else.
const ALONE_MAX: u32 = 4;

impl Batcher {
    /// A batcher with empty slots.
    pub fn new(config: BatchConfig) -> Self {
        Self {
            config,
            queue: Queue::new(config.queue, config.fair),
            waiting: BTreeMap::new(),
            swapped: VecDeque::new(),
            slots: (0..config.slots).map(|_| Slot::default()).collect(),
            turn: 0,
            swap_outs: 0,
            patient_tokens: config.step_tokens,
            alone: 0,
        }
    }

    /// Takes in a sequence.
    ///
    /// # Errors
    /// The queue is full; nothing changed.
    pub fn submit(&mut self, now: Time, sequence: Sequence) -> Result<(), QueueFull> {
        debug_assert!(!sequence.prompt.is_empty(), "E-1: an empty prompt");
        debug_assert!(
            sequence.prompt.len() < self.config.context as usize,
            "E-2: over the context"
        );
        self.queue.push(Ticket {
            id: RequestId(sequence.id),
            tenant: sequence.tenant,
            band: sequence.band,
            tokens: Tokens {
                input: index(sequence.prompt.len()),
                cached: 0,
                output: sequence.tokens_max,
            },
            arrived: now,
            deadline: sequence.deadline,
        })?;
        self.waiting.insert(sequence.id, sequence);
        Ok(())
    }

    /// Forgets a sequence wherever it is; its slot is free for the next step.
    pub fn remove(&mut self, now: Time, id: JobId) {
        self.queue.remove(RequestId(id));
        self.queue.settle(now, RequestId(id), None);
        self.waiting.remove(&id);
        self.swapped.retain(|running| running.id != id);
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.runs(id)) {
            slot.release();
        }
    }

    /// The sequences whose deadline passed while they waited; they are gone.
    pub fn expire(&mut self, now: Time) -> Vec<JobId> {
        let expired = std::iter::from_fn(|| self.queue.pop_expired(now));
        let ids: Vec<JobId> = expired.map(|ticket| ticket.id.0).collect();
        for id in &ids {
            self.waiting.remove(id);
        }
        ids
    }

    /// Reports the token that was sampled for a sequence: it is computed in the next step.
    pub fn generated(&mut self, now: Time, id: JobId, token: Token) {
        if let Some(running) = self.slots.iter_mut().find_map(|slot| slot.running_mut(id)) {
            running.tokens.push(token);
            running.generated_here += 1;
            let output = index(running.tokens.len() - running.prompt.len());
            self.queue.progress(now, RequestId(id), output);
        }
    }

    /// A slot's cells are in doubt, after a failed move or step: nobody starts from them.
    pub fn distrust(&mut self, slot: u32) {
        if let Some(slot) = self.slots.get_mut(slot as usize) {
            slot.cells.clear();
        }
    }

    /// How many prompt tokens of the bulk and batch bands one step may take, so that whoever comes
    /// in the middle of it does not wait long for its end.
    pub fn set_patient_tokens(&mut self, tokens: u32) {
        self.patient_tokens = tokens.clamp(1, self.config.step_tokens);
    }

    /// What to compute next.
    pub fn step(&mut self, now: Time) -> Step {
        let mut step = Step::default();
        while self.admit_one(now, &mut step) {}
        self.fill(&mut step);
        step
    }

    /// Whether nothing waits and nothing runs.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.swapped.is_empty() && self.running() == 0
    }

    /// Sequences in slots.
    pub fn running(&self) -> u32 {
        count(self.slots.iter().filter(|slot| slot.running.is_some()))
    }

    /// Sequences without a slot, the swapped-out ones included.
    pub fn waiting(&self) -> u32 {
        self.queue.len() + count(self.swapped.iter())
    }

    /// Cells of sequences in slots. Cells that only wait to be reused are not among them.
    pub fn cells_held(&self) -> u64 {
        let held = self.slots.iter().filter(|slot| slot.running.is_some());
        held.map(|slot| slot.cells.len() as u64).sum()
    }

    /// Times a sequence was swapped out.
    pub const fn swap_outs(&self) -> u64 {
        self.swap_outs
    }

    /// Gives one more sequence a slot, if somebody waits and a slot can be had.
    fn admit_one(&mut self, now: Time, step: &mut Step) -> bool {
        let queued = self.next(now).map(|ticket| (ticket.id, ticket.band));
        let swapped = self.swapped.iter().map(|running| running.band).min();
        let swapped_first = match (swapped, queued) {
            (Some(swapped), Some((_, queued))) => swapped <= queued,
            (swapped, None) => swapped.is_some(),
            (None, Some(_)) => false,
        };
        // Who was sent to take a place takes it, whoever waits for one.
        let sent = queued.is_some_and(|(id, _)| self.displaces(id.0).is_some());
        if swapped_first && !(sent && self.is_full()) {
            return self.resume(step);
        }
        let Some((id, band)) = queued else { return false };
        if self.awaits_sibling(id.0) || !self.free_slot_for(id.0, band, step) {
            return false;
        }
        self.queue.take(now, id);
        let Some(sequence) = self.waiting.remove(&id.0) else { return true };
        self.start(sequence, step);
        true
    }

    /// Whose turn it is: among tenants that have had about as much, the one that finds most of its
    /// prompt in a slot.
    fn next(&self, now: Time) -> Option<&Ticket> {
        let reuse = self.config.prefix_reuse;
        self.queue.peek_near(now, |ticket| {
            let sequence = self.waiting.get(&ticket.id.0);
            let sequence = sequence.filter(|sequence| reuse && sequence.reuse_prefix);
            sequence.map_or(0, |sequence| index(prefix::longest(&self.slots, &sequence.prompt)))
        })
    }

    fn is_full(&self) -> bool {
        self.slots.iter().all(|slot| slot.running.is_some())
    }

    /// The most urgent of those swapped out, and of these the longest out, comes back.
    fn resume(&mut self, step: &mut Step) -> bool {
        let Some(at) = prefix::vacant(&self.slots) else { return false };
        let most = self.swapped.iter().map(|running| running.band).min();
        let first = self.swapped.iter().position(|running| Some(running.band) == most);
        let Some(running) = first.and_then(|first| self.swapped.remove(first)) else {
            return false;
        };
        let slot = index(at);
        step.moves.push(Move::Keep { slot, len: 0 });
        step.moves.push(Move::SwapIn { slot, job: running.id });
        self.turn += 1;
        self.slots[at].resume(running, self.turn);
        true
    }

    /// Whether a slot is free, or could be freed for this sequence.
    fn free_slot_for(&mut self, id: JobId, band: Band, step: &mut Step) -> bool {
        if !self.is_full() {
            return true;
        }
        let named = self.displaces(id).and_then(|origin| self.named_victim(origin, step));
        let Some(victim) = named.or_else(|| self.victim(band)) else { return false };
        let Some(running) = self.slots[victim].swap_out() else { return false };
        step.moves.push(Move::SwapOut { slot: index(victim), job: running.id });
        self.swap_outs += 1;
        self.swapped.push_back(running);
        true
    }

    fn displaces(&self, id: JobId) -> Option<u64> {
        self.waiting.get(&id)?.displaces
    }

    /// A sequence of the request that was named. It moves between any two steps but the one in which
    /// it got its slot, also in the middle of its prompt.
    fn named_victim(&self, origin: u64, step: &Step) -> Option<usize> {
        let room = self.swap_room();
        let fits = |slot: &Slot| {
            slot.running.as_ref().is_some_and(|running| {
                running.origin == Some(origin)
                    && running.swaps < self.config.swaps_max
                    && !step.started.iter().any(|(id, _)| *id == running.id)
                    && !came_back(step, running.id)
                    && slot.cells.len() as u64 <= room
            })
        };
        self.slots.iter().position(fits)
    }

    /// Cells that still fit the host's memory.
    fn swap_room(&self) -> u64 {
        let swapped: u64 = self.swapped.iter().map(Running::swapped_cells).sum();
        self.config.swapped_cells_max.saturating_sub(swapped)
    }

    /// The least urgent sequence strictly less urgent than `band`; among equals the one with the
    /// fewest cells, which move fastest. Only sequences between two generated tokens can move, and
    /// one that got its slot in this very step stays.
    fn victim(&self, band: Band) -> Option<usize> {
        let room = self.swap_room();
        let fit = |slot: &Slot| {
            slot.running.as_ref().is_some_and(|running| {
                running.band > band
                    && running.swaps < self.config.swaps_max
                    && running.generated_here >= self.config.swap_after_tokens
                    && slot.cells.len() as u64 <= room
            })
        };
        let fitting = self.slots.iter().enumerate().filter(|(_, slot)| fit(slot));
        fitting
            .max_by_key(|(_, slot)| {
                let band = slot.running.as_ref().map(|running| running.band);
                (band, std::cmp::Reverse(slot.cells.len()))
            })
            .map(|(at, _)| at)
    }

    fn start(&mut self, sequence: Sequence, step: &mut Step) {
        let reuse = self.config.prefix_reuse && sequence.reuse_prefix;
        let Some(source) = prefix::choose(&self.slots, &sequence.prompt, reuse) else { return };
        let to = index(source.slot);
        if let Some(from) = source.copy_from {
            step.moves.push(Move::Copy { from: index(from), to });
            self.slots[source.slot].cells = self.slots[from].cells.clone();
        }
        let cached = index(source.len);
        step.moves.push(Move::Keep { slot: to, len: cached });
        step.started.push((sequence.id, cached));
        self.turn += 1;
        let slot = &mut self.slots[source.slot];
        slot.cells.truncate(source.len);
        slot.start(&sequence, reuse, self.turn);
    }

    /// One of several answers to the same prompt waits until the first has computed it, and then
    /// starts from a copy.
    fn awaits_sibling(&self, id: JobId) -> bool {
        let Some(sequence) = self.waiting.get(&id).filter(|sequence| sequence.reuse_prefix) else {
            return false;
        };
        let computing = |slot: &Slot| {
            slot.running.as_ref().is_some_and(|running| {
                running.shares
                    && Arc::ptr_eq(&running.prompt, &sequence.prompt)
                    && slot.cells.len() < running.prompt.len()
            })
        };
        self.config.prefix_reuse && self.slots.iter().any(computing)
    }

    /// Whether somebody's realtime prompt is being computed.
    fn urgent_prompt(&self) -> bool {
        (0..self.slots.len()).any(|at| self.is_realtime(at) && self.slots[at].in_prompt())
    }

    fn is_patient(&self, at: usize) -> bool {
        self.slots[at].running.as_ref().is_some_and(|running| running.band >= Band::Bulk)
    }

    fn is_realtime(&self, at: usize) -> bool {
        self.slots[at].running.as_ref().is_some_and(|running| running.band == Band::Realtime)
    }

    /// Fills the batch: generating sequences first, then prompts by urgency and order of turns.
    fn fill(&mut self, step: &mut Step) {
        let mut order: Vec<usize> = (0..self.slots.len()).collect();
        let alone = self.urgent_prompt() && self.alone < ALONE_MAX;
        self.alone = if alone { self.alone + 1 } else { 0 };
        order.retain(|at| self.slots[*at].pending() > 0 && (!alone || self.is_realtime(*at)));
        order.sort_by_key(|at| {
            let slot = &self.slots[*at];
            let band = slot.running.as_ref().map(|running| running.band);
            (slot.pending() > 1, band, slot.last_turn)
        });
        let mut budget = self.config.step_tokens as usize;
        let mut patient = self.patient_tokens as usize;
        for at in order {
            let mut take = self.slots[at].pending().min(budget);
            if take > 1 && self.is_patient(at) {
                take = take.min(patient);
                patient -= take;
            }
            budget -= take;
            self.slots[at].compute(index(at), take, &mut step.entries);
        }
        // In the order of slots llama.cpp computes them in one pass; see `prefix::vacant`.
        step.entries.sort_by_key(|entry| entry.slot);
    }
}

fn came_back(step: &Step, id: JobId) -> bool {
    step.moves.iter().any(|change| matches!(change, Move::SwapIn { job, .. } if *job == id))
}

fn count(items: impl Iterator) -> u32 {
    index(items.count())
}

/// Slots, tokens and cells are limited far below `u32::MAX`.
fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
