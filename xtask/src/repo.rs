//! The tree as the checks see it: its text files, its dependency graph and its ratchets.
//!
//! Checks never touch the disk themselves, so that each can be tested on a few lines of text.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::graph::Graph;
use crate::ratchet::Ratchet;
use crate::rust::{self, Line};

/// Folders that hold nothing of ours.
const FOREIGN: [&str; 5] = ["target", "__pycache__", "node_modules", ".git", ".setup"];

/// Larger files are data.
const BYTES_MAX: u64 = 1 << 20;

/// Everything that is checked.
#[derive(Debug, Default)]
pub(crate) struct Repo {
    /// Text files, sorted by path.
    pub(crate) files: Vec<File>,
    /// Paths of what is not text, such as pictures: there, and not checked.
    pub(crate) others: Vec<String>,
    /// Packages and their dependencies.
    pub(crate) graph: Graph,
    /// Exceptions that may only shrink.
    pub(crate) ratchet: Ratchet,
}

/// A text file.
#[derive(Debug)]
pub(crate) struct File {
    /// Relative to the root, with `/`.
    pub(crate) path: String,
    /// What it says.
    pub(crate) text: String,
    /// For Rust: its lines, taken apart.
    pub(crate) rust: Vec<Line>,
}

impl Repo {
    /// The repository that this program was built from.
    pub(crate) fn open() -> anyhow::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no parent folder")?;
        let mut paths = Vec::new();
        collect(root, &mut paths)?;
        paths.sort();
        let (mut files, mut others) = (Vec::new(), Vec::new());
        for path in paths {
            let relative = path.strip_prefix(root)?.to_string_lossy().replace('\\', "/");
            match String::from_utf8(fs::read(&path)?) {
                Ok(text) => files.push(File::new(relative, text)),
                Err(_) => others.push(relative),
            }
        }
        let ratchet = fs::read_to_string(root.join("xtask/ratchet.toml"))?;
        let (graph, ratchet) = (Graph::of(root)?, Ratchet::parse(&ratchet)?);
        Ok(Self { files, others, graph, ratchet })
    }

    /// A tree made up for a test.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let file = |(path, text): &(&str, &str)| File::new((*path).to_owned(), (*text).to_owned());
        Self { files: files.iter().map(file).collect(), ..Self::default() }
    }

    /// The Rust files.
    pub(crate) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with(".rs"))
    }

    /// One file.
    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }
}

impl File {
    fn new(path: String, text: String) -> Self {
        let rust = if path.ends_with(".rs") { rust::lines(&text) } else { Vec::new() };
        Self { path, text, rust }
    }

    /// Whether the whole file is for tests.
    pub(crate) fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }

    /// Lines of code that ship, with their numbers.
    pub(crate) fn shipped(&self) -> impl Iterator<Item = (usize, &str)> {
        let whole = self.is_test();
        let lines = self.rust.iter().enumerate();
        lines.filter(move |(_, line)| !whole && !line.test).map(|(at, line)| (at + 1, &*line.code))
    }

    /// Lines of test code, with their numbers.
    pub(crate) fn tests(&self) -> impl Iterator<Item = (usize, &str)> {
        let whole = self.is_test();
        let lines = self.rust.iter().enumerate();
        lines.filter(move |(_, line)| whole || line.test).map(|(at, line)| (at + 1, &*line.code))
    }
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if FOREIGN.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        if kind.is_dir() {
            collect(&entry.path(), paths)?;
        } else if kind.is_file() && entry.metadata()?.len() <= BYTES_MAX {
            paths.push(entry.path());
        }
    }
    Ok(())
}
