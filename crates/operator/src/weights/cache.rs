//! The folder of weights: finding, keeping and listing entries, and the lock on a download.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pilotage_plan::{Digest, WeightsSource};
use pilotage_shell::files;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Progress, WeightsError};

/// How often a lock that somebody else holds is tried.
const LOCK_PAUSE: Duration = Duration::from_millis(200);

/// What is known of cached weights.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Entry {
    /// Where they came from.
    pub source: String,
    /// What they are.
    pub digest: Digest,
    /// The file's name.
    pub file: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// When it was verified: its modification time in nanoseconds since 1970. A file that changed
    /// since is not trusted.
    modified_ns: u128,
}

/// A download under way, locked.
#[derive(Debug)]
pub(super) struct Partial {
    folder: PathBuf,
    lock: File,
}

/// The path of weights that are there and unchanged since they were verified.
pub(super) fn find(folder: &Path, digest: &Digest) -> Option<PathBuf> {
    let entry = read(&folder.join(digest.hex()))?;
    let path = folder.join(digest.hex()).join(&entry.file);
    let found = stamp(&path).ok()?;
    (found == (entry.size_bytes, entry.modified_ns)).then_some(path)
}

/// Every entry, by source.
pub(super) fn entries(folder: &Path) -> Vec<Entry> {
    let Ok(folders) = fs::read_dir(folder) else { return Vec::new() };
    let mut entries: Vec<Entry> = folders.flatten().filter_map(|each| read(&each.path())).collect();
    entries.sort_by(|one, other| one.source.cmp(&other.source));
    entries
}

/// Moves a finished download to its place.
pub(super) fn keep(
    folder: &Path,
    source: &WeightsSource,
    digest: Digest,
    partial: &Partial,
) -> Result<PathBuf, WeightsError> {
    let place = folder.join(digest.hex());
    let failed = |error| WeightsError::file(&place, error);
    fs::create_dir_all(&place).map_err(failed)?;
    let path = place.join(source.file_name());
    fs::rename(partial.file(), &path).map_err(failed)?;
    let (size_bytes, modified_ns) = stamp(&path).map_err(failed)?;
    let file = source.file_name().to_owned();
    let entry = Entry { source: source.to_string(), digest, file, size_bytes, modified_ns };
    let json = serde_json::to_vec_pretty(&entry).map_err(|error| failed(error.into()))?;
    files::write(&place.join("entry.json"), &json).map_err(failed)?;
    Ok(path)
}

/// SHA-256 of a file.
pub(super) fn digest_of(path: &Path, progress: &dyn Progress) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut done = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(Digest::from_bytes(hash.finalize().into()));
        }
        hash.update(&buffer[..count]);
        done += count as u64;
        progress.advance_to(done);
    }
}

impl Partial {
    /// Takes the lock on fetching that source; waits, and says so, while another process has it.
    pub(super) async fn lock(
        folder: &Path,
        source: &str,
        progress: &dyn Progress,
    ) -> Result<Self, WeightsError> {
        let key: [u8; 32] = Sha256::digest(source.as_bytes()).into();
        let folder = folder.join("partial").join(&Digest::from_bytes(key).hex()[..16]);
        let failed = |error| WeightsError::file(&folder, error);
        fs::create_dir_all(&folder).map_err(failed)?;
        let lock = File::create(folder.join("lock")).map_err(failed)?;
        let mut told = false;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Self { folder, lock }),
                Err(TryLockError::WouldBlock) => {
                    if !std::mem::replace(&mut told, true) {
                        progress
                            .note("another process is fetching the same weights; waiting for it");
                    }
                    tokio::time::sleep(LOCK_PAUSE).await;
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
    }

    /// The file that grows.
    pub(super) fn file(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// What the server said of it: its version, for going on.
    pub(super) fn tag_file(&self) -> PathBuf {
        self.folder.join("etag")
    }

    /// A folder for whatever else is needed.
    pub(super) fn scratch(&self) -> PathBuf {
        self.folder.join("scratch")
    }

    /// Throws away what came so far.
    pub(super) fn discard(&self) {
        let _ = fs::remove_file(self.file());
        let _ = fs::remove_file(self.tag_file());
        let _ = fs::remove_dir_all(self.scratch());
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

fn read(place: &Path) -> Option<Entry> {
    serde_json::from_slice(&fs::read(place.join("entry.json")).ok()?).ok()
}

/// Size and modification time.
fn stamp(path: &Path) -> io::Result<(u64, u128)> {
    let found = fs::metadata(path)?;
    let modified =
        found.modified()?.duration_since(std::time::UNIX_EPOCH).map_err(io::Error::other)?;
    Ok((found.len(), modified.as_nanos()))
}
