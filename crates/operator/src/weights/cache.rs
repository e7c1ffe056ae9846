//! The folder of weights: finding, keeping and listing entries, and the lock on a download.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pilotage_plan::{Digest, Signer, WeightsSource};
use pilotage_shell::files;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::listing::Listed;
use super::transfer::Place;
use super::{Progress, WeightsError};

/// How often a lock that somebody else holds is tried.
const LOCK_PAUSE: Duration = Duration::from_millis(200);

/// What describes an entry, beside its weights.
const ENTRY: &str = "entry.json";

/// What is known of cached weights.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Entry {
    /// Where they came from.
    pub source: String,
    /// Other places that had the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// What they are.
    pub digest: Digest,
    /// The file's name, or the folder's.
    pub file: String,
    /// Their size in bytes.
    pub size_bytes: u64,
    /// When the file was verified: its modification time in nanoseconds since 1970. A file that
    /// changed since is not trusted.
    #[serde(default)]
    modified_ns: u128,
    /// The files of a folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<Listed>,
    /// The commit or manifest that they were found under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Whose signatures were verified.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signed_by: Vec<Signer>,
}

/// Weights that came and are verified, at the place where they came to.
pub(super) struct Fetched {
    /// The name of the file or folder.
    pub name: String,
    pub data: PathBuf,
    pub digest: Digest,
    /// The files of a folder; none of a single file.
    pub files: Vec<Listed>,
    pub revision: Option<String>,
}

/// A download under way, locked.
#[derive(Debug)]
pub(super) struct Partial {
    folder: PathBuf,
    lock: File,
}

impl Entry {
    /// Whether they can be had from there.
    pub(super) fn is_from(&self, source: &str) -> bool {
        self.source == source || self.also.iter().any(|also| also == source)
    }

    /// When they were kept, in milliseconds since 1970.
    pub(super) fn kept_unix_ms(&self) -> u64 {
        let youngest = self.files.iter().map(|file| file.modified_ns).max();
        u64::try_from(youngest.unwrap_or(self.modified_ns) / 1_000_000).unwrap_or(u64::MAX)
    }

    /// Whether every file is as it was verified.
    fn is_intact(&self, path: &Path) -> bool {
        if self.files.is_empty() {
            return stamp(path).ok() == Some((self.size_bytes, self.modified_ns));
        }
        let intact = |file: &Listed| {
            stamp(&path.join(&file.path)).ok() == Some((file.size_bytes, file.modified_ns))
        };
        self.files.iter().all(intact)
    }
}

/// The path of weights that are there and unchanged since they were verified, and what is known of them.
pub(super) fn find(folder: &Path, digest: &Digest) -> Option<(PathBuf, Entry)> {
    let entry = read(&folder.join(digest.hex()))?;
    let path = folder.join(digest.hex()).join(&entry.file);
    entry.is_intact(&path).then_some((path, entry))
}

/// Every entry, by source.
pub(super) fn entries(folder: &Path) -> Vec<Entry> {
    let Ok(folders) = fs::read_dir(folder) else { return Vec::new() };
    let mut entries: Vec<Entry> = folders.flatten().filter_map(|each| read(&each.path())).collect();
    entries.sort_by(|one, other| one.source.cmp(&other.source));
    entries
}

/// The lock on what is in the folder: held while entries come and go, never while anything is fetched.
pub(super) fn lock(folder: &Path) -> Result<File, WeightsError> {
    let path = folder.join("lock");
    let failed = |error| WeightsError::file(&path, error);
    fs::create_dir_all(folder).map_err(failed)?;
    let lock = File::create(&path).map_err(failed)?;
    lock.lock().map_err(failed)?;
    Ok(lock)
}

/// Moves what was fetched to its place. Where the same is there already, it stays as it is.
pub(super) fn keep(
    folder: &Path,
    source: &WeightsSource,
    signer: Option<Signer>,
    fetched: Fetched,
) -> Result<PathBuf, WeightsError> {
    let _lock = lock(folder)?;
    let place = folder.join(fetched.digest.hex());
    let failed = |error| WeightsError::file(&place, error);
    let (path, mut entry) = match find(folder, &fetched.digest) {
        Some(found) => found,
        None => settle(&place, source, fetched).map_err(failed)?,
    };
    let source = source.to_string();
    if !entry.is_from(&source) {
        entry.also.push(source);
    }
    if let Some(signer) = signer.filter(|signer| !entry.signed_by.contains(signer)) {
        entry.signed_by.push(signer);
    }
    let json = serde_json::to_vec_pretty(&entry).map_err(|error| failed(error.into()))?;
    files::write(&place.join(ENTRY), &json).map_err(failed)?;
    Ok(path)
}

