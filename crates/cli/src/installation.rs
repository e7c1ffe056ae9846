//! The data directory of one `pilotage up`: its keys and where it listens, so that `chat` and
//! `status` find it without flags.
//!
//! | File | Content |
//! |---|---|
//! | `local.key` | API key of the tenant `local` |
//! | `admin.key` | key of the admin listener |
//! | `state.json` | process id and addresses, while it runs |
//! | `spent.json` | what tenants have spent of their budgets |
//! | `trials.json` | how far canaries are |
//! | `versions.json` | which version of each Model serves, and how far the next one is |
//! | `versions.json.bad` | the same as it was when not all of it could go on |
//! | `usage/` | what requests used: the journal, and the database where it is SQLite |
//! | `logs/` | one log for each process |
//!
//! Keys are readable by their owner alone.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use pilotage_shell::env::{self, Var};
use pilotage_shell::secret::Secret;
use pilotage_shell::{dirs, files};
use serde::{Deserialize, Serialize};

use crate::exit::Wrong;

/// A data directory.
#[derive(Clone, Debug)]
pub(crate) struct Installation {
    folder: PathBuf,
}

/// What a running `pilotage up` tells other commands.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct State {
    pub(crate) pid: u32,
    pub(crate) url: String,
    pub(crate) admin_url: String,
}

impl Installation {
    /// The one at `folder`, or this user's own.
    pub(crate) fn at(folder: Option<PathBuf>) -> anyhow::Result<Self> {
        let folder = match folder {
            Some(folder) => folder,
            None => dirs::data_dir().context("no data directory; give --data-dir")?,
        };
        Ok(Self { folder })
    }

    /// Where it is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The key in the file `name`, made on first use.
    pub(crate) fn key(&self, name: &str) -> anyhow::Result<Secret> {
        if let Some(key) = self.existing_key(name)? {
            return Ok(key);
        }
        let key = Secret::generate()?;
        let path = self.folder.join(name);
        files::write_secret(&path, key.expose().as_bytes())
            .with_context(|| format!("cannot store a key in {}", path.display()))?;
        Ok(key)
    }

    /// The key in the file `name`, if there is one.
    pub(crate) fn existing_key(&self, name: &str) -> anyhow::Result<Option<Secret>> {
        let path = self.folder.join(name);
        match std::fs::read_to_string(&path) {
            Ok(text) if !text.trim().is_empty() => Ok(Some(Secret::new(text.trim().to_owned()))),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Tells other commands where this process listens.
    pub(crate) fn announce(&self, url: String, admin_url: String) -> anyhow::Result<()> {
        let state = State { pid: std::process::id(), url, admin_url };
        let path = self.state_path();
        files::write_secret(&path, &serde_json::to_vec_pretty(&state)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Takes the announcement back.
    pub(crate) fn retract(&self) {
        let _ = std::fs::remove_file(self.state_path());
    }

    /// What the running process announced.
    pub(crate) fn state(&self) -> anyhow::Result<State> {
        let path = self.state_path();
        let text = std::fs::read_to_string(&path).map_err(|_| {
            Wrong::new(format!("nothing is running here: there is no {}", path.display()))
                .hint("start it with `pilotage up`, or name its --data-dir")
        })?;
        serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))
    }

    fn state_path(&self) -> PathBuf {
        self.folder.join("state.json")
    }
}

/// The key in PILOTAGE_API_KEY, unless it is empty.
pub(crate) fn key_from_env() -> Option<Secret> {
    env::get(Var::ApiKey).filter(|key| !key.is_empty()).map(Secret::new)
}

/// A URL that reaches the listener from this machine.
pub(crate) fn url_of(scheme: &str, listen: SocketAddr) -> String {
    let mut reachable = listen;
    if listen.ip().is_unspecified() {
        reachable.set_ip(match listen {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("{scheme}://{reachable}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_reach_the_listener() {
        let check =
            |listen: &str, url: &str| assert_eq!(url_of("http", listen.parse().unwrap()), url);
        check("127.0.0.1:80", "http://127.0.0.1:80");
        check("0.0.0.0:8080", "http://127.0.0.1:8080");
        check("[::]:8080", "http://[::1]:8080");
    }
}
