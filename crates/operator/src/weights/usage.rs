//! Who needs which weights: when they were used last, whether they are pinned, and which processes use
//! them now. A process that uses some holds a lock on a file of its own; when it ends, however that
//! happens, the lock is gone and the file means nothing.
//!
//! ```text
//! <cache>/weights/usage/<sha256>/used            when, in milliseconds since 1970
//! <cache>/weights/usage/<sha256>/pinned          is there while they are pinned
//! <cache>/weights/usage/<sha256>/users/<pid>-<n> who, locked
//! ```

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use pilotage_plan::Digest;
use serde::Serialize;

/// Longest name of a user that is shown.
const WHO_BYTES_MAX: u64 = 256;

/// Numbers the uses of this process.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Who needs an entry.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Usage {
    /// When it was used last, in milliseconds since 1970.
    pub used_unix_ms: Option<u64>,
    /// Whether it is never removed to make room.
    pub pinned: bool,
    /// The processes that use it.
    pub users: Vec<String>,
}

/// Weights that are in use until this is dropped.
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
    file: File,
}

impl Usage {
    /// What is known of an entry. Whoever removes by it holds the lock on the folder.
    pub(super) fn of(weights: &Path, digest: &Digest) -> Self {
        let folder = folder(weights, digest);
        let used = fs::read_to_string(folder.join("used")).ok();
        Self {
            used_unix_ms: used.and_then(|used| used.trim().parse().ok()),
            pinned: folder.join("pinned").exists(),
            users: users(&folder.join("users")),
        }
    }

    /// Whether it must not be removed, and why.
    pub(super) fn held(&self) -> Option<String> {
        if self.pinned {
            return Some("pinned; `pilotage model unpin` ends that".to_owned());
        }
        (!self.users.is_empty()).then(|| format!("in use by {}", self.users.join(", ")))
    }
}

/// Notes that an entry is used now.
pub(super) fn touch(weights: &Path, digest: &Digest, unix_ms: u64) -> io::Result<()> {
    pilotage_shell::files::write(
        &folder(weights, digest).join("used"),
        unix_ms.to_string().as_bytes(),
    )
}

/// Pins an entry, or no more.
pub(super) fn pin(weights: &Path, digest: &Digest, pinned: bool) -> io::Result<()> {
    let path = folder(weights, digest).join("pinned");
    if pinned {
        return pilotage_shell::files::write(&path, b"");
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Forgets an entry that is removed.
pub(super) fn forget(weights: &Path, digest: &Digest) {
    let _ = fs::remove_dir_all(folder(weights, digest));
}

/// Notes that this process uses an entry. The lock on the folder is held meanwhile.
pub(super) fn lease(weights: &Path, digest: &Digest, who: &str) -> io::Result<Lease> {
    let users = folder(weights, digest).join("users");
    fs::create_dir_all(&users)?;
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = users.join(format!("{}-{number}", std::process::id()));
    let mut file = File::create(&path)?;
    file.lock()?;
    write!(file, "{who} (process {})", std::process::id())?;
    Ok(Lease { path, file })
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        let _ = self.file.unlock();
    }
}

/// Processes that hold their locks; what others left is removed.
fn users(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut users = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let Ok(file) = File::open(&path) else { continue };
        if file.try_lock().is_ok() {
            let _ = fs::remove_file(&path);
            continue;
        }
        let mut who = String::new();
        let _ = file.take(WHO_BYTES_MAX).read_to_string(&mut who);
        users.push(who);
    }
    users.sort();
    users
}

fn folder(weights: &Path, digest: &Digest) -> PathBuf {
    weights.join("usage").join(digest.hex())
}
