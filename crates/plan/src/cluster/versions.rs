//! Which versions of a Model there are to be, by its status, its workloads and what gateways say of the
//! one that is tried out.

use std::collections::BTreeMap;

use serde_json::Value;

use super::mind::Made;
use super::observed::Live;
use super::world::{Place, Ref, World};
use crate::api::status::UpdateStatus;
use crate::api::{Kind, Model, Resource};
use crate::render::kubernetes::{self, Cluster, Version};
use crate::update::{self, Advanced, Seen};
use crate::{Timestamp, timestamp};

/// Seconds that a start may take of which nothing else is known.
const START_SECONDS: u32 = 600;

/// What there is to be of a Model's versions.
pub(super) struct Versions {
    /// For its status.
    pub(super) status: UpdateStatus,
    /// For the renderer, the one that is wanted last.
    pub(super) rendered: Vec<Version>,
    /// When to look again though nothing changes.
    pub(super) look_ms: Option<u64>,
}

/// What is looked at.
pub(super) struct Look<'a> {
    pub(super) world: &'a World,
    pub(super) now_ms: u64,
    pub(super) at: &'a Ref,
    pub(super) model: &'a Model,
    pub(super) cluster: &'a Cluster,
    /// Its status as it was written.
    pub(super) there: &'a Value,
    pub(super) live: &'a BTreeMap<Made, Live>,
}

/// The versions of a Model; none where all its copies are of one, and always have been.
pub(super) fn versions(look: &Look<'_>) -> Option<Versions> {
    let tries = look.model.spec.updates.as_ref().is_some_and(|updates| updates.canary.is_some());
    let kept: Option<UpdateStatus> = serde_json::from_value(look.there["update"].clone()).ok();
    if !tries && kept.as_ref().is_none_or(|kept| kept.next.is_none()) {
        return None;
    }
    let status = kept.unwrap_or_default();
    let now: Timestamp = timestamp::text(look.now_ms / 1000).parse().ok()?;
    let wanted = update::revision(&look.model.spec);
    let place = (look.at.namespace.clone(), look.at.name.clone());
    let patience_seconds = patience(look);
    let seen = Seen {
        spec: &look.model.spec,
        replicas: replicas(look),
        next_ready: ready(look.live, &wanted),
        trouble: trouble(look.world, &place, &wanted),
        patience_seconds,
        is_routed: is_routed(look.world, look.at),
        crowded: None,
        trials: look.world.trials(&place),
    };
    let Advanced { status, copies } = update::advance(&now, &status, &seen);
    let serving = Version {
        revision: status.serving.clone().unwrap_or_else(|| wanted.clone()),
        kept: status.serving_spec.clone().filter(|_| status.serving.as_ref() != Some(&wanted)),
        replicas: Some(copies.serving),
    };
    let next = (copies.next > 0).then_some(Version {
        revision: wanted,
        kept: None,
        replicas: Some(copies.next),
    });
    let next_due =
        status.next.as_ref().and_then(|next| update::given_up_at(next, patience_seconds));
    let look_ms = next_due.map(|second| second * 1000);
    let rendered = std::iter::once(serving).chain(next).collect();
    Some(Versions { status, rendered, look_ms })
}

/// Copies of all versions together. Where they follow the load it is what was decided, from the first moment
/// on that there are several: the Model's own number is written only from then on.
fn replicas(look: &Look<'_>) -> u32 {
    let own = kubernetes::replicas(look.model);
    let Some(scaling) = look.model.spec.scaling else { return own };
    let said =
        look.there["scaling"]["wanted"].as_u64().and_then(|wanted| u32::try_from(wanted).ok());
    said.map_or(own, |wanted| wanted.min(scaling.max))
}

/// Seconds that a copy may take to come up, and the pull of its image before it.
fn patience(look: &Look<'_>) -> u32 {
    let fleet = kubernetes::fleet_of(look.model, &look.world.fleets);
    let rendered = kubernetes::model(look.model, fleet, look.cluster);
    let start = rendered.map_or(START_SECONDS, |rendered| rendered.start_seconds);
    start.saturating_add(super::model::PULL_SECONDS)
}

/// What is wrong with pods of a version, if they say so.
fn trouble<'a>(world: &'a World, place: &Place, revision: &str) -> Option<&'a str> {
    let pods = world.pods.get(place).into_iter().flatten().map(|(_, pod)| pod);
    let mut own = pods.filter(|pod| pod.of.revision.as_deref() == Some(revision));
    own.find_map(|pod| pod.sign.as_ref()).map(|(_, what)| what.as_str())
}

/// Copies of a version that take requests.
fn ready(live: &BTreeMap<Made, Live>, revision: &str) -> u32 {
    let own = live.iter().filter(|((sort, _), live)| {
        sort.is_workload() && !live.is_deleted && live.revision.as_deref() == Some(revision)
    });
    own.filter(|(_, live)| live.progress.serves).map(|(_, live)| live.progress.ready).sum()
}

/// Whether some Route leads to this Model alone: one of its own, or that which everybody has whom no Route
/// names.
fn is_routed(world: &World, at: &Ref) -> bool {
    let mut routes = world.routes_of(&at.name).peekable();
    if routes.peek().is_none() {
        return true;
    }
    routes.any(|resource| match resource {
        Resource::Route(route) => update::leads_alone(&route.spec, &at.name),
        Resource::Model(_) | Resource::Tenant(_) | Resource::Fleet(_) => false,
    })
}

impl World {
    /// What gateways say of a Model's next version.
    pub fn heard_trials(&mut self, namespace: &str, name: &str, trials: Vec<update::Trial>) {
        let place = (namespace.to_owned(), name.to_owned());
        if self.trials(&place) == trials {
            return;
        }
        self.set_trials(place.clone(), trials);
        self.look_at(Ref { kind: Kind::Model, namespace: place.0, name: place.1 });
    }
}
