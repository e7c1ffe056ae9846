//! What has a number can be found: decisions in their index, invariants on the map.

use super::{Check, Finding};
use crate::repo::{File, Repo};

pub(super) const CHECK: Check = Check {
    name: "index",
    rule: "each ADR is in docs/adr/README.md, each invariant's id in ARCHITECTURE.md",
    run,
};

const ADR_FOLDER: &str = "docs/adr/";
const ADR_INDEX: &str = "docs/adr/README.md";
const MAP: &str = "ARCHITECTURE.md";
const INVARIANTS: &str = "crates/core/src/invariant.rs";

fn run(repo: &Repo) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in repo.files.iter().filter(|file| file.path.starts_with(ADR_FOLDER)) {
        let name = &file.path[ADR_FOLDER.len()..];
        if name.starts_with(|first: char| first.is_ascii_digit()) {
            found.extend(missing(repo, ADR_INDEX, name, &file.path));
        }
    }
    for id in repo.file(INVARIANTS).into_iter().flat_map(ids) {
        found.extend(missing(repo, MAP, &id, INVARIANTS));
    }
    found
}

fn missing(repo: &Repo, index: &str, name: &str, from: &str) -> Option<Finding> {
    let listed = repo.file(index).is_some_and(|file| file.text.contains(name));
    let what = format!("`{name}` is not in {index}");
    (!listed).then(|| Finding::of(from, what, "give it a line there"))
}

/// Ids as the header of the file lists them: `//! - C-1 A live request …`.
fn ids(file: &File) -> impl Iterator<Item = String> {
    let items = file.text.lines().filter_map(|line| line.strip_prefix("//! - "));
    items.filter_map(|item| item.split_whitespace().next()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::found;
    use super::*;

    #[test]
    fn what_is_not_listed_is_found() {
        let adr = ("docs/adr/0001-a.md", "");
        assert_eq!(found(&CHECK, &[adr, (ADR_INDEX, "[a](0001-a.md)")]).len(), 0);
        assert_eq!(found(&CHECK, &[adr, (ADR_INDEX, "[b](0002-b.md)")]).len(), 1);
        let invariants = (INVARIANTS, "//! Ids.\n//!\n//! - C-1 One.\n//! - C-2 Two.\n");
        assert_eq!(found(&CHECK, &[invariants, (MAP, "C-1 and C-2")]).len(), 0);
        assert_eq!(found(&CHECK, &[invariants, (MAP, "C-1")]).len(), 1);
    }
}
