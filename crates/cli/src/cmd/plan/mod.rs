//! `pilotage plan`: how to run a model, before anything runs.

mod fetch;
mod read;
mod show;
mod source;
mod tune;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod well_known;

use std::path::PathBuf;

use anyhow::Context as _;
use pilotage_plan::WeightsSource;
use pilotage_plan::hardware::{Accelerator, catalogue};
use pilotage_plan::launch::{Engine, Features, Version, Weights};
use pilotage_plan::select::{Aim, NoProposal, Question, propose};
use pilotage_plan::size::{
    Calibration, Format as Files, Goal as Sought, ModelFacts, Ranks, Stored, Task,
};
use pilotage_shell::client::Client;
use pilotage_shell::env::{self, Var};
use pilotage_shell::secret::Secret;

use crate::args::{Goal, Plan, PlanCommand, PlanModel};
use crate::exit::{NoPlan, Wrong};
use crate::installation::Installation;
use crate::output::{self, Format};

use fetch::{Place, Remote};
pub(crate) use read::only_gguf;
use source::Source;

/// Context where nobody says: what a chat with some documents in it needs.
const CONTEXT_DEFAULT: u64 = 8192;

/// Most accelerators of one node: more than any has.
const PER_NODE_MAX: u32 = 72;

/// Runs what was typed.
pub(crate) async fn run(args: Plan) -> anyhow::Result<()> {
    match args.command {
        Some(PlanCommand::Hardware(args)) => show::hardware(args.output),
        Some(PlanCommand::Tune(args)) => tune::run(&args).await,
        None => model(args.model).await,
    }
}

async fn model(args: PlanModel) -> anyhow::Result<()> {
    let typed = args.model.as_deref().context("no model was named")?;
    let typed = Typed::parse(&args, typed)?;
    let facts = read(&typed.source, args.exact).await?;
    let mut question = question(&args, &typed, &facts)?;
    if let Some(stored) = calibrated(&mut question, args.data_dir)? {
        output::note(&format!(
            "speed: calibrated by measurements of {} at {} on {}",
            stored.subject.model, stored.url, stored.measured
        ));
    }
    answer(&question, &typed.source.place(), args.output)
}

/// What was typed, as far as it can be judged without the model.
struct Typed {
    source: Source,
    accelerator: Accelerator,
    asked: Option<Engine>,
    version: Option<Version>,
}

impl Typed {
    fn parse(args: &PlanModel, model: &str) -> Result<Self, Wrong> {
        Ok(Self {
            accelerator: hardware(&args.hardware)?,
            asked: args.runtime.as_deref().map(engine).transpose()?,
            version: args.version.as_deref().map(version).transpose()?,
            source: Source::parse(model, &endpoint())?,
        })
    }
}

fn question<'a>(
    args: &PlanModel,
    typed: &Typed,
    facts: &'a ModelFacts,
) -> Result<Question<'a>, Wrong> {
    Ok(Question {
        facts,
        served: typed.source.name(),
        weights: weights(&typed.source, facts),
        accelerator: typed.accelerator,
        nodes: args.nodes,
        features: Features { task: facts.task, ..Features::default() },
        aim: aim(args.goal),
        asked: typed.asked,
        version: typed.version,
        goal: goal(args, facts)?,
        calibration: Calibration::assumed(&typed.accelerator),
        ranks: Ranks { tensor: args.tensor, pipeline: args.pipeline },
    })
}

/// What was measured of the model on that hardware under the runtime that would be taken: plans are made with it.
fn calibrated(
    question: &mut Question<'_>,
    data_dir: Option<PathBuf>,
) -> anyhow::Result<Option<Stored>> {
    let installation = Installation::at(data_dir)?;
    let proposed = || propose(question).ok().and_then(|proposal| proposal.selection.engine);
    let Some(engine) = question.asked.or_else(proposed) else { return Ok(None) };
    let hardware = question.accelerator.id;
    let found = installation.calibration_of(question.facts, hardware, engine.name());
    if let Some(calibration) = found.as_ref().and_then(|stored| stored.fit.calibration) {
        question.calibration = calibration;
    }
    Ok(found)
}

