//! Environment variables are read in one file, which lists them all, so that the reference page is
//! complete, and what a program does never depends on a variable nobody knows.

use std::collections::BTreeSet;

use super::{Check, Finding};
use crate::repo::Repo;
use crate::rust::has_word;

pub(super) const CHECK: Check = Check {
    name: "environment",
    rule: "variables are read in crates/shell/src/env.rs only, and named nowhere without being there",
    run,
};

/// The one file.
const TABLE: &str = "crates/shell/src/env.rs";

/// Ways to read or change the environment.
const READS: [&str; 6] = [
    "env::var(",
    "env::var_os(",
    "env::vars(",
    "env::vars_os(",
    "env::set_var(",
    "env::remove_var(",
];

/// What our own variables begin with.
const PREFIX: &str = "PILOTAGE_";

fn run(repo: &Repo) -> Vec<Finding> {
    let mut found = reads(repo);
    let Some(table) = repo.file(TABLE) else { return found };
    let known: BTreeSet<&str> = variables(&table.text).collect();
    for file in &repo.files {
        let documents = file.path.ends_with(".md") || file.path.starts_with("crates/");
        if !documents || file.is_test() {
            continue;
        }
        for (at, line) in file.text.lines().enumerate() {
            for name in variables(line).filter(|name| !known.contains(name)) {
                let what = format!("`{name}` is not a variable that is read");
                found.push(Finding::at(&file.path, at + 1, what, format!("see {TABLE}")));
            }
        }
    }
    found
}

fn reads(repo: &Repo) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in repo.rust().filter(|file| file.path != TABLE) {
        for (at, code) in file.shipped() {
            let reads = READS.iter().any(|call| code.contains(call)) && code.contains("std::");
            // `clap` reads the environment for whoever writes `env` in an argument's attribute.
            let clap = code.contains("#[arg(") && has_word(code, "env");
            if reads || clap {
                let fix = format!("give the variable a row in {TABLE} and use pilotage_shell::env");
                found.push(Finding::at(&file.path, at, "reads the environment", fix));
            }
        }
    }
    found
}

/// The names of our own variables in a text. A lone prefix, as in `PILOTAGE_*`, is none.
fn variables(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|char: char| !(char.is_ascii_alphanumeric() || char == '_'));
    words.filter(|word| word.len() > PREFIX.len() && word.starts_with(PREFIX))
}

#[cfg(test)]
mod tests {
    use super::super::found;
    use super::*;

    #[test]
    fn reads_and_unknown_names_are_found() {
        let check = |path: &str, text: &str, expect: usize| {
            let table = (TABLE, "row(\"PILOTAGE_LOG\"); std::env::var(name)");
            assert_eq!(found(&CHECK, &[table, (path, text)]).len(), expect, "{text}");
        };
        check("crates/cli/src/a.rs", "std::env::var(\"X\")", 1);
        check("crates/cli/src/a.rs", "std::env::args()", 0);
        check("crates/cli/src/a.rs", "#[arg(long, env = \"X\")]", 1);
        check("crates/cli/tests/a.rs", "std::env::var(\"UPDATE\")", 0);
        check("docs/a.md", "set `PILOTAGE_LOG`", 0);
        check("docs/a.md", "set `PILOTAGE_LOGS`", 1);
        check("crates/cli/tests/a.rs", "\"PILOTAGE_OTHER\"", 0);
    }
}