fn settle(place: &Path, source: &WeightsSource, fetched: Fetched) -> io::Result<(PathBuf, Entry)> {
    let Fetched { name, data, digest, mut files, revision } = fetched;
    // What is left here is damaged, or not of this name.
    let _ = fs::remove_dir_all(place);
    fs::create_dir_all(place)?;
    let file = if name == ENTRY { format!("_{name}") } else { name };
    let path = place.join(&file);
    fs::rename(&data, &path)?;
    let (size_bytes, modified_ns) = if files.is_empty() {
        stamp(&path)?
    } else {
        for listed in &mut files {
            (listed.size_bytes, listed.modified_ns) = stamp(&path.join(&listed.path))?;
        }
        (files.iter().map(|file| file.size_bytes).sum(), 0)
    };
    let (source, also, signed_by) = (source.to_string(), Vec::new(), Vec::new());
    let entry =
        Entry { source, also, digest, file, size_bytes, modified_ns, files, revision, signed_by };
    Ok((path, entry))
}

/// A download that stopped, or is under way.
pub(super) struct Unfinished {
    pub folder: PathBuf,
    /// Bytes on the disk.
    pub bytes: u64,
    /// When something came last, in milliseconds since 1970.
    pub used_unix_ms: u64,
    /// Nobody works at it; it stays so while this is held.
    pub idle: Option<File>,
}

/// The downloads that stopped, and those that are under way.
pub(super) fn unfinished(folder: &Path) -> Vec<Unfinished> {
    let Ok(folders) = fs::read_dir(folder.join("partial")) else { return Vec::new() };
    let look = |entry: fs::DirEntry| {
        let folder = entry.path();
        let lock = File::open(folder.join("lock")).ok();
        let idle = lock.filter(|lock| lock.try_lock().is_ok());
        let (bytes, used_unix_ms) = weigh(&folder);
        Unfinished { folder, bytes, used_unix_ms, idle }
    };
    folders.flatten().map(look).collect()
}

/// Bytes on the disk of all that is in a folder, and when the youngest of it was written.
fn weigh(folder: &Path) -> (u64, u64) {
    let Ok(entries) = fs::read_dir(folder) else { return (0, 0) };
    let weigh = |entry: fs::DirEntry| {
        let Ok(found) = entry.metadata() else { return (0, 0) };
        if found.is_dir() {
            return weigh(&entry.path());
        }
        let written = u64::try_from(found.mtime()).unwrap_or(0).saturating_mul(1000);
        // Files grow in parts: what they hold is less than their length.
        (found.blocks().saturating_mul(512), written)
    };
    let add = |sum: (u64, u64), one: (u64, u64)| (sum.0 + one.0, sum.1.max(one.1));
    entries.flatten().map(weigh).fold((0, 0), add)
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
        let mut told = false;
        loop {
            fs::create_dir_all(&folder).map_err(failed)?;
            let lock = File::create(folder.join("lock")).map_err(failed)?;
            match lock.try_lock() {
                // Whoever removes what stopped may have removed this file meanwhile.
                Ok(()) if is_same(&lock, &folder.join("lock")) => {
                    return Ok(Self { folder, lock });
                }
                Ok(()) => {}
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

    /// The same, with what is known of its parts.
    pub(super) fn place(&self) -> Place {
        Place::new(self.file(), &self.folder.join("record.json"))
    }

    /// The folder that grows.
    pub(super) fn files(&self) -> PathBuf {
        self.folder.join("files")
    }

    /// A file of the folder that grows, with what is known of its parts.
    pub(super) fn place_of(&self, path: &str) -> Place {
        let key = Digest::from_bytes(Sha256::digest(path.as_bytes()).into()).hex();
        Place::new(self.files().join(path), &self.folder.join("records").join(&key[..32]))
    }

    /// A piece of an artifact, or the record of one.
    pub(super) fn blob(&self, name: &str) -> PathBuf {
        self.scratch().join(name)
    }

    /// A folder for whatever else is needed.
    pub(super) fn scratch(&self) -> PathBuf {
        self.folder.join("scratch")
    }

    /// Throws away what came so far.
    pub(super) fn discard(&self) {
        self.place().discard();
        for folder in ["scratch", "files", "records"] {
            let _ = fs::remove_dir_all(self.folder.join(folder));
        }
    }
}

impl Partial {
    /// It is over: nothing is left, not even the lock.
    pub(super) fn finish(self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

/// Whether a path still leads to that file.
fn is_same(file: &File, path: &Path) -> bool {
    let of = |found: fs::Metadata| (found.dev(), found.ino());
    let both = file.metadata().ok().zip(fs::metadata(path).ok());
    both.is_some_and(|(file, path)| of(file) == of(path))
}

fn read(place: &Path) -> Option<Entry> {
    serde_json::from_slice(&fs::read(place.join(ENTRY)).ok()?).ok()
}

/// Size and modification time.
pub(super) fn stamp(path: &Path) -> io::Result<(u64, u128)> {
    let found = fs::metadata(path)?;
    let modified =
        found.modified()?.duration_since(std::time::UNIX_EPOCH).map_err(io::Error::other)?;
    Ok((found.len(), modified.as_nanos()))
}
