//! What a gateway knows of a cluster: resources, pods and keys, kept as they are by watching the API server,
//! with nothing but rights to read.
//!
//! [`Watching`] keeps what was known when the API server is away, says how old that is, and tells when
//! something changed. What it means is `plan`'s to say.

mod follow;
mod known;
mod pools;
mod source;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use kube::Client;
use kube::Config;
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use parking_lot::Mutex;
use pilotage_plan::api::{API_VERSION, Kind};
use pilotage_plan::gateway_api;
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
    /// What it is looked at for.
    pub purpose: Purpose,
}

/// What a cluster is looked at for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Purpose {
    /// To serve all that counts.
    #[default]
    Serve,
    /// To serve the pods of the InferencePool of that namespace and name, to tenants where there are any.
    Pool(String, String),
    /// To say what becomes of resources of the Gateway API.
    Judge,
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
        let known = Arc::new(Mutex::new(Known::for_purpose(scope.purpose.clone())));
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
        if scope.purpose != Purpose::Judge {
            let (known, client) = (Arc::clone(&known), client.clone());
            let follow = pools::follow(client, known, changed.clone(), (tell, clock));
            tasks.push(tasks::spawn("pools", follow));
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
    GatewayApi(gateway_api::Part),
    Engines,
    Gateways,
    Keys,
}

/// An interface to the objects of a kind, in one namespace or in all.
fn objects(
    client: &Client,
    namespace: Option<&str>,
    (group, version, kind): (&str, &str, &str),
) -> Api<DynamicObject> {
    let of = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &of),
        None => Api::all_with(client.clone(), &of),
    }
}

fn followed(client: &Client, scope: &Scope) -> Vec<(Part, Followed)> {
    let own = scope.namespace.as_deref();
    let system = Some(scope.system.as_str());
    let mut all = Vec::new();
    let (group, version) = API_VERSION.split_once('/').unwrap_or_default();
    for kind in Kind::ALL {
        let followed =
            Followed::all(kind.name(), objects(client, own, (group, version, kind.name())));
        match scope.purpose {
            // A pool is served by whoever has none of our kinds, too.
            Purpose::Pool(..) if kind != Kind::Tenant => continue,
            Purpose::Pool(..) => all.push((Part::Resources(kind), followed.optional())),
            Purpose::Serve | Purpose::Judge => all.push((Part::Resources(kind), followed)),
        }
    }
    all.extend(gateway_api(client, scope));
    if scope.purpose == Purpose::Judge {
        return all;
    }
    let slices = ("discovery.k8s.io", "v1", "EndpointSlice");
    if scope.purpose == Purpose::Serve {
        let engines = Followed::all("EndpointSlice", objects(client, own, slices));
        all.push((Part::Engines, engines.labelled(SELECTOR)));
        let keys = Followed::all("Secret", objects(client, system, ("", "v1", "Secret")));
        all.push((Part::Keys, keys.named(KEYS)));
    }
    let label = format!("{SERVICE_LABEL}={}", scope.gateways);
    let gateways = Followed::all("EndpointSlice of gateways", objects(client, system, slices));
    let gateways = gateways.labelled(&label);
    let is_alone = matches!(scope.purpose, Purpose::Pool(..));
    all.push((Part::Gateways, if is_alone { gateways.optional() } else { gateways }));
    all
}

/// The kinds of the Gateway API, which a cluster may have or not.
fn gateway_api(client: &Client, scope: &Scope) -> Vec<(Part, Followed)> {
    use gateway_api::Part::{Classes, Gateways, Pools, Routes, Services};
    let pool = (gateway_api::POOL_GROUP, "v1", "InferencePool");
    if let Purpose::Pool(namespace, name) = &scope.purpose {
        let pool = Followed::all("InferencePool", objects(client, Some(namespace), pool));
        return vec![(Part::GatewayApi(Pools), pool.named(name))];
    }
    let own = scope.namespace.as_deref();
    let of = |kind: &'static str| (gateway_api::GATEWAY_GROUP, "v1", kind);
    let mut all = vec![
        (Classes, Followed::all("GatewayClass", objects(client, None, of("GatewayClass")))),
        (Gateways, Followed::all("Gateway", objects(client, own, of("Gateway")))),
        (Routes, Followed::all("HTTPRoute", objects(client, own, of("HTTPRoute")))),
        (Pools, Followed::all("InferencePool", objects(client, own, pool))),
    ];
    if scope.purpose == Purpose::Judge {
        let services = objects(client, Some(&scope.system), ("", "v1", "Service"));
        all.push((Services, Followed::all("Service", services).named(&scope.gateways)));
    }
    all.into_iter().map(|(part, one)| (Part::GatewayApi(part), one.optional())).collect()
}
