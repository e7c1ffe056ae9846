//! What can be known to hinder before anything is written: rights, and what others have.

use std::collections::BTreeSet;

use http::Method;
use pilotage_plan::crd::VERSION;
use pilotage_plan::render::kubernetes::install::Scope;
use serde_json::{Value, json};

use super::apply::refused;
use super::own::{MADE_HERE, There, is_made_here};
use super::place::Place;
use super::{InstallError, Installer, Wish, asked, words};
use crate::kubernetes::call::Manner;

/// The release from which on policies in CEL are there without more.
const POLICIES_MINOR: u32 = 30;

/// The label of everything that is ours.
const PART_OF: &str = "app.kubernetes.io/part-of";

/// Where Helm says which release an object is of.
const RELEASE: &str = "meta.helm.sh/release-name";

/// What is applied, and what goes.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// Objects in order, each as it is to be and as it is.
    pub(super) objects: Vec<(Value, Option<Value>)>,
    /// What an installation before has and this one has not.
    pub(super) leftovers: Vec<There>,
}

impl Installer {
    /// What hinders, if something does; else all that is to be done, in the order of what is wished for.
    ///
    /// # Errors
    /// What hinders.
    pub(super) async fn preflight(&self, wish: &Wish) -> Result<Ready, InstallError> {
        let installation = &wish.installation;
        if installation.requires_digest && installation.cluster.minor < POLICIES_MINOR {
            let what = "a policy that refuses Models without a digest";
            return Err(InstallError::Version { what, minor: POLICIES_MINOR });
        }
        let namespace = &installation.cluster.namespace;
        let mut objects = wish.objects();
        match self.namespace(namespace).await? {
            None => mark(&mut objects),
            Some(home) if is_made_here(&home.is) => mark(&mut objects),
            // Labels in a namespace of others would hold to them what is theirs.
            Some(_) => objects.retain(|object| object["kind"] != "Namespace"),
        }
        self.rights(&objects).await?;
        let mut ready = Ready::default();
        for object in objects {
            let place = Place::of(&object);
            let is = self.calls.get(place.path()).await.map_err(asked)?;
            if let Some(is) = &is {
                free(is)?;
                if installation.scope == Scope::Cluster {
                    here(is, namespace)?;
                }
                known(is)?;
            }
            ready.objects.push((object, is));
        }
        ready.leftovers = self.leftovers(namespace, &ready.objects).await?;
        Ok(ready)
    }

    /// The namespace as it is. One that may not be looked at is there, and somebody else's.
    pub(super) async fn namespace(&self, name: &str) -> Result<Option<There>, InstallError> {
        let place = Place::named(("v1", "namespaces"), "", name);
        match self.calls.get(place.path()).await {
            Ok(is) => Ok(is.map(|is| There { place, is })),
            Err(failure) if failure.code == 403 => Ok(Some(There { place, is: Value::Null })),
            Err(failure) => Err(asked(failure)),
        }
    }

    /// What an installation before has and this one has not; who calls ours by the API server first, since those
    /// calls fail as soon as nobody answers them.
    async fn leftovers(
        &self,
        namespace: &str,
        objects: &[(Value, Option<Value>)],
    ) -> Result<Vec<There>, InstallError> {
        let wanted: BTreeSet<Place> = objects.iter().map(|(object, _)| Place::of(object)).collect();
        let own = self.own(namespace).await?;
        let is_whole = own.is_whole;
        let goes = |there: &There| {
            let place = &there.place;
            let stays =
                ["namespaces", "customresourcedefinitions"].contains(&place.plural.as_str());
            !stays
                && !wanted.contains(place)
                && (place.namespace == namespace || is_whole)
                && free(&there.is).is_ok()
        };
        let mut all: Vec<There> = own.all.into_iter().filter(goes).collect();
        // By this binding what is of the whole cluster is known for ours.
        let is_last = |there: &There| {
            there.place.plural == "clusterrolebindings" && there.place.name == "pilotage-operator"
        };
        all.sort_by_key(|there| (there.place.plural != "apiservices", is_last(there)));
        Ok(all)
    }

