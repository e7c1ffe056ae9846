//! What is there of a file that comes in parts: written beside it, after the bytes it speaks of are on
//! the disk, so that a crash loses at most what came since.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pilotage_shell::files;
use serde::{Deserialize, Serialize};

/// Most bytes of a record: far more parts than the largest file has.
const RECORD_BYTES_MAX: u64 = 16 << 20;

/// Where a file grows, and where its record is.
#[derive(Clone, Debug)]
pub(in crate::weights) struct Place {
    pub data: PathBuf,
    pub record: PathBuf,
}

/// What is there of a file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Record {
    /// The server's name for this version; empty where it has none, and then nothing can go on.
    pub tag: String,
    /// Bytes of the whole, where they are known.
    pub total: Option<u64>,
    /// Bytes of each part but the last.
    pub part_bytes: u64,
    /// Bytes that are there, of each part from its begin.
    pub done: Vec<u64>,
}

impl Record {
    /// One of a file that has not begun: in parts only where the server can send them.
    pub(super) fn new(tag: String, total: Option<u64>, part_bytes: u64, in_parts: bool) -> Self {
        let large = total.filter(|total| in_parts && *total > part_bytes.saturating_mul(2));
        match large {
            Some(total) => {
                let parts = usize::try_from(total.div_ceil(part_bytes)).unwrap_or(1);
                Self { tag, total: Some(total), part_bytes, done: vec![0; parts] }
            }
            None => Self { tag, total, part_bytes: u64::MAX, done: vec![0] },
        }
    }

    /// The record that was left beside a file, where it makes sense.
    pub(super) fn load(place: &Place) -> Option<Self> {
        let json = files::read_bounded(&place.record, RECORD_BYTES_MAX).ok()?;
        let record: Self = serde_json::from_slice(&json).ok()?;
        let there = fs::metadata(&place.data).ok()?.len();
        record.makes_sense(there).then_some(record)
    }

    fn makes_sense(&self, there: u64) -> bool {
        let parts = match self.total {
            Some(total) if self.part_bytes != u64::MAX => {
                self.part_bytes > 0 && total.div_ceil(self.part_bytes) == self.done.len() as u64
            }
            _ => self.done.len() == 1,
        };
        let fits = |part: usize| {
            let (begin, length) = self.span(part);
            self.done[part] <= length && begin.saturating_add(self.done[part]) <= there
        };
        parts && (0..self.done.len()).all(fits)
    }

    pub(super) fn save(&self, place: &Place) -> io::Result<()> {
        let json = serde_json::to_vec(self).map_err(io::Error::other)?;
        files::write(&place.record, &json)
    }

    /// Where a part begins, and how long it is; for ever where nobody knows.
    pub(super) fn span(&self, part: usize) -> (u64, u64) {
        let begin = if part == 0 { 0 } else { self.part_bytes.saturating_mul(part as u64) };
        let total = self.total.unwrap_or(u64::MAX);
        (begin, total.saturating_sub(begin).min(self.part_bytes))
    }

    pub(super) fn is_part_whole(&self, part: usize) -> bool {
        self.total.is_some() && self.done[part] == self.span(part).1
    }

    pub(super) fn is_whole(&self) -> bool {
        (0..self.done.len()).all(|part| self.is_part_whole(part))
    }

    pub(super) fn have(&self) -> u64 {
        self.done.iter().sum()
    }
}

impl Place {
    pub(in crate::weights) fn new(data: PathBuf, record: &Path) -> Self {
        Self { data, record: record.to_owned() }
    }

    /// Bytes that are there of a file that goes on from there.
    pub(in crate::weights) fn have(&self) -> u64 {
        Record::load(self).filter(|record| !record.tag.is_empty()).map_or(0, |record| record.have())
    }

    /// Throws away what came so far.
    pub(in crate::weights) fn discard(&self) {
        let _ = fs::remove_file(&self.data);
        let _ = fs::remove_file(&self.record);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn records_that_make_no_sense_are_not_believed() {
        let whole = Record::new(String::new(), Some(25), 10, true);
        assert_eq!(whole.done, [0, 0, 0]);
        let check = |change: &dyn Fn(&mut Record), there: u64, expect: bool| {
            let mut record = whole.clone();
            change(&mut record);
            assert_eq!(record.makes_sense(there), expect, "{record:?}");
        };
        check(&|_| (), 25, true);
        check(&|record| record.done = vec![10, 10, 5], 25, true);
        check(&|record| record.done = vec![10, 10, 5], 24, false);
        check(&|record| record.done = vec![11, 0, 0], 25, false);
        check(&|record| record.done = vec![0, 0, 6], 25, false);
        check(&|record| record.done = vec![0, 0], 25, false);
        check(&|record| record.part_bytes = 0, 25, false);
        check(&|record| record.total = None, 25, false);
        check(&|record| record.total = Some(u64::MAX), 25, false);
    }

    proptest! {
        #[test]
        fn parts_make_up_the_whole(total in 0_u64..10_000, part in 1_u64..700) {
            let record = Record::new("t".to_owned(), Some(total), part, true);
            let spans: Vec<_> = (0..record.done.len()).map(|part| record.span(part)).collect();
            let mut next = 0;
            for (begin, length) in spans {
                prop_assert_eq!(begin, next);
                next += length;
            }
            prop_assert_eq!(next, total);
        }
    }
}
