//! The certificate that operators share, and what the API server is told of it.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use pilotage_cluster::Limits;
use pilotage_cluster::serve::Server;
use pilotage_operator::scaling::{Registration, RegistrationError};
use pilotage_shell::certificate::{Certificate, Validity};
use pilotage_shell::clock::Clock;
use pilotage_shell::tasks;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

struct Cluster {
    client: Client,
}

impl Cluster {
    async fn new() -> Self {
        let server = Server::starting_at(1_767_225_600_000, Limits::default(), 3);
        let client = Client::new(server.connect(""), "pilotage");
        let cluster = Self { client };
        for name in ["pilotage", "kube-system"] {
            let namespaces: Api<k8s_openapi::api::core::v1::Namespace> =
                Api::all(cluster.client.clone());
            let namespace = json!({ "metadata": { "name": name } });
            let made = serde_json::from_value(namespace).unwrap();
            let _ = namespaces.create(&PostParams::default(), &made).await;
        }
        cluster
    }

    /// Says how extensions know the API server.
    async fn says(&self, data: Value) {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), "kube-system");
        let map =
            json!({ "metadata": { "name": "extension-apiserver-authentication" }, "data": data });
        maps.create(&PostParams::default(), &serde_json::from_value(map).unwrap()).await.unwrap();
    }

    async fn register(&self, service: &str) {
        let spec = json!({ "group": "external.metrics.k8s.io", "version": "v1beta1",
            "groupPriorityMinimum": 100, "versionPriority": 100,
            "service": { "name": service, "namespace": "pilotage", "port": 443 } });
        let api =
            json!({ "metadata": { "name": "v1beta1.external.metrics.k8s.io" }, "spec": spec });
        let made = serde_json::from_value(api).unwrap();
        self.apis().create(&PostParams::default(), &made).await.unwrap();
    }

    fn apis(&self) -> Api<APIService> {
        Api::all(self.client.clone())
    }

    async fn bundle(&self) -> Option<Vec<u8>> {
        let api = self.apis().get("v1beta1.external.metrics.k8s.io").await.unwrap();
        api.spec.unwrap().ca_bundle.map(|bundle| bundle.0)
    }

    async fn held(&self) -> std::collections::BTreeMap<String, String> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), "pilotage");
        let data = secrets.get("pilotage-metrics-api").await.unwrap().data.unwrap();
        data.into_iter().map(|(name, bytes)| (name, String::from_utf8(bytes.0).unwrap())).collect()
    }

    fn registration(&self) -> Registration {
        Registration::new(self.client.clone(), "pilotage".into(), Clock::start())
    }
}

fn front_proxy() -> Value {
    let validity = Validity { from: 1_700_000_000, until: 2_400_000_000 };
    let authority = Certificate::authority("front-proxy-ca", validity).unwrap();
    json!({
        "requestheader-client-ca-file": authority.certificate,
        "requestheader-allowed-names": "[\"front-proxy-client\"]",
    })
}

#[tokio::test(start_paused = true)]
async fn operators_share_a_certificate_and_renew_it() {
    let cluster = Cluster::new().await;
    cluster.says(front_proxy()).await;
    cluster.register("pilotage-operator").await;
    let certificates = cluster.registration().certificates().await.unwrap();
    let held = cluster.held().await;
    cluster.registration().certificates().await.unwrap();
    assert_eq!(cluster.held().await, held, "the second takes what the first made");
    let stop = CancellationToken::new();
    drop(tasks::spawn("keep", cluster.registration().keep(certificates, stop.clone())));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(cluster.bundle().await.unwrap(), held["ca.crt"].as_bytes());
    // Most of its time is over: another one by the same authority, of which the API server need not be told.
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), "pilotage");
    let soon = json!({ "data": { "tls.until": "MQ==" } });
    let params = PatchParams::default();
    secrets.patch("pilotage-metrics-api", &params, &Patch::Merge(soon)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(61)).await;
    let renewed = cluster.held().await;
    assert_ne!(renewed["tls.crt"], held["tls.crt"]);
    assert_eq!((&renewed["ca.crt"], &renewed["ca.until"]), (&held["ca.crt"], &held["ca.until"]));
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn who_cannot_be_told_from_others_is_not_served() {
    let cluster = Cluster::new().await;
    let error = cluster.registration().certificates().await.unwrap_err();
    assert!(matches!(error, RegistrationError::Refused(_)), "{error}");
    cluster.says(json!({ "client-ca-file": "" })).await;
    let error = cluster.registration().certificates().await.unwrap_err();
    assert!(matches!(error, RegistrationError::NoAggregation(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_api_of_others_is_left_alone() {
    let cluster = Cluster::new().await;
    cluster.says(front_proxy()).await;
    cluster.register("keda-operator-metrics-apiserver").await;
    let registration = cluster.registration();
    let certificates = registration.certificates().await.unwrap();
    let stop = CancellationToken::new();
    drop(tasks::spawn("keep", registration.keep(certificates, stop.clone())));
    tokio::time::sleep(Duration::from_secs(130)).await;
    assert_eq!(cluster.bundle().await, None);
    stop.cancel();
}
