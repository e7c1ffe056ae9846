//! A Model on a Fleet of a cluster, with everything decided that objects are made of: which program
//! in which shape, on how many nodes, where its weights are and what words in braces stand for.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::object::Object;
use super::{Cluster, RenderError, Version, name, workload};
use crate::api::{Fleet, Model, ModelSpec, StorageKind, Zero};
use crate::hardware::Accelerator;
use crate::launch::{
    self, Adapter, EVENTS, Engine, Env, EnvValue, LEADER, LISTEN, Launch, LaunchSpec, METRICS,
    PEERS, PORT, PortRole, RANK, RENDEZVOUS, SCRATCH, Secret, WEIGHTS,
};
use crate::machine::Machine;
use crate::{WeightsSource, World, update};

/// Where weights are mounted.
pub(crate) const WEIGHTS_AT: &str = "/weights";

/// Where a program's own files are mounted.
pub(crate) const SCRATCH_AT: &str = "/scratch";

/// Threads for a copy on processors that names none.
const THREADS: u32 = 4;

/// A Model with everything decided.
pub(crate) struct Settled<'a> {
    pub(crate) model: &'a Model,
    pub(crate) fleet: Option<&'a Fleet>,
    pub(crate) cluster: &'a Cluster,
    /// What its accelerators are.
    pub(crate) accelerator: Accelerator,
    /// What is asked of its program.
    pub(crate) launch: Launch,
    pub(crate) spec: LaunchSpec,
    pub(crate) image: String,
    /// Its own name as a DNS label.
    pub(crate) name: String,
    /// Which version of it this is, where there can be several beside each other.
    pub(crate) version: Option<Version>,
    /// The path that stands for its weights.
    pub(crate) weights: String,
    pub(crate) threads: u32,
    pub(crate) notes: Vec<String>,
}

/// How nodes of one copy find each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Nodes {
    /// There is one.
    One,
    /// A group of a LeaderWorkerSet.
    Group,
    /// Sets of pods with names of their own, for the copy of that number.
    Sets(u32),
}

/// Decides.
pub(crate) fn settle<'a>(
    model: &'a Model,
    fleet: Option<&'a Fleet>,
    cluster: &'a Cluster,
) -> Result<Settled<'a>, RenderError> {
    let engine = model.spec.engine().unwrap_or(Engine::Embedded);
    let accelerator = accelerator_of(model, fleet);
    let threads = model.spec.threads.unwrap_or(THREADS);
    let world = World { facts: cluster.facts.clone(), ..World::with_cores(threads) };
    let mut launch = Machine::of(&world).launch(model, accelerator, threads);
    adapters(model, &mut launch);
    if engine == Engine::Embedded {
        launch.shape.batch_tokens = model.spec.batch_tokens;
    }
    let mut spec = launch::spec(engine, &launch)?;
    complete(model, engine, &mut spec);
    if spec.nodes > 1 && engine == Engine::TensorRtLlm {
        return Err(RenderError::Rights(engine.title()));
    }
    if let Some(there) = fleet.and_then(|fleet| fleet.spec.nodes)
        && spec.nodes > there
    {
        return Err(RenderError::Nodes { wanted: spec.nodes, there });
    }
    let own = (engine == Engine::Embedded).then(|| cluster.image.clone());
    let image = model.spec.image.clone().or(own).or_else(|| spec.image.clone());
    let image = image.ok_or_else(|| RenderError::Image(engine.title()))?;
    let weights = weights(model, engine, cluster)?;
    let notes = notes(model, &spec, cluster);
    let name = name::label(model.name(), "");
    Ok(Settled {
        model,
        fleet,
        cluster,
        accelerator,
        launch,
        spec,
        image,
        name,
        version: None,
        weights,
        threads,
        notes,
    })
}

