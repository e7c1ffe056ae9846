//! Plans: threads, order, changes, JSON, and that no manifest whatever makes the parser panic.

use pilotage_core::health::BoardConfig;
use pilotage_core::{SchedulerConfig, TenantId};
use pilotage_plan::api::{
    Endpoint, Model, ModelSpec, QueueLimits, Resource, Route, RouteSpec, Tenant, TenantSpec,
};
use pilotage_plan::world::Gpu;
use pilotage_plan::{Plan, PlanError, World, default, parse, parse_all, plan};
use proptest::prelude::*;

#[expect(clippy::unwrap_used, reason = "the tests below write valid names")]
fn model(name: &str, change: impl FnOnce(&mut ModelSpec)) -> Resource {
    let source = format!("file:{name}.gguf").parse().unwrap();
    let mut spec = ModelSpec::from_source(source);
    change(&mut spec);
    Resource::Model(Model::new(name.parse().unwrap(), spec))
}

#[expect(clippy::unwrap_used, reason = "the tests below write valid names")]
fn tenant(name: &str, change: impl FnOnce(&mut TenantSpec)) -> Resource {
    let mut spec = TenantSpec::default();
    change(&mut spec);
    Resource::Tenant(Tenant::new(name.parse().unwrap(), spec))
}

fn threads(plan: &Plan) -> Vec<u32> {
    plan.processes.iter().map(|process| process.threads).collect()
}

#[test]
fn threads_are_split() {
    let check = |cores, replicas, expect: &[u32]| {
        let resources = [model("a", |spec| spec.replicas = replicas)];
        let plan = plan(&resources, &World::with_cores(cores)).unwrap();
        assert_eq!(threads(&plan), expect, "{cores} cores, {replicas} replicas");
        for process in &plan.processes {
            let at = process.args.iter().position(|arg| arg == "--threads").unwrap();
            assert_eq!(process.args[at + 1], process.threads.to_string());
        }
    };
    check(0, 1, &[1]);
    check(1, 1, &[1]);
    check(2, 1, &[2]);
    check(2, 2, &[1, 1]);
    check(3, 1, &[2]);
    check(8, 1, &[7]);
    check(8, 2, &[4, 3]);
    check(2, 3, &[1, 1, 1]);
}

