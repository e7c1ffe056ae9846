//! `pilotage plan tune`: shapes of a model, tried in the simulator, or servers that run already, measured.

mod endpoint;
mod launch;
mod live;
mod show;
#[cfg(test)]
mod tests;

use std::io::IsTerminal as _;

use anyhow::bail;
use indicatif::{ProgressBar, ProgressStyle};
use pilotage_plan::hardware::Accelerator;
use pilotage_plan::launch::{Engine, Features};
use pilotage_plan::select::{Aim, Wish, select, sizing, takes};
use pilotage_plan::size::{Calibration, Dtype, ModelFacts, Shape};
use pilotage_sim::trace::Format as TraceFormat;
use pilotage_sim::tune::{self, Goal, Limits, Means, Origin, Outcome, Tried, WAYS_MAX};
use pilotage_sim::workload::ARRIVALS_MAX;
use pilotage_sim::{Arrival, Scenario};
use serde_json::json;

use crate::args::{PlanTune, TuneGoal};
use crate::cmd::sim;
use crate::exit::Wrong;
use crate::installation::Installation;

use super::{Source, endpoint as hub, engine, hardware, read};
use endpoint::Endpoint;
use launch::Launched;
use live::Asking;
use show::Shown;

/// Tokens of context beyond the longest request, for what chat templates put around a prompt.
const TEMPLATE_TOKENS: u64 = 128;

/// What contexts are multiples of, unless the model ends before.
const CONTEXT_STEP: u64 = 256;

/// Tries, shows and writes.
pub(super) async fn run(args: &PlanTune) -> anyhow::Result<()> {
    let shown = search(args).await?;
    shown.all()?;
    if !shown.tried.iter().any(|one| one.failed.is_none()) {
        bail!("no server could be measured");
    }
    Ok(())
}

/// Tries everything.
async fn search(args: &PlanTune) -> anyhow::Result<Shown<'_>> {
    let limits = limits(args)?;
    let endpoints = endpoint::read_all(&args.endpoints, args.price)?;
    let scenario = scenario(args)?;
    let subject = Subject::read(args).await?;
    let mut notes = Vec::new();
    let mut tried = match &subject {
        Some(subject) if endpoints.is_empty() => {
            subject.simulated(args, &scenario, limits, &mut notes)?
        }
        _ => {
            let mut tried = Asking::new(args, &scenario, limits)?.measure(&endpoints).await?;
            if let Some(subject) = &subject {
                subject.predict(args, (&endpoints, &mut tried), &scenario, limits, &mut notes);
            }
            tried
        }
    };
    if let Some(price) = args.price {
        tried.iter_mut().for_each(|one| one.price(price));
    }
    tune::mark_best(&mut tried);
    let goal = goal(args.goal);
    let picked = tune::pick(&tried, goal, &limits, mean_answer(&scenario));
    let taken = picked.as_ref().and_then(|pick| tried.get(pick.place));
    let launch = taken
        .map(|one| launch_lines(args, (subject.as_ref(), &endpoints), one))
        .unwrap_or_default();
    let named = || args.live.served_model.clone().unwrap_or_else(|| "servers".to_owned());
    Ok(Shown {
        args,
        title: subject.as_ref().map_or_else(named, |subject| subject.source.name()),
        about: about(args, &scenario, subject.as_ref()),
        replay: replay(args),
        requests: scenario.arrivals.len(),
        limits,
        goal,
        calibrated: subject.and_then(|subject| subject.calibrated),
        tried,
        picked,
        launch,
        notes,
    })
}

/// The model, on what and by what it runs.
struct Subject {
    source: Source,
    facts: ModelFacts,
    accelerator: Accelerator,
    engine: Engine,
    calibration: Calibration,
    /// When its speed was measured.
    calibrated: Option<String>,
}

impl Subject {
    async fn read(args: &PlanTune) -> anyhow::Result<Option<Self>> {
        let (Some(model), Some(on)) = (&args.model, &args.hardware) else { return Ok(None) };
        let (accelerator, engine) = (hardware(on)?, engine(&args.runtime)?);
        let source = Source::parse(model, &hub())?;
        let facts = read(&source, false).await?;
        let installation = Installation::at(args.data_dir.clone())?;
        let stored = installation.calibration_of(&facts, accelerator.id, engine.name());
        let found = stored.as_ref().and_then(|stored| stored.fit.calibration);
        let calibration = found.unwrap_or_else(|| Calibration::assumed(&accelerator));
        let calibrated = stored.filter(|_| found.is_some()).map(|stored| stored.measured);
        Ok(Some(Self { source, facts, accelerator, engine, calibration, calibrated }))
    }

