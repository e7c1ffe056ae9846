//! Examples in comments are marked as text: whatever runs stands in a test, where it is compiled with the rest. A
//! compiler for each example, and rustdoc for each crate that might have one, is minutes of every check.

use super::{Check, Finding};
use crate::repo::Repo;

pub(super) const CHECK: Check = Check {
    name: "examples",
    rule: "examples in comments are marked `text`; what runs is a test",
    run,
};

fn run(repo: &Repo) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in repo.rust() {
        let mut is_open = false;
        for (at, line) in file.rust.iter().enumerate() {
            let comment = line.comment.trim_start_matches(['/', '!', '*']).trim();
            let Some(kind) = comment.strip_prefix("```") else { continue };
            is_open = !is_open;
            if is_open && kind != "text" {
                let what = "an example in a comment is not marked as text";
                found.push(Finding::at(
                    &file.path,
                    at + 1,
                    what.to_owned(),
                    "write ```text, and a test of what it shows",
                ));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::found;
    use super::*;

    #[test]
    fn examples_that_would_run_are_found() {
        let check = |text: &str, expect: usize| {
            assert_eq!(found(&CHECK, &[("a.rs", text)]).len(), expect, "{text}");
        };
        check("//! ```text\n//! a\n//! ```", 0);
        check("/// ```\n/// let a = 1;\n/// ```", 1);
        check("/// ```rust\n/// ```\n/// ```text\n/// ```", 1);
        check("let fence = \"```\";", 0);
    }
}
