//! The adapters that an engine lists, without the moments in which one takes the place of another: the former one is
//! gone by then, and the new one not there yet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long an adapter that was listed is believed to come back.
const BACK_WITHIN: Duration = Duration::from_secs(5);

/// What an engine listed last.
#[derive(Debug, Default)]
pub(super) struct Lists {
    listed: BTreeSet<String>,
    /// Those that are not in the list any more, and since when, in nanoseconds.
    missing: BTreeMap<String, u64>,
}

impl Lists {
    /// The adapters to ask it for, after one list more.
    pub(super) fn take(&mut self, now_nanos: u64, list: BTreeSet<String>) -> BTreeSet<String> {
        for gone in self.listed.difference(&list) {
            self.missing.entry(gone.clone()).or_insert(now_nanos);
        }
        let within = u64::try_from(BACK_WITHIN.as_nanos()).unwrap_or(u64::MAX);
        self.missing.retain(|name, since| {
            !list.contains(name) && now_nanos.saturating_sub(*since) < within
        });
        self.listed.clone_from(&list);
        list.into_iter().chain(self.missing.keys().cloned()).collect()
    }

    /// Whether the next list is of interest at once.
    pub(super) fn waits(&self) -> bool {
        !self.missing.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_that_is_missing_for_a_moment_is_still_asked_for() {
        let mut lists = Lists::default();
        let mut check = |second: u64, list: &str, expect: &str, waits: bool| {
            let names = |text: &str| text.split_whitespace().map(str::to_owned).collect();
            let told = lists.take(second * 1_000_000_000, names(list));
            assert_eq!(told, names(expect), "{second}");
            assert_eq!(lists.waits(), waits, "{second}");
        };
        check(0, "law sql", "law sql", false);
        check(5, "law", "law sql", true);
        check(6, "law", "law sql", true);
        check(7, "law sql", "law sql", false);
        check(12, "sql", "law sql", true);
        check(16, "sql", "law sql", true);
        check(17, "sql", "sql", false);
        check(22, "law", "law sql", true);
    }
}
