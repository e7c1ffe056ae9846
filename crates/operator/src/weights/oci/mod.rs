//! Model artifacts in container registries, by the distribution specification: the manifest that a tag or
//! digest names, its layers, each verified by the digest that it is named by, and the files in them.

mod login;
mod manifest;
mod unpack;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use parking_lot::Mutex;
use pilotage_plan::{Digest, OciReference, WeightsSource};
use pilotage_shell::secret::Secret;
use sha2::{Digest as _, Sha256};

use super::cache::{Fetched, Partial};
use super::hash::{self, Beside};
use super::listing::{self, Listed};
use super::transfer::{Asker, Cut, Place, Question, Transfer, Wanted};
use super::{Progress, WeightsError, choice};
use login::Challenge;
pub use login::Registries;
use manifest::{Holds, Layer, Manifest};

/// Most bytes of a token's answer.
const TOKEN_BYTES_MAX: usize = 256 << 10;

/// How often a token is renewed while one layer is fetched: they are good for minutes, layers take longer.
const LOGINS_MAX: u32 = 64;

/// How often a manifest may name another one.
const SEES_MAX: u32 = 2;

/// A repository of a registry.
pub(super) struct Registry<'a> {
    asker: &'a Asker,
    host: &'a str,
    /// The repository as the registry knows it.
    repo: String,
    /// The begin of all addresses.
    base: String,
    /// Whether it is this machine.
    plain: bool,
    source: &'a WeightsSource,
    registries: &'a Registries,
    authorization: Mutex<Option<Secret>>,
}

impl<'a> Registry<'a> {
    pub(super) fn new(
        asker: &'a Asker,
        source: &'a WeightsSource,
        registries: &'a Registries,
    ) -> Option<Self> {
        let WeightsSource::Oci { host, repo, .. } = source else { return None };
        let plain = source.is_plain_registry();
        let scheme = if plain { "http" } else { "https" };
        // Docker's registry is not where its name leads, and its own artifacts are in `library`.
        let (at, repo) = match host.as_str() {
            "docker.io" if !repo.contains('/') => {
                ("registry-1.docker.io", format!("library/{repo}"))
            }
            "docker.io" => ("registry-1.docker.io", repo.clone()),
            host => (host, repo.clone()),
        };
        let base = format!("{scheme}://{at}/v2/{repo}");
        let authorization = Mutex::new(None);
        Some(Self { asker, host, repo, base, plain, source, registries, authorization })
    }

    /// The layers that hold the model, and the digest of the manifest.
    pub(super) async fn layers(
        &self,
        reference: &OciReference,
        progress: &dyn Progress,
    ) -> Result<(Digest, Vec<Layer>), WeightsError> {
        let mut reference = reference.clone();
        for _ in 0..=SEES_MAX {
            let (digest, manifest) = self.manifest(&reference, progress).await?;
            match manifest {
                Manifest::Layers(layers) => return Ok((digest, layers)),
                Manifest::See(other) => reference = OciReference::Digest(other),
            }
        }
        Err(WeightsError::unfit(self.source, "its manifests name one another"))
    }

    async fn manifest(
        &self,
        reference: &OciReference,
        progress: &dyn Progress,
    ) -> Result<(Digest, Manifest), WeightsError> {
        let named = match reference {
            OciReference::Tag(tag) => tag.clone(),
            OciReference::Digest(digest) => digest.to_string(),
        };
        let url = format!("{}/manifests/{named}", self.base);
        let accept = Some(manifest::ACCEPT);
        let mut tried = false;
        let body = loop {
            let authorization = self.authorization.lock().clone();
            let authorization = authorization.as_ref();
            let question = Question { url: &url, authorization, accept, ..Question::default() };
            match self.asker.read(&question, manifest::MANIFEST_BYTES_MAX, progress).await {
                Ok((_, body)) => break body,
                Err(Cut::Denied(_, Some(challenge))) if !tried => {
                    tried = true;
                    self.login(&challenge, progress).await?;
                }
                Err(cut) => return Err(self.refused(cut, &url)),
            }
        };
        let digest = Digest::from_bytes(Sha256::digest(&body).into());
        if let OciReference::Digest(expected) = reference
            && *expected != digest
        {
            let source_text = self.source.to_string();
            return Err(WeightsError::Digest { source_text, expected: *expected, actual: digest });
        }
        let manifest = manifest::read(&body);
        Ok((digest, manifest.map_err(|reason| WeightsError::unfit(self.source, reason))?))
    }

