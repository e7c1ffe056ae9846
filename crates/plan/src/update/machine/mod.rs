//! Versions of Models on one machine, where nobody keeps a status but who runs them: what is kept, what
//! follows from what is seen, and the plan in which both versions of a Model run.
//!
//! The rules are those of a cluster. What differs is the room: where a machine cannot run two versions at
//! once, each copy goes before the one that replaces it comes, and nothing is tried out.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::serving::as_it_serves;
use super::trial::stand_beside;
use super::{
    Advanced, Copies, Seen, Trial, TriedOut, advance, leads_alone, model_of, revision, running,
    try_out, what_runs,
};
use crate::api::status::{NextStatus, UpdatePhase, UpdateStatus};
use crate::api::{Dialect, Model, Scaling};
use crate::manifest::{Problem, mistake};
use crate::plan::{Part, Parts, plan_parts};
use crate::render::process::name_of;
use crate::{Plan, PlanError, ProcessSpec, Resource, Timestamp, World};

#[cfg(test)]
mod tests;

/// Why there is no trial where memory is short.
const NO_MEMORY: &str = "this machine has no memory for both versions at once";

/// What is kept of a Model's versions, so that whoever reads it can go on.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Kept {
    /// What the status of a Model in a cluster says.
    pub update: UpdateStatus,
    /// The version that the names of the serving copies say; empty where they say none.
    pub tag: String,
    /// Copies of each version, while one replaces the other.
    pub copies: Option<Copies>,
    /// Copies that the load wanted when the next version began: as many stay until that is over, or nobody asks.
    pub replicas: Option<u32>,
    /// Why two versions cannot run at once, where that was found.
    pub crowded: Option<Crowded>,
}

/// Two versions do not fit.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Crowded {
    /// The next one.
    pub revision: String,
    /// Why.
    pub why: String,
}

/// What is kept of all Models that run here, by their names.
pub type AllKept = BTreeMap<String, Kept>;

/// What is seen of a Model here.
#[derive(Clone, Copy, Debug)]
pub struct SeenHere<'a> {
    /// Copies that are wanted by the load, whatever their version; none where nobody asks for any.
    pub replicas: u32,
    /// Copies of the next version that take requests.
    pub next_ready: u32,
    /// What keeps the next version from coming up, as far as that is known.
    pub trouble: Option<&'a str>,
    /// Seconds that it may take to come up.
    pub patience_seconds: u32,
    /// What the gateway says of it.
    pub trials: &'a [Trial],
    /// Whether one copy more has room in memory. Only asked of a version that is to begin.
    pub has_room: bool,
}

/// What is wanted, and where.
#[derive(Clone, Copy, Debug)]
pub struct OnMachine<'a> {
    /// What manifests say.
    pub resources: &'a [Resource],
    /// The machine, with the accelerators that processes have now.
    pub world: &'a World,
}

impl Kept {
    /// What is begun anew with the processes, after whoever ran them was away: the time of a start counts
    /// from now.
    pub fn resumed(&mut self, now: &Timestamp) {
        let starts = |next: &&mut NextStatus| {
            matches!(next.phase, UpdatePhase::Starting | UpdatePhase::TakingOver)
        };
        if let Some(next) = &mut self.update.next {
            next.unready_since = None;
        }
        if let Some(next) = self.update.next.as_mut().filter(starts) {
            next.since = now.to_string();
        }
    }

    /// The next version, while it is to take over.
    pub fn next(&self) -> Option<&NextStatus> {
        self.update.next.as_ref().filter(|_| self.copies.is_some())
    }

    /// The only version there is, whose processes are replaced where they are.
    fn in_place(spec: &crate::api::ModelSpec, revision: String) -> Self {
        let serving_spec = Some(what_runs(spec));
        let update = UpdateStatus { serving: Some(revision), serving_spec, next: None };
        Self { update, ..Self::default() }
    }

    /// Whether versions of this Model replace each other, instead of one process another of its name.
    fn has_versions(&self, model: &Model) -> bool {
        let updates = model.spec.updates.as_ref();
        updates.is_some_and(|updates| updates.canary.is_some())
            || self.update.next.is_some()
            || !self.tag.is_empty()
    }
}

