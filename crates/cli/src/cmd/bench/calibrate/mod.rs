//! `pilotage bench calibrate`: measures a server, fits what plans reckon with, and says how far off that is.

mod budget;
mod measure;
mod show;
#[cfg(test)]
mod tests;
mod told;

use std::time::Duration;

use anyhow::{Context as _, bail};
use pilotage_lab::calibrate::{Design, Doubt};
use pilotage_lab::load::{Endpoint, Options, Target, TargetError};
use pilotage_plan::hardware::Accelerator;
use pilotage_plan::launch::{Engine, Version};
use pilotage_plan::select::sizing;
use pilotage_plan::size::fitted::{SCHEMA, Trial};
use pilotage_plan::size::{
    Calibration, Dtype, Fit, ModelFacts, Point, Runtime, Setting, Shape, Stored, Subject,
};
use pilotage_shell::clock::Clock;
use pilotage_shell::date;
use pilotage_shell::secret::Secret;
use serde_json::{Map, Value};

use crate::args::BenchCalibrate;
use crate::cmd::{plan, probe};
use crate::exit::Wrong;
use crate::installation::{Installation, key_from_env};
use crate::output::{self, Format};

use measure::Measured;

/// Context where the model's files say none.
const CONTEXT_DEFAULT: u64 = 8192;

/// Measures, shows and keeps.
pub(super) fn run(args: &BenchCalibrate) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (stored, doubts) = runtime.block_on(calibrate(args))?;
    match args.output {
        Format::Json => output::json(&show::told(&stored, &doubts))?,
        Format::Table => show::table(&stored),
    }
    for doubt in &doubts {
        output::note(&format!("{} {doubt}", output::paint("doubt:", "1;33")));
    }
    if args.save {
        keep(args, &stored, &doubts)?;
    }
    Ok(())
}

fn keep(args: &BenchCalibrate, stored: &Stored, doubts: &[Doubt]) -> anyhow::Result<()> {
    if !doubts.is_empty() && !args.force {
        output::hint(
            "measure again when the server and its machine have nothing else to do; --force keeps it as it is",
        );
        bail!("what was measured is in doubt and was not kept");
    }
    let installation = Installation::at(args.data_dir.clone())?;
    let name = args.name.as_deref().unwrap_or(&stored.subject.model);
    let path = installation.keep_calibration(name, stored)?;
    output::note(&format!("wrote {}", path.display()));
    Ok(())
}

/// What is known of the server besides its address.
struct Known {
    engine: Option<Engine>,
    version: Option<String>,
    model: String,
    facts: Option<(ModelFacts, Accelerator)>,
}

async fn calibrate(args: &BenchCalibrate) -> anyhow::Result<(Stored, Vec<Doubt>)> {
    // It would be kept with the result.
    let after = args.url.split_once("://").map_or(args.url.as_str(), |(_, rest)| rest);
    if after.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@')) {
        return Err(Wrong::new("an address holds no user and no password here")
            .hint("a key is given in an environment variable: --key-env NAME")
            .into());
    }
    let key = match probe::key(args.key_env.as_deref())? {
        Some(key) => Some(key),
        None => key_from_env(),
    };
    let server = probe::find(&args.url, key.clone(), args.model.as_deref()).await?;
    let known = known(args, &server).await?;
    let design = Design {
        prompts: args.prompts.clone(),
        concurrencies: args.concurrencies.clone(),
        contexts: args.contexts.clone(),
        answer: args.answer,
        context_max: context_max(&server, &known.model),
    };
    let make = |ends: bool| target(args, &known.model, key.as_ref(), ends);
    // Mistakes are found before anything is sent.
    make(true).map_err(|error| Wrong::new(error.to_string()))?;
    let measured = measure::measure(args, &server, &design, &make).await?;
    let stored = stored(args, &server.url, known, &measured)?;
    Ok((stored, measured.doubts))
}

/// What the server is, by its answers and by what was typed.
async fn known(args: &BenchCalibrate, server: &probe::Answering) -> anyhow::Result<Known> {
    let found = &server.finding;
    let asked = args.runtime.as_deref().map(plan::engine).transpose()?;
    let seen = || Engine::ALL.into_iter().find(|engine| engine.dialect().wire() == found.dialect);
    let engine = asked.or_else(seen);
    let first = found.models.first().map(|served| served.id.clone());
    let model =
        args.model.clone().or(first).ok_or_else(|| {
            Wrong::new("the server names no model").hint("name one: --model NAME")
        })?;
    let facts = match (&args.weights, &args.hardware) {
        (Some(weights), Some(hardware)) => {
            Some((plan::facts_of(weights).await?, plan::hardware(hardware)?))
        }
        _ => None,
    };
    if facts.is_some() && engine.is_none() {
        return Err(Wrong::new("it cannot be told which runtime that is")
            .hint("name it: --runtime vllm")
            .into());
    }
    let version = found.version.as_ref().map(|version| version.as_str().to_owned());
    Ok(Known { engine, version, model, facts })
}

