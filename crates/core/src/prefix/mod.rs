//! Which replica most likely has how much of a prompt in its KV cache: an index of what was sent
//! where, kept like the caches themselves.
//!
//! Engines keep the KV cache of prompts they have computed, block by block, and drop what was not
//! used for longest. Here each replica has a cache of the same size and the same order, of which only
//! the names of blocks are kept ([`blocks`]). A prompt is entered when it is *sent*: requests that
//! follow at once see it there, before any engine has reported anything. What engines report about
//! evictions, and the cached tokens in their answers, only correct it.
//!
//! Finding costs one look-up a block, whatever the number of replicas. Memory is bounded by
//! [`ENTRIES_MAX`].

pub mod blocks;
mod line;

use std::collections::BTreeMap;

use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::ReplicaId;
use line::Line;

/// Tokens of one block, as the index counts: [`blocks::BYTES`] at four bytes a token.
pub const BLOCK_TOKENS: u32 = 64;

/// Most blocks of all replicas together: about 40 bytes each.
pub const ENTRIES_MAX: usize = 1 << 20;

/// Blocks of a replica that does not say how much it holds; what llm-d's router assumes (31,250
/// blocks of 64 tokens) is more than most replicas have, and too large only costs wrong hopes.
const BLOCKS_DEFAULT: u32 = 8192;

/// Fewest blocks that a replica is believed to hold.
const BLOCKS_MIN: u32 = 16;

/// Of what left a cache here, at most one part in so many of the cache is taken for what its engine has
/// still to tell.
const UNTOLD_PART: u32 = 8;

/// Where a block lies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Tier {
    /// In the accelerator's memory.
    Device,
    /// In the host's, from where it is loaded.
    Host,
}

/// What a replica has of a prompt, from its begin.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Found {
    /// Blocks in the accelerator's memory.
    pub device: u32,
    /// Blocks among them that have to be loaded from the host's memory.
    pub host: u32,
    /// Blocks among them that requests in flight there use.
    pub used: u32,
}

impl Found {
    /// Blocks of either kind.
    pub const fn blocks(self) -> u32 {
        self.device + self.host
    }
}

/// All that is believed of all replicas' caches.
#[derive(Debug, Default)]
pub struct Index {
    blocks: Blocks,
    places: BTreeMap<ReplicaId, u16>,
    caches: Vec<Option<Cache>>,
}

/// Who has a block, by its name; names are hashes already.
#[derive(Debug, Default)]
struct Blocks(HashTable<(u64, Holders)>);

type Holders = SmallVec<[Holder; 2]>;

/// A replica that has a block.
#[derive(Clone, Copy, Debug)]
struct Holder {
    place: u16,
    tier: Tier,
    /// Which use of the block was the last.
    stamp: u32,
    /// Requests in flight that use it: it does not leave the cache.
    users: u32,
}

/// One replica's cache.
#[derive(Debug)]
struct Cache {
    device: Line,
    host: Line,
    clock: u32,
    /// Blocks of the prompts in flight, each as often as it is used, and once.
    uses: u64,
    used: u64,
    /// Tokens that nobody looks for and that fill no block yet.
    rest: u32,
    /// Whether the replica said how much it holds; else that is learnt.
    told: bool,
    /// Whether its answers tell how much they found.
    tells: bool,
    /// Blocks that left it here and of which no engine has said so yet.
    untold: u32,
}

impl Blocks {
    fn get(&self, name: u64) -> Option<&Holders> {
        self.0.find(name, |(other, _)| *other == name).map(|(_, holders)| holders)
    }

    fn get_mut(&mut self, name: u64) -> Option<&mut Holders> {
        self.0.find_mut(name, |(other, _)| *other == name).map(|(_, holders)| holders)
    }

    fn entry(&mut self, name: u64) -> &mut Holders {
        let is_it = |(other, _): &(u64, Holders)| *other == name;
        let entry = self.0.entry(name, is_it, |(name, _)| *name);
        &mut entry.or_insert_with(|| (name, Holders::new())).into_mut().1
    }

