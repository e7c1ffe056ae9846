//! Comments say why things are as they are; what they were is in the history, and what they should
//! become is somebody's task.

use super::{Check, Finding};
use crate::repo::Repo;
use crate::rust::has_word;

pub(super) const CHECK: Check =
    Check { name: "words", rule: "comments tell no history and leave no chores", run };

/// Words about what was.
const HISTORY: [&str; 6] = ["previously", "no longer", "used to be", "formerly", "v2", "legacy"];

/// Marks for later.
const CHORES: [&str; 3] = ["TODO", "FIXME", "XXX"];

fn run(repo: &Repo) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in repo.rust() {
        for (at, line) in file.rust.iter().enumerate() {
            let comment = line.comment.to_lowercase();
            if let Some(word) = HISTORY.iter().find(|word| has_word(&comment, word)) {
                let what = format!("a comment says `{word}`");
                found.push(Finding::at(&file.path, at + 1, what, "say how it is, and why"));
            }
            if let Some(word) = CHORES.iter().find(|word| has_word(&line.comment, word)) {
                let what = format!("a comment says `{word}`");
                found.push(Finding::at(&file.path, at + 1, what, "do it, or open an issue"));
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
    fn history_and_chores_are_found() {
        let check = |text: &str, expect: usize| {
            assert_eq!(found(&CHECK, &[("a.rs", text)]).len(), expect, "{text}");
        };
        check("// The queue is bounded.", 0);
        check("// Previously it was not.", 1);
        check("// It is no longer\n/* used to be */", 2);
        check("// TODO: bound it", 1);
        check("let previously = \"TODO\";", 0);
    }
}
