//! What is watched, as one stream: kinds come and go with what is installed.
//!
//! Contract: watches begin anew by themselves, later each time they fail. Only objects of Models are looked
//! at, by their label, and Secrets are never listed.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{AbortHandle, BoxStream, SelectAll, Stream, StreamExt as _, abortable};
use kube::Client;
use kube::api::{Api, ApiResource, GroupVersionKind};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use pilotage_plan::api::{API_VERSION, Kind};
use pilotage_plan::cluster::{Failure, MODEL, Place, Sort, Watched, World};
use pilotage_plan::crd::Names;
use pilotage_plan::render::kubernetes::{Cluster, Mesh};
use serde_json::Value;

use super::discover::Offered;
use super::object::Object;

/// Something was heard.
pub(super) type Heard = (Watched, Result<Event<Object>, watcher::Error>);

/// All watches.
pub(super) struct Watches {
    client: Client,
    namespace: Option<String>,
    streams: SelectAll<BoxStream<'static, Heard>>,
    open: BTreeMap<Watched, AbortHandle>,
    /// What is being listed, and what of it was heard.
    listing: BTreeMap<Watched, BTreeSet<Place>>,
    listed: BTreeSet<Watched>,
    /// Why what was not listed was not.
    failures: BTreeMap<Watched, Why>,
    /// Looks at the cluster before nodes are asked for again, which may not be seen.
    nodes_rest: u32,
    /// Whether nodes may not be seen, as far as is known; nobody waits for them then.
    nodes_refused: bool,
}

/// Why a kind was not listed.
#[derive(Debug)]
struct Why {
    is_forbidden: bool,
    message: String,
}

/// Looks at the cluster for which nodes that may not be seen are left alone: ten minutes.
const NODES_REST: u32 = 10;

/// Objects that are listed in one go. Pages of all kinds come at once, and take several times the room of their
/// text before the little is taken out that is kept.
const PAGE: u32 = 100;

/// The same of nodes: what one says of its images and volumes is long.
const NODES_PAGE: u32 = 50;

impl Watches {
    pub(super) fn new(client: Client, namespace: Option<String>) -> Self {
        Self {
            client,
            namespace,
            streams: SelectAll::new(),
            open: BTreeMap::new(),
            listing: BTreeMap::new(),
            listed: BTreeSet::new(),
            failures: BTreeMap::new(),
            nodes_rest: 0,
            nodes_refused: false,
        }
    }

    /// Watches what a cluster of that setting has, and nothing else.
    pub(super) fn follow(&mut self, setting: &Cluster, offered: &Offered, world: &mut World) {
        let istio = setting.mesh == Some(Mesh::Istio) && offered.has_istio;
        let mut wanted: BTreeSet<Watched> = BTreeSet::from([Watched::Pods]);
        self.nodes_rest = self.nodes_rest.saturating_sub(1);
        if self.nodes_rest == 0 {
            wanted.insert(Watched::Nodes);
        }
        let there = Sort::ALL.into_iter().filter(|sort| sort.is_there(setting.has, istio));
        wanted.extend(there.map(Watched::Made));
        if offered.is_ours {
            wanted.extend(Kind::ALL.map(Watched::Resources));
        }
        let gone: Vec<Watched> =
            self.open.keys().filter(|one| !wanted.contains(one)).copied().collect();
        for watched in gone {
            if let Some(handle) = self.open.remove(&watched) {
                handle.abort();
            }
            self.listing.remove(&watched);
            self.listed.remove(&watched);
            self.failures.remove(&watched);
            world.listed(watched, &BTreeSet::new());
        }
        for watched in wanted {
            if !self.open.contains_key(&watched) {
                let (stream, handle) = abortable(self.stream(watched));
                self.open.insert(watched, handle);
                self.streams.push(stream.boxed());
            }
        }
    }

    /// What is watched there may not be seen. Only of nodes one can do without; whether that is what it is about.
    pub(super) fn shut_out(&mut self, watched: Watched, world: &mut World) -> bool {
        if watched != Watched::Nodes {
            return false;
        }
        if let Some(handle) = self.open.remove(&watched) {
            handle.abort();
        }
        self.listing.remove(&watched);
        self.listed.remove(&watched);
        if !self.nodes_refused {
            tracing::warn!(
                "nodes may not be seen: copies do not move before their nodes go; give the operator's ServiceAccount the right to get, list and watch nodes"
            );
        }
        (self.nodes_rest, self.nodes_refused) = (NODES_REST, true);
        world.listed(watched, &BTreeSet::new());
        world.sees_nodes(false);
        true
    }