    /// A place has a block no more.
    fn drop_holder(&mut self, name: u64, place: u16) {
        if let Ok(mut found) = self.0.find_entry(name, |(other, _)| *other == name) {
            let holders = &mut found.get_mut().1;
            holders.retain(|holder| holder.place != place);
            if holders.is_empty() {
                found.remove();
            }
        }
    }
}

impl Index {
    /// A replica is there, with so many KV tokens; `u64::MAX` where nobody knows.
    pub fn add(&mut self, replica: ReplicaId, kv_tokens: u64) {
        let told = kv_tokens != u64::MAX;
        let most = kv_tokens / u64::from(BLOCK_TOKENS);
        let most = if told { u32::try_from(most).unwrap_or(u32::MAX) } else { BLOCKS_DEFAULT };
        let place = self.place(replica);
        let Some(slot) = self.caches.get_mut(usize::from(place)) else { return };
        let cache = slot.get_or_insert_with(|| Cache::new(told));
        cache.told = told;
        cache.device.most = most.max(BLOCKS_MIN);
        self.shrink();
    }

    /// A replica keeps what leaves its accelerator's memory, so many tokens of it.
    pub fn set_host_tokens(&mut self, replica: ReplicaId, tokens: u64) {
        let most = u32::try_from(tokens / u64::from(BLOCK_TOKENS)).unwrap_or(u32::MAX);
        if let Some(cache) = self.cache(replica) {
            cache.host.most = most;
        }
        self.shrink();
    }

    /// A replica's cache holds so many tokens in either memory, where that is known.
    pub fn resize(&mut self, replica: ReplicaId, device: Option<u64>, host: Option<u64>) {
        if let Some(tokens) = host {
            self.set_host_tokens(replica, tokens);
        }
        if let Some(tokens) = device.filter(|_| self.places.contains_key(&replica)) {
            self.add(replica, tokens);
        }
    }

    /// A replica is gone, and all it had.
    pub fn remove(&mut self, replica: ReplicaId) {
        self.clear(replica);
        if let Some(place) = self.places.remove(&replica)
            && let Some(slot) = self.caches.get_mut(usize::from(place))
        {
            *slot = None;
        }
    }

    /// A replica has dropped its cache.
    pub fn clear(&mut self, replica: ReplicaId) {
        let Some(place) = self.places.get(&replica).copied() else { return };
        let Some(Some(cache)) = self.caches.get_mut(usize::from(place)) else { return };
        let lines = [std::mem::take(&mut cache.device), std::mem::take(&mut cache.host)];
        (cache.device.most, cache.host.most) = (lines[0].most, lines[1].most);
        (cache.uses, cache.used, cache.untold) = (0, 0, 0);
        self.blocks.0.retain(|(_, holders)| {
            holders.retain(|holder| holder.place != place);
            !holders.is_empty()
        });
    }

    /// What each replica has of a prompt; those with nothing are not there.
    pub fn find(&self, prompt: &[u64]) -> Vec<(ReplicaId, Found)> {
        let mut found = vec![Found::default(); self.caches.len()];
        for (depth, name) in (0_u32..).zip(prompt) {
            let Some(holders) = self.blocks.get(*name) else { break };
            let mut any = false;
            for holder in holders {
                let one = &mut found[usize::from(holder.place)];
                if one.blocks() == depth {
                    any = true;
                    one.used += u32::from(holder.users > 0);
                    match holder.tier {
                        Tier::Device => one.device += 1,
                        Tier::Host => one.host += 1,
                    }
                }
            }
            if !any {
                break;
            }
        }
        let places = self.places.iter().map(|(id, place)| (*id, found[usize::from(*place)]));
        places.filter(|(_, found)| found.blocks() > 0).collect()
    }

    /// A prompt is sent to a replica: from now on that has it, and uses it until [`Self::release`].
    pub fn hold(&mut self, replica: ReplicaId, prompt: &[u64]) {
        let Some(place) = self.places.get(&replica).copied() else { return };
        let Some(Some(cache)) = self.caches.get_mut(usize::from(place)) else { return };
        for name in prompt {
            cache.uses += 1;
            let holder = cache.enter(self.blocks.entry(*name), place);
            cache.used += u64::from(holder.users == 0);
            holder.users += 1;
        }
        self.evict(place);
    }

