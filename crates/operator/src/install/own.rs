//! What there is of an installation: everything that any of them can have, as far as it is there and ours; and who
//! else is in its namespace.

use std::collections::BTreeSet;

use pilotage_plan::api::{API_VERSION, Kind};
use pilotage_plan::crd::{self, Names};
use pilotage_plan::render::kubernetes::install::{self, Installation, Scope};
use pilotage_plan::render::kubernetes::{Cluster, Installed, Mesh};
use serde_json::Value;

use super::place::Place;
use super::preflight::serves;
use super::{InstallError, Installer, asked, words};

/// The annotation of a namespace that `install` has made. Without it the namespace is somebody else's.
pub(super) const MADE_HERE: &str = "pilotage.dev/made-by-install";

/// Objects of one kind that are looked at for strangers.
const LOOKED_MAX: usize = 200;

/// An object that is there.
#[derive(Clone, Debug)]
pub(super) struct There {
    pub(super) place: Place,
    pub(super) is: Value,
}

impl There {
    pub(super) fn words(&self) -> String {
        words(&self.is)
    }

    pub(super) fn uid(&self) -> &str {
        self.is["metadata"]["uid"].as_str().unwrap_or_default()
    }
}

/// What there is of an installation.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// In the order in which it is applied.
    pub(super) all: Vec<There>,
    /// Whether it looks at the whole cluster: then what is of the whole cluster is its own.
    pub(super) is_whole: bool,
    /// Whether one in another namespace does.
    pub(super) is_elsewhere: bool,
}

/// Whether `install` made that namespace.
pub(super) fn is_made_here(namespace: &Value) -> bool {
    namespace["metadata"]["annotations"][MADE_HERE].is_string()
}

impl Installer {
    /// What there is of an installation in that namespace. What may not be looked at beyond that is not ours.
    ///
    /// # Errors
    /// The API server does not say.
    pub(super) async fn own(&self, namespace: &str) -> Result<Own, InstallError> {
        let mut own = Own::default();
        for object in everything(namespace) {
            let place = Place::of(&object);
            let is = match self.calls.get(place.path()).await {
                Ok(is) => is,
                Err(failure) if failure.code == 403 && is_beyond(&place, namespace) => None,
                Err(failure) => return Err(asked(failure)),
            };
            let Some(is) = is else { continue };
            if is["metadata"]["labels"]["app.kubernetes.io/part-of"] != "pilotage" {
                continue;
            }
            if place.plural == "clusterrolebindings" && place.name == "pilotage-operator" {
                own.is_whole = serves(&is) == Some(namespace);
                own.is_elsewhere = !own.is_whole;
            }
            own.all.push(There { place, is });
        }
        if own.is_elsewhere {
            // What is of the whole cluster belongs to that one.
            let is_definition = |there: &There| there.place.plural == "customresourcedefinitions";
            let is_here = |there: &There| {
                there.place.namespace == namespace
                    || (there.place.plural == "namespaces" && there.place.name == namespace)
            };
            own.all.retain(|there| is_here(there) || is_definition(there));
        }
        Ok(own)
    }

