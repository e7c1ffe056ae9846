//! What an operator takes for many Models: time until all are ready, memory, writes, and rest.
//!
//! ```text
//! cargo build --release -p pilotage-cli
//! cargo run --release -p pilotage-cluster --example operator -- target/release/pilotage
//! ```
//!
//! This process is the API server, on loopback HTTP, with controllers and nodes; the operator is the real
//! program in a process of its own. Prints one number a line, and ends badly where a target is missed.

mod operator;
mod stage;
mod writes;

use std::process::ExitCode;
use std::time::Duration;

use pilotage_shell::clock::Clock;
use tokio::time::sleep;

use operator::Operator;
use stage::Stage;
use writes::Writes;

/// The server shares processors with the operator: it is not to be what is measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Copies of each Model.
const REPLICAS: u64 = 5;
/// How long the operator is watched at rest.
const REST: Duration = Duration::from_secs(60);
/// How long all is awaited.
const PATIENCE_S: u64 = 600;
/// How often one looks whether what is awaited is there.
const LOOK: Duration = Duration::from_millis(500);
/// How long nothing may be written before all counts as settled.
const QUIET_MS: u64 = 5_000;

/// What is aimed at.
const CONVERGED_S_MAX: f64 = 60.0;
const RESIDENT_MB_MAX: f64 = 150.0;
const IDLE_PERCENT_MAX: f64 = 1.0;
/// Times that what is told of a Model is written until it is ready.
const STATUSES_MAX: f64 = 6.0;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let Some(program) = args.next() else {
        say("usage: operator PROGRAM [MODELS]");
        return ExitCode::FAILURE;
    };
    let models = args.next().and_then(|text| text.parse().ok()).unwrap_or(1000);
    match measure(&program, models).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Numbers, and whether all are as they are to be.
struct Bench {
    clock: Clock,
    stage: Stage,
    is_well: bool,
}

async fn measure(program: &str, models: usize) -> Result<bool, String> {
    let stage = Stage::new(program).await?;
    let mut bench = Bench { clock: Clock::start(), stage, is_well: true };
    let first = Operator::start(program, &bench.stage.kubeconfig(), "first")?;
    bench.until("an operator leads", |stage| stage.leader().is_some()).await?;
    sleep(Duration::from_secs(3)).await;
    bench.show("operator without Models, resident", first.resident_mb(), "MB", None);
    bench.converge(&first, models).await?;
    bench.rest(&first).await;
    bench.change().await?;
    bench.succeed(program, first).await?;
    Ok(bench.is_well)
}

impl Bench {
    /// All Models are applied, and become ready.
    async fn converge(&mut self, operator: &Operator, models: usize) -> Result<(), String> {
        self.stage.records();
        let (began, cpu) = (self.clock.now_nanos(), operator.cpu_s());
        for at in 0..models {
            self.stage.apply(at, REPLICAS)?;
        }
        self.show("applied within", self.since_s(began), "s", None);
        self.until("all Models are ready", |stage| stage.ready(REPLICAS) == models).await?;
        self.show("from apply to ready", self.since_s(began), "s", Some(CONVERGED_S_MAX));
        self.show("processor time of the operator", operator.cpu_s() - cpu, "s", None);
        let all = self.settle(Vec::new()).await;
        self.show("operator, most resident", operator.peak_mb(), "MB", Some(RESIDENT_MB_MAX));
        self.show("operator, resident then", operator.resident_mb(), "MB", None);
        let writes = Writes::of(&all);
        tell(&writes);
        self.show("writes of one object, at most", writes.most_of_one(), "", Some(1.0));
        self.show("writes that changed nothing", writes.idle(), "", Some(0.0));
        self.show("writes that failed", writes.failed(), "", Some(0.0));
        self.show(
            "statuses of one Model, at most",
            writes.most_of_status(),
            "",
            Some(STATUSES_MAX),
        );
        Ok(())
    }

