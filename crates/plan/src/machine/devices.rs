//! Which accelerators of a machine each process gets. Who has some keeps them: another plan must not move what
//! it does not change. Models that take turns may have the same ones, where there are too few for all.

use std::collections::{BTreeMap, BTreeSet};

use crate::World;
use crate::hardware::{self, Accelerator};
use crate::world::Gpu;

/// Accelerators, and who has them.
pub(super) struct Devices<'a> {
    world: &'a World,
    /// Those that no process has that is there or is wanted.
    free: Vec<(String, &'a Gpu)>,
    /// Those that were given out, and whether to one that takes turns.
    given: BTreeMap<String, bool>,
    /// What those have that take turns, each with its model; who was given the same last comes last.
    lent: Vec<(String, Vec<String>)>,
}

/// Who asks for accelerators.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asks<'a> {
    pub(super) process: &'a str,
    pub(super) model: &'a str,
    /// Whether the model gives its place to others while nobody asks for it.
    pub(super) takes_turns: bool,
}

/// What a process has to itself.
pub(super) struct Taken {
    /// By their ids, as runtimes are told them.
    pub(super) ids: Vec<String>,
    /// What they are.
    pub(super) class: Accelerator,
}

/// There are too few.
pub(super) struct TooFew {
    pub(super) wanted: usize,
    pub(super) free: usize,
    pub(super) there: usize,
}

impl<'a> Devices<'a> {
    /// All of a machine's, of which processes that run keep theirs.
    pub(super) fn of(world: &'a World) -> Self {
        let held: BTreeSet<&String> = world.devices.values().flatten().collect();
        let all = named(world);
        let free = all.into_iter().filter(|(id, _)| !held.contains(id)).collect();
        Self { world, free, given: BTreeMap::new(), lent: Vec::new() }
    }

    /// What processes of those names have, and no other, comes last among what is free: they may not run.
    pub(super) fn yields<'n>(&mut self, names: impl Iterator<Item = &'n str>) {
        let world = self.world;
        let mut yielding: Vec<&str> =
            names.filter(|name| world.devices.contains_key(*name)).collect();
        let holds = world.devices.iter().filter(|(name, _)| !yielding.contains(&name.as_str()));
        let held: BTreeSet<&String> = holds.flat_map(|(_, ids)| ids).collect();
        let all = named(world);
        yielding.reverse();
        for id in yielding.iter().flat_map(|name| &world.devices[*name]) {
            let is_known = held.contains(id) || self.free.iter().any(|(free, _)| free == id);
            let found = all.iter().find(|(other, _)| other == id && !is_known);
            self.free.extend(found.cloned());
        }
    }

    /// So many for a process, those that it has if these are as many.
    pub(super) fn take(&mut self, asks: Asks<'_>, wanted: usize) -> Result<Taken, TooFew> {
        let all = named(self.world);
        let kept = self.world.devices.get(asks.process).map(|ids| {
            // Others may have been given them since, unless both take turns.
            let given = |id: &String| self.given.get(id).copied();
            let may = |id: &String| given(id).is_none_or(|turns| turns && asks.takes_turns);
            let is_own = |(id, _): &(String, &Gpu)| ids.contains(id) && may(id);
            all.iter().filter(|one| is_own(one)).cloned().collect::<Vec<_>>()
        });
        let mut own = kept.unwrap_or_default();
        self.free.retain(|(id, _)| own.iter().all(|(other, _)| other != id));
        if own.len() != wanted {
            // What it has is free again once it is replaced, which it is now.
            own.retain(|(id, _)| !self.given.contains_key(id));
            own.append(&mut self.free);
            if own.len() < wanted {
                let few = TooFew { wanted, free: own.len(), there: all.len() };
                self.free = own;
                return Err(few);
            }
            self.free = own.split_off(wanted);
        }
        Ok(self.give(asks, own))
    }

    /// So many that processes of other models have which take turns as this one does: they never run at the same
    /// time.
    pub(super) fn share(&mut self, asks: Asks<'_>, wanted: usize) -> Option<Taken> {
        let fits =
            |(model, ids): &(String, Vec<String>)| model != asks.model && ids.len() == wanted;
        let at = self.lent.iter().position(fits).filter(|_| asks.takes_turns)?;
        let lent = self.lent.remove(at);
        let own = named(self.world).into_iter().filter(|(id, _)| lent.1.contains(id)).collect();
        self.lent.push(lent);
        Some(self.give(asks, own))
    }

    fn give(&mut self, asks: Asks<'_>, own: Vec<(String, &'a Gpu)>) -> Taken {
        let class = own.first().and_then(|(_, gpu)| class(gpu)).unwrap_or(Accelerator::GENERIC);
        let ids: Vec<String> = own.into_iter().map(|(id, _)| id).collect();
        self.given.extend(ids.iter().map(|id| (id.clone(), asks.takes_turns)));
        let is_new = self.lent.iter().all(|(_, lent)| *lent != ids);
        if asks.takes_turns && is_new && !ids.is_empty() {
            self.lent.push((asks.model.to_owned(), ids.clone()));
        }
        Taken { ids, class }
    }
}

/// The class of a machine's first accelerator; none where it has none.
pub(super) fn first_class(world: &World) -> Option<Accelerator> {
    world.gpus.first().map(|gpu| class(gpu).unwrap_or(Accelerator::GENERIC))
}

/// What the class of these accelerators of a machine is called.
pub(crate) fn hardware(world: &World, ids: &[String]) -> Option<String> {
    let first = ids.first()?;
    let (_, gpu) = named(world).into_iter().find(|(id, _)| id == first)?;
    hardware::class_name(&gpu.name, gpu.memory_bytes)
}

/// An id for each: that of its driver, or its number.
fn named(world: &World) -> Vec<(String, &Gpu)> {
    let id = |(at, gpu): (usize, &Gpu)| gpu.id.clone().unwrap_or_else(|| at.to_string());
    world.gpus.iter().enumerate().map(|(at, gpu)| (id((at, gpu)), gpu)).collect()
}

fn class(gpu: &Gpu) -> Option<Accelerator> {
    if let Some(known) = Accelerator::by_device_name(&gpu.name, gpu.memory_bytes) {
        return Some(*known);
    }
    gpu.memory_bytes.map(|bytes| Accelerator::GENERIC.with_memory(bytes))
}
