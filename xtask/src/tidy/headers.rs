//! Every file says in its first line what it is for.

use super::{Check, Finding};
use crate::repo::Repo;

pub(super) const CHECK: Check =
    Check { name: "headers", rule: "a Rust file opens with a `//!` sentence", run };

fn run(repo: &Repo) -> Vec<Finding> {
    let lacking = repo.rust().filter(|file| !file.text.starts_with("//! "));
    let finding = |path: &str| {
        let fix = "begin with one `//!` sentence that an outsider understands";
        Finding::at(path, 1, "does not say what it is for", fix)
    };
    lacking.map(|file| finding(&file.path)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::found;
    use super::*;

    #[test]
    fn a_file_without_a_word_is_found() {
        assert_eq!(found(&CHECK, &[("a.rs", "//! Apples.\nfn f() {}"), ("b.md", "x")]).len(), 0);
        assert_eq!(found(&CHECK, &[("a.rs", "fn f() {}\n//! Apples.")]).len(), 1);
    }
}
