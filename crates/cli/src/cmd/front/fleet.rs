//! Which replica of the gateway is which process or endpoint, from the moment it comes up until
//! nothing is in flight there any more.
//!
//! A replica that shall go is first left without places, so that nothing new is sent there, then
//! let go once the gateway's status shows nothing in flight, or at the end of its patience.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use pilotage_core::traffic::{ANY, Name, Zone};
use pilotage_core::{Capacity, ReplicaId};
use pilotage_gateway::{Gateway, HealthCheck, PodName, Replica};
use pilotage_plan::api::Dialect;
use pilotage_plan::pods::{PodSpec, Stage};
use pilotage_plan::{Ground, HealthSpec, Lane, ProcessSpec, Program, Route};
use pilotage_shell::secret::Secret;

use super::load::Load;
use super::prepared::{Reached, Trust};
use crate::sheets;

/// Everything that the gateway may send requests to.
pub(in crate::cmd) struct Fleet {
    gateway: Gateway,
    /// How long a replica that shall go may take.
    patience: Duration,
    /// Where this process runs, where that was said.
    zone: Option<Zone>,
    next: u32,
    /// Replicas by their own names: those of processes and of endpoints differ.
    up: BTreeMap<String, Up>,
    /// What processes are besides, in lanes that are left over: there they end what came before they moved.
    aside: Vec<Up>,
    /// Replicas that shall go, and until when they are waited for, in nanoseconds of the clock.
    resting: Vec<(Up, u64)>,
    /// What holds for lanes.
    lanes: HashMap<String, Of>,
}

/// What of a lane holds for its replicas.
struct Of {
    /// Tokens of each sequence.
    context_tokens: u32,
    /// The region of those on this machine.
    region: Option<String>,
    /// How those that are not our own are asked whether they are well.
    health: HealthCheck,
    /// A name by which clients ask for it, and other regions know it; empty where it has none.
    public: String,
    /// Whether there may be none that serves while nobody asks.
    rests: bool,
    /// Where those tell how full they are.
    metrics: Option<String>,
    /// Which server those elsewhere are.
    dialect: Dialect,
}

impl Of {
    /// How one elsewhere is asked whether it is well: a gateway says whether it has replicas of its own for the
    /// name that it would be asked by. What rests there is started for us only where nothing can be here.
    fn health(&self, is_gateway: bool) -> HealthCheck {
        match is_gateway {
            true => HealthCheck {
                // Of what names may have, only this one means something else in addresses.
                path: format!("/health/ready?near={}", self.public.replace('+', "%2B")),
                is_strict: true,
                starts: !self.rests,
                ..self.health.clone()
            },
            false => self.health.clone(),
        }
    }
}

/// One replica.
#[derive(Clone)]
struct Up {
    id: ReplicaId,
    lane: String,
    name: String,
    url: String,
    key: Option<Secret>,
    capacity: Capacity,
    place: Place,
    /// Whether it is further away than this process's own zone.
    crosses_zones: bool,
    /// Which pod it is, where it is one, and whether that gets work.
    pod: Option<(String, Stage)>,
    /// What the plan calls it.
    planned: String,
    /// What it runs on, and what that costs.
    ground: Ground,
    /// Its accelerators on this machine.
    devices: Vec<String>,
    /// What the cluster calls it, where it is a pod.
    called: Option<PodName>,
}

/// Where a replica is, where it publishes what its KV cache holds, and how it is spoken with.
#[derive(Clone, PartialEq)]
struct Place {
    region: Option<String>,
    zone: Option<String>,
    kv_events: Option<String>,
    assumes_kv: bool,
    trust: Option<Trust>,
    health: HealthCheck,
    metrics: Option<String>,
    dialect: Dialect,
    /// Whose metrics those are.
    metrics_of: Dialect,
    finds_name: bool,
    /// Whether it is a gateway of another region.
    is_gateway: bool,
    /// The version of its server, where that is known.
    runtime_version: Option<&'static str>,
}

impl Place {
    /// That of our own engine on this machine. Whether it runs is the supervisor's to watch.
    fn here(region: Option<String>) -> Self {
        let metrics = Dialect::Pilotage.metrics_path().map(str::to_owned);
        Self {
            region,
            zone: None,
            kv_events: None,
            assumes_kv: false,
            trust: None,
            health: HealthCheck::default(),
            metrics,
            dialect: Dialect::Pilotage,
            metrics_of: Dialect::Pilotage,
            finds_name: false,
            is_gateway: false,
            runtime_version: Some(env!("CARGO_PKG_VERSION")),
        }
    }
}

