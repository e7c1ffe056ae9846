//! A link from one page to another leads somewhere.

use super::{Check, Finding};
use crate::repo::Repo;

pub(super) const CHECK: Check =
    Check { name: "links", rule: "relative links in Markdown lead to a file or folder", run };

fn run(repo: &Repo) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in repo.files.iter().filter(|file| file.path.ends_with(".md")) {
        for (at, line) in file.text.lines().enumerate() {
            for target in targets(line) {
                if !exists(repo, &resolve(&file.path, target)) {
                    let what = format!("the link to `{target}` leads nowhere");
                    found.push(Finding::at(&file.path, at + 1, what, "name what is there"));
                }
            }
        }
    }
    found
}

/// Targets of links that are relative, without the part after `#`.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let targets = targets.map(|target| target.split('#').next().unwrap_or_default());
    targets.filter(|target| !target.is_empty() && !target.contains(':'))
}

/// A target as a path from the root.
fn resolve(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn exists(repo: &Repo, path: &str) -> bool {
    let folder = format!("{path}/");
    repo.files.iter().any(|file| file.path == path || file.path.starts_with(&folder))
        || repo.others.iter().any(|other| other == path)
}

#[cfg(test)]
mod tests {
    use super::super::found;
    use super::*;

    #[test]
    fn a_link_to_nothing_is_found() {
        let check = |text: &str, expect: usize| {
            let files = [("docs/guide/a.md", text), ("docs/b.md", ""), ("crates/c/src/d.rs", "")];
            assert_eq!(found(&CHECK, &files).len(), expect, "{text}");
        };
        check("[b](../b.md) and [b](../b.md#part) and [here](#part)", 0);
        check("[c](../../crates/c) and [web](https://example.com/x)", 0);
        check("[b](b.md) and [e](../../crates/e)", 2);
    }

    #[test]
    fn pictures_are_there_too() {
        let text = Repo::of(&[("docs/a.md", "![a](images/a.png) and ![b](images/b.png)")]);
        let repo = Repo { others: vec!["docs/images/a.png".to_owned()], ..text };
        assert_eq!(run(&repo).len(), 1);
    }
}
