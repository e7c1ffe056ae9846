//! Servers that run already, measured one after the other with the same requests at the same times.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use pilotage_lab::arrivals::trace::Row;
use pilotage_lab::load::{self, Bench, CONNECTIONS_MAX, Options, Run, Target, Watch};
use pilotage_lab::record::{Outcome as Ended, Sample};
use pilotage_lab::stats::book::Book;
use pilotage_lab::workload::{Length, Load, Spec, Tenant, WarmUp, Workload};
use pilotage_shell::clock::Clock;
use pilotage_shell::secret::Secret;
use pilotage_sim::arrival::seconds;
use pilotage_sim::tune::{Limits, Origin, Outcome, Tally, Tried};
use pilotage_sim::{Arrival, Scenario};
use serde_json::{Map, Value};

use crate::args::PlanTune;
use crate::cmd::{bench, probe};
use crate::exit::Wrong;
use crate::output;

use super::endpoint::Endpoint;

/// Requests that are sent to each server at most.
const REQUESTS_MAX: usize = 100_000;

/// Requests that warm up, at once.
const WARM_AT_ONCE: usize = 4;

/// Tokens of an answer that warms up, at most.
const WARM_TOKENS: u32 = 32;

/// A server of whose requests so many failed, and none did not, is given up.
const FAILED_MAX: u64 = 20;

/// How often a bar changes, and how often a line comes where there is none.
const TICK: Duration = Duration::from_millis(500);
const TICKS_A_LINE: u32 = 10;

/// By how much lengths may differ from what was asked before it is said.
const LENGTH_OFF: f64 = 0.1;

/// The part of the tokens that were asked for that answers must have, on average, to be compared.
const LENGTH_MIN: f64 = 0.5;

/// Seconds by which the 99th percentile of requests may be sent late before it is said.
const LATE_SECONDS: f64 = 0.05;

/// What all servers are asked.
pub(super) struct Asking<'a> {
    args: &'a PlanTune,
    scenario: &'a Scenario,
    limits: Limits,
    rows: Arc<[Row]>,
}

/// A server, ready to be asked.
struct Server<'a> {
    endpoint: &'a Endpoint,
    model: String,
    key: Option<&'a Secret>,
    /// Whether it is told that answers go on to their end.
    ends: bool,
}

impl<'a> Asking<'a> {
    /// Finds out whether there is too much to send.
    pub(super) fn new(
        args: &'a PlanTune,
        scenario: &'a Scenario,
        limits: Limits,
    ) -> Result<Self, Wrong> {
        let count = scenario.arrivals.len();
        if count > REQUESTS_MAX {
            let text =
                format!("{count} requests are too many to send to servers, at most {REQUESTS_MAX}");
            return Err(Wrong::new(text).hint("cut them with --limit, --seconds or --rate"));
        }
        let rows = scenario.arrivals.iter().map(row).collect();
        Ok(Self { args, scenario, limits, rows })
    }

    /// Measures them one after the other. One that fails says why, and the rest goes on.
    pub(super) async fn measure(&self, endpoints: &[Endpoint]) -> anyhow::Result<Vec<Tried>> {
        let keys: Vec<Option<Secret>> =
            endpoints.iter().map(|endpoint| self.key(endpoint)).collect::<Result<_, _>>()?;
        bench::raise_open_files();
        let mut tried = Vec::with_capacity(endpoints.len());
        let mut interrupted = false;
        for (number, (endpoint, key)) in endpoints.iter().zip(&keys).enumerate() {
            let mut one = Tried {
                name: endpoint.name.clone(),
                origin: Origin::Measured,
                url: Some(endpoint.url.clone()),
                accelerators: endpoint.accelerators,
                cost: endpoint.cost.map(Into::into),
                ..Tried::default()
            };
            let progress = format!("{} ({} of {})", endpoint.name, number + 1, endpoints.len());
            let measured = match interrupted {
                true => Err("it was not measured: somebody interrupted".to_owned()),
                false => self.one(endpoint, key.as_ref(), &progress).await,
            };
            match measured {
                Ok((_, run)) if run.interrupted => {
                    interrupted = true;
                    one.failed = Some("somebody interrupted".to_owned());
                }
                Ok((model, run)) => {
                    one.served_model = Some(model);
                    self.judge(run, &mut one);
                }
                Err(why) => one.failed = Some(why),
            }
            if let Some(why) = &one.failed {
                output::note(&format!("{}: {why}", endpoint.name));
            }
            tried.push(one);
        }
        Ok(tried)
    }