    /// A request that had this prompt left a replica: what nobody else uses there may leave its cache
    /// some day. Its first blocks outlive its last, without which they are useful still.
    pub fn release(&mut self, replica: ReplicaId, prompt: &[u64]) {
        let Some(place) = self.places.get(&replica).copied() else { return };
        let Some(Some(cache)) = self.caches.get_mut(usize::from(place)) else { return };
        for name in prompt.iter().rev() {
            let holders = self.blocks.get_mut(*name);
            let mine = holders.and_then(|all| all.iter_mut().find(|one| one.place == place));
            // A cache that was dropped meanwhile has forgotten whom it served.
            let Some(holder) = mine.filter(|holder| holder.users > 0) else { continue };
            holder.users -= 1;
            cache.uses -= 1;
            if holder.users == 0 {
                cache.used -= 1;
                cache.clock = cache.clock.wrapping_add(1);
                holder.stamp = cache.clock;
                cache.device.uses_end(*name, cache.clock);
            }
        }
        self.evict(place);
    }

    /// KV tokens that prompts in flight at a replica share: counted with each of them, but there once.
    pub fn shared_tokens(&self, replica: ReplicaId) -> u64 {
        let place = self.places.get(&replica);
        let cache = place.and_then(|place| self.caches.get(usize::from(*place))?.as_ref());
        let blocks = cache.map_or(0, |cache| cache.uses.saturating_sub(cache.used));
        blocks * u64::from(BLOCK_TOKENS)
    }

    /// So many tokens more came to be in a replica's cache, answers mostly. Nobody looks for them, but
    /// they take place.
    pub fn fill(&mut self, replica: ReplicaId, tokens: u32) {
        let Some(place) = self.places.get(&replica).copied() else { return };
        let Some(Some(cache)) = self.caches.get_mut(usize::from(place)) else { return };
        let tokens = cache.rest.saturating_add(tokens);
        cache.rest = tokens % BLOCK_TOKENS;
        for _ in 0..tokens / BLOCK_TOKENS {
            cache.clock = cache.clock.wrapping_add(1);
            cache.device.push(line::NOBODY, cache.clock);
        }
        self.evict(place);
    }

    /// A replica found so many blocks where so many were expected: where it holds less than believed,
    /// its size is believed to be smaller.
    pub fn learn(&mut self, replica: ReplicaId, expected: u32, found: u32) {
        let Some(cache) = self.cache(replica).filter(|cache| !cache.told) else { return };
        cache.tells |= found > 0;
        if !cache.tells {
            return;
        }
        let most = cache.device.most;
        cache.device.most = if found + 1 < expected {
            (cache.device.held - cache.device.held / 8).clamp(BLOCKS_MIN, most)
        } else {
            most.saturating_add(found / 4).min(BLOCKS_DEFAULT * 16)
        };
        let place = self.places.get(&replica).copied();
        if let Some(place) = place {
            self.evict(place);
        }
    }

    /// A replica reported that it dropped so many tokens: those used least recently. What has left its
    /// cache here already is among them.
    pub fn evicted(&mut self, replica: ReplicaId, tokens: u64) {
        let Some(place) = self.places.get(&replica).copied() else { return };
        let blocks = u32::try_from(tokens / u64::from(BLOCK_TOKENS)).unwrap_or(u32::MAX);
        let Some(Some(cache)) = self.caches.get_mut(usize::from(place)) else { return };
        let known = cache.untold.min(blocks);
        cache.untold -= known;
        let most = cache.device.held.saturating_sub(blocks - known);
        self.evict_to(place, most);
    }

