//! Takes Pilotage out of a cluster: what it was made of, and what it made for itself. Models stay, unless their
//! definitions go.

use std::collections::BTreeMap;

use pilotage_plan::api::{API_VERSION, Kind};
use pilotage_plan::cluster::Failure;
use pilotage_plan::crd::{self, Names};
use pilotage_plan::render::kubernetes::install::{self, Installation, Scope};
use pilotage_plan::render::kubernetes::{Cluster, Installed, Mesh};
use serde_json::Value;

use super::place::Place;
use super::preflight::{free, serves};
use super::{InstallError, Installer, words};

/// Resources that are counted one by one.
const COUNTED_MAX: usize = 500;

/// What there is to be removed.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    namespace: String,
    /// Objects in the order in which they go, in words, with their places and UIDs.
    objects: Vec<(String, Place, String)>,
    /// Resources of the whole cluster, which go with their definitions, by kind.
    pub resources: BTreeMap<&'static str, usize>,
    /// Definitions that are there.
    definitions: Vec<(String, Place, String)>,
    /// Why the namespace stays, if it does.
    pub stays: Option<String>,
}

impl Inventory {
    /// What goes, in words.
    pub fn objects(&self) -> impl Iterator<Item = &str> {
        self.objects.iter().map(|(words, ..)| words.as_str())
    }

    /// Whether nothing of it is there, definitions aside.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// How many definitions are there.
    pub fn definitions(&self) -> usize {
        self.definitions.len()
    }
}

impl Installer {
    /// What is there of an installation in that namespace.
    ///
    /// # Errors
    /// The API server does not say, or Helm has it.
    pub async fn inventory(&self, namespace: &str) -> Result<Inventory, InstallError> {
        let mut inventory = Inventory { namespace: namespace.to_owned(), ..Inventory::default() };
        let mut namespaced = None;
        let mut is_elsewhere = false;
        for object in everything(namespace) {
            let place = Place::of(&object);
            let Some(is) = self.calls.get(place.path()).await.map_err(InstallError::Server)? else {
                continue;
            };
            if is["metadata"]["labels"]["app.kubernetes.io/part-of"] != "pilotage" {
                continue;
            }
            free(&is)?;
            is_elsewhere |= object["kind"] == "ClusterRoleBinding"
                && object["metadata"]["name"] == "pilotage-operator"
                && serves(&is).is_some_and(|other| other != namespace);
            let found = (words(&is), place, uid(&is));
            match is["kind"].as_str() {
                Some("Namespace") => namespaced = Some(found),
                Some("CustomResourceDefinition") => inventory.definitions.push(found),
                _ => inventory.objects.push(found),
            }
        }
        if is_elsewhere {
            // What is of the whole cluster belongs to that one.
            inventory.objects.retain(|(_, place, _)| place.namespace == namespace);
        }
        self.made(&mut inventory).await?;
        // Who makes things goes before what it made.
        inventory.objects.sort_by_key(|(_, place, _)| place.plural != "deployments");
        self.count(&mut inventory).await?;
        if let Some(found) = namespaced {
            inventory.stays = self.strangers(namespace).await?;
            if inventory.stays.is_none() {
                inventory.objects.push(found);
            }
        }
        Ok(inventory)
    }

    /// What the parts made for themselves.
    async fn made(&self, inventory: &mut Inventory) -> Result<(), InstallError> {
        let admin = ("v1", "secrets", install::ADMIN_SECRET);
        for (version, plural, name) in install::MADE.into_iter().chain([admin]) {
            let place = Place::named((version, plural), &inventory.namespace, name);
            let is = self.calls.get(place.path()).await.map_err(InstallError::Server)?;
            inventory.objects.extend(is.map(|is| (words(&is), place, uid(&is))));
        }
        Ok(())
    }

    /// Counts resources of the whole cluster.
    async fn count(&self, inventory: &mut Inventory) -> Result<(), InstallError> {
        for kind in Kind::ALL {
            let target =
                format!("/apis/{API_VERSION}/{}?limit={COUNTED_MAX}", Names::of(kind).plural);
            let count = self.items(&target).await?.len();
            if count > 0 {
                inventory.resources.insert(kind.name(), count);
            }
        }
        Ok(())
    }

    /// Who else is in the namespace, in words.
    async fn strangers(&self, namespace: &str) -> Result<Option<String>, InstallError> {
        for kind in Kind::ALL {
            let plural = Names::of(kind).plural;
            let target = format!("/apis/{API_VERSION}/namespaces/{namespace}/{plural}?limit=1");
            if !self.items(&target).await?.is_empty() {
                return Ok(Some(format!("{kind}s are in it")));
            }
        }
        let others = "app.kubernetes.io%2Fname%21%3Dpilotage";
        let target = format!("/api/v1/namespaces/{namespace}/pods?limit=1&labelSelector={others}");
        let others = self.items(&target).await?;
        Ok((!others.is_empty()).then(|| "pods of others are in it".to_owned()))
    }

    async fn items(&self, target: &str) -> Result<Vec<Value>, InstallError> {
        match self.calls.read(target).await {
            Ok(list) => Ok(list["items"].as_array().cloned().unwrap_or_default()),
            // The kind is not served.
            Err(failure) if failure.code == 404 => Ok(Vec::new()),
            Err(failure) => Err(InstallError::Server(failure)),
        }
    }

    /// Removes what was found, and with `definitions` all resources of the cluster. What is gone already is well.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn remove(
        &self,
        found: &Inventory,
        definitions: bool,
    ) -> Result<usize, InstallError> {
        let more = found.definitions.iter().filter(|_| definitions);
        let mut count = 0;
        for (words, place, uid) in more.chain(&found.objects) {
            let done = self.calls.delete(place.path(), uid).await;
            let gone = done.map_err(|failure| refused(words, failure))?;
            if gone.is_some() {
                count += 1;
                (self.tell)(&format!("{words}: deleted"));
            }
        }
        Ok(count)
    }
}

fn refused(words: &str, failure: Failure) -> InstallError {
    match failure.code {
        0 | 429 | 500.. => InstallError::Server(failure),
        _ => InstallError::Refused { what: words.to_owned(), message: failure.message },
    }
}

fn uid(is: &Value) -> String {
    is["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
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
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|object| seen.insert(Place::of(object)));
    all
}
