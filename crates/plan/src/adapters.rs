//! The list of adapters that running engines of a Model are to have, and how far they are: whoever renders a Model
//! writes the list, and whoever stands beside an engine reads it again and again, since it changes without anything
//! else changing, and tells who asks.
//!
//! Contract: what a reader does not know of it, it leaves alone: a list may be newer than who reads it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::api::model::ADAPTERS_MAX;
use crate::{Signer, WeightsSource};

/// The entry of a ConfigMap, and the file, that holds a list.
pub const FILE: &str = "adapters.json";

/// Most bytes of a list: as much as a ConfigMap holds.
pub const BYTES_MAX: u64 = 1 << 20;

/// Adapters that an engine is to have.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct AdapterList {
    /// Each of them.
    pub adapters: Vec<Listed>,
}

/// One of them.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// Its name in requests.
    pub name: String,
    /// Where it is.
    pub source: WeightsSource,
    /// Whose signature it has to carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<Signer>,
}

/// How far an engine's adapters are.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Told {
    /// Whether the engine may take requests: since it started, each adapter of the list was loaded or failed.
    pub ready: bool,
    /// What is wrong with the list; the one before holds meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<String>,
    /// Why nothing is heard from the engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// Those that are listed, and those that are on their way out, by their names.
    #[serde(default)]
    pub adapters: Vec<AdapterTold>,
}

/// How far one adapter is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct AdapterTold {
    /// Its name in requests.
    pub name: String,
    /// Where it is, by the list; none where that names it no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<WeightsSource>,
    /// How far it is.
    pub state: State,
    /// What went wrong last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// How far an adapter is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Requests for it are answered.
    Loaded,
    /// Requests for it are answered by what was listed under its name before.
    Older,
    /// Its files are not there yet.
    Fetching,
    /// Its files are there, and the engine does not have it.
    Waiting,
    /// It is listed no more, and goes in a moment.
    Leaving,
}

/// What is wrong with a list.
#[derive(Debug, Error)]
pub enum ListError {
    /// It is no list.
    #[error("it is no list of adapters: {0}")]
    Form(#[from] serde_json::Error),
    /// It names one twice.
    #[error("`{0}` is listed twice; list it once")]
    Twice(String),
    /// It is too long.
    #[error("{0} adapters are listed, and there may be {ADAPTERS_MAX}")]
    Many(usize),
}

impl AdapterList {
    /// Those of a Model, signed all by the same.
    pub fn of(sources: &BTreeMap<String, WeightsSource>, signed_by: Option<Signer>) -> Self {
        let one = |(name, source): (&String, &WeightsSource)| Listed {
            name: name.clone(),
            source: source.clone(),
            signed_by,
        };
        Self { adapters: sources.iter().map(one).collect() }
    }

    /// As it is written.
    pub fn text(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// As it was written.
    ///
    /// # Errors
    /// [`ListError`].
    pub fn read(text: &[u8]) -> Result<Self, ListError> {
        let list: Self = serde_json::from_slice(text)?;
        if list.adapters.len() > ADAPTERS_MAX as usize {
            return Err(ListError::Many(list.adapters.len()));
        }
        let mut names = BTreeSet::new();
        match list.adapters.iter().find(|one| !names.insert(one.name.as_str())) {
            Some(twice) => Err(ListError::Twice(twice.name.clone())),
            None => Ok(list),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let sources = [("sql", "hf:o/sql"), ("law", "oci://h/r:1")];
        let sources = sources
            .map(|(name, source)| (name.to_owned(), source.parse::<WeightsSource>().unwrap()));
        let list = AdapterList::of(&sources.into(), None);
        assert_eq!(AdapterList::read(list.text().as_bytes()).unwrap(), list);
        assert_eq!(list.adapters[0].name, "law");
        let newer = br#"{"adapters":[{"name":"a","source":"hf:o/a","scale":2}],"more":1}"#;
        assert_eq!(AdapterList::read(newer).unwrap().adapters.len(), 1);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let check = |text: &str, expect: &str| {
            let error = AdapterList::read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        check("{", "it is no list of adapters");
        check(r#"{"adapters":[{"name":"a","source":"nowhere:x"}]}"#, "nowhere");
        let one = r#"{"name":"a","source":"hf:o/a"}"#;
        check(&format!(r#"{{"adapters":[{one},{one}]}}"#), "`a` is listed twice");
        let many: Vec<String> =
            (0..257).map(|at| format!(r#"{{"name":"a{at}","source":"hf:o/a"}}"#)).collect();
        check(&format!(r#"{{"adapters":[{}]}}"#, many.join(",")), "257 adapters");
    }
}
