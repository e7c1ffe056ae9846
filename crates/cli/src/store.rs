//! The cache of weights, as the environment says.

use std::path::PathBuf;

use anyhow::Context as _;
use pilotage_operator::weights::{Access, Limits, Registries, Store};
use pilotage_shell::client::Client;
use pilotage_shell::clock::Clock;
use pilotage_shell::env::{self, Var};
use pilotage_shell::secret::Secret;
use pilotage_shell::{dirs, files};

use crate::args::bytes;
use crate::exit::Wrong;

/// Most bytes of Docker's configuration.
const DOCKER_CONFIG_BYTES_MAX: u64 = 1 << 20;

/// This user's cache.
pub(crate) fn open() -> anyhow::Result<Store> {
    let cache = dirs::cache_dir().context("no cache directory; set HOME or XDG_CACHE_HOME")?;
    let endpoint = env::get(Var::HfEndpoint).filter(|url| !url.is_empty());
    let access = Access {
        client: Client::new()?,
        clock: Clock::start(),
        python: env::get(Var::Python).unwrap_or_else(|| "python3".to_owned()),
        hf_endpoint: endpoint
            .unwrap_or_else(|| "https://huggingface.co".to_owned())
            .trim_end_matches('/')
            .to_owned(),
        hf_token: hub_token(),
        registries: registries()?,
        limits: Limits { cache_bytes_max: bytes_max()?, ..Limits::default() },
    };
    Ok(Store::new(&cache, access))
}

/// The token for the hub that weights come from.
pub(crate) fn hub_token() -> Option<Secret> {
    env::get(Var::HfToken).filter(|token| !token.is_empty()).map(Secret::new)
}

/// What the cache may hold, where the environment says it.
pub(crate) fn bytes_max() -> anyhow::Result<Option<u64>> {
    let said = env::get(Var::CacheBytesMax).filter(|said| !said.is_empty());
    let read = |said: String| {
        let name = env::variable(Var::CacheBytesMax).name;
        bytes(&said).map_err(|error| Wrong::new(format!("{name} is wrong: {error}")).into())
    };
    said.map(read).transpose()
}

/// Who this is at container registries: what Docker knows, and what the environment adds.
fn registries() -> anyhow::Result<Registries> {
    let home = || env::get(Var::Home).map(|home| PathBuf::from(home).join(".docker"));
    let folder = env::get(Var::DockerConfig).filter(|folder| !folder.is_empty());
    let file = folder.map(PathBuf::from).or_else(home).map(|folder| folder.join("config.json"));
    let mut registries = Registries::default();
    if let Some(file) = file.filter(|file| file.is_file()) {
        let config = files::read_bounded(&file, DOCKER_CONFIG_BYTES_MAX);
        let read = config.map_err(anyhow::Error::new);
        let read = read.and_then(|config| Ok(Registries::from_docker(&config)?));
        registries = read.with_context(|| format!("cannot use {}", file.display()))?;
    }
    if let Some(said) = env::get(Var::RegistryAuth).filter(|said| !said.is_empty()) {
        let known = said.split_once('=').filter(|(_, auth)| auth.contains(':'));
        let name = env::variable(Var::RegistryAuth).name;
        let (host, auth) = known
            .ok_or_else(|| Wrong::new(format!("{name} is wrong; write HOST=NAME:PASSWORD")))?;
        registries.add(host, &Secret::new(auth.to_owned()));
    }
    Ok(registries)
}
