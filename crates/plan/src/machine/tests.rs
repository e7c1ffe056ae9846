//! Models on one machine.

use super::*;
use crate::render::Secret;
use crate::size::{Config, Format, ModelFacts};
use crate::world::{Gpu, Installed};
use crate::{Plan, parse_all, plan};

fn planned(spec: &str, world: &World) -> Result<Plan, String> {
    let text = format!(
        "apiVersion: pilotage.dev/v1alpha1\nkind: Model\nmetadata: {{name: m}}\nspec: {{{spec}}}\n"
    );
    let resources =
        parse_all([("f.yaml", text.as_str())]).map_err(|e| crate::manifest::join(&e))?;
    plan(&resources, world).map_err(|error| error.to_string())
}

/// Models `a`, `b` and so on.
fn several(specs: &[&str], world: &World) -> Result<Plan, String> {
    let one = |(name, spec): (char, &&str)| {
        format!(
            "apiVersion: pilotage.dev/v1alpha1\nkind: Model\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"
        )
    };
    let text = ('a'..).zip(specs).map(one).collect::<Vec<_>>().join("---\n");
    let resources = parse_all([("f.yaml", text.as_str())]).unwrap();
    plan(&resources, world).map_err(|error| error.to_string())
}

/// Each process with its accelerators.
fn placed(plan: &Plan) -> Vec<String> {
    let told = |one: &ProcessSpec| format!("{} {}", one.name, one.devices.join(","));
    plan.processes.iter().map(told).collect()
}

fn gpus(count: usize) -> World {
    let gpu = |at: usize| Gpu {
        name: "NVIDIA L4".to_owned(),
        id: Some(format!("gpu-{at}")),
        memory_bytes: Some(24 << 30),
    };
    World { gpus: (0..count).map(gpu).collect(), ..World::with_cores(8) }
}

fn llama_server(home: Option<&str>) -> Sought {
    let home = home.map(str::to_owned);
    Sought { program: "llama-server".to_owned(), package: None, home }
}

fn has(process: &ProcessSpec, words: &[&str]) -> bool {
    process.args.windows(words.len()).any(|args| args == words)
}

#[test]
fn a_runtime_of_others_is_started_with_what_the_model_says() {
    let spec = "source: 'file:weights', runtime: vllm, runtimePath: ./venv, parallel: 4, context: 1024, \
                parallelism: {tensor: 2}, runtimeArgs: [--enforce-eager], \
                runtimeEnv: {OMP_NUM_THREADS: '1', A: b}, startSeconds: 900, warmUp: false";
    let plan = planned(spec, &World::with_cores(2)).unwrap();
    let process = &plan.processes[0];
    let home = Some("./venv".to_owned());
    assert_eq!(process.program, Program::Named { name: "vllm".to_owned(), home });
    assert!(has(process, &["serve", "{weights}"]) && has(process, &["--enforce-eager"]));
    assert!(has(process, &["--tensor-parallel-size", "2"]));
    assert!(has(process, &["--max-model-len", "1024"]) && has(process, &["--max-num-seqs", "4"]));
    assert!(has(process, &["--host", "127.0.0.1"]) && has(process, &["--port", "{port}"]));
    let env = |name: &str| {
        let found = process.env.iter().filter(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str()).collect::<Vec<_>>()
    };
    assert_eq!((env("OMP_NUM_THREADS"), env("A")), (vec!["1"], vec!["b"]));
    assert_eq!(process.secrets, [("VLLM_API_KEY".to_owned(), Secret::EngineKey)]);
    let readiness = &process.readiness;
    assert_eq!((readiness.start_seconds, readiness.warms_up), (Some(900), false));
    assert!(readiness.lists_model);
    let lane = plan.lane("m").unwrap();
    assert_eq!((lane.dialect, lane.token_ids), (crate::api::Dialect::Vllm, false));
    assert_eq!(lane.metrics_path.as_deref(), Some("/metrics"));
}

