//! From a plan to the gateway's configuration: names become places in lists, percentages ratios.

use std::time::Duration;

use pilotage_core::Span;
use pilotage_core::scale::Policy;
use pilotage_core::traffic::{
    self, CanaryPlan, Capabilities, Experiment, Feature, HeaderMatch, LaneId, Mirror, Name, OnFail,
    Regions, Rule, Step, Sticky, Tag, Target, Tolerance, When,
};
use pilotage_gateway::{
    CacheConfig, GatewayConfig, IdentityConfig, KeyConfig, LaneConfig, Limits, Merge, Price,
    Resume, Retries, RouteConfig, TenantConfig, Timeouts,
};
use pilotage_plan::api::{self, Dialect, Identity, TenantKey};
use pilotage_plan::scaling::goals;
use pilotage_plan::{CapabilitySpec, Lane, Plan, Route, Timestamp};
use pilotage_shell::secret::{KeyHash, Secret};

use super::Weights;
use crate::installation::Installation;
use crate::{calibrations, sheets};

/// The tenant whose key is made and shown; who everybody is where no Tenant is defined.
const LOCAL: &str = "local";

/// What a plan does not say and no reload changes.
pub(in crate::cmd) struct Keys {
    /// The key of the tenant `local`, unless nobody needs one.
    pub(in crate::cmd) local: Option<Secret>,
    /// The key of the admin listener.
    pub(in crate::cmd) admin: Secret,
    /// Whether a request without a key is served.
    pub(in crate::cmd) open: bool,
    /// Public hosts that engines may fetch media from.
    pub(in crate::cmd) media_hosts: Vec<String>,
    /// Where calibrations of Models are kept.
    pub(in crate::cmd) installation: Installation,
    /// What the weights of Models are.
    pub(in crate::cmd) weights: Weights,
}

/// What the gateway serves, for whom.
pub(in crate::cmd) fn gateway_config(plan: &Plan, keys: &Keys) -> GatewayConfig {
    let tenants = tenants(plan, keys.local.as_ref());
    let places = Places { plan, tenants: &tenants };
    let lane = |one: &Lane| {
        let mut config = lane(one);
        // Whoever started a process hears of its death.
        let mut processes = plan.processes.iter();
        config.scheduler.deaths_told =
            processes.any(|process| one.replicas.contains(&process.name));
        if let Some(found) = keys.installation.calibration(&one.name) {
            tracing::info!(model = %one.name, measured = %found.measured, "the calibration that was kept is taken");
            config.scheduler.initial = calibrations::initial_speed(&found.fit.pace);
        }
        config.dims = keys.weights.of(plan, &one.name);
        config
    };
    GatewayConfig {
        lanes: plan.lanes.iter().map(lane).collect(),
        routes: plan.routes.iter().map(|route| places.route(route)).collect(),
        open: keys.open,
        admin_key: keys.admin.hash(),
        limits: Limits::default(),
        media_hosts: keys.media_hosts.clone(),
        tenants,
    }
}

/// Whether anybody can use the key of the tenant `local`.
pub(in crate::cmd) fn has_local(plan: &Plan) -> bool {
    plan.tenants.is_empty() || plan.tenants.iter().any(|tenant| tenant.name == LOCAL)
}

/// Names and their places. A name that is not there, which no plan has, leads nowhere.
struct Places<'a> {
    plan: &'a Plan,
    tenants: &'a [TenantConfig],
}

