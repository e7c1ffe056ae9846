//! The pure packages do no I/O, read no clock and draw no randomness: what decides in production
//! can be run in a test and in a simulation, and gives the same result each time.

use super::{Check, Finding};
use crate::repo::{File, Repo};
use crate::rust::has_word;

pub(super) const CHECK: Check = Check {
    name: "purity",
    rule: "core, wire, plan, lens, chance and sim import nothing that does I/O, tells the time or draws lots",
    run,
};

/// The packages that are pure.
const PURE: [&str; 6] = ["core", "wire", "plan", "lens", "chance", "sim"];

/// Modules of `std` that they do not use.
const MODULES: [&str; 5] = ["fs", "net", "env", "thread", "process"];

/// Names that they do not use, wherever they come from. Maps that hash iterate in another order on
/// every run.
const NAMES: [&str; 11] = [
    "HashMap",
    "HashSet",
    "Instant",
    "SystemTime",
    "axum",
    "getrandom",
    "hyper",
    "kube",
    "rand",
    "stdin",
    "tokio",
];

/// Packages that nothing of theirs brings along.
const PACKAGES: [&str; 6] = ["axum", "hyper", "kube", "mio", "socket2", "tokio"];

fn run(repo: &Repo) -> Vec<Finding> {
    let mut found = Vec::new();
    for name in PURE {
        let sources = format!("crates/{name}/src/");
        let files = repo.rust().filter(|file| file.path.starts_with(&sources));
        files.for_each(|file| found.extend(impure(file)));
        let package = format!("pilotage-{name}");
        let package = repo.graph.ours().find(|ours| ours.name == package);
        for needed in package.into_iter().flat_map(|package| repo.graph.ships_with(package)) {
            if PACKAGES.contains(&needed.name.as_str()) {
                let what = format!("`{name}` brings `{}` along", needed.name);
                let path = format!("crates/{name}/Cargo.toml");
                found.push(Finding::of(&path, what, "`cargo tree -i` shows through whom"));
            }
        }
    }
    found
}

fn impure(file: &File) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut grouped = false;
    for (at, code) in file.shipped() {
        let module = MODULES.iter().find(|module| {
            let path = format!("std::{module}");
            has_word(code, &path)
        });
        // `use std::{…}` may go over several lines, up to the one that ends it.
        grouped |= code.contains("use std::{");
        let listed = MODULES.iter().find(|module| grouped && lists(code, module));
        grouped &= !code.contains(';');
        let name = NAMES.iter().find(|name| has_word(code, name));
        let Some(name) = module.or(listed).or(name) else { continue };
        let fix = "take the value as an argument, or move the code into a shell";
        found.push(Finding::at(&file.path, at, format!("a pure package uses `{name}`"), fix));
    }
    found
}

/// Whether a part of a grouped import begins with the module.
fn lists(code: &str, module: &str) -> bool {
    let parts = code.split([',', '{', '}']).map(str::trim);
    parts.into_iter().any(|part| part.split("::").next() == Some(module))
}

#[cfg(test)]
mod tests {
    use super::super::found;
    use super::*;
    use crate::graph::Graph;

    #[test]
    fn the_world_is_found() {
        let check = |path: &str, text: &str, expect: usize| {
            assert_eq!(found(&CHECK, &[(path, text)]).len(), expect, "{text}");
        };
        let core = "crates/core/src/a.rs";
        check(core, "use std::collections::BTreeMap;", 0);
        check(core, "use std::fs;", 1);
        check(core, "let x = std::env::var(\"X\");", 1);
        check(core, "use std::{fmt, net::IpAddr};", 1);
        check(core, "use std::{\n    fmt,\n    thread,\n};\nlet fs = 1;", 1);
        check(core, "use tokio::time::sleep;", 1);
        check(core, "let now = Instant::now();", 1);
        check(core, "// tokio is not used here", 0);
        check(core, "\"std::fs\"", 0);
        check(core, "#[cfg(test)]\nmod tests {\n use std::fs;\n}", 0);
        check("crates/core/tests/a.rs", "use std::fs;", 0);
        check("crates/shell/src/a.rs", "use std::fs;", 0);
    }

    #[test]
    fn what_is_brought_along_is_found() {
        let graph = Graph::drawn(&["pilotage-wire -> a", "a -> tokio", "tokio", "pilotage-core"]);
        assert_eq!(run(&Repo { graph, ..Repo::default() }).len(), 1);
    }
}