    /// Fetches all layers and brings their files together.
    pub(super) async fn fetch(
        &self,
        manifest: Digest,
        layers: &[Layer],
        transfer: &Transfer<'_>,
        partial: &Partial,
    ) -> Result<Fetched, WeightsError> {
        let target = partial.files();
        let failed = |error| WeightsError::file(&target, error);
        let _ = fs::remove_dir_all(&target);
        for folder in [&target, &partial.scratch()] {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        // One that stands there twice is fetched once: both would be written to the same place.
        let apart: BTreeMap<Digest, &Layer> =
            layers.iter().map(|layer| (layer.digest, layer)).collect();
        let fetches: Vec<_> =
            apart.values().map(|layer| self.layer(layer, transfer, partial)).collect();
        let at_once = transfer.limits.files_at_once.max(1);
        let blobs: Vec<Place> = stream::iter(fetches).buffered(at_once).try_collect().await?;
        let blobs: BTreeMap<Digest, Place> = apart.into_keys().zip(blobs).collect();
        for layer in layers {
            if let Some(blob) = blobs.get(&layer.digest) {
                self.place(layer, blob, &target).await?;
            }
        }
        self.gather(manifest, layers, &target, transfer.tally.progress).await
    }

    /// Bytes that the layers still take: those to come, and of tars what comes out of them.
    pub(super) fn bytes(layers: &[Layer], partial: &Partial) -> u64 {
        let bytes = |layer: &Layer| {
            let tar = if matches!(layer.holds, Holds::Tar { .. }) { layer.size_bytes } else { 0 };
            layer.size_bytes.saturating_sub(blob(layer, partial).have()) + tar
        };
        layers.iter().map(bytes).sum()
    }

    /// Fetches one layer, renewing the token as often as it ends.
    async fn layer(
        &self,
        layer: &Layer,
        transfer: &Transfer<'_>,
        partial: &Partial,
    ) -> Result<Place, WeightsError> {
        let place = blob(layer, partial);
        let url = format!("{}/blobs/{}", self.base, layer.digest);
        let mut logins = 0;
        loop {
            let authorization = self.authorization.lock().clone();
            let wanted = Wanted {
                url: &url,
                authorization: authorization.as_ref(),
                size: Some(layer.size_bytes),
                place: &place,
            };
            match transfer.fetch(&wanted).await {
                Ok(()) => break,
                Err(Cut::Denied(_, Some(challenge))) if logins < LOGINS_MAX => {
                    logins += 1;
                    // What is there is counted again by the next attempt.
                    transfer.tally.subtract(place.have());
                    self.login(&challenge, transfer.tally.progress).await?;
                }
                Err(cut) => return Err(self.refused(cut, &url)),
            }
        }
        let hashes = hash::of(&place.data, Beside::default(), None).await;
        let hashes = hashes.map_err(|error| WeightsError::file(&place.data, error))?;
        if hashes.sha256 == layer.digest {
            return Ok(place);
        }
        place.discard();
        let reason = format!("expected {}, got {}", layer.digest, hashes.sha256);
        let (source_text, path) = (self.source.to_string(), "a layer".to_owned());
        Err(WeightsError::Damaged { source_text, path, reason })
    }

    /// Brings what a layer holds to where it belongs.
    async fn place(&self, layer: &Layer, blob: &Place, target: &Path) -> Result<(), WeightsError> {
        match &layer.holds {
            Holds::File(path) => {
                let to = target.join(path);
                let failed = |error| WeightsError::file(&to, error);
                fs::create_dir_all(to.parent().unwrap_or(target)).map_err(failed)?;
                // A second name, not a move: after a crash the layer need not be fetched again.
                fs::hard_link(&blob.data, &to).map_err(failed)
            }
            Holds::Tar { gzip } => {
                let (archive, gzip, folder) = (blob.data.clone(), *gzip, target.to_owned());
                let work = move || unpack::unpack(&archive, gzip, &folder);
                let unpacked = tokio::task::spawn_blocking(work).await;
                let unpacked = unpacked.unwrap_or_else(|error| Err(error.to_string()));
                unpacked.map(|_| ()).map_err(|reason| {
                    WeightsError::unfit(
                        self.source,
                        format!("a layer cannot be unpacked: {reason}"),
                    )
                })
            }
        }
    }

    /// What came, as one file or folder.
    async fn gather(
        &self,
        manifest: Digest,
        layers: &[Layer],
        target: &Path,
        progress: &dyn Progress,
    ) -> Result<Fetched, WeightsError> {
        let failed = |error| WeightsError::file(target, error);
        self.leave_pickles_out(target, progress)?;
        let paths = listing::paths(target).map_err(failed)?;
        let (folder, root) = (common_folder(&paths), target.join(common_folder(&paths)));
        let inside = |path: &str| {
            path.strip_prefix(folder).map(|rest| rest.trim_start_matches('/').to_owned())
        };
        let known = layers.iter().filter_map(|layer| match &layer.holds {
            Holds::File(path) => Some((inside(path)?, layer.digest)),
            Holds::Tar { .. } => None,
        });
        let known: BTreeMap<String, Digest> = known.collect();
        progress.begin("checking the files", None);
        let mut files = listing::read(&root, &known, Some(progress)).await.map_err(failed)?;
        let revision = Some(manifest.to_string());
        let name = self.source.file_name().to_owned();
        if let [Listed { path, sha256, .. }] = files.as_slice() {
            let data = root.join(path);
            let name = path.rsplit('/').next().unwrap_or(path).to_owned();
            return Ok(Fetched { name, data, digest: *sha256, files: Vec::new(), revision });
        }
        let digest = listing::digest(&mut files);
        Ok(Fetched { name, data: root, digest, files, revision })
    }

    fn leave_pickles_out(
        &self,
        target: &Path,
        progress: &dyn Progress,
    ) -> Result<(), WeightsError> {
        let paths = listing::paths(target).map_err(|error| WeightsError::file(target, error))?;
        let numbers = |path: &String| path.ends_with(".safetensors") || path.ends_with(".gguf");
        let (pickles, others): (Vec<_>, Vec<_>) =
            paths.into_iter().partition(|path| choice::is_pickle(path));
        if !others.iter().any(numbers) {
            let reason = match pickles.first() {
                Some(pickle) => format!(
                    "its weights are pickles ({pickle}), which run code when they are loaded; publish safetensors or GGUF"
                ),
                None => "it holds neither safetensors nor GGUF".to_owned(),
            };
            return Err(WeightsError::unfit(self.source, reason));
        }
        for pickle in pickles {
            progress.note(&format!("{pickle} is left out: loading it would run code"));
            let path = target.join(pickle);
            fs::remove_file(&path).map_err(|error| WeightsError::file(&path, error))?;
        }
        Ok(())
    }

    async fn login(&self, challenge: &str, progress: &dyn Progress) -> Result<(), WeightsError> {
        let known = self.registries.of(self.host);
        let unfit = |reason: String| WeightsError::unfit(self.source, reason);
        let authorization = match Challenge::read(challenge) {
            None => {
                return Err(unfit("the registry asks for a login of an unknown kind".to_owned()));
            }
            Some(Challenge::Basic) => known.cloned().ok_or_else(|| unfit(self.stranger()))?,
            Some(Challenge::Bearer { realm, service }) => {
                let service = service.as_deref();
                let url =
                    login::token_url(&realm, service, &self.repo, self.plain).map_err(unfit)?;
                let question = Question { url: &url, authorization: known, ..Question::default() };
                let answer = self.asker.read(&question, TOKEN_BYTES_MAX, progress).await;
                let (_, body) = answer.map_err(|cut| self.refused(cut, &url))?;
                login::token(&body).ok_or_else(|| unfit("the registry gave no token".to_owned()))?
            }
        };
        *self.authorization.lock() = Some(authorization);
        Ok(())
    }

    fn refused(&self, cut: Cut, url: &str) -> WeightsError {
        match cut {
            Cut::Denied(..) => WeightsError::unfit(self.source, self.stranger()),
            cut => cut.of(url),
        }
    }

    fn stranger(&self) -> String {
        let host = self.host;
        let known = if self.registries.of(host).is_some() { "this login" } else { "strangers" };
        format!(
            "the registry does not show it to {known}; check the name, then `docker login {host}` or set PILOTAGE_REGISTRY_AUTH={host}=NAME:PASSWORD"
        )
    }
}

/// Where a layer comes to.
fn blob(layer: &Layer, partial: &Partial) -> Place {
    let hex = layer.digest.hex();
    Place::new(partial.blob(&hex), &partial.blob(&format!("{hex}.json")))
}

/// The folder that all files are in: artifacts often hold one folder with the model in it.
fn common_folder(paths: &[String]) -> &str {
    let Some(first) = paths.first() else { return "" };
    let mut folder = first.rsplit_once('/').map_or("", |(folder, _)| folder);
    while !folder.is_empty() {
        let inside =
            |path: &String| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        if paths.iter().all(inside) {
            break;
        }
        folder = folder.rsplit_once('/').map_or("", |(folder, _)| folder);
    }
    folder
}

#[cfg(test)]
mod tests {
    use super::common_folder;

    #[test]
    fn models_are_found_in_their_folder() {
        let check = |paths: &str, expect: &str| {
            let paths: Vec<String> = paths.split(' ').map(str::to_owned).collect();
            assert_eq!(common_folder(&paths), expect, "{paths:?}");
        };
        check("config.json model.safetensors", "");
        check("qwen/model/config.json qwen/model/a.safetensors", "qwen/model");
        check("qwen/model/config.json qwen/b/a.safetensors", "qwen");
        check("a/b ab/c", "");
        check("a/b/c a/d", "a");
        check("a/b", "a");
    }
}
