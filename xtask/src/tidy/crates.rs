//! Which crate may use which, ours and others': edges, licences, sources, doubles, and how many
//! there are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use serde_json::Value;

use super::Finding;

/// Which of our crates may use which others.
const EDGES: [(&str, &[&str]); 11] = [
    ("core", &[]),
    ("wire", &[]),
    ("shell", &[]),
    ("lens", &["core"]),
    ("plan", &["core", "wire"]),
    ("gateway", &["core", "lens", "shell", "wire"]),
    ("operator", &["core", "lens", "plan", "shell", "wire"]),
    ("engine", &["core", "shell", "wire"]),
    ("cli", &["core", "engine", "gateway", "lens", "operator", "plan", "shell", "wire"]),
    ("xtask", &[]),
    ("sim", &["core", "lens", "plan"]),
];

/// Licences that a product under Apache-2.0 can be built with. Of alternatives, one is enough.
const LICENCES: [&str; 12] = [
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates that are not wanted, and what is used instead.
const BANNED: [(&str, &str); 7] = [
    ("openssl", "rustls"),
    ("native-tls", "rustls"),
    ("aws-lc-rs", "rustls with ring, the one provider"),
    ("reqwest", "pilotage_shell::client"),
    ("serde_yaml", "serde-saphyr"),
    ("chrono", "milliseconds since 1970"),
    ("once_cell", "std::sync::OnceLock"),
];

/// Banned crates that others bring along.
const BROUGHT: [&str; 1] = ["once_cell"];

/// Crates in the lock file, ours included.
const CRATES_MAX: usize = 350;

/// Names that may be there in several versions, because others want them so.
const DOUBLES: [&str; 14] = [
    "bitflags",
    "cpufeatures",
    "foldhash",
    "getrandom",
    "hashbrown",
    "itertools",
    "matchit",
    "r-efi",
    "rand_core",
    "shlex",
    "syn",
    "thiserror",
    "toml_datetime",
    "windows-sys",
];

/// Everything that is wrong with the dependencies.
pub(super) fn check(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version=1", "--locked"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root)
        .output()
        .context("cannot run cargo metadata")?;
    anyhow::ensure!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let mut findings = edges(packages);
    findings.extend(packages.iter().filter_map(licence));
    findings.extend(packages.iter().filter_map(origin));
    findings.extend(banned(packages));
    findings.extend(doubles(packages));
    if packages.len() > CRATES_MAX {
        let what = format!(
            "{} crates, at most {CRATES_MAX} are wanted; find one to do without",
            packages.len()
        );
        findings.push(finding("Cargo.lock", what));
    }
    Ok(findings)
}

fn edges(packages: &[Value]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages.iter().filter(|package| package["source"].is_null()) {
        let name = short(text(&package["name"]));
        let allowed = EDGES.iter().find(|(each, _)| *each == name).map(|(_, allowed)| *allowed);
        let Some(allowed) = allowed else {
            findings
                .push(finding(name, "has no row in xtask's table of edges; add one".to_owned()));
            continue;
        };
        let ours = list(&package["dependencies"]).iter().filter(|other| other["source"].is_null());
        for other in ours.map(|other| short(text(&other["name"]))) {
            if !allowed.contains(&other) {
                findings.push(finding(
                    name,
                    format!("must not use `{other}`; see ARCHITECTURE.md for who may use whom"),
                ));
            }
        }
    }
    findings
}

fn licence(package: &Value) -> Option<Finding> {
    let written = text(&package["license"]);
    let alternatives = written.split(" OR ").flat_map(|each| each.split('/'));
    let fine = alternatives.map(|each| each.trim_matches(['(', ')', ' '])).any(|each| {
        each.split(" AND ").all(|part| LICENCES.contains(&part.trim_matches(['(', ')', ' '])))
    });
    (!fine).then(|| {
        finding(text(&package["name"]), format!("has the licence `{written}`; use another crate"))
    })
}

fn origin(package: &Value) -> Option<Finding> {
    let source = package["source"].as_str()?;
    (!source.starts_with("registry+")).then(|| {
        finding(text(&package["name"]), format!("comes from {source}; use a released version"))
    })
}

fn banned(packages: &[Value]) -> Vec<Finding> {
    let named = |name: &str| packages.iter().any(|package| text(&package["name"]) == name);
    let ours = packages.iter().filter(|package| package["source"].is_null());
    let direct: BTreeSet<&str> = ours
        .flat_map(|package| list(&package["dependencies"]))
        .map(|other| text(&other["name"]))
        .collect();
    let bad = BANNED
        .iter()
        .filter(|(name, _)| direct.contains(name) || (named(name) && !BROUGHT.contains(name)));
    bad.map(|(name, instead)| finding(name, format!("is not wanted; use {instead}"))).collect()
}

fn doubles(packages: &[Value]) -> Vec<Finding> {
    let mut versions: BTreeMap<&str, usize> = BTreeMap::new();
    for package in packages {
        *versions.entry(text(&package["name"])).or_default() += 1;
    }
    let windows = |name: &str| name.starts_with("windows");
    let several = versions
        .iter()
        .filter(|(name, count)| **count > 1 && !DOUBLES.contains(name) && !windows(name));
    several
        .map(|(name, count)| finding(name, format!("is there in {count} versions; agree on one")))
        .collect()
}

fn short(name: &str) -> &str {
    name.strip_prefix("pilotage-").unwrap_or(name)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn finding(file: &str, what: String) -> Finding {
    Finding { file: file.to_owned(), line: 0, what }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn edges_that_are_not_drawn_are_found() {
        let package = |name: &str, uses: &[&str]| {
            let uses: Vec<Value> =
                uses.iter().map(|name| json!({"name": name, "source": null})).collect();
            json!({"name": name, "source": null, "dependencies": uses})
        };
        assert!(edges(&[package("pilotage-plan", &["pilotage-core"])]).is_empty());
        assert_eq!(edges(&[package("pilotage-core", &["pilotage-wire"])]).len(), 1);
        assert_eq!(
            edges(&[package("pilotage-gateway", &["pilotage-engine", "pilotage-core"])]).len(),
            1
        );
        assert_eq!(edges(&[package("pilotage-new", &[])]).len(), 1);
    }

    #[test]
    fn licences_and_sources_are_checked() {
        let bad =
            |licence: &str| super::licence(&json!({"name": "x", "license": licence})).is_some();
        assert!(
            !bad("MIT OR Apache-2.0")
                && !bad("Apache-2.0/GPL-3.0")
                && !bad("(MIT OR Apache-2.0) AND Unicode-3.0")
        );
        assert!(bad("GPL-3.0") && bad("") && bad("MIT AND GPL-3.0"));
        assert!(origin(&json!({"name": "x", "source": "git+https://example.com"})).is_some());
        assert!(origin(&json!({"name": "x", "source": "registry+x"})).is_none());
    }

    #[test]
    fn unwanted_and_double_crates_are_found() {
        let package =
            |name: &str| json!({"name": name, "source": "registry+x", "dependencies": []});
        assert_eq!(banned(&[package("openssl")]).len(), 1);
        assert!(banned(&[package("once_cell")]).is_empty());
        let direct = json!({"name": "pilotage-core", "source": null, "dependencies": [{"name": "once_cell", "source": "registry+x"}]});
        assert_eq!(banned(&[direct]).len(), 1);
        assert_eq!(doubles(&[package("a"), package("a"), package("b")]).len(), 1);
    }
}