#[test]
fn accelerators_are_given_out_one_by_one() {
    let check = |spec: &str, found: usize, expect: Result<&[&str], &str>| {
        let spec = format!("source: 'file:weights', runtime: vllm, {spec}");
        let devices = planned(&spec, &gpus(found)).map(|plan| {
            let devices = plan.processes.iter().flat_map(|process| {
                process.env.iter().filter(|(name, _)| name == "CUDA_VISIBLE_DEVICES")
            });
            devices.map(|(_, value)| value.clone()).collect::<Vec<_>>()
        });
        match expect {
            Ok(expect) => assert_eq!(devices.unwrap(), expect, "{spec}"),
            Err(part) => {
                let error = devices.unwrap_err();
                assert!(error.contains(part), "{spec}: {error}");
            }
        }
    };
    check("replicas: 2", 2, Ok(&["gpu-0", "gpu-1"]));
    check("replicas: 2, parallelism: {tensor: 2}", 4, Ok(&["gpu-0,gpu-1", "gpu-2,gpu-3"]));
    check(
        "replicas: 3",
        2,
        Err(
            "f.yaml:4: spec.replicas: m-2 wants 1 accelerators, and 0 of this machine's 2 are free",
        ),
    );
    check("parallelism: {tensor: 4}", 2, Err("m-0 wants 4 accelerators, and 2"));
}

#[test]
fn runtimes_whose_ports_cannot_be_chosen_run_alone() {
    let one = |replicas: u32| {
        let spec = format!("source: 'file:weights', runtime: deepspeed, replicas: {replicas}");
        planned(&spec, &World::with_cores(2)).map(|plan| plan.processes.len())
    };
    assert_eq!(one(1), Ok(1));
    let error = one(2).unwrap_err();
    assert!(error.contains("spec.runtime: m-0 and m-1 would meet at ports"), "{error}");
    // Also where it comes only when somebody asks.
    let deepspeed = |more: &str| format!("source: 'file:weights', runtime: deepspeed, {more}");
    let cold = deepspeed("scaling: {min: 0, max: 1, zero: cold}");
    for world in [World::with_cores(2), gpus(1), gpus(2)] {
        for first in [&deepspeed("replicas: 1"), &cold] {
            let error = several(&[first, &cold], &world).unwrap_err();
            assert!(error.contains("a-0 and b-0 would meet at ports"), "{error}");
        }
    }
    let two = planned(&deepspeed("scaling: {min: 0, max: 2, zero: cold}"), &gpus(2)).unwrap();
    assert_eq!(two.processes.len(), 1, "a second copy has no room");
}

#[test]
fn what_is_not_installed_is_said_where_it_was_asked_for() {
    let world = |home: Option<&str>, found: Found| World {
        runtimes: Some(vec![Installed { sought: llama_server(home), found }]),
        ..World::with_cores(2)
    };
    let absent = || Found::Nothing("`llama-server` is nowhere".to_owned());
    let error = planned("source: 'file:a.gguf', runtime: llama.cpp", &world(None, absent()));
    assert_eq!(error.unwrap_err(), "f.yaml:4: spec.runtime: `llama-server` is nowhere");
    let spec = "source: 'file:a.gguf', runtime: llama.cpp, runtimePath: /opt/l";
    let error = planned(spec, &world(Some("/opt/l"), absent()));
    assert_eq!(error.unwrap_err(), "f.yaml:4: spec.runtimePath: `llama-server` is nowhere");
    let there = world(Some("/opt/l"), Found::Release(Some("b9093".to_owned())));
    assert!(planned(spec, &there).is_ok());
    // Also of one that takes turns, which is tried with the accelerators of others.
    let spec = "source: 'file:a.gguf', runtime: llama.cpp, scaling: {min: 0, max: 1, zero: cold}";
    let world = World { gpus: gpus(1).gpus, ..world(None, absent()) };
    let error = several(&[spec, spec], &world).unwrap_err();
    assert_eq!(error.matches("spec.runtime: `llama-server` is nowhere").count(), 2, "{error}");
    assert!(!error.contains("spec.replicas"), "{error}");
}

