//! The supervisor with real processes: small shell scripts that live, die and refuse to die.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use pilotage_plan::{ProcessSpec, Program, WeightsSpec};
use pilotage_shell::client::Client;
use pilotage_shell::clock::Clock;
use pilotage_shell::secret::Secret;
use tokio::sync::mpsc::UnboundedReceiver;

use super::{Event, Machine, Supervisor};

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
        logs: folder.join("logs"),
        engine_key: Secret::new("secret".to_owned()),
        client: Client::new().unwrap(),
        clock: Clock::start(),
        start_timeout: Duration::from_secs(30),
        stop_timeout: Duration::from_secs(10),
    }
}

fn spec(script: &str) -> ProcessSpec {
    ProcessSpec {
        name: "p-0".to_owned(),
        program: Program::Own,
        args: ["-c", script, "sh", "{port}", "{weights}"].map(str::to_owned).to_vec(),
        env: Vec::new(),
        host: "127.0.0.1".to_owned(),
        health_path: "/health".to_owned(),
        served_model: "m".to_owned(),
        slots: 1,
        threads: 1,
        weights: WeightsSpec { source: "file:w".parse().unwrap(), digest: None, size_bytes: None },
    }
}

fn start(machine: &Machine, spec: ProcessSpec) -> (Supervisor, UnboundedReceiver<Event>) {
    Supervisor::start(machine, vec![(spec, "/weights/w.gguf".into())])
}

async fn next_down(happened: &mut UnboundedReceiver<Event>) -> String {
    match happened.recv().await.unwrap() {
        Event::Down { reason, .. } => reason,
        Event::Ready { .. } => panic!("it became ready"),
    }
}

#[tokio::test]
async fn a_process_becomes_ready_dies_comes_back_and_stops() {
    let folder = tempfile::tempdir().unwrap();
    let machine = machine(folder.path());
    let (supervisor, mut happened) = start(&machine, spec(SERVER));
    let Event::Ready { url: first, .. } = happened.recv().await.unwrap() else {
        panic!("not ready")
    };
    let pid = supervisor.states().lock()["p-0"].pid.unwrap();
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let reason = next_down(&mut happened).await;
    assert!(reason.contains("SIGKILL") && reason.contains("key is 6"), "{reason}");
    let Event::Ready { url: second, .. } = happened.recv().await.unwrap() else {
        panic!("not back")
    };
    assert!(first.starts_with("http://127.0.0.1:") && second.starts_with("http://127.0.0.1:"));
    supervisor.stop().await;
    let state = supervisor.states().lock()["p-0"].clone();
    assert_eq!((state.phase, state.pid, state.starts), ("stopped", None, 2));
    assert!(std::fs::read_to_string(state.log).unwrap().contains("key is 6"));
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
