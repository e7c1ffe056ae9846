//! Releases of programs, as far as their order matters: the numbers, not what stands behind them.

use std::fmt;

use serde::{Serialize, Serializer};

/// Most numbers of a version: more than any project writes.
const PARTS_MAX: usize = 4;

/// A release: `0.10.2`, `v0.5.3.post1`, `b9093`. Suffixes (`rc1`, `.post1`, `+cpu`) are passed over, so that a
/// candidate counts as the release that it becomes.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Version {
    parts: [u32; PARTS_MAX],
    count: usize,
}

impl Version {
    /// Reads a version; none for a text that does not begin with a number, `v` or `b` aside.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix(['v', 'b']).unwrap_or(text);
        let mut version = Self { parts: [0; PARTS_MAX], count: 0 };
        for part in text.split('.').take(PARTS_MAX) {
            let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, rest) = part.split_at(digits);
            let Ok(number) = number.parse() else { break };
            *version.parts.get_mut(version.count)? = number;
            version.count += 1;
            if !rest.is_empty() {
                break;
            }
        }
        (version.count > 0).then_some(version)
    }

    /// The first number.
    pub const fn major(&self) -> u32 {
        self.parts[0]
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.parts.iter().take(self.count).enumerate() {
            let dot = if index == 0 { "" } else { "." };
            write!(f, "{dot}{part}")?;
        }
        Ok(())
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn versions_read_as_projects_write_them() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(Version::parse(text).map(|v| v.to_string()).as_deref(), expect, "{text}");
        };
        check("0.10.2", Some("0.10.2"));
        check("v0.5.3.post1", Some("0.5.3"));
        check("b9093", Some("9093"));
        check("0.11.0rc2+cu128", Some("0.11.0"));
        check(" 1.2 ", Some("1.2"));
        check("25.10", Some("25.10"));
        check("1.2.3.4.5", Some("1.2.3.4"));
        check("main", None);
        check("", None);
        check("99999999999", None);
    }

    #[test]
    fn a_later_release_is_greater() {
        let check = |earlier: &str, later: &str| {
            assert!(Version::parse(earlier) < Version::parse(later), "{earlier} {later}");
        };
        check("0.9.2", "0.10.0");
        check("0.10", "0.10.1");
        check("b999", "b1000");
        check("3.3.7", "4");
    }
}
