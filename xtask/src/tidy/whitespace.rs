//! Text files end with one line break, and lines with their last character.

use super::{Check, Finding};
use crate::repo::{File, Repo};

pub(super) const CHECK: Check = Check {
    name: "whitespace",
    rule: "no blanks at a line's end, one line break at a file's",
    run,
};

fn run(repo: &Repo) -> Vec<Finding> {
    // Cases and snapshots are data: what they hold is the point of a test.
    let data = |file: &&File| file.path.contains("/tests/cases/") || file.path.ends_with(".snap");
    repo.files.iter().filter(|file| !data(file)).flat_map(check).collect()
}

fn check(file: &File) -> Vec<Finding> {
    let mut found = Vec::new();
    for (at, line) in file.text.split('\n').enumerate() {
        if line.ends_with([' ', '\t', '\r']) {
            found.push(Finding::at(&file.path, at + 1, "blanks at the end", "take them out"));
        }
    }
    let text = &file.text;
    if !text.is_empty() && (!text.ends_with('\n') || text.ends_with("\n\n")) {
        let what = "does not end with one line break";
        found.push(Finding::at(&file.path, text.lines().count(), what, "end it with one"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::found;
    use super::*;

    #[test]
    fn blanks_are_found() {
        let check = |text: &str, expect: usize| {
            assert_eq!(found(&CHECK, &[("a.md", text)]).len(), expect, "{text:?}");
        };
        check("", 0);
        check("a\n\nb\n", 0);
        check("a \nb\n", 1);
        check("a\r\n", 1);
        check("a", 1);
        check("a\n\n", 1);
    }
}