    /// Who else is in the namespace, in words: whoever is not among those, nor there in every namespace.
    pub(super) async fn strangers(
        &self,
        namespace: &str,
        ours: &[Place],
    ) -> Result<Option<String>, InstallError> {
        for kind in Kind::ALL {
            let plural = Names::of(kind).plural;
            let target = format!("/apis/{API_VERSION}/namespaces/{namespace}/{plural}?limit=1");
            if !self.items(&target).await?.is_empty() {
                return Ok(Some(format!("{kind}s are in it")));
            }
        }
        for (version, plural, kind) in LIVES {
            let root = if version.contains('/') { "apis" } else { "api" };
            let target =
                format!("/{root}/{version}/namespaces/{namespace}/{plural}?limit={LOOKED_MAX}");
            let all = match self.calls.read(&target).await {
                Ok(list) => list["items"].as_array().cloned().unwrap_or_default(),
                Err(failure) if failure.code == 404 => continue,
                Err(failure) if failure.code == 403 => {
                    return Ok(Some(format!("you may not look whether there are {plural} in it")));
                }
                Err(failure) => return Err(asked(failure)),
            };
            let name =
                |one: &Value| one["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let is_ours =
                |name: &str| ours.iter().any(|place| place.plural == *plural && place.name == name);
            let other = all.iter().find(|one| !is_ours(&name(one)) && !is_everywhere(plural, one));
            if let Some(other) = other {
                return Ok(Some(format!("the {kind} `{}` is in it", name(other))));
            }
        }
        Ok(None)
    }

    pub(super) async fn items(&self, target: &str) -> Result<Vec<Value>, InstallError> {
        match self.calls.read(target).await {
            Ok(list) => Ok(list["items"].as_array().cloned().unwrap_or_default()),
            // The kind is not served.
            Err(failure) if failure.code == 404 => Ok(Vec::new()),
            Err(failure) => Err(asked(failure)),
        }
    }
}

/// What somebody may have in a namespace: API version, plural and kind.
const LIVES: &[(&str, &str, &str)] = &[
    ("v1", "pods", "Pod"),
    ("v1", "persistentvolumeclaims", "PersistentVolumeClaim"),
    ("v1", "secrets", "Secret"),
    ("v1", "configmaps", "ConfigMap"),
    ("v1", "services", "Service"),
    ("v1", "serviceaccounts", "ServiceAccount"),
    ("v1", "replicationcontrollers", "ReplicationController"),
    ("apps/v1", "deployments", "Deployment"),
    ("apps/v1", "statefulsets", "StatefulSet"),
    ("apps/v1", "daemonsets", "DaemonSet"),
    ("batch/v1", "jobs", "Job"),
    ("batch/v1", "cronjobs", "CronJob"),
    ("networking.k8s.io/v1", "ingresses", "Ingress"),
    ("gateway.networking.k8s.io/v1", "httproutes", "HTTPRoute"),
    ("gateway.networking.k8s.io/v1", "gateways", "Gateway"),
    ("leaderworkerset.x-k8s.io/v1", "leaderworkersets", "LeaderWorkerSet"),
];

/// Whether rights in a namespace alone need not reach there: another place, or a kind that others brought.
fn is_beyond(place: &Place, namespace: &str) -> bool {
    const BROUGHT: [&str; 3] =
        ["autoscaling.k8s.io", "monitoring.coreos.com", "networking.istio.io"];
    place.namespace != namespace || BROUGHT.contains(&place.group())
}

/// Whether it is in every namespace, or goes with something else that is looked at.
fn is_everywhere(plural: &str, one: &Value) -> bool {
    let name = one["metadata"]["name"].as_str().unwrap_or_default();
    let has_owner =
        one["metadata"]["ownerReferences"].as_array().is_some_and(|all| !all.is_empty());
    let is_usual = match plural {
        "configmaps" => {
            ["kube-root-ca.crt", "openshift-service-ca.crt", "istio-ca-root-cert"].contains(&name)
        }
        "serviceaccounts" => ["default", "builder", "deployer"].contains(&name),
        "secrets" => {
            let kind = one["type"].as_str().unwrap_or_default();
            ["kubernetes.io/service-account-token", "kubernetes.io/dockercfg"].contains(&kind)
                && one["metadata"]["annotations"]["kubernetes.io/service-account.name"].is_string()
        }
        _ => false,
    };
    has_owner || is_usual
}

/// All objects that any installation in that namespace has, definitions among them.
fn everything(namespace: &str) -> Vec<Value> {
    let has = Installed { leader_worker_set: true, keda: true, monitors: true, vertical: true };
    let cluster = Cluster {
        namespace: namespace.to_owned(),
        has,
        mesh: Some(Mesh::Istio),
        ..Cluster::default()
    };
    let of = |scope: Scope| Installation {
        cluster: cluster.clone(),
        scope,
        external_metrics: scope == Scope::Cluster,
        requires_digest: scope == Scope::Cluster,
        ..Installation::default()
    };
    let mut all: Vec<Value> = crd::all();
    for scope in [Scope::Cluster, Scope::Namespace] {
        let objects = install::objects(&of(scope));
        all.extend(objects.iter().map(|object| object.value().clone()));
    }
    let mut seen = BTreeSet::new();
    all.retain(|object| seen.insert(Place::of(object)));
    all
}
