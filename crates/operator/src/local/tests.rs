//! The supervisor with real processes: small shell scripts that live, die and refuse to die.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use pilotage_plan::api::Dialect;
use pilotage_plan::render::{self, Readiness};
use pilotage_plan::{ProcessSpec, Program, WeightsSpec};
use pilotage_shell::client::Client;
use pilotage_shell::clock::Clock;
use tokio::sync::mpsc::UnboundedReceiver;

use super::{Event, HiddenEnv, Machine, Placed, Supervisor};

/// Answers 200 to everything, as an engine's health does. `$1` is the port.
const SERVER: &str = "exec python3 -c '
import http.server, os, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *args): pass
print(\"key is\", len(os.environ[\"PILOTAGE_ENGINE_KEY\"]), flush=True)
http.server.HTTPServer((\"127.0.0.1\", int(sys.argv[1])), Handler).serve_forever()
' \"$1\"";

fn machine(folder: &Path) -> Machine {
    Machine {
        own: "/bin/sh".into(),
        warden: None,
        search_path: "/usr/bin:/bin".into(),
        logs: folder.join("logs"),
        environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
        hidden_env: HiddenEnv::default(),
        hub_token: None,
        client: Client::new().unwrap(),
        clock: Clock::start(),
        start_timeout: Duration::from_secs(30),
        stop_timeout: Duration::from_secs(10),
        memory: |_, _| true,
    }
}

fn spec(script: &str) -> ProcessSpec {
    ProcessSpec {
        name: "p-0".to_owned(),
        program: Program::Own,
        args: ["-c", script, "sh", "{port}", "{weights}"].map(str::to_owned).to_vec(),
        env: Vec::new(),
        secrets: vec![("PILOTAGE_ENGINE_KEY".to_owned(), render::Secret::EngineKey)],
        files: Vec::new(),
        host: "127.0.0.1".to_owned(),
        health_path: "/health".to_owned(),
        readiness: Readiness::default(),
        stop_seconds: None,
        lane: "m".to_owned(),
        served_model: "m".to_owned(),
        dialect: Dialect::Vllm,
        metrics_of: Dialect::Vllm,
        slots: 1,
        threads: 1,
        weights: WeightsSpec {
            source: "file:w".parse().unwrap(),
            digest: None,
            signed_by: None,
            size_bytes: None,
        },
        release: None,
        devices: Vec::new(),
        adapters: Vec::new(),
        ground: pilotage_plan::Ground::default(),
    }
}

fn placed(spec: ProcessSpec) -> Placed {
    Placed { spec, weights: "/weights/w.gguf".into(), adapters: Vec::new() }
}

fn start(machine: &Machine, spec: ProcessSpec) -> (Supervisor, UnboundedReceiver<Event>) {
    Supervisor::start(machine, vec![placed(spec)])
}

async fn next_down(happened: &mut UnboundedReceiver<Event>) -> String {
    match happened.recv().await.unwrap() {
        Event::Down { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_process_becomes_ready_dies_comes_back_and_stops() {
    let folder = tempfile::tempdir().unwrap();
    let machine = machine(folder.path());
    let (supervisor, mut happened) = start(&machine, spec(SERVER));
    let Event::Ready { url: first, key: first_key, .. } = happened.recv().await.unwrap() else {
        panic!("not ready")
    };
    let pid = supervisor.states().lock()["p-0"].pid.unwrap();
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let reason = next_down(&mut happened).await;
    assert!(reason.contains("SIGKILL") && reason.contains("key is 67"), "{reason}");
    let Event::Ready { url: second, key: second_key, .. } = happened.recv().await.unwrap() else {
        panic!("not back")
    };
    assert!(first_key.is_some() && second_key.is_some() && first_key != second_key);
    assert!(first.starts_with("http://127.0.0.1:") && second.starts_with("http://127.0.0.1:"));
    supervisor.stop().await;
    let state = supervisor.states().lock()["p-0"].clone();
    assert_eq!((state.phase, state.pid, state.starts), ("stopped", None, 2));
    assert!(std::fs::read_to_string(state.log).unwrap().contains("key is 67"));
}

#[tokio::test]
async fn deaths_say_why_and_keep_the_last_words() {
    let check = |script: &'static str, parts: &'static [&'static str]| async move {
        let folder = tempfile::tempdir().unwrap();
        let machine = machine(folder.path());
        let (supervisor, mut happened) = start(&machine, spec(script));
        let reason = next_down(&mut happened).await;
        for part in parts {
            assert!(reason.contains(part), "{script}: {reason}");
        }
        supervisor.stop().await;
    };
    check("echo the weights are $2 >&2; exit 3", &["code 3", "the weights are /weights/w.gguf"])
        .await;
    check("printf 'a\\033[2Jb\\n'; exit 3", &["a\\u{1b}[2Jb"]).await;
    check("kill -ILL $$", &["SIGILL", "instruction"]).await;
    check("kill -ABRT $$", &["SIGABRT"]).await;
}

#[tokio::test]
async fn a_program_that_is_not_there_is_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let missing = ProcessSpec { program: Program::Path("/no/such/program".to_owned()), ..spec("") };
    let (supervisor, mut happened) = start(&machine(folder.path()), missing);
    assert!(next_down(&mut happened).await.contains("/no/such/program"));
    supervisor.stop().await;
}

#[tokio::test]
async fn who_is_not_ready_in_time_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine { start_timeout: Duration::from_millis(50), ..machine(folder.path()) };
    let (supervisor, mut happened) = start(&machine, spec("exec sleep 600"));
    assert!(next_down(&mut happened).await.contains("not ready"));
    supervisor.stop().await;
}

#[tokio::test]
async fn who_does_not_stop_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine { stop_timeout: Duration::from_millis(50), ..machine(folder.path()) };
    let script = "trap '' TERM; echo deaf; while :; do sleep 600 & wait; done";
    let (supervisor, _happened) = start(&machine, spec(script));
    let log = machine.logs.join("p-0.log");
    while !std::fs::read_to_string(&log).is_ok_and(|text| text.contains("deaf")) {
        tokio::task::yield_now().await;
    }
    supervisor.stop().await;
    let states: BTreeMap<_, _> = supervisor.states().lock().clone();
    assert_eq!(states["p-0"].phase, "stopped");
}

/// The next event as a verb and a name.
async fn next(happened: &mut UnboundedReceiver<Event>) -> String {
    match happened.recv().await.unwrap() {
        Event::Ready { name, .. } => format!("ready {name}"),
        Event::Down { name, .. } => format!("down {name}"),
        Event::Retiring { name } => format!("retiring {name}"),
        Event::Gone { name } => format!("gone {name}"),
    }
}

/// Processes by name, each with a script and a number that makes it another one.
fn set(supervisor: &Supervisor, wanted: &[(&str, &str, u32)]) {
    let processes = wanted.iter().map(|(name, script, threads)| {
        let spec = ProcessSpec { name: (*name).to_owned(), threads: *threads, ..spec(script) };
        placed(spec)
    });
    supervisor.set(processes.collect());
}

#[tokio::test]
async fn processes_come_and_go_while_others_serve() {
    let folder = tempfile::tempdir().unwrap();
    let (supervisor, mut happened) = start(&machine(folder.path()), spec(SERVER));
    assert_eq!(next(&mut happened).await, "ready p-0");
    let pid = supervisor.states().lock()["p-0"].pid;
    set(&supervisor, &[("p-0", SERVER, 1), ("q-0", SERVER, 1)]);
    assert_eq!(next(&mut happened).await, "ready q-0");
    assert_eq!(supervisor.states().lock()["p-0"].pid, pid);
    set(&supervisor, &[("q-0", SERVER, 1)]);
    assert_eq!(next(&mut happened).await, "retiring p-0");
    assert_eq!(supervisor.states().lock()["p-0"].phase, "retiring");
    supervisor.release("p-0");
    assert_eq!(next(&mut happened).await, "gone p-0");
    let names: Vec<_> = supervisor.states().lock().keys().cloned().collect();
    assert_eq!(names, ["q-0"]);
    supervisor.stop().await;
}

#[tokio::test]
async fn the_new_one_is_ready_before_the_old_one_goes() {
    let folder = tempfile::tempdir().unwrap();
    let (supervisor, mut happened) = start(&machine(folder.path()), spec(SERVER));
    assert_eq!(next(&mut happened).await, "ready p-0");
    // What is wrong never becomes ready, and the old one serves on.
    set(&supervisor, &[("p-0", "exit 3", 2)]);
    assert_eq!(next(&mut happened).await, "down p-0.2");
    assert_eq!(supervisor.states().lock()["p-0"].phase, "ready");
    set(&supervisor, &[("p-0", SERVER, 3)]);
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| last != "retiring p-0") {
        seen.push(next(&mut happened).await);
    }
    assert!(seen.contains(&"gone p-0.2".to_owned()), "{seen:?}");
    assert!(seen.contains(&"ready p-0.3".to_owned()), "{seen:?}");
    supervisor.release("p-0");
    assert_eq!(next(&mut happened).await, "gone p-0");
    supervisor.stop().await;
}

#[tokio::test]
async fn without_memory_for_both_the_old_one_goes_first() {
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine { memory: |_, _| false, ..machine(folder.path()) };
    let (supervisor, mut happened) = start(&machine, spec(SERVER));
    assert_eq!(next(&mut happened).await, "ready p-0");
    set(&supervisor, &[("p-0", SERVER, 2)]);
    assert_eq!(next(&mut happened).await, "retiring p-0");
    supervisor.release("p-0");
    assert_eq!(next(&mut happened).await, "gone p-0");
    assert_eq!(next(&mut happened).await, "ready p-0");
    supervisor.stop().await;
}

/// A runtime of somebody else: it lists the model in `$NAME`, and counts what it is asked. `$1` is the port.
const RUNTIME: &str = "exec python3 -c '
import http.server, json, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, status, body):
        self.send_response(status); self.end_headers(); self.wfile.write(json.dumps(body).encode())
    def do_GET(self):
        if self.path == \"/v1/models\":
            if self.headers[\"authorization\"] != \"Bearer \" + os.environ[\"KEY\"]:
                return self.answer(401, {})
            return self.answer(200, {\"data\": [{\"id\": os.environ[\"NAME\"]}]})
        self.answer(200, {})
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers[\"content-length\"])))
        if \"lora_name\" in body:
            print(\"adapter\", self.path, body[\"lora_name\"], body.get(\"lora_path\", \"-\"), flush=True)
            return self.answer(200, {})
        print(\"asked\", self.path, body[\"model\"], flush=True)
        self.answer(404 if self.path == \"/v1/completions\" else int(os.environ.get(\"STATUS\", 200)), {})
    def log_message(self, *args): pass
http.server.HTTPServer((\"127.0.0.1\", int(sys.argv[1])), Handler).serve_forever()
' \"$1\"";

fn runtime(name: &str) -> ProcessSpec {
    ProcessSpec {
        program: Program::Named { name: "sh".to_owned(), home: None },
        env: vec![("NAME".to_owned(), name.to_owned())],
        secrets: vec![("KEY".to_owned(), render::Secret::EngineKey)],
        readiness: Readiness { start_seconds: None, lists_model: true, warms_up: true },
        ..spec(RUNTIME)
    }
}

#[tokio::test]
async fn a_runtime_is_ready_when_it_has_its_model_and_answered() {
    let folder = tempfile::tempdir().unwrap();
    let machine = machine(folder.path());
    let (supervisor, mut happened) = start(&machine, runtime("m"));
    assert_eq!(next(&mut happened).await, "ready p-0");
    supervisor.stop().await;
    let log = std::fs::read_to_string(machine.logs.join("p-0.log")).unwrap();
    assert_eq!(log, "asked /v1/completions m\nasked /v1/chat/completions m\n");
}

#[tokio::test]
async fn adapters_come_and_go_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let machine = machine(folder.path());
    let with = |adapters: &[(&str, &str)]| Placed {
        adapters: adapters.iter().map(|(name, path)| ((*name).to_owned(), path.into())).collect(),
        ..placed(runtime("m"))
    };
    let (supervisor, mut happened) =
        Supervisor::start(&machine, vec![with(&[("a", "/a"), ("b", "/b")])]);
    assert_eq!(next(&mut happened).await, "ready p-0");
    let pid = supervisor.states().lock()["p-0"].pid;
    supervisor.set(vec![with(&[("b", "/b2"), ("c", "/c")])]);
    let log = machine.logs.join("p-0.log");
    let calls = || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let calls =
            text.lines().filter_map(|line| line.strip_prefix("adapter ").map(str::to_owned));
        calls.collect::<Vec<_>>()
    };
    while calls().len() < 6 {
        tokio::task::yield_now().await;
    }
    let expect = [
        "/v1/load_lora_adapter a /a",
        "/v1/load_lora_adapter b /b",
        "/v1/unload_lora_adapter a -",
        "/v1/unload_lora_adapter b -",
        "/v1/load_lora_adapter b /b2",
        "/v1/load_lora_adapter c /c",
    ];
    assert_eq!(calls(), expect);
    assert_eq!(supervisor.states().lock()["p-0"].pid, pid, "the process is the same");
    supervisor.stop().await;
}

#[tokio::test]
async fn a_runtime_that_serves_another_model_gets_no_requests() {
    let folder = tempfile::tempdir().unwrap();
    let (supervisor, mut happened) = start(&machine(folder.path()), runtime("other"));
    assert!(next_down(&mut happened).await.contains("it serves other and not `m`"));
    supervisor.stop().await;
}

#[tokio::test]
async fn a_runtime_that_is_well_and_cannot_answer_gets_no_requests() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = runtime("m");
    spec.env.push(("STATUS".to_owned(), "500".to_owned()));
    let (supervisor, mut happened) = start(&machine(folder.path()), spec);
    let reason = next_down(&mut happened).await;
    assert!(reason.contains("answers its first request with 500"), "{reason}");
    supervisor.stop().await;
}

#[tokio::test]
async fn files_and_words_are_there_before_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let script = "cat $FILE; exit 3";
    let spec = ProcessSpec {
        env: vec![("FILE".to_owned(), "{scratch}/a/b.json".to_owned())],
        files: vec![("{scratch}/a/b.json".to_owned(), "the weights: {weights}".to_owned())],
        ..spec(script)
    };
    let (supervisor, mut happened) = start(&machine(folder.path()), spec);
    assert!(next_down(&mut happened).await.contains("the weights: /weights/w.gguf"));
    supervisor.stop().await;
}

#[tokio::test]
async fn nothing_is_left_of_a_process_that_died() {
    let folder = tempfile::tempdir().unwrap();
    let script = "sleep 600 & echo $!; kill -9 $$";
    let (supervisor, mut happened) = start(&machine(folder.path()), spec(script));
    let reason = next_down(&mut happened).await;
    let child: i32 = reason.rsplit(' ').next().unwrap().parse().unwrap();
    let child = rustix::process::Pid::from_raw(child).unwrap();
    // It is gone, or dead and waits for whoever is its parent now.
    let path = format!("/proc/{}/stat", child.as_raw_nonzero());
    let lives = || std::fs::read_to_string(&path).is_ok_and(|stat| !stat.contains(") Z "));
    while lives() {
        tokio::task::yield_now().await;
    }
    supervisor.stop().await;
}

#[tokio::test]
async fn programs_get_what_is_their_business_and_no_secrets_but_their_own() {
    let seen = |program: Program| async move {
        let folder = tempfile::tempdir().unwrap();
        let mut machine = machine(folder.path());
        let named = ["AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "VLLM_GIVEN", "LANG", "VLLM_HIDDEN"];
        machine.environment.extend(named.map(|name| (name.into(), name.into())));
        machine.environment.push(("PILOTAGE_LOG".into(), "warn".into()));
        machine.hidden_env.lock().insert("VLLM_HIDDEN".to_owned());
        let script = "echo got [$AWS_SECRET_ACCESS_KEY$HF_TOKEN $VLLM_GIVEN $VLLM_HIDDEN$LANG $GIVEN \
                      $PILOTAGE_LOG] ${#KEY}; exit 3";
        let spec = ProcessSpec {
            program,
            env: vec![("GIVEN".to_owned(), "given".to_owned())],
            secrets: vec![("KEY".to_owned(), render::Secret::EngineKey)],
            ..spec(script)
        };
        let (supervisor, mut happened) = start(&machine, spec);
        let reason = next_down(&mut happened).await;
        supervisor.stop().await;
        reason
    };
    let reason = seen(Program::Named { name: "sh".to_owned(), home: None }).await;
    assert!(reason.contains("got [ VLLM_GIVEN LANG given ] 67"), "{reason}");
    let reason = seen(Program::Own).await;
    assert!(reason.contains("got [ VLLM_GIVEN LANG given warn] 67"), "{reason}");
}

/// Two of one spec are told places of their own, and each knows its own key alone.
#[tokio::test]
async fn replicas_share_no_port_and_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let machine = machine(folder.path());
    let script = "echo $3 $4 $5 $6 $PILOTAGE_ENGINE_KEY; exit 3";
    let mut one = spec(script);
    let words = ["{rendezvous}", "{metrics}", "{events}", "/tmp/x-{port}"];
    one.args.extend(words.map(str::to_owned));
    let two = ProcessSpec { name: "p-1".to_owned(), ..one.clone() };
    let (supervisor, mut happened) = Supervisor::start(&machine, vec![placed(one), placed(two)]);
    let mut said = std::collections::BTreeSet::new();
    for _ in 0..2 {
        let reason = next_down(&mut happened).await;
        let line = reason.rsplit(": ").next().unwrap();
        said.extend(line.split(' ').map(str::to_owned));
    }
    supervisor.stop().await;
    assert_eq!(said.len(), 10, "{said:?}");
}
