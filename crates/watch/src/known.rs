//! What is known of a cluster at a moment.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pilotage_plan::Kind;
use pilotage_plan::api::status::UpdateStatus;
use pilotage_plan::cluster::{Admission, Seen};
use pilotage_plan::gateway_api::{self, Catalogue, Change, Pool, Write};
use pilotage_plan::pods::{self, Pod, Slice, pods};
use pilotage_shell::secret::Secret;
use serde::Deserialize as _;
use serde_json::Value;

use crate::follow::{News, Place};
use crate::{Part, Purpose, Source};

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

/// The pods of an InferencePool.
#[derive(Debug)]
struct PoolPods {
    /// Which watch of them counts: each has a number of its own.
    watch: u64,
    selector: String,
    source: Source,
    pods: BTreeMap<Place, Pod>,
}

/// What is known.
#[derive(Debug, Default)]
pub struct Known {
    pub(crate) sources: Vec<Source>,
    resources: BTreeMap<(Kind, Place), Seen>,
    /// What operators say of Models that gateways go by.
    states: BTreeMap<Place, ModelState>,
    /// What there is of the Gateway API.
    catalogue: Catalogue,
    /// What of that counts among resources.
    derived: Vec<Seen>,
    purpose: Purpose,
    /// Pools whose pods are looked at.
    pools: Vec<Pool>,
    /// Their pods, one for each of them.
    pool_pods: BTreeMap<Place, PoolPods>,
    /// Watches of pods that there were.
    watches: u64,
    /// Slices by the Service that they are of, which has few.
    engines: BTreeMap<Place, BTreeMap<Place, Slice>>,
    /// Which Service a slice is of.
    services: BTreeMap<Place, Place>,
    gateways: BTreeMap<Place, Slice>,
    keys: BTreeMap<String, Secret>,
    revision: u64,
}

impl Known {
    /// Whether all there is of each kind was seen once. The pods of pools are waited for by nobody but their
    /// own lane: until they are known, it has none.
    pub fn is_known(&self) -> bool {
        !self.sources.is_empty() && self.sources.iter().all(|source| source.is_known)
    }