    /// Nothing happens.
    async fn rest(&mut self, operator: &Operator) {
        self.stage.records();
        let (began, cpu) = (self.clock.now_nanos(), operator.cpu_s());
        sleep(REST).await;
        let percent = (operator.cpu_s() - cpu) / self.since_s(began) * 100.0;
        self.show("at rest, of a core", percent, "%", Some(IDLE_PERCENT_MAX));
        let all = self.stage.records();
        let writes = Writes::of(&all);
        tell(&writes);
        self.show("at rest, writes", writes.count(), "", Some(0.0));
    }

    /// One Model of all has a copy more.
    async fn change(&mut self) -> Result<(), String> {
        let began = self.clock.now_nanos();
        self.stage.apply(7, REPLICAS + 1)?;
        self.until("one Model has a copy more", |stage| stage.ready(REPLICAS + 1) == 1).await?;
        self.show("one Model changed, ready after", self.since_s(began), "s", None);
        let all = self.settle(Vec::new()).await;
        let writes = Writes::of(&all);
        tell(&writes);
        self.show("one Model changed, objects written", writes.objects(), "", Some(1.0));
        self.show("one Model changed, writes of one object", writes.most_of_one(), "", Some(1.0));
        Ok(())
    }

    /// The operator dies, and another one takes over.
    async fn succeed(&mut self, program: &str, first: Operator) -> Result<(), String> {
        let second = Operator::start(program, &self.stage.kubeconfig(), "second")?;
        sleep(Duration::from_secs(10)).await;
        self.show("operator that looks on, resident", second.resident_mb(), "MB", None);
        let leader = self.stage.leader();
        self.stage.records();
        let began = self.clock.now_nanos();
        drop(first);
        self.until("another operator leads", |stage| stage.leader() != leader).await?;
        self.show("another operator leads after", self.since_s(began), "s", Some(20.0));
        sleep(Duration::from_secs(20)).await;
        let all = self.stage.records();
        let writes = Writes::of(&all);
        tell(&writes);
        self.show("taking over, writes", writes.count(), "", Some(0.0));
        self.show("operator that took over, most resident", second.peak_mb(), "MB", None);
        Ok(())
    }

    /// All calls until nothing was written for a while.
    async fn settle(
        &self,
        mut all: Vec<pilotage_cluster::record::Record>,
    ) -> Vec<pilotage_cluster::record::Record> {
        let mut quiet_since = self.clock.now_nanos();
        while self.since_s(quiet_since) * 1000.0 < QUIET_MS as f64 {
            sleep(Duration::from_millis(200)).await;
            let new = self.stage.records();
            if Writes::of(&new).count() > 0.0 {
                quiet_since = self.clock.now_nanos();
            }
            all.extend(new);
        }
        all
    }

    async fn until(&self, what: &str, holds: impl Fn(&Stage) -> bool) -> Result<(), String> {
        let began = self.clock.now_nanos();
        while !holds(&self.stage) {
            if self.since_s(began) > PATIENCE_S as f64 {
                return Err(format!("{what}: not within {PATIENCE_S} s"));
            }
            // Looking reads all Models, on the same processors as the operator.
            sleep(LOOK).await;
        }
        Ok(())
    }

    fn since_s(&self, began: u64) -> f64 {
        (self.clock.now_nanos() - began) as f64 / 1e9
    }

    fn show(&mut self, what: &str, value: f64, unit: &str, most: Option<f64>) {
        let is_well = most.is_none_or(|most| value <= most);
        self.is_well &= is_well;
        let aim = most.map(|most| format!(" (at most {most})")).unwrap_or_default();
        let verdict = if is_well { "" } else { " MISSED" };
        say(&format!("{what}: {value:.2} {unit}{aim}{verdict}"));
    }
}

fn tell(writes: &Writes<'_>) {
    for (resource, objects, count) in writes.by_resource() {
        say(&format!("  {resource}: {count} writes of {objects} objects"));
    }
    for line in writes.few() {
        say(&format!("    {line}"));
    }
}

#[expect(clippy::print_stdout, reason = "it prints what it measures")]
fn say(line: &str) {
    println!("{line}");
}
