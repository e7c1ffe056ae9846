//! Which replicas are up in which seconds, as this gateway sees it. Other gateways see the same ones: what they see is
//! put together where it is stored, so that a second counts once.

use std::collections::BTreeMap;

use pilotage_lens::usage::{Entitlement, HOUR_SECONDS, Reading, digest, name};

use crate::ledger::Now;

/// The longest time that counts between two looks: a machine that slept was not up.
const GAP_SECONDS_MAX: u64 = 60;

/// By so much the clock of days may differ from the other one between two looks, before it counts as set.
const CLOCK_SECONDS: u64 = 2;

const NANOS: u64 = 1_000_000_000;

/// What readings are known by.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Key {
    /// The hour, since 1970.
    pub(crate) hour: u64,
    /// The Model.
    pub(crate) model: String,
    /// The replica, behind its fleet.
    pub(crate) replica: String,
}

/// What was seen in about a minute.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    /// Of who could count on what.
    pub(crate) digest: String,
    /// That list, where it was not told in this hour yet.
    pub(crate) entitled: Option<Entitlement>,
    /// Of each replica.
    pub(crate) readings: BTreeMap<Key, Reading>,
}

/// Counts.
#[derive(Debug)]
pub(crate) struct Meter {
    fleet: String,
    /// Until when it has counted: by the clock that only goes on, and by the one of days.
    nanos: u64,
    seconds: u64,
    /// The minute that is being counted.
    minute: u64,
    /// The list that was told last, and in which hour.
    told: (String, u64),
    seen: Seen,
}

impl Meter {
    /// One that counts from now on.
    pub(crate) fn new(nanos: u64, unix_ms: u64, fleet: &str) -> Self {
        let seconds = unix_ms / 1000;
        Self {
            fleet: fleet.to_owned(),
            nanos,
            seconds,
            minute: seconds / 60,
            told: (String::new(), 0),
            seen: Seen::default(),
        }
    }

    /// Counts what is up now for the time since the last look. What was seen, once a minute, and where who may count
    /// on what is another list than before.
    pub(crate) fn look(&mut self, nanos: u64, unix_ms: u64, now: &Now) -> Option<Seen> {
        let (from, until) = self.since(nanos, unix_ms);
        let hour = from / u64::from(HOUR_SECONDS);
        let digest = digest(&now.entitled);
        let (minute, is_other) = (from / 60, digest != self.seen.digest);
        let is_due = (minute != self.minute || is_other) && !self.seen.readings.is_empty();
        let ready = is_due.then(|| self.take());
        self.minute = minute;
        self.seen.digest.clone_from(&digest);
        if self.told != (digest.clone(), hour) {
            let entitled = now.entitled.clone();
            self.seen.entitled =
                Some(Entitlement { digest: digest.clone(), part: 0, hour, entitled });
            self.told = (digest, hour);
        }
        for replica in &now.replicas {
            let reading = Reading {
                replica: self.named(&replica.name),
                model: name(&replica.model).into_owned(),
                hardware: name(&replica.hardware).into_owned(),
                accelerators: replica.accelerators.max(1),
                micros_per_hour: replica.micros_per_hour,
                ..Reading::default()
            };
            self.mark(&reading, from, until);
        }
        ready
    }

    /// What was seen since it was taken last.
    pub(crate) fn take(&mut self) -> Seen {
        let digest = self.seen.digest.clone();
        std::mem::replace(&mut self.seen, Seen { digest, ..Seen::default() })
    }

    /// The seconds since the last look, since 1970. They follow each other without gap; where the clock was set, those
    /// before now count that there were.
    fn since(&mut self, nanos: u64, unix_ms: u64) -> (u64, u64) {
        let until = unix_ms / 1000;
        let gone = nanos.saturating_sub(self.nanos) / NANOS;
        let follows =
            until.checked_sub(self.seconds).is_some_and(|by| by.abs_diff(gone) <= CLOCK_SECONDS);
        let from = if follows { self.seconds } else { until.saturating_sub(gone) };
        (self.nanos, self.seconds) = (nanos, until);
        (from.max(until.saturating_sub(GAP_SECONDS_MAX)), until)
    }

    fn named(&self, replica: &str) -> String {
        match self.fleet.as_str() {
            "" => name(replica).into_owned(),
            fleet => name(&format!("{fleet}/{replica}")).into_owned(),
        }
    }

