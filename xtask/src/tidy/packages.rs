//! Which packages of others are welcome: from the registry, and not those that bring a second way
//! of doing what we do already.

use super::{Check, Finding};
use crate::graph::REGISTRY;
use crate::repo::Repo;

pub(super) const CHECK: Check =
    Check { name: "packages", rule: "packages come from crates.io, and none is in BANNED", run };

/// Packages that do not come in, and what to use.
const BANNED: [(&str, &str); 12] = [
    ("async-std", "tokio"),
    ("aws-lc-rs", "ring, the one TLS provider (docs/adr/0004-one-tls-provider.md)"),
    ("chrono", "integers of one unit, or a date where one is printed"),
    ("dashmap", "one owner and a channel, or parking_lot"),
    ("log4rs", "tracing"),
    ("native-tls", "rustls"),
    ("openssl", "rustls"),
    ("openssl-sys", "rustls"),
    ("reqwest", "pilotage_shell::client"),
    ("serde_yaml", "serde-saphyr"),
    ("serde_yml", "serde-saphyr"),
    ("tonic", "HTTP and JSON"),
];

/// Packages that others may bring along, and we do not use ourselves.
const NOT_DIRECTLY: [(&str, &str); 2] =
    [("lazy_static", "std::sync::LazyLock"), ("once_cell", "std::sync::OnceLock or LazyLock")];

fn run(repo: &Repo) -> Vec<Finding> {
    let mut found = Vec::new();
    for package in repo.graph.foreign() {
        let name = &package.name;
        if package.source.as_deref() != Some(REGISTRY) {
            let what = format!("`{name}` is not from crates.io");
            found.push(Finding::of("Cargo.lock", what, "use a published version"));
        }
        if let Some((_, instead)) = BANNED.iter().find(|(banned, _)| banned == name) {
            let fix = format!("use {instead}");
            found.push(Finding::of("Cargo.lock", format!("`{name}` is banned"), fix));
        }
    }
    for package in repo.graph.ours() {
        for (needed, _) in repo.graph.needs(package) {
            let listed = NOT_DIRECTLY.iter().find(|(name, _)| *name == needed.name);
            if let Some((name, instead)) = listed {
                let what = format!("`{}` depends on `{name}`", package.name);
                found.push(Finding::of("Cargo.lock", what, format!("use {instead}")));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;

    #[test]
    fn unwelcome_packages_are_found() {
        let mut graph = Graph::drawn(&["pilotage-core", "serde", "openssl"]);
        assert_eq!(run(&Repo { graph, ..Repo::default() }).len(), 1);
        graph = Graph::drawn(&["once_cell", "serde -> once_cell", "pilotage-core -> serde"]);
        assert_eq!(run(&Repo { graph, ..Repo::default() }).len(), 0);
        graph = Graph::drawn(&["once_cell", "pilotage-core -> once_cell"]);
        assert_eq!(run(&Repo { graph, ..Repo::default() }).len(), 1);
        graph = Graph::drawn(&["serde"]);
        graph.packages[0].source = Some("git+https://example.com/serde".to_owned());
        assert_eq!(run(&Repo { graph, ..Repo::default() }).len(), 1);
    }
}
