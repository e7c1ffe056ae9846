//! The clients that operators are made of, against the cluster in memory: what works here has to
//! work as it does with a real server.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a failure ends the test")]

mod clients;
mod operators;
mod watchers;

use kube::{Client, CustomResource};
use pilotage_cluster::Limits;
use pilotage_cluster::serve::Server;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A kind of an operator.
#[derive(CustomResource, Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[kube(group = "example.org", version = "v1", kind = "Model", namespaced, status = "ModelStatus")]
#[kube(scale(spec_replicas_path = ".spec.replicas", status_replicas_path = ".status.replicas"))]
#[serde(rename_all = "camelCase")]
struct ModelSpec {
    from: String,
    #[serde(default)]
    replicas: i32,
    note: Option<String>,
}

/// What an operator says of it.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct ModelStatus {
    #[serde(default)]
    replicas: i32,
    observed_generation: Option<i64>,
}

/// A cluster, and an administrator's client of it.
fn cluster() -> (Server, Client) {
    let server = Server::starting_at(1_767_225_600_000, Limits::default(), 3);
    let client = client(&server, "");
    (server, client)
}

fn client(server: &Server, user: &str) -> Client {
    Client::new(server.connect(user), "default")
}

/// The status of what was refused.
fn refused<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> Box<kube::core::Status> {
    match result {
        Err(kube::Error::Api(status)) => status,
        other => panic!("not refused: {other:?}"),
    }
}
