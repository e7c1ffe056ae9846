//! Tells when files that manifests are made of are others by now: looked at every few seconds, since
//! notifications of the system miss what is mounted over the network or replaced by links.

use std::path::PathBuf;
use std::time::Duration;

use pilotage_shell::files::{self, Stamp};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(2);

/// Files, and what they looked like.
pub(super) struct Watch {
    seen: Option<Vec<(PathBuf, Option<Stamp>)>>,
}

impl Watch {
    /// Looks at nothing unless it is wanted.
    pub(super) fn new(wanted: bool, files: Vec<PathBuf>) -> Self {
        Self { seen: wanted.then(|| look(files)) }
    }

    /// Waits until any of the files that `files` names is another one, or there are others; for ever
    /// when that is not wanted.
    pub(super) async fn changed(&mut self, files: impl Fn() -> Vec<PathBuf>) {
        let Some(seen) = &mut self.seen else { return std::future::pending().await };
        loop {
            tokio::time::sleep(EVERY).await;
            let now = look(files());
            if now != *seen {
                *seen = now;
                return;
            }
        }
    }
}

fn look(files: Vec<PathBuf>) -> Vec<(PathBuf, Option<Stamp>)> {
    let one = |path: PathBuf| {
        let stamp = files::stamp(&path);
        (path, stamp)
    };
    files.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn says_when_a_file_is_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        files::write(&path, b"one").unwrap();
        let list = || vec![path.clone()];
        let mut watch = Watch::new(true, list());
        assert!(is_quiet(&mut watch, list()).await, "nothing changed");
        files::write(&path, b"three").unwrap();
        assert!(!is_quiet(&mut watch, list()).await, "it changed");
        assert!(is_quiet(&mut watch, list()).await, "it changed once");
        std::fs::remove_file(&path).unwrap();
        assert!(!is_quiet(&mut watch, list()).await, "it is gone");
        let mut idle = Watch::new(false, Vec::new());
        files::write(&path, b"four").unwrap();
        assert!(is_quiet(&mut idle, list()).await, "nobody wants to know");
    }

    /// Whether a minute passes without a change.
    async fn is_quiet(watch: &mut Watch, files: Vec<PathBuf>) -> bool {
        let changed = watch.changed(|| files.clone());
        tokio::time::timeout(Duration::from_secs(60), changed).await.is_err()
    }
}
