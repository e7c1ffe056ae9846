//! What is loaded and since when, and which lanes are left over from the plan before: they are
//! served until they are empty, though no name leads to them.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pilotage_operator::local::Placed;
use pilotage_plan::{Lane, Plan};
use pilotage_shell::{clock::Clock, date};
use serde::Serialize;

use super::load::Load;
use super::prepared::{Leases, Prepared, Reached};

/// What the status tells of the configuration.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cmd) struct Loaded {
    /// How often a plan was taken over: 1 for the first.
    generation: u64,
    /// When the last one was.
    loaded_at: String,
    /// Why what was read since could not be taken over.
    error: Option<String>,
}

/// The same one, for whoever shows it.
pub(in crate::cmd) type Shown = Arc<Mutex<Loaded>>;

/// A lane that the plan does not have.
#[derive(Clone)]
struct Left {
    lane: Lane,
    processes: Vec<Placed>,
    endpoints: Vec<Reached>,
    /// Until when it is served, in nanoseconds of the clock.
    until: u64,
}

/// The plan that is served, and what is left over from those before.
pub(in crate::cmd) struct Current {
    prepared: Prepared,
    left: Vec<Left>,
    /// What keeps the weights of plans before this one, whose processes may still run.
    leases: Vec<Leases>,
    shown: Shown,
    clock: Clock,
    patience: Duration,
}

impl Current {
    pub(in crate::cmd) fn first(prepared: Prepared, clock: Clock, patience: Duration) -> Self {
        let loaded_at = date::utc(clock.unix_ms() / 1000);
        let loaded = Loaded { generation: 1, loaded_at, error: None };
        let shown = Arc::new(Mutex::new(loaded));
        Self { prepared, left: Vec::new(), leases: Vec::new(), shown, clock, patience }
    }

    /// How long what goes may take.
    pub(in crate::cmd) const fn patience(&self) -> Duration {
        self.patience
    }

    pub(in crate::cmd) fn shown(&self) -> Shown {
        Arc::clone(&self.shown)
    }

    pub(in crate::cmd) fn generation(&self) -> u64 {
        self.shown.lock().generation
    }

    pub(in crate::cmd) const fn plan(&self) -> &Plan {
        &self.prepared.plan
    }

    /// What was read cannot be taken over.
    pub(in crate::cmd) fn refuse(&self, error: &anyhow::Error) {
        self.shown.lock().error = Some(format!("{error:#}"));
    }

    /// A new plan with what it leaves over of this one. Nothing is changed: whoever can carry it out
    /// says [`Self::take`].
    pub(in crate::cmd) fn followed_by(&self, prepared: Prepared) -> Self {
        let until = self.clock.now_nanos().saturating_add(nanos(self.patience));
        let is_gone = |lane: &&Lane| prepared.plan.lane(&lane.name).is_none();
        let gone = self.prepared.plan.lanes.iter().filter(is_gone);
        let mut left: Vec<Left> = gone.map(|lane| self.leave(lane, until)).collect();
        let still = self.left.iter().filter(|left| is_gone(&&left.lane));
        left.extend(still.cloned());
        let mut leases = if left.is_empty() { Vec::new() } else { self.leases.clone() };
        if !leases.iter().any(|held| Arc::ptr_eq(held, &self.prepared.leases)) {
            leases.push(Arc::clone(&self.prepared.leases));
        }
        let (shown, clock, patience) = (self.shown(), self.clock, self.patience);
        Self { prepared, left, leases, shown, clock, patience }
    }

    /// It is carried out.
    pub(in crate::cmd) fn take(&mut self, next: Self) {
        self.turn(next);
        let mut shown = self.shown.lock();
        shown.generation += 1;
        shown.loaded_at = date::utc(self.clock.unix_ms() / 1000);
        shown.error = None;
    }

    /// The same manifests are carried out another way.
    pub(in crate::cmd) fn turn(&mut self, next: Self) {
        *self = next;
    }

    /// Whether a plan is this one but for its endpoints.
    pub(in crate::cmd) fn differs_in_pods_only(&self, plan: &Plan) -> bool {
        let own = &self.prepared.plan;
        own.lanes == plan.lanes
            && own.routes == plan.routes
            && own.tenants == plan.tenants
            && own.processes == plan.processes
            && self.generation() > 1
    }

    /// The same plan with other endpoints.
    pub(in crate::cmd) fn set_prepared(&mut self, prepared: Prepared) {
        self.prepared = prepared;
    }

    /// The plan to serve: with the lanes that are left over, to which nothing leads.
    pub(in crate::cmd) fn served(&self) -> Plan {
        let mut plan = self.prepared.plan.clone();
        plan.lanes.extend(self.left.iter().map(|left| left.lane.clone()));
        plan
    }

