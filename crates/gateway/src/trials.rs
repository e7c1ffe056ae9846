//! What comes of requests, by the arm of the route that they took: canaries that go on, are promoted
//! or rolled back by it, and results of experiments. The judging is the core's.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use pilotage_core::traffic::canary::{Judgement, Snapshot};
use pilotage_core::traffic::tally::{Sample, Tally};
use pilotage_core::traffic::{Arm, Canary, Name, Role, Verdict};
use pilotage_core::{Span, Time};
use pilotage_shell::clock::Clock;
use serde_json::{Value, json};

use crate::config::{LaneConfig, RouteConfig};
use crate::metrics::GatewayMetrics;

/// Everything that is tried out.
#[derive(Debug)]
pub(crate) struct Trials {
    clock: Clock,
    seed: u64,
    metrics: GatewayMetrics,
    routes: Mutex<BTreeMap<Name, Trial>>,
}

/// One route's.
#[derive(Debug, Default)]
struct Trial {
    canary: Option<Canary>,
    /// The lane that is tried, and which version it has.
    subject: Option<(String, Option<String>)>,
    /// The last verdict that was told.
    told: Option<Verdict>,
    /// What came of each model's requests.
    arms: BTreeMap<String, Tally>,
}

/// What is thought of a route's canary.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The route.
    pub route: String,
    /// The lane that is tried.
    pub lane: String,
    /// Which version of its model, where there are several: what its identity has behind a `#`.
    pub revision: Option<String>,
    /// Its step, from 0; behind the last when it is promoted.
    pub step: usize,
    /// Its part of the requests, in percent.
    pub percent: f64,
    /// What is to be done, and why.
    pub judgement: Judgement,
}

/// Where a request counts.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) route: Name,
    pub(crate) role: Role,
}

impl Trials {
    pub(crate) fn new(clock: Clock, seed: u64, metrics: GatewayMetrics) -> Self {
        Self { clock, seed, metrics, routes: Mutex::default() }
    }

    /// The routes from now on. A trial of the same model by the same plan goes on.
    pub(crate) fn set(&self, routes: &[RouteConfig], lanes: &[LaneConfig]) {
        let mut trials = self.routes.lock();
        let mut before = std::mem::take(&mut *trials);
        for route in routes {
            let mut trial = before.remove(&route.traffic.name).unwrap_or_default();
            let now = self.now();
            let begun = subject(route, lanes).zip(route.traffic.canary.clone());
            trial.canary = begun.map(|(subject, plan)| match trial.canary.take() {
                Some(canary) => Canary::restore(now, plan, subject, canary.snapshot(now)),
                None => Canary::new(now, plan, subject, self.seed),
            });
            if let Some(canary) = &mut trial.canary {
                canary.set_share_max(route.canary_share_max);
            }
            trial.subject = lane_of_canary(route, lanes)
                .map(|lane| (lane.name.clone(), lane.on_trial().map(str::to_owned)));
            let name = route.traffic.name.as_str();
            self.show(name, trial.canary.as_ref());
            trials.insert(route.traffic.name.clone(), trial);
        }
        for gone in before.keys() {
            self.metrics.forget_route(gone.as_str());
        }
    }

    /// The part of a route's requests that its canary gets now.
    pub(crate) fn share(&self, route: &Name) -> f64 {
        let trials = self.routes.lock();
        let canary = trials.get(route).and_then(|trial| trial.canary.as_ref());
        canary.map_or(0.0, Canary::share)
    }

    /// A request ended at a model.
    pub(crate) fn ended(&self, place: &Place, lane: &str, sample: &Sample) {
        let now = self.now();
        let mut trials = self.routes.lock();
        let Some(trial) = trials.get_mut(&place.route) else { return };
        match trial.arms.get_mut(lane) {
            Some(tally) => tally.note(sample),
            None => trial.arms.entry(lane.to_owned()).or_default().note(sample),
        }
        let Some(canary) = &mut trial.canary else { return };
        let arm = if place.role == Role::Canary { Arm::Canary } else { Arm::Baseline };
        canary.note(arm, sample);
        let judgement = canary.judge(now);
        if trial.told != Some(judgement.verdict) {
            trial.told = Some(judgement.verdict);
            let route = place.route.as_str();
            match judgement.verdict {
                Verdict::Rollback => tracing::warn!(route, "{judgement}"),
                Verdict::Promote | Verdict::Continue | Verdict::Hold => {
                    tracing::info!(route, "{judgement}");
                }
            }
        }
        self.show(place.route.as_str(), Some(canary));
    }

