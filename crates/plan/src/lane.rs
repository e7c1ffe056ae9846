//! Lanes: each Model with its queue, and the replicas that its requests may go to, be they
//! processes of this machine or endpoints elsewhere.
//!
//! What Routes say of a queue holds for the Model's lane. Of the Routes that say something, those
//! that have the Model as a target decide; only where there is none, those that name it otherwise
//! (fallback, rule, canary, mirror). [`manifest::check`](crate::manifest::check) refuses two that
//! differ, so that the first one here is as good as any.

use pilotage_core::health::{BoardConfig, BreakerConfig, HedgeConfig, ProbeConfig};
use pilotage_core::{SchedulerConfig, Span};
use serde::Serialize;

use crate::api::route::SPILL_SECONDS_DEFAULT;
use crate::api::{
    Breaker, Dialect, Endpoint, Language, Model, ModelSpec, Origin, Policy, Prices, QueueLimits,
    Region, ResourceName, Resume, Retries, Route, Scaling, Scheduling, Zero,
};
use crate::ground::Ground;
use crate::pods::PodSpec;
use crate::{machine, render};

/// One Model: its queue, its turns, its replicas.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Lane {
    /// The Model's name.
    pub name: String,
    /// The name that the replicas know the model by.
    pub served_model: String,
    /// What its weights are, as far as the manifest says: their digest. Whoever fetches weights of
    /// which it says nothing finds out.
    pub identity: String,
    /// Which server the replicas are.
    pub dialect: Dialect,
    /// The names of the processes and endpoints that requests may go to.
    pub replicas: Vec<String>,
    /// The region of those that are processes.
    pub region: Option<String>,
    /// Tokens of context for each sequence: prompt and answer together.
    pub context_tokens: u32,
    /// What the model can do.
    pub capabilities: CapabilitySpec,
    /// Adapters that can be asked for.
    pub adapters: Vec<String>,
    /// Whether replicas take and return token ids.
    pub token_ids: bool,
    /// How an answer goes on whose replica failed in the middle of it.
    pub resume: Resume,
    /// How much may wait.
    pub queue: QueueLimits,
    /// How turns are given.
    pub scheduling: Scheduling,
    /// Which replica gets a request.
    pub policy: Policy,
    /// Regions in the order in which they are preferred; all replicas are alike where there are none.
    pub regions: Vec<Region>,
    /// Seconds that a request would wait in the nearer regions before the next one is used.
    pub spill_after_seconds: u32,
    /// Second attempts for a hundred streams that take long to begin: as many as the most generous of
    /// the Routes allows that have them; zero where none has.
    pub hedge_percent: u32,
    /// How often to try again: as often as the most patient of the Routes that lead here allows. What
    /// another Route allows less holds for its own requests.
    pub retries: Retries,
    /// How replicas are asked whether they are well.
    pub health: HealthSpec,
    /// The path at which they tell how full they are, below a replica's URL.
    pub metrics_path: Option<String>,
    /// When a replica is left alone.
    pub breaker: Breaker,
    /// What its tokens cost; zeros are free.
    pub price: Price,
    /// How many copies there are by the load; none where there are always as many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
    /// Seconds that a request waits at most for a copy to start, where there may be none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rest_seconds: Option<u32>,
    /// How its replicas are set; none where they run elsewhere, as somebody else has set them.
    #[serde(skip)]
    pub settings: Option<Settings>,
}

/// How the replicas of a Model are set that run its weights: what limits them besides their hardware. The
/// manifest says it, so that no plan repeats it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Sequences that each computes at once.
    pub sequences: u32,
    /// Tokens that each computes in one step at most.
    pub step_tokens: u32,
    /// Accelerators that divide each layer.
    pub tensor: u32,
    /// Stages that divide the layers.
    pub pipeline: u32,
    /// Whether steps run without graphs.
    pub is_eager: bool,
}

/// An engine that runs elsewhere.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct EndpointSpec {
    /// Its name, unique in the plan: the Model's and where it is.
    pub name: String,
    /// The Model it serves.
    pub lane: String,
    /// Where it is reached, without a slash at the end.
    pub url: String,
    /// Where the key is that it asks for.
    pub key: Option<KeySource>,
    /// The file with the certificates it is trusted by, instead of the system's.
    pub ca_file: Option<String>,
    /// The region it is in.
    pub region: Option<String>,
    /// The zone inside of the region.
    pub zone: Option<String>,
    /// Requests that may be in flight there.
    pub slots: u32,
    /// Tokens that its KV cache holds, where that is known.
    pub kv_tokens: Option<u64>,
    /// Where it tells what its KV cache holds: `tcp://HOST:PORT`.
    pub kv_events: Option<String>,
    /// Where it tells how full it is, where that is not at its Model's path below `url`.
    pub metrics_url: Option<String>,
    /// Whether nobody said by which name it serves its model, so that it is asked.
    pub finds_name: bool,
    /// Whether it is a gateway of another region.
    #[serde(skip_serializing_if = "crate::api::tenant::is_false")]
    pub gateway: bool,
    /// Which pod it is, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodSpec>,
    /// What it runs on.
    pub ground: Ground,
    /// Where the manifest has it, for messages.
    #[serde(skip)]
    pub written: Written,
}

