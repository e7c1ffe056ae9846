//! Which replica of the gateway is which process or endpoint, from the moment it comes up until
//! nothing is in flight there any more.
//!
//! A replica that shall go is first left without places, so that nothing new is sent there, then
//! let go once the gateway's status shows nothing in flight, or at the end of its patience.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use pilotage_core::traffic::{ANY, Zone};
use pilotage_core::{Capacity, ReplicaId};
use pilotage_gateway::{Gateway, HealthCheck, Replica};
use pilotage_plan::api::Dialect;
use pilotage_plan::pods::{PodSpec, Stage};
use pilotage_plan::{HealthSpec, Lane, ProcessSpec, Program, Route};
use pilotage_shell::secret::Secret;

use super::load::Load;
use super::prepared::{Reached, Trust};

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
            let metrics = spec.metrics_of.wire().differences().paths.metrics;
            place.metrics = metrics.map(str::to_owned);
        }
        let lane = spec.lane.as_str();
        let id = self.next_id();
        self.raise(Up { id, key, url, capacity, place, ..Up::named(name, lane) });
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
        };
        Up {
            key: key.clone(),
            url: spec.url.clone(),
            capacity,
            place,
            crosses_zones: self.crosses(spec.region.as_deref(), spec.zone.as_deref(), &spec.pod),
            pod: spec.pod.as_ref().map(|pod| (pod.uid.clone(), pod.stage)),
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
        differs
    }

    fn replica(&self, capacity: Capacity) -> Replica {
        Replica {
            key: self.key.clone(),
            region: self.place.region.clone(),
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
            ..Replica::at(&self.name, &self.url, capacity)
        }
    }
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

