//! Fair order among tenants: a virtual counter of received service at every node of the tree, and
//! at every level the child that received least goes next.
//!
//! This is the Virtual Token Counter (Sheng et al., OSDI 2024, algorithm 2) made hierarchical: a
//! charge is added, divided by the node's weight, along the whole path from the tenant to the root.
//! A child that gets work after it had none is *lifted* to the smallest counter of its waiting
//! siblings, or where none waits to that of the sibling that left last, so that nobody hoards
//! credit while idle. The second half of that rule is what keeps waiting siblings' counters within
//! [`super::Cost::gap_bound`].
//!
//! Each band has counters of its own, and each node two: what it received within its guarantee, for
//! the size of that, and what it borrowed, for its weight. So guarantees cost nothing of what is
//! shared, and where places run out before tokens they are served in turns.

mod disorder;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Lift;
use super::share::{Class, Limits};
use super::tree::{TenantShare, TenantTree, WEIGHT_ONE};
use crate::{Band, RequestId, TenantId};

/// A node's place in the arena.
pub(super) type Slot = u32;

/// The root's place.
pub(super) const ROOT: Slot = 0;

/// Tenants outside the tree that get a node of their own; all others share one.
const STRANGERS_MAX: usize = 4096;

/// Whom those share theirs with. Not a tenant's id: ids are places in a list.
const CROWD: TenantId = TenantId(u32::MAX - 1);

/// Orders among the children of a node, and counters of a child.
const ORDERS: usize = 2;

/// Which of them is by borrowed service.
const BORROWING: usize = Class::Borrowing as usize;

/// Counters have this many binary places, so that charges of heavy tenants do not round to nothing.
const FRACTION_BITS: u32 = 20;

/// One node: a tenant, or a tenant's own requests beside those of its children.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) tenant: TenantId,
    /// Whether it stands for an inner tenant's own requests.
    pub(super) own: bool,
    /// Whether its counters were not taken over.
    fresh: bool,
    pub(super) parent: Slot,
    pub(super) weight: u64,
    /// What the limits are made from; none when it has neither guarantee nor limit.
    share: Option<TenantShare>,
    pub(super) limits: Limits,
    /// KV tokens in flight, of all below.
    pub(super) usage: u64,
    /// Tokens that must stay free for this node and those below, because it does not lend them.
    pub(super) held: u64,
    /// The same, summed over its children.
    pub(super) children_held: u64,
    lanes: [Lane; Band::ALL.len()],
}

/// A node's part in one band.
#[derive(Debug, Default)]
struct Lane {
    /// Service received within the guarantee, and borrowed.
    counters: [u128; ORDERS],
    /// Waiting requests, of all below.
    queued: u32,
    /// Their estimated cost.
    backlog: u64,
    /// Weights of the children that wait.
    active_weight: u64,
    /// In which of the parent's orders it is.
    place: Option<Class>,
    /// The children that wait within their guarantees, and those that borrow.
    orders: [Order; ORDERS],
    /// Requests of a leaf in the order of arrival. One whose sequence number is not its ticket's was
    /// taken out.
    line: VecDeque<(RequestId, u64)>,
}

/// Waiting children by what they received.
#[derive(Debug, Default)]
struct Order {
    children: BTreeSet<(u128, Slot)>,
    /// The child that was the last to leave.
    last_left: Option<Slot>,
    /// The least that an idle child is lifted to.
    floor: u128,
}

/// All nodes.
#[derive(Debug)]
pub(super) struct Fair {
    pub(super) nodes: Vec<Node>,
    leaves: BTreeMap<TenantId, Slot>,
    strangers: usize,
    pub(super) capacity: u64,
    /// Whether any node has a guarantee or a limit; without, much need not be computed.
    shares: bool,
}

