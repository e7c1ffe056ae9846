//! The Models of a cluster as loops beside the reconciler need to know of them.

use std::sync::Arc;

use serde_json::Value;

use super::{Ref, World};
use crate::api::{Kind, Resource, ScaleBy};
use crate::cluster::admit::Identity;
use crate::cluster::kinds::Sort;
use crate::cluster::observed::scaled_by;
use crate::cluster::pod::PodOf;

/// A Model that counts, as others need to know of it.
#[derive(Clone, Debug)]
pub struct Running {
    /// Which one.
    pub identity: Identity,
    /// What it says.
    pub resource: Arc<Resource>,
    /// What was last said of it.
    pub status: Value,
    /// Copies that there are, and those that are ready.
    pub copies: (u32, u32),
    /// What keeps its pods running that take requests: its sort, its name, and copies that it is told to have.
    pub workloads: Vec<(Sort, String, u32)>,
    /// Who writes their number: an object that scales them, be it on its way out, or else Pilotage itself.
    pub scaled_by: ScaleBy,
    /// Pods of it.
    pub pods: Vec<PodOf>,
}

impl World {
    /// The Models that count and are run here, of those that are wanted by what they say and what was last said
    /// of them. Those of namespaces that are being deleted are left alone.
    pub fn models(&mut self, is_wanted: impl Fn(&Resource, &Value) -> bool) -> Vec<Running> {
        if self.unsettled {
            self.settle();
        }
        let all = self.accepted.iter().filter(|(at, _)| at.kind == Kind::Model);
        let known = |(at, resource): (&Ref, &Arc<Resource>)| {
            let held = self.resources.get(at)?;
            if self.ending.contains(&at.namespace) || !is_wanted(resource, &held.status) {
                return None;
            }
            let place = (at.namespace.clone(), at.name.clone());
            let made = self.made.get(&place);
            let copies = made.into_iter().flatten().filter(|((sort, _), _)| sort.is_workload());
            let copies = copies.map(|(_, live)| (live.progress.there, live.progress.ready));
            let pods = self.pods.get(&place).into_iter().flatten();
            let placed = made.into_iter().flatten().filter(|((sort, _), live)| {
                sort.is_workload() && live.progress.serves && !live.is_deleted
            });
            Some(Running {
                identity: held.seen.identity.clone(),
                resource: Arc::clone(resource),
                status: held.status.clone(),
                copies: copies.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1)),
                workloads: placed
                    .map(|((sort, name), live)| (*sort, name.clone(), live.progress.wanted))
                    .collect(),
                scaled_by: made
                    .map_or(ScaleBy::Pilotage, |made| scaled_by(made, &held.seen.identity.uid)),
                pods: pods.map(|(_, pod)| pod.of.clone()).collect(),
            })
        };
        all.filter_map(known).collect()
    }

    /// The Fleets that count.
    pub fn fleets(&self) -> &[Resource] {
        &self.fleets
    }
}
