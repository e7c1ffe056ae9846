//! Who comes, rests and goes, and what gateways are told of it.

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
    let admin = gateway.admin_router(Default::default());
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
    let (one, two) = ("{url: 'http://127.0.0.1:1'}", "{url: 'http://127.0.0.1:2', kvTokens: 9}");
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
    // Whoever only falls back to it asks for another one.
    let two = "targets: [{model: other}], fallbacks: [a]}}\n---\n{apiVersion: pilotage.dev/v1alpha1, kind: Model, \
               metadata: {name: other}, spec: {endpoints: [{url: 'http://o'}]}}\n---\n{apiVersion: \
               pilotage.dev/v1alpha1, kind: Route, metadata: {name: s}, spec: {targets: [{model: a}]";
    check(gateway, two, ("/health/ready?near=s", true));
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
                    name: (*name).to_owned(),
                    namespace: None,
                    node: None,
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

/// A price that changes is told of who runs, and starts nothing anew.
#[tokio::test]
async fn what_replicas_run_on_is_told_and_changes_no_replica() {
    let (mut fleet, ..) = begin();
    let process = process();
    fleet.process_up("a-0", &process, ("http://127.0.0.1:2".to_owned(), None), None);
    let told = |fleet: &Fleet| {
        let up = &fleet.up["a-0"];
        let replica = up.replica(up.capacity);
        (up.id, replica.hardware.map(|name| name.to_string()), replica.micros_per_hour)
    };
    let (id, cpu) = (fleet.up["a-0"].id, Some("cpu".to_owned()));
    assert_eq!(told(&fleet), (id, cpu.clone(), None));
    let mut dearer = process;
    dearer.ground.micros_per_hour = Some(7);
    fleet.set_grounds([&dearer].into_iter());
    assert_eq!(told(&fleet), (id, cpu, Some(7)));
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