impl Fair {
    pub(super) fn new(tree: &TenantTree, capacity: u64) -> Self {
        let mut fair = Self {
            nodes: vec![Node::new(TenantId(u32::MAX), ROOT, u64::from(WEIGHT_ONE), Limits::FREE)],
            leaves: BTreeMap::new(),
            strangers: 0,
            capacity,
            shares: false,
        };
        let mut slots: BTreeMap<TenantId, Slot> = BTreeMap::new();
        for tenant in tree.iter() {
            // Parents first, however the ids are ordered.
            let path: Vec<TenantId> = tree.path(tenant.id).collect();
            for id in path.into_iter().rev() {
                let Some(share) = tree.get(id).filter(|_| !slots.contains_key(&id)) else {
                    continue;
                };
                let parent = share.parent.and_then(|parent| slots.get(&parent)).copied();
                let has_share = share.guaranteed > 0 || share.borrowing_limit.is_some();
                fair.shares |= has_share;
                let limits = Limits::of(share, capacity);
                let node = Node::new(id, parent.unwrap_or(ROOT), u64::from(share.weight), limits);
                let slot = fair.add(Node { share: has_share.then_some(*share), ..node });
                slots.insert(id, slot);
                fair.leaves.insert(id, slot);
            }
        }
        for (id, slot) in slots.into_iter().filter(|(id, _)| tree.is_parent(*id)) {
            let node = Node::new(id, slot, u64::from(WEIGHT_ONE), Limits::FREE);
            let own = fair.add(Node { own: true, ..node });
            fair.leaves.insert(id, own);
        }
        fair.hold_all();
        fair
    }

    /// Takes over the counters of the nodes that were there before, for the same tenants at the same
    /// places. Whoever is new, or moved, begins like one that was idle.
    pub(super) fn adopt(&mut self, before: &Self) {
        let old: BTreeMap<_, Slot> =
            (0..).zip(&before.nodes).map(|(at, node)| (node.key(before), at)).collect();
        let keys: Vec<_> = self.nodes.iter().map(|node| node.key(self)).collect();
        let new: BTreeMap<Slot, Slot> =
            (0..).zip(&keys).filter_map(|(at, key)| Some((*old.get(key)?, at))).collect();
        for (from, to) in &new {
            let old = before.node(*from);
            let node = self.node_mut(*to);
            node.fresh = false;
            for (lane, old) in node.lanes.iter_mut().zip(&old.lanes) {
                lane.counters = old.counters;
            }
            for band in Band::ALL {
                for at in 0..ORDERS {
                    let order = &before.lane(*from, band).orders[at];
                    let floor = before.last_mark(order, band, at);
                    let last_left = order.last_left.and_then(|child| new.get(&child)).copied();
                    let mine = &mut self.lane_mut(*to, band).orders[at];
                    (mine.floor, mine.last_left) = (floor, last_left);
                }
            }
        }
    }

    /// What an idle child is lifted to where none of its siblings waits.
    fn last_mark(&self, order: &Order, band: Band, at: usize) -> u128 {
        let left = order.last_left.map_or(0, |last| self.lane(last, band).counters[at]);
        left.max(order.floor)
    }

    /// Whether any node between a leaf and the root was not there before.
    pub(super) fn is_fresh(&self, leaf: Slot) -> bool {
        self.path(leaf).any(|slot| self.node(slot).fresh)
    }

    /// Where a tenant's requests wait. A tenant outside the tree is its own organisation.
    pub(super) fn leaf(&mut self, tenant: TenantId) -> Slot {
        if let Some(slot) = self.leaves.get(&tenant) {
            return *slot;
        }
        let tenant = if self.strangers < STRANGERS_MAX { tenant } else { CROWD };
        if let Some(slot) = self.leaves.get(&tenant) {
            return *slot;
        }
        self.strangers += 1;
        let slot = self.add(Node::new(tenant, ROOT, u64::from(WEIGHT_ONE), Limits::FREE));
        self.leaves.insert(tenant, slot);
        slot
    }

    /// A tenant's leaf, if it has one, or will share one with others outside the tree.
    pub(super) fn find(&self, tenant: TenantId) -> Option<Slot> {
        let crowd = || self.leaves.get(&CROWD).filter(|_| self.strangers >= STRANGERS_MAX);
        self.leaves.get(&tenant).or_else(crowd).copied()
    }

    fn add(&mut self, node: Node) -> Slot {
        let slot = Slot::try_from(self.nodes.len()).unwrap_or(Slot::MAX);
        self.nodes.push(node);
        slot
    }

    pub(super) fn node(&self, slot: Slot) -> &Node {
        &self.nodes[slot as usize]
    }

    pub(super) fn node_mut(&mut self, slot: Slot) -> &mut Node {
        &mut self.nodes[slot as usize]
    }

