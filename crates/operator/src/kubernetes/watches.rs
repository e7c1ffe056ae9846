//! What is watched, as one stream: kinds come and go with what is installed.
//!
//! Contract: watches begin anew by themselves, later each time they fail. Only objects of Models are looked
//! at, by their label, and Secrets are never listed.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{AbortHandle, BoxStream, SelectAll, Stream, StreamExt as _, abortable};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use pilotage_plan::api::{API_VERSION, Kind};
use pilotage_plan::cluster::{MODEL, Place, Sort, Watched, World};
use pilotage_plan::crd::Names;
use pilotage_plan::render::kubernetes::{Cluster, Mesh};
use serde_json::Value;

/// Something was heard.
pub(super) type Heard = (Watched, Result<Event<DynamicObject>, watcher::Error>);

/// All watches.
pub(super) struct Watches {
    client: Client,
    namespace: Option<String>,
    streams: SelectAll<BoxStream<'static, Heard>>,
    open: BTreeMap<Watched, AbortHandle>,
    /// What is being listed, and what of it was heard.
    listing: BTreeMap<Watched, BTreeSet<Place>>,
    listed: BTreeSet<Watched>,
    /// Looks at the cluster before nodes are asked for again, which may not be seen.
    nodes_rest: u32,
    /// Whether nodes may not be seen, as far as is known; nobody waits for them then.
    nodes_refused: bool,
}

/// Looks at the cluster for which nodes that may not be seen are left alone: ten minutes.
const NODES_REST: u32 = 10;

/// Nodes that are listed in one go: what one says of its images and volumes is long, and only a little is kept.
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
            nodes_rest: 0,
            nodes_refused: false,
        }
    }

    /// Watches what a cluster of that setting has, and nothing else.
    pub(super) fn follow(&mut self, setting: &Cluster, is_ours: bool, world: &mut World) {
        let istio = setting.mesh == Some(Mesh::Istio);
        let mut wanted: BTreeSet<Watched> = BTreeSet::from([Watched::Pods]);
        self.nodes_rest = self.nodes_rest.saturating_sub(1);
        if self.nodes_rest == 0 {
            wanted.insert(Watched::Nodes);
        }
        let there = Sort::ALL.into_iter().filter(|sort| sort.is_there(setting.has, istio));
        wanted.extend(there.map(Watched::Made));
        if is_ours {
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

    /// How many have not listed what there is.
    pub(super) fn unsynced(&self) -> usize {
        let awaited = self.open.keys().filter(|one| !self.listed.contains(*one));
        awaited.filter(|one| !self.nodes_refused || **one != Watched::Nodes).count()
    }

    /// Tells the world what was heard.
    pub(super) fn tell(
        &mut self,
        watched: Watched,
        event: Event<DynamicObject>,
        world: &mut World,
    ) {
        match event {
            Event::Init => drop(self.listing.insert(watched, BTreeSet::new())),
            Event::InitApply(object) => {
                let object = json(object);
                if let Some(there) = self.listing.get_mut(&watched) {
                    there.insert(place(&object));
                }
                world.observe(watched, &object);
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
            }
            Event::Apply(object) => world.observe(watched, &json(object)),
            Event::Delete(object) => world.gone(watched, &json(object)),
        }
    }

    fn stream(&self, watched: Watched) -> impl Stream<Item = Heard> + use<> {
        let (api_version, kind, plural) = match watched {
            Watched::Resources(kind) => (API_VERSION, kind.name(), Names::of(kind).plural),
            Watched::Made(sort) => {
                let row = sort.row();
                (row.api_version, row.kind, row.plural)
            }
            Watched::Pods => ("v1", "Pod", "pods"),
            Watched::Nodes => ("v1", "Node", "nodes"),
        };
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let gvk = GroupVersionKind::gvk(group, version, kind);
        let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
        let namespace = self.namespace.as_ref().filter(|_| watched != Watched::Nodes);
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        let config = match watched {
            Watched::Resources(_) => watcher::Config::default(),
            Watched::Nodes => watcher::Config::default().page_size(NODES_PAGE),
            Watched::Made(_) | Watched::Pods => watcher::Config::default().labels(MODEL),
        };
        watcher(api, config).default_backoff().map(move |event| (watched, event))
    }
}

/// An object without what nobody here looks at.
fn json(mut object: DynamicObject) -> Value {
    object.metadata.managed_fields = None;
    serde_json::to_value(&object).unwrap_or_default()
}

fn place(object: &Value) -> Place {
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}
