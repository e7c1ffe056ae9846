//! Every package's licence lets us ship it under ours.

use super::{Check, Finding};
use crate::repo::Repo;

pub(super) const CHECK: Check =
    Check { name: "licences", rule: "a package's licence is one of ALLOWED", run };

/// Licences that ask for no more than Apache-2.0 gives.
const ALLOWED: [&str; 10] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "ISC",
    "MIT",
    // File by file copyleft: fine for a package that is used unchanged.
    "MPL-2.0",
    "Unicode-3.0",
    "Zlib",
];

/// Exceptions (`WITH …`) that only add permissions.
const EXCEPTIONS: [&str; 1] = ["LLVM-exception"];

fn run(repo: &Repo) -> Vec<Finding> {
    let refused = repo.graph.foreign().filter(|package| {
        let licence = package.license.as_deref().unwrap_or_default();
        !is_allowed(licence)
    });
    let found = refused.map(|package| {
        let licence = package.license.as_deref().unwrap_or("no licence");
        let what = format!("`{}` is under `{licence}`", package.name);
        Finding::of("Cargo.lock", what, "use another package, or argue for the licence in xtask")
    });
    found.collect()
}

/// Whether some choice that an expression offers is allowed.
fn is_allowed(licence: &str) -> bool {
    let mut expression = Expression::new(licence);
    let allowed = expression.any();
    allowed && expression.at == expression.words.len()
}

/// An SPDX licence expression; `/` is how it was once written for `OR`.
struct Expression {
    words: Vec<String>,
    at: usize,
}

impl Expression {
    fn new(text: &str) -> Self {
        let spaced = text.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
        Self { words: spaced.split_whitespace().map(str::to_owned).collect(), at: 0 }
    }

    fn any(&mut self) -> bool {
        let mut allowed = self.all();
        while self.take("OR") {
            allowed |= self.all();
        }
        allowed
    }

    fn all(&mut self) -> bool {
        let mut allowed = self.one();
        while self.take("AND") {
            allowed &= self.one();
        }
        allowed
    }

    fn one(&mut self) -> bool {
        if self.take("(") {
            let allowed = self.any();
            return self.take(")") && allowed;
        }
        let allowed = self.word().is_some_and(|word| ALLOWED.contains(&word.as_str()));
        if !self.take("WITH") {
            return allowed;
        }
        self.word().is_some_and(|word| EXCEPTIONS.contains(&word.as_str())) && allowed
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.words.get(self.at).is_some_and(|next| next == word);
        self.at += usize::from(found);
        found
    }

    fn word(&mut self) -> Option<String> {
        let word = self.words.get(self.at).cloned();
        self.at += 1;
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_understood() {
        let check = |text: &str, expect: bool| {
            assert_eq!(is_allowed(text), expect, "{text}");
        };
        check("MIT", true);
        check("MIT/Apache-2.0", true);
        check("GPL-3.0", false);
        check("GPL-3.0 OR MIT", true);
        check("MIT AND GPL-3.0", false);
        check("(MIT OR GPL-3.0) AND Unicode-3.0", true);
        check("MIT OR (GPL-3.0 AND ISC)", true);
        check("Apache-2.0 WITH LLVM-exception", true);
        check("Apache-2.0 WITH Other-exception", false);
        check("", false);
        check("(MIT", false);
        check("MIT MIT", false);
    }
}
