//! How a ledger does, for whoever looks after it.

use parking_lot::Mutex;
use serde::Serialize;

/// The state of a ledger. `lost_rows` is what could not be kept in any way: it stays zero while the process lives.
#[derive(Clone, Debug, Default, Serialize)]
pub struct State {
    /// `sqlite` or `postgres`.
    pub kind: &'static str,
    /// `ok`, or what is wrong: `store_away`, `journal_unread`, `journal_full`, `disk_error`.
    pub condition: &'static str,
    /// Whether the journal takes rows.
    pub journal_up: bool,
    /// Whether the store gets and takes them.
    pub store_up: bool,
    /// Rows in memory that are not in the journal yet.
    pub waiting_rows: u64,
    /// Entries in the journal that are not in the store yet.
    pub behind_rows: u64,
    /// Bytes of the journal.
    pub journal_bytes: u64,
    /// Rows that were folded into sums, since the start.
    pub folded_rows: u64,
    /// Sums that wait in memory.
    pub waiting_folds: u64,
    /// Entries stored since the start.
    pub stored_rows: u64,
    /// Rows that are lost: those in damaged parts of the journal, one at least for each.
    pub lost_rows: u64,
    /// How often a file of the journal was found damaged.
    pub damaged_files: u64,
    /// Entries that the store refused for what they are, kept in `refused.jsonl`.
    pub refused_rows: u64,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// Since when the condition holds, in milliseconds since 1970.
    pub since: u64,
}

/// A state that several write.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    inner: Mutex<Troubles>,
}

#[derive(Debug, Default)]
struct Troubles {
    journal: Option<(&'static str, u64)>,
    store: Option<u64>,
    unread: Option<u64>,
    since_ok: u64,
    last_error: Option<String>,
    stored: u64,
    lost: u64,
    damaged: u64,
    refused: u64,
}

impl Shared {
    /// The journal cannot be written, or can again.
    pub(crate) fn journal(&self, now_ms: u64, trouble: Option<(&'static str, String)>) -> bool {
        let mut inner = self.inner.lock();
        let before = inner.journal.map(|(what, _)| what);
        let now = trouble.as_ref().map(|(what, _)| *what);
        if before != now {
            inner.journal = now.map(|what| (what, now_ms));
            inner.since_ok = now_ms;
        }
        if let Some((_, error)) = trouble {
            inner.last_error = Some(error);
        }
        before != now
    }

    /// The store cannot be reached, or can again.
    pub(crate) fn store(&self, now_ms: u64, error: Option<String>) -> bool {
        let mut inner = self.inner.lock();
        let changed = inner.store.is_some() != error.is_some();
        if changed {
            inner.store = error.is_some().then_some(now_ms);
            inner.since_ok = now_ms;
        }
        if error.is_some() {
            inner.last_error = error;
        }
        changed
    }

    pub(crate) fn stored(&self, entries: u64) {
        self.inner.lock().stored += entries;
    }

    pub(crate) fn damaged(&self, rows: u64, error: String) {
        let mut inner = self.inner.lock();
        inner.damaged += 1;
        inner.lost += rows;
        inner.last_error = Some(error);
    }

    /// The journal cannot be read, or can again.
    pub(crate) fn unread(&self, now_ms: u64, error: Option<String>) {
        let mut inner = self.inner.lock();
        if inner.unread.is_some() != error.is_some() {
            inner.unread = error.is_some().then_some(now_ms);
            inner.since_ok = now_ms;
        }
        if error.is_some() {
            inner.last_error = error;
        }
    }

    pub(crate) fn refused(&self, error: String) {
        let mut inner = self.inner.lock();
        inner.refused += 1;
        inner.last_error = Some(error);
    }

    /// Fills in what is known here.
    pub(crate) fn fill(&self, state: &mut State) {
        let inner = self.inner.lock();
        let away = inner.store.map(|since| ("store_away", since));
        let unread = inner.unread.map(|since| ("journal_unread", since));
        let trouble = inner.journal.or(unread).or(away);
        let (condition, since) = trouble.unwrap_or(("ok", inner.since_ok));
        state.condition = condition;
        state.since = since;
        state.journal_up = inner.journal.is_none();
        state.store_up = inner.store.or(inner.unread).is_none();
        state.stored_rows = inner.stored;
        state.lost_rows = inner.lost;
        state.damaged_files = inner.damaged;
        state.refused_rows = inner.refused;
        state.last_error.clone_from(&inner.last_error);
    }
}