    fn means(&self, args: &PlanTune, scenario: &Scenario) -> Means<'_> {
        let all = self.accelerator.per_node.saturating_mul(args.nodes);
        Means {
            facts: &self.facts,
            accelerator: &self.accelerator,
            runtime: sizing(self.engine, None),
            calibration: self.calibration,
            nodes: args.nodes,
            accelerators_max: args.accelerators.unwrap_or(all),
            context: self.context(scenario),
        }
    }

    /// The longest request with room for a template around it, at most what the model was made for.
    fn context(&self, scenario: &Scenario) -> u64 {
        let roomy = (longest(scenario) + TEMPLATE_TOKENS).next_multiple_of(CONTEXT_STEP);
        roomy.min(self.facts.context_max.unwrap_or(u64::MAX))
    }

    /// Whether the runtime runs the model there, and the model holds the requests.
    fn check(&self, args: &PlanTune, scenario: &Scenario) -> Result<(), Wrong> {
        let features = Features { task: self.facts.task, ..Features::default() };
        let selection = select(&Wish {
            facts: &self.facts,
            accelerator: &self.accelerator,
            nodes: 1,
            features: &features,
            aim: Aim::default(),
            asked: Some(self.engine),
            installed: None,
        });
        if selection.engine.is_none() {
            let hint = format!("{} says which runtimes do", plan_command(args));
            return Err(Wrong::new(selection.reason).hint(hint));
        }
        let (longest, most) = (longest(scenario), self.facts.context_max.unwrap_or(u64::MAX));
        if longest > most {
            let text = format!(
                "a request has {longest} tokens with its answer, and the model was made for {most} of context"
            );
            let hint = match (&args.scenario, &args.recorded.trace) {
                (None, None) => "lower --prompt or --answer",
                _ => "leave such requests out, or take a model with more context",
            };
            return Err(Wrong::new(text).hint(hint));
        }
        Ok(())
    }

    /// Every shape, played.
    fn simulated(
        &self,
        args: &PlanTune,
        scenario: &Scenario,
        limits: Limits,
        notes: &mut Vec<String>,
    ) -> anyhow::Result<Vec<Tried>> {
        self.check(args, scenario)?;
        let means = self.means(args, scenario);
        let node = self.accelerator.per_node.max(1);
        let starts = |shape: &Shape| {
            takes(self.engine, shape, shape.accelerators_per_replica().div_ceil(node))
        };
        let ways = tune::ways(&means, &starts);
        if ways.list.is_empty() {
            let hint = format!("{} says by how much", plan_command(args));
            let wrong = Wrong::new("the model fits in no shape on that hardware");
            return Err(wrong.hint(hint).into());
        }
        if ways.left_out > 0 {
            notes.push(format!(
                "{WAYS_MAX} of {} ways were tried, those with unusual steps left out; fewer --accelerators leave room for them",
                WAYS_MAX + ways.left_out
            ));
        }
        notes.push(format!(
            "the context of {} tokens holds the longest request, {}, and what a chat template adds",
            means.context,
            longest(scenario)
        ));
        let bar = bar(ways.list.len());
        let mut tried = Vec::with_capacity(ways.list.len());
        for way in &ways.list {
            tried.push(tune::try_out(scenario, way, limits));
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(tried)
    }

    /// Puts the simulator's word beside what was measured of servers whose shape is known.
    fn predict(
        &self,
        args: &PlanTune,
        (endpoints, tried): (&[Endpoint], &mut [Tried]),
        scenario: &Scenario,
        limits: Limits,
        notes: &mut Vec<String>,
    ) {
        if let Err(why) = self.check(args, scenario) {
            notes.push(format!("nothing is predicted: {why}"));
            return;
        }
        let means = self.means(args, scenario);
        let plain = if self.facts.dtype == Dtype::F16 { Dtype::F16 } else { Dtype::Bf16 };
        let (batch_tokens, sequences) = means.runtime.default_batch(&self.accelerator);
        let graphs = !self.accelerator.is_processor();
        let usual =
            Shape { batch_tokens, sequences, graphs, ..Shape::single(means.context, plain) };
        for (endpoint, one) in endpoints.iter().zip(tried) {
            match endpoint.shape(usual).map(|shape| (shape, tune::engine(&means, &shape))) {
                None => notes.push(format!(
                    "{}: nothing is predicted, as its shape is not known: say accelerators= or tp=",
                    one.name
                )),
                Some((shape, None)) => notes.push(format!(
                    "{}: nothing is predicted, as the model does not fit in {shape} on {}",
                    one.name, self.accelerator.id
                )),
                Some((shape, Some(engine))) => {
                    let outcome: Outcome = tune::play(scenario, &engine, shape.replicas, limits);
                    (one.shape, one.predicted) = (Some(shape), Some(outcome));
                }
            }
        }
    }
}

