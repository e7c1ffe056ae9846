//! Models on one machine: which of its accelerators each replica gets, and what starts it there.

use std::collections::BTreeSet;

use crate::api::{Model, Resource, Runtime};
use crate::hardware::Accelerator;
use crate::launch::{self, Engine, Features, Launch, LaunchSpec, Version, Weights};
use crate::render::{self, AdapterSpec, ProcessSpec, Program, WeightsSpec};
use crate::select::{Aim, Wish, select};
use crate::size::{Dtype, Shape};
use crate::world::{Found, Sought};
use crate::{WeightsSource, World};

/// The class of a machine without accelerators, as far as launches depend on it.
const PROCESSOR: &str = "cpu-avx2";

/// Seconds that a runtime of others gets to start at least: its own compilation takes minutes.
const START_SECONDS_MIN: u32 = 600;

/// The programs that models of these resources may want to be installed here, and where, so that somebody
/// can look whether they are.
pub fn programs(resources: &[Resource], world: &World) -> BTreeSet<Sought> {
    let machine = Machine::of(world);
    let mut programs = BTreeSet::new();
    for resource in resources {
        let Resource::Model(model) = resource else { continue };
        let engines: &[Engine] = match (model.spec.source.is_some(), model.spec.runtime.engine()) {
            (false, _) => &[],
            (true, Some(engine)) => &[engine],
            (true, None) => &Engine::ALL,
        };
        for engine in engines.iter().filter(|engine| **engine != Engine::Embedded) {
            programs.extend(machine.sought(model, *engine));
        }
    }
    programs
}

/// The resources with a runtime for each Model that leaves it open and of whose weights something is known,
/// and why each was chosen. The others go by the form of their weights.
pub(crate) fn chosen(resources: &[Resource], world: &World) -> (Vec<Resource>, Vec<String>) {
    let machine = Machine::of(world);
    let mut notes = Vec::new();
    let chosen = resources.iter().cloned().map(|resource| match resource {
        Resource::Model(mut model) if model.spec.runtime == Runtime::Auto => {
            if let Some((engine, reason)) = machine.choose(&model) {
                notes.push(format!("{} runs by {}: {reason}", model.name(), engine.title()));
                model.spec.runtime = Runtime::of(engine);
            }
            Resource::Model(model)
        }
        other => other,
    });
    (chosen.collect(), notes)
}

/// What is wrong with a model, and the field that says it.
pub(crate) struct Mistake {
    /// The field.
    pub(crate) field: &'static str,
    /// What is wrong with it, and what to do.
    pub(crate) text: String,
}

impl Mistake {
    fn runtime(text: impl ToString) -> Self {
        Self { field: "spec.runtime", text: text.to_string() }
    }
}

/// A machine, and which of its accelerators are taken.
pub(crate) struct Machine<'a> {
    world: &'a World,
    accelerator: Option<&'static Accelerator>,
    taken: usize,
}

impl<'a> Machine<'a> {
    /// With nothing taken. Accelerators of a kind that is not in the catalogue are not used.
    pub(crate) fn of(world: &'a World) -> Self {
        let first = world.gpus.first();
        let known = first.and_then(|gpu| Accelerator::by_device_name(&gpu.name, gpu.memory_bytes));
        let accelerator = known.or_else(|| Accelerator::by_id(PROCESSOR));
        Self { world, accelerator, taken: 0 }
    }