#[test]
fn fields_of_runtimes_are_for_runtimes() {
    let check = |spec: &str, part: &str| {
        let error = planned(spec, &World::with_cores(2)).unwrap_err();
        assert!(error.contains(part), "{spec}: {error}");
    };
    check(
        "source: 'file:a.gguf', parallelism: {tensor: 2}",
        "spec.parallelism: the embedded engine",
    );
    check("source: 'file:a.gguf', runtime: vllm, runtimeEnv: {'A B': c}", "spec.runtimeEnv.A B");
    check("source: 'file:a.gguf', runtime: vllm, runtimeEnv: {PILOTAGE_LOG: c}", "Pilotage's own");
    check("endpoints: [{url: 'http://h'}], runtimePath: /x", "spec.runtimePath");
    check("source: 'file:a', runtime: tgi, parallelism: {pipeline: 2}", "spec.runtime");
}

#[test]
fn where_it_is_open_the_best_of_what_is_installed_runs_a_model() {
    let text = include_str!("../../tests/size/models/qwen2.5-7b.json");
    let facts = Config::parse(text.as_bytes()).unwrap().facts().unwrap();
    let facts = ModelFacts { format: Format::Safetensors, ..facts };
    let resources = parse_all([(
        "f.yaml",
        "{apiVersion: pilotage.dev/v1alpha1, kind: Model, metadata: {name: m}, \
         spec: {source: 'file:weights'}}",
    )])
    .unwrap();
    let check = |there: &[&str], expect: Program, note: Option<&str>| {
        let mut world = gpus(1);
        world.facts.insert("file:weights".to_owned(), facts.clone());
        let found = programs(&resources, &world).into_iter().map(|sought| Installed {
            found: if there.contains(&sought.package.as_deref().unwrap_or(&sought.program)) {
                Found::Release(None)
            } else {
                Found::Nothing("absent".to_owned())
            },
            sought,
        });
        world.runtimes = Some(found.collect());
        let plan = plan(&resources, &world).unwrap();
        assert_eq!(plan.processes[0].program, expect);
        let told = note.is_none_or(|note| plan.notes.iter().any(|one| one.contains(note)));
        assert!(told, "{:?}", plan.notes);
    };
    let named = |name: &str| Program::Named { name: name.to_owned(), home: None };
    check(&["vllm", "sglang"], named("vllm"), Some("m runs by vLLM: "));
    check(&["sglang", "ollama"], named("python"), Some("m runs by SGLang: "));
    check(&[], Program::Own, None);
}

#[test]
fn who_has_accelerators_keeps_them() {
    let mut world = gpus(4);
    let had = |name: &str, ids: &[&str]| {
        (name.to_owned(), ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>())
    };
    // One that is leaving has the second; two of the model's have the last ones.
    let held = [had("gone-0", &["gpu-1"]), had("m-0", &["gpu-3"]), had("m-1", &["gpu-2"])];
    world.devices = held.into_iter().collect();
    let devices = |spec: &str| {
        let plan = planned(&format!("source: 'file:weights', runtime: vllm, {spec}"), &world)?;
        Ok::<_, String>(
            plan.processes.into_iter().map(|process| process.devices).collect::<Vec<_>>(),
        )
    };
    assert_eq!(devices("replicas: 3").unwrap(), [["gpu-3"], ["gpu-2"], ["gpu-0"]]);
    assert_eq!(devices("parallelism: {tensor: 2}").unwrap(), [["gpu-3", "gpu-0"]]);
    assert!(devices("replicas: 4").unwrap_err().contains("m-3 wants 1 accelerators, and 0"));
}

