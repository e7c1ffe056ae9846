//! Responses that are kept, so that a later request can go on from them: in memory, for a while, and
//! bounded. Each tenant finds only its own.
//!
//! What several responses share, the turns of one conversation, is held and counted once. When there is
//! no room, the oldest response goes of the tenant that takes most of it: who keeps little loses
//! nothing to who keeps much.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use pilotage_core::TenantId;
use pilotage_shell::clock::Clock;
use serde_json::Value;

use crate::config::StoredLimits;

/// All responses that are kept.
#[derive(Debug)]
pub(crate) struct Store {
    inner: Mutex<Inner>,
    limits: StoredLimits,
    clock: Clock,
}

/// One request and its answer: the items that came in, and those that went out.
#[derive(Debug)]
pub(crate) struct Turn {
    input: Box<str>,
    output: Box<str>,
    room: Room,
}

#[derive(Debug, Default)]
struct Inner {
    shelves: BTreeMap<TenantId, Shelf>,
    /// Bytes of all of them.
    bytes: Arc<AtomicUsize>,
    entries: usize,
    next: u64,
}

/// One tenant's responses.
#[derive(Debug, Default)]
struct Shelf {
    places: HashMap<Box<str>, u64>,
    /// In the order in which they came.
    kept: BTreeMap<u64, Kept>,
    bytes: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Kept {
    id: Box<str>,
    at_nanos: u64,
    response: Arc<str>,
    /// The whole conversation; the last one is this response's own.
    turns: Vec<Arc<Turn>>,
    _room: Room,
}

/// Bytes that are counted for as long as they are held.
#[derive(Debug)]
struct Room {
    bytes: usize,
    all: Arc<AtomicUsize>,
    own: Arc<AtomicUsize>,
}

impl Store {
    pub(crate) fn new(limits: StoredLimits, clock: Clock) -> Self {
        Self { inner: Mutex::default(), limits, clock }
    }

    /// Keeps a response with its input items and what went before it.
    pub(crate) fn put(
        &self,
        tenant: TenantId,
        id: &str,
        response: &Value,
        input: &[Value],
        history: &[Arc<Turn>],
    ) {
        let now = self.clock.now_nanos();
        let text = response.to_string();
        let input = serde_json::to_string(input).unwrap_or_default();
        let output = response["output"].to_string();
        let mut inner = self.inner.lock();
        let all = Arc::clone(&inner.bytes);
        let own = Arc::clone(&inner.shelves.entry(tenant).or_default().bytes);
        let room = |bytes| Room::take(bytes, &all, &own);
        let turn = Turn {
            room: room(input.len() + output.len()),
            input: input.into(),
            output: output.into(),
        };
        let turns: Vec<Arc<Turn>> = history.iter().cloned().chain([Arc::new(turn)]).collect();
        let links = turns.len() * size_of::<Arc<Turn>>();
        let kept = Kept {
            id: id.into(),
            at_nanos: now,
            _room: room(text.len() + links + 2 * id.len()),
            response: text.into(),
            turns,
        };
        inner.insert(tenant, kept);
        inner.make_room(now, &self.limits);
    }

    /// A response as it was sent.
    pub(crate) fn response(&self, tenant: TenantId, id: &str) -> Option<Arc<str>> {
        self.find(tenant, id, |kept| Arc::clone(&kept.response))
    }

    /// The conversation up to a response, and with it.
    pub(crate) fn turns(&self, tenant: TenantId, id: &str) -> Option<Vec<Arc<Turn>>> {
        self.find(tenant, id, |kept| kept.turns.clone())
    }

    /// Forgets a response; says whether it was there. Those that went on from it keep what they
    /// share with it.
    pub(crate) fn delete(&self, tenant: TenantId, id: &str) -> bool {
        let found = self.find(tenant, id, |_| ()).is_some();
        let mut inner = self.inner.lock();
        let place = inner.shelves.get(&tenant).and_then(|shelf| shelf.places.get(id).copied());
        if let Some(place) = place {
            inner.remove(tenant, place);
        }
        found
    }

    fn find<T>(&self, tenant: TenantId, id: &str, look: impl FnOnce(&Kept) -> T) -> Option<T> {
        let now = self.clock.now_nanos();
        let inner = self.inner.lock();
        let shelf = inner.shelves.get(&tenant)?;
        let kept = shelf.kept.get(shelf.places.get(id)?)?;
        (!kept.is_old(now, &self.limits)).then(|| look(kept))
    }
}

impl Turn {
    /// All its items, in order.
    pub(crate) fn items(&self) -> Vec<Value> {
        let mut items = self.input();
        items.extend(serde_json::from_str::<Vec<Value>>(&self.output).unwrap_or_default());
        items
    }

    /// What came in.
    pub(crate) fn input(&self) -> Vec<Value> {
        debug_assert_eq!(self.room.bytes, self.input.len() + self.output.len());
        serde_json::from_str(&self.input).unwrap_or_default()
    }
}

impl Inner {
    fn insert(&mut self, tenant: TenantId, kept: Kept) {
        let place = self.next;
        self.next += 1;
        let shelf = self.shelves.entry(tenant).or_default();
        shelf.places.insert(kept.id.clone(), place);
        shelf.kept.insert(place, kept);
        self.entries += 1;
    }

    fn remove(&mut self, tenant: TenantId, place: u64) {
        let Some(shelf) = self.shelves.get_mut(&tenant) else { return };
        if let Some(kept) = shelf.kept.remove(&place) {
            shelf.places.remove(&kept.id);
            self.entries -= 1;
        }
        if shelf.kept.is_empty() {
            self.shelves.remove(&tenant);
        }
    }