    fn lane(&self, slot: Slot, band: Band) -> &Lane {
        &self.nodes[slot as usize].lanes[band as usize]
    }

    fn lane_mut(&mut self, slot: Slot, band: Band) -> &mut Lane {
        &mut self.nodes[slot as usize].lanes[band as usize]
    }

    /// The nodes from a leaf up to, and without, the root.
    pub(super) fn path(&self, leaf: Slot) -> impl Iterator<Item = Slot> + use<> {
        let mut path = [ROOT; super::tree::DEPTH_MAX + 2];
        let (mut at, mut count) = (leaf, 0);
        while at != ROOT && count < path.len() {
            path[count] = at;
            count += 1;
            at = self.node(at).parent;
        }
        path.into_iter().take(count)
    }

    /// A request gets in line, at its end or at its front.
    pub(super) fn enter(&mut self, leaf: Slot, band: Band, entry: (RequestId, u64), place: Entry) {
        let lane = self.lane_mut(leaf, band);
        if place.front {
            lane.line.push_front(entry);
        } else {
            lane.line.push_back(entry);
        }
        for slot in self.path(leaf) {
            let lane = self.lane_mut(slot, band);
            lane.queued += 1;
            lane.backlog = lane.backlog.saturating_add(place.cost);
            if lane.queued == 1 {
                let weight = self.node(slot).weight;
                let parent = self.node(slot).parent;
                self.lane_mut(parent, band).active_weight += weight;
                let class = self.class(slot);
                self.put(slot, band, Some(class), place.lift);
            }
        }
        let root = self.lane_mut(ROOT, band);
        root.queued += 1;
        root.backlog = root.backlog.saturating_add(place.cost);
    }

    /// A request left the line. Its entry stays until it comes to the front.
    pub(super) fn leave(&mut self, leaf: Slot, band: Band, cost: u64) {
        for slot in self.path(leaf) {
            let lane = self.lane_mut(slot, band);
            lane.queued -= 1;
            lane.backlog = lane.backlog.saturating_sub(cost);
            if lane.queued == 0 {
                let weight = self.node(slot).weight;
                let parent = self.node(slot).parent;
                self.lane_mut(parent, band).active_weight -= weight;
                self.put(slot, band, None, Lift::Off);
            }
        }
        let root = self.lane_mut(ROOT, band);
        root.queued -= 1;
        root.backlog = root.backlog.saturating_sub(cost);
    }

    /// The leaf whose turn it is in a band; none when nobody waits who may be served.
    pub(super) fn next(&self, band: Band) -> Option<Slot> {
        self.first(ROOT, band)
    }

    /// The first leaf below a node that may be served. A child all of whose children are over their
    /// limits has none, and is passed over.
    fn first(&self, at: Slot, band: Band) -> Option<Slot> {
        let lane = self.lane(at, band);
        if at != ROOT && !lane.line.is_empty() {
            return (lane.queued > 0).then_some(at);
        }
        let children = lane.orders.iter().flat_map(|order| &order.children);
        children.map(|(_, child)| *child).find_map(|child| self.first(child, band))
    }

    /// The leaves whose counters are, at every level, within `quantum` of the one whose turn it is;
    /// at most `most`, and that one first.
    pub(super) fn near(&self, band: Band, quantum: u64, most: usize) -> Vec<Slot> {
        let mut found = Vec::new();
        self.collect(ROOT, band, scaled(quantum, WEIGHT_ONE.into()), most, &mut found);
        found
    }

    fn collect(&self, at: Slot, band: Band, quantum: u128, most: usize, found: &mut Vec<Slot>) {
        let lane = self.lane(at, band);
        if at != ROOT && !lane.line.is_empty() {
            if lane.queued > 0 {
                found.push(at);
            }
            return;
        }
        // The first order with somebody who may be served, from the first of these on.
        let open = |child: Slot| self.first(child, band).is_some();
        for order in &lane.orders {
            let mut served = order.children.iter().filter(|(_, child)| open(*child)).peekable();
            let Some((first, _)) = served.peek() else { continue };
            let most_served = first.saturating_add(quantum);
            for (_, child) in served.take_while(|(counter, _)| *counter <= most_served) {
                if found.len() >= most {
                    return;
                }
                self.collect(*child, band, quantum, most, found);
            }
            return;
        }
    }

