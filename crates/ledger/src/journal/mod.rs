//! Files on this machine in which entries wait for the store, in the order in which they came.
//!
//! Each file begins with a mark and the instance that wrote it, a random name for one run of a process. An
//! entry is known by its instance and its number, so that storing it twice can be told.

mod writer;

use std::collections::{BTreeMap, VecDeque};
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
}

#[derive(Clone, Debug)]
struct Segment {
    path: PathBuf,
    instance: String,
    /// Bytes that hold.
    len: u64,
    /// Whether nothing more comes.
    closed: bool,
    /// Whether what is behind is damaged.
    damaged: bool,
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
                found.push(scan(&path).map_err(wrong)?);
            }
        }
        let run = found.iter().map(|one| run(&one.segment.path) + 1).max().unwrap_or(1);
        let mut segments = Segments::default();
        for Scanned { segment, entries, .. } in in_order(found) {
            segments.bytes += segment.len;
            segments.entries += entries;
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

    /// Files that hold damage.
    pub(crate) fn damaged(&self) -> Vec<PathBuf> {
        let segments = self.segments.lock();
        segments.all.iter().filter(|one| one.damaged).map(|one| one.path.clone()).collect()
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
            if at >= segment.len {
                if !segment.closed {
                    return Ok(None);
                }
                self.finish(&segment)?;
                continue;
            }
            return read(&segment, at, entries_max).map(Some);
        }
    }

    /// So many entries are stored.
    pub(crate) fn stored(&self, entries: u64) {
        let mut segments = self.segments.lock();
        segments.entries = segments.entries.saturating_sub(entries);
    }

    /// The first file cannot be read: it is set aside.
    pub(crate) fn set_aside(&self) -> Option<PathBuf> {
        let mut segments = self.segments.lock();
        let gone = segments.all.pop_front()?;
        segments.bytes = segments.bytes.saturating_sub(gone.len);
        drop(segments);
        // Where even that fails it stays, and is tried again at the next start.
        let _ = fs::rename(&gone.path, gone.path.with_extension("damaged"));
        Some(gone.path)
    }

    /// All of a file is stored. What is behind its damage is kept for whoever wants to look.
    fn finish(&self, segment: &Segment) -> io::Result<()> {
        let done = match segment.damaged {
            true => fs::rename(&segment.path, segment.path.with_extension("damaged")),
            false => fs::remove_file(&segment.path),
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

/// What is in a file.
#[derive(Debug)]
struct Scanned {
    segment: Segment,
    entries: u64,
    /// The number of its first entry.
    first: u64,
}

/// The run that a file is of: what its name begins with. Files of before runs were counted begin with the time, which is
/// above all runs there will be.
fn run(path: &Path) -> u64 {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.split('-').next().and_then(|run| run.parse().ok()).unwrap_or(0)
}

/// Files run by run, and those of one by the numbers of their entries: whatever a clock said when they were made. What
/// is stored of an instance goes up only, so that no file may come before one with lower numbers.
fn in_order(mut found: Vec<Scanned>) -> Vec<Scanned> {
    let mut begins: BTreeMap<String, u64> = BTreeMap::new();
    for one in &found {
        let run = run(&one.segment.path);
        let begin = begins.entry(one.segment.instance.clone()).or_insert(run);
        *begin = run.min(*begin);
    }
    found.sort_by_cached_key(|one| {
        let instance = one.segment.instance.clone();
        (begins.get(&instance).copied(), instance, one.first, one.segment.path.clone())
    });
    found
}

fn scan(path: &Path) -> io::Result<Scanned> {
    let bytes = fs::read(path)?;
    let instance = bytes.strip_prefix(MARK).and_then(|rest| rest.get(..16));
    let instance =
        instance.and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default().to_owned();
    let (mut at, mut entries, mut first) = (HEAD_BYTES as usize, 0, u64::MAX);
    let damaged = loop {
        // A file with half a head was begun and never written to.
        if instance.is_empty() {
            break bytes.len() > HEAD_BYTES as usize;
        }
        match frame::read(&bytes, at) {
            Read::Entry(sequence, _, next) => {
                at = next;
                entries += 1;
                first = first.min(sequence);
            }
            Read::End => break false,
            Read::Torn => {
                File::options().write(true).open(path)?.set_len(at as u64)?;
                break false;
            }
            Read::Damaged => break true,
        }
    };
    let len = if instance.is_empty() { HEAD_BYTES } else { at as u64 };
    let segment = Segment { path: path.to_owned(), instance, len, closed: true, damaged };
    Ok(Scanned { segment, entries, first })
}

fn read(segment: &Segment, from: u64, entries_max: usize) -> io::Result<Next> {
    let wanted = (segment.len - from).min(READ_BYTES);
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
                let segment = Segment { path, instance, len: 0, closed: true, damaged: false };
                Scanned { segment, entries: 1, first: *first }
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