    /// The process of a model's replica of that number, with so many threads.
    ///
    /// # Errors
    /// Its runtime is not here, cannot run it so, or wants more accelerators than there are.
    pub(crate) fn replica(
        &mut self,
        model: &Model,
        source: &WeightsSource,
        (index, threads): (u32, u32),
    ) -> Result<ProcessSpec, Mistake> {
        let engine = model.spec.engine().unwrap_or(Engine::Embedded);
        if engine == Engine::Embedded {
            let mut process = render::replica(model, source, index, threads);
            process.readiness.start_seconds = model.spec.start_seconds;
            return Ok(process);
        }
        let launch = self.launch(model, threads)?;
        let spec = launch::spec(engine, &launch).map_err(Mistake::runtime)?;
        let launch = Launch { version: self.version(model, &spec)?, ..launch };
        let spec = launch::spec(engine, &launch).map_err(Mistake::runtime)?;
        let weights = WeightsSpec {
            source: source.clone(),
            digest: model.spec.digest,
            signed_by: model.spec.signed_by,
            size_bytes: model.spec.size_bytes,
        };
        let name = render::process::name(model, index);
        let process = spec.process(name, weights, threads).map_err(Mistake::runtime)?;
        let devices = self.take(&launch)?;
        Ok(own(process, model, devices))
    }

    /// What a runtime's launch for a model needs to be installed.
    fn sought(&self, model: &Model, engine: Engine) -> Option<Sought> {
        let spec = launch::spec(engine, &self.launch(model, 1).ok()?).ok()?;
        Some(sought(model, engine, &spec))
    }

    /// The runtime for a model of which something is known, of those that are installed, and why.
    fn choose(&self, model: &Model) -> Option<(Engine, String)> {
        let facts = self.world.facts.get(&model.spec.source.as_ref()?.to_string())?;
        let looked = self.world.runtimes.as_ref()?;
        let is_there = |engine: &Engine| {
            let sought = self.sought(model, *engine);
            let found = looked.iter().find(|one| Some(&one.sought) == sought.as_ref());
            found.is_some_and(|one| matches!(one.found, Found::Release(_)))
        };
        let installed: Vec<Engine> = Engine::ALL.into_iter().filter(is_there).collect();
        let features = Features { task: facts.task, ..Features::default() };
        let selection = select(&Wish {
            facts,
            accelerator: self.accelerator?,
            nodes: 1,
            features: &features,
            aim: Aim::default(),
            asked: None,
            installed: Some(&installed),
        });
        selection.engine.map(|engine| (engine, selection.reason))
    }

    /// What is asked of the runtime.
    fn launch(&self, model: &Model, threads: u32) -> Result<Launch, Mistake> {
        let said = &model.spec;
        let Some(accelerator) = self.accelerator else {
            let text = "this machine's hardware is in no catalogue; run the engine elsewhere";
            return Err(Mistake::runtime(text));
        };
        let shape = Shape {
            tensor: said.parallelism.tensor,
            pipeline: said.parallelism.pipeline,
            sequences: said.parallel,
            batch_tokens: said.batch_tokens.max(said.context),
            ..Shape::single(said.context.into(), Dtype::Bf16)
        };
        let on_node = match accelerator.is_processor() {
            // Ranks share its cores.
            true => shape.accelerators_per_replica(),
            false => u32::try_from(self.world.gpus.len()).unwrap_or(u32::MAX),
        };
        Ok(Launch {
            served: model.name().to_owned(),
            weights: Weights::Local,
            weight_bytes: said.size_bytes,
            shape,
            accelerator: Accelerator { per_node: on_node, ..*accelerator },
            threads: Some(threads).filter(|_| accelerator.is_processor()),
            version: None,
            features: Features { prefix_cache: Some(true), ..Features::default() },
            has_key: true,
            extra: said.runtime_args.clone(),
        })
    }

    /// The release that is installed, if that can be seen.
    fn version(&self, model: &Model, spec: &LaunchSpec) -> Result<Option<Version>, Mistake> {
        let Some(looked) = &self.world.runtimes else { return Ok(None) };
        let sought = sought(model, spec.engine, spec);
        let here = looked.iter().find(|one| one.sought == sought);
        match here.map(|one| &one.found) {
            Some(Found::Nothing(why)) => {
                let is_placed = sought.home.is_some();
                let field = if is_placed { "spec.runtimePath" } else { "spec.runtime" };
                Err(Mistake { field, text: why.clone() })
            }
            Some(Found::Release(Some(release))) => Ok(Version::parse(release)),
            Some(Found::Release(None)) | None => Ok(None),
        }
    }

