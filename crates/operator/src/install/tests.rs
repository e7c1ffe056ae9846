//! Installing into a cluster in memory, with time that stands still.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request};
use kube::Client;
use parking_lot::Mutex;
use pilotage_cluster::Limits;
use pilotage_cluster::fault::{Fault, Meets, Trouble};
use pilotage_cluster::serve::Server;
use pilotage_cluster::world::World as Players;
use pilotage_plan::crd;
use pilotage_plan::render::kubernetes::install::Installation;
use pilotage_shell::tasks;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Done, InstallError, Installer, MANAGER, Said, Told, Wish};
use crate::kubernetes::{Change, Deed};

mod others;

/// A cluster with a node and its controllers, and what was told.
struct Ground {
    server: Server,
    players: Arc<Mutex<Players>>,
    told: Arc<Mutex<Vec<String>>>,
}

impl Ground {
    async fn new() -> Self {
        let server = Server::starting_at(1_767_225_600_000, Limits::default(), 3);
        let ground = Self { server, players: Arc::default(), told: Arc::default() };
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}});
        ground.ask(Method::POST, "/api/v1/nodes", "application/json", &node).await.unwrap();
        let (server, players) = (ground.server.clone(), Arc::clone(&ground.players));
        tasks::spawn("players", async move {
            loop {
                server.with(|cluster, now_ms| players.lock().step(now_ms, cluster));
                sleep(Duration::from_millis(200)).await;
            }
        });
        ground
    }

    fn installer(&self) -> Installer {
        let told = Arc::clone(&self.told);
        let client = Client::new(self.server.connect("admin"), "default");
        Installer::new(client, Box::new(move |text| told.lock().push(text.to_owned())))
    }

    async fn install(&self, wish: &Wish) -> Result<Done, InstallError> {
        self.installer().install(wish).await
    }

    async fn preview(&self, wish: &Wish) -> Vec<Change> {
        self.installer().preview(wish).await.unwrap()
    }

    async fn ask(
        &self,
        method: Method,
        target: &str,
        content: &str,
        body: &Value,
    ) -> Result<Value, kube::Error> {
        let request = Request::builder().method(method).uri(target).header("content-type", content);
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let client = Client::new(self.server.connect(""), "default");
        client.request(request.body(body).unwrap()).await
    }

    /// What is at a path; null where nothing is.
    async fn get(&self, target: &str) -> Value {
        self.ask(Method::GET, target, "", &Value::Null).await.unwrap_or_default()
    }

    async fn merge(&self, target: &str, change: &Value) {
        let target = format!("{target}?fieldManager=somebody");
        let kind = "application/merge-patch+json";
        self.ask(Method::PATCH, &target, kind, change).await.unwrap();
    }

    /// Kinds and names that were written since it was last asked, in order, and whether that changed something.
    fn written(&self) -> Vec<(String, bool)> {
        let all = self.server.with(|cluster, _| cluster.records().take());
        let own = all.into_iter().filter(|one| one.user == "admin" && one.writes() && !one.dry_run);
        own.filter(|one| !one.resource.contains("review"))
            .map(|one| (format!("{} {}", one.resource, one.name), one.changed))
            .collect()
    }
}

fn wish() -> Wish {
    let installation = Installation { external_metrics: true, ..Installation::default() };
    Wish {
        installation,
        definitions: crd::all(),
        force: false,
        wait: Duration::from_secs(60),
        said: Said::default(),
    }
}

fn deeds(changes: &[Change]) -> BTreeSet<&'static str> {
    changes.iter().map(|change| change.deed().name()).collect()
}

const GATEWAY: &str = "/apis/apps/v1/namespaces/pilotage/deployments/pilotage-gateway";
const KEY: &str = "/api/v1/namespaces/pilotage/secrets/pilotage-admin";
const NAMESPACE: &str = "/api/v1/namespaces/pilotage";

