//! Finds what no schema can say about a `Route`: Models and regions that are not there, shares that
//! leave nothing, rollouts that contradict themselves, and two Routes that want different queues of
//! one Model.

use std::collections::BTreeSet;

use super::error::nearest;
use super::link::{error, split};
use super::{ManifestError, Problem};
use crate::api::rollout::shrinking;
use crate::api::{Kind, Model, Policy, Resource, ResourceName, Route, Rule, Target, When};
use crate::lane::{deciding, regions, spill};

/// Adds everything about routes that does not fit together, or what they lead to.
pub(super) fn check(resources: &[Resource], errors: &mut Vec<ManifestError>) {
    let (models, routes) = split(resources);
    let known = Known::of(resources, &models);
    for route in &routes {
        let mut one = One { route, models: &models, known: &known, errors };
        one.names();
        one.adapter();
        one.targets("targets", &route.spec.targets);
        one.fallbacks();
        one.rules();
        one.experiment();
        one.canary();
        one.mirror();
        one.regions();
    }
    for model in &models {
        lanes(model, &routes, errors);
    }
}

/// The names that a Route may refer to.
struct Known {
    models: Vec<String>,
    tenants: Vec<String>,
    regions: Vec<String>,
}

impl Known {
    fn of(resources: &[Resource], models: &[&Model]) -> Self {
        let tenants = resources.iter().filter(|resource| resource.kind() == Kind::Tenant);
        let mut tenants: Vec<String> = tenants.map(|tenant| tenant.name().to_owned()).collect();
        if tenants.is_empty() {
            tenants.push(IMPLIED_TENANT.to_owned());
        }
        let regions = models.iter().flat_map(|model| {
            let elsewhere = model.spec.endpoints.iter().map(|endpoint| &endpoint.region);
            elsewhere.chain(std::iter::once(&model.spec.region)).flatten()
        });
        let regions: BTreeSet<String> = regions.map(ToString::to_string).collect();
        Self {
            models: models.iter().map(|model| model.name().to_owned()).collect(),
            tenants,
            regions: regions.into_iter().collect(),
        }
    }
}

/// Who everybody is where no Tenant is defined.
const IMPLIED_TENANT: &str = "local";

/// One Route, and where its mistakes go.
struct One<'a> {
    route: &'a Route,
    models: &'a [&'a Model],
    known: &'a Known,
    errors: &'a mut Vec<ManifestError>,
}