    pub(super) fn key(&self, endpoint: &Endpoint) -> anyhow::Result<Option<Secret>> {
        let named = endpoint.key_env.as_deref().or(self.args.live.key_env.as_deref());
        // The gateway's own key is for the gateway: whoever runs another server must not get to see it.
        probe::key(named)
    }

    /// Warms one up and sends it everything: its model's name and what happened; or why that cannot be.
    async fn one(
        &self,
        endpoint: &Endpoint,
        key: Option<&Secret>,
        progress: &str,
    ) -> Result<(String, Run), String> {
        let asked = bench::models(&endpoint.url, key).await;
        let served = asked.map_err(|error| format!("{error:#}"))?;
        let named = endpoint.model.as_ref().or(self.args.live.served_model.as_ref());
        let model = match named {
            Some(named) if served.contains(named) => named.clone(),
            Some(named) => {
                return Err(format!("it serves {}, and not {named}", served.join(", ")));
            }
            None => served.into_iter().next().ok_or("it names no model: say model=NAME")?,
        };
        let mut server = Server { endpoint, model, key, ends: true };
        output::note(&format!("{progress}: warming up {}", server.model));
        let mut warm = self.send(&server, self.warm_up(), None).await?;
        if !is_answered(&warm.book) && !warm.interrupted && is_refusal(&warm.book) {
            // OpenAI's own interface does not know the field that makes answers go on.
            server.ends = false;
            warm = self.send(&server, self.warm_up(), None).await?;
        }
        if !is_answered(&warm.book) && !warm.interrupted {
            return Err(format!("no request that warms it up was answered: {}", why(&warm.book)));
        }
        if warm.interrupted {
            return Ok((server.model, warm));
        }
        let spec = Spec {
            load: Load::Trace { rows: Arc::clone(&self.rows), stretch: 1.0 },
            workload: workload(1, 1),
            seed: self.args.seed,
            end_nanos: None,
            requests: None,
            warm_up: WarmUp::Nanos(self.scenario.warm.as_nanos()),
        };
        let run = self.send(&server, spec, Some(progress)).await?;
        if !is_answered(&run.book) && !run.interrupted {
            return Err(format!("no request was answered: {}", why(&run.book)));
        }
        Ok((server.model, run))
    }

    /// A few requests that are like those that count, with other prompts.
    fn warm_up(&self) -> Spec {
        let mean = |of: &dyn Fn(&Row) -> u32| {
            let sum: u64 = self.rows.iter().map(|row| u64::from(of(row))).sum();
            u32::try_from(sum / (self.rows.len() as u64).max(1)).unwrap_or(1).max(1)
        };
        Spec {
            load: Load::Closed { concurrency: WARM_AT_ONCE },
            workload: workload(mean(&|row| row.input), mean(&|row| row.output).min(WARM_TOKENS)),
            seed: !self.args.seed,
            end_nanos: None,
            requests: Some(self.args.live.warm_up),
            warm_up: WarmUp::Nanos(0),
        }
    }

    /// Sends it, and shows how far it is where that takes a while.
    async fn send(
        &self,
        server: &Server<'_>,
        spec: Spec,
        progress: Option<&str>,
    ) -> Result<Run, String> {
        let target = self.target(server).map_err(|error| error.to_string())?;
        let timeout = Duration::from_secs(self.args.live.timeout);
        let limits = load::Limits { connections: CONNECTIONS_MAX, timeout, grace: timeout };
        let bench =
            Bench::new(Clock::start(), spec, target, limits).map_err(|error| error.to_string())?;
        Ok(follow(bench, progress, self.rows.len() as u64).await)
    }

    fn target(&self, server: &Server<'_>) -> Result<Target, load::TargetError> {
        let mut extra = Map::new();
        if server.ends {
            extra.insert("ignore_eos".to_owned(), Value::from(true));
        }
        let options = Options {
            model: server.model.clone(),
            stream: true,
            keys: vec![server.key.cloned()],
            headers: Vec::new(),
            extra,
        };
        let kind = match self.args.live.ask.as_str() {
            "completions" => load::Endpoint::Completions,
            _ => load::Endpoint::Chat,
        };
        Target::new(&server.endpoint.url, kind, options)
    }

