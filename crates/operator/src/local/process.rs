//! One process, kept running: a life is a start, a wait until it is ready, and a wait until it
//! ends.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use pilotage_plan::{ProcessSpec, Program};
use pilotage_shell::{id, plain};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::adapters::{Adapters, Wanted};
use super::launch::{self, Launched};
use super::log::Log;
use super::policy::{self, Record};
use super::ready::Asked;
use super::{Event, Machine, State, States, group};

/// Lines of a dead process's log that go into the reason.
const LINES_SHOWN: usize = 3;

/// A life that is over.
struct Life {
    /// How long it took requests.
    served: Duration,
    /// Why it ended.
    reason: String,
}

impl Life {
    /// It ended before it was ready.
    const fn unready(reason: String) -> Self {
        Self { served: Duration::ZERO, reason }
    }
}

/// Keeps one process running.
pub(super) struct Keeper {
    /// Its own name, which that in the plan is the beginning of.
    pub(super) name: String,
    pub(super) machine: Machine,
    pub(super) spec: Arc<ProcessSpec>,
    pub(super) weights: PathBuf,
    pub(super) adapters: watch::Receiver<Wanted>,
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
            let Life { served, reason } = self.live(&log, starts, &last_exit).await;
            if self.stop.is_cancelled() {
                break;
            }
            let pause = record.died(served, (id::random_u64() >> 11) as f64 / (1_u64 << 53) as f64);
            let phase = if record.is_loop() { "crash_loop" } else { "waiting" };
            // It has words of the program in it.
            let reason = plain::line(&reason).into_owned();
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

    /// One life.
    async fn live(&self, log: &Log, starts: u32, last_exit: &Option<String>) -> Life {
        let started = launch::start(&self.machine, &self.name, &self.spec, &self.weights);
        let Launched { mut child, url, events_url, key } = match started {
            Ok(launched) => launched,
            Err(error) => return Life::unready(format!("it cannot be started: {error}")),
        };
        if let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) {
            drop(pilotage_shell::tasks::spawn("log", log.clone().read(out)));
            drop(pilotage_shell::tasks::spawn("log", log.clone().read(err)));
        }
        let pid = child.id();
        self.show("starting", pid, starts, last_exit);
        let asked = Asked { machine: &self.machine, spec: &self.spec, url: &url, key: &key };
        let mut adapters = Adapters::none_of(self.adapters.clone());
        let ready = async {
            asked.wait().await?;
            Ok(adapters.settle(&asked).await)
        };
        let ready: Result<_, String> = tokio::select! {
            ready = ready => ready,
            ended = self.ended(&mut child) => return Life::unready(self.told(ended, log)),
            () = self.stop.cancelled() => return Life::unready(self.end(&mut child).await),
        };
        let settled = match ready {
            Ok(settled) => settled,
            Err(reason) => {
                self.end(&mut child).await;
                return Life::unready(with_lines(reason, log));
            }
        };
        let since = self.machine.clock.now_nanos();
        self.show("ready", pid, starts, last_exit);
        // The receiver is gone only when the whole process is on its way out.
        let (name, spec) = (self.name.clone(), Arc::clone(&self.spec));
        let (url, key) = (url.clone(), Some(key.clone()).filter(|_| self.spec.takes_key()));
        let _ = self.events.send(Event::Ready { name, spec, url, events_url, key });
        let reason = tokio::select! {
            () = adapters.follow(&asked, settled) => String::new(),
            ended = self.ended(&mut child) => self.told(ended, log),
            () = self.stop.cancelled() => self.end(&mut child).await,
        };
        let served = self.machine.clock.now_nanos().saturating_sub(since);
        Life { served: Duration::from_nanos(served), reason }
    }

    /// Waits until the process has ended, and ends what it leaves behind.
    async fn ended(&self, child: &mut Child) -> io::Result<ExitStatus> {
        let leader = child.id();
        let ended = child.wait().await;
        if let Some(leader) = leader {
            group::end_rest(leader);
        }
        ended
    }

    /// Asks the process to end, and ends it when it does not.
    async fn end(&self, child: &mut Child) -> String {
        let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid {
            // An error means that it is gone already.
            let _ = kill_process(pid, Signal::TERM);
        }
        let said = self.spec.stop_seconds.map(|seconds| Duration::from_secs(seconds.into()));
        let patience = said.unwrap_or(self.machine.stop_timeout);
        match tokio::time::timeout(patience, self.ended(child)).await {
            Ok(ended) => self.described(ended),
            Err(_) => {
                tracing::warn!(process = self.name, "it did not end in time and is killed");
                if let Some(leader) = child.id() {
                    group::end_rest(leader);
                }
                self.described(child.kill().await.and(child.wait().await))
            }
        }
    }

    fn described(&self, ended: io::Result<ExitStatus>) -> String {
        let is_ours = self.spec.program == Program::Own;
        match ended {
            Ok(status) => policy::reason(status.code(), status.signal(), is_ours),
            Err(error) => format!("it cannot be watched: {error}"),
        }
    }

    fn told(&self, ended: io::Result<ExitStatus>, log: &Log) -> String {
        with_lines(self.described(ended), log)
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

fn with_lines(reason: String, log: &Log) -> String {
    let lines = log.last(LINES_SHOWN);
    if lines.is_empty() {
        reason
    } else {
        format!("{reason}; its last words: {}", lines.join(" | "))
    }
}