    /// What is thought of each canary now.
    pub(crate) fn judged(&self) -> Vec<Judged> {
        let now = self.now();
        let mut trials = self.routes.lock();
        let judged = trials.iter_mut().filter_map(|(route, trial)| {
            let (canary, (lane, revision)) = (trial.canary.as_mut()?, trial.subject.clone()?);
            let judgement = canary.judge(now);
            let (step, percent) = (canary.step(), canary.share() * 100.0);
            let route = route.as_str().to_owned();
            Some(Judged { route, lane, revision, step, percent, judgement })
        });
        judged.collect()
    }

    /// Each route's arms and canary, for the status.
    pub(crate) fn status(&self) -> Value {
        let now = self.now();
        let mut trials = self.routes.lock();
        let routes = trials.iter_mut().map(|(route, trial)| {
            let arms = trial.arms.iter().map(|(lane, tally)| arm(lane, tally));
            let arms: Vec<Value> = arms.collect();
            let canary = trial.canary.as_mut().map(|canary| {
                let judgement = canary.judge(now);
                json!({
                    "verdict": judgement.verdict,
                    "percent": canary.share() * 100.0,
                    "why": judgement.to_string(),
                })
            });
            json!({"name": route, "arms": arms, "canary": canary})
        });
        routes.collect()
    }

    /// What survives a restart.
    pub(crate) fn snapshot(&self) -> Value {
        let now = self.now();
        let trials = self.routes.lock();
        let kept = trials.iter().filter_map(|(route, trial)| {
            let canary = trial.canary.as_ref()?.snapshot(now);
            Some((route.as_str().to_owned(), serde_json::to_value(canary).ok()?))
        });
        Value::Object(kept.collect())
    }

    /// Goes on where [`Self::snapshot`] was made; what does not fit is begun anew.
    pub(crate) fn restore(&self, kept: &Value) {
        let now = self.now();
        for (route, trial) in self.routes.lock().iter_mut() {
            let kept = kept.get(route.as_str()).cloned();
            let kept = kept.and_then(|kept| serde_json::from_value::<Snapshot>(kept).ok());
            if let (Some(canary), Some(kept)) = (&mut trial.canary, kept) {
                let (plan, subject) = canary.plan_and_subject();
                let share_max = canary.share_max();
                *canary = Canary::restore(now, plan, subject, kept);
                // What its replicas can bear is not what they could before.
                canary.set_share_max(share_max);
                self.show(route.as_str(), Some(canary));
            }
        }
    }

    fn show(&self, route: &str, canary: Option<&Canary>) {
        if let Some(canary) = canary {
            self.metrics.canary_share(route, canary.share());
        }
    }

    fn now(&self) -> Time {
        Time::from_nanos(self.clock.now_nanos())
    }
}

/// What is on trial: the model, what it is upstream, and which weights these are, as far as that is
/// known. Another revision is another trial.
fn subject(route: &RouteConfig, lanes: &[LaneConfig]) -> Option<Name> {
    let lane = lane_of_canary(route, lanes)?;
    let LaneConfig { name, served_model, identity, .. } = lane;
    let revision = if identity.is_empty() { String::new() } else { format!("#{identity}") };
    Some(format!("{name}@{served_model}{revision}").as_str().into())
}

fn lane_of_canary<'a>(route: &RouteConfig, lanes: &'a [LaneConfig]) -> Option<&'a LaneConfig> {
    let target = route.traffic.targets.iter().find(|target| target.role == Role::Canary)?;
    lanes.get(target.lane.0 as usize)
}

