//! Exceptions that may only shrink: what is over a limit is listed with its value, and the list
//! has to follow every change, so that a limit is never raised by accident and never forgotten.

use std::collections::BTreeMap;

use crate::tidy::Finding;

/// The file that holds the exceptions.
const PATH: &str = "xtask/ratchet.toml";

/// Sections, each with its exceptions and their values.
#[derive(Debug, Default)]
pub(crate) struct Ratchet(BTreeMap<String, BTreeMap<String, usize>>);

/// Something with a limit.
#[derive(Debug)]
pub(crate) struct Measured {
    /// What it is called in the ratchet.
    pub(crate) key: String,
    /// Its file.
    pub(crate) path: String,
    /// Where in it.
    pub(crate) line: usize,
    /// How much it is.
    pub(crate) value: usize,
}

impl Ratchet {
    /// Reads the exceptions.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        Ok(Self(toml::from_str(text)?))
    }

    /// Holds everything that was measured against one limit and the exceptions to it.
    pub(crate) fn hold(
        &self,
        section: &str,
        limit: usize,
        what: &str,
        measured: &[Measured],
    ) -> Vec<Finding> {
        let none = BTreeMap::new();
        let listed = self.0.get(section).unwrap_or(&none);
        let mut found = Vec::new();
        for Measured { key, path, line, value } in measured {
            let told = match listed.get(key) {
                Some(allowed) if value > allowed => {
                    format!("{value} {what}, {allowed} when it was listed in {PATH}")
                }
                None if *value > limit => format!("{value} {what}, at most {limit}"),
                _ => continue,
            };
            found.push(Finding::at(path, *line, told, "make it smaller"));
        }
        for (key, allowed) in listed {
            let value = measured.iter().find(|one| &one.key == key).map(|one| one.value);
            let fix = match value {
                Some(value) if value > limit && value < *allowed => format!("write {value}"),
                Some(value) if value > limit => continue,
                _ => "take it out".to_owned(),
            };
            let told = format!("`{key}` in [{section}] is better than listed ({allowed} {what})");
            found.push(Finding::of(PATH, told, fix));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_only_turns_one_way() {
        let check = |listed: &str, value: usize, expect: &[&str]| {
            let ratchet = Ratchet::parse(&format!("[lines]\n{listed}")).unwrap();
            let key = "a.rs".to_owned();
            let measured = [Measured { key, path: "a.rs".to_owned(), line: 1, value }];
            let found = ratchet.hold("lines", 10, "lines", &measured);
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!(found, expect, "{listed} {value}");
        };
        check("", 10, &[]);
        check("", 11, &["a.rs:1: 11 lines, at most 10 — make it smaller"]);
        check("\"a.rs\" = 12", 12, &[]);
        let grown =
            "a.rs:1: 13 lines, 12 when it was listed in xtask/ratchet.toml — make it smaller";
        check("\"a.rs\" = 12", 13, &[grown]);
        let better = "xtask/ratchet.toml: `a.rs` in [lines] is better than listed (12 lines)";
        check("\"a.rs\" = 12", 11, &[&format!("{better} — write 11")]);
        check("\"a.rs\" = 12", 10, &[&format!("{better} — take it out")]);
    }
}