impl Places<'_> {
    fn lane(&self, model: &str) -> LaneId {
        let at = self.plan.lanes.iter().position(|lane| lane.name == model);
        LaneId(at.and_then(|at| u32::try_from(at).ok()).unwrap_or(u32::MAX))
    }

    fn tenant(&self, name: &str) -> pilotage_core::TenantId {
        let at = self.tenants.iter().position(|tenant| tenant.name == name);
        pilotage_core::TenantId(at.and_then(|at| u32::try_from(at).ok()).unwrap_or(u32::MAX))
    }

    fn targets(&self, targets: &[api::Target]) -> Vec<Target> {
        let one =
            |target: &api::Target| Target::stable(self.lane(target.model.as_str()), target.weight);
        targets.iter().map(one).collect()
    }

    fn route(&self, route: &Route) -> RouteConfig {
        let mut targets = self.targets(&route.targets);
        let on_trial = route.canary.iter().map(|canary| self.lane(canary.model.as_str()));
        targets.extend(on_trial.map(Target::canary));
        RouteConfig {
            traffic: traffic::Route {
                name: Name::from(route.name.as_str()),
                models: route.public_names.iter().map(|name| Name::from(name.as_str())).collect(),
                rules: route.rules.iter().map(|rule| self.rule(rule)).collect(),
                targets,
                fallbacks: route.fallbacks.iter().map(|model| self.lane(model)).collect(),
                canary: route.canary.as_ref().map(canary),
                experiment: route.experiment.as_ref().map(experiment),
                mirror: route.mirror.as_ref().map(|mirror| Mirror {
                    lane: self.lane(mirror.model.as_str()),
                    basis_points: mirror.percent * 100,
                }),
            },
            adapter: route.adapter.clone(),
            timeouts: timeouts(&route.timeouts),
            retries: self.retries(route),
            merge: route.merge.enabled.then(|| Merge {
                across_tenants: route.merge.across_tenants,
                charge: route.merge.charge.into(),
            }),
            cache: route.cache.enabled.then(|| cache(&route.cache)),
            hedge: route.hedge.enabled,
            canary_share_max: f64::from(route.canary_percent_max) / 100.0,
        }
    }

    /// What the Route allows less than a lane does: a budget of its own is kept only where it can matter.
    fn retries(&self, route: &Route) -> Option<Retries> {
        let api::Retries { attempts_max, percent } = route.retries;
        let differs = |lane: &Lane| lane.retries != route.retries;
        self.plan.lanes.iter().any(differs).then_some(Retries { attempts_max, percent })
    }

    fn rule(&self, rule: &api::Rule) -> Rule {
        Rule {
            name: Name::from(rule.name.as_str()),
            when: self.when(&rule.when),
            targets: self.targets(&rule.targets),
        }
    }

    fn when(&self, when: &api::When) -> When {
        let features = [
            (when.vision, Feature::Vision),
            (when.audio, Feature::Audio),
            (when.tools, Feature::Tools),
            (when.json_schema, Feature::JsonSchema),
            (when.embeddings, Feature::Embeddings),
        ];
        let needed = features.into_iter().filter(|(needs, _)| *needs == Some(true));
        let header = |header: &api::HeaderMatch| HeaderMatch {
            name: header.name.as_str().to_owned(),
            value: header.value.clone(),
            prefix: header.prefix.clone(),
        };
        let tenant = when.tenant.iter().map(|tenant| self.tenant(tenant.as_str()));
        When {
            features: needed.map(|(_, feature)| feature).collect(),
            prompt_tokens: range(when.prompt_tokens_min, when.prompt_tokens_max),
            context_tokens: range(when.context_tokens_min, when.context_tokens_max),
            headers: when.header.iter().map(header).collect(),
            tenants: tenant.collect(),
            languages: tags(when.language.iter().map(api::Language::as_str)),
            tiers: tags(when.tier.iter().map(api::Tier::as_str)),
            bands: when.band.iter().map(|band| (*band).into()).collect(),
        }
    }
}

fn range(min: Option<u32>, max: Option<u32>) -> traffic::TokenRange {
    traffic::TokenRange { min: min.unwrap_or(0).into(), max: max.map_or(u64::MAX, u64::from) }
}

/// Manifests hold nothing else than tags where tags belong.
fn tags<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<Tag> {
    texts.filter_map(|text| Tag::new(text).ok()).collect()
}

