//! How long the cluster takes, and how much memory, with many objects and a few watchers:
//! `cargo run -p pilotage-cluster --example scale`.

#![expect(
    clippy::print_stdout,
    clippy::panic,
    reason = "it prints what it measures, and stops at what is wrong"
)]

use http::Method;
use pilotage_cluster::{Answer, Call, Cluster, Limits, Payload, Pulled};
use pilotage_shell::clock::process_cpu_nanos;
use serde_json::{Value, json};

const PODS: usize = 5000;
const MAPS: usize = 1000;
const WATCHERS: usize = 5;

fn ask(cluster: &mut Cluster, method: Method, target: &str, body: &Value) -> Answer {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let applies = method == Method::PATCH;
    let call = Call {
        method,
        path: path.into(),
        query: query.into(),
        content_type: if applies { "application/apply-patch+yaml" } else { "application/json" }
            .into(),
        accept: String::new(),
        user_agent: "scale".into(),
        user: String::new(),
        body: if body.is_null() { "".into() } else { body.to_string().into() },
    };
    let answer = cluster.handle(1_767_225_600_000, &call);
    if answer.status >= 300 {
        panic!("{target}: {answer:?}");
    }
    answer
}

fn timed(what: &str, count: usize, does: impl FnOnce()) {
    let before = process_cpu_nanos();
    does();
    let nanos = process_cpu_nanos() - before;
    let each = nanos / 1000 / count.max(1) as u64;
    println!(
        "{what}: {} ms in all, {each} us each, {} MiB resident",
        nanos / 1_000_000,
        resident()
    );
}

/// Memory in use, in MiB; of systems that do not tell, none.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = pages.split(' ').nth(1).and_then(|text| text.parse::<u64>().ok());
    pages.unwrap_or_default() * 4096 / (1024 * 1024)
}

fn pod(at: usize) -> Value {
    let env: Vec<Value> = (0..10)
        .map(|at| json!({"name": format!("VARIABLE_{at}"), "value": "some value"}))
        .collect();
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("pod-{at:05}"), "labels": {"app": "serving", "rank": at.to_string()}},
        "spec": {"containers": [{"name": "engine", "image": "registry/engine:1", "env": env,
            "args": ["--model", "x", "--port", "8000"], "ports": [{"containerPort": 8000}],
            "resources": {"limits": {"nvidia.com/gpu": "8"}}}]}})
}

fn main() {
    let mut cluster = Cluster::new(1_767_225_600_000, Limits::default(), 1);
    println!("empty: {} MiB resident", resident());
    let pods = "/api/v1/namespaces/default/pods";
    let mut streams = Vec::new();
    for _ in 0..WATCHERS {
        if let Payload::Stream(stream) =
            ask(&mut cluster, Method::GET, &format!("{pods}?watch=1"), &Value::Null).payload
        {
            streams.push(stream);
        }
    }
    timed("apply new pods", PODS, || {
        for at in 0..PODS {
            let target = format!("{pods}/pod-{at:05}?fieldManager=operator&force=true");
            ask(&mut cluster, Method::PATCH, &target, &pod(at));
        }
    });
    timed("apply them again", PODS, || {
        for at in 0..PODS {
            let target = format!("{pods}/pod-{at:05}?fieldManager=operator&force=true");
            ask(&mut cluster, Method::PATCH, &target, &pod(at));
        }
    });
    timed("create config maps", MAPS, || {
        for at in 0..MAPS {
            let body = json!({"metadata": {"name": format!("map-{at}")}, "data": {"k": "v"}});
            ask(&mut cluster, Method::POST, "/api/v1/namespaces/default/configmaps", &body);
        }
    });
    timed("list all pods", 1, || drop(ask(&mut cluster, Method::GET, pods, &Value::Null)));
    timed("watch all pods", PODS * WATCHERS, || {
        let mut bytes = 0;
        for stream in &mut streams {
            while let Pulled::Lines(lines) = cluster.pull(1_767_225_600_000, stream) {
                bytes += lines.len();
            }
        }
        println!("  {} MiB of events", bytes / (1024 * 1024));
    });
}
