//! What operators wrote, by the server's own record: Leases, statuses, events and the Secret of all keys
//! are counted apart from the objects of Models.

use std::collections::BTreeMap;

use pilotage_cluster::record::Record;

/// What is about no single Model: it is written as the cluster goes on.
const APART: [&str; 2] = ["events", "pilotage-engine-keys"];
const STATUS: &str = "models/status";

/// Writes that are shown one by one.
const FEW: usize = 40;

/// Writes of each object, and how many were created.
type Counts<'a> = (BTreeMap<(&'a str, &'a str), u64>, u64);

/// Writes of operators.
pub(crate) struct Writes<'a> {
    all: Vec<&'a Record>,
}

impl<'a> Writes<'a> {
    pub(crate) fn of(records: &'a [Record]) -> Self {
        let wrote =
            |one: &&Record| one.user == "operator" && one.writes() && one.resource != "leases";
        Self { all: records.iter().filter(wrote).collect() }
    }

    pub(crate) fn count(&self) -> f64 {
        self.all.len() as f64
    }

    /// Resource, objects, writes.
    pub(crate) fn by_resource(&self) -> Vec<(String, u64, u64)> {
        let mut all: BTreeMap<&str, Counts<'_>> = BTreeMap::new();
        for one in &self.all {
            let (objects, made) = all.entry(&one.resource).or_default();
            if one.verb == "create" {
                *made += 1;
            } else {
                *objects.entry((&one.namespace, &one.name)).or_default() += 1;
            }
        }
        let row = |(resource, (objects, made)): (&str, Counts<'_>)| {
            (resource.to_owned(), objects.len() as u64 + made, objects.values().sum::<u64>() + made)
        };
        all.into_iter().map(row).collect()
    }

    /// Each write, where there are so few of them that one would look.
    pub(crate) fn few(&self) -> Vec<String> {
        if self.all.len() > FEW {
            return Vec::new();
        }
        let line = |one: &&Record| {
            let Record { verb, resource, namespace, name, status, .. } = one;
            format!("{verb} {resource} {namespace}/{name}: {status}")
        };
        self.all.iter().map(line).collect()
    }

    /// Objects of Models that were written.
    pub(crate) fn objects(&self) -> f64 {
        self.counts(is_object).len() as f64
    }

    pub(crate) fn most_of_one(&self) -> f64 {
        self.counts(is_object).into_values().max().unwrap_or_default() as f64
    }

    pub(crate) fn most_of_status(&self) -> f64 {
        self.counts(|one| one.resource == STATUS).into_values().max().unwrap_or_default() as f64
    }

    /// Those that were accepted and changed nothing.
    pub(crate) fn idle(&self) -> f64 {
        let idle = self.all.iter().filter(|one| one.status < 300 && !one.changed);
        idle.count() as f64
    }

    pub(crate) fn failed(&self) -> f64 {
        self.all.iter().filter(|one| one.status >= 300 || one.status == 0).count() as f64
    }

    fn counts(&self, holds: impl Fn(&Record) -> bool) -> BTreeMap<(&str, &str, &str), u64> {
        let mut all = BTreeMap::new();
        // What is created is another one each time, and its name is in no path.
        let named = self.all.iter().filter(|one| one.verb != "create" && holds(one));
        for one in named {
            *all.entry((&*one.resource, &*one.namespace, &*one.name)).or_default() += 1;
        }
        all
    }
}

fn is_object(one: &Record) -> bool {
    one.resource != STATUS && !APART.contains(&&*one.resource) && !APART.contains(&&*one.name)
}