fn canary(canary: &api::Canary) -> CanaryPlan {
    let step = |step: &api::Step| Step {
        percent: step.weight.into(),
        duration_min: Span::from_secs(u64::from(step.minutes) * 60),
        samples_min: step.samples_min,
    };
    let times = |percent: u32| 1.0 + f64::from(percent) / 100.0;
    CanaryPlan {
        steps: canary.steps.iter().map(step).collect(),
        confidence: f64::from(canary.confidence) / 100.0,
        tolerance: Tolerance {
            error_ratio: times(canary.tolerance.error_percent),
            ttft_ratio: times(canary.tolerance.ttft_percent),
            tpot_ratio: times(canary.tolerance.tpot_percent),
            ..Tolerance::default()
        },
        on_fail: match canary.on_fail {
            api::OnFail::Rollback => OnFail::Rollback,
            api::OnFail::Pause => OnFail::Pause,
        },
    }
}

fn experiment(experiment: &api::Experiment) -> Experiment {
    Experiment {
        name: Name::from(experiment.name.as_str()),
        salt: Name::from(experiment.salt.as_str()),
        by: match experiment.by {
            api::Unit::Tenant => Sticky::Tenant,
            api::Unit::User => Sticky::User,
            api::Unit::Request => Sticky::Request,
        },
    }
}

fn regions(lane: &Lane) -> Option<Regions> {
    let order = (0_u8..).zip(&lane.regions).map(|(tier, region)| traffic::Region {
        name: Name::from(region.name.as_str()),
        tier,
        round_trip: Span::from_millis(region.network_ms.into()),
    });
    let spill_after = Span::from_secs(lane.spill_after_seconds.into());
    let order: Vec<traffic::Region> = order.collect();
    (!order.is_empty()).then_some(Regions { order, spill_after })
}

fn lane(lane: &Lane) -> LaneConfig {
    let (resume, resume_from) = resume(lane);
    LaneConfig {
        served_model: lane.served_model.clone(),
        identity: lane.identity.clone(),
        capabilities: capabilities(&lane.capabilities),
        adapters: lane.adapters.clone(),
        price: Price {
            input: lane.price.input,
            cached: lane.price.cached,
            output: lane.price.output,
        },
        resume,
        resume_from,
        scheduler: lane.scheduler_config(),
        regions: regions(lane),
        rest: lane.rest_seconds.map(|seconds| Duration::from_secs(seconds.into())),
        goals: lane.scaling.as_ref().map_or_else(|| Policy::default().goals, goals),
        planned: sheets::planned(lane),
        ..LaneConfig::named(lane.name.clone(), lane.context_tokens)
    }
}

/// How a lane's streams go on, and how many replicas must be up for them to be asked for what that
/// takes. Our own engine is back in seconds, so that an answer waits for it even where it is the only
/// one; and what may be stopped for more urgent work has to go on wherever that was.
fn resume(lane: &Lane) -> (Resume, u32) {
    let ours = lane.dialect == Dialect::Pilotage;
    match lane.resume {
        api::Resume::Off => (Resume::Off, 2),
        api::Resume::Text => (Resume::Text, 2),
        api::Resume::Tokens if ours || lane.scheduler_config().preempt.enabled => {
            (Resume::Tokens, 0)
        }
        api::Resume::Tokens => (Resume::Tokens, 2),
    }
}

fn capabilities(said: &CapabilitySpec) -> Capabilities {
    let features = [
        (said.text, Feature::Text),
        (said.vision, Feature::Vision),
        (said.audio, Feature::Audio),
        (said.tools, Feature::Tools),
        (said.json_schema, Feature::JsonSchema),
        (said.embeddings, Feature::Embeddings),
        (said.rerank, Feature::Rerank),
        (said.speech, Feature::Speech),
        (said.transcription, Feature::Transcription),
        (said.images, Feature::Images),
    ];
    let has = features.into_iter().filter(|(has, _)| *has).map(|(_, feature)| feature);
    Capabilities {
        features: has.collect(),
        // Engines say themselves when a prompt is too long, by exact counts.
        context_tokens: None,
        languages: tags(said.languages.iter().map(api::Language::as_str)),
        tiers: tags(said.tier.iter().map(String::as_str)),
    }
}

