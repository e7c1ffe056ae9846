//! The bytes of everything that comes at once, as one number.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::weights::Progress;

/// What is there of one piece of work.
pub(in crate::weights) struct Tally<'a> {
    pub progress: &'a dyn Progress,
    what: String,
    known: AtomicBool,
    done: AtomicU64,
}

impl<'a> Tally<'a> {
    /// Begins to show the work, of so many bytes where that is known.
    pub(in crate::weights) fn begin(
        progress: &'a dyn Progress,
        what: String,
        total: Option<u64>,
    ) -> Self {
        progress.begin(&what, total);
        Self { progress, what, known: AtomicBool::new(total.is_some()), done: AtomicU64::new(0) }
    }

    /// So many bytes there will be.
    pub(super) fn expect(&self, total: u64) {
        if !self.known.swap(true, Ordering::Relaxed) {
            self.progress.begin(&self.what, Some(total));
        }
    }

    pub(super) fn add(&self, bytes: u64) {
        let before = self.done.fetch_add(bytes, Ordering::Relaxed);
        self.progress.advance_to(before + bytes);
    }

    /// So many bytes are thrown away.
    pub(in crate::weights) fn subtract(&self, bytes: u64) {
        let before = self.done.fetch_sub(bytes, Ordering::Relaxed);
        self.progress.advance_to(before - bytes);
    }
}
