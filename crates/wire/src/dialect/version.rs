//! Versions of runtimes as they write them themselves: `0.11.2rc1.dev3+g123`, `v3.3.7`, `b4567`,
//! `0.6.0-dev`. Read leniently, because a version that cannot be read helps nobody, and ordered, because
//! what a runtime can do depends on what came before what.

use std::cmp::Ordering;
use std::fmt;

/// Longest version that is read.
pub const VERSION_LEN_MAX: usize = 64;

/// Most numbers of a version that count.
const NUMBERS_MAX: usize = 4;

/// A runtime's version. Two are equal when neither comes before the other, however they are written.
#[derive(Clone, Debug)]
pub struct Version {
    text: String,
    numbers: [u32; NUMBERS_MAX],
    stage: (Stage, u32),
    /// A build of what leads there: it comes just before.
    is_dev: bool,
}

/// How far a version is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Stage {
    Alpha,
    Beta,
    Candidate,
    Release,
    /// A correction of the release's packaging.
    Post,
}

/// The words for stages, the longer of two that begin alike first.
const STAGES: [(&str, Stage); 8] = [
    ("alpha", Stage::Alpha),
    ("beta", Stage::Beta),
    ("preview", Stage::Candidate),
    ("post", Stage::Post),
    ("pre", Stage::Candidate),
    ("rc", Stage::Candidate),
    ("a", Stage::Alpha),
    ("b", Stage::Beta),
];

impl Version {
    /// Reads a version; none where there is no number in the way of a version. What follows the part
    /// that is understood, such as the name of a distribution, is kept for people and does not count.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.len() > VERSION_LEN_MAX || text.chars().any(char::is_control) {
            return None;
        }
        let plain = text.strip_prefix(['v', 'V', 'b', 'B', 'r']).unwrap_or(text);
        let (numbers, count, mut rest) = numbers(plain)?;
        let end = |rest: &str| !rest.starts_with(|next: char| next.is_ascii_alphanumeric());
        // A commit's name may begin with digits and is no version.
        if count == 1 && plain.len() == text.len() && !end(rest) {
            return None;
        }
        let mut version =
            Self { text: text.to_owned(), numbers, stage: (Stage::Release, 0), is_dev: false };
        while let Some((word, number, after)) = suffix(rest).filter(|(.., after)| end(after)) {
            match word {
                Word::Dev => version.is_dev = true,
                Word::Stage(stage) => version.stage = (stage, number),
            }
            rest = after;
        }
        Some(version)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is that version, or a later one. What is compared with is a table's, and such that
    /// cannot be read are nobody's.
    pub fn is_at_least(&self, other: &str) -> bool {
        Self::parse(other).is_some_and(|other| *self >= other)
    }

    fn key(&self) -> (&[u32; NUMBERS_MAX], (Stage, u32), bool) {
        (&self.numbers, self.stage, !self.is_dev)
    }
}

enum Word {
    Stage(Stage),
    Dev,
}

/// The numbers that a version begins with, how many there are, and what follows.
fn numbers(mut text: &str) -> Option<([u32; NUMBERS_MAX], usize, &str)> {
    let mut numbers = [0; NUMBERS_MAX];
    let mut count = 0;
    loop {
        let (number, after) = number(text)?;
        if let Some(place) = numbers.get_mut(count) {
            *place = number;
        }
        count += 1;
        match after.strip_prefix('.') {
            Some(next) if next.starts_with(|first: char| first.is_ascii_digit()) => text = next,
            _ => return Some((numbers, count, after)),
        }
    }
}

/// The next word for a stage with its number.
fn suffix(text: &str) -> Option<(Word, u32, &str)> {
    let plain = text.strip_prefix(['.', '-', '_']).unwrap_or(text);
    let with_number =
        |after: &str| after.strip_prefix('.').map_or(0, |next| after.len() - next.len());
    let numbered = |word: Word, after: &'_ str| -> (Word, u32, usize) {
        let skip = with_number(after);
        match number(&after[skip..]) {
            Some((number, rest)) => (word, number, rest.len()),
            None => (word, 0, after.len()),
        }
    };
    let found = if let Some(after) = plain.strip_prefix("dev") {
        numbered(Word::Dev, after)
    } else {
        let (name, stage) = STAGES.iter().find(|(name, _)| plain.starts_with(name))?;
        numbered(Word::Stage(*stage), &plain[name.len()..])
    };
    let (word, number, left) = found;
    Some((word, number, &text[text.len() - left..]))
}

/// The number that a text begins with; one that is too large is the largest.
fn number(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|next: char| !next.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let add = |sum: u32, digit: u8| sum.saturating_mul(10).saturating_add(u32::from(digit - b'0'));
    (!digits.is_empty()).then(|| (digits.bytes().fold(0, add), rest))
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Version {}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    #[test]
    fn versions_are_ordered_as_they_came() {
        let rising = [
            "0.6.0-dev",
            "0.6.0",
            "0.9.2rc1",
            "0.9.2",
            "0.10",
            "0.11.2.dev7+g123",
            "0.11.2rc1.dev3+g123",
            "0.11.2rc1",
            "0.11.2rc2",
            "v0.11.2",
            "0.11.2.post1",
            "0.33.0-rc2",
            "0.33.0",
            "1.3.0rc20",
            "1.3.0",
            "v3.3.7",
            "b4567",
            "b8681-Debian",
        ];
        // A build of 0.11.2 that names no candidate may lead to any of them.
        let is_open = |text: &str| text.starts_with("0.11.2.dev");
        for pair in rising.windows(2).filter(|pair| !pair.iter().any(|text| is_open(text))) {
            assert!(version(pair[0]) < version(pair[1]), "{pair:?}");
        }
        assert!(version("0.11.2.dev7") < version("0.11.2"));
        assert!(version("0.11.1") < version("0.11.2.dev7"));
    }

    #[test]
    fn how_a_version_is_written_does_not_matter() {
        let check = |one: &str, other: &str| assert_eq!(version(one), version(other), "{one}");
        check("v3.3.7", "3.3.7");
        check("0.10", "0.10.0");
        check("0.33.0-rc2", "0.33.0rc2");
        check("0.32.0+cpu", "0.32.0");
        check("b4567", "4567");
        check(" 25.05 ", "25.5");
        check("99999999999999999999", "4294967295");
        assert_eq!(version("0.32.0+cpu").to_string(), "0.32.0+cpu");
        assert!(version("0.12.1").is_at_least("0.12.0") && !version("0.12.1").is_at_least("0.13"));
        assert!(!version("0.12.1").is_at_least("latest"));
    }

    #[test]
    fn what_is_no_version_is_none() {
        for text in ["", "latest", "main", "d8ebc8f", "1a2b3c4d", "v", "unknown", "\u{7}1.2"] {
            assert!(Version::parse(text).is_none(), "{text:?}");
        }
        assert!(Version::parse(&"1".repeat(65)).is_none());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(text in "\\PC{0,40}") {
            if let Some(read) = Version::parse(&text) {
                prop_assert_eq!(read.as_str(), text.trim());
            }
        }

        #[test]
        fn the_order_is_one(one in "[0-9]{1,2}(\\.[0-9]{1,2}){1,3}((a|rc|\\.post|\\.dev)[0-9])?",
                            other in "[0-9]{1,2}(\\.[0-9]{1,2}){1,3}((a|rc|\\.post|\\.dev)[0-9])?") {
            let (one, other) = (version(&one), version(&other));
            prop_assert_eq!(one.cmp(&other), other.cmp(&one).reverse());
            prop_assert_eq!(one == other, one.cmp(&other).is_eq());
        }
    }
}