fn cache(cache: &api::Cache) -> CacheConfig {
    CacheConfig {
        ttl: Duration::from_secs(cache.ttl_seconds.into()),
        entries_max: usize::try_from(cache.entries_max).unwrap_or(usize::MAX),
        bytes_max: usize::try_from(cache.bytes_max).unwrap_or(usize::MAX),
    }
}

fn timeouts(timeouts: &api::Timeouts) -> Timeouts {
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    Timeouts {
        queue: seconds(timeouts.queue_seconds),
        first_token: seconds(timeouts.first_token_seconds),
        idle: seconds(timeouts.idle_seconds),
        total: seconds(timeouts.total_seconds),
    }
}

fn tenants(plan: &Plan, local: Option<&Secret>) -> Vec<TenantConfig> {
    let mut tenants: Vec<TenantConfig> = plan
        .tenants
        .iter()
        .map(|tenant| {
            let made = local.filter(|_| tenant.name == LOCAL).map(|key| key.hash().into());
            TenantConfig {
                parent: tenant.parent.clone(),
                weight: tenant.weight,
                guaranteed: tenant.share.guaranteed,
                borrowing_limit: tenant.share.borrowing_limit,
                lending_limit: tenant.share.lending_limit,
                quota: tenant.quota.clone(),
                deadline: tenant
                    .deadline_seconds
                    .map(|seconds| Duration::from_secs(seconds.into())),
                highest_band: tenant.highest_band,
                keys: tenant.keys.iter().map(key).chain(made).collect(),
                identities: tenant.identities.iter().map(identity).collect(),
                relays: tenant.relays,
                ..TenantConfig::named(tenant.name.clone())
            }
        })
        .collect();
    if tenants.is_empty() {
        let keys = local.map(|key| key.hash().into()).into_iter().collect();
        tenants.push(TenantConfig { keys, ..TenantConfig::named(LOCAL) });
    }
    tenants
}

fn key(key: &TenantKey) -> KeyConfig {
    let ms = |at: &Timestamp| at.unix_seconds().saturating_mul(1000);
    KeyConfig {
        hash: KeyHash::from_bytes(*key.sha256.0.bytes()),
        not_before_ms: key.not_before.as_ref().map(ms),
        expires_ms: key.expires.as_ref().map(ms),
    }
}

