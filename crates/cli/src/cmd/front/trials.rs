//! How far canaries are, kept over restarts in `trials.json` of the data directory, so that a restart
//! does not begin them anew. Before the gateway knows its routes it can be told nothing of them, and nothing
//! is written.

use std::path::{Path, PathBuf};

use pilotage_gateway::Gateway;
use pilotage_shell::files;
use serde_json::Value;

/// The file, and what it holds.
pub(in crate::cmd) struct Trials {
    path: PathBuf,
    written: Value,
    /// Whether the gateway knows of it.
    is_told: bool,
}

impl Trials {
    /// Reads how far canaries were. A file that is damaged only makes them begin anew.
    pub(in crate::cmd) fn read(folder: &Path) -> Self {
        let path = folder.join("trials.json");
        let text = std::fs::read(&path).unwrap_or_default();
        let written = serde_json::from_slice(&text).unwrap_or_else(|error| {
            if !text.is_empty() {
                tracing::warn!(%error, path = %path.display(), "canaries begin anew");
            }
            Value::Null
        });
        Self { path, written, is_told: false }
    }

    /// Tells the gateway of it, once: it knows its routes by now.
    pub(in crate::cmd) fn restore(&mut self, gateway: &Gateway) {
        if !std::mem::replace(&mut self.is_told, true) {
            gateway.restore_trials(&self.written);
        }
    }

    /// Writes how far they are by now, if that is further than what is written.
    pub(in crate::cmd) fn save(&mut self, gateway: &Gateway) {
        if !self.is_told {
            return;
        }
        let trials = gateway.trials();
        let empty = trials.as_object().is_none_or(serde_json::Map::is_empty);
        if trials == self.written || (empty && self.written.is_null()) {
            return;
        }
        let text = serde_json::to_vec(&trials).unwrap_or_default();
        match files::write(&self.path, &text) {
            Ok(()) => self.written = trials,
            Err(error) => {
                tracing::error!(%error, path = %self.path.display(), "canaries cannot be kept");
            }
        }
    }
}