/// Models that go to nothing share what there is; one that is always there has it to itself.
#[test]
fn models_that_take_turns_share_accelerators() {
    let cold = "scaling: {min: 0, max: 2, zero: cold}";
    let check = |specs: [&str; 3], world: &World, expect: Result<&[&str], &str>| {
        let specs = specs.map(|spec| format!("source: 'file:weights', runtime: vllm, {spec}"));
        let got = several(&specs.each_ref().map(String::as_str), world);
        match expect {
            Ok(expect) => assert_eq!(placed(got.as_ref().unwrap()), expect),
            Err(part) => assert!(got.as_ref().unwrap_err().contains(part), "{got:?}"),
        }
        got.map(|plan| plan.notes).unwrap_or_default()
    };
    let notes = check([cold; 3], &gpus(1), Ok(&["a-0 gpu-0", "b-0 gpu-0", "c-0 gpu-0"]));
    assert!(notes.iter().any(|note| note.starts_with("a and b take turns")), "{notes:?}");
    check([cold; 3], &gpus(2), Ok(&["a-0 gpu-0", "b-0 gpu-1", "c-0 gpu-0"]));
    check([cold; 3], &gpus(4), Ok(&["a-0 gpu-0", "a-1 gpu-3", "b-0 gpu-1", "c-0 gpu-2"]));
    let always = "replicas: 1";
    check([cold, always, cold], &gpus(2), Ok(&["a-0 gpu-1", "b-0 gpu-0", "c-0 gpu-1"]));
    check([cold, always, cold], &gpus(1), Err("wants 1 accelerators, and 0"));
    let wide = "parallelism: {tensor: 2}, scaling: {min: 0, max: 1, zero: cold}";
    check([cold, wide, cold], &gpus(2), Err("b-0 wants 2 accelerators"));
    // What runs stays where it is, also where another one is always there from now on.
    let mut world = gpus(2);
    let had = |name: &str, id: &str| (name.to_owned(), vec![id.to_owned()]);
    world.devices = [had("a-0", "gpu-1"), had("b-0", "gpu-1"), had("c-0", "gpu-0")].into();
    check([cold; 3], &world, Ok(&["a-0 gpu-1", "b-0 gpu-1", "c-0 gpu-0"]));
    check([always, cold, cold], &world, Ok(&["a-0 gpu-1", "b-0 gpu-0", "c-0 gpu-0"]));
}

/// Copies that nobody may have asked for keep nothing from those that have to be there, or that take turns.
#[test]
fn what_only_comes_with_work_gives_its_accelerators_first() {
    let held = |name: &str, count: usize| {
        (0..count).map(|at| (format!("{name}-{at}"), vec![format!("gpu-{at}")])).collect()
    };
    let of = |more: &str| format!("source: 'file:weights', runtime: vllm, {more}");
    let check = |first: &str, second: &str, expect: &[&str]| {
        let world = World { devices: held("a", 3), ..gpus(3) };
        let plan = several(&[&of(first), &of(second)], &world).unwrap();
        assert_eq!(placed(&plan), expect, "{first} {second}");
        // And that stays so.
        let devices = plan.processes.iter().map(|one| (one.name.clone(), one.devices.clone()));
        let world = World { devices: devices.collect(), ..gpus(3) };
        let again = several(&[&of(first), &of(second)], &world).unwrap();
        assert_eq!(placed(&again), expect, "{first} {second}");
    };
    let (some, cold) = ("scaling: {min: 1, max: 3}", "scaling: {min: 0, max: 3, zero: cold}");
    check(some, "replicas: 1", &["a-0 gpu-0", "a-1 gpu-1", "b-0 gpu-2"]);
    check(some, "replicas: 2", &["a-0 gpu-0", "b-0 gpu-2", "b-1 gpu-1"]);
    check(cold, cold, &["a-0 gpu-0", "a-1 gpu-1", "b-0 gpu-2"]);
    check("scaling: {min: 2, max: 3}", "replicas: 1", &["a-0 gpu-0", "a-1 gpu-1", "b-0 gpu-2"]);
}