    /// The next things that are heard.
    pub(super) async fn next(&mut self) -> Heard {
        match self.streams.next().await {
            Some(heard) => heard,
            None => std::future::pending().await,
        }
    }

    /// What was heard already and is not yet told.
    pub(super) fn ready(&mut self) -> Option<Heard> {
        use futures_util::FutureExt as _;
        self.streams.next().now_or_never().flatten()
    }

    /// A watch failed; why that matters where nothing was listed yet.
    pub(super) fn failed(&mut self, watched: Watched, failure: &Failure) {
        if !self.listed.contains(&watched) {
            let (is_forbidden, message) = (failure.code == 403, failure.message.clone());
            self.failures.insert(watched, Why { is_forbidden, message });
        }
    }

    /// Those that have not listed what there is and are waited for. A kind that others bring and that may not
    /// be seen is none of them: what is refused of it is told where it is wanted.
    fn awaited(&self) -> impl Iterator<Item = Watched> {
        let is_forbidden =
            |watched: &Watched| self.failures.get(watched).is_some_and(|why| why.is_forbidden);
        let awaited = self.open.keys().copied().filter(move |one| match one {
            Watched::Nodes => !self.nodes_refused,
            Watched::Made(sort) => !(sort.is_of_others() && is_forbidden(one)),
            Watched::Resources(_) | Watched::Pods => true,
        });
        awaited.filter(|one| !self.listed.contains(one))
    }

    /// How many have not listed what there is.
    pub(super) fn unsynced(&self) -> usize {
        self.awaited().count()
    }

    /// What keeps them from it, where there are some.
    pub(super) fn hindrance(&self) -> Option<String> {
        let left = self.unsynced();
        let told = self.awaited().find_map(|one| Some((one, self.failures.get(&one)?)));
        match told {
            Some((watched, Why { is_forbidden, message })) => {
                let advice = match is_forbidden {
                    true => {
                        "; give the operator's ServiceAccount that right, as `pilotage install` does"
                    }
                    false => "",
                };
                Some(format!("{} cannot be listed: {message}{advice}", kind(watched).1))
            }
            None => (left > 0).then(|| format!("{left} kinds were not listed yet")),
        }
    }

    /// Tells the world what was heard.
    pub(super) fn tell(&mut self, watched: Watched, event: Event<Object>, world: &mut World) {
        match event {
            Event::Init => drop(self.listing.insert(watched, BTreeSet::new())),
            Event::InitApply(object) => {
                if let Some(there) = self.listing.get_mut(&watched) {
                    there.insert(place(&object.value));
                }
                world.observe(watched, &object.value);
            }
            Event::InitDone => {
                if let Some(there) = self.listing.remove(&watched) {
                    world.listed(watched, &there);
                }
                if watched == Watched::Nodes {
                    self.nodes_refused = false;
                    world.sees_nodes(true);
                }
                self.listed.insert(watched);
                self.failures.remove(&watched);
            }
            Event::Apply(object) => world.observe(watched, &object.value),
            Event::Delete(object) => world.gone(watched, &object.value),
        }
    }

    fn stream(&self, watched: Watched) -> impl Stream<Item = Heard> + use<> {
        let (api_version, kind, plural) = kind(watched);
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let gvk = GroupVersionKind::gvk(group, version, kind);
        let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
        let namespace = self.namespace.as_ref().filter(|_| watched != Watched::Nodes);
        let api: Api<Object> = match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        let config = match watched {
            Watched::Resources(_) => watcher::Config::default().page_size(PAGE),
            Watched::Nodes => watcher::Config::default().page_size(NODES_PAGE),
            Watched::Made(_) | Watched::Pods => {
                watcher::Config::default().page_size(PAGE).labels(MODEL)
            }
        };
        watcher(api, config).default_backoff().map(move |event| (watched, event))
    }
}

/// API version, kind and plural of what is watched.
const fn kind(watched: Watched) -> (&'static str, &'static str, &'static str) {
    match watched {
        Watched::Resources(kind) => (API_VERSION, kind.name(), Names::of(kind).plural),
        Watched::Made(sort) => {
            let row = sort.row();
            (row.api_version, row.kind, row.plural)
        }
        Watched::Pods => ("v1", "Pod", "pods"),
        Watched::Nodes => ("v1", "Node", "nodes"),
    }
}

fn place(object: &Value) -> Place {
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}
