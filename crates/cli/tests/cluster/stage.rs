//! A cluster that listens, people's configurations for it, and programs that end with the test.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use http::Method;
use pilotage_cluster::fault::{Fault, Meets, Trouble};
use pilotage_cluster::serve::{Listener, Server};
use pilotage_cluster::{Answer, Call, Limits, Payload};
use pilotage_plan::crd;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long something is awaited.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often one looks whether it is there.
const LOOK: Duration = Duration::from_millis(100);

/// A cluster with our definitions and the namespaces `pilotage`, `team-a` and `team-b`.
pub(crate) struct Stage {
    server: Server,
    listener: Listener,
    folder: TempDir,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let server = Server::new(Limits::default(), 5);
        let listener = server.listen().await.unwrap();
        let stage = Self { server, listener, folder: tempfile::tempdir().unwrap() };
        for definition in crd::all() {
            let target = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
            stage.ask(Method::POST, target, "application/json", &definition).unwrap();
        }
        for name in ["pilotage", "team-a", "team-b"] {
            let namespace =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            stage.ask(Method::POST, "/api/v1/namespaces", "application/json", &namespace).unwrap();
        }
        stage
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, and says where it is.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The program with the configuration of that user.
    pub(crate) fn command(&self, user: &str) -> Command {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": self.listener.url()}}],
            "users": [{"name": "u", "user": {"as": user}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "team-a"}}],
        });
        let config = self.file(&format!("{user}.kubeconfig"), &config.to_string());
        let mut command = Command::new(env!("CARGO_BIN_EXE_pilotage"));
        command.env("KUBECONFIG", config).env("HOME", self.folder.path());
        command.env("PILOTAGE_ADMIN_KEY", "pk-admin").stdin(Stdio::null());
        command
    }

    /// A program's end. The cluster answers meanwhile.
    pub(crate) async fn run(&self, user: &str, args: &[&str]) -> Output {
        let mut command = self.command(user);
        command.args(args);
        tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
    }

    /// A program that works until it is dropped.
    pub(crate) fn start(&self, user: &str, args: &[&str]) -> Working {
        let log = self.path(&format!("{user}.log"));
        let file = File::create(&log).unwrap();
        let mut command = self.command(user);
        command.args(args).stdout(file.try_clone().unwrap()).stderr(file);
        Working { child: command.spawn().unwrap(), log }
    }

    /// The user may do none of that.
    pub(crate) fn forbid(&self, user: &str, meets: Meets) {
        let meets = Meets { user: user.to_owned(), ..meets };
        let fault = Fault::new(meets, Trouble::Forbidden);
        self.server.with(|cluster, _| cluster.faults().add(fault));
    }

    /// Applies an object as `kubectl apply --server-side` does.
    pub(crate) fn apply(&self, target: &str, object: &Value) {
        let target = format!("{target}?fieldManager=kubectl&force=true");
        self.ask(Method::PATCH, &target, "application/apply-patch+yaml", object).unwrap();
    }

    /// What is at a path; null where nothing is.
    pub(crate) fn get(&self, target: &str) -> Value {
        self.ask(Method::GET, target, "", &Value::Null).unwrap_or_default()
    }

    fn ask(&self, method: Method, target: &str, kind: &str, body: &Value) -> Result<Value, String> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let call = Call {
            method,
            path: path.to_owned(),
            query: query.to_owned(),
            content_type: kind.to_owned(),
            accept: "application/json".to_owned(),
            user_agent: "test".to_owned(),
            user: String::new(),
            body: if body.is_null() { String::new() } else { body.to_string() }.into(),
        };
        let answer = self.server.with(|cluster, now_ms| cluster.handle(now_ms, &call));
        match answer {
            Answer { status: 200..300, payload: Payload::Text(text), .. } => {
                Ok(serde_json::from_slice(&text).unwrap_or_default())
            }
            other => Err(format!("{target}: {other:?}")),
        }
    }
}

/// A program that ends with this.
pub(crate) struct Working {
    child: Child,
    log: PathBuf,
}

impl Working {
    /// All that it said.
    pub(crate) fn said(&self) -> String {
        read(&self.log)
    }

    /// Tells it to stop.
    pub(crate) fn stop(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.child.try_wait().unwrap().map(|status| status.code().unwrap_or(-1))
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        // One that is gone already is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(path: &Path) -> String {
    let mut text = String::new();
    let _ = File::open(path).and_then(|mut file| file.read_to_string(&mut text));
    text
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let wait = async {
        let mut look = tokio::time::interval(LOOK);
        while !is() {
            look.tick().await;
        }
    };
    let came = tokio::time::timeout(PATIENCE, wait).await;
    assert!(came.is_ok(), "no {what} in time");
}
