//! Files on this machine in which entries wait for the store, in the order in which they came.
//!
//! Each file begins with a mark and the instance that wrote it, a random name for one run of a process. An
//! entry is known by its instance and its number, so that storing it twice can be told.

mod scan;
mod writer;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use pilotage_shell::secret::hex;
use thiserror::Error;
use tokio::sync::Notify;

use crate::entry::Entry;
use crate::frame::{self, Read};
use crate::store::Batch;
use scan::{Scanned, Segment, in_order, run, scan};

pub(crate) use writer::{Writer, write};

const MARK: &[u8; 8] = b"plgusg1\n";

/// Bytes before the first frame: the mark, and the instance in 16 hexadecimal digits.
const HEAD_BYTES: u64 = 24;

/// Bytes that are read at a time.
const READ_BYTES: u64 = 2 << 20;

/// Why there is no journal.
#[derive(Debug, Error)]
pub enum JournalError {
    /// Another process writes there.
    #[error(
        "the usage ledger in {0} is in use by another process; stop that, or give this one a data directory of its own"
    )]
    InUse(PathBuf),
    /// The folder cannot be used.
    #[error(
        "the folder of the usage ledger {0} cannot be used; check that it can be written, and the disk"
    )]
    Folder(PathBuf, #[source] io::Error),
}

/// The journal of one process.
#[derive(Debug)]
pub(crate) struct Journal {
    folder: PathBuf,
    instance: String,
    /// Which run this is, above those of all files that are there: their names begin with it.
    run: u64,
    segments: Mutex<Segments>,
    /// Something was written. What is published as written may lag behind: the storer must not wait for it while
    /// the writer waits for room.
    pub(crate) came: Notify,
    /// Held as long as this is.
    _lock: File,
}

#[derive(Debug, Default)]
struct Segments {
    all: VecDeque<Segment>,
    bytes: u64,
    entries: u64,
    /// Damage that was found and not told yet.
    damage: Vec<Damage>,
}

/// Damage in a file. It costs the entries in it, at least one, and none of those behind it.
#[derive(Clone, Debug)]
pub(crate) struct Damage {
    pub(crate) path: PathBuf,
    /// The entries that are known to be lost by it.
    pub(crate) rows: u64,
}

/// A place in the journal.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    path: PathBuf,
    at: u64,
}

/// What is to be stored next, and the place behind it.
#[derive(Debug)]
pub(crate) struct Next {
    pub(crate) batch: Batch,
    pub(crate) behind: Place,
}

impl Journal {
    /// The journal in a folder, with what is there from before. What a crash left half written is cut.
    pub(crate) fn open(folder: &Path) -> Result<Self, JournalError> {
        let wrong = |error| JournalError::Folder(folder.to_owned(), error);
        fs::create_dir_all(folder).map_err(wrong)?;
        let lock = File::create(folder.join("lock")).map_err(wrong)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(JournalError::InUse(folder.to_owned()));
            }
            Err(fs::TryLockError::Error(error)) => return Err(wrong(error)),
        }
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| wrong(io::Error::other(error)))?;
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).map_err(wrong)? {
            let path = entry.map_err(wrong)?.path();
            if path.extension().is_some_and(|end| end == "segment") {
                found.push(scan(&path, 0).map_err(wrong)?);
            }
        }
        let run = found.iter().map(|one| run(&one.segment.path) + 1).max().unwrap_or(1);
        let mut segments = Segments::default();
        for Scanned { segment, .. } in in_order(found) {
            segments.bytes += segment.len;
            segments.entries += segment.entries;
            if !segment.holes.is_empty() {
                let rows = segment.holes.len() as u64;
                segments.damage.push(Damage { path: segment.path.clone(), rows });
            }
            segments.all.push_back(segment);
        }
        Ok(Self {
            folder: folder.to_owned(),
            instance: hex(&random),
            run,
            segments: Mutex::new(segments),
            came: Notify::new(),
            _lock: lock,
        })
    }

    /// Entries and bytes that wait for the store.
    pub(crate) fn lengths(&self) -> (u64, u64) {
        let segments = self.segments.lock();
        (segments.entries, segments.bytes)
    }

    /// Files in which damage was found since this was asked.
    pub(crate) fn damage(&self) -> Vec<Damage> {
        std::mem::take(&mut self.segments.lock().damage)
    }

    /// What comes after a place, at most so many entries; nothing where nothing is there yet.
    pub(crate) fn next(
        &self,
        from: Option<&Place>,
        entries_max: usize,
    ) -> io::Result<Option<Next>> {
        let mut from = from.cloned();
        loop {
            let Some(segment) = self.segments.lock().all.front().cloned() else { return Ok(None) };
            let at = match from.take() {
                Some(place) if place.path == segment.path => place.at,
                _ => HEAD_BYTES,
            };
            let (at, until) = segment.stretch(at);
            if at >= segment.len {
                if !segment.closed {
                    return Ok(None);
                }
                self.finish(&segment)?;
                continue;
            }
            match read(&segment, (at, until), entries_max) {
                Err(error) if is_damage(&error) => self.mend(&segment, at, error)?,
                Err(error) if is_gone(&error, &segment) => self.lose(at),
                done => return done.map(Some),
            }
            from = Some(Place { path: segment.path, at });
        }
    }

    /// So many entries of the first file are stored.
    pub(crate) fn stored(&self, entries: u64) {
        let mut segments = self.segments.lock();
        segments.entries = segments.entries.saturating_sub(entries);
        if let Some(first) = segments.all.front_mut() {
            first.entries = first.entries.saturating_sub(entries);
        }
    }

    /// The first file is not what it was, from there on: it is looked through again for what holds. Nothing more is
    /// written into it; whoever does begins another one.
    ///
    /// # Errors
    /// It cannot be looked through, or nothing is wrong with it and it could not be read all the same: that may pass.
    fn mend(&self, segment: &Segment, at: u64, error: io::Error) -> io::Result<()> {
        if let Some(first) = self.segments.lock().all.front_mut() {
            first.closed = true;
        }
        let found = scan(&segment.path, at)?.segment;
        if found.len == segment.len && found.holes == segment.holes {
            return Err(io::Error::other(error));
        }
        let mut segments = self.segments.lock();
        let Some(first) = segments.all.front_mut() else { return Ok(()) };
        let (before, bytes) = (first.entries, first.len);
        *first = found.clone();
        segments.entries = segments.entries.saturating_sub(before) + found.entries;
        segments.bytes = segments.bytes.saturating_sub(bytes) + found.len;
        let rows = before.saturating_sub(found.entries).max(1);
        segments.damage.push(Damage { path: found.path, rows });
        Ok(())
    }

    /// The first file was taken away: what was not stored of it is lost.
    fn lose(&self, at: u64) {
        let mut segments = self.segments.lock();
        let Some(first) = segments.all.front_mut() else { return };
        let (rows, bytes) = (first.entries, first.len - at);
        (first.closed, first.len, first.entries) = (true, at, 0);
        let path = first.path.clone();
        segments.entries = segments.entries.saturating_sub(rows);
        segments.bytes = segments.bytes.saturating_sub(bytes);
        segments.damage.push(Damage { path, rows: rows.max(1) });
    }

    /// All of a file is stored. One with damage is kept for whoever wants to look.
    fn finish(&self, segment: &Segment) -> io::Result<()> {
        let done = match segment.holes.is_empty() {
            true => fs::remove_file(&segment.path),
            false => fs::rename(&segment.path, segment.path.with_extension("damaged")),
        };
        match done {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut segments = self.segments.lock();
        segments.all.pop_front();
        segments.bytes = segments.bytes.saturating_sub(segment.len);
        Ok(())
    }
}

