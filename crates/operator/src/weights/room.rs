//! Room for weights: what the disk has, what the cache may have, and what is removed for more: what was
//! used longest ago first, never what is pinned, in use or being fetched.

use std::fs;
use std::io;
use std::path::Path;

use pilotage_plan::Digest;
use serde::Serialize;

use super::cache::{self, Entry, Unfinished};
use super::usage::{self, Usage};
use super::{Progress, WeightsError};

/// A disk with less than one part of so many free is nearly full.
const NEARLY_FULL: u64 = 20;

/// Something that was removed, or would be.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Removed {
    /// Where it came from.
    pub source: String,
    /// What it is; nothing for a download that stopped.
    pub digest: Option<Digest>,
    /// Bytes that this frees.
    pub bytes: u64,
}

/// What making room came to.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Pruned {
    /// What was removed.
    pub removed: Vec<Removed>,
    /// Bytes that are left.
    pub left_bytes: u64,
}

/// What may be removed.
enum Candidate {
    Entry(Entry),
    Unfinished(Unfinished),
}

/// Makes sure that so many more bytes fit.
///
/// # Errors
/// They do not.
pub(super) fn make(
    weights: &Path,
    limit: Option<u64>,
    needed: u64,
    progress: &dyn Progress,
) -> Result<(), WeightsError> {
    if let Some(limit) = limit {
        let Some(to) = limit.checked_sub(needed) else {
            return Err(WeightsError::CacheFull { needed, limit, held: 0 });
        };
        let pruned = prune(weights, to, false)?;
        for removed in &pruned.removed {
            progress.note(&format!("removed {} to make room in the cache", removed.source));
        }
        if pruned.left_bytes > to {
            return Err(WeightsError::CacheFull { needed, limit, held: pruned.left_bytes });
        }
    }
    let (free, all) = disk(weights).map_err(|error| WeightsError::file(weights, error))?;
    let Some(left) = free.checked_sub(needed) else {
        return Err(WeightsError::DiskFull { path: weights.to_owned(), needed, free });
    };
    if left < all / NEARLY_FULL {
        progress.note(&format!(
            "the disk of {} is nearly full: {left} bytes will be left; `pilotage model prune` makes room",
            weights.display()
        ));
    }
    Ok(())
}

/// Removes until no more than so many bytes are left.
///
/// # Errors
/// The file system says no.
pub(super) fn prune(weights: &Path, to: u64, dry_run: bool) -> Result<Pruned, WeightsError> {
    let _lock = cache::lock(weights)?;
    let (mut left, candidates) = candidates(weights);
    let mut removed = Vec::new();
    for candidate in candidates {
        if left <= to {
            break;
        }
        if !dry_run {
            candidate.remove(weights)?;
        }
        let one = candidate.told();
        left = left.saturating_sub(one.bytes);
        removed.push(one);
    }
    Ok(Pruned { removed, left_bytes: left })
}

/// Bytes of everything, and what of it may be removed: that used longest ago first.
fn candidates(weights: &Path) -> (u64, Vec<Candidate>) {
    let mut bytes = 0;
    let mut candidates = Vec::new();
    for entry in cache::entries(weights) {
        bytes += entry.size_bytes;
        let usage = Usage::of(weights, &entry.digest);
        if usage.held().is_none() {
            let used = usage.used_unix_ms.unwrap_or_else(|| entry.kept_unix_ms());
            candidates.push((used, Candidate::Entry(entry)));
        }
    }
    for unfinished in cache::unfinished(weights) {
        bytes += unfinished.bytes;
        if unfinished.idle.is_some() {
            candidates.push((unfinished.used_unix_ms, Candidate::Unfinished(unfinished)));
        }
    }
    candidates.sort_by_key(|(used, _)| *used);
    (bytes, candidates.into_iter().map(|(_, candidate)| candidate).collect())
}

impl Candidate {
    fn told(&self) -> Removed {
        match self {
            Self::Entry(entry) => Removed {
                source: entry.source.clone(),
                digest: Some(entry.digest),
                bytes: entry.size_bytes,
            },
            Self::Unfinished(unfinished) => Removed {
                source: "a download that stopped".to_owned(),
                digest: None,
                bytes: unfinished.bytes,
            },
        }
    }

    fn remove(&self, weights: &Path) -> Result<(), WeightsError> {
        match self {
            Self::Entry(entry) => remove(weights, &entry.digest).map(|_| ()),
            Self::Unfinished(unfinished) => {
                let folder = &unfinished.folder;
                fs::remove_dir_all(folder).map_err(|error| WeightsError::file(folder, error))
            }
        }
    }
}

/// Removes an entry; whether it was there. The lock on the folder is held.
pub(super) fn remove(weights: &Path, digest: &Digest) -> Result<bool, WeightsError> {
    let folder = weights.join(digest.hex());
    match fs::remove_dir_all(&folder) {
        Ok(()) => {
            usage::forget(weights, digest);
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(WeightsError::file(&folder, error)),
    }
}

/// Bytes that are free for this user, and bytes of the whole disk.
fn disk(folder: &Path) -> io::Result<(u64, u64)> {
    let found = rustix::fs::statvfs(folder)?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Ok((bytes(found.f_bavail), bytes(found.f_blocks)))
}
