//! Which seconds of an hour something was there: what several who looked saw of it, put together, counts once.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Seconds of an hour.
pub const HOUR_SECONDS: u16 = 3600;

/// Some seconds of an hour, as stretches in order that neither touch nor overlap; written as `0-60,120-180`.
///
/// Putting two together is commutative, associative and idempotent: who comes first, or twice, changes nothing.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Seconds {
    stretches: Vec<(u16, u16)>,
}

impl Seconds {
    /// Those from one up to another, without that.
    pub fn stretch(from: u16, until: u16) -> Self {
        let mut seconds = Self::default();
        seconds.add(from, until);
        seconds
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.stretches.iter().map(|(from, until)| u64::from(until - from)).sum()
    }

    /// Those as well, as far as an hour has them.
    pub fn add(&mut self, from: u16, until: u16) {
        let (mut from, mut until) = (from, until.min(HOUR_SECONDS));
        if from >= until {
            return;
        }
        let first = self.stretches.partition_point(|(_, end)| *end < from);
        let last = self.stretches.partition_point(|(begin, _)| *begin <= until);
        for (begin, end) in self.stretches.drain(first..last) {
            from = from.min(begin);
            until = until.max(end);
        }
        self.stretches.insert(first, (from, until));
    }

    /// All of others as well.
    pub fn add_all(&mut self, others: &Self) {
        others.stretches.iter().for_each(|(from, until)| self.add(*from, *until));
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (from, until)) in self.stretches.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            write!(f, "{from}-{until}")?;
        }
        Ok(())
    }
}

impl FromStr for Seconds {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "no seconds of an hour; they are written as `0-60,120-180`";
        let mut seconds = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (from, until) = part.split_once('-').ok_or(wrong)?;
            seconds.add(from.parse().map_err(|_| wrong)?, until.parse().map_err(|_| wrong)?);
        }
        Ok(seconds)
    }
}

impl TryFrom<String> for Seconds {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Seconds> for String {
    fn from(seconds: Seconds) -> Self {
        seconds.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn they_are_written_and_read() {
        let check = |text: &str, expect: Option<(&str, u64)>| {
            let got: Option<Seconds> = text.parse().ok();
            let got = got.map(|seconds| (seconds.to_string(), seconds.count()));
            assert_eq!(got, expect.map(|(text, count)| (text.to_owned(), count)), "{text}");
        };
        check("", Some(("", 0)));
        check("0-60,60-90,100-200", Some(("0-90,100-200", 190)));
        check("3590-9999", Some(("3590-3600", 10)));
        check("5-5,9-8", Some(("", 0)));
        check("5", None);
        check("a-b", None);
    }

    proptest! {
        #[test]
        fn together_they_are_what_a_list_of_them_would_be(
            parts in prop::collection::vec((0u16..3700, 0u16..400), 0..40),
            cut in 0usize..40,
        ) {
            let mut known = vec![false; HOUR_SECONDS.into()];
            let (mut one, mut other) = (Seconds::default(), Seconds::default());
            for (at, (from, len)) in parts.iter().enumerate() {
                let until = from + len;
                if at < cut { one.add(*from, until) } else { other.add(*from, until) }
                (*from..until.min(HOUR_SECONDS)).for_each(|second| known[usize::from(second)] = true);
            }
            let mut both = one.clone();
            both.add_all(&other);
            other.add_all(&one);
            prop_assert_eq!(&both, &other);
            prop_assert_eq!(both.count(), known.iter().filter(|known| **known).count() as u64);
            prop_assert_eq!(both.to_string().parse::<Seconds>().unwrap(), both);
        }
    }
}
