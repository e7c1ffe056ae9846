//! Guaranteed, borrowed, lent: what a node's use means beside its share, and who may take back from
//! whom.
//!
//! The vocabulary and the rules are Kueue's (fair sharing by dominant resource share), for the one
//! resource there is here, KV tokens in flight: below its guarantee a node goes first; above it
//! borrows; what it does not lend stays free for it. Work is taken back only from a node that
//! borrows, and only while the taker ends with no larger share than the one it takes from
//! (`LessThanOrEqualToFinalShare`), or began with a smaller one than that has
//! (`LessThanInitialShare`), which rules out that two take from each other in turns.

use super::fair::{Fair, ROOT, Slot};
use super::tree::{TenantShare, WHOLE};

/// A share in tokens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Limits {
    /// What is guaranteed.
    pub(super) nominal: u64,
    /// The most it may use, from where on it starts nothing more.
    most: u64,
    /// What of the guarantee is not lent.
    kept: u64,
}

/// What more use would be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Class {
    /// Within the guarantee.
    Guaranteed,
    /// Borrowed.
    Borrowing,
    /// Over the borrowing limit.
    Capped,
}

impl Class {
    /// Which of the orders among siblings it stands for; none where nothing may be started.
    pub(super) const fn order(self) -> Option<usize> {
        match self {
            Self::Guaranteed | Self::Borrowing => Some(self as usize),
            Self::Capped => None,
        }
    }
}

impl Limits {
    /// No guarantee and no limit.
    pub(super) const FREE: Self = Self { nominal: 0, most: u64::MAX, kept: 0 };

    /// What a share is of so many tokens. Of an unknown capacity, which is none, there are no parts.
    pub(super) fn of(share: &TenantShare, capacity: u64) -> Self {
        if capacity == 0 {
            return Self::FREE;
        }
        // Rounded up: the smallest share is one token and not nothing.
        let part = |thousandths: u32| {
            let tokens = u128::from(capacity) * u128::from(thousandths);
            u64::try_from(tokens.div_ceil(u128::from(WHOLE))).unwrap_or(u64::MAX)
        };
        let nominal = part(share.guaranteed);
        let most =
            share.borrowing_limit.map_or(u64::MAX, |limit| nominal.saturating_add(part(limit)));
        let kept = share.lending_limit.map_or(0, |limit| nominal.saturating_sub(part(limit)));
        Self { nominal, most: most.max(u64::from(most == 0)), kept }
    }

    pub(super) const fn class(&self, usage: u64) -> Class {
        if usage < self.nominal {
            Class::Guaranteed
        } else if usage >= self.most {
            Class::Capped
        } else {
            Class::Borrowing
        }
    }
}

/// Whether work may be taken from one for another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Standing {
    /// The taker is within its guarantee with this request.
    pub(crate) entitled: bool,
    /// The other uses more than its guarantee.
    pub(crate) borrows: bool,
    /// Kueue's rule holds.
    pub(crate) fair: bool,
    /// Their counters' difference where their paths meet, in thousandths of a weighted token: how
    /// much more the other received.
    pub(crate) ahead: u128,
}

impl Fair {
    /// Tokens of free room that a request of this leaf may use: without what others do not lend.
    pub(super) fn usable(&self, leaf: Slot, free: u64) -> u64 {
        if self.node(ROOT).children_held == 0 {
            return free;
        }
        self.path(leaf).fold(free, |free, slot| {
            let node = self.node(slot);
            let siblings = self.node(node.parent).children_held - node.held;
            free.saturating_sub(siblings)
        })
    }

    /// Books what a node does not lend, and what that changes above it is the caller's next step.
    pub(super) fn hold(&mut self, slot: Slot) {
        let node = self.node(slot);
        let own = node.limits.kept.saturating_sub(node.usage);
        let (before, after, parent) = (node.held, own.max(node.children_held), node.parent);
        self.node_mut(slot).held = after;
        let above = self.node_mut(parent);
        above.children_held = above.children_held - before + after;
    }

    pub(super) fn hold_all(&mut self) {
        for node in &mut self.nodes {
            (node.held, node.children_held) = (0, 0);
        }
        // An own-requests node comes after its parent and holds nothing; parents come before their
        // children, so that the way back meets children first.
        for slot in (1..self.nodes.len()).rev() {
            self.hold(Slot::try_from(slot).unwrap_or(Slot::MAX));
        }
    }

    /// Where `taker`, who needs so many tokens more, stands beside `other`, who would lose as many as
    /// `lost`; none when they are the same leaf.
    pub(super) fn standing(&self, taker: Claim, other: Claim) -> Option<Standing> {
        let (mine, theirs) = self.meet(taker.leaf, other.leaf)?;
        let (mine_node, theirs_node) = (self.node(mine), self.node(theirs));
        let share = |slot: Slot, usage: u64| {
            let node = self.node(slot);
            let borrowed = u128::from(usage.saturating_sub(node.limits.nominal));
            borrowed * u128::from(u32::MAX) / u128::from(node.weight)
        };
        let taken = share(mine, mine_node.usage.saturating_add(taker.tokens));
        let left = share(theirs, theirs_node.usage.saturating_sub(other.tokens));
        let before = share(theirs, theirs_node.usage);
        let counters = (self.counter(mine, taker.band), self.counter(theirs, taker.band));
        Some(Standing {
            entitled: mine_node.limits.nominal > 0
                && mine_node.usage.saturating_add(taker.tokens) <= mine_node.limits.nominal,
            borrows: theirs_node.usage > theirs_node.limits.nominal,
            fair: taken <= left || taken < before,
            ahead: counters.1.saturating_sub(counters.0),
        })
    }

    /// The two siblings over which the leaves' paths meet.
    fn meet(&self, one: Slot, other: Slot) -> Option<(Slot, Slot)> {
        if one == other {
            return None;
        }
        // Leaves lie at different depths: the first of one path with a sibling in the other.
        self.path(one).find_map(|one| {
            let parent = self.node(one).parent;
            let sibling = self.path(other).find(|other| self.node(*other).parent == parent)?;
            Some((one, sibling))
        })
    }
}

/// One side of a comparison.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub(super) leaf: Slot,
    pub(super) band: crate::Band,
    pub(super) tokens: u64,
}
