//! What was said when Pilotage was installed: kept at its operator's Deployment, so that who installs again and
//! says less changes nothing by that.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The annotation of the operator's Deployment with what was said, as JSON.
pub(super) const SAID: &str = "pilotage.dev/installed-with";

/// Flags of an installation, as far as somebody said them.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Said {
    /// Whether the resources of its own namespace alone are looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaced: Option<bool>,
    /// Gateways at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateways_min: Option<u32>,
    /// Gateways at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateways_max: Option<u32>,
    /// Whether a load balancer leads to the gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<bool>,
    /// Whether HorizontalPodAutoscalers are told numbers of copies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_metrics: Option<bool>,
    /// Whether Models without a digest are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub require_digest: Option<bool>,
    /// Whose cluster it is, and its mesh.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overlays: Vec<String>,
    /// An image that is not the release's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Secrets that the image is pulled with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pull_secrets: Vec<String>,
    /// Labels by which Prometheus' operator chooses monitors.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub monitor_labels: BTreeMap<String, String>,
    /// Ports of the API server.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_server_ports: Vec<u16>,
    /// The Secret that names the database of usage, and its entry where that is not the usual one: `NAME` or
    /// `NAME/ENTRY`; `none` for no database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_database_secret: Option<String>,
    /// The port of that database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_database_port: Option<u16>,
}

impl Said {
    /// What holds where this is said now and that was said before, and what of it was said before alone.
    ///
    /// What is of the whole cluster is not taken over into a namespace alone.
    #[must_use]
    pub fn over(self, before: &Self) -> (Self, Self) {
        let goes_small = self.namespaced == Some(true);
        let of_cluster =
            |said: Option<bool>, was: Option<bool>| was.filter(|_| said.is_none() && !goes_small);
        let many = |said: &Vec<String>, was: &Vec<String>| {
            if said.is_empty() { was.clone() } else { Vec::new() }
        };
        let taken = Self {
            namespaced: before.namespaced.filter(|_| self.namespaced.is_none()),
            gateways_min: before.gateways_min.filter(|_| self.gateways_min.is_none()),
            gateways_max: before.gateways_max.filter(|_| self.gateways_max.is_none()),
            load_balancer: before.load_balancer.filter(|_| self.load_balancer.is_none()),
            external_metrics: of_cluster(self.external_metrics, before.external_metrics),
            require_digest: of_cluster(self.require_digest, before.require_digest),
            overlays: many(&self.overlays, &before.overlays),
            image: before.image.clone().filter(|_| self.image.is_none()),
            pull_secrets: many(&self.pull_secrets, &before.pull_secrets),
            monitor_labels: match self.monitor_labels.is_empty() {
                true => before.monitor_labels.clone(),
                false => BTreeMap::new(),
            },
            api_server_ports: match self.api_server_ports.is_empty() {
                true => before.api_server_ports.clone(),
                false => Vec::new(),
            },
            usage_database_secret: before
                .usage_database_secret
                .clone()
                .filter(|_| self.usage_database_secret.is_none()),
            usage_database_port: before
                .usage_database_port
                .filter(|_| self.usage_database_port.is_none()),
        };
        let all = Self {
            namespaced: self.namespaced.or(taken.namespaced),
            gateways_min: self.gateways_min.or(taken.gateways_min),
            gateways_max: self.gateways_max.or(taken.gateways_max),
            load_balancer: self.load_balancer.or(taken.load_balancer),
            external_metrics: self.external_metrics.or(taken.external_metrics),
            require_digest: self.require_digest.or(taken.require_digest),
            overlays: [self.overlays, taken.overlays.clone()].concat(),
            image: self.image.or_else(|| taken.image.clone()),
            pull_secrets: [self.pull_secrets, taken.pull_secrets.clone()].concat(),
            monitor_labels: self
                .monitor_labels
                .into_iter()
                .chain(taken.monitor_labels.clone())
                .collect(),
            api_server_ports: [self.api_server_ports, taken.api_server_ports.clone()].concat(),
            usage_database_secret: self
                .usage_database_secret
                .or_else(|| taken.usage_database_secret.clone()),
            usage_database_port: self.usage_database_port.or(taken.usage_database_port),
        };
        (all, taken)
    }

