//! Which accelerators of a machine each process gets. Who has some keeps them: another plan must not move what
//! it does not change.

use std::collections::BTreeSet;

use crate::World;
use crate::hardware::Accelerator;
use crate::world::Gpu;

/// Accelerators, and who has them.
pub(super) struct Devices<'a> {
    world: &'a World,
    /// Those that no process has that is there or is wanted.
    free: Vec<(String, &'a Gpu)>,
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
        Self { world, free: all.into_iter().filter(|(id, _)| !held.contains(id)).collect() }
    }

    /// So many for a process, those that it has if these are as many.
    pub(super) fn take(&mut self, process: &str, wanted: usize) -> Result<Taken, TooFew> {
        let all = named(self.world);
        let kept = self.world.devices.get(process).map(|ids| {
            let is_own = |(id, _): &(String, &Gpu)| ids.contains(id);
            all.iter().filter(|one| is_own(one)).cloned().collect::<Vec<_>>()
        });
        let mut own = kept.unwrap_or_default();
        if own.len() != wanted {
            // What it has is free again once it is replaced, which it is now.
            own.append(&mut self.free);
            if own.len() < wanted {
                return Err(TooFew { wanted, free: own.len(), there: all.len() });
            }
            self.free = own.split_off(wanted);
        }
        let class = own.first().and_then(|(_, gpu)| class(gpu)).unwrap_or(Accelerator::GENERIC);
        Ok(Taken { ids: own.into_iter().map(|(id, _)| id).collect(), class })
    }
}

/// The class of a machine's first accelerator; none where it has none.
pub(super) fn first_class(world: &World) -> Option<Accelerator> {
    world.gpus.first().map(|gpu| class(gpu).unwrap_or(Accelerator::GENERIC))
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