    /// A leaf's requests in the order of arrival, left ones among them.
    pub(super) fn line(&self, leaf: Slot, band: Band) -> &VecDeque<(RequestId, u64)> {
        &self.lane(leaf, band).line
    }

    /// Drops entries that `is_gone` from the front, and all of them when they are the most.
    pub(super) fn tidy(
        &mut self,
        leaf: Slot,
        band: Band,
        is_gone: impl Fn(&(RequestId, u64)) -> bool,
    ) {
        let lane = self.lane_mut(leaf, band);
        // As long as the line is as long as it should be, nobody in it is gone.
        let queued = lane.queued as usize;
        while lane.line.len() > queued && lane.line.front().is_some_and(&is_gone) {
            lane.line.pop_front();
        }
        if lane.line.len() > 2 * queued + 16 {
            lane.line.retain(|entry| !is_gone(entry));
        }
        if lane.line.is_empty() {
            lane.line.shrink_to(4);
        }
    }

    /// Adds service to every counter of a path.
    pub(super) fn charge(&mut self, leaf: Slot, band: Band, cost: u64) {
        self.change(leaf, band, cost, |counter, by| counter.saturating_add(by));
    }

    /// Takes back service that was charged in advance and not given.
    pub(super) fn refund(&mut self, leaf: Slot, band: Band, cost: u64) {
        self.change(leaf, band, cost, |counter, by| counter.saturating_sub(by));
    }

    fn change(&mut self, leaf: Slot, band: Band, cost: u64, apply: impl Fn(u128, u128) -> u128) {
        if cost == 0 {
            return;
        }
        for slot in self.path(leaf) {
            let node = self.node_mut(slot);
            let (by, parent) = (node.parts(cost), node.parent);
            let lane = &mut node.lanes[band as usize];
            let (before, at) = (lane.counters, lane.place.and_then(Class::order));
            for (counter, by) in lane.counters.iter_mut().zip(by) {
                *counter = apply(*counter, by);
            }
            let after = lane.counters;
            if let Some(at) = at.filter(|at| before[*at] != after[*at]) {
                let siblings = &mut self.lane_mut(parent, band).orders[at].children;
                siblings.remove(&(before[at], slot));
                siblings.insert((after[at], slot));
            }
        }
    }

    /// Tokens in flight changed below a node's leaf.
    pub(super) fn occupy(&mut self, leaf: Slot, change: impl Fn(u64) -> u64) {
        let path = self.path(leaf);
        for slot in path {
            let before = self.class(slot);
            let node = self.node_mut(slot);
            node.usage = change(node.usage);
            if self.shares {
                self.hold(slot);
            }
            if self.class(slot) != before {
                self.reclassify(slot);
            }
        }
    }

    /// The capacity changed, and with it what the shares amount to.
    pub(super) fn resize(&mut self, capacity: u64) {
        self.capacity = capacity;
        if !self.shares {
            return;
        }
        for node in &mut self.nodes {
            node.limits = node.share.map_or(Limits::FREE, |share| Limits::of(&share, capacity));
        }
        self.hold_all();
        for slot in 1..self.nodes.len() {
            self.reclassify(Slot::try_from(slot).unwrap_or(Slot::MAX));
        }
    }

    fn reclassify(&mut self, slot: Slot) {
        let class = self.class(slot);
        for band in Band::ALL {
            if self.lane(slot, band).place.is_some_and(|place| place != class) {
                self.put(slot, band, Some(class), Lift::Full);
            }
        }
    }

    fn class(&self, slot: Slot) -> Class {
        let node = self.node(slot);
        node.limits.class(node.usage)
    }

    /// Moves a child among its parent's orders; into the one it comes to it is lifted.
    fn put(&mut self, slot: Slot, band: Band, to: Option<Class>, lift: Lift) {
        let parent = self.node(slot).parent;
        let child = self.lane_mut(slot, band);
        let (counters, from) = (child.counters, child.place);
        child.place = to;
        if let Some(at) = from.and_then(Class::order) {
            let order = &mut self.lane_mut(parent, band).orders[at];
            order.children.remove(&(counters[at], slot));
            order.last_left = Some(slot);
        }
        let Some(at) = to.and_then(Class::order) else { return };
        let mut counter = counters[at];
        if lift != Lift::Off {
            let order = &self.lane(parent, band).orders[at];
            let smallest = order.children.first().map(|(counter, _)| *counter);
            let left = if lift == Lift::Full { self.last_mark(order, band, at) } else { 0 };
            counter = counter.max(smallest.unwrap_or(left));
            self.lane_mut(slot, band).counters[at] = counter;
        }
        self.lane_mut(parent, band).orders[at].children.insert((counter, slot));
    }

