//! What a cluster has of the Gateway API, as far as it may be ours, and what follows from it: which routes
//! and pools count among our resources.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::attach::{Parent, parents};
use super::translate::pools;
use super::{
    CLASS, CONTEXT_ANNOTATION, CONTROLLER, DIALECT_ANNOTATION, MODELS_ANNOTATION,
    PARALLEL_ANNOTATION, Place, Pool, http_route, is_ours, pool, translate,
};
use crate::cluster::Seen;

/// Most InferencePools whose pods are looked at.
pub const POOLS_MAX: usize = 256;

/// A kind that is looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// GatewayClasses.
    Classes,
    /// Gateways.
    Gateways,
    /// HTTPRoutes.
    Routes,
    /// InferencePools.
    Pools,
    /// The Service of our gateways.
    Services,
}

/// What a cluster has of the Gateway API.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalogue {
    pub(super) classes: BTreeMap<Place, Value>,
    /// Whether classes can be looked at.
    knows_classes: bool,
    pub(super) gateways: BTreeMap<Place, Value>,
    pub(super) routes: BTreeMap<Place, Value>,
    pub(super) pools: BTreeMap<Place, Value>,
    pub(super) services: BTreeMap<Place, Value>,
}

/// How much of an object is other than it was.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Change {
    /// Nothing.
    Nothing,
    /// What is said of it, and nothing of what it says.
    Told,
    /// What it says.
    Meant,
}

impl Catalogue {
    /// This is all there is of a kind.
    pub fn all(&mut self, part: Part, objects: impl IntoIterator<Item = (Place, Value)>) -> Change {
        let begins = part == Part::Classes && !self.knows_classes;
        self.knows_classes |= part == Part::Classes;
        let objects = objects.into_iter().map(|(place, object)| (place, slim(object)));
        let before = std::mem::replace(self.part(part), objects.collect());
        let now = self.part(part);
        if begins || before.len() != now.len() {
            return Change::Meant;
        }
        let changes = now.iter().map(|(place, object)| change(before.get(place), object));
        changes.max().unwrap_or(Change::Nothing)
    }

    /// There is this one, new or other than it was.
    pub fn set(&mut self, part: Part, place: Place, object: Value) -> Change {
        let object = slim(object);
        let all = self.part(part);
        let change = change(all.get(&place), &object);
        all.insert(place, object);
        change
    }

    /// This one is gone.
    pub fn gone(&mut self, part: Part, place: &Place) -> Change {
        match self.part(part).remove(place) {
            Some(_) => Change::Meant,
            None => Change::Nothing,
        }
    }

    /// The kind is not there, or may not be looked at.
    pub fn absent(&mut self, part: Part) -> Change {
        let before = self.count(part) > 0 || (part == Part::Classes && self.knows_classes);
        if part == Part::Classes {
            self.knows_classes = false;
        }
        self.part(part).clear();
        if before { Change::Meant } else { Change::Nothing }
    }

    /// How many there are of a kind.
    pub fn count(&self, part: Part) -> usize {
        match part {
            Part::Classes => self.classes.len(),
            Part::Gateways => self.gateways.len(),
            Part::Routes => self.routes.len(),
            Part::Pools => self.pools.len(),
            Part::Services => self.services.len(),
        }
    }

    fn part(&mut self, part: Part) -> &mut BTreeMap<Place, Value> {
        match part {
            Part::Classes => &mut self.classes,
            Part::Gateways => &mut self.gateways,
            Part::Routes => &mut self.routes,
            Part::Pools => &mut self.pools,
            Part::Services => &mut self.services,
        }
    }

    /// The routes that lead to us and the pools that they lead to, as the resources that they are.
    pub fn seen(&self) -> Vec<Seen> {
        let routes: Vec<&Value> = self.routes.values().filter(|route| self.counts(route)).collect();
        let pools = self.wanted(&routes).into_iter().map(pool::model);
        routes.iter().filter_map(|route| http_route(route)).chain(pools).collect()
    }

