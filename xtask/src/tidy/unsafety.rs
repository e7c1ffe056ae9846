//! Where the compiler's promises are suspended: one file.

use super::{Check, Finding};
use crate::repo::Repo;
use crate::rust::has_word;

pub(super) const CHECK: Check =
    Check { name: "unsafety", rule: "`unsafe` is in crates/engine/src/backend/llama.rs only", run };

/// The file that talks to llama.cpp.
const ALLOWED: &str = "crates/engine/src/backend/llama.rs";

fn run(repo: &Repo) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in repo.rust().filter(|file| file.path != ALLOWED) {
        let lines = file.rust.iter().enumerate();
        for (at, _) in lines.filter(|(_, line)| has_word(&line.code, "unsafe")) {
            let fix = "use a safe way, or a package that has one";
            found.push(Finding::at(&file.path, at + 1, "`unsafe` outside its file", fix));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::found;
    use super::*;

    #[test]
    fn unsafe_code_is_found() {
        let check = |path: &str, text: &str, expect: usize| {
            assert_eq!(found(&CHECK, &[(path, text)]).len(), expect, "{text}");
        };
        check("crates/core/src/a.rs", "unsafe { f() }", 1);
        check("crates/core/src/a.rs", "// unsafe\n\"unsafe\"; #![deny(unsafe_code)]", 0);
        check(ALLOWED, "unsafe { f() }", 0);
    }
}
