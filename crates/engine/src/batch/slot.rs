//! A slot: one KV stream, the tokens whose cells it holds, and the sequence that runs in it.

use std::sync::Arc;

use pilotage_core::Band;

use super::{Entry, Sequence};
use crate::job::{JobId, Token};

/// One KV stream.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// The tokens whose cells are here, in order of position. Cells of a sequence that ended stay
    /// until the slot is needed, for others to start from.
    pub(super) cells: Vec<Token>,
    /// Who runs here.
    pub(super) running: Option<Running>,
    /// When somebody last got this slot.
    pub(super) last_turn: u64,
}

/// A sequence that has begun.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) id: JobId,
    pub(super) origin: Option<u64>,
    pub(super) band: Band,
    pub(super) prompt: Arc<[Token]>,
    /// Prompt and generated tokens.
    pub(super) tokens: Vec<Token>,
    /// Whether others may start from its cells.
    pub(super) shares: bool,
    /// Tokens generated since it got this slot.
    pub(super) generated_here: u32,
    /// How often it was swapped out.
    pub(super) swaps: u32,
    /// While swapped out: the tokens whose cells are in the host's memory.
    cells: Vec<Token>,
}

impl Running {
    pub(super) fn swapped_cells(&self) -> u64 {
        self.cells.len() as u64
    }
}

impl Slot {
    pub(super) fn runs(&self, id: JobId) -> bool {
        self.running.as_ref().is_some_and(|running| running.id == id)
    }

    pub(super) fn running_mut(&mut self, id: JobId) -> Option<&mut Running> {
        self.running.as_mut().filter(|running| running.id == id)
    }

    /// Whether somebody may start from the cells here.
    pub(super) fn shares(&self) -> bool {
        self.running.as_ref().is_none_or(|running| running.shares)
    }

    pub(super) fn start(&mut self, sequence: &Sequence, shares: bool, turn: u64) {
        debug_assert!(self.running.is_none(), "E-3: two sequences in one slot");
        self.last_turn = turn;
        self.running = Some(Running {
            id: sequence.id,
            origin: sequence.origin,
            band: sequence.band,
            prompt: Arc::clone(&sequence.prompt),
            tokens: sequence.prompt.to_vec(),
            shares,
            generated_here: 0,
            swaps: 0,
            cells: Vec::new(),
        });
    }

    pub(super) fn resume(&mut self, mut running: Running, turn: u64) {
        debug_assert!(self.running.is_none(), "E-3: two sequences in one slot");
        self.last_turn = turn;
        self.cells = std::mem::take(&mut running.cells);
        running.generated_here = 0;
        self.running = Some(running);
    }

    pub(super) fn swap_out(&mut self) -> Option<Running> {
        let mut running = self.running.take()?;
        running.cells = std::mem::take(&mut self.cells);
        running.swaps += 1;
        Some(running)
    }

    /// The sequence ended. Cells that others may not start from are dropped with it.
    pub(super) fn release(&mut self) {
        if !self.shares() {
            self.cells.clear();
        }
        self.running = None;
    }

    /// Whether the prompt is not computed to its end.
    pub(super) fn in_prompt(&self) -> bool {
        self.running.as_ref().is_some_and(|running| self.cells.len() < running.prompt.len())
    }

    /// Tokens known but not computed.
    pub(super) fn pending(&self) -> usize {
        self.running.as_ref().map_or(0, |running| running.tokens.len() - self.cells.len())
    }

    /// Puts the next `take` tokens into the batch.
    pub(super) fn compute(&mut self, slot: u32, take: usize, entries: &mut Vec<Entry>) {
        let Some(running) = &self.running else { return };
        let begin = self.cells.len();
        for at in begin..begin + take {
            let token = running.tokens[at];
            entries.push(Entry {
                slot,
                job: running.id,
                token,
                position: super::index(at),
                logits: at + 1 == running.tokens.len(),
            });
            self.cells.push(token);
        }
    }
}