    /// The processes to run. One that moved to another lane is what the plan says.
    pub(in crate::cmd) fn processes(&self) -> Vec<Placed> {
        let mut all = self.prepared.processes.clone();
        for placed in self.left.iter().flat_map(|left| &left.processes) {
            if !all.iter().any(|known| known.spec.name == placed.spec.name) {
                all.push(placed.clone());
            }
        }
        all
    }

    /// The endpoints to use.
    pub(in crate::cmd) fn endpoints(&self) -> Vec<Reached> {
        let left = self.left.iter().flat_map(|left| &left.endpoints);
        self.prepared.endpoints.iter().chain(left).cloned().collect()
    }

    /// Whether lanes are left over.
    pub(in crate::cmd) fn has_left(&self) -> bool {
        !self.left.is_empty()
    }

    /// Forgets the lanes that are empty by now, or took too long; whether there were any.
    pub(in crate::cmd) fn forget_empty(&mut self, load: &Load) -> bool {
        let (before, now) = (self.left.len(), self.clock.now_nanos());
        self.left.retain(|left| now < left.until && !load.is_idle(&left.lane.name));
        if self.left.is_empty() {
            self.leases.clear();
        }
        self.left.len() < before
    }

    fn leave(&self, lane: &Lane, until: u64) -> Left {
        let processes = self.prepared.processes.iter().filter(|one| one.spec.lane == lane.name);
        let endpoints = self.prepared.endpoints.iter().filter(|one| one.spec.lane == lane.name);
        Left {
            lane: lane.clone(),
            processes: processes.cloned().collect(),
            endpoints: endpoints.cloned().collect(),
            until,
        }
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use pilotage_plan::{World, parse_all, plan};

    use super::*;

    fn placed(spec: pilotage_plan::ProcessSpec) -> Placed {
        Placed { spec, weights: "w".into(), adapters: Vec::new() }
    }

    fn prepared(models: &[&str]) -> Prepared {
        let one = |name: &&str| {
            format!(
                "apiVersion: pilotage.dev/v1alpha1\nkind: Model\nmetadata: {{name: {name}}}\nspec: \
                 {{source: 'file:{name}'}}\n"
            )
        };
        let text: Vec<String> = models.iter().map(one).collect();
        let resources = parse_all([("f", text.join("---\n").as_str())]).unwrap();
        let plan = plan(&resources, &World::with_cores(4)).unwrap();
        let processes = plan.processes.iter().cloned().map(placed).collect();
        Prepared { plan, processes, endpoints: Vec::new(), leases: Arc::default() }
    }

    fn load(lane: &str, requests: u32) -> Load {
        let text = format!(
            r#"{{"lanes": [{{"name": "{lane}", "queue": {{"requests": {requests}}}, "replicas": []}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn names(current: &Current) -> (Vec<String>, Vec<String>, Vec<String>) {
        let plan = current.served();
        let routes = plan.routes.iter().map(|route| route.name.clone()).collect();
        let lanes = plan.lanes.iter().map(|lane| lane.name.clone()).collect();
        let processes = current.processes().into_iter().map(|placed| placed.spec.name).collect();
        (routes, lanes, processes)
    }

    #[test]
    fn a_lane_that_is_gone_is_served_until_it_is_empty() {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let check = |current: &Current, routes: &[&str], lanes: &[&str], processes: &[&str]| {
            let expect = (owned(routes), owned(lanes), owned(processes));
            assert_eq!(names(current), expect);
        };
        let patience = Duration::from_secs(60);
        let mut current = Current::first(prepared(&["a", "b"]), Clock::start(), patience);
        current.refuse(&anyhow::anyhow!("a mistake"));
        assert_eq!(current.shown().lock().error.as_deref(), Some("a mistake"));
        let next = current.followed_by(prepared(&["b"]));
        check(&current, &["a", "b"], &["a", "b"], &["a-0", "b-0"]);
        current.take(next);
        check(&current, &["b"], &["b", "a"], &["b-0", "a-0"]);
        assert_eq!((current.generation(), current.shown().lock().error.clone()), (2, None));
        assert!(!current.forget_empty(&load("a", 1)) && current.has_left());
        // Another plan leaves it as it is, and one that has it again takes it back.
        let next = current.followed_by(prepared(&["b", "c"]));
        check(&next, &["b", "c"], &["b", "c", "a"], &["b-0", "c-0", "a-0"]);
        let next = current.followed_by(prepared(&["a", "b"]));
        check(&next, &["a", "b"], &["a", "b"], &["a-0", "b-0"]);
        assert!(current.forget_empty(&load("a", 0)) && !current.has_left());
        check(&current, &["b"], &["b"], &["b-0"]);
        let next = Current { patience: Duration::ZERO, ..current.followed_by(prepared(&["b"])) };
        let mut last = next.followed_by(prepared(&["c"]));
        assert!(last.forget_empty(&load("b", 1)), "patience ends");
    }
}
