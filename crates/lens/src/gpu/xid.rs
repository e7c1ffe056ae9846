//! Counts errors that drivers report (XID), where only the last one of each accelerator is told.

use std::collections::{BTreeMap, BTreeSet};

use super::Reading;

/// Most codes of one accelerator: there are fewer in NVIDIA's list that a driver can report at all.
const CODES_MAX: usize = 64;

/// The errors of each accelerator, by its UUID and number.
#[derive(Clone, Debug, Default)]
pub struct Xids {
    seen: BTreeMap<(String, String), Seen>,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    last: u32,
    codes: BTreeMap<u32, u64>,
}

impl Xids {
    /// Takes a look in: another code than at the look before is an error. What an accelerator had at its first
    /// look was before that, and counts for nothing. Those that are gone are forgotten.
    pub fn look(&mut self, readings: &[Reading]) {
        let key = |one: &Reading| (one.uuid.clone(), one.gpu.clone());
        let there: BTreeSet<_> = readings.iter().map(key).collect();
        self.seen.retain(|key, _| there.contains(key));
        for reading in readings {
            let Some(code) = reading.last_xid else { continue };
            match self.seen.get_mut(&key(reading)) {
                None => drop(
                    self.seen.insert(key(reading), Seen { last: code, codes: BTreeMap::new() }),
                ),
                Some(seen) if seen.last == code => {}
                Some(seen) => {
                    seen.last = code;
                    seen.add(code);
                }
            }
        }
    }

    /// An error that was told by itself.
    pub fn happened(&mut self, uuid: &str, gpu: &str, code: u32) {
        self.seen.entry((uuid.to_owned(), gpu.to_owned())).or_default().add(code);
    }

    /// An accelerator of which errors will be told by themselves.
    pub fn watches(&mut self, uuid: &str, gpu: &str) {
        self.seen.entry((uuid.to_owned(), gpu.to_owned())).or_default();
    }

    /// How often each code came; none where nobody tells of errors.
    pub fn of(&self, reading: &Reading) -> Option<&BTreeMap<u32, u64>> {
        let seen = self.seen.get(&(reading.uuid.clone(), reading.gpu.clone()))?;
        Some(&seen.codes)
    }
}

impl Seen {
    fn add(&mut self, code: u32) {
        if code != 0 && (self.codes.len() < CODES_MAX || self.codes.contains_key(&code)) {
            *self.codes.entry(code).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_code_is_another_error() {
        let mut xids = Xids::default();
        let mut check = |codes: &[Option<u32>], expect: Option<&[(u32, u64)]>| {
            let mut last = Reading::default();
            for code in codes {
                last = Reading { last_xid: *code, uuid: "GPU-a".to_owned(), ..Reading::default() };
                xids.look(std::slice::from_ref(&last));
            }
            let found: Option<Vec<(u32, u64)>> = xids
                .of(&last)
                .map(|codes| codes.iter().map(|(code, count)| (*code, *count)).collect());
            assert_eq!(found.as_deref(), expect, "{codes:?}");
        };
        check(&[None], None);
        // It was there before anybody looked.
        check(&[Some(31), Some(31)], Some(&[]));
        check(&[Some(79)], Some(&[(79, 1)]));
        check(&[Some(0), Some(79)], Some(&[(79, 2)]));
        check(&[Some(48)], Some(&[(48, 1), (79, 2)]));
        xids.look(&[]);
        assert!(xids.of(&Reading { uuid: "GPU-a".to_owned(), ..Reading::default() }).is_none());
    }

    #[test]
    fn errors_that_are_told_count_at_once() {
        let mut xids = Xids::default();
        let reading = Reading { uuid: "u".to_owned(), gpu: "0".to_owned(), ..Reading::default() };
        xids.watches("u", "0");
        assert_eq!(xids.of(&reading).map(BTreeMap::len), Some(0));
        xids.happened("u", "0", 79);
        xids.happened("u", "0", 79);
        assert_eq!(xids.of(&reading).and_then(|codes| codes.get(&79)), Some(&2));
    }
}