/// The share of arithmetic that a plan is made with, and when it was measured.
#[cfg(test)]
fn taken(args: PlanModel, facts: &ModelFacts) -> anyhow::Result<(f64, Option<String>)> {
    let typed = Typed::parse(&args, args.model.as_deref().unwrap_or_default())?;
    let mut question = question(&args, &typed, facts)?;
    let stored = calibrated(&mut question, args.data_dir)?;
    Ok((question.calibration.compute, stored.map(|stored| stored.measured)))
}

fn answer(question: &Question<'_>, place: &str, output: Format) -> anyhow::Result<()> {
    match propose(question) {
        Ok(proposal) => show::proposal(question, &proposal, place, output),
        Err(NoProposal::Launch(error)) => Err(Wrong::new(error.to_string()).into()),
        Err(NoProposal::Shape(error)) => Err(Wrong::new(error.to_string()).into()),
        Err(error) => {
            show::refusal(question, &error, output)?;
            Err(NoPlan::new(show::headline(question, &error)).into())
        }
    }
}

/// What the model at a source of weights is.
pub(crate) async fn facts(source: &WeightsSource) -> anyhow::Result<ModelFacts> {
    read(&Source::of(source, &endpoint())?, false).await
}

/// What the model is that was typed as MODEL.
pub(super) async fn facts_of(typed: &str) -> anyhow::Result<ModelFacts> {
    read(&Source::parse(typed, &endpoint())?, false).await
}

/// What a model is, from wherever it is.
async fn read(source: &Source, exact: bool) -> anyhow::Result<ModelFacts> {
    match source {
        Source::File(path) => {
            let folder = path.parent().unwrap_or_else(|| std::path::Path::new(".")).to_owned();
            let name = path.file_name().context("it has no name")?.to_string_lossy().into_owned();
            read::gguf(&Place::Folder(folder), &name).await
        }
        Source::Folder(folder) => {
            let place = Place::Folder(folder.clone());
            if folder.join("config.json").is_file() {
                return read::folder(&place, exact).await;
            }
            match only_gguf(folder)? {
                Some(name) => read::gguf(&place, &name).await,
                None => read::folder(&place, exact).await,
            }
        }
        Source::Remote { base, .. } => read::folder(&remote(source, base)?, exact).await,
        Source::RemoteFile { base, name, .. } => read::gguf(&remote(source, base)?, name).await,
    }
}

fn remote(source: &Source, base: &str) -> anyhow::Result<Place> {
    let repository = source.repository().map(str::to_owned);
    let token = env::get(Var::HfToken).filter(|token| !token.is_empty() && repository.is_some());
    Ok(Place::Remote(Remote {
        client: Client::new()?,
        base: base.to_owned(),
        token: token.map(Secret::new),
        repository,
    }))
}

fn endpoint() -> String {
    let endpoint = env::get(Var::HfEndpoint).filter(|url| !url.is_empty());
    let endpoint = endpoint.unwrap_or_else(|| "https://huggingface.co".to_owned());
    endpoint.trim_end_matches('/').to_owned()
}

/// Programs that read safetensors fetch a repository themselves; a GGUF file is fetched before.
fn weights(source: &Source, facts: &ModelFacts) -> Weights {
    match source.repository() {
        Some(id) if facts.format != Files::Gguf => Weights::Repository {
            id: id.to_owned(),
            revision: source.revision().map(str::to_owned),
        },
        _ => Weights::Local,
    }
}

