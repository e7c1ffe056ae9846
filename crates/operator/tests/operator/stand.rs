//! A cluster with a Model, gateways that say what they are told to, and engines that do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use parking_lot::Mutex;
use pilotage_cluster::Limits;
use pilotage_cluster::serve::Server;
use pilotage_cluster::world::World;
use pilotage_core::scale::{Report, Running, Seen, Signals, Speed, Waiting, Work};
use pilotage_core::{Band, Span, Time};
use pilotage_operator::scaling::{
    Ask, Asleep, Board, Conduct, GatewayView, Known, ModelView, PodView, ReachError, View,
    Workload, WorkloadKind,
};
use pilotage_plan::Resource;
use pilotage_plan::api::ScaleBy;
use pilotage_plan::api::status::ModelScaling;
use pilotage_shell::clock::Clock;
use pilotage_shell::secret::Secret;
use pilotage_shell::tasks;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// What a gateway says; none where it is silent.
pub(crate) type Script = Arc<Mutex<BTreeMap<String, Option<Told>>>>;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    pub(crate) rate: f64,
    pub(crate) waiting: f64,
}

pub(crate) struct Stand {
    pub(crate) server: Server,
    pub(crate) client: Client,
    pub(crate) script: Script,
    pub(crate) engines: Arc<Engines>,
}

/// What engines were told.
#[derive(Default)]
pub(crate) struct Engines {
    script: Script,
    pub(crate) told: Mutex<Vec<(Asleep, Option<String>)>>,
    pub(crate) refuse: AtomicBool,
}

/// One operator's pod.
pub(crate) struct Pilot {
    pub(crate) known: Arc<Listing>,
    pub(crate) board: Board,
    stop: CancellationToken,
}

/// Lists what there is whenever it is asked.
pub(crate) struct Listing {
    client: Client,
    script: Script,
    pub(crate) leads: AtomicBool,
}

pub(crate) fn models() -> ApiResource {
    ApiResource {
        group: "pilotage.dev".into(),
        version: "v1alpha1".into(),
        api_version: "pilotage.dev/v1alpha1".into(),
        kind: "Model".into(),
        plural: "models".into(),
    }
}

impl Stand {
    /// A Model with so many copies that are ready, and so many gateways with nothing to do.
    pub(crate) async fn new(scaling: Value, replicas: u32, gateways: usize) -> Self {
        let server = Server::starting_at(1_767_225_600_000, Limits::default(), 3);
        let client = Client::new(server.connect(""), "default");
        let told = (0..gateways).map(|at| (format!("http://g{at}"), Some(Told::default())));
        let script: Script = Arc::new(Mutex::new(told.collect()));
        let engines = Arc::new(Engines { script: Arc::clone(&script), ..Engines::default() });
        let stand = Self { server, client, script, engines };
        stand.furnish(scaling, replicas).await;
        let world = stand.server.clone();
        drop(tasks::spawn("world", async move {
            let mut around = World::default();
            loop {
                world.with(|cluster, now_ms| around.step(now_ms, cluster));
                pause(Duration::from_millis(500)).await;
            }
        }));
        stand.run(10).await;
        stand
    }

