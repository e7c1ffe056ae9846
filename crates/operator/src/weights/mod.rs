//! Model weights on this machine: fetched once, verified, kept under their digest.
//!
//! ```text
//! <cache>/weights/<sha256>/<name>     the weights: a file, or a folder of files
//! <cache>/weights/<sha256>/entry.json what they are and where they came from
//! <cache>/weights/usage/<sha256>/     when they were used, who uses them, whether they are pinned
//! <cache>/weights/partial/<key>/      a download that is under way, and its lock
//! ```
//!
//! A download goes on where it stopped, becomes visible only when it is whole and has the right
//! digest, and is made by one process at a time: others wait for it.

mod access;
mod cache;
mod choice;
mod error;
mod fetch;
mod hash;
mod hub;
mod listing;
mod oci;
mod pypi;
mod room;
mod signature;
mod transfer;
mod usage;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pilotage_plan::{Digest, WeightsSource, WeightsSpec};
use pilotage_shell::files::stamp;

use access::Hosts;
pub use access::{Access, Limits};
pub use cache::Entry;
use cache::{Fetched, Partial};
pub use error::WeightsError;
use hash::Beside;
pub use listing::{FILES_MAX, Listed};
pub use oci::Registries;
pub use room::{Pruned, Removed};
use transfer::Asker;
pub use transfer::FILE_BYTES_MAX;
pub use usage::{Lease, Usage};

/// How often weights that were removed just now are fetched again.
const HOLDS_MAX: u32 = 3;

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

/// Weights on this machine.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
    access: Access,
    asker: Asker,
}

/// Weights that are there, and stay there until this is dropped.
#[derive(Debug)]
pub struct Held {
    /// The file, or the folder.
    pub path: PathBuf,
    /// What keeps them; nothing where they are the user's own files.
    pub lease: Option<Lease>,
}

impl Store {
    /// The weights below a cache directory.
    pub fn new(cache: &Path, access: Access) -> Self {
        let (client, at_once) = (access.client.clone(), access.limits.connections_per_host.max(1));
        let asker = Asker { client, hosts: Hosts::default(), at_once };
        Self { folder: cache.join("weights"), access, asker }
    }

    /// The path of the weights, a file or a folder, after fetching them if they are not there.
    ///
    /// # Errors
    /// [`WeightsError`].
    pub async fn ensure(
        &self,
        spec: &WeightsSpec,
        progress: &dyn Progress,
    ) -> Result<PathBuf, WeightsError> {
        if let WeightsSource::File { path } = &spec.source {
            return self.local(Path::new(path), spec, progress).await;
        }
        let (path, digest) = self.ensure_cached(spec, progress).await?;
        self.touch(&digest);
        Ok(path)
    }