#[tokio::test(start_paused = true)]
async fn an_empty_cluster_is_installed_into_once() {
    let ground = Ground::new().await;
    let all = ground.preview(&wish()).await;
    assert_eq!(deeds(&all), ["make"].into());
    assert_eq!(ground.written(), []);
    let done = ground.install(&wish()).await.unwrap();
    assert_eq!((done.made, done.changed, done.key_made), (wish().objects().len(), 0, true));
    let written: Vec<String> = ground.written().into_iter().map(|(what, _)| what).collect();
    let (first, rest) = written.split_at(6);
    assert_eq!(first[0], "namespaces pilotage");
    assert_eq!(first[1], "secrets ");
    assert!(first[2..].iter().all(|one| one.starts_with("customresourcedefinitions")), "{first:?}");
    assert!(!rest.iter().any(|one| one.starts_with("customresourcedefinitions")), "{rest:?}");
    // Nobody was told the key.
    let key = ground.get(KEY).await["data"]["key"].clone();
    assert!(key.as_str().unwrap().len() > 60);
    let told = ground.told.lock().join("\n");
    assert!(told.contains("Deployment pilotage-gateway: made") && !told.contains("pk-"), "{told}");
    // Again: nothing to be done.
    let again = ground.install(&wish()).await.unwrap();
    assert_eq!(again, Done { kept: done.made, ..Done::default() });
    assert!(ground.written().iter().all(|(_, changed)| !changed));
    assert_eq!(ground.get(KEY).await["data"]["key"], key);
    assert_eq!(deeds(&ground.preview(&wish()).await), ["keep"].into());
}

#[tokio::test(start_paused = true)]
async fn what_others_wrote_is_taken_over_only_where_that_is_said() {
    let ground = Ground::new().await;
    ground.install(&wish()).await.unwrap();
    let image = |image: &str| json!({"spec": {"template": {"metadata": {"labels": {"app.kubernetes.io/part-of": image}}}}});
    ground.merge(GATEWAY, &image("mine")).await;
    let changes = ground.preview(&wish()).await;
    let refused: Vec<&Change> = changes.iter().filter(|one| one.refusal.is_some()).collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].of()[1..], ["Deployment", "pilotage", "pilotage-gateway"]);
    // It is known before others are written, which are applied before it.
    ground.written();
    let mut more = wish();
    more.installation.pull_secrets = vec!["registry".to_owned()];
    more.installation.balanced = true;
    ground.install(&more).await.unwrap_err();
    assert_eq!(ground.written(), []);
    let failed = ground.install(&wish()).await.unwrap_err();
    let InstallError::Conflict { what, message } = &failed else { panic!("{failed}") };
    assert!(what.contains("pilotage-gateway") && message.contains("somebody"), "{failed}");
    assert!(failed.hint().unwrap().contains("--force-conflicts"));
    let forced = Wish { force: true, ..wish() };
    let changes = ground.preview(&forced).await;
    let changed: Vec<&Change> = changes.iter().filter(|one| one.deed() == Deed::Change).collect();
    let lines: Vec<String> =
        changed[0].hunks().iter().flat_map(|hunk| &hunk.lines).map(ToString::to_string).collect();
    assert!(
        lines.iter().any(|line| line.starts_with('-') && line.ends_with("part-of: mine")),
        "{lines:?}"
    );
    assert_eq!(ground.install(&forced).await.unwrap().changed, 1);
    assert_eq!(deeds(&ground.preview(&wish()).await), ["keep"].into());
}

#[tokio::test(start_paused = true)]
async fn what_hinders_is_known_before_anything_is_written() {
    let ground = Ground::new().await;
    let check = async |expect: &str| {
        let failed = ground.install(&wish()).await.unwrap_err();
        assert!(failed.to_string().contains(expect), "{failed}");
        assert!(failed.hint().is_some());
        assert_eq!(ground.written(), [], "{expect}");
    };
    let meets =
        Meets { verbs: vec!["apply"], resource: "clusterroles".to_owned(), ..Meets::default() };
    ground.server.with(|cluster, _| cluster.faults().add(Fault::new(meets, Trouble::Forbidden)));
    check("no right to patch clusterroles").await;
    ground.server.with(|cluster, _| cluster.faults().clear());

    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "rules": [], "metadata":
        {"name": "pilotage-operator", "annotations": {"meta.helm.sh/release-name": "ours"}}});
    ground.ask(Method::POST, roles, "application/json", &role).await.unwrap();
    check("ClusterRole pilotage-operator belongs to the Helm release `ours`").await;
    let target = format!("{roles}/pilotage-operator");
    ground.ask(Method::DELETE, &target, "", &Value::Null).await.unwrap();

    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "pilotage-operator"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "pilotage-operator"},
        "subjects": [{"kind": "ServiceAccount", "name": "pilotage-operator", "namespace": "there"}]});
    ground.ask(Method::POST, bindings, "application/json", &binding).await.unwrap();
    check("in the namespace `there` already").await;
    let target = format!("{bindings}/pilotage-operator");
    ground.ask(Method::DELETE, &target, "", &Value::Null).await.unwrap();

    let mut definition = crd::all().remove(0);
    let mut older = definition["spec"]["versions"][0].clone();
    older["name"] = "v1alpha0".into();
    definition["spec"]["versions"] = json!([older]);
    let target = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    ground.ask(Method::POST, target, "application/json", &definition).await.unwrap();
    check("stores objects as v1alpha0").await;
}