    async fn furnish(&self, scaling: Value, replicas: u32) {
        let post = PostParams::default();
        let definitions = ApiResource {
            group: "apiextensions.k8s.io".into(),
            version: "v1".into(),
            api_version: "apiextensions.k8s.io/v1".into(),
            kind: "CustomResourceDefinition".into(),
            plural: "customresourcedefinitions".into(),
        };
        let all: Api<DynamicObject> = Api::all_with(self.client.clone(), &definitions);
        for definition in pilotage_plan::crd::all() {
            all.create(&post, &serde_json::from_value(definition).unwrap()).await.unwrap();
        }
        let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n" },
            "status": { "allocatable": { "cpu": "64", "memory": "64Gi", "pods": "110" } } });
        let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(self.client.clone());
        nodes.create(&post, &serde_json::from_value(node).unwrap()).await.unwrap();
        let model = json!({
            "apiVersion": "pilotage.dev/v1alpha1", "kind": "Model", "metadata": { "name": "m" },
            "spec": { "source": "hf:o/r", "runtime": "vllm", "scaling": scaling },
        });
        self.models().create(&post, &serde_json::from_value(model).unwrap()).await.unwrap();
        let labels = json!({ "pilotage.dev/model": "m", "pilotage.dev/role": "serves" });
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "m" },
            "spec": {
                "replicas": replicas,
                "selector": { "matchLabels": labels },
                "template": { "metadata": { "labels": labels },
                    "spec": { "containers": [{ "name": "engine", "image": "x" }] } },
            },
        });
        self.deployments()
            .create(&post, &serde_json::from_value(deployment).unwrap())
            .await
            .unwrap();
    }

    /// A view of a cluster with the Model `m` alone, of which so many are wanted.
    pub(crate) fn view_of(wanted: u32) -> View {
        let text = "{apiVersion: pilotage.dev/v1alpha1, kind: Model, metadata: {name: m}, spec: {source: 'hf:o/r', runtime: vllm, scaling: {max: 9}}}";
        let Resource::Model(read) = pilotage_plan::parse("m.yaml", text).unwrap().remove(0) else {
            panic!("not a Model")
        };
        let model = ModelView {
            namespace: "default".into(),
            name: "m".into(),
            uid: "u".into(),
            spec: Arc::new(read.spec),
            fleet: None,
            by: ScaleBy::Pilotage,
            workload: None,
            pods: Vec::new(),
            said: Some(ModelScaling { wanted, ..ModelScaling::default() }),
        };
        View { models: [model].into(), gateways: Vec::new() }
    }

    pub(crate) fn models(&self) -> Api<DynamicObject> {
        Api::default_namespaced_with(self.client.clone(), &models())
    }

    fn deployments(&self) -> Api<Deployment> {
        Api::default_namespaced(self.client.clone())
    }

    /// Starts an operator's pod.
    pub(crate) fn pilot(&self, leads: bool) -> Pilot {
        let known = Arc::new(Listing {
            client: self.client.clone(),
            script: Arc::clone(&self.script),
            leads: AtomicBool::new(leads),
        });
        let (board, stop) = (Board::default(), CancellationToken::new());
        let (kept, ask) = (Arc::clone(&known), Arc::clone(&self.engines));
        let conduct =
            Conduct::new(self.client.clone(), Some("operator-0".into()), kept, ask, board.clone());
        drop(tasks::spawn("conduct", conduct.run(stop.clone())));
        Pilot { known, board, stop }
    }

    pub(crate) async fn run(&self, seconds: u64) {
        pause(Duration::from_secs(seconds)).await;
    }

    pub(crate) fn all(&self, told: Option<Told>) {
        self.script.lock().values_mut().for_each(|gateway| *gateway = told);
    }

    /// What the workload is told.
    pub(crate) async fn replicas(&self) -> i32 {
        self.deployments().get("m").await.unwrap().spec.unwrap().replicas.unwrap()
    }

    pub(crate) async fn status(&self) -> Option<ModelScaling> {
        let model = self.models().get("m").await.unwrap();
        serde_json::from_value(model.data["status"]["scaling"].clone()).ok()
    }

    /// What events told, oldest first.
    pub(crate) async fn events(&self) -> Vec<(String, String)> {
        let events: Api<k8s_openapi::api::events::v1::Event> =
            Api::default_namespaced(self.client.clone());
        let mut all = events.list(&ListParams::default()).await.unwrap().items;
        all.sort_by_key(|event| event.event_time.clone().map(|time| time.0));
        let text = |text: Option<String>| text.unwrap_or_default();
        all.into_iter().map(|event| (text(event.reason), text(event.note))).collect()
    }

    pub(crate) async fn change(&self, scaling: Value) {
        let patch = json!({ "spec": { "scaling": scaling } });
        self.models().patch("m", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// Changes of objects since the last time that was asked.
    pub(crate) fn changes(&self) -> usize {
        self.server.with(|cluster, _| {
            let count = cluster.records().changes();
            cluster.records().take();
            count
        })
    }
}

impl Pilot {
    pub(crate) fn lead(&self, leads: bool) {
        self.known.leads.store(leads, Ordering::SeqCst);
    }

    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }
}

