//! The rules of the tree, one file each, in the table [`CHECKS`].
//!
//! A check reads a [`Repo`] and says where a rule is broken and what to do; it changes nothing.

mod bans;
mod duplicates;
mod edges;
mod environment;
mod examples;
mod headers;
mod index;
mod licences;
mod links;
mod manifests;
mod packages;
mod paths;
mod purity;
mod size;
mod test_habits;
mod unsafety;
mod whitespace;
mod words;

use std::fmt;

use crate::repo::Repo;

/// A rule.
pub(crate) struct Check {
    /// Its name in the output.
    pub(crate) name: &'static str,
    /// What it asks for.
    pub(crate) rule: &'static str,
    /// Finds where it is broken.
    pub(crate) run: fn(&Repo) -> Vec<Finding>,
}

/// Every rule.
pub(crate) const CHECKS: &[Check] = &[
    bans::CHECK,
    duplicates::CHECK,
    edges::CHECK,
    environment::CHECK,
    examples::CHECK,
    headers::CHECK,
    index::CHECK,
    licences::CHECK,
    links::CHECK,
    manifests::CHECK,
    packages::CHECK,
    paths::CHECK,
    purity::CHECK,
    size::CHECK,
    test_habits::CHECK,
    unsafety::CHECK,
    whitespace::CHECK,
    words::CHECK,
];

/// A place where a rule is broken.
#[derive(Debug)]
pub(crate) struct Finding {
    path: String,
    line: Option<usize>,
    what: String,
    fix: String,
}

impl Finding {
    /// About a line.
    pub(crate) fn at(
        path: &str,
        line: usize,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { path: path.to_owned(), line: Some(line), what: what.into(), fix: fix.into() }
    }

    /// About a whole file.
    pub(crate) fn of(path: &str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line: None, what: what.into(), fix: fix.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {} — {}", self.what, self.fix)
    }
}

/// Everything that is to be put right, each with the name of its rule.
pub(crate) fn check(repo: &Repo) -> Vec<(&'static str, Finding)> {
    let run = |check: &'static Check| {
        (check.run)(repo).into_iter().map(move |finding| (check.name, finding))
    };
    CHECKS.iter().flat_map(run).collect()
}

/// What one check finds in files made up for a test, as text.
#[cfg(test)]
fn found(check: &Check, files: &[(&str, &str)]) -> Vec<String> {
    (check.run)(&Repo::of(files)).iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        let findings = check(&Repo::open().unwrap());
        let findings: Vec<String> =
            findings.iter().map(|(rule, finding)| format!("{finding} [{rule}]")).collect();
        assert!(findings.is_empty(), "\n{}", findings.join("\n"));
    }

    #[test]
    fn rules_are_sorted_and_named_once() {
        assert!(CHECKS.is_sorted_by(|one, next| one.name < next.name));
    }
}
