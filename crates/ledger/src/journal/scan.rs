//! What a file of the journal holds, and in which order files are read. Damage costs the entries that are damaged:
//! those behind it are found again by their checksums.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{HEAD_BYTES, MARK};
use crate::frame::{self, Read};

/// A file of the journal.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) instance: String,
    /// Bytes that hold.
    pub(super) len: u64,
    /// Entries that are not stored yet.
    pub(super) entries: u64,
    /// Whether nothing more comes.
    pub(super) closed: bool,
    /// Where it is damaged: from a byte to where the next entry begins, or to the end.
    pub(super) holes: Vec<(u64, u64)>,
}

impl Segment {
    /// The place from which there is something to read, and where that ends.
    pub(super) fn stretch(&self, at: u64) -> (u64, u64) {
        let behind = self.holes.iter().find(|(from, to)| (*from..*to).contains(&at));
        let at = behind.map_or(at, |(_, to)| *to);
        let next = self.holes.iter().map(|(from, _)| *from).find(|from| *from > at);
        (at, next.map_or(self.len, |from| from.min(self.len)))
    }
}

/// What is in a file.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) segment: Segment,
    /// The number of its first entry.
    pub(super) first: u64,
}

/// Looks through a file; of entries, those from a byte on are counted. What a crash left half written at its end is no
/// damage.
pub(super) fn scan(path: &Path, from: u64) -> io::Result<Scanned> {
    let bytes = fs::read(path)?;
    let instance = bytes.strip_prefix(MARK).and_then(|rest| rest.get(..16));
    let instance =
        instance.and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default().to_owned();
    let mut segment = Segment {
        path: path.to_owned(),
        instance,
        len: HEAD_BYTES,
        entries: 0,
        closed: true,
        holes: Vec::new(),
    };
    let mut first = u64::MAX;
    if segment.instance.is_empty() {
        // A file with half a head was begun and never written to.
        if bytes.len() as u64 > HEAD_BYTES {
            segment.holes.push((HEAD_BYTES, bytes.len() as u64));
        }
        return Ok(Scanned { segment, first });
    }
    let mut at = HEAD_BYTES as usize;
    loop {
        let is_damaged = match frame::read(&bytes, at) {
            Read::Entry(sequence, _, next) => {
                segment.entries += u64::from(at as u64 >= from);
                first = first.min(sequence);
                at = next;
                continue;
            }
            Read::End => break,
            Read::Torn => false,
            Read::Damaged => true,
        };
        let Some(next) = frame::seek(&bytes, at + 1) else {
            if is_damaged {
                segment.holes.push((at as u64, bytes.len() as u64));
            }
            break;
        };
        segment.holes.push((at as u64, next as u64));
        at = next;
    }
    segment.len = at as u64;
    Ok(Scanned { segment, first })
}

/// The run that a file is of: what its name begins with. Files of before runs were counted begin with the time, which is
/// above all runs there will be.
pub(super) fn run(path: &Path) -> u64 {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.split('-').next().and_then(|run| run.parse().ok()).unwrap_or(0)
}

/// Files run by run, and those of one by the numbers of their entries: whatever a clock said when they were made. What
/// is stored of an instance goes up only, so that no file may come before one with lower numbers.
pub(super) fn in_order(mut found: Vec<Scanned>) -> Vec<Scanned> {
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
