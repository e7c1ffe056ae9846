//! What an engine is told so that it has the adapters it is to have.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Folders of adapters, by the names of adapters.
pub(crate) type Folders = BTreeMap<String, PathBuf>;

/// One thing to tell an engine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// It forgets that adapter.
    Off(String),
    /// It forgets what it has under that name, and has this folder under it at once: while it knows no such name, it
    /// refuses requests for it.
    Swap(String, PathBuf),
    /// It has that folder under that name.
    On(String, PathBuf),
}

impl Step {
    /// Which adapter it is about.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Off(name) | Self::Swap(name, _) | Self::On(name, _) => name,
        }
    }
}

/// What leads from the adapters that are loaded to those that are wanted: what makes room comes first.
pub(crate) fn steps(loaded: &Folders, wanted: &Folders) -> Vec<Step> {
    let off = loaded.keys().filter(|name| !wanted.contains_key(*name));
    let off = off.map(|name| Step::Off(name.clone()));
    let on = wanted.iter().filter_map(|(name, path)| match loaded.get(name) {
        Some(there) if there == path => None,
        Some(_) => Some(Step::Swap(name.clone(), path.clone())),
        None => Some(Step::On(name.clone(), path.clone())),
    });
    off.chain(on).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn folders() -> impl Strategy<Value = Folders> {
        proptest::collection::btree_map("[a-d]", "/[xy]".prop_map(PathBuf::from), 0..5)
    }

    proptest! {
        #[test]
        fn steps_lead_to_what_is_wanted(loaded in folders(), wanted in folders()) {
            let mut there = loaded.clone();
            for step in steps(&loaded, &wanted) {
                match step {
                    Step::Off(name) => assert!(there.remove(&name).is_some()),
                    Step::Swap(name, path) => assert_ne!(there.insert(name, path.clone()), Some(path)),
                    Step::On(name, path) => assert!(there.insert(name, path).is_none()),
                }
            }
            assert_eq!(there, wanted);
        }
    }
}
