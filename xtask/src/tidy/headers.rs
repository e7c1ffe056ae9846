//! Every file opens with what it is there for.

use super::{Finding, Source};

/// A file without a `//!` header.
pub(super) fn check(source: &Source) -> Vec<Finding> {
    let first = source.text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!"));
    if first.is_some_and(|line| line.starts_with("//!")) {
        return Vec::new();
    }
    vec![
        source.finding(
            1,
            "no header; open the file with `//!` and one sentence an outsider understands",
        ),
    ]
}

#[test]
fn files_without_a_header_are_found() {
    use super::source;
    assert!(check(&source("a.rs", "//! Why.\nfn a() {}\n")).is_empty());
    assert_eq!(check(&source("a.rs", "fn a() {}\n")).len(), 1);
    assert_eq!(check(&source("a.rs", "")).len(), 1);
}
