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
/// holds the longest prefix is taken over, unless most of its cells would be lost and another
/// slot can have a copy.
pub(super) fn choose(slots: &[Slot], prompt: &[Token], reuse: bool) -> Option<Source> {
    let free = || slots.iter().enumerate().filter(|(_, slot)| slot.running.is_none());
    let (oldest, _) = free().min_by_key(|(_, slot)| slot.last_turn)?;
    if !reuse {
        return Some(Source { slot: oldest, copy_from: None, len: 0 });
    }
    let shared = |slot: &Slot| {
        let usable = &prompt[..prompt.len() - 1];
        usable.iter().zip(&slot.cells).take_while(|(one, other)| one == other).count()
    };
    let (here, kept) = free()
        .map(|(at, slot)| (at, shared(slot)))
        .max_by_key(|(at, len)| (*len, std::cmp::Reverse(slots[*at].last_turn)))?;
    let sharing = slots.iter().enumerate().filter(|(_, slot)| slot.shares());
    let (best, len) = sharing.map(|(at, slot)| (at, shared(slot))).max_by_key(|(_, len)| *len)?;
    let loses_most = kept * 2 < slots[here].cells.len() && oldest != here;
    let target = if loses_most { oldest } else { here };
    let in_place = shared(&slots[target]);
    if len >= in_place + COPY_GAIN_MIN && best != target {
        return Some(Source { slot: target, copy_from: Some(best), len });
    }
    if loses_most && kept >= in_place + COPY_GAIN_MIN {
        return Some(Source { slot: target, copy_from: Some(here), len: kept });
    }
    Some(Source { slot: target, copy_from: None, len: in_place })
}