/// The place of an endpoint in a manifest. It is no part of what the endpoint is: all places are equal.
#[derive(Clone, Debug, Default)]
pub struct Written {
    origin: Origin,
    index: usize,
}

impl Written {
    /// File, line and path of one of its fields.
    pub fn at(&self, field: &str) -> String {
        let path = format!("spec.endpoints[{}].{field}", self.index);
        match (&*self.origin.file, self.origin.line_of(&path)) {
            ("", _) => path,
            (file, 0) => format!("{file}: {path}"),
            (file, line) => format!("{file}:{line}: {path}"),
        }
    }
}

impl PartialEq for Written {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Written {}

/// Where a key is; the key itself is in no plan.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeySource {
    /// In the file at this path, without the line's end.
    File(String),
    /// In the environment variable of this name.
    Env(String),
}

/// What a model can do, with nothing left open.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct CapabilitySpec {
    /// It answers chats and completions.
    pub text: bool,
    /// It reads images.
    pub vision: bool,
    /// It hears audio in a chat.
    pub audio: bool,
    /// It calls functions.
    pub tools: bool,
    /// It can be held to a JSON schema.
    pub json_schema: bool,
    /// It makes embeddings.
    pub embeddings: bool,
    /// It ranks documents.
    pub rerank: bool,
    /// It speaks.
    pub speech: bool,
    /// It writes down what it hears.
    pub transcription: bool,
    /// It draws.
    pub images: bool,
    /// Languages it is good at; any when there are none.
    pub languages: Vec<Language>,
    /// How capable it is, in the operator's word.
    pub tier: Option<String>,
}

/// How replicas are asked whether they are well.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct HealthSpec {
    /// The path that answers with status 200 when all is well, below a replica's URL.
    pub path: String,
    /// Whether nothing else will do than 200 to 299, as where the manifest names the path. Otherwise
    /// a replica without such a path is well, too.
    pub is_strict: bool,
    /// Seconds between two looks.
    pub interval_seconds: u32,
    /// Seconds that an answer may take.
    pub timeout_seconds: u32,
    /// Looks that fail, of the last five or of as many as this, before nothing more is sent there.
    pub failures: u32,
    /// Looks in a row that succeed before work is sent there again.
    pub successes: u32,
}

/// What tokens cost, in millionths of the currency's unit per million tokens: an amount is
/// `tokens × price / 1 000 000` millionths, which takes 128 bits before the division.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Price {
    /// Prompt tokens that have to be computed.
    pub input: u64,
    /// Prompt tokens found in the prefix cache.
    pub cached: u64,
    /// Generated tokens.
    pub output: u64,
}

/// Seconds that a request waits for a copy to start, where its Model does not say how long that may take.
const REST_SECONDS: u32 = 600;

/// Of how many health checks the failed ones are counted at least.
const PROBES_MIN: u32 = 5;

impl Lane {
    /// The limits in the scheduler's terms.
    pub fn scheduler_config(&self) -> SchedulerConfig {
        SchedulerConfig {
            queue: pilotage_core::QueueLimits {
                requests_max: self.queue.requests_max,
                tokens_max: self.queue.tokens_max,
            },
            fair: self.scheduling.fair(),
            preempt: self.scheduling.preemption.into(),
            attempts_max: self.retries.attempts_max,
            retry_percent: self.retries.percent,
            policy: self.policy.into(),
            health: Some(self.board()),
            shares_prefixes: self.dialect.shares_prefixes(),
            ..SchedulerConfig::default()
        }
    }

    fn hedge(&self) -> HedgeConfig {
        match self.hedge_percent {
            0 => HedgeConfig::default(),
            percent => HedgeConfig { enabled: true, percent, ..HedgeConfig::default() },
        }
    }