    /// Whether nobody else's fields are in the way, which is known by trying.
    pub(super) async fn conflicts(&self, wish: &Wish, ready: &Ready) -> Result<(), InstallError> {
        let manner = Manner { dry_run: true, ..wish.manner() };
        for (object, _) in ready.objects.iter().filter(|(_, is)| is.is_some()) {
            let tried = self.calls.apply_as(Place::of(object).path(), object, manner).await;
            match tried {
                Err(failure) if matches!(failure.code, 409 | 422) => {
                    return Err(refused(words(object), failure));
                }
                // What else there is, the API server says again where it is meant.
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Whether all may be written that is to be. An API server that does not say is asked by writing.
    async fn rights(&self, objects: &[Value]) -> Result<(), InstallError> {
        let places = objects.iter().map(Place::of);
        let kinds: BTreeSet<(String, String, String)> =
            places.map(|one| (one.group().to_owned(), one.plural.clone(), one.namespace)).collect();
        let mut missing = Vec::new();
        for (group, plural, namespace) in kinds {
            for verb in ["create", "patch"] {
                let asked = json!({ "group": group, "resource": plural, "namespace": namespace, "verb": verb });
                if self.may(&asked).await == Some(false) {
                    missing.push(format!("{verb} {plural}"));
                }
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(InstallError::Rights(missing)) }
    }

    /// Whether the user of this client may do that.
    async fn may(&self, asked: &Value) -> Option<bool> {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": { "resourceAttributes": asked },
        });
        let target = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let answer = self.calls.ask(Method::POST, target, "application/json", Some(&review)).await;
        answer.ok()?["status"]["allowed"].as_bool()
    }
}

/// Whether nobody else has it.
pub(super) fn free(is: &Value) -> Result<(), InstallError> {
    match is["metadata"]["annotations"][RELEASE].as_str() {
        None => Ok(()),
        Some(release) => Err(InstallError::Helm { what: words(is), release: release.to_owned() }),
    }
}

/// The namespace that an object of the whole cluster serves, where it says one.
pub(super) fn serves(is: &Value) -> Option<&str> {
    match is["kind"].as_str()? {
        "ClusterRoleBinding" => is["subjects"][0]["namespace"].as_str(),
        "APIService" => is["spec"]["service"]["namespace"].as_str(),
        _ => None,
    }
}

/// Says in a namespace that it is made by this.
fn mark(objects: &mut [Value]) {
    for object in objects.iter_mut().filter(|object| object["kind"] == "Namespace") {
        object["metadata"]["annotations"][MADE_HERE] = "true".into();
    }
}

/// Whether it is of this installation.
fn here(is: &Value, namespace: &str) -> Result<(), InstallError> {
    if is["kind"] == "APIService" && is["metadata"]["labels"][PART_OF] != "pilotage" {
        let text = |field: &str| is["spec"]["service"][field].as_str().unwrap_or("somebody");
        let who = format!("`{}` in the namespace `{}`", text("name"), text("namespace"));
        return Err(InstallError::MetricsTaken(who));
    }
    let is_autoscalers = is["subjects"][0]["name"] == "horizontal-pod-autoscaler";
    match serves(is).filter(|_| !is_autoscalers) {
        Some(other) if other != namespace => Err(InstallError::Elsewhere(other.to_owned())),
        _ => Ok(()),
    }
}

/// Whether what is stored can be read by these definitions.
fn known(is: &Value) -> Result<(), InstallError> {
    if is["kind"] != "CustomResourceDefinition" {
        return Ok(());
    }
    let stored = is["status"]["storedVersions"].as_array().into_iter().flatten();
    let others = stored.filter_map(Value::as_str).filter(|version| *version != VERSION);
    let others: Vec<&str> = others.collect();
    if others.is_empty() {
        return Ok(());
    }
    let name = is["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    Err(InstallError::OtherVersion { name, versions: others.join(", ") })
}
