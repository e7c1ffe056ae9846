//! Models on one machine: which of its accelerators each replica gets, and what starts it there.

mod devices;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::api::model::BATCH_TOKENS_DEFAULT;
use crate::api::{Model, Resource, Runtime, Scaling, Zero};
use crate::hardware::Accelerator;
use crate::launch::{self, Engine, Features, Launch, LaunchSpec, Version, Weights};
use crate::render::{self, AdapterSpec, ProcessSpec, Program, WeightsSpec};
use crate::select::{Aim, Wish, select, sizing};
use crate::size::memory::memory;
use crate::size::{Dtype, ModelFacts, Shape, Task};
use crate::world::{Found, Sought};
use crate::{WeightsSource, World};
pub(crate) use devices::hardware;
use devices::{Asks, Devices};

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
    /// Whether it is but accelerators that others have.
    pub(crate) is_short: bool,
}

impl Mistake {
    fn runtime(text: impl ToString) -> Self {
        Self { field: "spec.runtime", text: text.to_string(), is_short: false }
    }
}

/// A machine, and which of its accelerators are taken.
pub(crate) struct Machine<'a> {
    world: &'a World,
    devices: Devices<'a>,
    /// The process that has ports to itself which nobody can choose.
    alone: Option<String>,
    /// Whether models that take turns get the same accelerators from now on.
    shares: bool,
    /// What a reader of the plan had better know of what runtimes are told.
    pub(crate) notes: Vec<String>,
}

impl<'a> Machine<'a> {
    /// With what runs on it now.
    pub(crate) fn of(world: &'a World) -> Self {
        Self { world, devices: Devices::of(world), alone: None, shares: false, notes: Vec::new() }
    }

