//! What was asked of the server, and what came of it: for tests that count writes.

use std::collections::VecDeque;

/// A call, after it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `apply`, `delete`, `deletecollection`.
    pub verb: &'static str,
    /// The group of the resource.
    pub group: String,
    /// The plural of the resource, with the subresource; of calls that are about none, empty.
    pub resource: String,
    /// The namespace, if one is named.
    pub namespace: String,
    /// The name, if one is named.
    pub name: String,
    /// Who says to write: the field manager, or the calling program.
    pub manager: String,
    /// Who called.
    pub user: String,
    /// Whether nothing was to be stored.
    pub dry_run: bool,
    /// The status; 0 where the connection broke off.
    pub status: u16,
    /// Whether something stored is different since.
    pub changed: bool,
    /// Whether the answer arrived.
    pub heard: bool,
}

impl Record {
    /// Whether it asked for a change that is stored.
    pub fn writes(&self) -> bool {
        !self.dry_run && !matches!(self.verb, "get" | "list" | "watch" | "")
    }
}

/// The newest calls, oldest first.
#[derive(Debug)]
pub struct Records {
    all: VecDeque<Record>,
    most: usize,
    /// Calls ever.
    count: u64,
}

impl Records {
    pub(crate) fn new(most: usize) -> Self {
        Self { all: VecDeque::new(), most, count: 0 }
    }

    pub(crate) fn add(&mut self, record: Record) {
        self.count += 1;
        if self.all.len() == self.most {
            self.all.pop_front();
        }
        self.all.push_back(record);
    }

    /// The calls that are remembered.
    pub fn iter(&self) -> impl Iterator<Item = &Record> {
        self.all.iter()
    }

    /// How many calls there were, those that are forgotten among them.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How many of the remembered calls changed something.
    pub fn changes(&self) -> usize {
        self.all.iter().filter(|record| record.changed).count()
    }

    /// Forgets all calls, and returns them.
    pub fn take(&mut self) -> Vec<Record> {
        self.all.drain(..).collect()
    }
}