impl OnMachine<'_> {
    /// What is to be kept and the plan that follows, by what was kept and what is seen.
    ///
    /// # Errors
    /// [`PlanError`] when the resources contradict each other, or a version does not fit this machine even
    /// alone.
    pub fn turn<'s>(
        &self,
        now: &Timestamp,
        kept: &AllKept,
        seen: impl Fn(&Model) -> SeenHere<'s>,
    ) -> Result<(AllKept, Plan), PlanError> {
        let next = self.follow(now, kept, &seen);
        let error = match self.plan(&next) {
            Ok(plan) => return Ok((next, plan)),
            Err(error) => error,
        };
        let Some(alone) = without_room(kept, &next, &error.to_string()) else { return Err(error) };
        let next = self.follow(now, &alone, &seen);
        self.plan(&next).map(|plan| (next, plan))
    }

    /// What follows for each Model.
    fn follow<'s>(
        &self,
        now: &Timestamp,
        kept: &AllKept,
        seen: &impl Fn(&Model) -> SeenHere<'s>,
    ) -> AllKept {
        let follow = |model: &Model| {
            let kept = kept.get(model.name()).cloned().unwrap_or_default();
            (model.name().to_owned(), self.follow_one(now, (model, kept), &seen(model)))
        };
        self.models().map(follow).collect()
    }

    fn follow_one(
        &self,
        now: &Timestamp,
        (model, kept): (&Model, Kept),
        seen: &SeenHere<'_>,
    ) -> Kept {
        let (spec, wanted) = (&model.spec, revision(&model.spec));
        let known = kept.update.serving_spec.as_ref();
        if !kept.has_versions(model) || known.is_some_and(|kept| running(spec, kept).is_err()) {
            return Kept::in_place(spec, wanted);
        }
        let Kept { update, tag, replicas, crowded, .. } = kept;
        let is_begun = update.next.as_ref().is_some_and(|next| next.revision == wanted);
        let no_room = || Crowded { revision: wanted.clone(), why: NO_MEMORY.to_owned() };
        let crowded = crowded
            .filter(|crowded| crowded.revision == wanted)
            .or_else(|| (!is_begun && !seen.has_room).then(no_room));
        // Where nobody asks there is nothing to find out.
        let stays = replicas.filter(|_| is_begun && spec.scaling.is_some() && seen.replicas > 0);
        let replicas = stays.unwrap_or(seen.replicas);
        let Advanced { status, copies } = advance(
            now,
            &update,
            &Seen {
                spec,
                replicas,
                next_ready: seen.next_ready,
                trouble: seen.trouble,
                patience_seconds: seen.patience_seconds,
                is_routed: self.is_routed(model),
                crowded: crowded.as_ref().map(|crowded| crowded.why.as_str()),
                trials: seen.trials,
            },
        );
        let took_over = update.serving.is_some() && update.serving != status.serving;
        let tag = if took_over { wanted } else { tag };
        let moves = |next: &NextStatus| next.phase != UpdatePhase::RolledBack;
        let moves = status.next.as_ref().is_some_and(moves);
        let (copies, replicas) = (moves.then_some(copies), moves.then_some(replicas));
        let crowded = crowded.filter(|_| status.next.is_some());
        Kept { update: status, tag, copies, replicas, crowded }
    }

    /// The plan with both versions of each Model that changes.
    fn plan(&self, kept: &AllKept) -> Result<Plan, PlanError> {
        let serving = as_they_serve(self.resources, kept);
        let mut world = self.world.clone();
        let wanted = self.names(kept);
        world.devices.retain(|name, _| self.is_held(name, kept, &wanted));
        let mut plan = plan_parts(&serving, &world, &parts(kept))?;
        for model in self.models() {
            let Some(own) = kept.get(model.name()) else { continue };
            let Some((next, copies)) = own.next().zip(own.copies) else { continue };
            if copies.next > 0 {
                let has = |one: &ProcessSpec| (one.name.clone(), one.devices.clone());
                let has = plan.processes.iter().filter(|one| !one.devices.is_empty()).map(has);
                world.devices.extend(has);
                let taken = (&world, self.shared(model, (own, next, copies), &plan, &world));
                let of_next = self.of_next(model, (next, copies), &serving, taken)?;
                meet_nowhere(model, &plan, &of_next)?;
                add(&mut plan, &of_next, (model, own, next));
            }
        }
        for lane in &mut plan.lanes {
            // As many copies as there were when it began.
            let changes = kept.get(model_of(&lane.name)).is_some_and(|kept| kept.next().is_some());
            lane.scaling = lane.scaling.filter(|_| !changes);
        }
        Ok(plan)
    }

    /// The world as it is for copies of a Model that takes turns, where they take over without a trial: what others
    /// have that do so too is theirs as well, first of all what those had that they replace.
    fn shared(
        &self,
        model: &Model,
        (own, next, copies): (&Kept, &NextStatus, Copies),
        plan: &Plan,
        world: &World,
    ) -> Option<World> {
        let takes_turns =
            |model: &Model| model.spec.scaling.as_ref().is_some_and(Scaling::takes_turns);
        if !takes_turns(model) || next.phase != UpdatePhase::TakingOver {
            return None;
        }
        let mut world = world.clone();
        let others = self.models().filter(|other| other.name() != model.name());
        let others: Vec<&Model> = others.filter(|other| takes_turns(other)).collect();
        let is_lent = |name: &str| others.iter().any(|other| is_copy(name, other.name()));
        world.devices.retain(|name, _| !is_lent(name));
        for index in 0..copies.next {
            let before = name_of(model, &own.tag, index);
            let is_gone = plan.processes.iter().all(|process| process.name != before);
            let had = self.world.devices.get(&before).filter(|_| is_gone);
            let after = name_of(model, &next.revision, index);
            if let Some(had) = had.filter(|_| !world.devices.contains_key(&after)) {
                world.devices.insert(after, had.clone());
            }
        }
        Some(world)
    }

    /// The plan with the next version of a Model, beside all others as they serve: in the first of those worlds
    /// where it has room.
    fn of_next(
        &self,
        model: &Model,
        (next, copies): (&NextStatus, Copies),
        serving: &[Resource],
        (world, shared): (&World, Option<World>),
    ) -> Result<Plan, PlanError> {
        let own =
            |one: &&Resource| matches!(one, Resource::Model(one) if one.name() == model.name());
        let others = serving.iter().filter(|one| !own(one));
        let resources: Vec<Resource> =
            others.chain(self.resources.iter().filter(own)).cloned().collect();
        let mut parts: Parts = (self.models())
            .map(|one| (one.name().to_owned(), Part { tag: String::new(), copies: Some(0) }))
            .collect();
        let part = Part { tag: next.revision.clone(), copies: Some(copies.next) };
        parts.insert(model.name().to_owned(), part);
        let planned = plan_parts(&resources, world, &parts);
        match (planned, shared) {
            (Err(_), Some(shared)) => plan_parts(&resources, &shared, &parts),
            (planned, _) => planned,
        }
    }

    fn models(&self) -> impl Iterator<Item = &Model> {
        self.resources.iter().filter_map(|resource| match resource {
            Resource::Model(model) if model.spec.source.is_some() => Some(model),
            _ => None,
        })
    }

    /// Whether some Route leads to this Model alone: one that is written, or that which a Model has whom
    /// no Route names.
    fn is_routed(&self, model: &Model) -> bool {
        let name = &model.metadata.name;
        let routes = self.resources.iter().filter_map(|resource| match resource {
            Resource::Route(route) => Some(&route.spec),
            _ => None,
        });
        let mut naming = routes
            .filter(|route| {
                route.targets.iter().any(|target| target.model == *name)
                    || route.others().iter().any(|(_, other)| *other == name)
            })
            .peekable();
        naming.peek().is_none() || naming.any(|route| leads_alone(route, model.name()))
    }

    /// The names of the copies of Models that have versions.
    fn names(&self, kept: &AllKept) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for model in self.models() {
            let Some(own) = kept.get(model.name()) else { continue };
            let serving =
                own.copies.map_or_else(|| model.spec.processes(), |copies| copies.serving);
            names.extend((0..serving).map(|index| name_of(model, &own.tag, index)));
            if let Some((next, copies)) = own.next().zip(own.copies) {
                names.extend((0..copies.next).map(|index| name_of(model, &next.revision, index)));
            }
        }
        names
    }

    /// Whether a process keeps its accelerators: a copy of a Model with versions only as long as it is
    /// wanted, as another one is to have them.
    fn is_held(&self, name: &str, kept: &AllKept, wanted: &BTreeSet<String>) -> bool {
        let has_versions =
            |model: &&Model| kept.get(model.name()).is_some_and(|kept| kept.has_versions(model));
        let mut models = self.models().filter(has_versions);
        wanted.contains(name) || !models.any(|model| is_copy(name, model.name()))
    }
}

