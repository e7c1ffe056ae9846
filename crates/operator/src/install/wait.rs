//! Waits for gateway and operator, and says what hinders them.

use std::time::Duration;

use pilotage_plan::cluster::pod_trouble;
use serde_json::Value;

use super::apply::{holds, nanos};
use super::place::Place;
use super::{InstallError, Installer, Wish, asked};

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(2);

/// The parts.
const PARTS: [&str; 2] = ["pilotage-operator", "pilotage-gateway"];

impl Installer {
    /// Waits until the parts are available, for as long as is wished.
    pub(super) async fn available(&self, wish: &Wish) -> Result<(), InstallError> {
        let namespace = &wish.installation.cluster.namespace;
        let limit = self.clock.now_nanos().saturating_add(nanos(wish.wait));
        let mut told = String::new();
        loop {
            let mut hindrances = Vec::new();
            for part in PARTS {
                hindrances.extend(self.hindrance(namespace, part).await?);
            }
            if hindrances.is_empty() {
                return Ok(());
            }
            let text = hindrances.join("; ");
            if self.clock.now_nanos() >= limit {
                return Err(InstallError::NotAvailable(text));
            }
            if text != told {
                (self.tell)(&format!("waiting: {text}"));
                told = text;
            }
            self.pause(EVERY).await;
        }
    }

    /// Why a part is not available, if it is not.
    async fn hindrance(&self, namespace: &str, part: &str) -> Result<Option<String>, InstallError> {
        let place = Place::named(("apps/v1", "deployments"), namespace, part);
        let is = self.calls.get(place.path()).await.map_err(asked)?;
        let is = is.unwrap_or_default();
        let Some(count) = missing(&is) else { return Ok(None) };
        if let Some(why) = cannot_make(&is) {
            return Ok(Some(format!("{part}: {why}")));
        }
        let component = part.trim_start_matches("pilotage-");
        let labels = format!(
            "app.kubernetes.io%2Fname%3Dpilotage%2Capp.kubernetes.io%2Fcomponent%3D{component}"
        );
        let target = format!("/api/v1/namespaces/{namespace}/pods?limit=50&labelSelector={labels}");
        let pods = self.calls.read(&target).await.map_err(asked)?;
        let trouble = pods["items"].as_array().into_iter().flatten().find_map(pod_trouble);
        Ok(Some(format!("{part}: {}", trouble.unwrap_or(count))))
    }
}

/// How far a Deployment is, if it is not there yet.
fn missing(deployment: &Value) -> Option<String> {
    let number = |pointer: &str| deployment.pointer(pointer).and_then(Value::as_u64);
    let wanted = number("/spec/replicas").unwrap_or(1);
    let (updated, available) = (
        number("/status/updatedReplicas").unwrap_or_default(),
        number("/status/availableReplicas").unwrap_or_default(),
    );
    let is_seen = number("/status/observedGeneration") >= number("/metadata/generation");
    let is_there = is_seen
        && holds(deployment, "Available")
        && updated >= wanted
        && available >= updated.min(wanted)
        && number("/status/replicas").unwrap_or_default() <= updated;
    (!is_there).then(|| format!("{} of {wanted} copies available", available.min(updated)))
}

/// Why its pods cannot be made: quotas, policies.
fn cannot_make(deployment: &Value) -> Option<String> {
    let mut all = deployment["status"]["conditions"].as_array()?.iter();
    let one = all.find(|one| one["type"] == "ReplicaFailure" && one["status"] == "True")?;
    Some(one["message"].as_str().unwrap_or("its pods cannot be made").to_owned())
}
