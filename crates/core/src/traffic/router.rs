//! The table of all routes: from a public name and what is known of a request to the model that
//! answers it.
//!
//! Rules come first, in order, then the default targets, then fallbacks. Among the targets of one
//! stage only those count that fit the request, and, as long as there is one, that are open; the canary
//! takes its share first, and the rest is split by weight with draws that repeat for the same key.

mod explain;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use thiserror::Error;

use super::dice;
use super::fit::{Misfit, Needs};
use super::mirror::{self, Shadow};
use super::name::{ANY, Name};
use super::spec::{Experiment, LaneId, Model, Role, Route, Sticky, Target};
use crate::{Band, RequestId, TenantId};
pub use explain::{Explained, Offer};

/// What is known of a request when its model is chosen.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its id; draws that are not sticky follow from it.
    pub request: RequestId,
    /// What it needs of a model.
    pub needs: Needs,
    /// Prompt tokens, by estimate.
    pub prompt_tokens: u64,
    /// Its tenant, and those above, nearest first.
    pub tenants: &'a [TenantId],
    /// A hash of the user whom the request names, see [`super::key`].
    pub user: Option<u64>,
    /// How urgent it is.
    pub band: Band,
    /// Its headers; those that [`Router::headers`] names are enough.
    pub headers: &'a [(&'a str, &'a str)],
}

/// What changes with time.
pub trait Live {
    /// Whether a lane has a replica that takes work. One that has none is chosen only when no other
    /// fits.
    fn is_open(&self, lane: LaneId) -> bool;

    /// The part of a route's requests that its canary gets now, 0 to 1.
    fn canary_share(&self, route: &Name) -> f64;
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The model's lane.
    pub lane: LaneId,
    /// Whether it is on trial: then the request's end is a sample for the canary, else for its
    /// baseline.
    pub role: Role,
    /// Where it may go when it is refused there, in order; all fit.
    pub fallbacks: Vec<LaneId>,
    /// The copy to send, if any.
    pub mirror: Option<Shadow>,
    /// Why there.
    pub why: Why,
}

/// Why a model was chosen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Why {
    /// The route.
    pub route: Name,
    /// The rule that decided, if one did.
    pub rule: Option<Name>,
    /// The model.
    pub model: Name,
    /// How it came out.
    #[serde(flatten)]
    pub by: By,
}

/// How a model came out of several.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub enum By {
    /// No other was open and fits.
    Only,
    /// Drawn by weight for this request.
    Weight {
        /// Its weight.
        weight: u32,
        /// All weights.
        of: u32,
    },
    /// Its tenant or user stays with it in an experiment.
    Arm {
        /// The experiment.
        experiment: Name,
        /// Its weight.
        weight: u32,
        /// All weights.
        of: u32,
    },
    /// It is on trial and this request is in its share.
    Canary {
        /// Its share of the requests, in percent.
        percent: f64,
    },
    /// No target fits, and this is the first fallback that does.
    Fallback,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "route `{}`", self.route)?;
        if let Some(rule) = &self.rule {
            write!(f, "; rule `{rule}`")?;
        }
        let percent = |weight: u32, of: u32| f64::from(weight) * 100.0 / f64::from(of.max(1));
        match &self.by {
            By::Only => write!(f, "; model `{}`, the only one that fits", self.model),
            By::Weight { weight, of } => {
                write!(f, "; model `{}`, {} % by weight", self.model, Short(percent(*weight, *of)))
            }
            By::Arm { experiment, weight, of } => {
                let percent = Short(percent(*weight, *of));
                write!(f, "; experiment `{experiment}`, arm `{}`, {percent} %", self.model)
            }
            By::Canary { percent } => {
                write!(f, "; canary `{}`, {} %", self.model, Short(*percent))
            }
            By::Fallback => write!(f, "; fallback `{}`, as no target fits", self.model),
        }
    }
}

/// A number with at most two digits behind the point, and none that are zero.
struct Short(f64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.2}", self.0);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// Why a request has no model.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum NoRoute {
    /// No route has that name.
    #[error("there is no model of that name")]
    UnknownModel,
    /// Each model of the route lacks something.
    #[error("no model of the route fits the request: {}", list(.0))]
    NothingFits(
        /// What each lacks.
        Vec<Misfit>,
    ),
}

