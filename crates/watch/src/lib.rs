//! What a gateway knows of a cluster: resources, pods and keys, kept as they are by watching the API server,
//! with nothing but rights to read.
//!
//! [`Watching`] keeps what was known when the API server is away, says how old that is, and tells when
//! something changed. What it means is `plan`'s to say.

mod follow;
mod known;
mod source;

use std::sync::Arc;

use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Config};
use parking_lot::Mutex;
use pilotage_plan::api::{API_VERSION, Kind};
use pilotage_plan::pods::{SELECTOR, SERVICE_LABEL};
use pilotage_shell::clock::Clock;
use pilotage_shell::tasks;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use known::{Known, ModelState};
pub use source::Source;

use follow::Followed;

/// The Secret with all keys between gateway and engines, in Pilotage's own namespace.
pub const KEYS: &str = "pilotage-engine-keys";

/// What is looked at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Scope {
    /// The namespace of resources; none is all of them.
    pub namespace: Option<String>,
    /// Pilotage's own namespace.
    pub system: String,
    /// The Service whose pods are the gateways.
    pub gateways: String,
}

/// A cluster that is watched for as long as this lives.
#[derive(Debug)]
pub struct Watching {
    known: Arc<Mutex<Known>>,
    changed: watch::Receiver<u64>,
    tasks: Vec<JoinHandle<Option<()>>>,
}

/// A client by the environment: that of the pod it runs in, or of the user's configuration.
///
/// # Errors
/// There is neither.
pub async fn client() -> Result<Client, kube::Error> {
    let config = Config::infer().await.map_err(kube::Error::InferConfig)?;
    Client::try_from(config)
}

impl Watching {
    /// Begins to watch. The API server may be away: then it is waited for.
    pub fn start(client: &Client, scope: &Scope, clock: Clock) -> Self {
        let (tell, changed) = watch::channel(0_u64);
        let known = Arc::new(Mutex::new(Known::default()));
        let tell = Arc::new(tell);
        let mut tasks = Vec::new();
        for (at, (part, followed)) in followed(client, scope).into_iter().enumerate() {
            known.lock().sources.push(Source::of(followed.kind, clock.now_nanos()));
            let (known, tell) = (Arc::clone(&known), Arc::clone(&tell));
            let follow = followed.follow(clock, move |news| {
                if known.lock().take(at, part, news, clock.now_nanos()) {
                    tell.send_modify(|count| *count += 1);
                }
            });
            tasks.push(tasks::spawn("watch", follow));
        }
        Self { known, changed, tasks }
    }

    /// Waits until something else is known.
    pub async fn changed(&mut self) {
        if self.changed.changed().await.is_err() {
            // Nobody tells anything any more.
            std::future::pending::<()>().await;
        }
    }

    /// Looks at what is known.
    pub fn read<T>(&self, look: impl FnOnce(&Known) -> T) -> T {
        look(&self.known.lock())
    }

    /// The same for whoever tells of it.
    pub fn shared(&self) -> Arc<Mutex<Known>> {
        Arc::clone(&self.known)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Which part of what is known a kind is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Part {
    Resources(Kind),
    HttpRoutes,
    Engines,
    Gateways,
    Keys,
}

fn followed(client: &Client, scope: &Scope) -> Vec<(Part, Followed)> {
    let placed = |namespace: Option<&str>, of: &ApiResource| -> Api<DynamicObject> {
        match namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, of),
            None => Api::all_with(client.clone(), of),
        }
    };
    let own = scope.namespace.as_deref();
    let mut all = Vec::new();
    for kind in Kind::ALL {
        let (group, version) = API_VERSION.split_once('/').unwrap_or_default();
        let of = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind.name()));
        all.push((Part::Resources(kind), Followed::all(kind.name(), placed(own, &of))));
    }
    let gvk = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute");
    let of = ApiResource::from_gvk(&gvk);
    all.push((Part::HttpRoutes, Followed::all("HTTPRoute", placed(own, &of)).optional()));
    let gvk = GroupVersionKind::gvk("discovery.k8s.io", "v1", "EndpointSlice");
    let of = ApiResource::from_gvk(&gvk);
    let engines = Followed::all("EndpointSlice", placed(own, &of)).labelled(SELECTOR);
    all.push((Part::Engines, engines));
    let label = format!("{SERVICE_LABEL}={}", scope.gateways);
    let gateways = Followed::all("EndpointSlice of gateways", placed(Some(&scope.system), &of));
    all.push((Part::Gateways, gateways.labelled(&label)));
    let of = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Secret"));
    let keys = Followed::all("Secret", placed(Some(&scope.system), &of));
    all.push((Part::Keys, keys.named(KEYS)));
    all
}
