//! What a gateway serves, for whom, and within which limits.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pilotage_core::admit::Quota;
use pilotage_core::health::BoardConfig;
use pilotage_core::queue::tree::WEIGHT_ONE;
use pilotage_core::scale::{Goal, Policy};
use pilotage_core::traffic::{
    Capabilities, Charge, Feature, Features, LaneId, Regions, Route, Target,
};
use pilotage_core::{Band, SchedulerConfig};
use pilotage_lens::triage::evidence::{Dims, Planned};
use pilotage_shell::secret::KeyHash;

/// Everything a gateway is made from.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Models, each with a queue and replicas of its own.
    pub lanes: Vec<LaneConfig>,
    /// What clients can ask for.
    pub routes: Vec<RouteConfig>,
    /// Who may ask.
    pub tenants: Vec<TenantConfig>,
    /// Whether a request without a key is served, as the first tenant's. For loopback only.
    pub open: bool,
    /// The key of the admin listener.
    pub admin_key: KeyHash,
    /// Limits on requests.
    pub limits: Limits,
    /// Hosts that engines may fetch images, audio, video and files from when a request names them by
    /// address: full names, with a port where it is not the protocol's own. None: only what is in
    /// the request itself.
    pub media_hosts: Vec<String>,
}

/// One model's queue and replicas.
#[derive(Clone, Debug)]
pub struct LaneConfig {
    /// Its name in records and metrics: the model's.
    pub name: String,
    /// The name that replicas know the model by.
    pub served_model: String,
    /// What its weights are, such as their digest; may be empty. An answer that was kept is not given
    /// again once this is another.
    pub identity: String,
    /// Tokens of context for each sequence.
    pub context_tokens: u32,
    /// What it can do.
    pub capabilities: Capabilities,
    /// LoRA adapters that clients may ask for, as `MODEL:ADAPTER`.
    pub adapters: Vec<String>,
    /// What its tokens cost.
    pub price: Price,
    /// How streams go on elsewhere when their replica fails in the middle.
    pub resume: Resume,
    /// Replicas that must be up for a stream to be asked for what going on takes. Two where a replica
    /// that dies is long away; none where it is back within [`SchedulerConfig::retry_wait`], or where
    /// running work is stopped for other work.
    pub resume_from: u32,
    /// Its scheduler's limits.
    pub scheduler: SchedulerConfig,
    /// Where its replicas are preferred, and when others are used; none where all are alike.
    pub regions: Option<Regions>,
    /// Where it may have no replicas while nobody asks: how long a request waits at most for the first
    /// one to start. None where a model without replicas is one that lacks them.
    pub rest: Option<Duration>,
    /// What each band is promised, for those who decide how many replicas there are.
    pub goals: [Goal; Band::ALL.len()],
    /// What manifests say of it that limits it, for those who ask what does.
    pub planned: Planned,
    /// What its weights are, once somebody has read them.
    pub dims: Arc<OnceLock<Dims>>,
}

impl LaneConfig {
    /// Which version of its model it is that is tried out, where there are several: what its identity has
    /// behind a `#`.
    pub fn on_trial(&self) -> Option<&str> {
        self.identity.rsplit_once('#').map(|(_, revision)| revision)
    }

    /// A lane for chats of which nothing else is said: free, and without limits but the defaults.
    pub fn named(name: impl Into<String>, context_tokens: u32) -> Self {
        let name = name.into();
        let features = [Feature::Text, Feature::Tools, Feature::JsonSchema, Feature::Embeddings];
        let capabilities = Capabilities {
            features: Features::of(&features),
            // Engines say themselves when a prompt is too long, by exact counts.
            context_tokens: None,
            ..Capabilities::default()
        };
        Self {
            served_model: name.clone(),
            name,
            identity: String::new(),
            context_tokens,
            capabilities,
            adapters: Vec::new(),
            price: Price::default(),
            resume: Resume::Off,
            resume_from: 2,
            scheduler: SchedulerConfig {
                health: Some(BoardConfig::default()),
                ..SchedulerConfig::default()
            },
            regions: None,
            rest: None,
            goals: Policy::default().goals,
            planned: Planned::default(),
            dims: Arc::default(),
        }
    }

    /// What is known of it besides what is seen.
    pub(crate) fn planned(&self) -> Planned {
        let read = self.dims.get().cloned().unwrap_or_default();
        Planned { dims: self.planned.dims.or(&read), ..self.planned.clone() }
    }
}

/// How a stream goes on that broke in the middle.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Resume {
    /// Over token ids, exactly; running work can be stopped for other work, too. For engines that
    /// take and return them.
    Tokens,
    /// As text that the engine continues, which may differ from the answer that broke.
    Text,
    /// Not at all: it ends with an error event.
    #[default]
    Off,
}

