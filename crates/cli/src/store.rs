//! The cache of weights, as the environment says.

use anyhow::Context as _;
use pilotage_operator::weights::{Access, Store};
use pilotage_shell::client::Client;
use pilotage_shell::dirs;
use pilotage_shell::env::{self, Var};
use pilotage_shell::secret::Secret;

/// This user's cache.
pub(crate) fn open() -> anyhow::Result<Store> {
    let cache = dirs::cache_dir().context("no cache directory; set HOME or XDG_CACHE_HOME")?;
    let endpoint = env::get(Var::HfEndpoint).filter(|url| !url.is_empty());
    let access = Access {
        client: Client::new()?,
        python: env::get(Var::Python).unwrap_or_else(|| "python3".to_owned()),
        hf_endpoint: endpoint
            .unwrap_or_else(|| "https://huggingface.co".to_owned())
            .trim_end_matches('/')
            .to_owned(),
        hf_token: hub_token(),
    };
    Ok(Store::new(&cache, access))
}

/// The token for the hub that weights come from.
pub(crate) fn hub_token() -> Option<Secret> {
    env::get(Var::HfToken).filter(|token| !token.is_empty()).map(Secret::new)
}