impl Fleet {
    pub(in crate::cmd) fn new(gateway: Gateway, patience: Duration) -> Self {
        Self {
            gateway,
            patience,
            zone: None,
            next: 0,
            up: BTreeMap::new(),
            aside: Vec::new(),
            resting: Vec::new(),
            lanes: HashMap::new(),
        }
    }

    /// The same, where this process runs in that zone: replicas of others are a little further away.
    pub(in crate::cmd) fn in_zone(self, zone: Option<Zone>) -> Self {
        Self { zone, ..self }
    }

    /// From now on this process is known to run there; the next endpoints are seen from there.
    pub(in crate::cmd) fn set_zone(&mut self, zone: Option<Zone>) {
        self.zone = zone;
    }

    /// What holds for lanes from now on; those of replicas that are there still and not in it keep what held.
    pub(in crate::cmd) fn set_lanes(&mut self, lanes: &[Lane], routes: &[Route]) {
        self.aside.retain(|up| lanes.iter().any(|lane| lane.name == up.lane));
        let of = |lane: &Lane| Of {
            context_tokens: lane.context_tokens,
            region: lane.region.clone(),
            health: health(&lane.health),
            public: public_name(&lane.name, routes).to_owned(),
            rests: lane.rest_seconds.is_some(),
            metrics: lane.metrics_path.clone(),
            dialect: lane.dialect,
        };
        self.lanes.extend(lanes.iter().map(|lane| (lane.name.clone(), of(lane))));
        let there = self.up.values().chain(self.resting.iter().map(|(up, _)| up));
        let there = there.map(|up| up.lane.as_str());
        let used: BTreeSet<&str> =
            there.chain(lanes.iter().map(|lane| lane.name.as_str())).collect();
        self.lanes.retain(|name, _| used.contains(name.as_str()));
    }

    /// A process takes requests there with a key of its own, and tells there what its KV cache holds.
    pub(in crate::cmd) fn process_up(
        &mut self,
        name: &str,
        spec: &ProcessSpec,
        (url, kv_events): (String, Option<String>),
        key: Option<Secret>,
    ) {
        let is_ours = spec.program == Program::Own;
        let of = self.lanes.get(&spec.lane);
        // It pauses as many sequences as it runs.
        let pauses_max = if is_ours { spec.slots } else { 0 };
        let capacity = Capacity { pauses_max, ..self.capacity(&spec.lane, spec.slots, None) };
        let zone = self.zone.as_ref().map(|zone| zone.name().to_owned());
        let mut place =
            Place { zone, kv_events, ..Place::here(of.and_then(|of| of.region.clone())) };
        if let Some(of) = of.filter(|_| !is_ours) {
            (place.assumes_kv, place.health) = (true, of.health.clone());
            (place.dialect, place.metrics_of) = (of.dialect, spec.metrics_of);
            place.runtime_version = None;
            let metrics = spec.metrics_of.wire().differences().paths.metrics;
            place.metrics = metrics.map(str::to_owned);
        }
        let lane = spec.lane.as_str();
        let id = self.next_id();
        self.raise(Up {
            id,
            key,
            url,
            capacity,
            place,
            planned: spec.name.clone(),
            ground: spec.ground.clone(),
            devices: spec.devices.clone(),
            ..Up::named(name, lane)
        });
    }