/// Public names and how their requests are shared out.
#[derive(Clone, Debug)]
pub struct RouteConfig {
    /// Names, targets, rules and the rest. A lane's number is its place among the lanes of the same
    /// configuration, a tenant's its place among the tenants.
    pub traffic: Route,
    /// The LoRA adapter that requests ask for when they name none.
    pub adapter: Option<String>,
    /// When to stop waiting.
    pub timeouts: Timeouts,
    /// How often to try again, where that is less than the lane allows.
    pub retries: Option<Retries>,
    /// Whether equal requests share one answer.
    pub merge: Option<Merge>,
    /// Whether answers are kept and given again.
    pub cache: Option<CacheConfig>,
    /// Whether streams that take unusually long to begin get a second attempt, as far as their lane's
    /// scheduler allows: see [`pilotage_core::health::HedgeConfig`].
    pub hedge: bool,
    /// The part of its requests, 0 to 1, that its canary's replicas can bear: it gets no more.
    pub canary_share_max: f64,
}

/// How often a route's requests may be tried again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Retries {
    /// Attempts for one request, the first one included.
    pub attempts_max: u32,
    /// Retries in percent of the route's requests.
    pub percent: u32,
}

/// How equal deterministic requests that run at the same time share one answer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Merge {
    /// Whether requests of several tenants may: then one can tell by the time that another asks the
    /// same.
    pub across_tenants: bool,
    /// Who pays.
    pub charge: Charge,
}

/// How answers of deterministic requests are kept, for each tenant its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CacheConfig {
    /// For how long.
    pub ttl: Duration,
    /// Answers of all tenants together.
    pub entries_max: usize,
    /// Bytes of all tenants' answers together.
    pub bytes_max: usize,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(3600), entries_max: 10_000, bytes_max: 256 << 20 }
    }
}

impl RouteConfig {
    /// Names that lead to one lane.
    pub fn to_lane(names: &[&str], lane: u32) -> Self {
        let traffic = Route {
            name: names.first().copied().unwrap_or_default().into(),
            models: names.iter().map(|name| (*name).into()).collect(),
            targets: vec![Target::stable(LaneId(lane), 1)],
            ..Route::default()
        };
        Self {
            traffic,
            adapter: None,
            timeouts: Timeouts::default(),
            retries: None,
            merge: None,
            cache: None,
            hedge: false,
            canary_share_max: 1.0,
        }
    }
}

/// Prices per million tokens, in millionths of the currency's unit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Price {
    /// Of prompt tokens that are computed.
    pub input: u64,
    /// Of prompt tokens found in a cache.
    pub cached: u64,
    /// Of generated tokens.
    pub output: u64,
}

/// When to stop waiting.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timeouts {
    /// For a turn.
    pub queue: Duration,
    /// From the dispatch to the first token.
    pub first_token: Duration,
    /// Between two events of a stream.
    pub idle: Duration,
    /// For the whole request.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            queue: Duration::from_secs(60),
            first_token: Duration::from_secs(300),
            idle: Duration::from_secs(60),
            total: Duration::from_secs(3600),
        }
    }
}

/// Who may ask.
#[derive(Clone, Debug)]
pub struct TenantConfig {
    /// The name.
    pub name: String,
    /// The tenant it belongs to.
    pub parent: Option<String>,
    /// What it gets of the leftover beside its siblings, in thousandths.
    pub weight: u32,
    /// What is its own before anybody else's, in thousandths of a lane's capacity.
    pub guaranteed: u32,
    /// What it may use above that; none is no limit.
    pub borrowing_limit: Option<u32>,
    /// What others may use of it; none is all.
    pub lending_limit: Option<u32>,
    /// How much it may use.
    pub quota: Quota,
    /// How long its requests wait for their whole answer when they do not say.
    pub deadline: Option<Duration>,
    /// The most urgent band its requests may have.
    pub highest_band: Band,
    /// Its keys.
    pub keys: Vec<KeyConfig>,
    /// Tokens of identity providers whose bearers belong to it.
    pub identities: Vec<IdentityConfig>,
    /// Whether it is a gateway of another region, which says whose its requests are.
    pub relays: bool,
}

impl TenantConfig {
    /// A tenant at the top, with weight one and no limits, whom nobody can be yet.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            parent: None,
            weight: WEIGHT_ONE,
            guaranteed: 0,
            borrowing_limit: None,
            lending_limit: None,
            quota: Quota::default(),
            deadline: None,
            highest_band: Band::Realtime,
            keys: Vec::new(),
            identities: Vec::new(),
            relays: false,
        }
    }
}

