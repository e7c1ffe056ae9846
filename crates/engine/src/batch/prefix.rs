//! Where a sequence starts: from which slot's cells, in place or by a copy.
//!
//! Streams are separate, so a copy is of a whole stream (cheap beside computing: a few milliseconds
//! for hundreds of tokens) and is cut back to the shared prefix afterwards.

use super::slot::Slot;
use crate::job::Token;

/// Tokens that a copy must save: below, the copy costs about as much as computing them.
const COPY_GAIN_MIN: usize = 32;

/// A start: the slot, the cells to copy into it first, and how many cells of the prompt are then
/// there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Source {
    pub(super) slot: usize,
    pub(super) copy_from: Option<usize>,
    pub(super) len: usize,
}

/// Chooses the free slot for a prompt, or none when no slot is free.
///
/// The last token of a prompt is always computed, because its logits are needed. A free slot that
/// holds the longest prefix is taken over, unless most of its cells would be lost or it lies apart
/// from the slots in use, and another slot can have a copy.
pub(super) fn choose(slots: &[Slot], prompt: &[Token], reuse: bool) -> Option<Source> {
    let vacant = vacant(slots)?;
    if !reuse {
        return Some(Source { slot: vacant, copy_from: None, len: 0 });
    }
    let shared = |slot: &Slot| shared(slot, prompt);
    let free = slots.iter().enumerate().filter(|(_, slot)| slot.running.is_none());
    let (here, kept) = free
        .map(|(at, slot)| (at, shared(slot)))
        .max_by_key(|(at, len)| (*len, std::cmp::Reverse(slots[*at].last_turn)))?;
    let sharing = slots.iter().enumerate().filter(|(_, slot)| slot.shares());
    let (best, len) = sharing.map(|(at, slot)| (at, shared(slot))).max_by_key(|(_, len)| *len)?;
    let loses_most = kept * 2 < slots[here].cells.len();
    let moves = kept == 0 || loses_most || !is_near(slots, here);
    let target = if moves { vacant } else { here };
    let in_place = shared(&slots[target]);
    let copies = len >= in_place + COPY_GAIN_MIN && best != target;
    let (copy_from, len) = if copies { (Some(best), len) } else { (None, in_place) };
    Some(Source { slot: target, copy_from, len })
}

/// Tokens of a prompt that a new sequence would find in some slot.
pub(super) fn longest(slots: &[Slot], prompt: &[Token]) -> usize {
    let sharing = slots.iter().filter(|slot| slot.shares());
    sharing.map(|slot| shared(slot, prompt)).max().unwrap_or(0)
}

fn shared(slot: &Slot, prompt: &[Token]) -> usize {
    let usable = &prompt[..prompt.len() - 1];
    usable.iter().zip(&slot.cells).take_while(|(one, other)| one == other).count()
}

/// The free slot to fill: next to one in use if there is one, and of those the one that nobody has
/// needed for longest.
///
/// llama.cpp computes sequences of separate streams in one pass only when their numbers follow each
/// other, so that a gap between slots in use costs a pass over all weights.
pub(super) fn vacant(slots: &[Slot]) -> Option<usize> {
    let free = slots.iter().enumerate().filter(|(_, slot)| slot.running.is_none());
    free.min_by_key(|(at, slot)| (!is_near(slots, *at), slot.last_turn)).map(|(at, _)| at)
}

/// Whether a slot is next to one in use, or none is in use.
fn is_near(slots: &[Slot], at: usize) -> bool {
    let busy = |at: usize| slots.get(at).is_some_and(|slot| slot.running.is_some());
    busy(at + 1)
        || at.checked_sub(1).is_some_and(busy)
        || slots.iter().all(|slot| slot.running.is_none())
}