    /// How well each kind is known.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().chain(self.pool_pods.values().map(|pods| &pods.source))
    }

    /// Counts changes of resources.
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// The resources, whether they count or not.
    pub fn resources(&self) -> impl Iterator<Item = &Seen> {
        self.resources.values().chain(&self.derived)
    }

    /// The pools whose pods are looked at.
    pub fn pools(&self) -> &[Pool] {
        &self.pools
    }

    /// Their places and selectors, each with the number of the watch that counts.
    pub(crate) fn watched_pools(&self) -> Vec<(Place, String, u64)> {
        let all = self.pool_pods.iter();
        all.map(|(place, of)| (place.clone(), of.selector.clone(), of.watch)).collect()
    }

    /// What is wrong with the one InferencePool that is served; none while all is well.
    pub fn pool_trouble(&self) -> Option<String> {
        let place = self.alone()?;
        match self.catalogue.pool(&place) {
            None => Some(format!("there is no InferencePool {}/{}", place.0, place.1)),
            Some(Err(verdict)) => Some(verdict.message),
            Some(Ok(_)) => None,
        }
    }

    /// The pods of an InferencePool.
    pub fn pods_of_pool(&self, namespace: &str, pool: &str) -> Vec<Pod> {
        let place = (namespace.to_owned(), pool.to_owned());
        let pods = self.pool_pods.get(&place).into_iter().flat_map(|pods| pods.pods.values());
        pods.take(pods::PODS_MAX).cloned().collect()
    }

    /// What there is to say in the status of resources of the Gateway API, by what counts. `now` is the
    /// time of day as the API server writes it.
    pub fn verdicts(&self, admission: &Admission, now: &str) -> Vec<Write> {
        self.catalogue.verdicts(admission, now)
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

    /// The pods of a Model that are behind none of those Services: of versions that serve no more, as long as
    /// they run.
    pub fn left(&self, namespace: &str, model: &str, services: &[String]) -> Vec<Pod> {
        let from = (namespace.to_owned(), String::new());
        let here = self.engines.range(from..).take_while(|((space, _), _)| space == namespace);
        let others = here.filter(|((_, service), slices)| {
            !services.contains(service) && slices.values().any(|slice| slice.model() == Some(model))
        });
        others.flat_map(|(_, slices)| pods(slices.values())).collect()
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
            Part::GatewayApi(part) => self.take_catalogue(part, news, now_nanos),
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
            Part::GatewayApi(part) => self.catalogue.count(part),
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

    fn take_catalogue(&mut self, part: gateway_api::Part, news: News, now_nanos: u64) -> bool {
        let change = match news {
            News::All(all) => self.catalogue.all(part, all),
            News::Set(place, object) => self.catalogue.set(part, place, object),
            News::Gone(place) => self.catalogue.gone(part, &place),
            News::Absent(_) => self.catalogue.absent(part),
            News::Heard | News::Lost(_) => Change::Nothing,
        };
        if change == Change::Meant {
            self.derive(now_nanos);
        }
        // What is said of them matters to whoever says it.
        change == Change::Meant || (change == Change::Told && self.purpose == Purpose::Judge)
    }

    /// What follows from the resources of the Gateway API.
    fn derive(&mut self, now_nanos: u64) {
        let (derived, pools) = match self.alone() {
            Some(place) => {
                let pool = self.catalogue.pool(&place).and_then(Result::ok);
                (Vec::new(), pool.into_iter().collect())
            }
            // Who says what becomes of pools asks none of their pods.
            None if self.purpose == Purpose::Judge => (self.catalogue.seen(), Vec::new()),
            None => (self.catalogue.seen(), self.catalogue.pools()),
        };
        self.revision += u64::from(derived != self.derived || pools != self.pools);
        (self.derived, self.pools) = (derived, pools);
        let pools = &self.pools;
        self.pool_pods.retain(|place, _| pools.iter().any(|pool| pool.place == *place));
        for pool in pools {
            let of = self.pool_pods.entry(pool.place.clone()).or_insert_with(|| PoolPods {
                watch: 0,
                selector: String::new(),
                source: Source::of("Pod of an InferencePool", now_nanos),
                pods: BTreeMap::new(),
            });
            // What was selected before counts until the new selector's pods are known.
            if of.selector != pool.selector {
                self.watches += 1;
                (of.watch, of.selector) = (self.watches, pool.selector.clone());
            }
        }
    }

    /// Nothing yet, for that purpose.
    pub(crate) fn for_purpose(purpose: Purpose) -> Self {
        Self { purpose, ..Self::default() }
    }

    /// The InferencePool that is served whatever leads there, where it is one alone.
    fn alone(&self) -> Option<Place> {
        match &self.purpose {
            Purpose::Pool(namespace, name) => Some((namespace.clone(), name.clone())),
            Purpose::Serve | Purpose::Judge => None,
        }
    }

    /// Takes in news of the pods of a pool from the watch of that number; whether anything is other than it
    /// was.
    pub(crate) fn take_pool_pods(
        &mut self,
        (pool, watch): (&Place, u64),
        news: News,
        now_nanos: u64,
    ) -> bool {
        let was_known = self.is_known();
        let of = self.pool_pods.get_mut(pool).filter(|of| of.watch == watch);
        let Some(of) = of else { return false };
        of.source.error = match &news {
            News::Lost(why) | News::Absent(why) => Some(why.clone()),
            _ => None,
        };
        let read = |object: &Value| pods::pod(object);
        let changed = match news {
            News::Lost(_) => return false,
            News::Heard => false,
            News::Absent(_) => {
                of.source.is_known = true;
                false
            }
            News::All(all) => {
                let read = |(place, object): (Place, Value)| Some((place, read(&object)?));
                let pods: BTreeMap<_, _> = all.into_iter().filter_map(read).collect();
                of.source.is_known = true;
                let changed = pods != of.pods;
                of.pods = pods;
                changed
            }
            News::Set(place, object) => match read(&object) {
                Some(pod) => of.pods.insert(place, pod.clone()) != Some(pod),
                None => of.pods.remove(&place).is_some(),
            },
            News::Gone(place) => of.pods.remove(&place).is_some(),
        };
        (of.source.heard_nanos, of.source.objects) = (now_nanos, of.pods.len());
        changed || was_known != self.is_known()
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