/// What a Model's copies run on, on nodes of its Fleet where it names one.
pub(crate) fn accelerator_of(model: &Model, fleet: Option<&Fleet>) -> Accelerator {
    let said = fleet.map(|fleet| &fleet.spec);
    let named = said.and_then(|fleet| Accelerator::by_id(fleet.hardware.as_deref()?)).copied();
    let ranks = model.spec.parallelism.tensor.saturating_mul(model.spec.parallelism.pipeline);
    let class = match named {
        Some(class) => class,
        // Ranks share a processor's cores.
        None if model.spec.is_embedded() || is_on_processor(model) => {
            Accelerator { per_node: ranks, ..Accelerator::PROCESSOR }
        }
        None => Accelerator::GENERIC,
    };
    let per_node = said.and_then(|fleet| fleet.per_node);
    match per_node {
        Some(per_node) => Accelerator { per_node, ..class },
        None if named.is_none() => Accelerator { per_node: ranks.max(1), ..class },
        None => class,
    }
}

/// llama.cpp without a Fleet is taken to compute on processors, as all others are not.
fn is_on_processor(model: &Model) -> bool {
    model.spec.engine() == Some(Engine::LlamaCpp)
}

/// Copies of one node are given their adapters while they run. Where a copy has several, all of them would have to
/// have the files before the first is told to load them: there, adapters are there from the start.
fn adapters(model: &Model, launch: &mut Launch) {
    if launch.nodes() == 1 {
        return;
    }
    launch.features.loads_adapters = false;
    let names = model.spec.adapter_sources.keys();
    launch.features.adapters = names
        .map(|name| Adapter { name: name.clone(), path: format!("{WEIGHTS_AT}/adapters/{name}") })
        .collect();
}

/// Whether its last copy sleeps, of which it is told at its start.
fn is_warm(model: &Model, engine: Engine) -> bool {
    let zero = model.spec.scaling.map(|scaling| scaling.zero);
    engine == Engine::Vllm && zero == Some(Zero::Warm)
}

/// What a cluster adds to a launch.
fn complete(model: &Model, engine: Engine, spec: &mut LaunchSpec) {
    if engine == Engine::Embedded {
        let queue = ["--queue-max".to_owned(), model.spec.queue_max.to_string()];
        spec.leader.args.extend(queue);
    }
    if is_warm(model, engine) {
        let commands = std::iter::once(&mut spec.leader).chain(spec.worker.as_mut());
        for command in commands {
            command.args.push("--enable-sleep-mode".to_owned());
        }
        // The paths to put it to sleep and to wake it are there only so.
        let value = EnvValue::Plain("1".to_owned());
        spec.env.push(Env { name: "VLLM_SERVER_DEV_MODE".to_owned(), value });
    }
}

/// The path of the weights, where they can be had at all.
fn weights(model: &Model, engine: Engine, cluster: &Cluster) -> Result<String, RenderError> {
    let kind = model.spec.storage.as_ref().map(|storage| storage.kind).unwrap_or_default();
    let is_one_file = matches!(engine, Engine::Embedded | Engine::LlamaCpp);
    match (&model.spec.source, kind) {
        (Some(WeightsSource::File { path }), StorageKind::Claim) if !path.starts_with('/') => {
            Ok(format!("{WEIGHTS_AT}/{path}"))
        }
        (Some(WeightsSource::File { .. }), _) => Err(RenderError::Weights(
            "a file of one machine is on no node; write a source that can be fetched, or `storage.kind: claim` and a path inside of the claim",
        )),
        (_, StorageKind::Image) if cluster.minor < 33 => Err(RenderError::Version {
            what: "an artifact mounted as a volume",
            minor: 33,
            instead: "write `kind: claim`, which fetches it",
        }),
        (_, StorageKind::Image) if is_one_file => Err(RenderError::Weights(
            "a mounted artifact is a folder, and this runtime wants a file; write `storage.kind: claim`",
        )),
        (_, StorageKind::Image) => Ok(WEIGHTS_AT.to_owned()),
        (Some(source), _) => {
            let ending = if source.is_gguf() { ".gguf" } else { "" };
            Ok(format!("{WEIGHTS_AT}/{}{ending}", model.name()))
        }
        (None, _) => Err(RenderError::Weights("the Model runs elsewhere, by its `endpoints`")),
    }
}