#[test]
fn what_has_no_room_is_not_started() {
    let facts = |config: &str| Config::parse(config.as_bytes()).unwrap().facts().unwrap();
    let small = facts(include_str!("../../tests/size/models/qwen2.5-7b.json"));
    let large = facts(include_str!("../../tests/size/models/llama-3.1-70b.json"));
    let check = |facts: &ModelFacts, spec: &str, expect: Option<&str>| {
        let mut world = gpus(4);
        world.facts.insert("file:weights".to_owned(), facts.clone());
        let spec = format!("source: 'file:weights', runtime: vllm, {spec}");
        let found = planned(&spec, &world).map(drop);
        match expect {
            None => assert_eq!(found, Ok(()), "{spec}"),
            Some(part) => {
                let error = found.unwrap_err();
                assert!(error.contains(part), "{spec}: {error}");
            }
        }
    };
    check(&small, "context: 2048", None);
    check(&large, "context: 2048", Some("spec.parallelism: each accelerator lacks"));
    check(&small, "parallelism: {tensor: 3}", Some("tensor parallel 3"));
    let cold = "context: 2048, scaling: {min: 0, max: 4, zero: cold}";
    check(&large, cold, Some("spec.parallelism: each accelerator lacks"));
}

#[test]
fn vllm_on_a_processor_is_told_its_cores_and_its_cache() {
    let env = |spec: &str, cores: u32| {
        let spec = format!("source: 'file:weights', runtime: vllm, {spec}");
        let plan = planned(&spec, &World::with_cores(cores)).unwrap();
        let value = |process: &ProcessSpec, name: &str| {
            process.env.iter().find(|(other, _)| other == name).unwrap().1.clone()
        };
        let binds = plan.processes.iter().map(|one| value(one, "VLLM_CPU_OMP_THREADS_BIND"));
        assert_eq!(value(&plan.processes[0], "VLLM_CPU_KVCACHE_SPACE"), "1");
        binds.collect::<Vec<_>>()
    };
    assert_eq!(env("threads: 4", 8), ["0-3"]);
    assert_eq!(env("threads: 2, replicas: 2", 4), ["0-1", "2-3"]);
    assert_eq!(env("threads: 2, parallelism: {tensor: 2}", 2), ["0|1"]);
    assert_eq!(env("threads: 1, replicas: 3", 2), ["0", "1", "0"]);
}

#[test]
fn a_runtime_with_one_name_for_all_models_is_asked_by_it() {
    let check = |runtime: &str, expect: &str, lists_model: bool| {
        let spec = format!("source: 'file:weights', runtime: {runtime}");
        let plan = planned(&spec, &gpus(1)).unwrap();
        let (process, lane) = (&plan.processes[0], plan.lane("m").unwrap());
        assert_eq!((process.lane.as_str(), lane.name.as_str()), ("m", "m"));
        let names = (process.served_model.as_str(), lane.served_model.as_str());
        assert_eq!(names, (expect, expect));
        assert_eq!(process.readiness.lists_model, lists_model, "{runtime}");
    };
    check("tgi", "tgi", false);
    check("trtllm", "m", false);
    check("vllm", "m", true);
}

#[test]
fn a_server_elsewhere_is_asked_by_its_one_name_too() {
    let check = |rest: &str, expect: &str| {
        let spec = format!("endpoints: [{{url: 'http://h'}}], {rest}");
        let plan = planned(&spec, &World::with_cores(1)).unwrap();
        assert_eq!(plan.lane("m").unwrap().served_model, expect, "{rest}");
    };
    check("dialect: tgi", "tgi");
    check("dialect: tgi, servedModel: x", "x");
    check("dialect: vllm", "m");
}