/// The resources with the versions that serve, as far as they are known to be others than what is wanted.
pub fn as_they_serve(resources: &[Resource], kept: &AllKept) -> Vec<Resource> {
    let update = |name: &str| kept.get(name).map(|kept| &kept.update);
    let serves = |one: &Resource| match one {
        Resource::Model(model) if is_served(model, update(model.name())) => one.clone(),
        one => as_it_serves(one, update),
    };
    resources.iter().map(serves).collect()
}

/// Whether what is wanted serves.
fn is_served(model: &Model, update: Option<&UpdateStatus>) -> bool {
    update.is_some_and(|update| update.serving.as_ref() == Some(&revision(&model.spec)))
}

/// The parts of Models' copies that are of the versions that serve.
fn parts(kept: &AllKept) -> Parts {
    let part = |(name, kept): (&String, &Kept)| {
        let copies = kept.copies.map(|copies| copies.serving);
        (name.clone(), Part { tag: kept.tag.clone(), copies })
    };
    kept.iter().map(part).collect()
}

/// Adds a next version to the plan.
fn add(plan: &mut Plan, of_next: &Plan, (model, kept, next): (&Model, &Kept, &NextStatus)) {
    let name = model.name();
    if next.phase == UpdatePhase::Starting {
        return stand_beside(plan, of_next, name, &next.revision);
    }
    let canary = model.spec.updates.as_ref().and_then(|updates| updates.canary.as_ref());
    let divided = canary.filter(|_| kept.crowded.is_none()).map(|canary| {
        let (revision, percent_max) = (next.revision.as_str(), next.percent_max);
        try_out(plan, of_next, &TriedOut { model: name, revision, canary, percent_max })
    });
    if divided.unwrap_or_default().is_empty() {
        // Nobody tells them apart: they serve together.
        let more: Vec<_> =
            of_next.processes.iter().filter(|process| process.lane == name).cloned().collect();
        if let Some(lane) = plan.lanes.iter_mut().find(|lane| lane.name == name) {
            lane.replicas.extend(more.iter().map(|process| process.name.clone()));
        }
        plan.processes.extend(more);
    }
}

