//! No file knows where somebody keeps theirs: a path into a home directory works on one machine.

use super::{Check, Finding};
use crate::repo::Repo;

pub(super) const CHECK: Check =
    Check { name: "paths", rule: "no absolute path into a home directory", run };

/// Where home directories are.
const HOMES: [&str; 3] = ["/home/", "/root/", "/Users/"];

/// This file.
const SELF: &str = "xtask/src/tidy/paths.rs";

fn run(repo: &Repo) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in repo.files.iter().filter(|file| file.path != SELF) {
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
    line.match_indices(home).any(|(at, _)| {
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
        let check = |text: &str, expect: usize| {
            assert_eq!(found(&CHECK, &[("a.md", text)]).len(), expect, "{text}");
        };
        check("see `/home/ada/models`", 1);
        check("see /root/x", 1);
        check("see ~/models, https://example.com/home/page and $X/root/y", 0);
        check("see target/root/x and ./home/x", 0);
    }
}
