//! Whether the nodes of the tree add up, for [`crate::invariant`].

use std::collections::BTreeSet;

use super::{Fair, Node, ORDERS, ROOT, Slot};
use crate::Band;

impl Fair {
    /// The first thing that does not add up, for [`crate::invariant`].
    pub(in crate::queue) fn disorder(&self) -> Option<String> {
        (0..self.nodes.len()).find_map(|at| {
            let slot = Slot::try_from(at).ok()?;
            Band::ALL.into_iter().find_map(|band| self.disorder_at(slot, band))
        })
    }

    fn disorder_at(&self, slot: Slot, band: Band) -> Option<String> {
        let lane = self.lane(slot, band);
        let children =
            || self.nodes.iter().enumerate().skip(1).filter(|(_, node)| node.parent == slot);
        let waits = |node: &Node| node.lanes[band as usize].queued > 0;
        children().next()?;
        let queued: u32 = children().map(|(_, node)| node.lanes[band as usize].queued).sum();
        let weight: u64 =
            children().filter(|(_, node)| waits(node)).map(|(_, node)| node.weight).sum();
        let mut orders: [BTreeSet<(u128, Slot)>; ORDERS] = Default::default();
        for (child, node) in children().filter(|(_, node)| waits(node)) {
            if let Some(at) = node.limits.class(node.usage).order() {
                orders[at].insert((node.lanes[band as usize].counters[at], child as Slot));
            }
        }
        let usage: u64 = children().map(|(_, node)| node.usage).sum();
        let held: u64 = children().map(|(_, node)| node.held).sum();
        let fits = queued == lane.queued
            && weight == lane.active_weight
            && orders.iter().eq(lane.orders.iter().map(|order| &order.children))
            && (slot == ROOT || usage == self.node(slot).usage)
            && held == self.node(slot).children_held;
        (!fits).then(|| {
            format!("node {slot}, band {}: {lane:?}, usage {usage}, held {held}", band.name())
        })
    }
}