    /// Marks seconds, in each hour that has some of them.
    fn mark(&mut self, reading: &Reading, from: u64, until: u64) {
        let each = u64::from(HOUR_SECONDS);
        for hour in from / each..until.div_ceil(each) {
            let within = |second: u64| second.saturating_sub(hour * each).min(each) as u16;
            let key = Key { hour, model: reading.model.clone(), replica: reading.replica.clone() };
            let known = self.seen.readings.entry(key).or_default();
            let mut seconds = std::mem::take(&mut known.seconds);
            seconds.add(within(from), within(until));
            *known = Reading { seconds, ..reading.clone() };
        }
    }
}

#[cfg(test)]
mod tests {
    use pilotage_lens::usage::{Entitled, Replica};

    use super::*;

    /// A whole hour.
    const BEGIN: u64 = 1_800_000_000;

    fn now(names: &[&str]) -> Now {
        let replica = |name: &&str| Replica {
            name: (*name).to_owned(),
            model: "m".to_owned(),
            accelerators: 2,
            micros_per_hour: 1000,
            ..Replica::default()
        };
        Now { replicas: names.iter().map(replica).collect(), ..Now::default() }
    }

    /// Looks at these moments, by both clocks: what was seen, by replica and hour after the first.
    fn looks(meter: &mut Meter, at: &[(u64, u64)], now: &Now) -> Vec<(String, u64, String)> {
        let mut seen: Vec<Seen> = at
            .iter()
            .filter_map(|(up, clock)| {
                meter.look(up * NANOS + 300, (BEGIN + clock) * 1000 + 400, now)
            })
            .collect();
        seen.push(meter.take());
        let readings = seen.into_iter().flat_map(|seen| seen.readings);
        let first = BEGIN / 3600;
        readings
            .map(|(key, one)| (key.replica, key.hour - first, one.seconds.to_string()))
            .collect()
    }

    #[test]
    fn seconds_follow_each_other() {
        let check = |at: &[(u64, u64)], expect: &[(u64, &str)]| {
            let mut meter = Meter::new(0, BEGIN * 1000, "f");
            let got = looks(&mut meter, at, &now(&["r"]));
            let expect: Vec<_> = expect
                .iter()
                .map(|(hour, text)| ("f/r".to_owned(), *hour, (*text).to_owned()))
                .collect();
            assert_eq!(got, expect, "{at:?}");
        };
        check(&[(10, 10), (20, 20), (30, 30)], &[(0, "0-30")]);
        // A minute is told once it is over, and an hour's end is where it is.
        check(&[(50, 50), (70, 70), (80, 80)], &[(0, "0-70"), (0, "70-80")]);
        let end: Vec<(u64, u64)> = (1..=362).map(|n| (n * 10, n * 10)).collect();
        let mut meter = Meter::new(0, BEGIN * 1000, "");
        let told = looks(&mut meter, &end, &now(&["r"]));
        let second: Vec<_> = told.iter().filter(|(_, hour, _)| *hour == 1).collect();
        assert_eq!(second, [&("r".to_owned(), 1, "0-20".to_owned())]);
        // A machine that slept was not up, and no second counts twice where the clock is set back.
        check(&[(10, 10), (4000, 4000)], &[(0, "0-10"), (1, "340-400")]);
        check(&[(20, 20), (30, 10)], &[(0, "0-20")]);
        check(&[(20, 20), (30, 500)], &[(0, "0-20"), (0, "490-500")]);
    }

    #[test]
    fn a_list_is_told_once_an_hour_and_when_it_changes() {
        let mut meter = Meter::new(0, BEGIN * 1000, "");
        let mut now = now(&["r"]);
        let mut told = Vec::new();
        for second in (10..=7300).step_by(10) {
            if second == 3000 {
                now.entitled.push(Entitled { tenant: "a".to_owned(), guaranteed: 1, weight: 1 });
            }
            if let Some(seen) = meter.look(second * NANOS, (BEGIN + second) * 1000, &now) {
                assert!(!seen.digest.is_empty());
                told.extend(
                    seen.entitled.map(|list| (list.hour - BEGIN / 3600, list.entitled.len())),
                );
            }
        }
        assert_eq!(told, [(0, 0), (0, 1), (1, 1), (2, 1)]);
    }
}