/// Weights that never run at the same time need not fit together.
#[test]
fn weights_of_models_that_take_turns_need_room_for_the_largest() {
    let sized = |name: &str, bytes: u64, scaling: &str| {
        model(name, |spec| {
            spec.size_bytes = Some(bytes);
            spec.scaling = serde_json::from_str(scaling).unwrap();
        })
    };
    let cold = r#"{"min": 0, "max": 1, "zero": "cold"}"#;
    let check = |others: &str, available: u64, expect: Option<u64>| {
        let resources = [sized("a", 20, others), sized("b", 18, cold), sized("c", 7, "null")];
        let world = World { memory_bytes: Some(available), ..World::with_cores(4) };
        let got = plan(&resources, &world).err();
        assert_eq!(got, expect.map(|needed| PlanError::Memory { needed, available }));
    };
    check(cold, 27, None);
    check(cold, 26, Some(27));
    check("null", 44, Some(45));
    check(r#"{"min": 1, "max": 2}"#, 44, Some(45));
}

#[test]
fn what_a_model_says_is_taken_from_the_rest() {
    let resources = [
        model("a", |spec| spec.threads = Some(4)),
        model("b", |spec| spec.replicas = 2),
        model("c", |spec| spec.threads = Some(2)),
    ];
    let plan = plan(&resources, &World::with_cores(12)).unwrap();
    assert_eq!(threads(&plan), [4, 3, 2, 2]);
    assert_eq!(plan.notes, Vec::<String>::new());
}

#[test]
fn a_process_leaves_no_choice() {
    let resources = parse_all([(default::FILE, default::MANIFEST)]).unwrap();
    let plan = plan(&resources, &World::with_cores(4)).unwrap();
    insta::assert_yaml_snapshot!(plan);
}

#[test]
fn notes_say_what_a_reader_should_know() {
    let source = "https://example.com/a.gguf".parse().unwrap();
    let mut spec = ModelSpec::from_source(source);
    spec.replicas = 3;
    let gpu = Gpu { id: None, name: "NVIDIA H200".to_owned(), memory_bytes: None };
    let world = World { gpus: vec![gpu], ..World::with_cores(2) };
    let plan = plan(&[Resource::Model(Model::new("a".parse().unwrap(), spec))], &world).unwrap();
    assert_eq!(
        plan.notes,
        [
            "the download for a is not verified: no digest is given",
            "3 threads share 2 cores, so replicas slow down",
            "not used: NVIDIA H200 (the embedded engine runs on the CPU)",
        ]
    );
}

#[test]
fn a_resource_made_by_a_program_is_checked_as_well() {
    let check = |resources: &[Resource], expect: &str| {
        let error = plan(resources, &World::with_cores(4)).unwrap_err();
        assert_eq!(error.to_string(), expect);
    };
    check(
        &[model("a", |spec| spec.replicas = 65)],
        "Model a: spec.replicas: 65 is out of range; write a number from 0 to 64",
    );
    let route = Route::new("r".parse().unwrap(), RouteSpec::to_model("b".parse().unwrap()));
    check(
        &[model("a", |_| ()), Resource::Route(route)],
        "spec.targets[0].model: there is no Model of the name `b` (defined: a)",
    );
    check(
        &[model("a", |_| ()), model("a", |_| ())],
        "metadata.name: a Model of the name `a` is defined at Model a already; rename or remove \
         one",
    );
    let many: Vec<_> = (10..40)
        .map(|at| {
            tenant(&format!("t{at}"), |spec| {
                spec.parent = (at == 10).then(|| "elsewhere".parse().unwrap());
            })
        })
        .collect();
    let first: Vec<_> = (10..30).map(|at| format!("t{at}")).collect();
    let known = format!("(defined: {} and 10 more)", first.join(", "));
    check(&many, &format!("spec.parent: there is no Tenant of the name `elsewhere` {known}"));
    assert_eq!(plan(&[], &World::default()), Err(PlanError::NoModel));
}

#[test]
fn changes_name_what_differs() {
    let world = World::with_cores(4);
    let before = plan(&[model("a", |_| ()), model("b", |_| ())], &world).unwrap();
    let after =
        plan(&[model("b", |spec| spec.context = 4096), model("c", |_| ())], &world).unwrap();
    insta::assert_snapshot!(after.changes_from(&before));
    assert_eq!(after.changes_from(&after).to_string(), "nothing changes\n");
}

#[test]
fn a_plan_from_nothing_is_all_new() {
    let resources = parse_all([(default::FILE, default::MANIFEST)]).unwrap();
    let plan = plan(&resources, &World::with_cores(4)).unwrap();
    let changes = plan.changes_from(&Plan::default());
    assert_eq!(
        changes.to_string(),
        "+ process smollm2-0\n+ lane smollm2\n+ route smollm2\n+ tenant local\n"
    );
}

#[test]
fn weights_are_listed_once() {
    let resources = [model("a", |spec| spec.replicas = 3), model("b", |_| ())];
    let plan = plan(&resources, &World::with_cores(4)).unwrap();
    assert_eq!(plan.weights().len(), 2);
}

/// The order of files and documents is no decision of the user's.
#[test]
fn order_changes_nothing() {
    let mut resources = parse_all([(default::FILE, default::MANIFEST)]).unwrap();
    resources.push(model("b", |_| ()));
    resources.push(model("a", |spec| spec.replicas = 2));
    let world = World::with_cores(7);
    let forth = plan(&resources, &world).unwrap();
    resources.reverse();
    assert_eq!(plan(&resources, &world).unwrap(), forth);
}

#[test]
fn a_route_without_wishes_is_scheduled_as_the_core_proposes() {
    let plan = plan(&[model("a", |_| ())], &World::with_cores(1)).unwrap();
    let judged = SchedulerConfig { health: Some(BoardConfig::default()), ..Default::default() };
    assert_eq!(plan.lanes[0].scheduler_config(), judged);
}

#[test]
fn prices_and_scheduling_reach_the_lane() {
    let check = |price: &str, expect: [u64; 3]| {
        let text = format!(
            "{{apiVersion: pilotage.dev/v1alpha1, kind: Model, metadata: {{name: a}}, \
             spec: {{source: 'file:a'{price}}}}}"
        );
        let plan = plan(&parse("f", &text).unwrap(), &World::with_cores(1)).unwrap();
        let price = plan.lanes[0].price;
        assert_eq!([price.input, price.cached, price.output], expect, "{text}");
    };
    check("", [0, 0, 0]);
    check(", price: {input: '0.15', output: '0.6'}", [150_000, 150_000, 600_000]);
    check(", price: {input: '1', cached: '0', output: '2'}", [1_000_000, 0, 2_000_000]);

    let mut spec = RouteSpec::to_model("a".parse().unwrap());
    let scheduling = spec.scheduling.get_or_insert_default();
    scheduling.predict = true;
    scheduling.preemption.stops_max = 7;
    let route = Route::new("r".parse().unwrap(), spec);
    let resources = [model("a", |_| ()), Resource::Route(route)];
    let config = plan(&resources, &World::with_cores(1)).unwrap().lanes[0].scheduler_config();
    assert_eq!(config.fair.predict, pilotage_core::Predict::Average);
    assert_eq!(config.preempt.stops_max, 7);
}

/// A Route says what holds for its targets; a fallback's own Route goes before it, and whoever says
/// nothing contradicts nobody.
#[test]
fn a_model_has_one_queue_whichever_route_leads_there() {
    let route = |name: &str, target: &str, fallback: &str, waiting: Option<u32>| {
        let mut spec = RouteSpec::to_model(target.parse().unwrap());
        spec.fallbacks = fallback.parse().into_iter().collect();
        spec.queue = waiting.map(|requests_max| QueueLimits { requests_max, tokens_max: 9 });
        spec.retries.attempts_max = if name == "r" { 7 } else { 2 };
        Resource::Route(Route::new(name.parse().unwrap(), spec))
    };
    let check = |routes: Vec<Resource>, expect: &[(&str, u32, u32)]| {
        let mut resources = vec![model("a", |_| ()), model("b", |_| ())];
        resources.extend(routes);
        let plan = plan(&resources, &World::with_cores(1)).unwrap();
        let found: Vec<_> = plan
            .lanes
            .iter()
            .map(|lane| (lane.name.as_str(), lane.queue.requests_max, lane.retries.attempts_max))
            .collect();
        assert_eq!(found, expect);
    };
    check(vec![route("r", "a", "b", Some(5))], &[("a", 5, 7), ("b", 5, 7)]);
    let others = || vec![route("r", "a", "b", Some(5)), route("s", "b", "", Some(6))];
    check(others(), &[("a", 5, 7), ("b", 6, 7)]);
    let mut more = others();
    more.extend([route("t", "a", "", None), route("u", "b", "a", Some(6))]);
    check(more, &[("a", 5, 7), ("b", 6, 7)]);
    check(vec![route("s", "a", "", None)], &[("a", 1024, 2), ("b", 1024, 3)]);
}

#[test]
fn endpoints_are_replicas_that_keep_their_names() {
    let endpoint = |url: &str| Endpoint::at(url.parse().unwrap());
    let remote = |urls: &[&str]| {
        let spec = ModelSpec::from_endpoints(urls.iter().copied().map(endpoint).collect());
        Resource::Model(Model::new("big".parse().unwrap(), spec))
    };
    let world = World {
        gpus: vec![Gpu { id: None, name: "H200".to_owned(), memory_bytes: None }],
        ..World::with_cores(1)
    };
    let both = plan(&[remote(&["http://10.0.0.1:8000/", "http://10.0.0.2:8000"])], &world).unwrap();
    assert_eq!(both.lanes[0].replicas, ["big@10.0.0.1:8000", "big@10.0.0.2:8000"]);
    assert_eq!((both.processes.len(), both.notes.len()), (0, 0));
    let one = plan(&[remote(&["http://10.0.0.2:8000"])], &world).unwrap();
    let changes = one.changes_from(&both).to_string();
    assert!(changes.starts_with("- endpoint big@10.0.0.1:8000\n~ lane big\n"), "{changes}");

    let urls: Vec<_> = (0..250).map(|at| format!("http://h{at}")).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let many: Vec<_> = (0..5)
        .map(|at| {
            let Resource::Model(mut model) = remote(&urls) else { panic!("another kind") };
            model.metadata.name = format!("m{at}").parse().unwrap();
            Resource::Model(model)
        })
        .collect();
    assert_eq!(plan(&many, &world), Err(PlanError::TooManyEndpoints { wanted: 1250 }));
}

#[test]
fn two_tenants_with_one_id_are_no_tree() {
    let resources = [model("a", |_| ()), tenant("x", |_| ()), tenant("y", |_| ())];
    let plan = plan(&resources, &World::with_cores(1)).unwrap();
    assert!(plan.tenant_tree(|_| TenantId(1)).is_err());
    assert!(plan.tenant_tree(|name| TenantId(u32::from(name == "x"))).is_ok());
}

/// A tenant's parent, weight, guarantee and limits.
type Wanted = (Option<usize>, u32, u32, Option<u32>, Option<u32>);

/// Tenants that may be right or wrong together: parents among them or not, shares, weights.
fn tenants() -> impl Strategy<Value = Vec<Resource>> {
    let limit = || proptest::option::of(0_u32..3);
    let one = (proptest::option::of(0_usize..10), 1_u32..4, 0_u32..40, limit(), limit());
    let named = |(at, wanted): (usize, Wanted)| {
        let (parent, weight, guaranteed, borrowing, lending) = wanted;
        tenant(&format!("t{at}"), |spec| {
            spec.parent = parent.and_then(|parent| format!("t{parent}").parse().ok());
            spec.weight = weight;
            spec.share.guaranteed_percent = guaranteed;
            spec.share.borrowing_limit_percent = borrowing;
            spec.share.lending_limit_percent = lending;
        })
    };
    proptest::collection::vec(one, 0..10)
        .prop_map(move |wanted| wanted.into_iter().enumerate().map(named).collect())
}

fn yaml() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("apiVersion: pilotage.dev/v1alpha1\n".to_owned()),
        Just("kind: Model\n".to_owned()),
        Just("kind: Route\n".to_owned()),
        Just("metadata: {name: a}\n".to_owned()),
        Just("spec: {source: 'file:a'}\n".to_owned()),
        Just("spec:\n".to_owned()),
        Just("  targets: [{model: a}]\n".to_owned()),
        Just("---\n".to_owned()),
        "[ \\-&*!|>'\"{}\\[\\],:?a-z0-9\n\t]{0,12}",
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_manifest_panics(text in yaml()) {
        if let Err(errors) = parse("f", &text) {
            prop_assert!(!errors.is_empty());
        }
    }

    /// The checks, which name file and line, find all that the scheduler would refuse, and nothing
    /// else. Most of these are wrong, so that parents are turned around until some are right.
    #[test]
    fn tenants_that_pass_the_checks_are_a_tree(
        mut resources in tenants(), upwards: bool, modest: bool,
    ) {
        for (at, resource) in resources.iter_mut().enumerate() {
            let Resource::Tenant(tenant) = resource else { continue };
            let parent = tenant.spec.parent.take();
            let earlier = |name: &str| name[1..].parse().is_ok_and(|parent: usize| parent < at);
            tenant.spec.parent = parent.filter(|parent| !upwards || earlier(parent.as_str()));
            if modest {
                tenant.spec.share.guaranteed_percent /= 30;
                tenant.spec.share.borrowing_limit_percent = None;
            }
        }
        let shares = resources.iter().zip(0_u32..).map(|(resource, at)| {
            let Resource::Tenant(Tenant { spec, .. }) = resource else { panic!("another kind") };
            let id = |name: &str| TenantId(name[1..].parse().unwrap_or(u32::MAX));
            pilotage_core::TenantShare {
                id: TenantId(at),
                parent: spec.parent.as_ref().map(|parent| id(parent.as_str())),
                weight: spec.weight * 1000,
                guaranteed: spec.share.guaranteed_percent * 10,
                borrowing_limit: spec.share.borrowing_limit_percent.map(|percent| percent * 10),
                lending_limit: spec.share.lending_limit_percent.map(|percent| percent * 10),
            }
        });
        let expect = pilotage_core::TenantTree::new(shares);
        resources.push(model("a", |_| ()));
        match plan(&resources, &World::with_cores(1)) {
            Ok(plan) => {
                let id = |name: &str| TenantId(name[1..].parse().unwrap());
                prop_assert_eq!(plan.tenant_tree(id), expect);
                let mut above = vec![];
                for tenant in &plan.tenants {
                    prop_assert!(tenant.parent.as_ref().is_none_or(|name| above.contains(name)));
                    above.push(tenant.name.clone());
                }
                prop_assert_eq!(above.len(), resources.len() - 1);
            }
            Err(PlanError::Resources(errors)) => {
                prop_assert!(!errors.is_empty());
                prop_assert!(expect.is_err(), "{:?}", errors);
            }
            Err(error) => panic!("found too late: {error}"),
        }
    }

    #[test]
    fn every_thread_is_given_out_once(cores in 3_u32..200, replicas in 1_u32..64) {
        let resources = [model("a", |spec| spec.replicas = replicas)];
        let plan = plan(&resources, &World::with_cores(cores)).unwrap();
        let sum: u32 = threads(&plan).iter().sum();
        prop_assert_eq!(sum, (cores - 1).max(replicas));
    }

    #[test]
    fn a_tenant_prints_and_reads_the_same(mut resources in tenants(), hard in 1_u32..) {
        for resource in &mut resources {
            let Resource::Tenant(tenant) = resource else { continue };
            let budget = format!(r#"{{"window":"day","hard":"{hard}.5"}}"#);
            tenant.spec.quota.budgets = vec![serde_json::from_str(&budget).unwrap()];
            let json = serde_json::to_string(&Resource::Tenant(tenant.clone())).unwrap();
            let read = parse("f", &json).unwrap();
            let Resource::Tenant(read) = &read[0] else { panic!("another kind") };
            prop_assert_eq!(&read.spec, &tenant.spec);
        }
    }

    #[test]
    fn a_resource_prints_and_reads_the_same(
        replicas in 1_u32..64, context in 16_u32..100_000, threads: Option<u8>,
    ) {
        let resource = model("a", |spec| {
            spec.replicas = replicas;
            spec.context = context;
            spec.threads = threads.map(|threads| u32::from(threads) + 1);
        });
        let json = serde_json::to_string(&resource).unwrap();
        let read = parse("f", &json).unwrap();
        let (Resource::Model(read), Resource::Model(resource)) = (&read[0], &resource) else {
            panic!("another kind");
        };
        prop_assert_eq!(&read.spec, &resource.spec);
        prop_assert_eq!(&read.metadata, &resource.metadata);
    }
}

/// A Model's lane, with this more in its manifest.
#[expect(clippy::unwrap_used, reason = "the tests below write valid manifests")]
fn lane(spec: &str) -> pilotage_plan::Lane {
    let text = format!(
        "{{apiVersion: pilotage.dev/v1alpha1, kind: Model, metadata: {{name: a}}, spec: {{{spec}}}}}"
    );
    plan(&parse("f", &text).unwrap(), &World::with_cores(1)).unwrap().lanes.remove(0)
}

#[test]
fn health_metrics_and_prefixes_follow_the_dialect() {
    let metrics = |dialect: &str| {
        let lane = lane(&format!("endpoints: [{{url: 'http://h'}}], dialect: {dialect}"));
        lane.metrics_path
    };
    assert_eq!(metrics("auto").as_deref(), Some("/metrics"));
    assert_eq!(metrics("trtllm").as_deref(), Some("/prometheus/metrics"));
    assert_eq!(metrics("openai"), None);
    assert_eq!(metrics("triton"), None, "its metrics have a port of their own");
    let check = |more: &str, path: &str, is_strict: bool, shares: bool| {
        let lane = lane(&format!("endpoints: [{{url: 'http://h'}}]{more}"));
        assert_eq!((lane.health.path.as_str(), lane.health.is_strict), (path, is_strict), "{more}");
        assert_eq!(lane.scheduler_config().shares_prefixes, shares, "{more}");
    };
    check("", "/health", false, false);
    check(", dialect: vllm", "/health", false, true);
    check(", dialect: sglang", "/health", false, true);
    check(", dialect: pilotage", "/health", false, false);
    check(", dialect: ollama", "/v1/models", false, false);
    check(", dialect: vllm, health: {path: /ping}", "/ping", true, true);
    assert!(!lane("source: 'file:a'").scheduler_config().shares_prefixes);
}

#[test]
fn a_lane_is_known_by_its_weights() {
    let digest = "sha256:".to_owned() + &"ab".repeat(32);
    assert_eq!(lane(&format!("source: 'file:a', digest: '{digest}'")).identity, digest);
    assert_eq!(lane("source: 'file:a'").identity, "");
}

#[test]
fn endpoints_know_where_they_are_written() {
    let text = "apiVersion: pilotage.dev/v1alpha1\nkind: Model\nmetadata: {name: a}\nspec:\n  \
                endpoints:\n  - url: http://h\n  - url: https://i\n    caFile: /ca.pem\n";
    let plan = plan(&parse("f.yaml", text).unwrap(), &World::with_cores(1)).unwrap();
    let at = |index: usize, field: &str| plan.endpoints[index].written.at(field);
    assert_eq!(at(1, "caFile"), "f.yaml:8: spec.endpoints[1].caFile");
    // What is not there is where its document begins.
    assert_eq!(at(0, "keyFile"), "f.yaml:1: spec.endpoints[0].keyFile");
    assert_eq!(pilotage_plan::Written::default().at("url"), "spec.endpoints[0].url");
}