fn plan_command(args: &PlanTune) -> String {
    let (model, on) = (args.model.as_deref(), args.hardware.as_deref());
    format!("`pilotage plan {} --hardware {}`", model.unwrap_or_default(), on.unwrap_or_default())
}

fn launch_lines(
    args: &PlanTune,
    (subject, endpoints): (Option<&Subject>, &[Endpoint]),
    one: &Tried,
) -> Vec<String> {
    if one.origin == Origin::Measured {
        let endpoint = endpoints.iter().find(|endpoint| endpoint.name == one.name);
        let key_env = endpoint.and_then(|endpoint| endpoint.key_env.as_deref());
        return launch::running(one, key_env.or(args.live.key_env.as_deref()));
    }
    let (Some(subject), Some(shape)) = (subject, &one.shape) else { return Vec::new() };
    let launched = Launched {
        source: &subject.source,
        typed: args.model.as_deref().unwrap_or_default(),
        facts: &subject.facts,
        accelerator: &subject.accelerator,
        engine: subject.engine,
    };
    launched.lines(shape)
}

/// The requests that are played.
fn scenario(args: &PlanTune) -> anyhow::Result<Scenario> {
    if let Some(name) = &args.scenario {
        return sim::read_named(name, Some(args.seed), args.data_dir.clone());
    }
    if args.recorded.trace.is_some() {
        return recorded(args);
    }
    if !(args.rate > 0.0 && args.rate.is_finite()) {
        return Err(Wrong::new("--rate must be above 0").into());
    }
    let text = format!(
        "name: tune\ntenants: [{{name: all}}]\nworkloads:\n- seconds: {}\n  arrivals: {{poisson: {{perSecond: {}}}}}\n  \
         requests: [{{tenant: all, input: {}, output: {}}}]\n",
        args.seconds, args.rate, args.prompt, args.answer
    );
    let read = Scenario::read("tune", &text, Some(args.seed), &|_| Err("there is none".to_owned()));
    read.map_err(|error| {
        let expected = args.rate * f64::from(args.seconds);
        let hint = match expected < f64::from(ARRIVALS_MAX) {
            true => "raise --rate or --seconds",
            false => "lower --rate or --seconds",
        };
        Wrong::new(error.to_string()).hint(hint).into()
    })
}

/// The requests of a trace, all of one tenant: whose they are is no matter for shapes.
fn recorded(args: &PlanTune) -> anyhow::Result<Scenario> {
    let Some(path) = &args.recorded.trace else { bail!("there is no trace") };
    let text = sim::read_text(path)
        .map_err(|error| Wrong::new(format!("--trace: cannot read {}: {error}", path.display())))?;
    let format = match &args.recorded.trace_format {
        Some(named) => json!(named),
        None => json!(TraceFormat::guess(&text).ok_or_else(|| {
            Wrong::new(format!("--trace: it cannot be told how {} is written", path.display()))
                .hint("name it: --trace-format azure, mooncake, vtc or own")
        })?),
    };
    let mut take = json!({"tenants": {"roundRobin": ["all"]}});
    if let Some(speedup) = args.recorded.speedup {
        take["speedup"] = json!(speedup);
    }
    if let Some(limit) = args.recorded.limit {
        take["limit"] = json!(limit);
    }
    let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let scenario = json!({
        "name": file,
        "tenants": [{"name": "all"}],
        "trace": {"file": path.display().to_string(), "format": format, "take": take},
    });
    // JSON is YAML, too.
    let read =
        Scenario::read("--trace", &scenario.to_string(), Some(args.seed), &|_| Ok(text.clone()));
    read.map_err(|error| Wrong::new(error.to_string()).into())
}

fn limits(args: &PlanTune) -> Result<Limits, Wrong> {
    let seconds = |name: &str, given: Option<f64>| match given {
        Some(value) if !(value > 0.0 && value.is_finite()) => {
            Err(Wrong::new(format!("--{name} must be above 0")))
        }
        given => Ok(given.map(|ms| ms / 1e3)),
    };
    seconds("price", args.price)?;
    seconds("speedup", args.recorded.speedup)?;
    Ok(Limits {
        ttft_seconds: seconds("ttft", args.ttft)?,
        tpot_seconds: seconds("tpot", args.tpot)?,
    })
}