    /// A node's children for which anybody waits.
    pub(super) fn children(&self, parent: Slot) -> impl Iterator<Item = Slot> {
        let waits = |slot: &Slot| Band::ALL.into_iter().any(|band| self.queued(*slot, band) > 0);
        let all = (0..).zip(&self.nodes).skip(1).filter(move |(_, node)| node.parent == parent);
        all.map(|(slot, _)| slot).filter(waits)
    }

    /// Requests waiting in a band, in all or at one node.
    pub(super) fn queued(&self, slot: Slot, band: Band) -> u32 {
        self.lane(slot, band).queued
    }

    /// Estimated cost of what waits at a node and below.
    pub(super) fn backlog(&self, slot: Slot, band: Band) -> u64 {
        self.lane(slot, band).backlog
    }

    /// The part of a band's service that a leaf has a right to while all that wait now wait: the
    /// product of its weights against those of the waiting siblings.
    pub(super) fn part(&self, leaf: Slot, band: Band) -> f64 {
        self.path(leaf).fold(1.0, |part, slot| {
            let node = self.node(slot);
            let among = self.lane(node.parent, band).active_weight;
            let own = if node.lanes[band as usize].queued == 0 { node.weight } else { 0 };
            part * node.weight as f64 / (among + own).max(1) as f64
        })
    }

    /// A node's counter of borrowed service in a band, in thousandths of a weighted token for weight one.
    pub(super) fn counter(&self, slot: Slot, band: Band) -> u128 {
        self.lane(slot, band).counters[BORROWING] >> FRACTION_BITS
    }

    /// The largest difference of counters among waiting siblings that share by weight, at any node,
    /// in thousandths of a weighted token for weight one.
    pub(super) fn gap(&self, band: Band) -> u128 {
        let gap = |node: &Node| {
            let set = &node.lanes[band as usize].orders[BORROWING].children;
            Some((set.last()?.0 - set.first()?.0) >> FRACTION_BITS)
        };
        self.nodes.iter().filter_map(gap).max().unwrap_or(0)
    }
}

/// How a request gets in line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) front: bool,
    /// How idle nodes are lifted: not at all when a queue is made again from its parts.
    pub(super) lift: Lift,
    pub(super) cost: u64,
}

impl Node {
    fn new(tenant: TenantId, parent: Slot, weight: u64, limits: Limits) -> Self {
        let lanes = Default::default();
        Self {
            tenant,
            own: false,
            fresh: true,
            parent,
            weight,
            share: None,
            limits,
            usage: 0,
            held: 0,
            children_held: 0,
            lanes,
        }
    }

    /// What makes it the same node in another tree.
    fn key(&self, fair: &Fair) -> (TenantId, bool, TenantId) {
        (self.tenant, self.own, fair.node(self.parent).tenant)
    }

    /// What a charge adds to either counter: it is for borrowed use as far as the node's use is.
    fn parts(&self, cost: u64) -> [u128; ORDERS] {
        let guaranteed = self.share.map_or(0, |share| u64::from(share.guaranteed));
        if self.limits.nominal == 0 || guaranteed == 0 {
            return [0, scaled(cost, self.weight)];
        }
        let borrowed = u128::from(self.usage.saturating_sub(self.limits.nominal));
        let part = u128::from(cost) * borrowed / u128::from(self.usage.max(1));
        let part = u64::try_from(part).unwrap_or(cost);
        [scaled(cost - part, guaranteed), scaled(part, self.weight)]
    }
}

/// A cost as it is added to the counter of a node of that weight. At most 2^94, so that a counter
/// takes longer to overflow than the hardware lasts; then it saturates.
fn scaled(cost: u64, weight: u64) -> u128 {
    (u128::from(cost) << FRACTION_BITS) * u128::from(WEIGHT_ONE) / u128::from(weight)
}