    /// Processes of those names only come when there is work for them: what they have is others' before it is
    /// theirs, of the last one first.
    pub(crate) fn yields<'n>(&mut self, names: impl Iterator<Item = &'n str>) {
        self.devices.yields(names);
    }

    /// Whether those that take turns get what others of them have, from now on.
    pub(crate) const fn share(&mut self, shares: bool) {
        self.shares = shares;
    }

    /// The process of a model's replica of that name and number, with so many threads.
    ///
    /// # Errors
    /// Its runtime is not here, cannot run it so, or wants more accelerators than there are.
    pub(crate) fn replica(
        &mut self,
        model: &Model,
        source: &WeightsSource,
        (name, index, threads): (String, u32, u32),
    ) -> Result<ProcessSpec, Mistake> {
        let engine = model.spec.engine().unwrap_or(Engine::Embedded);
        if engine == Engine::Embedded {
            let mut process = render::replica(model, source, index, threads);
            process.name = name;
            process.readiness.start_seconds = model.spec.start_seconds;
            return Ok(process);
        }
        self.check_alone(engine, &name)?;
        let (class, devices) = self.place(model, (&name, index))?;
        let launch = self.launch(model, class, threads);
        let spec = launch::spec(engine, &launch).map_err(Mistake::runtime)?;
        let launch = Launch { version: self.version(model, &spec)?, ..launch };
        self.check_room(model, engine, &launch)?;
        let spec = launch::spec(engine, &launch).map_err(Mistake::runtime)?;
        if index == 0 {
            self.note(model, &spec, launch.version);
        }
        let weights = WeightsSpec {
            source: source.clone(),
            digest: model.spec.digest,
            signed_by: model.spec.signed_by,
            size_bytes: model.spec.size_bytes,
        };
        let mut process = spec
            .process((name, model.name().to_owned()), weights, threads)
            .map_err(Mistake::runtime)?;
        if engine == Engine::Vllm && launch.accelerator.is_processor() {
            process.env.push(self.on_cores(model, (index, threads)));
        }
        process.devices = devices;
        if engine == Engine::Vllm && model.spec.scaling.is_some_and(|it| it.zero == Zero::Warm) {
            process.args.push("--enable-sleep-mode".to_owned());
            // The paths to put it to sleep and to wake it are there only so.
            process.env.push(("VLLM_SERVER_DEV_MODE".to_owned(), "1".to_owned()));
        }
        Ok(own(process, model))
    }

    /// DeepSpeed-MII's server takes no other ports for its parts: a second one would find the first one's, and
    /// answer with its model.
    fn check_alone(&mut self, engine: Engine, name: &str) -> Result<(), Mistake> {
        if engine != Engine::DeepSpeed {
            return Ok(());
        }
        match self.alone.get_or_insert_with(|| name.to_owned()) {
            // It is tried once more.
            first if first == name => Ok(()),
            first => Err(Mistake::runtime(format!(
                "{first} and {name} would meet at ports of DeepSpeed-MII that cannot be chosen (50050, 29500): one \
                 machine runs one of them; use vLLM or SGLang, or run one elsewhere and list it under `spec.endpoints`"
            ))),
        }
    }

    /// What a replica runs on, and which of them it has to itself.
    fn place(
        &mut self,
        model: &Model,
        (name, index): (&str, u32),
    ) -> Result<(Accelerator, Vec<String>), Mistake> {
        let ranks = model.spec.parallelism.tensor.saturating_mul(model.spec.parallelism.pipeline);
        let Some(first) = devices::first_class(self.world) else {
            // Ranks share its cores.
            return Ok((Accelerator { per_node: ranks, ..Accelerator::PROCESSOR }, Vec::new()));
        };
        // Those beyond run beside others of their model, in whoever's turn.
        let is_first = index < model.spec.processes_min();
        let takes_turns = is_first && model.spec.scaling.as_ref().is_some_and(Scaling::takes_turns);
        let asks = Asks { process: name, model: model.name(), takes_turns };
        let shared = self.shares.then(|| self.devices.share(asks, ranks as usize)).flatten();
        let taken = match shared {
            Some(taken) => Ok(taken),
            None => self.devices.take(asks, ranks as usize),
        };
        let taken = taken.map_err(|few| Mistake {
            field: "spec.replicas",
            is_short: true,
            text: format!(
                "{name} wants {} accelerators, and {} of this machine's {} are free ({}); lower `replicas` or `parallelism`",
                few.wanted, few.free, few.there, first.name
            ),
        })?;
        let per_node = u32::try_from(self.world.gpus.len()).unwrap_or(u32::MAX);
        Ok((Accelerator { per_node, ..taken.class }, taken.ids))
    }

    /// Whether the weights and one sequence have room, where something is known of them.
    pub(crate) fn check_room(
        &self,
        model: &Model,
        engine: Engine,
        launch: &Launch,
    ) -> Result<(), Mistake> {
        let Some(facts) = self.facts(model) else { return Ok(()) };
        if launch.accelerator.is_processor() {
            return Ok(());
        }
        let (shape, on, runtime) =
            (&launch.shape, &launch.accelerator, sizing(engine, launch.version));
        let wrong = |text: String| Mistake { field: "spec.parallelism", text, is_short: false };
        let found = memory(facts, shape, on, runtime).map_err(|error| wrong(error.to_string()))?;
        if found.fits() {
            return Ok(());
        }
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        Err(wrong(format!(
            "each accelerator lacks {:.1} of its {:.0} GiB for this model and one sequence of its context; raise `tensor`, lower `spec.context`, or take smaller weights (`pilotage plan` says what would do)",
            gib(found.short_bytes()),
            gib(on.memory_bytes),
        )))
    }

    fn facts(&self, model: &Model) -> Option<&'a ModelFacts> {
        self.world.facts.get(&model.spec.source.as_ref()?.to_string())
    }

    fn note(&mut self, model: &Model, spec: &LaunchSpec, version: Option<Version>) {
        let findings = spec.findings.iter().map(|one| one.describe(spec.engine, version));
        let told = findings.chain(spec.notes.iter().cloned());
        self.notes.extend(told.map(|text| format!("{}: {text}", model.name())));
    }

    /// What a cache takes that holds every sequence at its longest; what the least one takes where nothing is
    /// known of the weights.
    fn cache_bytes(&self, model: &Model) -> u64 {
        let tokens = u64::from(model.spec.parallel) * u64::from(model.spec.context);
        let each =
            self.facts(model).map_or(0.0, |facts| facts.kv_bytes_per_token(Dtype::Bf16.bytes()));
        (tokens as f64 * each) as u64 + (1 << 30)
    }

    /// The cores that vLLM's ranks have to themselves: by itself each takes all of them.
    fn on_cores(&self, model: &Model, (index, threads): (u32, u32)) -> (String, String) {
        let said = &model.spec;
        let ranks = said.parallelism.tensor.saturating_mul(said.parallelism.pipeline).max(1);
        let cores = self.world.cores.max(1);
        let each = (threads / ranks).clamp(1, cores);
        let bind = (0..ranks).map(|rank| {
            let from = index.saturating_mul(ranks).saturating_add(rank).saturating_mul(each);
            let from = (from % cores).min(cores - each);
            if each == 1 { from.to_string() } else { format!("{from}-{}", from + each - 1) }
        });
        ("VLLM_CPU_OMP_THREADS_BIND".to_owned(), bind.collect::<Vec<_>>().join("|"))
    }

    /// What a runtime's launch for a model needs to be installed.
    fn sought(&self, model: &Model, engine: Engine) -> Option<Sought> {
        let ranks = model.spec.parallelism.tensor.saturating_mul(model.spec.parallelism.pipeline);
        let class = devices::first_class(self.world).unwrap_or(Accelerator::PROCESSOR);
        let class = Accelerator { per_node: ranks, ..class };
        let spec = launch::spec(engine, &self.launch(model, class, 1)).ok()?;
        Some(sought(model, engine, &spec))
    }

    /// The runtime for a model of which something is known, of those that are installed, and why.
    fn choose(&self, model: &Model) -> Option<(Engine, String)> {
        let facts = self.facts(model)?;
        let looked = self.world.runtimes.as_ref()?;
        let is_there = |engine: &Engine| {
            let sought = self.sought(model, *engine);
            let found = looked.iter().find(|one| Some(&one.sought) == sought.as_ref());
            found.is_some_and(|one| matches!(one.found, Found::Release(_)))
        };
        let installed: Vec<Engine> = Engine::ALL.into_iter().filter(is_there).collect();
        let features = self.features(model);
        let class = devices::first_class(self.world).unwrap_or(Accelerator::PROCESSOR);
        let selection = select(&Wish {
            facts,
            accelerator: &class,
            nodes: 1,
            features: &features,
            aim: Aim::default(),
            asked: None,
            installed: Some(&installed),
        });
        selection.engine.map(|engine| (engine, selection.reason))
    }

    /// What is asked of the runtime, on accelerators of that class.
    pub(crate) fn launch(&self, model: &Model, class: Accelerator, threads: u32) -> Launch {
        let said = &model.spec;
        let shape = Shape {
            tensor: said.parallelism.tensor,
            pipeline: said.parallelism.pipeline,
            sequences: said.parallel,
            batch_tokens: batch_tokens(model),
            ..Shape::single(said.context.into(), Dtype::Bf16)
        };
        let read = self.facts(model).map(|facts| facts.weights.total());
        Launch {
            served: model.name().to_owned(),
            weights: Weights::Local,
            weight_bytes: said.size_bytes.or(read),
            shape,
            accelerator: class,
            cache_bytes: Some(self.cache_bytes(model)),
            threads: Some(threads).filter(|_| class.is_processor()),
            version: None,
            features: self.features(model),
            has_key: true,
            extra: said.runtime_args.clone(),
        }
    }

    /// What the runtime has to be able to do: what the weights are for, or what the manifest says of them.
    fn features(&self, model: &Model) -> Features {
        let said = &model.spec.capabilities;
        let is_for = |said: Option<bool>| said == Some(true);
        let is_mute = said.text == Some(false);
        let task = match self.facts(model) {
            Some(facts) => facts.task,
            None if is_mute && is_for(said.rerank) => Task::Rerank,
            None if is_mute && is_for(said.embeddings) => Task::Embed,
            None => Task::Generate,
        };
        let prefix_cache = (task == Task::Generate).then_some(true);
        let loads_adapters = !model.spec.adapter_sources.is_empty();
        Features { task, prefix_cache, loads_adapters, ..Features::default() }
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
                Err(Mistake { field, text: why.clone(), is_short: false })
            }
            Some(Found::Release(Some(release))) => Ok(Version::parse(release)),
            Some(Found::Release(None)) | None => Ok(None),
        }
    }
}

