//! What tenants have spent of their budgets, kept over restarts in `spent.json` of the data directory.
//!
//! Written every few seconds while it changes, and at the end. After a crash, what was spent since the
//! last writing is forgotten: at most [`EVERY`] of it. Before the gateway knows its tenants it can be told
//! nothing of them, and nothing is written.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use pilotage_core::admit::Window;
use pilotage_gateway::Gateway;
use pilotage_shell::files;
use serde::{Deserialize, Serialize};

/// Between two writings.
pub(in crate::cmd) const EVERY: Duration = Duration::from_secs(2);

/// The file, and what it holds.
pub(in crate::cmd) struct Budgets {
    path: PathBuf,
    written: Vec<Spent>,
    /// Whether the gateway knows of it.
    is_told: bool,
}

/// One tenant's spending in one window.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Spent {
    tenant: String,
    window: Window,
    /// Which hour, day or month since 1970.
    number: u64,
    /// In millionths of the currency's unit.
    spent: u64,
}

impl Budgets {
    /// Reads what was spent before.
    pub(in crate::cmd) fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("spent.json");
        let written: Vec<Spent> = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| {
                format!("{} is damaged; remove it to begin with unspent budgets", path.display())
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        Ok(Self { path, written, is_told: false })
    }

    /// Tells the gateway of it, once: it knows its tenants by now.
    pub(in crate::cmd) fn restore(&mut self, gateway: &Gateway) {
        if std::mem::replace(&mut self.is_told, true) {
            return;
        }
        for Spent { tenant, window, number, spent } in &self.written {
            gateway.restore_spent(tenant, *window, *number, *spent);
        }
    }

    /// Writes what was spent by now, if that is more than what is written.
    pub(in crate::cmd) fn save(&mut self, gateway: &Gateway) {
        if !self.is_told {
            return;
        }
        let spent: Vec<Spent> = gateway
            .spent()
            .into_iter()
            .map(|(tenant, window, number, spent)| Spent { tenant, window, number, spent })
            .collect();
        if spent == self.written {
            return;
        }
        let text = serde_json::to_vec_pretty(&spent).unwrap_or_default();
        match files::write(&self.path, &text) {
            Ok(()) => self.written = spent,
            Err(error) => {
                tracing::error!(%error, path = %self.path.display(), "budgets cannot be kept");
            }
        }
    }
}