    /// The pools whose pods are replicas, the first [`POOLS_MAX`] of them by name.
    pub fn pools(&self) -> Vec<Pool> {
        let routes: Vec<&Value> = self.routes.values().filter(|route| self.counts(route)).collect();
        let read = |object: &Value| Pool::read(object).ok();
        self.wanted(&routes).into_iter().filter_map(read).take(POOLS_MAX).collect()
    }

    /// The pool at that place, whether a route leads there or not; none where there is none.
    ///
    /// # Errors
    /// It says what cannot be done.
    pub fn pool(&self, place: &Place) -> Option<Result<Pool, super::Verdict>> {
        self.pools.get(place).map(Pool::read)
    }

    /// Whether a route is to be followed: one to Models wherever it is attached, if not to Gateways of ours
    /// that refuse it; one to pools only at a Gateway of ours, since other controllers know pools as well.
    fn counts(&self, route: &Value) -> bool {
        let own = self.parents(route);
        let is_attached = own.iter().any(|parent| parent.listeners.is_ok());
        is_attached || (own.is_empty() && is_ours(route))
    }

    /// Pools that routes lead to which can be followed.
    fn wanted(&self, routes: &[&Value]) -> Vec<&Value> {
        let mut places: BTreeSet<Place> = BTreeSet::new();
        for route in routes.iter().filter(|route| translate(route).is_ok()) {
            let namespace = route["metadata"]["namespace"].as_str().unwrap_or_default();
            let named = pools(route).into_iter();
            places.extend(named.map(|name| (namespace.to_owned(), name.to_owned())));
        }
        places.iter().filter_map(|place| self.pools.get(place)).collect()
    }

    /// The Gateways of ours that a route names, with what they say of it.
    pub(super) fn parents<'a>(&'a self, route: &'a Value) -> Vec<Parent<'a>> {
        parents(route, |place| self.gateways.get(place).filter(|one| self.is_own(one)))
    }

    /// Whether a Gateway is ours by its class.
    pub(super) fn is_own(&self, gateway: &Value) -> bool {
        let name = gateway["spec"]["gatewayClassName"].as_str().unwrap_or_default();
        if !self.knows_classes {
            return name == CLASS;
        }
        let class = self.classes.get(&(String::new(), name.to_owned()));
        class.is_some_and(|class| class["spec"]["controllerName"] == CONTROLLER)
    }
}

/// What differs of an object.
fn change(before: Option<&Value>, now: &Value) -> Change {
    let Some(before) = before else { return Change::Meant };
    let means = |field: &str| before[field] != now[field];
    let of = |field: &str| before["metadata"][field] != now["metadata"][field];
    let is_meant = means("spec") || of("uid") || of("deletionTimestamp") || of("annotations");
    match () {
        () if is_meant => Change::Meant,
        () if before != now => Change::Told,
        () => Change::Nothing,
    }
}

/// An object without what nobody here looks at.
fn slim(mut object: Value) -> Value {
    const KEPT: [&str; 7] = [
        "name",
        "namespace",
        "uid",
        "generation",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
    ];
    const NOTES: [&str; 4] =
        [MODELS_ANNOTATION, DIALECT_ANNOTATION, PARALLEL_ANNOTATION, CONTEXT_ANNOTATION];
    let metadata = object["metadata"].take();
    let of = |from: &Value, names: &[&str]| -> Map<String, Value> {
        let found = names.iter().filter_map(|name| Some((*name, from.get(name)?.clone())));
        found.map(|(name, value)| (name.to_owned(), value)).collect()
    };
    let mut kept = of(&metadata, &KEPT);
    kept.insert("annotations".to_owned(), of(&metadata["annotations"], &NOTES).into());
    let mut slim = of(&object, &["apiVersion", "kind", "spec", "status"]);
    slim.insert("metadata".to_owned(), kept.into());
    Value::Object(slim)
}