const fn goal(goal: TuneGoal) -> Goal {
    match goal {
        TuneGoal::Latency => Goal::Latency,
        TuneGoal::Cost => Goal::Cost,
        TuneGoal::Balance => Goal::Balance,
    }
}

/// Tokens of the longest request, its answer included.
fn longest(scenario: &Scenario) -> u64 {
    let tokens = |one: &Arrival| u64::from(one.input) + u64::from(one.output);
    scenario.arrivals.iter().map(tokens).max().unwrap_or(1)
}

fn mean_answer(scenario: &Scenario) -> f64 {
    let tokens = |arrival: &Arrival| f64::from(arrival.output);
    scenario.arrivals.iter().map(tokens).sum::<f64>() / scenario.arrivals.len().max(1) as f64
}

fn about(args: &PlanTune, scenario: &Scenario, subject: Option<&Subject>) -> String {
    let mut text = format!("{} requests of {}", scenario.arrivals.len(), scenario.name);
    if !args.endpoints.is_empty() {
        text.push_str(&format!(", sent to {} servers one after the other", args.endpoints.len()));
    }
    let Some(subject) = subject else { return text };
    let predicted = if args.endpoints.is_empty() { "" } else { "; predictions" };
    let nodes = if args.nodes > 1 { format!("{} nodes of ", args.nodes) } else { String::new() };
    let on = args.hardware.as_deref().unwrap_or_default();
    text.push_str(&format!("{predicted}, on {nodes}{on} under {}; ", args.runtime));
    text.push_str(&match &subject.calibrated {
        Some(when) => format!("speed calibrated by measurements of {when}"),
        None => "speed predicted without measurements".to_owned(),
    });
    text
}

/// The command that gives this again.
fn replay(args: &PlanTune) -> String {
    let mut text = "pilotage plan tune".to_owned();
    let mut flag = |name: &str, value: Option<String>| {
        text.extend(value.map(|value| format!(" {name}{}", sim::quoted(&value))));
    };
    flag("", args.model.clone());
    flag("--hardware ", args.hardware.clone());
    flag("--runtime ", args.model.as_ref().map(|_| args.runtime.clone()));
    flag("--nodes ", (args.nodes > 1).then(|| args.nodes.to_string()));
    for endpoint in &args.endpoints {
        flag("--endpoint ", Some(endpoint.clone()));
    }
    if !args.endpoints.is_empty() {
        flag("--served-model ", args.live.served_model.clone());
        flag("--ask ", (args.live.ask != "chat").then(|| args.live.ask.clone()));
        flag("--key-env ", args.live.key_env.clone());
        flag("--warm-up ", Some(args.live.warm_up.to_string()));
        flag("--timeout ", Some(args.live.timeout.to_string()));
    }
    flag("--seed ", Some(args.seed.to_string()));
    let recorded = &args.recorded;
    match (&args.scenario, &recorded.trace) {
        (Some(name), _) => flag("--scenario ", Some(name.clone())),
        (None, Some(path)) => flag("--trace ", Some(path.display().to_string())),
        (None, None) => {
            flag("--rate ", Some(args.rate.to_string()));
            let counts =
                [("prompt", args.prompt), ("answer", args.answer), ("seconds", args.seconds)];
            for (name, count) in counts {
                flag(&format!("--{name} "), Some(count.to_string()));
            }
        }
    }
    flag("--trace-format ", recorded.trace_format.clone());
    flag("--speedup ", recorded.speedup.map(|by| by.to_string()));
    flag("--limit ", recorded.limit.map(|count| count.to_string()));
    let numbers = [("ttft", args.ttft), ("tpot", args.tpot), ("price", args.price)];
    for (name, number) in numbers {
        flag(&format!("--{name} "), number.map(|number| number.to_string()));
    }
    let goal = match args.goal {
        TuneGoal::Latency => Some("latency"),
        TuneGoal::Cost => Some("cost"),
        TuneGoal::Balance => None,
    };
    flag("--goal ", goal.map(str::to_owned));
    flag("--accelerators ", args.accelerators.map(|count| count.to_string()));
    text
}

fn bar(count: usize) -> ProgressBar {
    let shown = std::io::stderr().is_terminal();
    let bar = if shown { ProgressBar::new(count as u64) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{bar:32} {pos} of {len} shapes, {eta} left") {
        bar.set_style(style);
    }
    bar
}