/// `h100-sxm`, or `l4x2` for two of them in a node.
pub(super) fn hardware(text: &str) -> Result<Accelerator, Wrong> {
    if let Some(class) = Accelerator::by_id(text) {
        return Ok(*class);
    }
    let parsed = text
        .rsplit_once('x')
        .and_then(|(id, count)| Some((Accelerator::by_id(id)?, count.parse::<u32>().ok()?)));
    match parsed {
        Some((class, per_node)) if (1..=PER_NODE_MAX).contains(&per_node) => {
            Ok(Accelerator { per_node, ..*class })
        }
        Some(_) => {
            Err(Wrong::new(format!("a node has 1 to {PER_NODE_MAX} accelerators, not `{text}`")))
        }
        None => Err(unknown_hardware(text)),
    }
}

fn unknown_hardware(text: &str) -> Wrong {
    let alike = |class: &&Accelerator| class.id.starts_with(&text.to_ascii_lowercase());
    let alike: Vec<&str> = catalogue().filter(alike).map(|class| class.id).collect();
    let wrong = Wrong::new(format!("there is no hardware class `{text}`"));
    let wrong = match alike.as_slice() {
        [] => wrong,
        names => wrong.hint(format!("did you mean {}?", names.join(" or "))),
    };
    wrong.hint("`pilotage plan hardware` lists them; l4x2 means two of them in a node")
}

pub(super) fn engine(name: &str) -> Result<Engine, Wrong> {
    Engine::parse(name).ok_or_else(|| {
        let names: Vec<_> = Engine::ALL.iter().map(|engine| engine.name()).collect();
        Wrong::new(format!("there is no runtime `{name}`"))
            .hint(format!("one of {}", names.join(", ")))
    })
}

fn version(text: &str) -> Result<Version, Wrong> {
    Version::parse(text).ok_or_else(|| {
        Wrong::new(format!("`{text}` is no release")).hint("write its numbers: 0.11.2")
    })
}

const fn aim(goal: Goal) -> Aim {
    match goal {
        Goal::Balance => Aim::Balance,
        Goal::Throughput => Aim::Throughput,
        Goal::Standard => Aim::Standard,
        Goal::Edge => Aim::Edge,
    }
}

fn goal(args: &PlanModel, facts: &ModelFacts) -> Result<Sought, Wrong> {
    let context = context(args.context, facts)?;
    let positive = |what: &str, value: Option<f64>| match value {
        Some(value) if !(value > 0.0 && value.is_finite()) => {
            Err(Wrong::new(format!("--{what} must be above 0")))
        }
        value => Ok(value),
    };
    let prompt = args.prompt.unwrap_or_else(|| (context * 3 / 4).clamp(1, 1024));
    let answer = match (facts.task, args.answer) {
        (Task::Generate, answer) => answer.unwrap_or_else(|| (context / 4).clamp(1, 256)),
        // A vector or a score is there once the text is read.
        _ => 0,
    };
    if prompt.saturating_add(answer) > context {
        let text = format!(
            "a prompt of {prompt} tokens and an answer of {answer} are more than the context of {context}"
        );
        return Err(Wrong::new(text).hint("raise --context, or lower --prompt or --answer"));
    }
    Ok(Sought {
        context,
        prompt,
        answer,
        concurrency: args.concurrency,
        ttft_seconds: positive("ttft", args.ttft)?.map(|ms| ms / 1e3),
        tpot_seconds: positive("tpot", args.tpot)?.map(|ms| ms / 1e3),
        tokens_per_second: positive("tokens-per-second", args.tokens_per_second)?,
        requests_per_second: positive("requests-per-second", args.requests_per_second)?,
    })
}

fn context(asked: Option<u64>, facts: &ModelFacts) -> Result<u64, Wrong> {
    match (asked, facts.context_max) {
        (Some(asked), Some(most)) if asked > most => Err(Wrong::new(format!(
            "the model was made for {most} tokens of context, not for {asked}"
        ))
        .hint(format!("write --context {most} or less"))),
        (Some(asked), _) => Ok(asked),
        (None, most) => Ok(most.unwrap_or(CONTEXT_DEFAULT).min(CONTEXT_DEFAULT)),
    }
}