    /// Adds up what was measured, and what is to be known about it.
    fn judge(&self, run: Run, one: &mut Tried) {
        one.outcome = outcome(&run.book, self.limits, self.scenario.counted_seconds());
        if one.outcome.lost > 0 {
            one.notes.push(format!("{} lost: {}", one.outcome.lost, why(&run.book)));
        }
        let counted: Vec<&Sample> =
            run.book.samples.iter().filter(|sample| !sample.warm && has_answer(sample)).collect();
        let mean = |of: &dyn Fn(&Sample) -> u32| {
            counted.iter().map(|sample| f64::from(of(sample))).sum::<f64>()
                / counted.len().max(1) as f64
        };
        let warm = self.scenario.warm;
        let asked = self.scenario.arrivals.iter().filter(|arrival| arrival.at >= warm);
        let asked_mean = |of: &dyn Fn(&Arrival) -> u32| {
            let sum: f64 = asked.clone().map(|arrival| f64::from(of(arrival))).sum();
            sum / asked.clone().count().max(1) as f64
        };
        let lengths = [
            ("prompts", mean(&|sample| sample.input_tokens), asked_mean(&|one| one.input)),
            ("answers", mean(&|sample| sample.output_tokens), asked_mean(&|one| one.output)),
        ];
        for (what, found, asked) in lengths {
            if (found / asked.max(1.0) - 1.0).abs() > LENGTH_OFF {
                one.notes.push(format!(
                    "{what} had {found:.0} tokens in its count, and {asked:.0} were asked for"
                ));
            }
        }
        let [_, (_, found, asked)] = lengths;
        // Where nothing was answered, that is what is said.
        one.short = !counted.is_empty() && found < asked * LENGTH_MIN;
        if one.short {
            one.notes.push("answers are too short to compare, so it cannot be best".to_owned());
        }
        let mut late: Vec<f64> = counted.iter().map(|sample| sample.schedule_delay()).collect();
        late.sort_by(f64::total_cmp);
        let late =
            late.get(late.len().saturating_sub(late.len() / 100 + 1)).copied().unwrap_or(0.0);
        if late > LATE_SECONDS {
            one.notes
                .push(format!("this machine sent up to {late:.2} s late: it has too much to do"));
        }
    }
}

/// What was measured of the requests that count.
fn outcome(book: &Book, limits: Limits, seconds: f64) -> Outcome {
    let mut tally = Tally::new(limits);
    for sample in book.samples.iter().filter(|sample| !sample.warm) {
        if !has_answer(sample) {
            tally.lost();
            continue;
        }
        // What comes whole has its first token with its last.
        let ttft = sample.ttft().unwrap_or_else(|| sample.e2e());
        let tpot = sample.tpot().filter(|_| sample.events > 1);
        match sample.output_asked.max(sample.output_tokens) > 1 && tpot.is_none() {
            true => tally.answered_untimed(ttft),
            false => tally.answered(ttft, tpot),
        }
    }
    tally.outcome(seconds)
}

/// Whether it came to its end with a token at least: an end alone is no answer.
fn has_answer(sample: &Sample) -> bool {
    sample.outcome == Ended::Ok && sample.output_tokens > 0
}

fn is_answered(book: &Book) -> bool {
    book.samples.iter().any(has_answer)
}

fn row(arrival: &Arrival) -> Row {
    Row {
        at: seconds(arrival.at),
        input: arrival.input,
        output: arrival.output,
        blocks: arrival.prefix.to_vec(),
        block_tokens: arrival.block_tokens,
    }
}

fn workload(input: u32, output: u32) -> Workload {
    Workload {
        input: Length::Fixed(input),
        output: Length::Fixed(output),
        prefix: None,
        turns: 1,
        think_seconds: 0.0,
        tenants: vec![Tenant { name: "all".to_owned(), weight: 1.0 }],
    }
}

/// Whether everything was answered as a request that is not understood.
fn is_refusal(book: &Book) -> bool {
    book.samples.iter().all(|sample| [400, 422].contains(&sample.status))
}

/// How requests that count ended that were not answered, the most frequent way first.
fn why(book: &Book) -> String {
    let mut ways: BTreeMap<String, usize> = BTreeMap::new();
    for sample in book.samples.iter().filter(|sample| !sample.warm && !has_answer(sample)) {
        *ways.entry(way(sample)).or_default() += 1;
    }
    let mut ways: Vec<(String, usize)> = ways.into_iter().collect();
    ways.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    let told = ways.iter().take(3).map(|(way, count)| format!("{count} × {way}"));
    told.collect::<Vec<_>>().join(", ")
}

fn way(sample: &Sample) -> String {
    let text = match sample.outcome {
        Ended::Ok => "an answer without tokens",
        Ended::Rejected | Ended::Status => return format!("status {}", sample.status),
        Ended::Connect => "no connection",
        Ended::Broken => "the connection broke",
        Ended::Timeout => "no end in time",
        Ended::StreamError => "an error in the stream",
        Ended::Truncated => "a stream without its end",
        Ended::Unfinished => "not finished",
        Ended::Overflow => "never sent",
    };
    text.to_owned()
}

