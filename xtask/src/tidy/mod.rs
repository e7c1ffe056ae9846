//! The checks, one file each: a check takes text and gives findings, so that it can be tested on
//! small examples.

mod crates;
mod headers;
mod purity;
mod ratchet;
mod sizes;
mod words;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

/// Something that is not as it should be.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Finding {
    /// The file, relative to the repository.
    pub(crate) file: String,
    /// The line, from one; zero for the whole file.
    pub(crate) line: usize,
    /// What is wrong, and what to do.
    pub(crate) what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// A file under version control.
pub(crate) struct Source {
    /// Relative to the repository.
    pub(crate) path: String,
    /// Its text.
    pub(crate) text: String,
}

impl Source {
    fn finding(&self, line: usize, what: impl Into<String>) -> Finding {
        Finding { file: self.path.clone(), line, what: what.into() }
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Its crate's name, such as `core`.
    fn crate_name(&self) -> &str {
        let inside = self.path.strip_prefix("crates/").unwrap_or("xtask/");
        inside.split('/').next().unwrap_or_default()
    }

    /// Code that ships: not under `tests` or `benches`, and no file of tests.
    fn ships(&self) -> bool {
        self.is_rust()
            && self.path.contains("/src/")
            && !self.path.ends_with("/tests.rs")
            && !self.path.ends_with("/fake.rs")
    }
}

/// Everything that is wrong with the repository at `root`.
pub(crate) fn run(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let sources = sources(root)?;
    let mut findings = Vec::new();
    for source in &sources {
        findings.extend(words::check(source));
        if source.is_rust() {
            findings.extend(headers::check(source));
            findings.extend(purity::check(source));
        }
    }
    findings.extend(ratchet::check(root, &sizes::measure(&sources))?);
    findings.extend(crates::check(root)?);
    findings.sort();
    Ok(findings)
}

fn sources(root: &Path) -> anyhow::Result<Vec<Source>> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output();
    let listed = listed.context("cannot run git")?;
    let paths = String::from_utf8(listed.stdout)?;
    let read = |path: &str| {
        let text = std::fs::read_to_string(root.join(PathBuf::from(path))).ok()?;
        Some(Source { path: path.to_owned(), text })
    };
    Ok(paths.lines().filter_map(read).collect())
}

#[cfg(test)]
pub(crate) fn source(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned() }
}

#[test]
fn the_repository_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let findings = run(&root).unwrap();
    assert!(
        findings.is_empty(),
        "\n{}",
        findings.iter().map(|each| format!("{each}\n")).collect::<String>()
    );
}