    /// How replicas are judged, in the scheduler's terms.
    fn board(&self) -> BoardConfig {
        let seconds = |seconds: u32| Span::from_secs(seconds.into());
        let said = self.breaker;
        BoardConfig {
            breaker: BreakerConfig {
                failures_max: said.failures,
                failed_percent_max: said.error_percent.into(),
                attempts_min: said.requests_min,
                open_min: seconds(said.open_seconds),
                open_max: seconds(said.open_seconds_max),
                ..BreakerConfig::default()
            },
            probe: ProbeConfig {
                failed_max: self.health.failures,
                of: self.health.failures.max(PROBES_MIN),
                good_min: self.health.successes,
                ..ProbeConfig::default()
            },
            ejected_percent_max: said.ejected_percent_max,
            hedge: self.hedge(),
            ..BoardConfig::default()
        }
    }
}

/// The lane of a Model, to which these Routes lead, implied ones included.
pub(crate) fn lane(model: &Model, routes: &[&Route]) -> Lane {
    let name = &model.metadata.name;
    let spec = &model.spec;
    let dialect = spec.dialect();
    let processes = (0..spec.processes()).map(|index| render::process::name(model, index));
    let endpoints = spec.endpoints.iter().map(|endpoint| endpoint_name(model, endpoint));
    let served = spec
        .served_model
        .as_deref()
        .or_else(|| dialect.name_of_all())
        .unwrap_or_else(|| model.name());
    Lane {
        name: model.name().to_owned(),
        served_model: served.to_owned(),
        identity: spec.digest.as_ref().map(ToString::to_string).unwrap_or_default(),
        dialect,
        replicas: processes.chain(endpoints).collect(),
        region: spec.region.as_ref().map(ToString::to_string),
        context_tokens: spec.context,
        capabilities: capabilities(model),
        adapters: spec.adapter_names().into_iter().map(str::to_owned).collect(),
        token_ids: spec.tells_token_ids(),
        resume: spec.resume(),
        queue: first(name, routes, |route| route.spec.queue.as_ref()),
        scheduling: first(name, routes, |route| route.spec.scheduling.as_ref()),
        policy: first(name, routes, |route| route.spec.policy.as_ref()),
        regions: first(name, routes, regions),
        spill_after_seconds: deciding(name, routes, spill)
            .first()
            .map_or(SPILL_SECONDS_DEFAULT, |(_, seconds)| **seconds),
        hedge_percent: hedge_percent(name, routes),
        retries: retries(name, routes),
        health: health(model),
        metrics_path: dialect.metrics_path().map(str::to_owned),
        breaker: spec.breaker,
        price: spec.price.as_ref().map(Price::from).unwrap_or_default(),
        scaling: spec.scaling,
        rest_seconds: rests(spec).then(|| spec.start_seconds.unwrap_or(REST_SECONDS)),
        settings: spec.source.is_some().then(|| settings(model)),
    }
}

fn settings(model: &Model) -> Settings {
    let spec = &model.spec;
    Settings {
        sequences: spec.parallel,
        // Our own engine takes what the manifest says, others as it is sent to them.
        step_tokens: match spec.is_embedded() {
            true => spec.batch_tokens,
            false => machine::batch_tokens(model),
        },
        tensor: spec.parallelism.tensor,
        pipeline: spec.parallelism.pipeline,
        is_eager: spec.runtime_args.iter().any(|one| one == "--enforce-eager"),
    }
}

/// Whether there may be no copy that serves while nobody asks. Endpoints are there in any case, but for those
/// that are gateways of other regions.
fn rests(spec: &ModelSpec) -> bool {
    let rests = |scaling: Scaling| match scaling.zero {
        Zero::Always => false,
        Zero::Warm => true,
        Zero::Cold => scaling.min == 0,
    };
    spec.endpoints.iter().all(|endpoint| endpoint.gateway) && spec.scaling.is_some_and(rests)
}

/// The endpoints of a Model.
pub(crate) fn endpoints(model: &Model) -> impl Iterator<Item = EndpointSpec> {
    let (said, dialect) = (&model.spec, model.spec.dialect());
    let spec = move |(index, endpoint): (usize, &Endpoint)| EndpointSpec {
        name: endpoint_name(model, endpoint),
        lane: model.name().to_owned(),
        url: endpoint.url.to_string(),
        key: key(endpoint),
        ca_file: endpoint.ca_file.as_ref().map(ToString::to_string),
        region: endpoint.region.as_ref().map(ToString::to_string),
        zone: endpoint.zone.as_ref().map(ToString::to_string),
        slots: endpoint.parallel,
        kv_tokens: endpoint.kv_tokens,
        kv_events: endpoint.events_url(),
        metrics_url: endpoint.metrics_elsewhere(dialect).filter(|_| !endpoint.gateway),
        finds_name: !endpoint.gateway && said.served_model.is_none() && dialect.lists_its_name(),
        gateway: endpoint.gateway,
        pod: None,
        ground: Ground::of_endpoint(endpoint),
        written: Written { origin: model.origin.clone(), index },
    };
    model.spec.endpoints.iter().enumerate().map(spec)
}