fn list(misfits: &[Misfit]) -> String {
    misfits.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Why a table of routes cannot be made.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum TableError {
    /// Two routes have the same public name.
    #[error("routes `{first}` and `{second}` both have the public name `{name}`; rename one")]
    NameTwice {
        /// The name.
        name: Name,
        /// The route that has it.
        first: Name,
        /// The route that wants it too.
        second: Name,
    },
    /// A route sends requests to a lane of which nothing is known.
    #[error("route `{route}` sends requests to a model that is not there; define it")]
    UnknownLane {
        /// The route.
        route: Name,
        /// The lane.
        lane: LaneId,
    },
    /// A route has no stable target with a weight.
    #[error("route `{route}` needs a target that is no canary and has a weight above zero")]
    NoTarget {
        /// The route.
        route: Name,
    },
}

/// All routes and models.
#[derive(Clone, Debug, Default)]
pub struct Router {
    models: BTreeMap<LaneId, Model>,
    routes: Vec<Route>,
    /// Public names, and whose they are.
    names: BTreeMap<Name, usize>,
    headers: Vec<String>,
}

impl Router {
    /// The table of these routes.
    pub fn new(models: Vec<Model>, routes: Vec<Route>) -> Result<Self, TableError> {
        let models: BTreeMap<LaneId, Model> =
            models.into_iter().map(|model| (model.lane, model)).collect();
        let mut names = BTreeMap::new();
        let mut headers = Vec::new();
        for (at, route) in routes.iter().enumerate() {
            check(route, &models)?;
            for name in &route.models {
                if let Some(first) = names.insert(name.clone(), at).filter(|first| *first != at) {
                    let first = routes.get(first).map(|first| first.name.clone());
                    let (name, second) = (name.clone(), route.name.clone());
                    return Err(TableError::NameTwice {
                        name,
                        first: first.unwrap_or_default(),
                        second,
                    });
                }
            }
            let looked = route.rules.iter().flat_map(|rule| &rule.when.headers);
            headers.extend(looked.map(|header| header.name.to_ascii_lowercase()));
        }
        headers.sort();
        headers.dedup();
        Ok(Self { models, routes, names, headers })
    }

    /// The headers that rules look at, in small letters.
    pub fn headers(&self) -> &[String] {
        &self.headers
    }

    /// Every route.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The route of a public name, or else the one of [`ANY`] name.
    pub fn route(&self, public: &str) -> Option<&Route> {
        let at = self.names.get(public).or_else(|| self.names.get(ANY))?;
        self.routes.get(*at)
    }

    /// Where a request goes.
    pub fn choose(
        &self,
        public: &str,
        asked: &Asked<'_>,
        live: &dyn Live,
    ) -> Result<Choice, NoRoute> {
        let route = self.route(public).ok_or(NoRoute::UnknownModel)?;
        let stages = route.rules.iter().filter(|rule| rule.when.holds(asked));
        let stages = stages.map(|rule| (Some(&rule.name), rule.targets.as_slice()));
        for (rule, targets) in stages.chain([(None, route.targets.as_slice())]) {
            if let Some((target, by)) = self.draw(route, targets, asked, live) {
                return Ok(self.choice(route, rule, (target.lane, target.role), by, asked));
            }
        }
        let fallback = self.fallbacks(route, asked).next();
        let lane = fallback.ok_or_else(|| self.nothing_fits(route, asked))?;
        Ok(self.choice(route, None, (lane, Role::Stable), By::Fallback, asked))
    }

    fn choice(
        &self,
        route: &Route,
        rule: Option<&Name>,
        (lane, role): (LaneId, Role),
        by: By,
        asked: &Asked<'_>,
    ) -> Choice {
        let model = self.models.get(&lane).map(|model| model.name.clone()).unwrap_or_default();
        // What is on trial does not take its requests down with it: the others answer them.
        let stable = route.targets.iter().filter(|target| {
            role == Role::Canary && target.role == Role::Stable && target.weight > 0
        });
        let stable = stable.map(|target| target.lane).filter(|lane| self.fits(*lane, asked));
        let others = stable.chain(self.fallbacks(route, asked));
        Choice {
            lane,
            role,
            fallbacks: others.filter(|other| *other != lane).collect(),
            mirror: route.mirror.filter(|mirror| self.fits(mirror.lane, asked)).and_then(
                |mirror| {
                    mirror::copy(&mirror, &route.name, asked.request)
                        .filter(|copy| copy.lane != lane)
                },
            ),
            why: Why { route: route.name.clone(), rule: rule.cloned(), model, by },
        }
    }

    fn fits(&self, lane: LaneId, asked: &Asked<'_>) -> bool {
        let model = self.models.get(&lane);
        model.is_some_and(|model| model.capabilities.lack(&asked.needs).is_none())
    }

    fn fallbacks(&self, route: &Route, asked: &Asked<'_>) -> impl Iterator<Item = LaneId> {
        route.fallbacks.iter().copied().filter(|lane| self.fits(*lane, asked))
    }

    /// One of these targets, if any fits.
    fn draw<'a>(
        &self,
        route: &Route,
        targets: &'a [Target],
        asked: &Asked<'_>,
        live: &dyn Live,
    ) -> Option<(&'a Target, By)> {
        let mut fitting: Vec<&Target> =
            targets.iter().filter(|target| self.fits(target.lane, asked)).collect();
        if fitting.iter().any(|target| target.weight > 0 && live.is_open(target.lane)) {
            fitting.retain(|target| live.is_open(target.lane));
        }
        let drawn = canary(route, &fitting, asked, live);
        drawn.or_else(|| split(route, &fitting, asked))
    }

    /// The models that a request may be led to, one perhaps several times: those of rules that hold,
    /// the targets, the fallbacks.
    fn offered(&self, route: &Route, asked: &Asked<'_>) -> impl Iterator<Item = &Model> {
        let rules = route.rules.iter().filter(|rule| rule.when.holds(asked));
        let targets = rules.flat_map(|rule| &rule.targets).chain(&route.targets);
        let lanes = targets.map(|target| target.lane).chain(route.fallbacks.iter().copied());
        lanes.filter_map(|lane| self.models.get(&lane))
    }

    fn nothing_fits(&self, route: &Route, asked: &Asked<'_>) -> NoRoute {
        let mut misfits: Vec<Misfit> = Vec::new();
        for model in self.offered(route, asked) {
            let known = misfits.iter().any(|misfit| misfit.model == model.name);
            if let Some(lack) = model.capabilities.lack(&asked.needs).filter(|_| !known) {
                misfits.push(Misfit { model: model.name.clone(), lack });
            }
        }
        NoRoute::NothingFits(misfits)
    }
}