/// Two servers of DeepSpeed-MII would meet at ports that nobody can choose.
fn meet_nowhere(model: &Model, plan: &Plan, of_next: &Plan) -> Result<(), PlanError> {
    let is_alone = |process: &ProcessSpec| process.dialect == Dialect::DeepSpeed;
    if !plan.processes.iter().any(is_alone) || !of_next.processes.iter().any(is_alone) {
        return Ok(());
    }
    let text = "two versions would meet at ports of DeepSpeed-MII that cannot be chosen";
    let error = mistake(&model.origin, "spec.runtime", Problem::Value(text.to_owned()));
    Err(PlanError::Resources(vec![error]))
}

/// What was kept, but that versions which have not begun to serve find no room beside the ones that do; none
/// where there are none of them.
fn without_room(kept: &AllKept, next: &AllKept, why: &str) -> Option<AllKept> {
    let mut alone = kept.clone();
    let mut found = false;
    for (name, next) in next.iter().filter(|(_, next)| next.crowded.is_none()) {
        let Some(revision) = next.next().map(|next| next.revision.clone()) else { continue };
        let before = kept.get(name).and_then(Kept::next);
        if before.is_some_and(|one| one.revision == revision && one.phase != UpdatePhase::Starting)
        {
            continue;
        }
        let own = alone.entry(name.clone()).or_default();
        own.crowded = Some(Crowded { revision, why: why.to_owned() });
        own.update.next = None;
        found = true;
    }
    found.then_some(alone)
}

/// Whether a process of that name is a copy of the Model, of whatever version.
fn is_copy(name: &str, model: &str) -> bool {
    let Some(rest) = name.strip_prefix(model) else { return false };
    let number = match rest.strip_prefix('+') {
        Some(tagged) => tagged.split_once('-').map(|(_, number)| number),
        None => rest.strip_prefix('-'),
    };
    number.is_some_and(|it| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit()))
}
