//! Cargo.toml files: versions in one place, dependencies in order.

use super::{Check, Finding};
use crate::repo::{File, Repo};

pub(super) const CHECK: Check = Check {
    name: "manifests",
    rule: "members take versions from the workspace; dependencies are sorted, our own first",
    run,
};

fn run(repo: &Repo) -> Vec<Finding> {
    let manifests = repo.files.iter().filter(|file| file.path.ends_with("Cargo.toml"));
    manifests.flat_map(check).collect()
}

fn check(file: &File) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut inside = false;
    let mut last: Option<(bool, &str)> = None;
    for (at, line) in file.text.lines().enumerate() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]");
            last = None;
            continue;
        }
        let Some(name) = dependency(line).filter(|_| inside) else { continue };
        if file.path != "Cargo.toml" && !is_from_workspace(line) {
            let what = format!("`{name}` has a version of its own");
            let fix = "put it into [workspace.dependencies] and write `workspace = true`";
            found.push(Finding::at(&file.path, at + 1, what, fix));
        }
        let key = (!name.starts_with("pilotage-"), name);
        if let Some((_, before)) = last.filter(|last| *last > key) {
            let what = format!("`{name}` comes after `{before}`");
            found.push(Finding::at(&file.path, at + 1, what, "sort them, our own first"));
        }
        last = Some(key);
    }
    found
}

fn dependency(line: &str) -> Option<&str> {
    let end = line.find(|char: char| !(char.is_ascii_alphanumeric() || "-_".contains(char)))?;
    let name = &line[..end];
    (!name.is_empty() && line.contains('=')).then_some(name)
}

fn is_from_workspace(line: &str) -> bool {
    line.replace(' ', "").contains("workspace=true")
}

#[cfg(test)]
mod tests {
    use super::super::found;
    use super::*;

    #[test]
    fn order_and_versions_are_checked() {
        let check = |path: &str, text: &str, expect: usize| {
            assert_eq!(found(&CHECK, &[(path, text)]).len(), expect, "{text}");
        };
        let member = "crates/a/Cargo.toml";
        check(member, "[dependencies]\npilotage-wire.workspace = true\nb.workspace = true", 0);
        check(member, "[dependencies]\nb = { workspace = true, features = [] }", 0);
        check(member, "[dependencies]\nb = \"1\"", 1);
        check(member, "[dev-dependencies]\nc.workspace = true\nb.workspace = true", 1);
        check(member, "[dependencies]\nb.workspace = true\npilotage-wire.workspace = true", 1);
        check("Cargo.toml", "[workspace.dependencies]\nb = \"1\"\nc-d = \"1\"", 0);
        check("Cargo.toml", "[workspace.dependencies]\nc = \"1\"\nb = \"1\"", 1);
        check("Cargo.toml", "[profile.dev]\nz = 1\na = 1", 0);
    }
}
