//! The dependency tree stays small: how many packages there are, and which come twice, is written
//! down, and grows only where somebody says so.

use std::collections::BTreeMap;

use super::{Check, Finding};
use crate::ratchet::Measured;
use crate::repo::Repo;

pub(super) const CHECK: Check = Check {
    name: "duplicates",
    rule: "few packages (PACKAGES_MAX), each in one version, or in xtask/ratchet.toml",
    run,
};

/// Packages of others that a build on Linux may take, tests included: two cores build them all.
const PACKAGES_MAX: usize = 350;

fn run(repo: &Repo) -> Vec<Finding> {
    let mut versions: BTreeMap<&str, usize> = BTreeMap::new();
    for package in repo.graph.foreign() {
        *versions.entry(&package.name).or_default() += 1;
    }
    let measured: Vec<Measured> =
        versions.iter().map(|(name, count)| measured(name, *count)).collect();
    let mut found = repo.ratchet.hold("versions", 1, "versions", &measured);
    let count = repo.graph.foreign().count();
    if count > PACKAGES_MAX {
        let what = format!("{count} packages, at most {PACKAGES_MAX}");
        found.push(Finding::of("Cargo.lock", what, "`cargo tree` shows what brought them in"));
    }
    found
}

fn measured(name: &str, value: usize) -> Measured {
    let line = 1;
    Measured { key: name.to_owned(), path: format!("Cargo.lock, `{name}`"), line, value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;

    #[test]
    fn a_second_version_is_found() {
        let check = |packages: &[&str], expect: usize| {
            let repo = Repo { graph: Graph::drawn(packages), ..Repo::default() };
            assert_eq!(run(&repo).len(), expect, "{packages:?}");
        };
        check(&["syn", "serde"], 0);
        check(&["syn", "serde", "syn"], 1);
        let many: Vec<String> = (0..=PACKAGES_MAX).map(|number| format!("p{number}")).collect();
        check(&many.iter().map(String::as_str).collect::<Vec<_>>(), 1);
    }
}