impl One<'_> {
    fn report(&mut self, field: &str, text: impl Into<String>) {
        let field = format!("spec.{field}");
        self.errors.push(error(&self.route.origin, &field, Problem::Value(text.into())));
    }

    /// Whatever names a Model names one that there is.
    fn names(&mut self) {
        let spec = &self.route.spec;
        let targets = spec.targets.iter().enumerate();
        let targets =
            targets.map(|(index, target)| (format!("spec.targets[{index}].model"), &target.model));
        for (field, name) in targets.chain(spec.others()) {
            self.refer(&field, Kind::Model, name);
        }
    }

    fn refer(&mut self, field: &str, kind: Kind, name: &ResourceName) {
        let known = if kind == Kind::Model { &self.known.models } else { &self.known.tenants };
        if known.iter().any(|known| known == name.as_str()) {
            return;
        }
        let problem = Problem::Dangling {
            kind,
            name: name.to_string(),
            suggestion: nearest(name.as_str(), known),
            known: known.clone(),
        };
        self.errors.push(error(&self.route.origin, field, problem));
    }

    fn targets(&mut self, list: &str, targets: &[Target]) {
        for (index, target) in targets.iter().enumerate() {
            if targets[..index].iter().any(|other| other.model == target.model) {
                let text = "this target is listed already; write it once, with the sum of weights";
                self.report(&format!("{list}[{index}].model"), text);
            }
        }
        if !targets.is_empty() && targets.iter().all(|target| target.weight == 0) {
            self.report(list, "with weights of 0 nothing goes anywhere; give one of them more");
        }
    }

    fn adapter(&mut self) {
        let spec = &self.route.spec;
        let Some(adapter) = &spec.adapter else { return };
        let mirror = spec.mirror.as_ref().map(|mirror| &mirror.model);
        let others = spec.others().into_iter().map(|(_, model)| model);
        let all: BTreeSet<&ResourceName> =
            spec.targets.iter().map(|target| &target.model).chain(others).collect();
        for name in all.into_iter().filter(|name| Some(*name) != mirror) {
            let model = self.models.iter().find(|model| model.metadata.name == *name);
            if model.is_some_and(|model| !model.spec.adapter_names().contains(&adapter.as_str())) {
                let text = format!(
                    "the Model `{name}` has no such adapter; add it to its spec.adapters, or where it runs here to spec.adapterSources"
                );
                self.report("adapter", text);
            }
        }
    }

    fn is_target(&self, model: &ResourceName) -> bool {
        self.route.spec.targets.iter().any(|target| target.model == *model)
    }

    fn fallbacks(&mut self) {
        let route = self.route;
        let fallbacks = &route.spec.fallbacks;
        for (index, model) in fallbacks.iter().enumerate() {
            let field = format!("fallbacks[{index}]");
            if fallbacks[..index].contains(model) {
                self.report(&field, "this Model is listed already; remove one of the two");
            } else if route.spec.targets.len() == 1 && self.is_target(model) {
                self.report(&field, "this is what requests come from; name another Model");
            }
        }
    }

    fn rules(&mut self) {
        let route = self.route;
        let rules = &route.spec.rules;
        for (index, rule) in rules.iter().enumerate() {
            if rules[..index].iter().any(|earlier| earlier.name == rule.name) {
                let text = "another rule has this name already; rename one of the two";
                self.report(&format!("rules[{index}].name"), text);
            }
            self.rule(&format!("rules[{index}]"), rule);
        }
    }

    fn rule(&mut self, at: &str, rule: &Rule) {
        if rule.targets.is_empty() == rule.model.is_none() {
            self.report(at, "a rule leads to `targets` or to one `model`; write one of the two");
        }
        self.targets(&format!("{at}.targets"), &rule.targets);
        let when = &rule.when;
        if when.is_empty() {
            let text = "the rule fits every request; write what these are like, or remove it and \
                        change `targets`";
            self.report(&format!("{at}.when"), text);
        }
        self.conditions(at, when);
        if let Some(tenant) = &when.tenant {
            self.refer(&format!("spec.{at}.when.tenant"), Kind::Tenant, tenant);
        }
    }

    fn conditions(&mut self, at: &str, when: &When) {
        for (need, _) in when.needs().into_iter().filter(|(_, said)| *said == Some(false)) {
            let text = "a rule asks for what a request needs; leave this out, and put a rule with \
                        `true` before this one";
            self.report(&format!("{at}.when.{need}"), text);
        }
        let ranges = [
            ("promptTokens", when.prompt_tokens_min, when.prompt_tokens_max),
            ("contextTokens", when.context_tokens_min, when.context_tokens_max),
        ];
        for (what, min, max) in ranges {
            if min.zip(max).is_some_and(|(min, max)| min > max) {
                let text =
                    format!("nothing is that long and that short; write at most `{what}Max`");
                self.report(&format!("{at}.when.{what}Min"), text);
            }
        }
        if let Some(header) = &when.header
            && header.value.is_some()
            && header.prefix.is_some()
        {
            let text =
                "the header's value is known whole or by its beginning; remove one of the two";
            self.report(&format!("{at}.when.header.prefix"), text);
        }
    }

    fn experiment(&mut self) {
        let spec = &self.route.spec;
        if spec.experiment.is_none() {
            return;
        }
        if spec.targets.iter().filter(|target| target.weight > 0).count() < 2 {
            self.report("experiment", "it compares targets; give at least two of them a weight");
        }
        if spec.canary.is_some() {
            let text = "a canary changes the shares that an experiment compares; remove one of the \
                        two";
            self.report("canary", text);
        }
    }

    fn canary(&mut self) {
        let route = self.route;
        let Some(canary) = &route.spec.canary else { return };
        if self.is_target(&canary.model) {
            let text = "it takes from the targets, so it is none of them; remove it there";
            self.report("canary.model", text);
        }
        for (index, before) in shrinking(&canary.steps) {
            let text = format!("a canary grows from step to step; write more than {before}");
            self.report(&format!("canary.steps[{index}].weight"), text);
        }
    }

    fn mirror(&mut self) {
        let route = self.route;
        let Some(mirror) = &route.spec.mirror else { return };
        if self.is_target(&mirror.model) {
            self.report("mirror.model", "requests go there anyway; name another Model");
        }
    }

    fn regions(&mut self) {
        let route = self.route;
        let regions = &route.spec.regions;
        for (index, region) in regions.iter().enumerate() {
            let field = format!("regions[{index}].name");
            let name = region.name.as_str();
            if regions[..index].iter().any(|earlier| earlier.name == region.name) {
                self.report(&field, "this region is listed already; remove one of the two");
            } else if !self.known.regions.iter().any(|known| known == name) {
                let known = self.known.regions.clone();
                let problem = Problem::choice(name, format!("the region `{name}`"), known);
                self.errors.push(error(&route.origin, &format!("spec.{field}"), problem));
            }
        }
        if route.spec.spill_after_seconds.is_some() && regions.len() < 2 {
            let text = "there is no other region to go to; list at least two `regions`";
            self.report("spillAfterSeconds", text);
        }
    }
}

/// A Model has one queue, so that whatever Routes say of it must be the same.
fn lanes(model: &Model, routes: &[&Route], errors: &mut Vec<ManifestError>) {
    let said = deciding(&model.metadata.name, routes, |route| route.spec.queue.as_ref());
    differ(model, "queue", &said, errors);
    let said = deciding(&model.metadata.name, routes, |route| route.spec.scheduling.as_ref());
    differ(model, "scheduling", &said, errors);
    let said = deciding(&model.metadata.name, routes, |route| route.spec.policy.as_ref());
    differ(model, "policy", &said, errors);
    let policy = said.first().map(|(_, policy)| **policy).unwrap_or_default();
    let said = deciding(&model.metadata.name, routes, spill);
    differ(model, "spillAfterSeconds", &said, errors);
    let said = deciding(&model.metadata.name, routes, regions);
    differ(model, "regions", &said, errors);
    if let Some((route, _)) = said.first().filter(|_| policy != Policy::Cost) {
        let text = format!(
            "only the policy `cost` weighs distance, and the Model `{}` has another; choose that, or \
             leave out `regions`",
            model.name()
        );
        errors.push(error(&route.origin, "spec.regions", Problem::Value(text)));
    }
}

fn differ<T: PartialEq>(
    model: &Model,
    field: &'static str,
    said: &[(&Route, &T)],
    errors: &mut Vec<ManifestError>,
) {
    let Some(((first, value), others)) = said.split_first() else { return };
    let field = format!("spec.{field}");
    for (route, _) in others.iter().filter(|(_, other)| other != value) {
        let place = match first.origin.line_of(&field) {
            0 => String::new(),
            line => format!(" ({}:{line})", first.origin.file),
        };
        let problem = Problem::LaneTaken {
            model: model.name().to_owned(),
            field: field.clone(),
            first: format!("`{}`{place}", first.name()),
        };
        errors.push(error(&route.origin, &field, problem));
    }
}
