//! Exceptions that may only shrink: `xtask/ratchet.toml` names what is over a limit today and by how
//! much. Growing is refused, and so is keeping an entry that is no longer true.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;

use super::Finding;

const FILE: &str = "xtask/ratchet.toml";

/// Compares what was measured with what is allowed.
pub(super) fn check(root: &Path, over: &BTreeMap<String, usize>) -> anyhow::Result<Vec<Finding>> {
    let text = std::fs::read_to_string(root.join(FILE)).with_context(|| FILE)?;
    let allowed: BTreeMap<String, usize> = toml::from_str(&text).with_context(|| FILE)?;
    Ok(compare(&allowed, over))
}

fn compare(allowed: &BTreeMap<String, usize>, over: &BTreeMap<String, usize>) -> Vec<Finding> {
    let finding = |name: &str, what: String| Finding { file: name.to_owned(), line: 0, what };
    let grown = over.iter().filter_map(|(name, lines)| match allowed.get(name) {
        Some(limit) if lines > limit => {
            Some(finding(name, format!("grew from {limit} to {lines} lines; split it")))
        }
        Some(_) => None,
        None => Some(finding(name, format!("has {lines} lines; split it"))),
    });
    let stale = allowed.iter().filter_map(|(name, limit)| match over.get(name) {
        Some(lines) if lines < limit => {
            Some(finding(name, format!("shrank to {lines}; write that into {FILE}")))
        }
        Some(_) => None,
        None => Some(finding(name, format!("is within the limit; take it out of {FILE}"))),
    });
    grown.chain(stale).collect()
}

#[test]
fn entries_may_only_shrink() {
    let map = |entries: &[(&str, usize)]| {
        entries.iter().map(|(name, lines)| ((*name).to_owned(), *lines)).collect()
    };
    let check = |allowed: &[(&str, usize)], over: &[(&str, usize)], count: usize| {
        assert_eq!(compare(&map(allowed), &map(over)).len(), count, "{allowed:?} {over:?}");
    };
    check(&[], &[], 0);
    check(&[], &[("a", 80)], 1);
    check(&[("a", 80)], &[("a", 80)], 0);
    check(&[("a", 80)], &[("a", 81)], 1);
    check(&[("a", 80)], &[("a", 79)], 1);
    check(&[("a", 80)], &[], 1);
}
