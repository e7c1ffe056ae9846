//! What is known of a cluster at a moment.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pilotage_plan::Kind;
use pilotage_plan::api::status::UpdateStatus;
use pilotage_plan::cluster::Seen;
use pilotage_plan::gateway_api;
use pilotage_plan::pods::{Pod, Slice, pods};
use pilotage_shell::secret::Secret;
use serde::Deserialize as _;
use serde_json::Value;

use crate::follow::{News, Place};
use crate::{Part, Source};

/// Most keys that are read: more Models than a cluster has.
const KEYS_MAX: usize = 10_000;

/// What an operator says of a Model that gateways go by.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ModelState {
    /// Which version serves, and which one is on trial.
    pub update: Option<UpdateStatus>,
    /// Pods that sleep, and are to get nothing.
    pub asleep: Vec<String>,
}

impl ModelState {
    fn read(object: &Value) -> Self {
        let status = &object["status"];
        let asleep = status["scaling"]["asleep"].as_array().into_iter().flatten();
        Self {
            update: UpdateStatus::deserialize(&status["update"]).ok(),
            asleep: asleep.filter_map(|pod| Some(pod.as_str()?.to_owned())).collect(),
        }
    }
}

/// What is known.
#[derive(Debug, Default)]
pub struct Known {
    pub(crate) sources: Vec<Source>,
    resources: BTreeMap<(Kind, Place), Seen>,
    /// What operators say of Models that gateways go by.
    states: BTreeMap<Place, ModelState>,
    /// HTTPRoutes that lead to Models, as the Routes that they are.
    http_routes: BTreeMap<Place, Seen>,
    /// Slices by the Service that they are of, which has few.
    engines: BTreeMap<Place, BTreeMap<Place, Slice>>,
    /// Which Service a slice is of.
    services: BTreeMap<Place, Place>,
    gateways: BTreeMap<Place, Slice>,
    keys: BTreeMap<String, Secret>,
    revision: u64,
}

impl Known {
    /// Whether all there is was seen once.
    pub fn is_known(&self) -> bool {
        !self.sources.is_empty() && self.sources.iter().all(|source| source.is_known)
    }

    /// How well each kind is known.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// Counts changes of resources.
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// The resources, whether they count or not.
    pub fn resources(&self) -> impl Iterator<Item = &Seen> {
        self.resources.values().chain(self.http_routes.values())
    }

