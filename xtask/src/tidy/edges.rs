//! Who may depend on whom among our own packages: the house's floor plan.

use super::{Check, Finding};
use crate::repo::Repo;

pub(super) const CHECK: Check =
    Check { name: "edges", rule: "our packages depend on each other as EDGES says", run };

/// Each package and what it may need of ours. `cli` sees all.
const EDGES: [(&str, &[&str]); 15] = [
    ("chance", &[]),
    ("core", &[]),
    ("wire", &[]),
    ("shell", &[]),
    ("cluster", &["shell"]),
    ("console", &["shell"]),
    ("lens", &["core"]),
    ("ledger", &["lens", "shell"]),
    ("plan", &["core", "wire"]),
    ("sim", &["chance", "core", "plan", "lens"]),
    ("gateway", &["core", "wire", "lens", "shell"]),
    ("watch", &["plan", "shell"]),
    ("operator", &["core", "plan", "wire", "lens", "shell", "watch"]),
    ("engine", &["core", "wire", "shell"]),
    ("lab", &["chance", "lens", "wire", "shell"]),
];

/// What a package's tests may need besides.
const IN_TESTS: [(&str, &[&str]); 4] = [
    ("gateway", &["ledger"]),
    ("ledger", &["core"]),
    ("operator", &["cluster"]),
    ("watch", &["cluster"]),
];

fn run(repo: &Repo) -> Vec<Finding> {
    let mut found = Vec::new();
    for package in repo.graph.ours() {
        let Some(name) = package.name.strip_prefix("pilotage-") else { continue };
        if name == "cli" {
            continue;
        }
        let path = format!("crates/{name}/Cargo.toml");
        let Some((_, allowed)) = EDGES.iter().find(|(known, _)| *known == name) else {
            let fix = "give it a row in xtask/src/tidy/edges.rs and in ARCHITECTURE.md";
            found.push(Finding::of(&path, "a package without a place in the house", fix));
            continue;
        };
        let tests =
            IN_TESTS.iter().find(|(known, _)| *known == name).map_or(&[][..], |(_, all)| all);
        for (needed, ships) in repo.graph.needs(package) {
            let Some(needed) = needed.name.strip_prefix("pilotage-") else { continue };
            if !allowed.contains(&needed) && (ships || !tests.contains(&needed)) {
                let what = format!("`{name}` depends on `{needed}`");
                found.push(Finding::of(
                    &path,
                    what,
                    "pass a value in, or move the shared type down",
                ));
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
    fn a_forbidden_edge_is_found() {
        let check = |drawn: &[&str], expect: &[&str]| {
            let repo = Repo { graph: Graph::drawn(drawn), ..Repo::default() };
            let found: Vec<String> = run(&repo).iter().map(ToString::to_string).collect();
            assert_eq!(found.len(), expect.len(), "{found:?}");
            found.iter().zip(expect).for_each(|(found, part)| assert!(found.contains(part)));
        };
        check(&["pilotage-core", "pilotage-lens -> pilotage-core serde", "serde"], &[]);
        check(&["pilotage-core -> pilotage-wire", "pilotage-wire"], &["`core` depends on `wire`"]);
        check(&["pilotage-cli -> pilotage-core", "pilotage-core"], &[]);
        check(&["pilotage-new"], &["without a place"]);
    }
}
