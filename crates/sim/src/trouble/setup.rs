//! What runs and what comes: a scenario of the simulator in the few numbers that worlds differ in.

use std::fmt::Write as _;

use crate::Scenario;
use crate::engine::Extras;
use crate::scenario::NEVER;

/// Seconds before the window, in which caches fill and batches grow.
pub(super) const WARM_S: f64 = 20.0;

/// Seconds of the window.
pub(super) const WINDOW_S: f64 = 90.0;

/// Requests of one kind.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    /// Requests in a second.
    pub(super) rate: f64,
    /// Tokens of a prompt beyond what it shares.
    pub(super) input: (u32, u32),
    /// Tokens of an answer.
    pub(super) output: (u32, u32),
    /// The most that an answer may have.
    pub(super) output_max: u32,
    /// Beginnings that prompts share, and their tokens.
    pub(super) prefix: Option<(u32, u32)>,
    /// Whether each beginning is a session.
    pub(super) session: bool,
    /// How many seconds its clients wait for a first token.
    pub(super) patience_s: Option<f64>,
    /// How often they try again.
    pub(super) retries: usize,
    /// Requests that its tenant may send in a minute.
    pub(super) quota: Option<u32>,
}

/// A system and what comes to it.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) replicas: usize,
    /// Sequences in a batch.
    pub(super) slots: u32,
    pub(super) kv_tokens: u64,
    /// Tokens of a step.
    pub(super) step_tokens: u32,
    /// Milliseconds for each token of a prompt.
    pub(super) token_ms: f64,
    /// Milliseconds of a step, and more for each sequence.
    pub(super) step_ms: f64,
    pub(super) sequence_ms: f64,
    pub(super) extras: Extras,
    /// How replicas are picked.
    pub(super) route: &'static str,
    pub(super) streams: Vec<Stream>,
    /// Replica, from, until, what, as scenario files say it.
    pub(super) faults: Vec<(usize, f64, f64, String)>,
    /// How many times longer everything takes on each replica.
    pub(super) slowness: Vec<f64>,
}

impl Stream {
    /// Prompts of a thousand tokens, half of them shared, and answers of two hundred.
    pub(super) const fn usual(rate: f64) -> Self {
        Self {
            rate,
            input: (300, 700),
            output: (100, 300),
            output_max: 600,
            prefix: Some((40, 512)),
            session: false,
            patience_s: None,
            retries: 0,
            quota: None,
        }
    }
}

impl Setup {
    /// Four replicas of a model with eight billion parameters on an accelerator with 80 GB, a quarter full.
    pub(super) fn usual() -> Self {
        Self {
            replicas: 4,
            slots: 64,
            kv_tokens: 432_000,
            step_tokens: 2048,
            token_ms: 0.02,
            step_ms: 7.5,
            sequence_ms: 0.03,
            extras: Extras::default(),
            route: "cost",
            streams: vec![Stream::usual(32.0)],
            faults: Vec::new(),
            slowness: Vec::new(),
        }
    }

    /// The scenario, with this seed.
    pub(super) fn scenario(&self, seed: u64) -> Scenario {
        let text = self.yaml();
        let read = |_: &str| Err(String::new());
        #[expect(clippy::panic, reason = "worlds are made here, and tests play all of them")]
        let mut scenario = Scenario::read("trouble", &text, Some(seed), &read)
            .unwrap_or_else(|error| panic!("{error}\n{text}"));
        scenario.engine.extras = self.extras;
        for (at, replica) in scenario.replicas.iter_mut().enumerate() {
            replica.engine.extras = self.extras;
            replica.slowness = self.slowness.get(at).copied().unwrap_or(1.0);
        }
        self.retry(&mut scenario);
        scenario
    }

    /// Gives requests whose clients try again the ones that they may send later.
    fn retry(&self, scenario: &mut Scenario) {
        let fresh = scenario.arrivals.len();
        for at in 0..fresh {
            let arrival = scenario.arrivals[at].clone();
            let mut before = at;
            for _ in 0..self.streams[arrival.tenant as usize].retries {
                scenario.again.insert(before, scenario.arrivals.len());
                before = scenario.arrivals.len();
                scenario.arrivals.push(crate::Arrival { at: NEVER, ..arrival.clone() });
            }
        }
    }

    fn yaml(&self) -> String {
        let mut out = format!(
            "name: trouble\nengine: {{ preset: vllm-like, prefillMs: 0, prefillMsPerToken: {}, stepMs: {}, \
             stepMsPerSequence: {}, stepMsPerKvToken: 0.00003, kvTokens: {}, sequencesMax: {}, stepTokensMax: {} }}\n\
             replicas: {}\nscheduler: {{ policy: fcfs, route: {} }}\ntenants:\n",
            self.token_ms,
            self.step_ms,
            self.sequence_ms,
            self.kv_tokens,
            self.slots,
            self.step_tokens,
            self.replicas,
            self.route
        );
        // Writing into a text cannot fail.
        for (at, stream) in self.streams.iter().enumerate() {
            let _ = write!(out, "- {{ name: t{at}");
            if let Some(patience) = stream.patience_s {
                let _ = write!(out, ", patienceSeconds: {patience}");
            }
            if let Some(quota) = stream.quota {
                let _ = write!(out, ", quota: {{ requestsPerMinute: {quota} }}");
            }
            let _ = writeln!(out, " }}");
        }
        let _ = writeln!(out, "workloads:");
        for (at, stream) in self.streams.iter().enumerate() {
            let Stream { rate, input, output, output_max, .. } = stream;
            let _ = write!(
                out,
                "- {{ seconds: {}, arrivals: {{ poisson: {{ perSecond: {rate} }} }}, requests: [{{ tenant: t{at}, \
                 input: {{ uniform: {{ min: {}, max: {} }} }}, output: {{ uniform: {{ min: {}, max: {} }} }}, \
                 outputMax: {output_max}",
                WARM_S + WINDOW_S,
                input.0,
                input.1,
                output.0,
                output.1
            );
            if let Some((groups, tokens)) = stream.prefix {
                let session = stream.session;
                let _ = write!(
                    out,
                    ", prefix: {{ groups: {groups}, tokens: {tokens}, session: {session} }}"
                );
            }
            let _ = writeln!(out, " }}] }}");
        }
        if !self.faults.is_empty() {
            let _ = writeln!(out, "faults:");
        }
        for (replica, from, until, kind) in &self.faults {
            let seconds = until - from;
            let _ = writeln!(
                out,
                "- {{ at: {from}, seconds: {seconds}, replica: {replica}, kind: {kind} }}"
            );
        }
        out
    }
}
