//! The packages that a build on Linux takes, and who depends on whom, as Cargo resolved them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

/// The platform whose packages are counted and checked: one, so that all machines agree.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// All packages.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) packages: Vec<Package>,
    edges: Vec<Edge>,
}

/// One package.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) license: Option<String>,
    /// Where it comes from; nothing for our own.
    #[serde(default)]
    pub(crate) source: Option<String>,
}

/// That one package needs another, by id.
#[derive(Debug)]
struct Edge {
    from: String,
    to: String,
    /// Whether what ships needs it, not only tests or a build.
    ships: bool,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    /// `dev`, `build`, or nothing for what ships.
    kind: Option<String>,
}

impl Graph {
    /// Asks Cargo, which needs the network only for packages that no build has fetched yet.
    pub(crate) fn of(root: &Path) -> anyhow::Result<Self> {
        let mut cargo = Command::new("cargo");
        cargo.args(["metadata", "--format-version=1", "--locked"]);
        cargo.arg("--filter-platform").arg(PLATFORM).current_dir(root);
        let output = cargo.output().context("cannot run cargo")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`cargo metadata` failed: {said}");
        Self::parse(&output.stdout)
    }

    fn parse(json: &[u8]) -> anyhow::Result<Self> {
        let Metadata { packages, resolve } = serde_json::from_slice(json)?;
        let mut edges = Vec::new();
        for Node { id, deps } in resolve.nodes {
            for Dependency { pkg, dep_kinds } in deps {
                let ships = dep_kinds.iter().any(|kind| kind.kind.is_none());
                edges.push(Edge { from: id.clone(), to: pkg, ships });
            }
        }
        Ok(Self { packages, edges })
    }

    /// A graph made up for a test: `name` or `name -> needed needed`; ours start with `pilotage-`.
    #[cfg(test)]
    pub(crate) fn drawn(lines: &[&str]) -> Self {
        let mut graph = Self::default();
        for line in lines {
            let (name, needs) = line.split_once(" -> ").unwrap_or((line, ""));
            let source = if name.starts_with("pilotage-") { None } else { Some(REGISTRY) };
            graph.packages.push(Package {
                id: name.to_owned(),
                name: name.to_owned(),
                license: Some("MIT".to_owned()),
                source: source.map(str::to_owned),
            });
            let edge = |to: &str| Edge { from: name.to_owned(), to: to.to_owned(), ships: true };
            graph.edges.extend(needs.split_whitespace().map(edge));
        }
        graph
    }

    /// The packages of this repository.
    pub(crate) fn ours(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.source.is_none())
    }

    /// Everybody else's.
    pub(crate) fn foreign(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.source.is_some())
    }

    /// What a package needs itself, for whatever purpose, and whether it ships with it.
    pub(crate) fn needs(&self, package: &Package) -> Vec<(&Package, bool)> {
        let named = |id: &String| self.packages.iter().find(|package| &package.id == id);
        let edges = self.edges.iter().filter(|edge| edge.from == package.id);
        edges.filter_map(|edge| Some((named(&edge.to)?, edge.ships))).collect()
    }

    /// What ships with a package: all it needs, and all that they need.
    pub(crate) fn ships_with(&self, package: &Package) -> Vec<&Package> {
        let mut seen = BTreeSet::from([package.id.as_str()]);
        let mut open = vec![package.id.as_str()];
        while let Some(id) = open.pop() {
            for edge in self.edges.iter().filter(|edge| edge.ships && edge.from == id) {
                if seen.insert(&edge.to) {
                    open.push(&edge.to);
                }
            }
        }
        seen.remove(package.id.as_str());
        self.packages.iter().filter(|package| seen.contains(package.id.as_str())).collect()
    }
}

/// Where packages come from.
pub(crate) const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ships_is_transitive_and_without_tests() {
        let json = r#"{"packages": [{"id": "a", "name": "a"}, {"id": "b", "name": "b"},
            {"id": "c", "name": "c"}, {"id": "t", "name": "t"}],
            "resolve": {"nodes": [
            {"id": "a", "deps": [{"pkg": "b", "dep_kinds": [{"kind": null}]},
                                 {"pkg": "t", "dep_kinds": [{"kind": "dev"}]}]},
            {"id": "b", "deps": [{"pkg": "c", "dep_kinds": [{"kind": null}]}]}]}}"#;
        let graph = Graph::parse(json.as_bytes()).unwrap();
        let names = |packages: Vec<&Package>| -> Vec<String> {
            packages.iter().map(|package| package.name.clone()).collect()
        };
        assert_eq!(names(graph.ships_with(&graph.packages[0])), ["b", "c"]);
        let needs = graph.needs(&graph.packages[0]);
        assert_eq!(names(needs.iter().map(|(one, _)| *one).collect()), ["b", "t"]);
        assert_eq!(needs.iter().map(|(_, ships)| *ships).collect::<Vec<_>>(), [true, false]);
    }
}