    /// Blocks of all replicas.
    pub fn len(&self) -> usize {
        let caches = self.caches.iter().flatten();
        caches.map(|cache| (cache.device.held + cache.host.held) as usize).sum()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn cache(&mut self, replica: ReplicaId) -> Option<&mut Cache> {
        let place = self.places.get(&replica)?;
        self.caches.get_mut(usize::from(*place))?.as_mut()
    }

    /// The place of a replica, a new one if it has none. Beyond the last place there is none: such
    /// replicas are served without an index.
    fn place(&mut self, replica: ReplicaId) -> u16 {
        if let Some(place) = self.places.get(&replica) {
            return *place;
        }
        let free = self.caches.iter().position(Option::is_none);
        let place = free.unwrap_or(self.caches.len());
        let Ok(place) = u16::try_from(place) else { return u16::MAX };
        if free.is_none() {
            self.caches.push(None);
        }
        self.places.insert(replica, place);
        place
    }

    /// Holds all caches to their part of what the index may hold.
    fn shrink(&mut self) {
        for place in 0..self.caches.len() {
            self.evict(u16::try_from(place).unwrap_or(u16::MAX));
        }
    }

    fn evict(&mut self, place: u16) {
        let part = ENTRIES_MAX / self.places.len().max(1);
        let part = u32::try_from(part).unwrap_or(u32::MAX);
        let Some(Some(cache)) = self.caches.get(usize::from(place)) else { return };
        let (held, most) = (cache.device.held, cache.device.most.min(part));
        self.evict_to(place, most);
        if let Some(Some(cache)) = self.caches.get_mut(usize::from(place)) {
            // Engines tell at once: what is older than a part of the cache is never told.
            let untold = cache.untold + (held - cache.device.held);
            cache.untold = untold.min(most / UNTOLD_PART);
        }
    }

    fn evict_to(&mut self, place: u16, most: u32) {
        let part = u32::try_from(ENTRIES_MAX / self.places.len().max(1)).unwrap_or(u32::MAX);
        let Some(Some(cache)) = self.caches.get_mut(usize::from(place)) else { return };
        let blocks = &mut self.blocks;
        let is_current = |blocks: &Blocks, name, stamp, tier| {
            let is_it = |holder: &Holder| {
                let current = holder.stamp == stamp && holder.tier == tier && holder.users == 0;
                holder.place == place && current
            };
            blocks.get(name).is_some_and(|holders| holders.iter().any(is_it))
        };
        while cache.device.held > most {
            let current = |name, stamp| is_current(blocks, name, stamp, Tier::Device);
            let Some((name, stamp)) = cache.device.pop(current) else { break };
            if name == line::NOBODY {
                continue;
            }
            if cache.host.most == 0 {
                blocks.drop_holder(name, place);
                continue;
            }
            let holders = blocks.get_mut(name);
            let mine =
                holders.and_then(|holders| holders.iter_mut().find(|one| one.place == place));
            if let Some(holder) = mine {
                holder.tier = Tier::Host;
            }
            cache.host.push(name, stamp);
        }
        while cache.host.held > cache.host.most.min(part) {
            let current = |name, stamp| is_current(blocks, name, stamp, Tier::Host);
            let Some((name, _)) = cache.host.pop(current) else { break };
            blocks.drop_holder(name, place);
        }
        let device = |name, stamp| is_current(blocks, name, stamp, Tier::Device);
        cache.device.tidy(device);
        let host = |name, stamp| is_current(blocks, name, stamp, Tier::Host);
        cache.host.tidy(host);
    }
}

impl Cache {
    fn new(told: bool) -> Self {
        let (device, host) = (Line::default(), Line::default());
        Self { device, host, clock: 0, uses: 0, used: 0, rest: 0, told, tells: false, untold: 0 }
    }

    /// A block is in the accelerator's memory from now on.
    fn enter<'a>(&mut self, holders: &'a mut Holders, place: u16) -> &'a mut Holder {
        let known = holders.iter().position(|holder| holder.place == place);
        let at = known.unwrap_or_else(|| {
            holders.push(Holder { place, tier: Tier::Host, stamp: 0, users: 0 });
            self.host.held += 1;
            holders.len() - 1
        });
        let holder = &mut holders[at];
        if holder.tier == Tier::Host {
            self.host.held -= 1;
            self.device.held += 1;
            holder.tier = Tier::Device;
        }
        holder
    }
}

#[cfg(test)]
mod tests;