/// Tokens of a step: what the manifest says, else what runtimes of others do well with. The default of manifests
/// is made for the embedded engine, and too few for accelerators.
pub(crate) fn batch_tokens(model: &Model) -> u32 {
    const USUAL: u32 = 2048;
    let is_said = model.spec.batch_tokens != BATCH_TOKENS_DEFAULT;
    if is_said { model.spec.batch_tokens } else { USUAL }
}

fn sought(model: &Model, engine: Engine, spec: &LaunchSpec) -> Sought {
    Sought {
        program: spec.leader.program.clone(),
        package: engine.package().map(str::to_owned),
        home: model.spec.runtime_path.as_ref().map(ToString::to_string),
    }
}

/// A process with what the model's owner says about it.
fn own(mut process: ProcessSpec, model: &Model) -> ProcessSpec {
    let said = &model.spec;
    for (name, source) in &said.adapter_sources {
        let (digest, signed_by) = (None, said.signed_by);
        let weights = WeightsSpec { source: source.clone(), digest, signed_by, size_bytes: None };
        process.adapters.push(AdapterSpec { name: name.clone(), weights });
    }
    if let Program::Named { home, .. } = &mut process.program {
        *home = said.runtime_path.as_ref().map(ToString::to_string);
    }
    if !process.devices.is_empty() {
        let list = process.devices.join(",");
        // Numbers mean what the driver's own tool says.
        process.env.push(("CUDA_DEVICE_ORDER".to_owned(), "PCI_BUS_ID".to_owned()));
        process.env.push(("CUDA_VISIBLE_DEVICES".to_owned(), list));
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