    /// The flags that say it.
    pub fn flags(&self) -> Vec<String> {
        let yes_or_no = |name: &str, said: Option<bool>| match said {
            Some(true) => Some(format!("--{name}")),
            Some(false) => Some(format!("--{name}=false")),
            None => None,
        };
        let number = |name: &str, said: Option<u32>| said.map(|said| format!("--{name} {said}"));
        let single = [
            yes_or_no("namespaced", self.namespaced),
            number("gateways-min", self.gateways_min),
            number("gateways-max", self.gateways_max),
            yes_or_no("load-balancer", self.load_balancer),
            yes_or_no("external-metrics", self.external_metrics),
            yes_or_no("require-digest", self.require_digest),
            self.image.as_ref().map(|image| format!("--image {image}")),
            self.usage_database_secret
                .as_ref()
                .map(|secret| format!("--usage-database-secret {secret}")),
            number("usage-database-port", self.usage_database_port.map(u32::from)),
        ];
        let overlays = self.overlays.iter().map(|name| format!("--overlay {name}"));
        let secrets = self.pull_secrets.iter().map(|name| format!("--image-pull-secret {name}"));
        let labels = self.monitor_labels.iter();
        let labels = labels.map(|(key, value)| format!("--monitor-label {key}={value}"));
        let ports = self.api_server_ports.iter().map(|port| format!("--api-server-port {port}"));
        let many = overlays.chain(secrets).chain(labels).chain(ports);
        single.into_iter().flatten().chain(many).collect()
    }

    /// Writes it down at the operator's Deployment.
    pub(super) fn write(&self, deployment: &mut Value) {
        let text = serde_json::to_string(self).unwrap_or_default();
        deployment["metadata"]["annotations"][SAID] = text.into();
    }

    /// What is written down there; where nothing is, what can be seen of it. `own` is the release's own image,
    /// without its tag.
    pub(super) fn read(deployment: &Value, own: &str) -> Self {
        let text = deployment["metadata"]["annotations"][SAID].as_str();
        if let Some(said) = text.and_then(|text| serde_json::from_str(text).ok()) {
            return said;
        }
        let args = &deployment["spec"]["template"]["spec"]["containers"][0]["args"];
        let args = args.as_array().into_iter().flatten().filter_map(Value::as_str);
        let args: Vec<&str> = args.collect();
        let mut said = Self::default();
        for pair in args.windows(2) {
            match *pair {
                ["--namespace", _] => said.namespaced = Some(true),
                ["--metrics-api-listen", _] => said.external_metrics = Some(true),
                ["--overlay", name] => said.overlays.push(name.to_owned()),
                ["--image", image] if !image.starts_with(own) => {
                    said.image = Some(image.to_owned());
                }
                _ => {}
            }
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_said_is_as_before() {
        let before = Said {
            external_metrics: Some(true),
            load_balancer: Some(true),
            gateways_min: Some(3),
            overlays: vec!["eks".to_owned(), "istio".to_owned()],
            pull_secrets: vec!["registry".to_owned()],
            usage_database_secret: Some("usage/dsn".to_owned()),
            usage_database_port: Some(6432),
            ..Said::default()
        };
        let (all, taken) = Said::default().over(&before);
        assert_eq!((&all, &taken), (&before, &before));
        assert_eq!(
            taken.flags().join(" "),
            "--gateways-min 3 --load-balancer --external-metrics --usage-database-secret usage/dsn \
             --usage-database-port 6432 --overlay eks --overlay istio --image-pull-secret registry"
        );
        let now = Said {
            load_balancer: Some(false),
            overlays: vec!["gke".to_owned()],
            ..Said::default()
        };
        let (all, taken) = now.over(&before);
        assert_eq!((all.load_balancer, all.gateways_min), (Some(false), Some(3)));
        assert_eq!((all.overlays, taken.overlays.len()), (vec!["gke".to_owned()], 0));
        // A namespace alone has nothing of the whole cluster.
        let now = Said { namespaced: Some(true), ..Said::default() };
        let (all, _) = now.over(&before);
        assert_eq!((all.external_metrics, all.load_balancer), (None, Some(true)));
    }

    #[test]
    fn it_is_read_as_it_was_written_or_seen() {
        let said = Said {
            namespaced: Some(true),
            monitor_labels: [("release".to_owned(), "prometheus".to_owned())].into(),
            api_server_ports: vec![16443],
            ..Said::default()
        };
        let mut deployment = json!({ "metadata": {} });
        said.write(&mut deployment);
        assert_eq!(Said::read(&deployment, "h/pilotage:"), said);
        let args = [
            "operator",
            "--metrics-api-listen",
            "0.0.0.0:6443",
            "--image",
            "h/pilotage:0.1",
            "--overlay",
            "eks",
        ];
        let container = json!({ "args": args });
        let deployment =
            json!({ "spec": { "template": { "spec": { "containers": [container] } } } });
        let seen = Said::read(&deployment, "h/pilotage:");
        assert_eq!(seen.flags().join(" "), "--external-metrics --overlay eks");
        assert_eq!(Said::read(&deployment, "i/pilotage:").image.as_deref(), Some("h/pilotage:0.1"));
    }
}