impl Known for Listing {
    async fn view(&self) -> View {
        let listed = ListParams::default();
        let models: Api<DynamicObject> =
            Api::default_namespaced_with(self.client.clone(), &models());
        let deployments: Api<Deployment> = Api::default_namespaced(self.client.clone());
        let pods: Api<Pod> = Api::default_namespaced(self.client.clone());
        let deployment = deployments.get("m").await.unwrap();
        let pods = pods.list(&listed).await.unwrap().items;
        let mut all = Vec::new();
        for model in models.list(&listed).await.unwrap() {
            let text = json!({ "apiVersion": "pilotage.dev/v1alpha1", "kind": "Model",
                "metadata": { "name": "m" }, "spec": model.data["spec"] });
            let read = pilotage_plan::parse("m.yaml", &text.to_string()).unwrap().remove(0);
            let Resource::Model(read) = read else { panic!("not a Model") };
            let by = read.spec.scaling.map_or(ScaleBy::Pilotage, |scaling| scaling.by);
            all.push(ModelView {
                namespace: "default".into(),
                name: model.name_any(),
                uid: model.uid().unwrap(),
                spec: Arc::new(read.spec),
                fleet: None,
                by,
                workload: Some(Workload {
                    kind: WorkloadKind::Deployment,
                    name: "m".into(),
                    replicas: deployment.spec.clone().unwrap().replicas.unwrap() as u32,
                }),
                pods: pods.iter().map(seen).collect(),
                said: serde_json::from_value(model.data["status"]["scaling"].clone()).ok(),
            });
        }
        let urls: Vec<String> = self.script.lock().keys().cloned().collect();
        let gateways = urls.into_iter().map(|url| GatewayView { uid: url.clone(), url });
        View { models: all.into(), gateways: gateways.collect() }
    }

    fn leads(&self) -> bool {
        self.leads.load(Ordering::SeqCst)
    }
}

/// Until it is so much later: in tests whose time is paused, at once.
async fn pause(span: Duration) {
    let clock = Clock::start();
    clock.sleep_until_nanos(span.as_nanos() as u64).await;
}

fn seen(pod: &Pod) -> PodView {
    let status = pod.status.clone().unwrap_or_default();
    let ready = status.conditions.iter().flatten().find(|one| one.type_ == "Ready");
    let ready = ready.filter(|one| one.status == "True");
    let ms = |time: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Time| {
        time.0.as_millisecond() as u64
    };
    PodView {
        name: pod.name_any(),
        url: status.pod_ip.map(|ip| format!("http://{ip}:8000")),
        made_ms: ms(pod.metadata.creation_timestamp.as_ref().unwrap()),
        ready_ms: ready.and_then(|one| one.last_transition_time.as_ref()).map(ms),
        is_unplaced: false,
        is_ending: pod.metadata.deletion_timestamp.is_some(),
    }
}

impl Ask for Engines {
    async fn report(&self, url: &str) -> Result<Report, ReachError> {
        let told = self.script.lock().get(url).copied().flatten();
        told.map(report).ok_or_else(|| ReachError::Answer("silent".into()))
    }

    async fn rest(&self, _: &str, key: Option<&Secret>, asleep: Asleep) -> Result<(), ReachError> {
        if self.refuse.load(Ordering::SeqCst) {
            return Err(ReachError::Answer("no".into()));
        }
        self.told.lock().push((asleep, key.map(|key| key.expose().to_owned())));
        Ok(())
    }
}

/// What a gateway says of `m`, all of it just seen.
fn report(told: Told) -> Report {
    let now = Time::from_millis(1_000_000);
    let work = Work { requests: 1.0, prompt: 1000.0, answer: 100.0 };
    let bands = |count: f64| {
        let mut bands = [Work::default(); Band::ALL.len()];
        bands[1] = work * count;
        bands
    };
    let waiting = bands(told.waiting).map(|work| Waiting { work, oldest: Span::ZERO });
    let speed = Speed {
        token_seconds: 1e-4,
        step_seconds: 0.02,
        sequence_seconds: 1e-3,
        sequences_max: 8,
        kv_tokens: None,
    };
    let signals = Signals {
        arrivals: Some(Seen::new(now, bands(told.rate))),
        waiting: Some(Seen::new(now, waiting)),
        running: Some(Seen::new(now, Running { requests: told.rate, tokens: 0.0 })),
        speed: Some(Seen::new(now, speed)),
        ..Signals::default()
    };
    Report::of(now, "g", [("m", signals, |_| None)])
}