    /// What processes of the plan run on, and cost, from now on.
    pub(in crate::cmd) fn set_grounds<'a>(&mut self, specs: impl Iterator<Item = &'a ProcessSpec>) {
        for spec in specs {
            let own = self.up.values_mut().filter(|up| up.planned == spec.name);
            let changed: Vec<Up> =
                own.filter_map(|up| up.stand_on(&spec.ground).then(|| up.clone())).collect();
            changed.iter().for_each(|up| self.tell(up));
        }
    }

    /// A process is to serve another lane: in the one it has served it ends what comes there, for as long as
    /// that is left over.
    pub(in crate::cmd) fn move_aside(&mut self, name: &str) {
        self.aside.extend(self.up.remove(name));
    }

    /// The lane that a process serves.
    pub(in crate::cmd) fn lane_of(&self, name: &str) -> Option<&str> {
        self.up.get(name).map(|up| up.lane.as_str())
    }

    /// It died, and what was in flight there with it. Whether it was about to go anyway.
    pub(in crate::cmd) fn process_died(&mut self, name: &str) -> bool {
        for up in self.take(name) {
            if let Some(lane) = self.gateway.lane(&up.lane) {
                lane.replica_died(up.id);
            }
        }
        self.process_down(name)
    }

    /// It is gone. Whether it was about to go anyway.
    pub(in crate::cmd) fn process_down(&mut self, name: &str) -> bool {
        self.take(name).iter().for_each(|up| self.lower(up));
        let (gone, rest): (Vec<_>, Vec<_>) =
            self.resting.drain(..).partition(|(up, _)| up.name == name);
        self.resting = rest;
        gone.iter().for_each(|(up, _)| self.lower(up));
        !gone.is_empty()
    }

    /// Nothing new goes there. False when it was not up: there is nothing to wait for.
    pub(in crate::cmd) fn rest(&mut self, now_nanos: u64, name: &str) -> bool {
        let all = self.take(name);
        let patience = u64::try_from(self.patience.as_nanos()).unwrap_or(u64::MAX);
        let found = !all.is_empty();
        for up in all {
            if let Some(lane) = self.gateway.lane(&up.lane) {
                lane.replica_up(up.id, up.replica(Capacity { requests_max: 0, ..up.capacity }));
            }
            self.resting.push((up, now_nanos.saturating_add(patience)));
        }
        found
    }

    /// It does not go after all: it gets requests again.
    pub(in crate::cmd) fn stay(&mut self, name: &str) {
        let Some(at) = self.resting.iter().position(|(up, _)| up.name == name) else { return };
        let (up, _) = self.resting.swap_remove(at);
        if let Some(lane) = self.gateway.lane(&up.lane) {
            lane.replica_up(up.id, up.replica(up.capacity));
        }
        self.up.insert(up.name.clone(), up);
    }

    /// Whether that one is waited for.
    pub(in crate::cmd) fn rests(&self, name: &str) -> bool {
        self.resting.iter().any(|(up, _)| up.name == name)
    }

    /// Whether somebody is waited for.
    pub(in crate::cmd) fn is_resting(&self) -> bool {
        !self.resting.is_empty()
    }

    /// Lets those go at which nothing is in flight, and those that took too long; returns their names, where
    /// nothing else is waited for there.
    pub(in crate::cmd) fn let_go(&mut self, now_nanos: u64, load: &Load) -> Vec<String> {
        let is_done =
            |(up, until): &(Up, u64)| now_nanos >= *until || load.in_flight(&up.lane, up.id) == 0;
        let (done, rest): (Vec<_>, Vec<_>) = self.resting.drain(..).partition(is_done);
        self.resting = rest;
        done.iter().for_each(|(up, _)| self.lower(up));
        let free = done.into_iter().map(|(up, _)| up.name);
        free.filter(|name| !self.rests(name)).collect()
    }

    /// The endpoints from now on: new ones come up, those that differ come up anew, and what is not
    /// in it any more rests. A pod that is not is gone, and what ran there with it; one that gets no work
    /// keeps what runs there and what is known of it.
    pub(in crate::cmd) fn set_endpoints(&mut self, now_nanos: u64, endpoints: &[Reached]) {
        let wanted: BTreeSet<&str> = endpoints.iter().map(|one| one.spec.name.as_str()).collect();
        let is_gone = |name: &&String| name.contains('@') && !wanted.contains(name.as_str());
        let gone: Vec<String> = self.up.keys().filter(is_gone).cloned().collect();
        for name in gone {
            self.part(now_nanos, &name);
        }
        for reached in endpoints {
            let up = self.wanted(reached);
            match self.up.get_mut(&up.name) {
                Some(known) if known.is_same(&up) => {
                    if known.offer(&up) {
                        let known = known.clone();
                        self.tell(&known);
                    }
                }
                Some(known) => {
                    // The same pod that is asked otherwise finishes what it has.
                    if known.which() == up.which() {
                        self.rest(now_nanos, &up.name);
                    } else {
                        self.part(now_nanos, &up.name);
                    }
                    self.begin(up);
                }
                None => self.begin(up),
            }
        }
    }

    /// What an endpoint is as a replica.
    fn wanted(&self, Reached { spec, key, trust }: &Reached) -> Up {
        let lane = self.lanes.get(&spec.lane);
        // What its engines are is a gateway's own matter.
        let of = lane.filter(|_| !spec.gateway);
        let dialect = of.map(|lane| lane.dialect).unwrap_or_default();
        let pauses_max = if dialect == Dialect::Pilotage { spec.slots } else { 0 };
        let capacity =
            Capacity { pauses_max, ..self.capacity(&spec.lane, spec.slots, spec.kv_tokens) };
        let place = Place {
            region: spec.region.clone(),
            zone: spec.zone.clone(),
            kv_events: spec.kv_events.clone(),
            assumes_kv: spec.kv_tokens.is_none(),
            trust: trust.clone(),
            health: lane.map(|lane| lane.health(spec.gateway)).unwrap_or_default(),
            metrics: spec.metrics_url.clone().or_else(|| of?.metrics.clone()),
            is_gateway: spec.gateway,
            dialect,
            metrics_of: spec.pod.as_ref().map_or(dialect, |pod| pod.metrics_of),
            finds_name: spec.finds_name,
            runtime_version: None,
        };
        Up {
            key: key.clone(),
            url: spec.url.clone(),
            capacity,
            place,
            crosses_zones: self.crosses(spec.region.as_deref(), spec.zone.as_deref(), &spec.pod),
            pod: spec.pod.as_ref().map(|pod| (pod.uid.clone(), pod.stage)),
            ground: spec.ground.clone(),
            called: spec.pod.as_ref().map(called),
            ..Up::named(&spec.name, &spec.lane)
        }
    }

    /// Whether it is in another zone than this process, and meant for others.
    fn crosses(&self, region: Option<&str>, zone: Option<&str>, pod: &Option<PodSpec>) -> bool {
        let Some(own) = &self.zone else { return false };
        let near = pod.iter().flat_map(|pod| &pod.near);
        let is_near = near.map(String::as_str).any(|near| own.holds(region, Some(near)));
        !is_near && !own.holds(region, zone)
    }

    /// It is not there any more: a pod ends with what runs there, others finish that.
    fn part(&mut self, now_nanos: u64, name: &str) {
        match self.up.get(name).and_then(|up| up.pod.as_ref()).map(|(_, stage)| *stage) {
            None => drop(self.rest(now_nanos, name)),
            Some(Stage::Leaving) => self.drop_current(name),
            Some(Stage::Ready | Stage::Unready) => drop(self.process_died(name)),
        }
    }

    /// It comes up, unless it is a pod that gets no work.
    fn begin(&mut self, up: Up) {
        if up.takes_work() {
            let id = self.next_id();
            self.raise(Up { id, ..up });
        }
    }

    fn capacity(&self, lane: &str, slots: u32, kv_tokens: Option<u64>) -> Capacity {
        let context = self.lanes.get(lane).map_or(1, |lane| lane.context_tokens);
        let all = u64::from(slots) * u64::from(context);
        Capacity { tokens_max: kv_tokens.unwrap_or(all), ..Capacity::of_requests(slots) }
    }

    fn next_id(&mut self) -> ReplicaId {
        self.next += 1;
        ReplicaId(self.next)
    }

    fn raise(&mut self, up: Up) {
        self.drop_current(&up.name);
        self.tell(&up);
        self.up.insert(up.name.clone(), up);
    }

    fn tell(&self, up: &Up) {
        if let Some(lane) = self.gateway.lane(&up.lane) {
            let requests_max = if up.takes_work() { up.capacity.requests_max } else { 0 };
            lane.replica_up(up.id, up.replica(Capacity { requests_max, ..up.capacity }));
        }
    }

    /// Everything that a process or endpoint is, but for what rests.
    fn take(&mut self, name: &str) -> Vec<Up> {
        let (own, rest): (Vec<_>, Vec<_>) = self.aside.drain(..).partition(|up| up.name == name);
        self.aside = rest;
        self.up.remove(name).into_iter().chain(own).collect()
    }

    fn drop_current(&mut self, name: &str) {
        if let Some(up) = self.up.remove(name) {
            self.lower(&up);
        }
    }

    fn lower(&self, up: &Up) {
        if let Some(lane) = self.gateway.lane(&up.lane) {
            lane.replica_down(up.id);
        }
    }
}

