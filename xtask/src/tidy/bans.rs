//! Clippy reads one clippy.toml for a package, the nearest: a pure package's repeats the root's bans
//! and adds its own. Here both are held together.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::{Check, Finding};
use crate::repo::Repo;

pub(super) const CHECK: Check =
    Check { name: "bans", rule: "a package's clippy.toml holds everything of the root's", run };

const ROOT: &str = "clippy.toml";

fn run(repo: &Repo) -> Vec<Finding> {
    let Some(root) = repo.file(ROOT) else { return Vec::new() };
    let root = settings(&root.text);
    let own = repo.files.iter().filter(|file| file.path.ends_with("/clippy.toml"));
    let missing = own.flat_map(|file| {
        let held = settings(&file.text);
        let missing: Vec<String> = root.difference(&held).cloned().collect();
        missing.into_iter().map(|setting| {
            Finding::of(&file.path, format!("lacks `{setting}`"), format!("copy it from {ROOT}"))
        })
    });
    missing.collect()
}

/// Every setting on its own: `key = value`, and for lists of bans each path.
fn settings(text: &str) -> BTreeSet<String> {
    let Ok(table) = text.parse::<Table>() else { return BTreeSet::new() };
    let settings = table.iter().flat_map(|(key, value)| match value.as_array() {
        Some(bans) => bans.iter().map(|ban| format!("{key} = {}", shown(ban))).collect(),
        None => vec![format!("{key} = {}", shown(value))],
    });
    settings.collect()
}

/// A value as it is written; of a ban, the path.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        Value::Table(table) => table.get("path").map(shown).unwrap_or_default(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::found;
    use super::*;

    #[test]
    fn what_was_not_copied_is_found() {
        let root = "max = 6\nbans = [{ path = \"a\", reason = \"r\" }, { path = \"b\" }]";
        let check = |own: &str, expect: usize| {
            let files = [(ROOT, root), ("crates/core/clippy.toml", own)];
            assert_eq!(found(&CHECK, &files).len(), expect, "{own}");
        };
        check(root, 0);
        check("max = 6\nbans = [{ path = \"a\" }, { path = \"b\" }, { path = \"c\" }]", 0);
        check("max = 6\nbans = [{ path = \"a\" }]", 1);
        check("max = 7\nbans = [{ path = \"a\" }, { path = \"b\" }]", 1);
        check("not toml [", 3);
    }
}