    /// Lets go of what is too old, then of what is too much.
    fn make_room(&mut self, now: u64, limits: &StoredLimits) {
        let old = |shelf: &Shelf| {
            let old = shelf.kept.iter().take_while(|(_, kept)| kept.is_old(now, limits));
            old.map(|(place, _)| *place).collect::<Vec<u64>>()
        };
        let old: Vec<_> =
            self.shelves.iter().map(|(tenant, shelf)| (*tenant, old(shelf))).collect();
        for (tenant, places) in old {
            places.into_iter().for_each(|place| self.remove(tenant, place));
        }
        loop {
            let bytes = self.bytes.load(Ordering::Relaxed) > limits.bytes_max;
            if !bytes && self.entries <= limits.entries_max {
                return;
            }
            let taken = |shelf: &Shelf| {
                if bytes { shelf.bytes.load(Ordering::Relaxed) } else { shelf.kept.len() }
            };
            let most = self.shelves.iter().max_by_key(|(_, shelf)| taken(shelf));
            let oldest =
                most.and_then(|(tenant, shelf)| Some((*tenant, *shelf.kept.keys().next()?)));
            let Some((tenant, place)) = oldest else { return };
            self.remove(tenant, place);
        }
    }
}

impl Kept {
    fn is_old(&self, now: u64, limits: &StoredLimits) -> bool {
        u128::from(now.saturating_sub(self.at_nanos)) > limits.age_max.as_nanos()
    }
}

impl Room {
    fn take(bytes: usize, all: &Arc<AtomicUsize>, own: &Arc<AtomicUsize>) -> Self {
        all.fetch_add(bytes, Ordering::Relaxed);
        own.fetch_add(bytes, Ordering::Relaxed);
        Self { bytes, all: Arc::clone(all), own: Arc::clone(own) }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
        self.own.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const A: TenantId = TenantId(0);
    const B: TenantId = TenantId(1);

    fn store(entries_max: usize, bytes_max: usize) -> Store {
        let age_max = Duration::from_secs(3600);
        Store::new(StoredLimits { entries_max, bytes_max, age_max }, Clock::start())
    }

    fn put(store: &Store, tenant: TenantId, id: &str, after: Option<&str>) {
        let history = after.map(|after| store.turns(tenant, after).unwrap()).unwrap_or_default();
        let response = json!({"id": id, "output": [{"said": id}]});
        store.put(tenant, id, &response, &[json!({"asked": id})], &history);
    }

    fn bytes(store: &Store) -> usize {
        store.inner.lock().bytes.load(Ordering::Relaxed)
    }

    #[test]
    fn each_tenant_finds_its_own_with_all_that_went_before() {
        let store = store(10, 10_000);
        put(&store, A, "one", None);
        put(&store, A, "two", Some("one"));
        let items = |id: &str| -> Vec<Value> {
            store.turns(A, id).unwrap().iter().flat_map(|turn| turn.items()).collect()
        };
        let expect = [
            json!({"asked": "one"}),
            json!({"said": "one"}),
            json!({"asked": "two"}),
            json!({"said": "two"}),
        ];
        assert_eq!(items("two"), expect);
        assert!(store.response(A, "one").unwrap().contains("one"));
        assert!(store.response(B, "one").is_none());
        assert!(store.turns(B, "one").is_none());
        assert!(!store.delete(B, "one"));
        assert!(store.delete(A, "one"));
        assert!(!store.delete(A, "one"));
        assert_eq!(items("two"), expect, "what went on from it keeps it");
        assert!(store.delete(A, "two"));
        assert_eq!(bytes(&store), 0);
        assert!(store.inner.lock().shelves.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_old_is_gone() {
        let store = store(10, 10_000);
        put(&store, A, "one", None);
        tokio::time::advance(Duration::from_secs(3599)).await;
        assert!(store.response(A, "one").is_some());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(store.response(A, "one").is_none());
        put(&store, B, "two", None);
        assert_eq!(store.inner.lock().entries, 1, "and takes no room");
    }

    #[test]
    fn who_keeps_much_makes_room_for_who_keeps_little() {
        let store = store(5, 100_000);
        put(&store, B, "b", None);
        for number in 0..20 {
            put(&store, A, &format!("a{number}"), None);
        }
        assert!(store.response(B, "b").is_some());
        let left: Vec<u32> =
            (0..20).filter(|number| store.response(A, &format!("a{number}")).is_some()).collect();
        assert_eq!(left, [16, 17, 18, 19]);
    }

    proptest! {
        #[test]
        fn it_is_bounded_and_its_sums_are_right(
            steps in prop::collection::vec((0u32..3, 0u32..12, prop::option::of(0u32..12), any::<bool>()), 1..60),
        ) {
            let store = store(6, 2000);
            for (tenant, id, after, delete) in steps {
                let (tenant, id) = (TenantId(tenant), id.to_string());
                let after = after.map(|after| after.to_string());
                let after = after.filter(|after| store.turns(tenant, after).is_some());
                if delete || store.response(tenant, &id).is_some() {
                    store.delete(tenant, &id);
                } else {
                    put(&store, tenant, &id, after.as_deref());
                }
                let inner = store.inner.lock();
                let bytes = inner.bytes.load(Ordering::Relaxed);
                prop_assert!(inner.entries <= 6 && bytes <= 2000);
                let kept: usize = inner.shelves.values().map(|shelf| shelf.kept.len()).sum();
                let own: usize = inner.shelves.values().map(|shelf| shelf.bytes.load(Ordering::Relaxed)).sum();
                prop_assert_eq!((kept, own), (inner.entries, bytes));
                for shelf in inner.shelves.values() {
                    prop_assert_eq!(shelf.places.len(), shelf.kept.len());
                }
            }
        }
    }
}
