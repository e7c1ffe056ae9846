//! The API server: what a call does to what is stored, and what it is answered.
//!
//! Contract: no I/O and no clock. The time comes with each call, in milliseconds since 1970, and
//! equal calls at equal times give equal answers, names and ids included.

mod admit;
mod amend;
mod answer;
mod collect;
mod create;
mod define;
mod delete;
mod events;
mod quota;
mod read;
mod review;
mod route;
mod scale;
mod twin;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

pub use answer::{Answer, Payload};
pub use events::Stream;
pub(crate) use twin::told as told_as_twin;

use crate::api::call::{Call, Query, Target};
use crate::api::discover;
use crate::api::failure::Named;
use crate::api::kinds::{Kinds, Resource, ResourceId, Version};
use crate::fault::Faults;
use crate::record::Records;
use crate::store::{Key, Table};

/// What a cluster holds at most, and how it keeps time.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Changes of a kind's objects that watches can go back to.
    pub changes_max: usize,
    /// Calls that are remembered.
    pub records_max: usize,
    /// Bytes of a body.
    pub body_bytes_max: usize,
    /// Objects of a kind.
    pub objects_max: usize,
    /// Milliseconds between bookmarks.
    pub bookmark_every_ms: u64,
    /// Milliseconds that a watch lasts whose client says nothing.
    pub watch_ms: u64,
    /// Milliseconds after which the kind of a new definition is served.
    pub establish_ms: u64,
    /// Dependents go with their owners, and contents with their namespaces, within the call that
    /// ends these; otherwise when [`Cluster::collect`] is called.
    pub collects_at_once: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            changes_max: 10_000,
            records_max: 100_000,
            body_bytes_max: 3 * 1024 * 1024,
            objects_max: 100_000,
            bookmark_every_ms: 60_000,
            watch_ms: 30 * 60_000,
            establish_ms: 0,
            collects_at_once: true,
        }
    }
}

/// A cluster's API and all that it stores.
#[derive(Debug)]
pub struct Cluster {
    limits: Limits,
    kinds: Kinds,
    tables: Vec<Table>,
    /// The version of the newest change.
    revision: u64,
    by_uid: BTreeMap<Box<str>, Place>,
    /// Objects by the ids of their owners.
    dependents: BTreeMap<Box<str>, BTreeSet<Place>>,
    /// Objects whose owners, finalizers or contents have to be looked at.
    doubtful: BTreeSet<Place>,
    /// When definitions come to count, by their names.
    promised: BTreeSet<(u64, Box<str>)>,
    /// Ids and endings of names are drawn from it.
    drawn: u64,
    addresses: u64,
    faults: Faults,
    records: Records,
    judge: Option<Judge>,
    minor: u32,
    /// Watches that began before it are over.
    watches_since: u64,
    /// Watches that began before it break off.
    watches_broken: u64,
    watches: u64,
}

/// What is wrong with an object of a definition, by rules that its schema does not say: fields and why.
/// It is handed the kind and the object, and the object before.
pub type Judge = fn(&str, &Value, Option<&Value>) -> Vec<(String, String)>;

/// Where an object is.
type Place = (ResourceId, Key);

/// A call whose resource is known.
struct Ask<'a> {
    now_ms: u64,
    id: ResourceId,
    resource: std::sync::Arc<Resource>,
    version: usize,
    target: &'a Target,
    query: &'a Query,
    call: &'a Call,
    manager: String,
    dry_run: bool,
}

impl Ask<'_> {
    fn version(&self) -> &Version {
        &self.resource.versions[self.version]
    }

    fn api_version(&self) -> String {
        self.resource.api_version(self.version())
    }

    fn namespace(&self) -> &str {
        self.target.namespace.as_deref().unwrap_or_default()
    }

    fn name(&self) -> &str {
        self.target.name.as_deref().unwrap_or_default()
    }

    fn key(&self) -> Key {
        Key::of(self.namespace(), self.name())
    }

    fn named<'n>(&'n self, name: &'n str) -> Named<'n> {
        Named { group: &self.resource.group, plural: &self.resource.plural, name }
    }
}

impl Cluster {
    /// An empty cluster: the namespaces that every cluster has, and nothing in them. What it draws
    /// depends on `seed`.
    pub fn new(now_ms: u64, limits: Limits, seed: u64) -> Self {
        let kinds = Kinds::builtin();
        let count = kinds.iter().count();
        let mut cluster = Self {
            limits,
            kinds,
            tables: std::iter::repeat_with(Table::default).take(count).collect(),
            revision: 1,
            by_uid: BTreeMap::new(),
            dependents: BTreeMap::new(),
            doubtful: BTreeSet::new(),
            promised: BTreeSet::new(),
            drawn: seed,
            addresses: 0,
            faults: Faults::default(),
            records: Records::new(limits.records_max),
            judge: None,
            minor: discover::MINOR,
            watches_since: 0,
            watches_broken: 0,
            watches: 0,
        };
        for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            let body = json!({"metadata": {"name": name}});
            cluster.inside(now_ms, http::Method::POST, "/api/v1/namespaces", &body);
        }
        cluster
    }

    /// Faults to come: what is refused, delayed, lost.
    pub fn faults(&mut self) -> &mut Faults {
        &mut self.faults
    }

    /// Has the server say from now on that it is Kubernetes 1.`minor`. It goes on as before.
    pub const fn set_minor(&mut self, minor: u32) {
        self.minor = minor;
    }

    /// Has objects of definitions judged, as the rules (CEL) in their schemas would be, which are not
    /// evaluated here.
    pub fn judge_by(&mut self, judge: Judge) {
        self.judge = Some(judge);
    }

    /// What was asked, and what came of it.
    pub fn records(&mut self) -> &mut Records {
        &mut self.records
    }

    /// The version of the newest change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// How many objects of a resource there are; of an unknown one, none.
    pub fn count(&self, group: &str, plural: &str) -> usize {
        self.table(group, plural).map(Table::len).unwrap_or_default()
    }

    /// The objects of a resource.
    pub(crate) fn table(&self, group: &str, plural: &str) -> Option<&Table> {
        let (id, resource) = self.kinds.find(group, plural)?;
        self.tables.get(self.kinds.stored(id, resource))
    }

    /// Forgets all changes: watches and lists that go on from before are told 410.
    pub fn compact(&mut self) {
        let revision = self.revision;
        self.tables.iter_mut().for_each(|table| table.compact(revision));
    }

    /// Ends all watches: as servers do, or `broken`, as networks do.
    pub fn drop_watches(&mut self, broken: bool) {
        self.watches_since = self.watches;
        if broken {
            self.watches_broken = self.watches;
        }
    }

    /// The next number of the cluster's own sequence (splitmix64).
    fn draw(&mut self) -> u64 {
        self.drawn = self.drawn.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.drawn;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A new id, in the form of a random UUID.
    fn uid(&mut self) -> String {
        let (one, two) = (self.draw(), self.draw());
        let (a, b, c) = (one >> 32, one >> 16 & 0xffff, one & 0x0fff);
        let (d, e) = (two >> 48 & 0x3fff | 0x8000, two & 0xffff_ffff_ffff);
        format!("{a:08x}-{b:04x}-4{c:03x}-{d:04x}-{e:012x}")
    }

    /// The ending of a generated name: letters that make no words.
    fn ending(&mut self) -> String {
        const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
        let mut drawn = self.draw();
        let mut ending = String::new();
        for _ in 0..5 {
            ending.push(char::from(LETTERS[usize::try_from(drawn % 27).unwrap_or(0)]));
            drawn /= 27;
        }
        ending
    }
}
