//! What can be known to hinder before anything is written: rights, and what others have.

use std::collections::BTreeSet;

use http::Method;
use pilotage_plan::crd::VERSION;
use pilotage_plan::render::kubernetes::install::Scope;
use serde_json::{Value, json};

use super::place::Place;
use super::{InstallError, Installer, Wish, words};

/// The release from which on policies in CEL are there without more.
const POLICIES_MINOR: u32 = 30;

/// Where Helm says which release an object is of.
const RELEASE: &str = "meta.helm.sh/release-name";

impl Installer {
    /// What hinders, if something does; else all objects as they are, in the order of what is wished for.
    ///
    /// # Errors
    /// What hinders.
    pub(super) async fn preflight(&self, wish: &Wish) -> Result<Vec<Option<Value>>, InstallError> {
        let installation = &wish.installation;
        if installation.requires_digest && installation.cluster.minor < POLICIES_MINOR {
            let what = "a policy that refuses Models without a digest";
            return Err(InstallError::Version { what, minor: POLICIES_MINOR });
        }
        let objects = wish.objects();
        self.rights(&objects).await?;
        let mut there = Vec::new();
        for object in &objects {
            let place = Place::of(object);
            let is = self.calls.get(place.path()).await.map_err(InstallError::Server)?;
            if let Some(is) = &is {
                free(is)?;
                if installation.scope == Scope::Cluster {
                    here(is, &installation.cluster.namespace)?;
                }
                known(is)?;
            }
            there.push(is);
        }
        Ok(there)
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

/// Whether it is of this installation.
fn here(is: &Value, namespace: &str) -> Result<(), InstallError> {
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
