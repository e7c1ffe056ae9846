//! Routes as the gateway follows them: public names, and a choice among lanes that leaves nothing
//! open.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::api::{
    self, Cache, Canary, Experiment, Hedge, Merge, Mirror, Model, ResourceName, Retries, Rule,
    Target, Timeouts,
};

/// Public names and where their requests go. Lanes are named by their Models.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Route {
    /// Its name.
    pub name: String,
    /// Names that clients may write as `model`.
    pub public_names: Vec<String>,
    /// Adapters that clients may add to such a name, after a colon.
    pub adapters: Vec<String>,
    /// The adapter that requests ask for when they name none.
    pub adapter: Option<String>,
    /// Lanes that requests are divided among by weight.
    pub targets: Vec<Target>,
    /// Lanes that requests go to, in this order, when no target can take them.
    pub fallbacks: Vec<String>,
    /// Requests that go elsewhere, by `targets`; the first one that fits decides.
    pub rules: Vec<Rule>,
    /// A comparison of the targets.
    pub experiment: Option<Experiment>,
    /// A lane that takes over step by step, with its steps written out.
    pub canary: Option<Canary>,
    /// The part of the requests, in percent, that the replicas of the canary can bear: it gets no more.
    pub canary_percent_max: u32,
    /// A lane that gets copies.
    pub mirror: Option<Mirror>,
    /// Requests that share one answer.
    pub merge: Merge,
    /// Answers that are kept.
    pub cache: Cache,
    /// Second attempts beside slow ones.
    pub hedge: Hedge,
    /// When to stop waiting.
    pub timeouts: Timeouts,
    /// How often to try again.
    pub retries: Retries,
}

/// A Route as written, made complete.
pub(crate) fn route(written: &api::Route, models: &[&Model]) -> Route {
    let spec = &written.spec;
    Route {
        name: written.name().to_owned(),
        public_names: public_names(written),
        adapters: adapters(written, models),
        adapter: spec.adapter.as_ref().map(ToString::to_string),
        targets: spec.targets.clone(),
        fallbacks: spec.fallbacks.iter().map(ToString::to_string).collect(),
        rules: spec.rules.iter().map(complete_rule).collect(),
        experiment: spec.experiment.clone(),
        canary: spec.canary.as_ref().map(complete_canary),
        canary_percent_max: 100,
        mirror: spec.mirror.clone(),
        merge: spec.merge,
        cache: spec.cache,
        hedge: spec.hedge,
        timeouts: spec.timeouts,
        retries: spec.retries,
    }
}

/// Models that no Route names, which are served under their own names. Pools are served where a route leads
/// there alone.
pub(crate) fn implied_routes<'a>(models: &[&'a Model], routes: &[&api::Route]) -> Vec<&'a Model> {
    let mut named: BTreeSet<&ResourceName> = BTreeSet::new();
    for route in routes {
        named.extend(route.spec.targets.iter().map(|target| &target.model));
        named.extend(route.spec.others().into_iter().map(|(_, model)| model));
    }
    let is_implied =
        |model: &&Model| !model.spec.is_pool() && !named.contains(&model.metadata.name);
    models.iter().copied().filter(is_implied).collect()
}

/// The names that clients may write for a Route.
pub(crate) fn public_names(route: &api::Route) -> Vec<String> {
    if route.spec.models.is_empty() {
        return vec![route.name().to_owned()];
    }
    route.spec.models.iter().map(ToString::to_string).collect()
}

/// Adapters that every target has loaded, so that it does not matter which one a request meets.
pub(crate) fn adapters(route: &api::Route, models: &[&Model]) -> Vec<String> {
    let of = |target: &Target| -> BTreeSet<&str> {
        let model = models.iter().find(|model| model.metadata.name == target.model);
        let adapters = model.map(|model| model.spec.adapter_names()).unwrap_or_default();
        adapters.into_iter().collect()
    };
    let all = route.spec.targets.iter().map(of).reduce(|one, other| &one & &other);
    all.unwrap_or_default().into_iter().map(str::to_owned).collect()
}

fn complete_rule(rule: &Rule) -> Rule {
    Rule { targets: rule.targets(), model: None, ..rule.clone() }
}

fn complete_canary(canary: &Canary) -> Canary {
    Canary { steps: canary.steps(), ..canary.clone() }
}
