//! Where files live, by the XDG base directory rules, on Linux and macOS alike.

use std::path::PathBuf;

use crate::env::{self, Var};

/// What can be fetched again: `$XDG_CACHE_HOME/pilotage` or `~/.cache/pilotage`.
pub fn cache_dir() -> Option<PathBuf> {
    below(Var::XdgCacheHome, ".cache")
}

/// What must be kept: `$PILOTAGE_DATA_DIR`, `$XDG_DATA_HOME/pilotage` or
/// `~/.local/share/pilotage`.
pub fn data_dir() -> Option<PathBuf> {
    let own = env::get(Var::DataDir).filter(|dir| !dir.is_empty()).map(PathBuf::from);
    own.or_else(|| below(Var::XdgDataHome, ".local/share"))
}

/// The rules say that a relative path in an XDG variable is invalid and ignored.
fn below(var: Var, fallback: &str) -> Option<PathBuf> {
    let named = env::get(var).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || env::get(Var::Home).filter(|home| !home.is_empty()).map(PathBuf::from);
    Some(named.or_else(|| Some(home()?.join(fallback)))?.join("pilotage"))
}