fn identity(identity: &Identity) -> IdentityConfig {
    IdentityConfig {
        issuer: identity.issuer.as_str().to_owned(),
        audience: identity.audience.clone(),
        claims: identity.claims.clone().into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use http_body_util::BodyExt as _;
    use pilotage_core::traffic::{Model, Role, Router};
    use pilotage_gateway::Gateway;
    use pilotage_plan::{World, parse_all, plan};
    use pilotage_shell::clock::Clock;
    use pilotage_shell::metrics::Metrics;
    use serde_json::Value;
    use tower::ServiceExt as _;

    use super::*;
    use crate::calibrations::tests::{KEPT, keep};

    const MANIFEST: &str = r#"
apiVersion: pilotage.dev/v1alpha1
kind: Model
metadata: {name: big}
spec:
  endpoints: [{url: "http://big.example.com"}]
  servedModel: owner/Big
  dialect: vllm
  capabilities: {vision: true, speech: true, languages: [de], tier: large}
  adapters: [law]
---
apiVersion: pilotage.dev/v1alpha1
kind: Model
metadata: {name: next}
spec: {endpoints: [{url: "http://next.example.com", region: oslo}]}
---
apiVersion: pilotage.dev/v1alpha1
kind: Model
metadata: {name: small}
spec: {source: "file:small.gguf", region: paris}
---
apiVersion: pilotage.dev/v1alpha1
kind: Tenant
metadata: {name: search}
---
apiVersion: pilotage.dev/v1alpha1
kind: Route
metadata: {name: chat}
spec:
  targets: [{model: small, weight: 9}]
  fallbacks: [big]
  rules:
    - name: images
      when:
        {vision: true, promptTokensMin: 10, contextTokensMax: 20, header: {name: X-A, prefix: b},
         language: de, tier: large, tenant: search, band: bulk}
      targets: [{model: big, weight: 2}]
  canary: {model: next, tolerance: {ttftPercent: 25}, confidence: 90}
  mirror: {model: big, percent: 5}
  merge: {enabled: true, charge: first}
  cache: {enabled: true, ttlSeconds: 60}
  hedge: {enabled: true, percent: 7}
  regions: [{name: paris}, {name: oslo, networkMs: 30}]
  spillAfterSeconds: 4
---
apiVersion: pilotage.dev/v1alpha1
kind: Route
metadata: {name: two}
spec:
  targets: [{model: small}, {model: big}]
  experiment: {name: e, by: user, salt: "1"}
---
apiVersion: pilotage.dev/v1alpha1
kind: Route
metadata: {name: lawyers}
spec: {targets: [{model: big}], adapter: law, retries: {attemptsMax: 1, percent: 5}}
"#;

    const LANES: [LaneId; 3] = [LaneId(0), LaneId(1), LaneId(2)];

    fn config() -> GatewayConfig {
        let resources = parse_all([("f", MANIFEST)]).unwrap();
        let plan = plan(&resources, &World::with_cores(2)).unwrap();
        let admin = Secret::new("a".to_owned());
        let installation = Installation::at(Some("none".into())).unwrap();
        let media_hosts = Vec::new();
        let weights = Weights::default();
        let keys = Keys { local: None, admin, open: false, media_hosts, installation, weights };
        gateway_config(&plan, &keys)
    }

    #[test]
    fn names_become_places_and_percentages_ratios() {
        let config = config();
        let names: Vec<_> = config.lanes.iter().map(|lane| lane.name.as_str()).collect();
        assert_eq!(names, ["big", "next", "small"]);
        let [big, next, small] = LANES;

        let chat = &config.routes[0].traffic;
        assert_eq!(chat.targets, [Target::stable(small, 9), Target::canary(next)]);
        assert_eq!((chat.targets[1].role, &chat.fallbacks[..]), (Role::Canary, &[big][..]));
        assert_eq!(chat.mirror, Some(Mirror { lane: big, basis_points: 500 }));
        let merge = Merge { across_tenants: false, charge: traffic::merge::Charge::First };
        assert_eq!(config.routes[0].merge, Some(merge));
        assert_eq!(config.routes[0].cache.map(|cache| cache.ttl.as_secs()), Some(60));
        assert_eq!((config.routes[1].merge, config.routes[1].cache), (None, None));
        let canary = chat.canary.as_ref().unwrap();
        assert_eq!((canary.steps.len(), canary.confidence), (3, 0.9));
        assert_eq!((canary.tolerance.ttft_ratio, canary.tolerance.tpot_ratio), (1.25, 1.1));
        assert_eq!([config.routes[0].hedge, config.routes[1].hedge], [true, false]);
        let [.., small] = &config.lanes[..] else { panic!("no lanes") };
        let hedge = small.scheduler.health.unwrap().hedge;
        assert_eq!((hedge.enabled, hedge.percent), (true, 7));
        let regions = small.regions.as_ref().unwrap();
        let order: Vec<_> = regions.order.iter().map(|one| (one.name.as_str(), one.tier)).collect();
        assert_eq!(order, [("paris", 0), ("oslo", 1)]);
        assert_eq!(
            (regions.spill_after, regions.order[1].round_trip.as_millis()),
            (Span::from_secs(4), 30)
        );
    }

    #[test]
    fn conditions_are_what_the_manifest_says() {
        let config = config();
        let chat = &config.routes[0].traffic;
        let [big, ..] = LANES;
        let rule = &chat.rules[0];
        assert_eq!(rule.targets, [Target::stable(big, 2)]);
        assert!(rule.when.features.holds([Feature::Vision].into_iter().collect()));
        assert_eq!((rule.when.prompt_tokens.min, rule.when.context_tokens.max), (10, 20));
        assert_eq!(rule.when.headers[0].prefix.as_deref(), Some("b"));
        assert_eq!(rule.when.tenants, [pilotage_core::TenantId(0)]);
        assert_eq!((rule.when.languages[0].as_str(), rule.when.tiers[0].as_str()), ("de", "large"));
        assert_eq!(rule.when.bands, [pilotage_core::Band::Bulk]);
    }

    #[test]
    fn what_a_route_asks_for_beside_a_model_is_followed() {
        let config = config();
        let by_name = |name: &str| {
            config.routes.iter().find(|route| route.traffic.name.as_str() == name).unwrap()
        };
        let lawyers = by_name("lawyers");
        assert_eq!(lawyers.adapter.as_deref(), Some("law"));
        assert_eq!(lawyers.retries, Some(Retries { attempts_max: 1, percent: 5 }));
        let [big, next, _] = LANES.map(|lane| &config.lanes[lane.0 as usize]);
        // The lane allows what its most patient route does.
        assert_eq!((big.scheduler.attempts_max, big.scheduler.retry_percent), (3, 20));
        assert_eq!((by_name("chat").adapter.as_ref(), by_name("chat").retries), (None, None));
        assert!(big.scheduler.shares_prefixes && !next.scheduler.shares_prefixes);
    }

    #[test]
    fn lanes_and_experiments_are_what_the_router_takes() {
        let config = config();
        let experiment = config.routes[2].traffic.experiment.clone().unwrap();
        assert_eq!((experiment.name.as_str(), experiment.salt.as_str()), ("e", "1"));
        assert_eq!(experiment.by, Sticky::User);
        let lane = &config.lanes[0];
        assert_eq!(
            (lane.served_model.as_str(), &lane.adapters[..]),
            ("owner/Big", &["law".to_owned()][..])
        );
        assert!(lane.capabilities.features.holds([Feature::Speech].into_iter().collect()));
        assert!(!lane.capabilities.features.holds([Feature::Embeddings].into_iter().collect()));

        let model = |(lane, config): (u32, &LaneConfig)| Model {
            lane: LaneId(lane),
            name: Name::from(config.name.as_str()),
            capabilities: config.capabilities.clone(),
        };
        let models = (0..).zip(&config.lanes).map(model).collect();
        let routes = config.routes.iter().map(|route| route.traffic.clone()).collect();
        assert!(Router::new(models, routes).is_ok());
    }

    #[tokio::test]
    async fn a_lane_begins_with_the_calibration_of_its_model() {
        let folder = tempfile::tempdir().unwrap();
        let resources = parse_all([("f", MANIFEST)]).unwrap();
        let plan = plan(&resources, &World::with_cores(2)).unwrap();
        let speeds = async || {
            let keys = Keys {
                local: None,
                admin: Secret::new("a".to_owned()),
                open: false,
                media_hosts: Vec::new(),
                installation: Installation::at(Some(folder.path().to_owned())).unwrap(),
                weights: Weights::default(),
            };
            let config = gateway_config(&plan, &keys);
            let gateway = Gateway::new(config, Clock::start(), Metrics::new()).unwrap();
            let request = Request::get("/status").header("authorization", "Bearer a");
            let router = gateway.admin_router(Default::default());
            let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let status: Value = serde_json::from_slice(&body).unwrap();
            ["big", "next"].map(|name| {
                let lanes = status["lanes"].as_array().unwrap();
                lanes.iter().find(|lane| lane["name"] == name).unwrap()["speed"].clone()
            })
        };
        let [guessed, other] = speeds().await;
        assert_eq!((&guessed, &guessed["measured"]), (&other, &Value::from(false)));
        keep(folder.path(), "big", KEPT);
        let [big, next] = speeds().await;
        assert_eq!(next, guessed, "one without a calibration stays as it is");
        let about = |name: &str, expect: f64| {
            let found = big[name].as_f64().unwrap();
            assert!((found - expect).abs() < 1e-6, "{name}: {found} {expect}");
        };
        about("prompt_token_ms", 0.4);
        about("step_ms", 30.0);
        about("sequence_ms", 2.012);
        assert_eq!(big["measured"], false, "nobody asked anything here yet");
    }
}
