//! One sequence in a modelled engine: its tokens, how many of them are computed, and its blocks.

use std::ops::Range;

use super::blocks::{BlockId, Blocks, chain};
use super::{CacheEvent, Told};
use crate::engine::stats::Fingerprint;
use crate::engine::text::Voice;

/// A sequence's number, given by whoever submits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub u64);

/// What is to be computed.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its number.
    pub id: SequenceId,
    /// The prompt.
    pub prompt: Vec<u32>,
    /// Tokens of the answer.
    pub output: usize,
    /// Whether the request set that, rather than the answer being complete.
    pub cut: bool,
    /// The adapter to compute with.
    pub adapter: Option<String>,
}

#[derive(Debug)]
pub(super) struct Sequence {
    job: Job,
    /// Prompt and answer.
    tokens: Vec<u32>,
    prompt: usize,
    voice: Voice,
    computed: usize,
    planned: usize,
    blocks: Vec<BlockId>,
    /// Of the full blocks, by position; computed as far as they were needed.
    hashes: Vec<u64>,
    /// Full blocks that are in the cache's memory, or known to be.
    remembered: usize,
    /// Tokens of the prompt found in the cache the first time.
    cached: Option<usize>,
}

/// News of the sequence, and whether it is its first token.
pub(super) struct News {
    pub(super) told: Told,
    pub(super) first: bool,
}

impl Sequence {
    pub(super) fn new(mut job: Job, room: usize) -> Self {
        let mut tokens = std::mem::take(&mut job.prompt);
        if tokens.is_empty() {
            tokens.push(0);
        }
        job.output = job.output.clamp(1, room);
        Self {
            voice: Voice::of(&tokens),
            prompt: tokens.len(),
            tokens,
            job,
            computed: 0,
            planned: 0,
            blocks: Vec::new(),
            hashes: Vec::new(),
            remembered: 0,
            cached: None,
        }
    }

    pub(super) const fn id(&self) -> SequenceId {
        self.job.id
    }

    pub(super) fn adapter(&self) -> Option<&str> {
        self.job.adapter.as_deref()
    }

    pub(super) const fn prompt(&self) -> usize {
        self.prompt
    }

    pub(super) const fn planned(&self) -> usize {
        self.planned
    }

    /// Tokens that are there and not computed.
    pub(super) const fn missing(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Whether the step only adds a token to an answer that has begun.
    pub(super) const fn decodes(&self) -> bool {
        self.planned == 1 && self.tokens.len() > self.prompt && self.missing() == 1
    }

    pub(super) const fn is_over(&self) -> bool {
        self.tokens.len() - self.prompt >= self.job.output
    }

    pub(super) const fn is_cut(&self) -> bool {
        self.job.cut
    }

    /// Takes from the cache what is there of it. The first time, how many tokens were asked for and
    /// found.
    pub(super) fn look_up(
        &mut self,
        block_tokens: usize,
        blocks: &mut Blocks,
    ) -> Option<(usize, usize)> {
        // The last token is computed in any case: the answer comes out of it.
        let most = (self.tokens.len() - 1) / block_tokens;
        while self.blocks.len() < most {
            let hash = self.hash(self.blocks.len(), block_tokens);
            let Some(block) = blocks.find(hash) else { break };
            blocks.hold(block);
            self.blocks.push(block);
        }
        self.remembered = self.blocks.len();
        self.computed = self.remembered * block_tokens;
        if self.cached.is_some() {
            return None;
        }
        self.cached = Some(self.computed);
        Some((self.tokens.len(), self.computed))
    }

    /// Plans that many tokens for this step; false when the cache has no room for them.
    pub(super) fn plan(
        &mut self,
        tokens: usize,
        block_tokens: usize,
        blocks: &mut Blocks,
        cache: &mut Vec<CacheEvent>,
    ) -> bool {
        self.planned = 0;
        let needed = (self.computed + tokens).div_ceil(block_tokens);
        let more = needed.saturating_sub(self.blocks.len());
        if more > blocks.unused() as usize {
            return false;
        }
        let mut removed = Vec::new();
        for _ in 0..more {
            let Some((block, forgotten)) = blocks.take() else { return false };
            removed.extend(forgotten);
            self.blocks.push(block);
        }
        if !removed.is_empty() {
            cache.push(CacheEvent::Removed { hashes: removed });
        }
        self.planned = tokens;
        true
    }

    /// Computes what was planned; the next token, when all that is there is computed.
    pub(super) fn advance(
        &mut self,
        block_tokens: usize,
        blocks: &mut Blocks,
        cache: &mut Vec<CacheEvent>,
    ) -> Option<News> {
        self.computed += std::mem::take(&mut self.planned);
        self.remember(block_tokens, blocks, cache);
        if self.missing() > 0 || self.is_over() {
            return None;
        }
        let first = self.tokens.len() == self.prompt;
        let token = self.voice.token(self.tokens.len());
        self.tokens.push(token);
        let told = Told {
            sequence: self.id(),
            token,
            last: self.is_over(),
            cached: self.cached.unwrap_or_default(),
        };
        Some(News { told, first })
    }

    /// Gives its blocks back, and begins again when its turn comes.
    pub(super) fn restart(&mut self, blocks: &mut Blocks) {
        self.release(blocks);
        (self.computed, self.planned, self.remembered) = (0, 0, 0);
    }

    /// Gives its blocks back, the last first: beginnings are worth more than ends.
    pub(super) fn release(&mut self, blocks: &mut Blocks) {
        for block in self.blocks.drain(..).rev() {
            blocks.release(block);
        }
    }

    /// Lets the cache remember the blocks that are full by now.
    fn remember(&mut self, block_tokens: usize, blocks: &mut Blocks, cache: &mut Vec<CacheEvent>) {
        let full = self.computed / block_tokens;
        let mut run = self.remembered..self.remembered;
        for at in self.remembered..full {
            let hash = self.hash(at, block_tokens);
            let news = self.blocks.get(at).is_some_and(|block| blocks.remember(*block, hash));
            // What another sequence stored meanwhile is known, and no news.
            if !news {
                cache.extend(self.stored(run, block_tokens));
                run = at + 1..at + 1;
            } else {
                run.end = at + 1;
            }
        }
        cache.extend(self.stored(run, block_tokens));
        self.remembered = self.remembered.max(full);
    }

    /// The news of blocks at these positions; none when there are none.
    fn stored(&self, at: Range<usize>, block_tokens: usize) -> Option<CacheEvent> {
        let hashes = self.hashes.get(at.clone()).filter(|hashes| !hashes.is_empty())?;
        Some(CacheEvent::Stored {
            hashes: hashes.to_vec(),
            parent: at.start.checked_sub(1).and_then(|before| self.hashes.get(before)).copied(),
            tokens: self.tokens.get(at.start * block_tokens..at.end * block_tokens)?.to_vec(),
            adapter: self.job.adapter.clone(),
        })
    }

    /// The hash of the block at a position and everything before it.
    fn hash(&mut self, at: usize, block_tokens: usize) -> u64 {
        while self.hashes.len() <= at {
            let index = self.hashes.len();
            let parent = self.hashes.last().copied().unwrap_or_else(|| self.root());
            let tokens = self.tokens.get(index * block_tokens..(index + 1) * block_tokens);
            self.hashes.push(chain(parent, tokens.unwrap_or_default()));
        }
        self.hashes.get(at).copied().unwrap_or_default()
    }

    /// What the first block's hash goes on from: blocks of different adapters are different.
    fn root(&self) -> u64 {
        self.adapter().map_or(0, |adapter| Fingerprint::of(adapter.as_bytes()))
    }
}
