//! Files on this machine in which entries wait for the store, in the order in which they came.
//!
//! Each file begins with a mark and the instance that wrote it, a random name for one run of a process. An
//! entry is known by its instance and its number, so that storing it twice can be told.

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
        let mut paths: Vec<PathBuf> = fs::read_dir(folder)
            .map_err(wrong)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|end| end == "segment"))
            .collect();
        paths.sort();
        let mut segments = Segments::default();
        for path in paths {
            let (segment, entries) = scan(&path).map_err(wrong)?;
            segments.bytes += segment.len;
            segments.entries += entries;
            segments.all.push_back(segment);
        }
        Ok(Self {
            folder: folder.to_owned(),
            instance: hex(&random),
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

fn scan(path: &Path) -> io::Result<(Segment, u64)> {
    let bytes = fs::read(path)?;
    let instance = bytes.strip_prefix(MARK).and_then(|rest| rest.get(..16));
    let instance =
        instance.and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default().to_owned();
    let (mut at, mut entries) = (HEAD_BYTES as usize, 0);
    let damaged = loop {
        // A file with half a head was begun and never written to.
        if instance.is_empty() {
            break bytes.len() > HEAD_BYTES as usize;
        }
        match frame::read(&bytes, at) {
            Read::Entry(_, _, next) => {
                at = next;
                entries += 1;
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
    Ok((Segment { path: path.to_owned(), instance, len, closed: true, damaged }, entries))
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