/// Runs it to its end, until Ctrl-C, or until there is no hope, whichever is first.
async fn follow(bench: Bench, progress: Option<&str>, requests: u64) -> Run {
    let watch = bench.watch();
    let mut run = std::pin::pin!(bench.run());
    let shown = progress.map(|progress| Shown::new(progress, requests));
    let (mut ticks, mut interrupted, mut hopeless) = (0_u32, false, false);
    let mut run = loop {
        tokio::select! {
            biased;
            run = &mut run => break run,
            _ = tokio::signal::ctrl_c() => {
                interrupted = true;
                watch.stop();
            }
            () = tokio::time::sleep(TICK) => {
                ticks += 1;
                hopeless |= tick(&watch, shown.as_ref(), ticks);
            }
        }
    };
    if let Some(shown) = &shown {
        shown.bar.finish_and_clear();
    }
    // What was stopped for want of hope has a reason of its own.
    run.interrupted = interrupted && !hopeless;
    run
}

/// Shows it; whether it was stopped, as there is no hope.
fn tick(watch: &Watch, shown: Option<&Shown>, ticks: u32) -> bool {
    let now = watch.snapshot(0.0);
    if let Some(shown) = shown {
        let text = format!("sent {}, failed {}", now.sent, now.failed);
        shown.bar.set_position(now.done.min(shown.requests));
        shown.bar.set_message(text.clone());
        if !shown.is_terminal && ticks.is_multiple_of(TICKS_A_LINE) {
            output::note(&format!(
                "{}: {:.0} s, {text}, done {} of {}",
                shown.progress, now.seconds, now.done, shown.requests
            ));
        }
    }
    let hopeless = now.done >= FAILED_MAX && now.failed == now.done;
    if hopeless {
        watch.stop();
    }
    hopeless
}

/// How far a run is.
struct Shown {
    bar: ProgressBar,
    progress: String,
    requests: u64,
    is_terminal: bool,
}

impl Shown {
    fn new(progress: &str, requests: u64) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = if is_terminal { ProgressBar::new(requests) } else { ProgressBar::hidden() };
        if let Ok(style) =
            ProgressStyle::with_template("{prefix} {bar:32} {pos} of {len} requests, {msg}")
        {
            bar.set_style(style);
        }
        bar.set_prefix(progress.to_owned());
        Self { bar, progress: progress.to_owned(), requests, is_terminal }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(change: impl Fn(&mut Sample)) -> Sample {
        let ms = 1_000_000;
        let mut sample = Sample {
            intended: 0,
            paced: 0,
            sent: 0,
            first: Some(100 * ms),
            last: Some(200 * ms),
            end: 210 * ms,
            tenant: 0,
            turn: 0,
            warm: false,
            outcome: Ended::Ok,
            status: 200,
            input_tokens: 10,
            cached_tokens: 0,
            output_tokens: 11,
            counted: true,
            output_asked: 11,
            events: 11,
            gaps: Box::default(),
        };
        change(&mut sample);
        sample
    }

    fn book(samples: Vec<Sample>) -> Book {
        let mut book = Book::default();
        book.samples = samples;
        book
    }

    #[test]
    fn only_answers_with_timed_tokens_are_good() {
        let check = |change: &dyn Fn(&mut Sample), expect: (u64, f64, Option<f64>)| {
            let book = book(vec![sample(change)]);
            let limits = Limits { ttft_seconds: None, tpot_seconds: Some(0.05) };
            let found = outcome(&book, limits, 1.0);
            let tpot = found.tpot_p99.map(pilotage_sim::report::Rounded::get);
            assert_eq!((found.lost, found.good.get(), tpot), expect);
        };
        check(&|_| {}, (0, 1.0, Some(0.01)));
        let nothing = |one: &mut Sample| {
            (one.first, one.last, one.output_tokens, one.events) = (None, None, 0, 0);
        };
        check(&nothing, (1, 0.0, None));
        check(&|one| (one.last, one.events) = (one.first, 1), (0, 0.0, None));
        check(&|one| (one.first, one.last, one.events) = (None, None, 0), (0, 0.0, None));
        let single = |one: &mut Sample| {
            (one.last, one.output_tokens, one.output_asked, one.events) = (one.first, 1, 1, 1);
        };
        check(&single, (0, 1.0, None));
    }

    #[test]
    fn causes_are_those_of_requests_that_count() {
        let timeout = sample(|one| one.outcome = Ended::Timeout);
        let warm = sample(|one| (one.outcome, one.warm) = (Ended::Broken, true));
        let book = book(vec![warm.clone(), timeout, warm]);
        assert_eq!(why(&book), "1 × no end in time");
    }
}