impl Up {
    fn named(name: &str, lane: &str) -> Self {
        Self {
            id: ReplicaId(0),
            lane: lane.to_owned(),
            name: name.to_owned(),
            url: String::new(),
            key: None,
            capacity: Capacity::of_requests(0),
            place: Place::here(None),
            crosses_zones: false,
            pod: None,
            planned: name.to_owned(),
            ground: Ground::default(),
            devices: Vec::new(),
            called: None,
        }
    }

    /// Whether another one of its name is the same replica.
    fn is_same(&self, other: &Self) -> bool {
        self.url == other.url
            && self.key == other.key
            && self.capacity == other.capacity
            && self.place == other.place
            && self.which() == other.which()
    }

    /// Which pod it is.
    fn which(&self) -> Option<&str> {
        self.pod.as_ref().map(|(uid, _)| uid.as_str())
    }

    fn takes_work(&self) -> bool {
        self.pod.as_ref().is_none_or(|(_, stage)| *stage == Stage::Ready)
    }

    /// Takes over what changes of one replica; whether anything did.
    fn offer(&mut self, other: &Self) -> bool {
        let differs = self.pod != other.pod || self.crosses_zones != other.crosses_zones;
        (self.pod, self.crosses_zones) = (other.pod.clone(), other.crosses_zones);
        self.stand_on(&other.ground) || differs
    }