fn notes(model: &Model, spec: &LaunchSpec, cluster: &Cluster) -> Vec<String> {
    let findings = spec.findings.iter().map(|one| one.describe(spec.engine, spec.version));
    let told = findings.chain(spec.notes.iter().cloned());
    let mut notes: Vec<String> = told.map(|text| format!("{}: {text}", model.name())).collect();
    let kind = model.spec.storage.as_ref().map(|storage| storage.kind).unwrap_or_default();
    if kind == StorageKind::Image && cluster.minor < 35 {
        let name = model.name();
        notes.push(format!(
            "{name}: before Kubernetes 1.35 volumes of images want the feature gate ImageVolume"
        ));
    }
    if model.spec.runtime_path.is_some() {
        let name = model.name();
        notes.push(format!(
            "{name}: runtimePath is of this machine; the image says what runs there"
        ));
    }
    notes
}

impl Settled<'_> {
    /// Whether its last copy sleeps when nobody asks.
    pub(crate) fn is_warm(&self) -> bool {
        is_warm(self.model, self.spec.engine)
    }

    /// A name of an object of the Model.
    pub(crate) fn named(&self, suffix: &str) -> String {
        name::label(self.model.name(), suffix)
    }

    /// The name of an object of this version, which others of the Model have by names of their own.
    pub(crate) fn named_here(&self, suffix: &str) -> String {
        match (&self.version, suffix) {
            (None, _) => self.named(suffix),
            (Some(version), "") => self.named(&version.revision),
            (Some(version), _) => self.named(&format!("{}-{suffix}", version.revision)),
        }
    }

    /// The name of a workload of this version, or of a part of it.
    pub(crate) fn workload_name(&self, suffix: &str) -> String {
        let most = if self.spec.nodes > 1 { name::SET_LEN_MAX } else { name::NAME_LEN_MAX };
        let suffix = match (&self.version, suffix) {
            (None, suffix) => suffix.to_owned(),
            (Some(version), "") => version.revision.clone(),
            (Some(version), suffix) => format!("{}-{suffix}", version.revision),
        };
        name::label_within(most, self.model.name(), &suffix)
    }

    /// The name of something that belongs to the weights: versions share it that differ in nothing else.
    pub(crate) fn named_by_weights(&self, suffix: &str) -> String {
        match &self.version {
            None => self.named(suffix),
            Some(_) => self.named(&format!("{}-{suffix}", self.weights_revision())),
        }
    }

    fn weights_revision(&self) -> String {
        let spec = &self.model.spec;
        update::revision(&ModelSpec {
            source: spec.source.clone(),
            digest: spec.digest,
            ..ModelSpec::nowhere()
        })
    }

    /// The name of the secret between gateway and engines.
    pub(crate) fn key_name(&self) -> String {
        self.named("key")
    }

    /// Whether its program asks for that key.
    pub(crate) fn takes_key(&self) -> bool {
        self.spec.key_variable().is_some()
    }

    /// How many copies are rendered; none where they follow the load: then the number is in the scale of
    /// the workload, which whoever decides it writes. Pairs of sets have no scale.
    pub(crate) fn replicas(&self) -> Option<u32> {
        if let Some(replicas) = self.version.as_ref().and_then(|version| version.replicas) {
            return Some(replicas);
        }
        if self.model.spec.scaling.is_some() && workload::scaled(self).is_some() {
            return None;
        }
        Some(super::replicas(self.model))
    }

    /// Groups beyond those, which stand in for others that move.
    pub(crate) fn surged(&self) -> u32 {
        let revision = self.version.as_ref().map(|version| version.revision.clone());
        let of = (self.model.name().to_owned(), revision);
        self.cluster.surged.get(&of).copied().unwrap_or(0)
    }

    /// Most copies there can be.
    pub(crate) fn replicas_max(&self) -> u32 {
        self.model.spec.scaling.map_or(self.model.spec.replicas, |scaling| scaling.max)
    }

    /// The number of a port for something.
    pub(crate) fn port(&self, role: PortRole) -> Option<u16> {
        self.spec.ports.iter().find(|port| port.role == role).map(|port| port.default)
    }

    /// A text with the words in braces replaced, on a pod of those nodes.
    pub(crate) fn fill(&self, text: &str, nodes: Nodes) -> String {
        let number = |role| self.port(role).unwrap_or(0).to_string();
        let mut filled = text
            .replace(LISTEN, "0.0.0.0")
            .replace(PORT, &number(PortRole::Http))
            .replace(EVENTS, &number(PortRole::KvEvents))
            .replace(METRICS, &number(PortRole::Metrics))
            .replace(RENDEZVOUS, &number(PortRole::Rendezvous))
            .replace(WEIGHTS, &self.weights)
            .replace(SCRATCH, SCRATCH_AT);
        if nodes != Nodes::One {
            filled = filled
                .replace(LEADER, &self.host(nodes, 0))
                .replace(RANK, "$(NODE_RANK)")
                .replace(PEERS, &self.peers(nodes));
        }
        filled
    }

    /// The name by which the node of that number is reached.
    fn host(&self, nodes: Nodes, index: u32) -> String {
        let peers = self.named_here("peers");
        match (nodes, index) {
            (Nodes::One, _) => "localhost".to_owned(),
            (Nodes::Group, 0) => "$(LWS_LEADER_ADDRESS)".to_owned(),
            // Pods of a group are called like it, with their number.
            (Nodes::Group, _) => {
                let own = self.workload_name("");
                format!("{own}-$(GROUP_INDEX)-{index}.{own}.$(POD_NAMESPACE)")
            }
            (Nodes::Sets(copy), 0) => {
                format!("{}-0.{peers}.$(POD_NAMESPACE).svc", self.workload_name(&copy.to_string()))
            }
            (Nodes::Sets(copy), _) => {
                let set = self.workload_name(&format!("{copy}-workers"));
                format!("{set}-{index}.{peers}.$(POD_NAMESPACE).svc")
            }
        }
    }

    /// The other nodes with their ports, as llama.cpp wants them.
    fn peers(&self, nodes: Nodes) -> String {
        let port = self.port(PortRole::Rendezvous).unwrap_or(0);
        let others = 1..self.spec.nodes;
        let each: Vec<String> =
            others.map(|index| format!("{}:{port}", self.host(nodes, index))).collect();
        each.join(",")
    }

    /// The environment that its owner and the launch want, by name.
    pub(crate) fn environment(&self, nodes: Nodes) -> Vec<Value> {
        let mut all = BTreeMap::new();
        for env in &self.spec.env {
            let value = match &env.value {
                EnvValue::Plain(text) => json!({ "value": self.fill(text, nodes) }),
                EnvValue::Secret(Secret::EngineKey) => {
                    json!({ "valueFrom": { "secretKeyRef": { "name": self.key_name(), "key": "key" } } })
                }
                EnvValue::Secret(Secret::HubToken) => hub_token(),
            };
            all.insert(env.name.clone(), value);
        }
        for (name, value) in &self.model.spec.runtime_env {
            all.insert(name.clone(), json!({ "value": value }));
        }
        all.into_iter().map(|(name, value)| named(&name, value)).collect()
    }

    /// The secret between gateway and engines, where there is material for it.
    pub(crate) fn key_secret(&self) -> Option<Object> {
        let name = self.key_name();
        let key = self.cluster.material.get(&name).filter(|_| self.takes_key())?;
        let rest = json!({ "type": "Opaque", "stringData": { "key": key } });
        Some(Object::new("v1", "Secret", self.metadata(&name), rest))
    }

    /// The files that its program wants, as one ConfigMap.
    pub(crate) fn files(&self) -> Option<Object> {
        if self.spec.files.is_empty() {
            return None;
        }
        let files =
            self.spec.files.iter().map(|file| {
                (entry(&file.path), Value::String(self.fill(&file.content, Nodes::One)))
            });
        let data = Value::Object(files.collect());
        let rest = json!({ "data": data });
        Some(Object::new("v1", "ConfigMap", self.metadata_here(&self.named_here("files")), rest))
    }
}

/// The entry of a ConfigMap for a path: it has no slashes.
pub(crate) fn entry(path: &str) -> String {
    path.replace('/', "__")
}

/// A variable of the environment.
pub(crate) fn named(name: &str, value: Value) -> Value {
    let mut env = json!({ "name": name });
    if let (Some(env), Value::Object(value)) = (env.as_object_mut(), value) {
        env.extend(value);
    }
    env
}

/// The token for the hub that weights come from, where there is one.
pub(crate) fn hub_token() -> Value {
    let reference = json!({ "name": "pilotage-hub", "key": "token", "optional": true });
    json!({ "valueFrom": { "secretKeyRef": reference } })
}