fn context_max(server: &probe::Answering, model: &str) -> Option<u64> {
    let served = server.finding.models.iter().find(|served| served.id == model);
    served.and_then(|served| served.context).or(server.finding.context)
}

/// The server as the lab asks it; answers go on to their end where it knows how to.
fn target(
    args: &BenchCalibrate,
    model: &str,
    key: Option<&Secret>,
    ends: bool,
) -> Result<Target, TargetError> {
    let mut extra = Map::new();
    extra.insert("temperature".to_owned(), Value::from(0));
    if ends {
        extra.insert("ignore_eos".to_owned(), Value::from(true));
    }
    let endpoint = match args.endpoint.as_str() {
        "completions" => Endpoint::Completions,
        _ => Endpoint::Chat,
    };
    let options = Options {
        model: model.to_owned(),
        stream: true,
        keys: vec![key.cloned()],
        // Some servers close connections after a stream without saying so, and the next request on one is lost.
        headers: vec![("connection".to_owned(), "close".to_owned())],
        extra,
    };
    Target::new(&args.url, endpoint, options)
}

/// Fits what was measured.
fn stored(
    args: &BenchCalibrate,
    url: &str,
    known: Known,
    measured: &Measured,
) -> anyhow::Result<Stored> {
    let version = known.version.as_deref().and_then(Version::parse);
    let runtime = known.engine.map_or(Runtime::VLLM, |engine| sizing(engine, version));
    let facts = known.facts.as_ref();
    let shape = facts.map(|(facts, accelerator)| shape(args, facts, accelerator, runtime));
    let setting = facts.zip(shape.as_ref()).map(|((facts, accelerator), shape)| {
        let setting = Setting { facts, shape, accelerator, runtime };
        (setting, Calibration::assumed(accelerator))
    });
    let setting = setting.as_ref().map(|(setting, assumed)| (setting, assumed));
    let points: Vec<Point> = measured.points.clone();
    let fit = Fit::of(&points, setting)
        .context("nothing can be fitted to what was measured")
        .inspect_err(|_| measured.notes.iter().for_each(|note| output::note(note)))?;
    let trials = measured.loads.iter();
    let loads = trials.map(|(load, rate)| Trial::of(load, *rate, &fit, setting)).collect();
    let facts = facts.map(|(facts, _)| facts);
    Ok(Stored {
        schema: SCHEMA.to_owned(),
        measured: date::utc(Clock::start().unix_ms() / 1000),
        url: url.to_owned(),
        subject: Subject {
            model: known.model,
            architecture: facts.map(|facts| facts.architecture.clone()),
            parameters: facts.map(|facts| facts.parameters),
            weight_bytes: facts.map(|facts| facts.weights.total()),
            hardware: known.facts.as_ref().map(|(_, accelerator)| accelerator.id.to_owned()),
            runtime: known.engine.map_or("unknown", Engine::name).to_owned(),
            version: known.version,
            tensor: args.tensor_parallel,
            pipeline: args.pipeline_parallel,
        },
        fit,
        loads,
        notes: measured.notes.clone(),
    })
}

fn shape(
    args: &BenchCalibrate,
    facts: &ModelFacts,
    accelerator: &Accelerator,
    runtime: Runtime,
) -> Shape {
    let context = facts.context_max.unwrap_or(CONTEXT_DEFAULT).min(CONTEXT_DEFAULT);
    let kv_dtype = if facts.dtype == Dtype::F16 { Dtype::F16 } else { Dtype::Bf16 };
    let (batch_tokens, sequences) = runtime.default_batch(accelerator);
    Shape {
        tensor: args.tensor_parallel,
        pipeline: args.pipeline_parallel,
        batch_tokens,
        sequences,
        ..Shape::single(context, kv_dtype)
    }
}

/// How long a request may take.
const fn timeout(args: &BenchCalibrate) -> Duration {
    Duration::from_secs(args.timeout)
}
