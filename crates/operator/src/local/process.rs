//! One process, kept running: a life is a start, a wait until it is ready, and a wait until it
//! ends.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use pilotage_plan::render::process::{PORT, WEIGHTS};
use pilotage_plan::{ProcessSpec, Program};
use pilotage_shell::{id, port};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::log::Log;
use super::policy::{self, Record};
use super::{Event, Machine, State, States};

/// How often a starting process is asked whether it is ready.
const READY_PAUSE: Duration = Duration::from_millis(20);

/// How long one answer to that question may take.
const READY_TIMEOUT: Duration = Duration::from_secs(5);

/// Lines of a dead process's log that go into the reason.
const LINES_SHOWN: usize = 3;

/// Keeps one process running.
pub(super) struct Keeper {
    /// Its own name, which that in the plan is the beginning of.
    pub(super) name: String,
    pub(super) machine: Machine,
    pub(super) spec: Arc<ProcessSpec>,
    pub(super) weights: PathBuf,
    pub(super) events: mpsc::UnboundedSender<Event>,
    pub(super) states: States,
    pub(super) stop: CancellationToken,
}

impl Keeper {
    /// One life after the other, until it is stopped.
    pub(super) async fn run(self) {
        let log = Log::at(self.log());
        let mut record = Record::default();
        let mut starts = 0;
        let mut last_exit = None;
        while !self.stop.is_cancelled() {
            starts += 1;
            let born = self.machine.clock.now_nanos();
            let reason = self.live(&log, starts, &last_exit).await;
            if self.stop.is_cancelled() {
                break;
            }
            let life = Duration::from_nanos(self.machine.clock.now_nanos() - born);
            let pause = record.died(life, (id::random_u64() >> 11) as f64 / (1_u64 << 53) as f64);
            let phase = if record.is_loop() { "crash_loop" } else { "waiting" };
            last_exit = Some(reason.clone());
            self.show(phase, None, starts, &last_exit);
            self.down(reason, Some(pause));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => {}
            }
        }
        self.show("stopped", None, starts, &last_exit);
        let _ = self.events.send(Event::Gone { name: self.name.clone() });
    }

    /// One life; returns why it ended.
    async fn live(&self, log: &Log, starts: u32, last_exit: &Option<String>) -> String {
        let (mut child, url) = match self.spawn() {
            Ok(spawned) => spawned,
            Err(error) => return format!("it cannot be started: {error}"),
        };
        if let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) {
            drop(pilotage_shell::tasks::spawn("log", log.clone().read(out)));
            drop(pilotage_shell::tasks::spawn("log", log.clone().read(err)));
        }
        let pid = child.id();
        self.show("starting", pid, starts, last_exit);
        let ended = tokio::select! {
            ready = self.wait_ready(&url) => {
                if ready {
                    self.show("ready", pid, starts, last_exit);
                    // The receiver is gone only when the whole process is on its way out.
                    let (name, spec) = (self.name.clone(), Arc::clone(&self.spec));
                    let _ = self.events.send(Event::Ready { name, spec, url });
                    tokio::select! {
                        ended = child.wait() => ended,
                        () = self.stop.cancelled() => return self.end(&mut child).await,
                    }
                } else {
                    self.end(&mut child).await;
                    let limit = self.machine.start_timeout.as_secs();
                    return with_lines(format!("it was not ready after {limit} s"), log);
                }
            }
            ended = child.wait() => ended,
            () = self.stop.cancelled() => return self.end(&mut child).await,
        };
        with_lines(described(ended), log)
    }

    fn spawn(&self) -> io::Result<(Child, String)> {
        let port = port::free()?;
        let program = match &self.spec.program {
            Program::Own => self.machine.own.clone(),
            Program::Path(path) => PathBuf::from(path),
        };
        let weights = self.weights.to_string_lossy();
        let args = self
            .spec
            .args
            .iter()
            .map(|arg| arg.replace(PORT, &port.to_string()).replace(WEIGHTS, &weights));
        let child = Command::new(&program)
            .args(args)
            .envs(self.spec.env.iter().map(|(name, value)| (name, value)))
            .env("PILOTAGE_ENGINE_KEY", self.machine.engine_key.expose())
            .env("PILOTAGE_SUPERVISOR", std::process::id().to_string())
            .env_remove("PILOTAGE_API_KEY")
            .env_remove("PILOTAGE_ADMIN_KEY")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C in the terminal is for us: the children are drained, not interrupted.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", program.display()))
            })?;
        Ok((child, format!("http://{}:{port}", self.spec.host)))
    }

    /// Whether it became ready in time.
    async fn wait_ready(&self, url: &str) -> bool {
        let asking = async {
            while !self.is_ready(url).await {
                tokio::time::sleep(READY_PAUSE).await;
            }
        };
        tokio::time::timeout(self.machine.start_timeout, asking).await.is_ok()
    }

    async fn is_ready(&self, url: &str) -> bool {
        let request = Request::get(format!("{url}{}", self.spec.health_path)).body(Bytes::new());
        let Ok(request) = request else { return false };
        let answer =
            tokio::time::timeout(READY_TIMEOUT, self.machine.client.request(request)).await;
        answer.is_ok_and(|answer| answer.is_ok_and(|response| response.status().is_success()))
    }

    /// Asks the process to end, and ends it when it does not.
    async fn end(&self, child: &mut Child) -> String {
        let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid {
            // An error means that it is gone already.
            let _ = kill_process(pid, Signal::TERM);
        }
        match tokio::time::timeout(self.machine.stop_timeout, child.wait()).await {
            Ok(ended) => described(ended),
            Err(_) => {
                tracing::warn!(process = self.name, "it did not end in time and is killed");
                described(child.kill().await.and(child.wait().await))
            }
        }
    }

    fn down(&self, reason: String, pause: Option<Duration>) {
        let again_ms = pause.map(|pause| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
        let _ = self.events.send(Event::Down { name: self.name.clone(), reason, again_ms });
    }

    fn show(&self, phase: &'static str, pid: Option<u32>, starts: u32, last_exit: &Option<String>) {
        let state = State { phase, pid, starts, last_exit: last_exit.clone(), log: self.log() };
        self.states.lock().insert(self.name.clone(), state);
    }

    fn log(&self) -> PathBuf {
        self.machine.logs.join(format!("{}.log", self.name))
    }
}

fn described(ended: io::Result<ExitStatus>) -> String {
    match ended {
        Ok(status) => policy::reason(status.code(), status.signal()),
        Err(error) => format!("it cannot be watched: {error}"),
    }
}

fn with_lines(reason: String, log: &Log) -> String {
    let lines = log.last(LINES_SHOWN);
    if lines.is_empty() {
        reason
    } else {
        format!("{reason}; its last words: {}", lines.join(" | "))
    }
}