/// A name by which clients ask for what a lane serves, the first of the first route that leads there; empty where
/// there is none.
fn public_name<'a>(lane: &str, routes: &'a [Route]) -> &'a str {
    let leads = |route: &&Route| {
        let rules = route.rules.iter().flat_map(|rule| &rule.targets);
        let targets = rules.chain(&route.targets).map(|target| target.model.as_str());
        targets.chain(route.fallbacks.iter().map(String::as_str)).any(|target| target == lane)
    };
    let names = routes.iter().filter(leads).flat_map(|route| &route.public_names);
    names.map(String::as_str).find(|name| *name != ANY).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use pilotage_gateway::{GatewayConfig, LaneConfig, Limits};
    use pilotage_plan::{Plan, World, parse_all, plan};
    use pilotage_shell::clock::Clock;
    use pilotage_shell::metrics::Metrics;
    use pilotage_wire::dialect::Own;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn begin() -> (Fleet, Router, Secret) {
        let key = Secret::new("admin".to_owned());
        let config = GatewayConfig {
            lanes: vec![LaneConfig::named("a", 1000)],
            routes: Vec::new(),
            tenants: Vec::new(),
            open: false,
            admin_key: key.hash(),
            limits: Limits::default(),
            media_hosts: Vec::new(),
        };
        let gateway = Gateway::new(config, Clock::start(), Metrics::new()).unwrap();
        let admin = gateway.admin_router(Vec::new());
        (Fleet::new(gateway, PATIENCE), admin, key)
    }

    fn planned(endpoints: &str) -> Plan {
        let text = format!(
            "{{apiVersion: pilotage.dev/v1alpha1, kind: Model, metadata: {{name: a}}, spec: \
             {{context: 1000, endpoints: [{endpoints}]}}}}"
        );
        plan(&parse_all([("f", text.as_str())]).unwrap(), &World::with_cores(1)).unwrap()
    }

    /// Names and numbers of the replicas that are up.
    fn up(fleet: &Fleet) -> Vec<(String, u32)> {
        fleet.up.values().map(|up| (up.name.clone(), up.id.0)).collect()
    }

    #[tokio::test]
    async fn endpoints_come_go_and_are_replaced() {
        let (mut fleet, admin, key) = begin();
        let mut set = |endpoints: &str, secret: Option<&str>| {
            let plan = planned(endpoints);
            fleet.set_lanes(&plan.lanes, &plan.routes);
            let secret = secret.map(|secret| Secret::new(secret.to_owned()));
            let reached = |spec: &pilotage_plan::EndpointSpec| Reached {
                spec: spec.clone(),
                key: secret.clone(),
                trust: None,
            };
            let reached: Vec<_> = plan.endpoints.iter().map(reached).collect();
            fleet.set_endpoints(0, &reached);
            (up(&fleet), fleet.resting.len())
        };
        let named = |names: &[(&str, u32)]| -> Vec<(String, u32)> {
            names.iter().map(|(name, id)| ((*name).to_owned(), *id)).collect()
        };
        let (one, two) =
            ("{url: 'http://127.0.0.1:1'}", "{url: 'http://127.0.0.1:2', kvTokens: 9}");
        let both = format!("{one}, {two}");
        let first = named(&[("a@127.0.0.1:1", 1), ("a@127.0.0.1:2", 2)]);
        assert_eq!(set(&both, None), (first.clone(), 0));
        assert_eq!(set(&both, None), (first, 0), "nothing differs");
        assert_eq!(set(two, None), (named(&[("a@127.0.0.1:2", 2)]), 1));
        assert_eq!(set(two, Some("sk")), (named(&[("a@127.0.0.1:2", 3)]), 2), "another key");
        let capacity = fleet.up["a@127.0.0.1:2"].capacity;
        assert_eq!((capacity.requests_max, capacity.tokens_max), (64, 9));
        let (interval, timeout) = (Duration::from_secs(5), Duration::from_secs(2));
        let expect = HealthCheck { interval, timeout, ..HealthCheck::default() };
        assert_eq!(fleet.up["a@127.0.0.1:2"].place.health, expect);
        let load = Load::of(&admin, &key).await.unwrap();
        let gone = fleet.let_go(1, &load);
        assert_eq!((gone.len(), fleet.is_resting()), (2, false));
    }

    #[tokio::test]
    async fn who_is_in_another_zone_than_this_process_is_told() {
        let check = |own: Option<&str>, expect: [bool; 3]| {
            let (fleet, ..) = begin();
            let mut fleet = fleet.in_zone(own.map(|own| own.parse().unwrap()));
            let plan = planned(
                "{url: 'http://127.0.0.1:1', region: oslo, zone: a}, \
                 {url: 'http://127.0.0.1:2', region: oslo, zone: b}, {url: 'http://127.0.0.1:3'}",
            );
            fleet.set_lanes(&plan.lanes, &plan.routes);
            let reached: Vec<_> = (plan.endpoints.iter())
                .map(|spec| Reached { spec: spec.clone(), key: None, trust: None })
                .collect();
            fleet.set_endpoints(0, &reached);
            let told: Vec<bool> =
                (fleet.up.values()).map(|up| up.replica(up.capacity).crosses_zones).collect();
            assert_eq!(told, expect, "{own:?}");
            let zones = fleet.up.values().map(|up| up.replica(up.capacity).zone);
            let expect = [Some("a"), Some("b"), None].map(|zone| zone.map(str::to_owned));
            assert_eq!(zones.collect::<Vec<_>>(), expect);
        };
        check(None, [false, false, false]);
        check(Some("a"), [false, true, true]);
        check(Some("oslo/b"), [true, false, true]);
        check(Some("paris/a"), [true, true, true]);
    }

    /// A gateway is asked for the name that clients write, and where nothing may be here anyway, only for what
    /// serves there.
    #[tokio::test]
    async fn gateways_are_asked_for_what_they_would_be_sent() {
        let check = |model: &str, routes: &str, expect: (&str, bool)| {
            let text = format!(
                "{{apiVersion: pilotage.dev/v1alpha1, kind: Model, metadata: {{name: a}}, spec: {{{model}}}}}\n---\n\
                 {{apiVersion: pilotage.dev/v1alpha1, kind: Route, metadata: {{name: r}}, spec: {{{routes}}}}}"
            );
            let plan =
                plan(&parse_all([("f", text.as_str())]).unwrap(), &World::with_cores(4)).unwrap();
            let (mut fleet, ..) = begin();
            fleet.set_lanes(&plan.lanes, &plan.routes);
            let health = fleet.lanes["a"].health(true);
            assert_eq!((health.path.as_str(), health.starts), expect);
            assert!(health.is_strict);
        };
        let gateway = "endpoints: [{url: 'http://b', region: b, gateway: true}]";
        check(gateway, "targets: [{model: a}]", ("/health/ready?near=r", true));
        check(gateway, "models: [x+y], targets: [{model: a}]", ("/health/ready?near=x%2By", true));
        let rests = "source: 'file:m.gguf', region: a, scaling: {min: 0, max: 1, zero: cold}";
        let both = format!("{rests}, {gateway}");
        check(&both, "targets: [{model: a}]", ("/health/ready?near=r", false));
    }

    /// Pods by name, uid and stage: who is up with which number, how many requests may go there, and how
    /// many rest.
    #[tokio::test]
    async fn pods_come_rest_and_go() {
        let (mut fleet, ..) = begin();
        let mut plan = planned("{url: 'http://127.0.0.1:1'}");
        fleet.set_lanes(&plan.lanes, &plan.routes);
        let spec = plan.endpoints.remove(0);
        let mut set = |pods: &[(&str, &str, Stage)]| {
            let one = |(name, uid, stage): &(&str, &str, Stage)| Reached {
                spec: pilotage_plan::EndpointSpec {
                    name: format!("a@{name}"),
                    pod: Some(PodSpec {
                        uid: (*uid).to_owned(),
                        stage: *stage,
                        near: Vec::new(),
                        metrics_of: Dialect::Vllm,
                    }),
                    ..spec.clone()
                },
                key: None,
                trust: None,
            };
            let reached: Vec<Reached> = pods.iter().map(one).collect();
            fleet.set_endpoints(0, &reached);
            let told: Vec<String> = (fleet.up.values())
                .map(|up| format!("{} {} {}", up.name, up.id.0, up.takes_work()))
                .collect();
            (told.join(", "), fleet.resting.len())
        };
        let mut check = |pods: &[(&str, &str, Stage)], expect: &str| {
            assert_eq!(set(pods), (expect.to_owned(), 0), "{pods:?}");
        };
        use Stage::{Leaving, Ready, Unready};
        check(&[("p", "1", Unready)], "");
        check(&[("p", "1", Ready), ("q", "2", Ready)], "a@p 1 true, a@q 2 true");
        check(&[("p", "1", Unready), ("q", "2", Ready)], "a@p 1 false, a@q 2 true");
        check(&[("p", "1", Ready), ("q", "2", Leaving)], "a@p 1 true, a@q 2 false");
        check(&[("p", "1", Ready)], "a@p 1 true");
        check(&[("p", "3", Unready)], "");
        check(&[("p", "3", Ready)], "a@p 3 true");
        check(&[], "");
    }

    #[tokio::test]
    async fn processes_rest_until_nothing_is_in_flight_or_patience_ends() {
        let (mut fleet, ..) = begin();
        let load = |in_flight: u32| -> Load {
            let text = format!(
                r#"{{"lanes": [{{"name": "a", "queue": {{"requests": 0}},
                    "replicas": [{{"id": 1, "in_flight": {in_flight}}}]}}]}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let text = "{apiVersion: pilotage.dev/v1alpha1, kind: Model, metadata: {name: a}, spec: \
                    {source: 'file:a'}}";
        let plan = plan(&parse_all([("f", text)]).unwrap(), &World::with_cores(1)).unwrap();
        let raise = |fleet: &mut Fleet| {
            let url = "http://127.0.0.1:1".to_owned();
            let key = Secret::new(format!("key of {url}"));
            fleet.process_up("a-0", &plan.processes[0], (url, None), Some(key.clone()));
            assert!(fleet.up["a-0"].key == Some(key), "that of this very process");
        };
        raise(&mut fleet);
        assert!(fleet.rest(0, "a-0") && !fleet.rest(0, "a-0"));
        assert_eq!(fleet.let_go(1, &load(2)), Vec::<String>::new());
        let patience = u64::try_from(PATIENCE.as_nanos()).unwrap();
        assert_eq!(fleet.let_go(patience, &load(2)), ["a-0"]);
        raise(&mut fleet);
        assert!(fleet.rest(0, "a-0"));
        assert!(fleet.process_died("a-0") && !fleet.is_resting(), "it died meanwhile");
        assert!(!fleet.process_down("a-0"));
    }

    #[tokio::test]
    async fn a_process_that_moves_to_another_lane_ends_what_came_before() {
        let text = "{apiVersion: pilotage.dev/v1alpha1, kind: Model, metadata: {name: a}, spec: \
                    {source: 'file:w'}}";
        let plan = plan(&parse_all([("f", text)]).unwrap(), &World::with_cores(1)).unwrap();
        let spec = plan.processes[0].clone();
        let before = ProcessSpec { lane: "a+next".to_owned(), ..spec.clone() };
        let mut lanes = plan.lanes.clone();
        lanes.push(Lane { name: "a+next".to_owned(), ..lanes[0].clone() });
        let at = || ("http://127.0.0.1:1".to_owned(), None);
        let (mut fleet, ..) = begin();
        let mut moved = |lanes: &[Lane]| {
            fleet.set_lanes(lanes, &[]);
            fleet.process_up("a-0", &before, at(), None);
            fleet.move_aside("a-0");
            fleet.process_up("a-0", &spec, at(), None);
            assert_eq!((fleet.lane_of("a-0"), fleet.aside.len()), (Some("a"), 1));
            fleet.set_lanes(lanes, &[]);
            let was_up = fleet.rest(0, "a-0");
            (was_up, fleet.resting.len(), fleet.let_go(0, &Load::default()).len())
        };
        assert_eq!(moved(&lanes), (true, 2, 2), "both are waited for");
        assert_eq!(moved(&plan.lanes), (true, 1, 1), "its lane is gone, and nobody waits for it");
    }

    /// Where replicas are asked how full they are, as whose metrics that is read, the API that they are asked
    /// in, and whether they are asked for their name.
    #[tokio::test]
    async fn lanes_are_forgotten_with_their_last_replica() {
        let (mut fleet, ..) = begin();
        let lane = planned("{url: 'http://127.0.0.1:1'}").lanes.remove(0);
        let named = |name: String| Lane { name, ..lane.clone() };
        fleet.set_lanes(&[named("a".to_owned())], &[]);
        let process = ProcessSpec { lane: "a".to_owned(), ..process() };
        fleet.process_up("a-0", &process, ("http://127.0.0.1:2".to_owned(), None), None);
        for round in 0..100 {
            fleet.set_lanes(&[named(format!("m-{round}"))], &[]);
        }
        let names = |fleet: &Fleet| {
            let mut names: Vec<String> = fleet.lanes.keys().cloned().collect();
            names.sort();
            names
        };
        assert_eq!(names(&fleet), ["a", "m-99"], "one that rests there keeps what holds");
        assert!(fleet.rest(0, "a-0"));
        fleet.set_lanes(&[], &[]);
        assert_eq!(names(&fleet), ["a"]);
        fleet.process_down("a-0");
        fleet.set_lanes(&[], &[]);
        assert_eq!(names(&fleet), [""; 0]);
    }

    fn process() -> ProcessSpec {
        let text = "{apiVersion: pilotage.dev/v1alpha1, kind: Model, metadata: {name: a}, spec: \
                    {source: 'file:w.gguf'}}";
        let plan = plan(&parse_all([("f", text)]).unwrap(), &World::with_cores(1)).unwrap();
        plan.processes[0].clone()
    }

    #[tokio::test]
    async fn replicas_are_read_where_their_metrics_are() {
        let told = |spec: &str| {
            let (mut fleet, ..) = begin();
            let text = format!(
                "{{apiVersion: pilotage.dev/v1alpha1, kind: Model, metadata: {{name: a}}, spec: {{{spec}}}}}"
            );
            let plan =
                plan(&parse_all([("f", text.as_str())]).unwrap(), &World::with_cores(1)).unwrap();
            fleet.set_lanes(&plan.lanes, &plan.routes);
            let reached: Vec<_> = (plan.endpoints.iter())
                .map(|spec| Reached { spec: spec.clone(), key: None, trust: None })
                .collect();
            fleet.set_endpoints(0, &reached);
            for process in &plan.processes {
                let at = ("http://127.0.0.1:1".to_owned(), None);
                fleet.process_up(&process.name, process, at, None);
            }
            let up = fleet.up.values().next().unwrap();
            let replica = up.replica(up.capacity);
            (replica.metrics, replica.metrics_of.name(), replica.own, replica.finds_name)
        };
        let check = |spec: &str, expect: (Option<&str>, &str, Option<Own>, bool)| {
            let expect = (expect.0.map(str::to_owned), expect.1, expect.2, expect.3);
            assert_eq!(told(spec), expect, "{spec}");
        };
        let triton = Some(Own::Triton);
        let at = "endpoints: [{url: 'https://h:9/x'}]";
        check(
            &format!("dialect: triton, {at}"),
            (Some("https://h:8002/metrics"), "triton", triton, false),
        );
        check(
            "dialect: triton, endpoints: [{url: 'http://h', metricsUrl: 'http://m:1/x/metrics'}]",
            (Some("http://m:1/x/metrics"), "triton", triton, false),
        );
        check(at, (Some("/metrics"), "auto", None, true));
        check(&format!("dialect: tgi, {at}"), (Some("/metrics"), "tgi", None, false));
        check(&format!("servedModel: x, {at}"), (Some("/metrics"), "auto", None, false));
        let local = "source: 'file:w', runtime";
        check(&format!("{local}: triton"), (Some("/metrics"), "triton", None, false));
        check(&format!("{local}: vllm"), (Some("/metrics"), "vllm", None, false));
    }
}
