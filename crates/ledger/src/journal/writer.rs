//! The thread that writes what waits, one write(2) at a time, and publishes up to where.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pilotage_shell::clock::Clock;
use tokio::sync::watch;

use super::{HEAD_BYTES, Journal, MARK, Segment};
use crate::buffer::{Buffer, Taken};
use crate::entry::Entry;
use crate::frame;
use crate::settings::Bounds;
use crate::state::Shared;

/// Entries that are written at a time.
const ENTRIES_AT_ONCE: usize = 512;

/// Between attempts at a disk that is full.
const RETRY: Duration = Duration::from_millis(200);

/// Attempts after the ledger was closed, before what waits is given up.
const LAST_ATTEMPTS: u32 = 25;

/// Writes until the buffer is closed and empty.
pub(crate) fn write(mut writer: Writer, written: &watch::Sender<u64>) {
    let mut spare = VecDeque::with_capacity(writer.bounds.waiting_max);
    while let Some(mut taken) = writer.buffer.take(spare, Duration::from_secs(1)) {
        if !writer.take(&mut taken, written) {
            return;
        }
        written.send_replace(taken.last);
        spare = taken.records;
    }
}

/// What writes the journal.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) buffer: Arc<Buffer>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) bounds: Bounds,
    pub(crate) state: Arc<Shared>,
    pub(crate) clock: Clock,
    /// What is to be told to the disk; taken by the thread that does.
    pub(crate) unsynced: Arc<Mutex<Option<Arc<File>>>>,
    pub(crate) file: Option<Open>,
    pub(crate) made: u64,
}

/// The file that is written.
#[derive(Debug)]
pub(crate) struct Open {
    path: PathBuf,
    file: Arc<File>,
    len: u64,
}

impl Writer {
    /// Writes all of it, in pieces; false where that was given up.
    fn take(&mut self, taken: &mut Taken, written: &watch::Sender<u64>) -> bool {
        let mut bytes = Vec::new();
        let others = std::mem::take(&mut taken.others);
        while !taken.records.is_empty() {
            bytes.clear();
            let piece = taken.records.len().min(ENTRIES_AT_ONCE);
            let mut last = 0;
            for (sequence, record) in taken.records.drain(..piece) {
                let row = Entry::Row(Box::new(self.buffer.row(&record)));
                encode(sequence, &row, &mut bytes);
                last = sequence;
            }
            if !self.persist(&bytes, piece as u64) {
                return false;
            }
            // Numbers of folded rows are among them, and are written last.
            if others.is_empty() {
                written.send_replace(last);
            }
        }
        for piece in others.chunks(ENTRIES_AT_ONCE) {
            bytes.clear();
            piece.iter().for_each(|(sequence, entry)| encode(*sequence, entry, &mut bytes));
            if !self.persist(&bytes, piece.len() as u64) {
                return false;
            }
        }
        true
    }

    /// Tries until it is written; false where nobody waits for that any more.
    fn persist(&mut self, bytes: &[u8], entries: u64) -> bool {
        let mut after_close = 0;
        loop {
            match self.append(bytes, entries) {
                Ok(()) => {
                    if self.state.journal(self.clock.unix_ms(), None) {
                        tracing::info!("the usage journal is written again");
                    }
                    return true;
                }
                Err(trouble) => self.troubled(trouble),
            }
            if self.buffer.pause(RETRY) {
                after_close += 1;
            }
            if after_close > LAST_ATTEMPTS {
                tracing::error!(entries, "usage is lost: the journal cannot be written at the end");
                return false;
            }
        }
    }

    fn troubled(&self, (what, error): (&'static str, String)) {
        if self.state.journal(self.clock.unix_ms(), Some((what, error.clone()))) {
            tracing::error!(error, "usage waits in memory: the journal cannot be written");
        }
    }

    fn append(&mut self, bytes: &[u8], entries: u64) -> Result<(), (&'static str, String)> {
        let size = bytes.len() as u64;
        let (behind, held) = self.journal.lengths();
        if held + size > self.bounds.journal_bytes_max && behind == 0 {
            // Everything is stored: the file that is written goes, and the next one has room.
            self.file = None;
            self.journal.close_last();
        } else if held + size > self.bounds.journal_bytes_max {
            let why = "the journal is full, for the database has been away for long";
            return Err(("journal_full", why.to_owned()));
        }
        self.try_append(bytes, entries).map_err(|error| ("disk_error", error.to_string()))
    }

    fn try_append(&mut self, bytes: &[u8], entries: u64) -> io::Result<()> {
        let size = bytes.len() as u64;
        let fits = |open: &Open| open.len + size <= self.bounds.segment_bytes_max;
        if !self.file.as_ref().is_some_and(fits) {
            self.roll()?;
        }
        let Some(open) = &mut self.file else { return Err(io::Error::other("no file")) };
        if let Err(error) = (&*open.file).write_all(bytes) {
            // Half a frame must not stand before the next one.
            if open.file.set_len(open.len).is_err() {
                self.file = None;
                self.journal.close_last();
            }
            return Err(error);
        }
        open.len += size;
        if !self.journal.grown(&open.path, size, entries) {
            self.file = None;
            return Err(io::Error::other(
                "the file of the journal was damaged; another one is begun",
            ));
        }
        *self.unsynced.lock() = Some(Arc::clone(&open.file));
        Ok(())
    }

    /// Begins a new file.
    fn roll(&mut self) -> io::Result<()> {
        let name =
            format!("{:014}-{}-{:06}.segment", self.journal.run, self.journal.instance, self.made);
        let path = self.journal.folder.join(name);
        self.made += 1;
        let mut file = File::options().append(true).create_new(true).open(&path)?;
        let head = [MARK, self.journal.instance.as_bytes()].concat();
        if let Err(error) = file.write_all(&head) {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        self.journal.begun(path.clone());
        self.file = Some(Open { path, file: Arc::new(file), len: HEAD_BYTES });
        Ok(())
    }
}

impl Journal {
    /// A new file takes what comes.
    fn begun(&self, path: PathBuf) {
        let instance = self.instance.clone();
        let mut segments = self.segments.lock();
        if let Some(last) = segments.all.back_mut() {
            last.closed = true;
        }
        segments.bytes += HEAD_BYTES;
        segments.all.push_back(Segment {
            path,
            instance,
            len: HEAD_BYTES,
            entries: 0,
            closed: false,
            holes: Vec::new(),
        });
    }

    /// Nothing more comes into the last file, whatever may be at its end.
    fn close_last(&self) {
        if let Some(last) = self.segments.lock().all.back_mut() {
            last.closed = true;
        }
    }

    /// A file has more; false where it was closed meanwhile, and nobody reads what was written.
    fn grown(&self, path: &Path, bytes: u64, entries: u64) -> bool {
        let mut segments = self.segments.lock();
        let Some(last) = segments.all.back_mut().filter(|one| one.path == path && !one.closed)
        else {
            return false;
        };
        last.len += bytes;
        last.entries += entries;
        segments.bytes += bytes;
        segments.entries += entries;
        drop(segments);
        self.came.notify_one();
        true
    }
}

fn encode(sequence: u64, entry: &Entry, bytes: &mut Vec<u8>) {
    // Entries are made of texts and numbers, which always can be written.
    let done = frame::write(sequence, entry, bytes);
    debug_assert!(done.is_ok(), "{done:?}");
}
