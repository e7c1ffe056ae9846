//! Tests run, always and at once: none is switched off, none waits for the clock.

use super::{Check, Finding};
use crate::repo::{File, Repo};

pub(super) const CHECK: Check = Check {
    name: "test-habits",
    rule: "no `#[ignore]`, and no sleeping in tests but on a paused clock",
    run,
};

fn run(repo: &Repo) -> Vec<Finding> {
    repo.rust().flat_map(check).collect()
}

fn check(file: &File) -> Vec<Finding> {
    let mut found = Vec::new();
    let paused = file.rust.iter().any(|line| line.code.contains("start_paused"));
    for (at, code) in file.tests() {
        if code.trim_start().starts_with("#[ignore") {
            let fix = "make it run, or say at run time why it is skipped";
            found.push(Finding::at(&file.path, at, "a test that is switched off", fix));
        }
        let sleeps = code.contains("thread::sleep(") || (code.contains("time::sleep(") && !paused);
        if sleeps {
            let fix = "wait for what is awaited, or use `#[tokio::test(start_paused = true)]`";
            found.push(Finding::at(&file.path, at, "a test that sleeps", fix));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::found;
    use super::*;

    #[test]
    fn bad_habits_are_found() {
        let check = |path: &str, text: &str, expect: usize| {
            assert_eq!(found(&CHECK, &[(path, text)]).len(), expect, "{text}");
        };
        check("a/tests/b.rs", "#[test]\n#[ignore]\nfn f() {}", 1);
        check("a/tests/b.rs", "std::thread::sleep(x);", 1);
        check("a/src/b.rs", "tokio::time::sleep(x).await;", 0);
        check("a/src/b.rs", "#[cfg(test)]\nmod tests {\n tokio::time::sleep(x).await;\n}", 1);
        check(
            "a/tests/b.rs",
            "#[tokio::test(start_paused = true)]\ntokio::time::sleep(x).await;",
            0,
        );
    }
}
