//! What is in flight where, as the gateway's own status tells every operator.

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use http::{Request, header};
use http_body_util::BodyExt as _;
use pilotage_core::ReplicaId;
use pilotage_shell::secret::Secret;
use serde::Deserialize;
use tower::ServiceExt as _;

/// The load of every lane.
#[derive(Debug, Default, Deserialize)]
pub(in crate::cmd) struct Load {
    lanes: Vec<Lane>,
}

#[derive(Debug, Deserialize)]
struct Lane {
    name: String,
    queue: Queue,
    replicas: Vec<Replica>,
}

#[derive(Debug, Deserialize)]
struct Queue {
    requests: u64,
}

#[derive(Debug, Deserialize)]
struct Replica {
    id: u32,
    #[serde(default)]
    name: String,
    #[serde(default)]
    up: bool,
    #[serde(default)]
    hardware: Option<String>,
    #[serde(default)]
    accelerators: u32,
    #[serde(default)]
    price_per_hour: Option<f64>,
    #[serde(default)]
    devices: Vec<String>,
    #[serde(default)]
    pod: Option<Pod>,
    in_flight: u64,
}

#[derive(Debug, Deserialize)]
struct Pod {
    namespace: String,
    name: String,
    node: String,
}

/// A replica that is up, and what it runs on.
#[derive(Debug)]
pub(in crate::cmd) struct Stands<'a> {
    pub(in crate::cmd) lane: &'a str,
    pub(in crate::cmd) name: &'a str,
    /// Empty where that is not known.
    pub(in crate::cmd) hardware: &'a str,
    /// One for a processor.
    pub(in crate::cmd) accelerators: u32,
    /// Millionths of the currency's unit, where its Fleet or manifest says so.
    pub(in crate::cmd) micros_per_hour: Option<u64>,
    /// Its accelerators on this machine, by number or UUID.
    pub(in crate::cmd) devices: &'a [String],
    /// Namespace, name and node of its pod; empty where it is none.
    pub(in crate::cmd) pod: (&'a str, &'a str, &'a str),
}

impl Load {
    /// Asks the admin listener's routes, without a connection.
    pub(in crate::cmd) async fn of(admin: &Router, key: &Secret) -> anyhow::Result<Self> {
        let request = Request::get("/status")
            .header(header::AUTHORIZATION, format!("Bearer {}", key.expose()))
            .body(Body::empty())?;
        let response = admin.clone().oneshot(request).await?;
        let body = response.into_body().collect().await?.to_bytes();
        serde_json::from_slice(&body).context("the gateway's status is not what it was")
    }

    /// Requests at a replica. One that is not shown has none.
    pub(in crate::cmd) fn in_flight(&self, lane: &str, replica: ReplicaId) -> u64 {
        let lane = self.lanes.iter().find(|one| one.name == lane);
        let replica = lane.and_then(|lane| lane.replicas.iter().find(|one| one.id == replica.0));
        replica.map_or(0, |replica| replica.in_flight)
    }

    /// Replicas that are up.
    pub(in crate::cmd) fn up(&self) -> impl Iterator<Item = Stands<'_>> {
        let all = self.lanes.iter().flat_map(|lane| {
            let up = lane.replicas.iter().filter(|one| one.up);
            up.map(move |one| (lane, one))
        });
        all.map(|(lane, one)| Stands {
            lane: &lane.name,
            name: &one.name,
            hardware: one.hardware.as_deref().unwrap_or_default(),
            accelerators: one.accelerators.max(1),
            micros_per_hour: one.price_per_hour.map(|price| (price * 1e6).round() as u64),
            devices: &one.devices,
            pod: one
                .pod
                .as_ref()
                .map_or(("", "", ""), |pod| (&pod.namespace, &pod.name, &pod.node)),
        })
    }

    /// Whether nothing waits or runs in a lane.
    pub(in crate::cmd) fn is_idle(&self, lane: &str) -> bool {
        let lane = self.lanes.iter().find(|one| one.name == lane);
        lane.is_none_or(|lane| {
            lane.queue.requests == 0 && lane.replicas.iter().all(|replica| replica.in_flight == 0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_tells_who_is_busy() {
        let text = r#"{"version": "x", "lanes": [{"name": "a", "queue": {"requests": 0, "gap": 1},
            "replicas": [{"id": 3, "in_flight": 2}, {"id": 4, "in_flight": 0}], "tenants": []},
            {"name": "b", "queue": {"requests": 1}, "replicas": []},
            {"name": "c", "queue": {"requests": 0}, "replicas": []}]}"#;
        let load: Load = serde_json::from_str(text).unwrap();
        let check = |lane: &str, replica: u32, in_flight: u64, idle: bool| {
            let found = (load.in_flight(lane, ReplicaId(replica)), load.is_idle(lane));
            assert_eq!(found, (in_flight, idle), "{lane} {replica}");
        };
        check("a", 3, 2, false);
        check("a", 4, 0, false);
        check("b", 3, 0, false);
        check("c", 3, 0, true);
        check("gone", 3, 0, true);
    }

    #[test]
    fn the_status_tells_what_replicas_run_on() {
        let text = r#"{"lanes": [{"name": "a", "queue": {"requests": 0}, "replicas": [
            {"id": 1, "name": "r", "up": true, "in_flight": 0, "hardware": "l4", "accelerators": 2, "price_per_hour": 1.4},
            {"id": 2, "name": "s", "up": true, "in_flight": 0, "hardware": null, "price_per_hour": null},
            {"id": 3, "name": "t", "up": false, "in_flight": 0, "hardware": "l4"}]}]}"#;
        let load: Load = serde_json::from_str(text).unwrap();
        let told: Vec<_> = load
            .up()
            .map(|one| (one.name, one.hardware, one.accelerators, one.micros_per_hour))
            .collect();
        assert_eq!(told, [("r", "l4", 2, Some(1_400_000)), ("s", "", 1, None)]);
    }
}