    /// The numbers of the accelerators that a replica gets; none on a processor.
    fn take(&mut self, launch: &Launch) -> Result<Vec<usize>, Mistake> {
        if launch.accelerator.is_processor() {
            return Ok(Vec::new());
        }
        let wanted = launch.shape.accelerators_per_replica() as usize;
        let end = self.taken.saturating_add(wanted);
        let there = self.world.gpus.len();
        if end > there {
            let text = format!(
                "replicas want {end} accelerators together, and this machine has {there}; lower `replicas` or `parallelism`"
            );
            return Err(Mistake { field: "spec.replicas", text });
        }
        let from = std::mem::replace(&mut self.taken, end);
        Ok((from..end).collect())
    }
}

fn sought(model: &Model, engine: Engine, spec: &LaunchSpec) -> Sought {
    Sought {
        program: spec.leader.program.clone(),
        package: engine.package().map(str::to_owned),
        home: model.spec.runtime_path.as_ref().map(ToString::to_string),
    }
}

/// A process with what the model's owner says about it.
fn own(mut process: ProcessSpec, model: &Model, devices: Vec<usize>) -> ProcessSpec {
    let said = &model.spec;
    for (name, source) in &said.adapter_sources {
        let (digest, signed_by) = (None, said.signed_by);
        let weights = WeightsSpec { source: source.clone(), digest, signed_by, size_bytes: None };
        process.adapters.push(AdapterSpec { name: name.clone(), weights });
    }
    if !process.adapters.is_empty() {
        process.args.push("--enable-lora".to_owned());
        // vLLM refuses to load any while it runs without.
        process.env.push(("VLLM_ALLOW_RUNTIME_LORA_UPDATING".to_owned(), "True".to_owned()));
    }
    if let Program::Named { home, .. } = &mut process.program {
        *home = said.runtime_path.as_ref().map(ToString::to_string);
    }
    if !devices.is_empty() {
        let list = devices.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        for variable in ["CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"] {
            process.env.push((variable.to_owned(), list.clone()));
        }
    }
    for (name, value) in &said.runtime_env {
        process.env.retain(|(other, _)| other != name);
        process.env.push((name.clone(), value.clone()));
    }
    let readiness = &mut process.readiness;
    let expected = readiness.start_seconds.map(|seconds| seconds.max(START_SECONDS_MIN));
    readiness.start_seconds = said.start_seconds.or(expected);
    readiness.warms_up &= said.warm_up;
    process
}

#[cfg(test)]
mod tests {
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

    fn gpus(count: usize) -> World {
        let gpu = Gpu { name: "NVIDIA L4".to_owned(), memory_bytes: Some(24 << 30) };
        World { gpus: vec![gpu; count], ..World::with_cores(8) }
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
        assert!(
            has(process, &["--max-model-len", "1024"]) && has(process, &["--max-num-seqs", "4"])
        );
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
        check("replicas: 2", 2, Ok(&["0", "1"]));
        check("replicas: 2, parallelism: {tensor: 2}", 4, Ok(&["0,1", "2,3"]));
        check(
            "replicas: 3",
            2,
            Err("f.yaml:4: spec.replicas: replicas want 3 accelerators together"),
        );
        check("parallelism: {tensor: 4}", 2, Err("spec.runtime"));
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
        check(
            "source: 'file:a.gguf', runtime: vllm, runtimeEnv: {'A B': c}",
            "spec.runtimeEnv.A B",
        );
        check(
            "source: 'file:a.gguf', runtime: vllm, runtimeEnv: {PILOTAGE_LOG: c}",
            "Pilotage's own",
        );
        check("endpoints: [{url: 'http://h'}], runtimePath: /x", "spec.runtimePath");
        check("source: 'file:a', runtime: tgi, parallelism: {pipeline: 2}", "spec.runtime");
    }

    #[test]
    fn where_it_is_open_the_best_of_what_is_installed_runs_a_model() {
        let text = include_str!("../tests/size/models/qwen2.5-7b.json");
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
}
