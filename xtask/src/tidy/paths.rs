//! No file knows where somebody keeps theirs: a path into a home directory works on one machine.

use super::{Check, Finding};
use crate::repo::Repo;

pub(super) const CHECK: Check =
    Check { name: "paths", rule: "no absolute path into a home directory", run };

/// The folders at the root of a file system that home directories are in.
const HOMES: [&str; 3] = ["home", "root", "Users"];

fn run(repo: &Repo) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in &repo.files {
        for (at, line) in file.text.lines().enumerate() {
            if HOMES.iter().any(|home| points_into(line, home)) {
                let fix = "write it relative to the repository, or with `~`";
                found.push(Finding::at(&file.path, at + 1, "an absolute path of one machine", fix));
            }
        }
    }
    found
}

/// Whether a path begins there, instead of passing through.
fn points_into(line: &str, home: &str) -> bool {
    line.match_indices(&format!("/{home}/")).any(|(at, _)| {
        let inside = |last: char| last.is_alphanumeric() || "._-~}".contains(last);
        !line[..at].ends_with(inside)
    })
}

#[cfg(test)]
mod tests {
    use super::super::found;
    use super::*;

    #[test]
    fn homes_are_found() {
        // Put together here, so that this file holds no such path itself.
        let check = |before: &str, home: &str, expect: usize| {
            let text = format!("see {before}/{home}/x");
            assert_eq!(found(&CHECK, &[("a.md", &text)]).len(), expect, "{text}");
        };
        for home in HOMES {
            check("", home, 1);
            check("`", home, 1);
            for before in ["~", "https://example.com", "$X", "target", "."] {
                check(before, home, 0);
            }
        }
    }
}