fn check(route: &Route, models: &BTreeMap<LaneId, Model>) -> Result<(), TableError> {
    let targets = route.rules.iter().flat_map(|rule| &rule.targets).chain(&route.targets);
    let lanes = targets.map(|target| target.lane).chain(route.fallbacks.iter().copied());
    let mut lanes = lanes.chain(route.mirror.map(|mirror| mirror.lane));
    if let Some(lane) = lanes.find(|lane| !models.contains_key(lane)) {
        return Err(TableError::UnknownLane { route: route.name.clone(), lane });
    }
    let stable = |target: &Target| target.role == Role::Stable && target.weight > 0;
    if !route.targets.iter().any(stable) {
        return Err(TableError::NoTarget { route: route.name.clone() });
    }
    Ok(())
}

/// The target on trial, for the requests in its share. Who is in it stays in it while the share grows.
fn canary<'a>(
    route: &Route,
    fitting: &[&'a Target],
    asked: &Asked<'_>,
    live: &dyn Live,
) -> Option<(&'a Target, By)> {
    // It takes the place of others: where none of them fits, neither does it stand in for them.
    fitting.iter().find(|target| target.role == Role::Stable && target.weight > 0)?;
    let target = fitting.iter().find(|target| target.role == Role::Canary)?;
    let share = live.canary_share(&route.name);
    let salt = dice::key(route.name.as_str());
    let draw = dice::unit(dice::join(dice::join(salt, CANARY_SALT), sticky_key(route, asked)));
    (draw < share).then_some((*target, By::Canary { percent: share * 100.0 }))
}

/// Keeps the canary's draw apart from the split's.
const CANARY_SALT: u64 = 0xca;

fn split<'a>(route: &Route, fitting: &[&'a Target], asked: &Asked<'_>) -> Option<(&'a Target, By)> {
    let stable: Vec<&Target> = fitting
        .iter()
        .copied()
        .filter(|target| target.role == Role::Stable && target.weight > 0)
        .collect();
    let salt = match &route.experiment {
        Some(Experiment { name, salt, .. }) => {
            dice::join(dice::key(name.as_str()), dice::key(salt.as_str()))
        }
        None => dice::key(route.name.as_str()),
    };
    let key = dice::join(salt, sticky_key(route, asked));
    let weighted = stable.iter().map(|one| (u64::from(one.lane.0), f64::from(one.weight)));
    let lane = dice::pick(key, weighted)?;
    let target = stable.iter().find(|target| u64::from(target.lane.0) == lane)?;
    let of = stable.iter().fold(0_u32, |sum, target| sum.saturating_add(target.weight));
    let weight = target.weight;
    let by = match &route.experiment {
        _ if stable.len() == 1 => By::Only,
        Some(experiment) => By::Arm { experiment: experiment.name.clone(), weight, of },
        None => By::Weight { weight, of },
    };
    Some((target, by))
}

/// What a request is drawn by.
fn sticky_key(route: &Route, asked: &Asked<'_>) -> u64 {
    let tenant = asked.tenants.first().map(|tenant| dice::mix(u64::from(tenant.0)));
    let request = || dice::mix(asked.request.0);
    match route.experiment.as_ref().map(|experiment| experiment.by) {
        None | Some(Sticky::Request) => request(),
        Some(Sticky::Tenant) => tenant.unwrap_or_else(request),
        // One user's name may be in use with several tenants.
        Some(Sticky::User) => {
            let user = asked.user.map(|user| dice::join(tenant.unwrap_or(0), user));
            user.or(tenant).unwrap_or_else(request)
        }
    }
}

#[cfg(test)]
mod tests;
