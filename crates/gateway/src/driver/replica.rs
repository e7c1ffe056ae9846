//! A replica as the gateway knows it: where it is, how it is spoken with, and what it runs on.

use pilotage_core::Capacity;
use pilotage_core::traffic::Name;
use pilotage_lens::triage::evidence::Accelerator;
use pilotage_shell::client::Client;
use pilotage_shell::secret::Secret;
use pilotage_wire::dialect::{Dialect, Own};
use serde::Serialize;

use crate::reports::HealthCheck;

/// How a cluster calls a replica that is a pod.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct PodName {
    /// Its namespace; empty where nobody says it.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its node; empty where nobody says it.
    pub node: String,
}

/// Where an attempt goes.
#[derive(Debug)]
pub struct Replica {
    /// Its name.
    pub name: Name,
    /// The version of its server, where that is known.
    pub runtime_version: Option<Name>,
    /// The class of its hardware, such as `h100-sxm`, where that is known.
    pub hardware: Option<Name>,
    /// Its accelerators, on all of its nodes; one for a processor.
    pub accelerators: u32,
    /// What one of them can do by its data sheet, where there is one.
    pub sheet: Accelerator,
    /// What it costs an hour, in millionths of the currency's unit, where its Fleet or manifest says so.
    pub micros_per_hour: Option<u64>,
    /// What its accelerators are found by: their numbers or UUIDs on this machine.
    pub devices: Vec<String>,
    /// The pod that it is, where it is one.
    pub pod: Option<PodName>,
    /// Scheme, host and port, without a slash at the end.
    pub url: String,
    /// The key it asks for.
    pub key: Option<Secret>,
    /// Which server it is.
    pub dialect: Dialect,
    /// The API of its own that requests are told in, where it has not OpenAI's.
    pub own: Option<Own>,
    /// What it can take at once.
    pub capacity: Capacity,
    /// Whether the KV tokens of that are assumed, so that its own word counts more.
    pub assumes_kv: bool,
    /// The region it is in.
    pub region: Option<Name>,
    /// The zone inside of that.
    pub zone: Option<String>,
    /// Whether that is another one than the gateway's.
    pub crosses_zones: bool,
    /// Where it publishes what its KV cache holds: `tcp://HOST:PORT`.
    pub kv_events: Option<String>,
    /// What speaks with it, where it is trusted by other certificates than the system's.
    pub client: Option<Client>,
    /// How it is asked whether it is well.
    pub health: HealthCheck,
    /// The path at which it tells how full it is, below its URL, or an address of its own.
    pub metrics: Option<String>,
    /// Whose metrics those are.
    pub metrics_of: Dialect,
    /// Whether it is asked by which name it serves its model, as nobody said that.
    pub finds_name: bool,
    /// Whether it is a gateway of another region, which has replicas of its own.
    pub is_gateway: bool,
}

impl Replica {
    /// The server that it is, as manifests name it; none where that is not known.
    pub(crate) const fn runtime(&self) -> Option<&'static str> {
        match self.dialect {
            Dialect::Auto => None,
            dialect => Some(dialect.name()),
        }
    }

    /// One of which no more is known than what it can take.
    pub fn at(name: impl Into<Name>, url: impl Into<String>, capacity: Capacity) -> Self {
        let (name, url) = (name.into(), url.into());
        Self {
            name,
            runtime_version: None,
            hardware: None,
            accelerators: 1,
            sheet: Accelerator::default(),
            micros_per_hour: None,
            devices: Vec::new(),
            pod: None,
            url,
            key: None,
            dialect: Dialect::Auto,
            own: None,
            capacity,
            assumes_kv: false,
            region: None,
            zone: None,
            crosses_zones: false,
            kv_events: None,
            client: None,
            health: HealthCheck::default(),
            metrics: Some("/metrics".to_owned()),
            metrics_of: Dialect::Auto,
            finds_name: false,
            is_gateway: false,
        }
    }

    /// What speaks with it: its own client, or everybody's.
    pub(crate) fn client<'a>(&'a self, everybodys: &'a Client) -> &'a Client {
        self.client.as_ref().unwrap_or(everybodys)
    }
}
