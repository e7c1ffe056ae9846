//! What may be used where: pure crates do no I/O, the environment and the clock are the shell's, and
//! `unsafe` is for the one file that talks to llama.cpp.

use super::{Finding, Source};

/// Crates without I/O, clock and randomness.
const PURE: [&str; 4] = ["core", "lens", "plan", "wire"];

/// Words that pure crates do not contain, and what to do instead.
const IMPURE: [(&str, &str); 11] = [
    ("std::fs", "take the content as an argument"),
    ("std::env", "take the value as an argument"),
    ("std::thread", "leave threads to the shells"),
    ("std::process", "leave processes to the operator"),
    ("std::net::Tcp", "leave sockets to the shells"),
    ("std::time::Instant", "take the time as an argument"),
    ("SystemTime", "take the time as an argument"),
    ("tokio::", "leave async to the shells"),
    ("hyper::", "leave HTTP to the shells"),
    ("HashMap", "use BTreeMap, whose order is the same on every run"),
    ("getrandom", "take the seed as an argument"),
];

/// The one file that may be unsafe.
const UNSAFE: &str = "crates/engine/src/backend/llama.rs";

/// The one file that reads the environment.
const ENVIRONMENT: &str = "crates/shell/src/env.rs";

/// Words in the wrong place.
pub(super) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, line) in code(source) {
        if source.ships() && PURE.contains(&source.crate_name()) {
            for (word, instead) in IMPURE {
                if line.contains(word) {
                    findings
                        .push(source.finding(at, format!("`{word}` in a pure crate; {instead}")));
                }
            }
        }
        if has_word(line, "unsafe") && source.path != UNSAFE && !line.contains("unsafe_code") {
            findings.push(source.finding(at, format!("`unsafe` outside {UNSAFE}; use a safe way")));
        }
        if source.ships()
            && source.path.starts_with("crates/")
            && source.path != ENVIRONMENT
            && line.contains("std::env::var")
        {
            findings.push(
                source.finding(at, format!("reads the environment; add a row to {ENVIRONMENT}")),
            );
        }
        if line.contains("#[ignore") {
            findings.push(source.finding(at, "an ignored test; make it run, or remove it"));
        }
        if !source.path.ends_with("src/tidy/purity.rs") && line.contains("thread::sleep") {
            findings.push(source.finding(at, "a sleeping thread; wait for what you wait for"));
        }
    }
    findings
}

/// Lines up to the tests, without comments and this check's own lists.
fn code(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    let own = source.path.contains("/tidy/");
    let lines = source.text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
    lines
        .enumerate()
        .map(|(at, line)| (at + 1, line.split("//").next().unwrap_or_default()))
        .filter(move |_| !own)
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|each| each == word)
}

#[test]
fn what_is_in_the_wrong_place_is_found() {
    use super::source;
    let check = |path: &str, text: &str, count: usize| {
        assert_eq!(check(&source(path, text)).len(), count, "{path}: {text}")
    };
    check("crates/core/src/a.rs", "use std::fs;\n", 1);
    check("crates/core/src/a.rs", "// std::fs\n", 0);
    check("crates/core/src/a.rs", "#[cfg(test)]\nmod tests { use std::fs; }\n", 0);
    check("crates/core/tests/a.rs", "use std::fs;\n", 0);
    check("crates/gateway/src/a.rs", "use std::fs;\n", 0);
    check("crates/gateway/src/a.rs", "unsafe { x() }\n", 1);
    check("crates/engine/src/backend/llama.rs", "unsafe { x() }\n", 0);
    check("crates/cli/src/a.rs", "std::env::var(\"X\")\n", 1);
    check("crates/cli/src/a.rs", "#[ignore]\n", 1);
}
