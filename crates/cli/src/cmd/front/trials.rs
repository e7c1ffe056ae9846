//! How far canaries are, kept over restarts in `trials.json` of the data directory, so that a restart
//! does not begin them anew.

use std::path::{Path, PathBuf};

use pilotage_gateway::Gateway;
use pilotage_shell::files;
use serde_json::Value;

/// The file, and what it holds.
pub(in crate::cmd) struct Trials {
    path: PathBuf,
    written: Value,
}

impl Trials {
    /// Tells the gateway how far its canaries were. A file that is damaged only makes them begin anew.
    pub(in crate::cmd) fn restore(folder: &Path, gateway: &Gateway) -> Self {
        let path = folder.join("trials.json");
        let text = std::fs::read(&path).unwrap_or_default();
        let written = serde_json::from_slice(&text).unwrap_or_else(|error| {
            if !text.is_empty() {
                tracing::warn!(%error, path = %path.display(), "canaries begin anew");
            }
            Value::Null
        });
        gateway.restore_trials(&written);
        Self { path, written }
    }

    /// Writes how far they are by now, if that is further than what is written.
    pub(in crate::cmd) fn save(&mut self, gateway: &Gateway) {
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