#[tokio::test(start_paused = true)]
async fn what_does_not_come_up_is_said_in_time() {
    let ground = Ground::new().await;
    let image = wish().installation.cluster.image;
    ground.players.lock().nature.no_images.push(image.clone());
    let failed = ground.install(&wish()).await.unwrap_err();
    let InstallError::NotAvailable(why) = &failed else { panic!("{failed}") };
    assert!(why.contains(&format!("pilotage-gateway: the image `{image}` cannot be had")), "{why}");
    let waits = ground.told.lock().iter().filter(|text| text.starts_with("waiting")).count();
    assert!((1..=4).contains(&waits), "{waits}");
    // Who does not want to wait is told that it is there.
    let quick = Wish { wait: Duration::ZERO, ..wish() };
    assert_eq!(ground.install(&quick).await.unwrap().made, 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_behind() {
    let ground = Ground::new().await;
    ground.install(&wish()).await.unwrap();
    let model = json!({"apiVersion": "pilotage.dev/v1alpha1", "kind": "Model", "metadata": {"name": "m"},
        "spec": {"source": "https://h/m.gguf"}});
    let models = "/apis/pilotage.dev/v1alpha1/namespaces/default/models";
    ground.ask(Method::POST, models, "application/json", &model).await.unwrap();
    let installer = ground.installer();
    let found = installer.inventory("pilotage").await.unwrap();
    assert_eq!((found.definitions(), found.resources.get("Model")), (4, Some(&1)));
    assert_eq!(found.stays, None);
    let first: Vec<String> = found.objects().take(2).collect();
    assert!(first.iter().all(|one| one.starts_with("Deployment")), "{first:?}");
    // Models stay with their definitions.
    assert!(installer.remove(&found, false).await.unwrap() > 20);
    assert!(ground.get(&format!("{models}/m")).await.is_object());
    sleep(Duration::from_secs(120)).await;
    assert_eq!(ground.get(NAMESPACE).await, Value::Null);
    assert!(installer.inventory("pilotage").await.unwrap().is_empty());
    // Where one of them is in the namespace itself, that stays.
    ground.install(&wish()).await.unwrap();
    let here = "/apis/pilotage.dev/v1alpha1/namespaces/pilotage/models";
    ground.ask(Method::POST, here, "application/json", &model).await.unwrap();
    let found = installer.inventory("pilotage").await.unwrap();
    assert_eq!(found.stays.as_deref(), Some("Models are in it"));
    installer.remove(&found, true).await.unwrap();
    sleep(Duration::from_secs(120)).await;
    assert_eq!(ground.get(&format!("{here}/m")).await, Value::Null);
    assert!(ground.get(NAMESPACE).await.is_object());
    for list in [
        "apiextensions.k8s.io/v1/customresourcedefinitions",
        "rbac.authorization.k8s.io/v1/clusterroles",
        "rbac.authorization.k8s.io/v1/clusterrolebindings",
        "apps/v1/deployments",
        "apiregistration.k8s.io/v1/apiservices",
    ] {
        let left = ground.get(&format!("/apis/{list}")).await;
        assert_eq!(left["items"], json!([]), "{list}");
    }
}

#[test]
fn its_name_is_not_the_operators() {
    assert_ne!(MANAGER, pilotage_plan::cluster::MANAGER);
}