    /// What an operator says of a Model.
    pub fn state(&self, namespace: &str, name: &str) -> Option<&ModelState> {
        self.states.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// The pods of a Service.
    pub fn pods(&self, namespace: &str, service: &str) -> Vec<Pod> {
        let place = (namespace.to_owned(), service.to_owned());
        self.engines.get(&place).map(|slices| pods(slices.values())).unwrap_or_default()
    }

    /// The pods that are gateways.
    pub fn gateways(&self) -> Vec<Pod> {
        pods(self.gateways.values())
    }

    /// Keys between gateway and engines, by the entry of their Model.
    pub const fn keys(&self) -> &BTreeMap<String, Secret> {
        &self.keys
    }

    /// Takes news in; whether anything is other than it was.
    pub(crate) fn take(&mut self, source: usize, part: Part, news: News, now_nanos: u64) -> bool {
        let was_known = self.is_known();
        let Some(of) = self.sources.get_mut(source) else { return false };
        match &news {
            News::Lost(error) => {
                of.error = Some(error.clone());
                return false;
            }
            News::Heard => {}
            News::All(_) | News::Absent(_) => of.is_known = true,
            News::Set(..) | News::Gone(_) => {}
        }
        of.heard_nanos = now_nanos;
        of.error = match &news {
            News::Absent(why) => Some(why.clone()),
            _ => None,
        };
        let changed = match part {
            Part::Resources(kind) => self.take_resources(kind, news),
            Part::HttpRoutes => self.take_http_routes(news),
            Part::Engines => self.take_engines(news),
            Part::Gateways => take_slices(&mut self.gateways, news),
            Part::Keys => self.take_keys(news),
        };
        let objects = self.count(part);
        if let Some(of) = self.sources.get_mut(source) {
            of.objects = objects;
        }
        changed || was_known != self.is_known()
    }

    fn count(&self, part: Part) -> usize {
        match part {
            Part::Resources(kind) => self.resources.keys().filter(|(of, _)| *of == kind).count(),
            Part::HttpRoutes => self.http_routes.len(),
            Part::Engines => self.services.len(),
            Part::Gateways => self.gateways.len(),
            Part::Keys => self.keys.len(),
        }
    }

    /// Whether what is said of Models is other than it was.
    fn take_states(&mut self, news: &News) -> bool {
        match news {
            News::All(all) => {
                let read =
                    |(place, object): &(Place, Value)| (place.clone(), ModelState::read(object));
                let states: BTreeMap<_, _> = all.iter().map(read).collect();
                let changed = states != self.states;
                self.states = states;
                changed
            }
            News::Set(place, object) => {
                let state = ModelState::read(object);
                self.states.insert(place.clone(), state.clone()) != Some(state)
            }
            News::Gone(place) => self.states.remove(place).is_some(),
            News::Absent(_) | News::Heard | News::Lost(_) => false,
        }
    }

    fn take_resources(&mut self, kind: Kind, news: News) -> bool {
        let turned = kind == Kind::Model && self.take_states(&news);
        let read = |object: &Value| Seen::read(kind, object);
        let changed = match news {
            News::All(all) => {
                let of = |(place, object): (Place, Value)| ((kind, place), read(&object));
                let all: BTreeMap<_, _> = all.into_iter().map(of).collect();
                let before = self.resources.len();
                self.resources.retain(|key, _| key.0 != kind || all.contains_key(key));
                let mut changed = self.resources.len() != before;
                for (key, seen) in all {
                    changed |= self.set(key, seen);
                }
                changed
            }
            News::Set(place, object) => self.set((kind, place), read(&object)),
            News::Gone(place) => self.resources.remove(&(kind, place)).is_some(),
            News::Absent(_) | News::Heard | News::Lost(_) => false,
        };
        self.revision += u64::from(changed);
        changed || turned
    }

    fn take_http_routes(&mut self, news: News) -> bool {
        let before = self.http_routes.clone();
        match news {
            News::All(all) => {
                let read = |(place, object): (Place, Value)| {
                    Some((place, gateway_api::http_route(&object)?))
                };
                self.http_routes = all.into_iter().filter_map(read).collect();
            }
            News::Set(place, object) => {
                match gateway_api::http_route(&object) {
                    Some(seen) => self.http_routes.insert(place, seen),
                    None => self.http_routes.remove(&place),
                };
            }
            News::Gone(place) => drop(self.http_routes.remove(&place)),
            News::Absent(_) | News::Heard | News::Lost(_) => return false,
        }
        let changed = before != self.http_routes;
        self.revision += u64::from(changed);
        changed
    }

    /// A status that is written changes nothing.
    fn set(&mut self, key: (Kind, Place), seen: Seen) -> bool {
        let differs = self.resources.get(&key) != Some(&seen);
        if differs {
            self.resources.insert(key, seen);
        }
        differs
    }

    fn take_engines(&mut self, news: News) -> bool {
        match news {
            News::All(all) => {
                let there: BTreeSet<&Place> = all.iter().map(|(place, _)| place).collect();
                let gone = self.services.keys().filter(|place| !there.contains(place));
                let gone: Vec<Place> = gone.cloned().collect();
                let mut changed = !gone.is_empty();
                gone.iter().for_each(|place| self.drop_slice(place));
                for (place, object) in all {
                    changed |= self.set_slice(place, &object);
                }
                changed
            }
            News::Set(place, object) => self.set_slice(place, &object),
            News::Gone(place) => {
                let there = self.services.contains_key(&place);
                self.drop_slice(&place);
                there
            }
            News::Absent(_) | News::Heard | News::Lost(_) => false,
        }
    }

    fn set_slice(&mut self, place: Place, object: &Value) -> bool {
        let Ok(slice) = Slice::deserialize(object) else { return false };
        let (namespace, name) = slice.service();
        let service = (namespace.to_owned(), name.to_owned());
        let of = self.services.get(&place);
        let same = of == Some(&service)
            && self.engines.get(&service).and_then(|slices| slices.get(&place)) == Some(&slice);
        if same {
            return false;
        }
        self.drop_slice(&place);
        self.services.insert(place.clone(), service.clone());
        self.engines.entry(service).or_default().insert(place, slice);
        true
    }

    fn drop_slice(&mut self, place: &Place) {
        let Some(service) = self.services.remove(place) else { return };
        let Some(slices) = self.engines.get_mut(&service) else { return };
        slices.remove(place);
        if slices.is_empty() {
            self.engines.remove(&service);
        }
    }

    fn take_keys(&mut self, news: News) -> bool {
        let keys = match news {
            News::All(all) => all.first().map(|(_, object)| keys(object)).unwrap_or_default(),
            News::Set(_, object) => keys(&object),
            News::Gone(_) => BTreeMap::new(),
            News::Absent(_) | News::Heard | News::Lost(_) => return false,
        };
        let changed = keys != self.keys;
        self.keys = keys;
        changed
    }
}

fn take_slices(slices: &mut BTreeMap<Place, Slice>, news: News) -> bool {
    let read = |object: &Value| Slice::deserialize(object).ok();
    match news {
        News::All(all) => {
            let of = |(place, object): (Place, Value)| Some((place, read(&object)?));
            let all = all.into_iter().filter_map(of).collect();
            let changed = *slices != all;
            *slices = all;
            changed
        }
        News::Set(place, object) => {
            read(&object).is_some_and(|slice| slices.insert(place, slice.clone()) != Some(slice))
        }
        News::Gone(place) => slices.remove(&place).is_some(),
        News::Absent(_) | News::Heard | News::Lost(_) => false,
    }
}

/// The entries of a Secret that are texts.
fn keys(object: &Value) -> BTreeMap<String, Secret> {
    let data = object["data"].as_object().into_iter().flatten();
    let read = |(entry, value): (&String, &Value)| {
        let bytes = STANDARD.decode(value.as_str()?).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let text = text.trim_end_matches(['\r', '\n']);
        (!text.is_empty()).then(|| (entry.clone(), Secret::new(text.to_owned())))
    };
    data.filter_map(read).take(KEYS_MAX).collect()
}