/// Whether what was read is not what was written, rather than that it could not be read.
fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

/// Whether the file alone is away, rather than the disk that it is on.
fn is_gone(error: &io::Error, segment: &Segment) -> bool {
    let folder = segment.path.parent();
    error.kind() == io::ErrorKind::NotFound && folder.is_some_and(Path::is_dir)
}

/// The entries in a stretch without damage.
fn read(segment: &Segment, (from, until): (u64, u64), entries_max: usize) -> io::Result<Next> {
    let wanted = (until - from).min(READ_BYTES);
    let mut bytes = vec![0; usize::try_from(wanted).unwrap_or_default()];
    File::open(&segment.path)?.read_exact_at(&mut bytes, from)?;
    let mut entries: Vec<(u64, Entry)> = Vec::new();
    let mut at = 0;
    while entries.len() < entries_max {
        let Read::Entry(sequence, entry, next) = frame::read(&bytes, at) else { break };
        entries.push((sequence, *entry));
        at = next;
    }
    if entries.is_empty() {
        let message = format!("no entry at byte {from}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    let behind = Place { path: segment.path.clone(), at: from + at as u64 };
    Ok(Next { batch: Batch { instance: segment.instance.clone(), entries }, behind })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_by_their_numbers_whatever_the_clock_said() {
        let check = |files: &[(&str, &str, u64)], expect: &[&str]| {
            let scanned = |(path, instance, first): &(&str, &str, u64)| {
                let (path, instance) = (path.into(), (*instance).to_owned());
                let (len, entries, holes) = (0, 1, Vec::new());
                let segment = Segment { path, instance, len, entries, closed: true, holes };
                Scanned { segment, first: *first }
            };
            let sorted = in_order(files.iter().map(scanned).collect());
            let names: Vec<_> =
                sorted.iter().map(|one| one.segment.path.to_str().unwrap()).collect();
            assert_eq!(names, expect);
        };
        // A clock that went back: names of before began with it.
        check(
            &[
                ("01799000000000-a-000001.segment", "a", 90),
                ("01800000000000-a-000000.segment", "a", 1),
            ],
            &["01800000000000-a-000000.segment", "01799000000000-a-000001.segment"],
        );
        // Runs follow each other, and each is whole; after ten of them as well.
        check(
            &[
                ("2-b-0.segment", "b", 1),
                ("10-a-0.segment", "a", 5),
                ("10-a-1.segment", "a", 1),
                ("1-c-0.segment", "c", 70),
            ],
            &["1-c-0.segment", "2-b-0.segment", "10-a-1.segment", "10-a-0.segment"],
        );
        assert_eq!(run(Path::new("/x/01800000000000-a-000000.segment")), 1_800_000_000_000);
        assert_eq!(run(Path::new("/x/strange.segment")), 0);
    }
}