fn arm(lane: &str, tally: &Tally) -> Value {
    let ms = |span: Option<Span>| span.map(Span::as_millis);
    json!({
        "model": lane,
        "requests": tally.requests,
        "failed": tally.failed,
        "error_rate": tally.error_rate(),
        "input_tokens": tally.input,
        "output_tokens": tally.output,
        "ttft_ms": {"p50": ms(tally.ttft.quantile(0.5)), "p95": ms(tally.ttft.quantile(0.95))},
        "tpot_ms": {"p50": ms(tally.tpot.quantile(0.5)), "p95": ms(tally.tpot.quantile(0.95))},
        "total_ms": {"p50": ms(tally.total.quantile(0.5)), "p95": ms(tally.total.quantile(0.95))},
    })
}

#[cfg(test)]
mod tests {
    use pilotage_core::traffic::canary::Step;
    use pilotage_core::traffic::{CanaryPlan, LaneId, Target};
    use pilotage_shell::metrics::Metrics;

    use super::*;

    /// The route's trial of a model with these weights.
    fn set(trials: &Trials, identity: &str) -> f64 {
        set_within(trials, identity, 1.0)
    }

    /// The same, where its replicas can bear that part of the requests.
    fn set_within(trials: &Trials, identity: &str, share_max: f64) -> f64 {
        let mut route = RouteConfig::to_lane(&["public"], 0);
        route.traffic.targets.push(Target::canary(LaneId(1)));
        let step = Step { percent: 10.0, duration_min: Span::ZERO, samples_min: 1 };
        let steps = vec![step, Step { percent: 50.0, ..step }];
        route.traffic.canary = Some(CanaryPlan { steps, ..CanaryPlan::default() });
        route.canary_share_max = share_max;
        let identity = identity.to_owned();
        let lanes = [
            LaneConfig::named("stable", 1000),
            LaneConfig { identity, ..LaneConfig::named("next", 1000) },
        ];
        trials.set(&[route.clone()], &lanes);
        trials.share(&route.traffic.name)
    }

    #[test]
    fn another_revision_of_the_model_is_another_trial() {
        let metrics = GatewayMetrics::new(&Metrics::new());
        let trials = Trials::new(Clock::start(), 1, metrics);
        assert_eq!(set(&trials, "sha256:1"), 0.1);
        let route = RouteConfig::to_lane(&["public"], 0).traffic.name;
        let place = |role| Place { route: route.clone(), role };
        for _ in 0..1000 {
            trials.ended(&place(Role::Stable), "stable", &Sample::default());
            let failed = Sample { failed: true, ..Sample::default() };
            trials.ended(&place(Role::Canary), "next", &failed);
        }
        assert_eq!(trials.share(&route), 0.0, "{}", trials.status());
        let judged = trials.judged();
        assert_eq!((judged[0].lane.as_str(), judged[0].percent), ("next", 0.0));
        assert_eq!(judged[0].judgement.verdict, Verdict::Rollback);
        assert_eq!(set(&trials, "sha256:1"), 0.0, "the same weights stay rolled back");
        assert_eq!(set(&trials, "sha256:2"), 0.1);
        // So it is after a restart.
        let kept = trials.snapshot();
        assert!(kept.to_string().contains("next@next#sha256:2"), "{kept}");
        let after = Trials::new(Clock::start(), 1, GatewayMetrics::new(&Metrics::new()));
        set(&after, "sha256:3");
        after.restore(&kept);
        assert!(after.snapshot().to_string().contains("next@next#sha256:3"));
    }

    #[test]
    fn after_a_restart_a_canary_gets_no_more_than_its_replicas_bear() {
        let begin = || Trials::new(Clock::start(), 1, GatewayMetrics::new(&Metrics::new()));
        let before = begin();
        assert_eq!(set(&before, "sha256:1"), 0.1);
        let route = RouteConfig::to_lane(&["public"], 0).traffic.name;
        let after = begin();
        assert_eq!(set_within(&after, "sha256:1", 0.0), 0.0, "none of its replicas is up");
        after.restore(&before.snapshot());
        assert_eq!(after.share(&route), 0.0);
        assert_eq!(set_within(&after, "sha256:1", 1.0), 0.1, "they are");
    }
}
