//! What loops beside the reconciler need to know of a Model's pods: where they are and since when.

use serde_json::Value;

use super::observed::REVISION;
use crate::Timestamp;
use crate::render::kubernetes::ADAPTERS_PORT_NAME;

/// A pod of a Model, as others need to know of it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PodOf {
    /// Its name.
    pub name: String,
    /// Its address, once it has one.
    pub address: Option<String>,
    /// Where it listens for requests.
    pub port: Option<u16>,
    /// Where it says how far its adapters are, if any are loaded there while it runs.
    pub adapters_port: Option<u16>,
    /// When it was made, in seconds since 1970.
    pub made_s: u64,
    /// Since when it takes requests, if it does.
    pub ready_s: Option<u64>,
    /// Whether no node has room for it.
    pub is_unplaced: bool,
    /// Whether it is on its way out.
    pub is_deleted: bool,
    /// Whether it is one of those that take requests, and not one that computes along.
    pub serves: bool,
    /// The version of the Model that it is of, where its versions are told apart.
    pub revision: Option<String>,
}

impl PodOf {
    /// What others need to know of a pod.
    pub(super) fn read(name: &str, pod: &Value) -> Self {
        let seconds = |text: &Value| {
            let moment = text.as_str()?.parse::<Timestamp>().ok()?;
            Some(moment.unix_seconds())
        };
        let status = &pod["status"];
        let conditions = || status["conditions"].as_array().into_iter().flatten();
        let ready = conditions().find(|one| one["type"] == "Ready" && one["status"] == "True");
        let is_unplaced = conditions()
            .any(|one| one["type"] == "PodScheduled" && one["reason"] == "Unschedulable");
        let port = |of: &str, name: &str| {
            let containers = pod["spec"][of].as_array().into_iter().flatten();
            let mut ports =
                containers.flat_map(|one| one["ports"].as_array().into_iter().flatten());
            let port = ports.find(|port| port["name"] == name)?;
            u16::try_from(port["containerPort"].as_u64()?).ok()
        };
        let metadata = &pod["metadata"];
        Self {
            name: name.to_owned(),
            address: status["podIP"].as_str().map(str::to_owned),
            port: port("containers", "http"),
            adapters_port: port("initContainers", ADAPTERS_PORT_NAME),
            made_s: seconds(&metadata["creationTimestamp"]).unwrap_or_default(),
            ready_s: ready.and_then(|one| seconds(&one["lastTransitionTime"])),
            is_unplaced,
            is_deleted: metadata["deletionTimestamp"].is_string(),
            serves: metadata["labels"]["pilotage.dev/role"] != "works",
            revision: metadata["labels"][REVISION].as_str().map(str::to_owned),
        }
    }

    /// Where it is asked.
    pub fn url(&self) -> Option<String> {
        self.at(self.port?)
    }

    /// Where it is asked how far its adapters are.
    pub fn adapters_url(&self) -> Option<String> {
        self.at(self.adapters_port?)
    }

    fn at(&self, port: u16) -> Option<String> {
        let address = self.address.as_ref()?;
        let is_six = address.contains(':');
        Some(if is_six {
            format!("http://[{address}]:{port}")
        } else {
            format!("http://{address}:{port}")
        })
    }
}