/// The Routes that decide what holds for a Model's lane, of those that say something; see the
/// module's rule.
pub(crate) fn deciding<'a, T>(
    model: &ResourceName,
    routes: &[&'a Route],
    said: impl Fn(&'a Route) -> Option<&'a T>,
) -> Vec<(&'a Route, &'a T)> {
    let mut by_target = Vec::new();
    let mut otherwise = Vec::new();
    for route in routes {
        let Some(value) = said(route) else { continue };
        if route.spec.targets.iter().any(|target| target.model == *model) {
            by_target.push((*route, value));
        } else if route.spec.others().iter().any(|(_, other)| *other == model) {
            otherwise.push((*route, value));
        }
    }
    if by_target.is_empty() { otherwise } else { by_target }
}

fn first<'a, T: Clone + Default + 'a>(
    model: &ResourceName,
    routes: &[&'a Route],
    said: impl Fn(&'a Route) -> Option<&'a T>,
) -> T {
    deciding(model, routes, said).first().map(|(_, value)| (*value).clone()).unwrap_or_default()
}

/// The regions that a Route says, if it does.
pub(crate) fn regions(route: &Route) -> Option<&Vec<Region>> {
    Some(&route.spec.regions).filter(|regions| !regions.is_empty())
}

/// How long a wait a Route says is borne before another region is used.
pub(crate) fn spill(route: &Route) -> Option<&u32> {
    route.spec.spill_after_seconds.as_ref()
}

/// The Routes that lead to a Model in any way.
fn leading<'a>(model: &ResourceName, routes: &[&'a Route]) -> impl Iterator<Item = &'a Route> {
    routes.iter().copied().filter(move |route| {
        let spec = &route.spec;
        spec.targets.iter().any(|target| target.model == *model)
            || spec.others().iter().any(|(_, other)| *other == model)
    })
}

fn hedge_percent(model: &ResourceName, routes: &[&Route]) -> u32 {
    let all = leading(model, routes).map(|route| route.spec.hedge);
    all.filter(|hedge| hedge.enabled).map(|hedge| hedge.percent).max().unwrap_or(0)
}

fn retries(model: &ResourceName, routes: &[&Route]) -> Retries {
    let all = leading(model, routes).map(|route| route.spec.retries);
    let most = all.reduce(|one, other| Retries {
        attempts_max: one.attempts_max.max(other.attempts_max),
        percent: one.percent.max(other.percent),
    });
    most.unwrap_or_default()
}

/// Stable while endpoints are added and taken away, which a number would not be.
fn endpoint_name(model: &Model, endpoint: &Endpoint) -> String {
    format!("{}@{}", model.name(), endpoint.url.without_scheme())
}

fn key(endpoint: &Endpoint) -> Option<KeySource> {
    let file = endpoint.key_file.as_ref().map(|path| KeySource::File(path.to_string()));
    file.or_else(|| endpoint.key_env.as_ref().map(|name| KeySource::Env(name.to_string())))
}

fn capabilities(model: &Model) -> CapabilitySpec {
    let is_here = model.spec.is_embedded();
    let said = &model.spec.capabilities;
    let or = |said: Option<bool>, default: bool| said.unwrap_or(default);
    CapabilitySpec {
        text: or(said.text, true),
        vision: or(said.vision, false),
        audio: or(said.audio, false),
        tools: or(said.tools, true),
        json_schema: or(said.json_schema, true),
        embeddings: or(said.embeddings, is_here),
        rerank: or(said.rerank, false),
        speech: or(said.speech, false),
        transcription: or(said.transcription, false),
        images: or(said.images, false),
        languages: said.languages.clone(),
        tier: said.tier.as_ref().map(ToString::to_string),
    }
}

fn health(model: &Model) -> HealthSpec {
    let said = &model.spec.health;
    let dialect = model.spec.dialect();
    HealthSpec {
        path: said.path.clone().unwrap_or_else(|| dialect.health_path().to_owned()),
        interval_seconds: said.interval_seconds,
        is_strict: said.path.is_some(),
        timeout_seconds: said.timeout_seconds,
        failures: said.failures,
        successes: said.successes,
    }
}

impl From<&Prices> for Price {
    fn from(prices: &Prices) -> Self {
        Self {
            input: prices.input.millionths(),
            cached: prices.cached.unwrap_or(prices.input).millionths(),
            output: prices.output.millionths(),
        }
    }
}