    /// What it runs on, and costs, from now on; whether that is something else.
    fn stand_on(&mut self, ground: &Ground) -> bool {
        let differs = self.ground != *ground;
        self.ground.clone_from(ground);
        differs
    }

    fn replica(&self, capacity: Capacity) -> Replica {
        Replica {
            key: self.key.clone(),
            region: self.place.region.as_deref().map(Name::from),
            runtime_version: self.place.runtime_version.map(Name::from),
            hardware: self.ground.hardware.as_deref().map(Name::from),
            accelerators: self.ground.accelerators,
            sheet: sheets::sheet_of(self.ground.hardware.as_deref()),
            micros_per_hour: self.ground.micros_per_hour,
            devices: self.devices.clone(),
            pod: self.called.clone(),
            zone: self.place.zone.clone(),
            crosses_zones: self.crosses_zones,
            kv_events: self.place.kv_events.clone(),
            assumes_kv: self.place.assumes_kv,
            client: self.place.trust.as_ref().map(|trust| trust.client.clone()),
            health: self.place.health.clone(),
            metrics: self.place.metrics.clone(),
            dialect: self.place.dialect.wire(),
            metrics_of: self.place.metrics_of.wire(),
            finds_name: self.place.finds_name,
            is_gateway: self.place.is_gateway,
            own: self.place.dialect.wire().own(),
            ..Replica::at(self.name.as_str(), &self.url, capacity)
        }
    }
}

fn called(pod: &PodSpec) -> PodName {
    let text = |said: &Option<String>| said.clone().unwrap_or_default();
    PodName { namespace: text(&pod.namespace), name: pod.name.clone(), node: text(&pod.node) }
}

fn health(said: &HealthSpec) -> HealthCheck {
    HealthCheck {
        path: said.path.clone(),
        interval: Duration::from_secs(said.interval_seconds.into()),
        timeout: Duration::from_secs(said.timeout_seconds.into()),
        is_strict: said.is_strict,
        starts: false,
    }
}

/// A name by which clients ask for what a lane serves: the first of the first route that is meant to lead there, or,
/// where there is none, of the first that falls back to it; empty where no route leads there.
fn public_name<'a>(lane: &str, routes: &'a [Route]) -> &'a str {
    let leads = |route: &&Route| {
        let rules = route.rules.iter().flat_map(|rule| &rule.targets);
        rules.chain(&route.targets).any(|target| target.model.as_str() == lane)
    };
    let falls_back = |route: &&Route| route.fallbacks.iter().any(|fallback| fallback == lane);
    let own = routes.iter().filter(leads).chain(routes.iter().filter(falls_back));
    let names = own.flat_map(|route| &route.public_names);
    names.map(String::as_str).find(|name| *name != ANY).unwrap_or_default()
}

#[cfg(test)]
mod tests;