    /// The same, and nobody removes them to make room while the result lives.
    ///
    /// # Errors
    /// [`WeightsError`].
    pub async fn hold(
        &self,
        spec: &WeightsSpec,
        who: &str,
        progress: &dyn Progress,
    ) -> Result<Held, WeightsError> {
        if spec.source.is_local() {
            return Ok(Held { path: self.ensure(spec, progress).await?, lease: None });
        }
        for _ in 0..HOLDS_MAX {
            let (path, digest) = self.ensure_cached(spec, progress).await?;
            self.touch(&digest);
            let _lock = cache::lock(&self.folder)?;
            if cache::find(&self.folder, &digest).is_some() {
                let lease = usage::lease(&self.folder, &digest, who);
                let lease = Some(lease.map_err(|error| WeightsError::file(&path, error))?);
                return Ok(Held { path, lease });
            }
        }
        Err(WeightsError::unfit(&spec.source, "another process removes it all the time"))
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

    /// The path of the weights of a source, if they are in the cache; nothing is fetched.
    pub fn kept(&self, source: &WeightsSource) -> Option<PathBuf> {
        let text = source.to_string();
        let entry = self.list().into_iter().find(|entry| entry.is_from(&text))?;
        cache::find(&self.folder, &entry.digest).map(|(path, _)| path)
    }

    /// Everything in the cache.
    pub fn list(&self) -> Vec<Entry> {
        cache::entries(&self.folder)
    }

    /// Who needs an entry.
    ///
    /// # Errors
    /// The file system says no.
    pub fn usage(&self, digest: &Digest) -> Result<Usage, WeightsError> {
        let _lock = cache::lock(&self.folder)?;
        Ok(Usage::of(&self.folder, digest))
    }

    /// Pins weights, so that they are never removed to make room, or ends that; whether they are there.
    ///
    /// # Errors
    /// The file system says no.
    pub fn pin(&self, digest: &Digest, pinned: bool) -> Result<bool, WeightsError> {
        let _lock = cache::lock(&self.folder)?;
        if cache::find(&self.folder, digest).is_none() {
            return Ok(false);
        }
        let done = usage::pin(&self.folder, digest, pinned);
        done.map(|()| true).map_err(|error| WeightsError::file(&self.folder, error))
    }

    /// Removes weights; whether they were there.
    ///
    /// # Errors
    /// They are pinned or in use, or the file system says no.
    pub fn remove(&self, digest: &Digest) -> Result<bool, WeightsError> {
        let _lock = cache::lock(&self.folder)?;
        if let Some(why) = Usage::of(&self.folder, digest).held() {
            return Err(WeightsError::Held { digest: *digest, why });
        }
        room::remove(&self.folder, digest)
    }

    /// Removes what was used longest ago until no more than so many bytes are left, or only says what
    /// that would be. What is pinned, in use or being fetched stays.
    ///
    /// # Errors
    /// The file system says no.
    pub fn prune(&self, to_bytes: u64, dry_run: bool) -> Result<Pruned, WeightsError> {
        room::prune(&self.folder, to_bytes, dry_run)
    }

    /// Files of the user's own are used where they are.
    async fn local(
        &self,
        path: &Path,
        spec: &WeightsSpec,
        progress: &dyn Progress,
    ) -> Result<PathBuf, WeightsError> {
        let failed = |error| WeightsError::file(path, error);
        let found = std::fs::metadata(path).map_err(failed)?;
        if spec.digest.is_none() && spec.signed_by.is_none() {
            return Ok(path.to_owned());
        }
        let total = found.is_file().then_some(found.len());
        progress.begin(&format!("checking {}", spec.source.file_name()), total);
        let checked = self.check_local(path, found.is_dir(), spec, progress).await;
        progress.end();
        let actual = checked?;
        match spec.digest {
            Some(expected) if expected != actual => {
                Err(WeightsError::Digest { source_text: spec.source.to_string(), expected, actual })
            }
            _ => Ok(path.to_owned()),
        }
    }

    /// The digest of files of the user's own, which are signed as they should be.
    async fn check_local(
        &self,
        path: &Path,
        is_folder: bool,
        spec: &WeightsSpec,
        progress: &dyn Progress,
    ) -> Result<Digest, WeightsError> {
        let failed = |error| WeightsError::file(path, error);
        let unsigned = |reason: String| WeightsError::unsigned(&spec.source, reason);
        if is_folder {
            let mut listed =
                listing::read(path, &BTreeMap::new(), Some(progress)).await.map_err(failed)?;
            if let Some(signer) = &spec.signed_by {
                let checked = signature::check_folder(signer, path, &listed).await;
                checked.map_err(unsigned)?;
            }
            return Ok(listing::digest(&mut listed));
        }
        let beside = Beside { sha512: spec.signed_by.is_some(), git_blob: false };
        let hashes = hash::of(path, beside, Some(progress)).await.map_err(failed)?;
        if let Some(signer) = &spec.signed_by {
            let beside = PathBuf::from(format!("{}.sig", path.display()));
            let most = signature::SIGNATURE_BYTES_MAX as u64;
            let armoured = pilotage_shell::files::read_bounded(&beside, most);
            let armoured =
                armoured.map_err(|error| unsigned(format!("{}: {error}", beside.display())))?;
            signature::check(signer, &hashes, &armoured).map_err(unsigned)?;
        }
        Ok(hashes.sha256)
    }

    async fn ensure_cached(
        &self,
        spec: &WeightsSpec,
        progress: &dyn Progress,
    ) -> Result<(PathBuf, Digest), WeightsError> {
        if let Some(found) = self.cached(spec) {
            return Ok(found);
        }
        let partial = Partial::lock(&self.folder, &spec.source.to_string(), progress).await?;
        // Whoever held the lock may have fetched just this.
        if let Some(found) = self.cached(spec) {
            return Ok(found);
        }
        let fetched = self.fetch(spec, &partial, progress).await;
        progress.end();
        self.keep(spec, fetched?, partial, progress)
    }

    fn cached(&self, spec: &WeightsSpec) -> Option<(PathBuf, Digest)> {
        let digest = match spec.digest {
            Some(digest) => digest,
            None => {
                let source = spec.source.to_string();
                self.list().into_iter().find(|entry| entry.is_from(&source))?.digest
            }
        };
        let (path, entry) = cache::find(&self.folder, &digest)?;
        let signed = spec.signed_by.is_none_or(|signer| entry.signed_by.contains(&signer));
        signed.then_some((path, digest))
    }

    fn keep(
        &self,
        spec: &WeightsSpec,
        fetched: Fetched,
        partial: Partial,
        progress: &dyn Progress,
    ) -> Result<(PathBuf, Digest), WeightsError> {
        let actual = fetched.digest;
        match spec.digest {
            Some(expected) if expected != actual => {
                partial.discard();
                let source_text = spec.source.to_string();
                return Err(WeightsError::Digest { source_text, expected, actual });
            }
            Some(_) => {}
            None => progress.note(&format!(
                "{} is {actual}; write that into the manifest to pin it",
                spec.source
            )),
        }
        let path = cache::keep(&self.folder, &spec.source, spec.signed_by, fetched)?;
        partial.finish();
        Ok((path, actual))
    }

    /// That they are used is noted where it can be; what cannot be noted costs at most a download.
    fn touch(&self, digest: &Digest) {
        if let Err(error) = usage::touch(&self.folder, digest, self.access.clock.unix_ms()) {
            tracing::debug!(%error, "cannot note that weights are used");
        }
    }
}