/// A key and when it counts.
#[derive(Clone, Copy, Debug)]
pub struct KeyConfig {
    /// Its hash.
    pub hash: KeyHash,
    /// From when it counts, in milliseconds since 1970.
    pub not_before_ms: Option<u64>,
    /// From when on it does not.
    pub expires_ms: Option<u64>,
}

/// A key that always counts.
impl From<KeyHash> for KeyConfig {
    fn from(hash: KeyHash) -> Self {
        Self { hash, not_before_ms: None, expires_ms: None }
    }
}

/// Which tokens belong to a tenant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IdentityConfig {
    /// Who made them, as they say (`iss`); a URL, where its keys are found.
    pub issuer: String,
    /// Whom they are for (`aud`).
    pub audience: String,
    /// Claims and the values that they must have or hold.
    pub claims: Vec<(String, String)>,
}

/// Limits on requests and answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Bytes of a request's body; more is answered with status 413.
    pub body_bytes_max: usize,
    /// How long a body may take at least.
    pub body_time_base: Duration,
    /// Bytes for which a body gets one more second: slower clients are cut with status 408.
    pub body_bytes_per_second_min: usize,
    /// Bytes of an answer that is no stream.
    pub answer_bytes_max: usize,
    /// Bytes of one event of a stream.
    pub event_bytes_max: usize,
    /// Bytes of a stream that are held back until its first token.
    pub held_bytes_max: usize,
    /// Images, audio, video and files in requests.
    pub media: MediaLimits,
    /// Responses that are kept.
    pub stored: StoredLimits,
    /// Bytes of an answer that are kept for those who share it: beyond them nobody joins, and a client
    /// that is so far behind the others is cut off.
    pub merge_bytes_max: usize,
    /// Copies of requests under way; what would be more is dropped.
    pub mirrors_max: usize,
    /// Tokens of identity providers, and asking these for their keys.
    pub oidc: Oidc,
    /// Records of requests that ended which are kept for who looks on; beyond it the oldest goes.
    pub records_kept: usize,
}

/// Limits on images, audio, video and files in requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MediaLimits {
    /// How many a request may hold.
    pub parts_max: u32,
    /// Bytes of one that is in the request itself, as it is encoded there.
    pub part_bytes_max: usize,
}

/// Limits on responses that are kept, so that a later request can go on from them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StoredLimits {
    /// How many; beyond it the oldest goes, of the tenant that keeps most.
    pub entries_max: usize,
    /// Bytes of all of them together; beyond it the same.
    pub bytes_max: usize,
    /// For how long.
    pub age_max: Duration,
}

impl Default for MediaLimits {
    fn default() -> Self {
        Self { parts_max: 32, part_bytes_max: 20 << 20 }
    }
}

impl Default for StoredLimits {
    fn default() -> Self {
        let age_max = Duration::from_secs(24 * 3600);
        Self { entries_max: 10_000, bytes_max: 256 << 20, age_max }
    }
}

/// Limits on tokens of identity providers, and on asking these for their keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Oidc {
    /// Bytes of a token; longer ones are refused with status 401.
    pub token_bytes_max: usize,
    /// How far the clocks of gateway and provider may differ.
    pub leeway: Duration,
    /// For how long keys are used without asking again.
    pub keys_age_max: Duration,
    /// For how long they are used while the provider is away.
    pub keys_stale_max: Duration,
    /// Between two fetches from one provider, whatever keys tokens name.
    pub fetch_interval_min: Duration,
    /// How long a fetch may take.
    pub fetch_timeout: Duration,
    /// Bytes of each of the two documents that a provider sends.
    pub document_bytes_max: usize,
}

impl Default for Oidc {
    fn default() -> Self {
        Self {
            token_bytes_max: 16 << 10,
            leeway: Duration::from_secs(60),
            keys_age_max: Duration::from_secs(600),
            keys_stale_max: Duration::from_secs(24 * 3600),
            fetch_interval_min: Duration::from_secs(10),
            fetch_timeout: Duration::from_secs(5),
            document_bytes_max: 256 << 10,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 32 << 20,
            body_time_base: Duration::from_secs(10),
            body_bytes_per_second_min: 64 << 10,
            answer_bytes_max: 64 << 20,
            event_bytes_max: 4 << 20,
            held_bytes_max: 256 << 10,
            media: MediaLimits::default(),
            stored: StoredLimits::default(),
            merge_bytes_max: 8 << 20,
            mirrors_max: 64,
            oidc: Oidc::default(),
            records_kept: 10_000,
        }
    }
}
