//! `pilotage model`: the cache of weights.

use anyhow::Context as _;
use pilotage_plan::{Digest, WeightsSource, WeightsSpec};

use crate::args::{List, Model, ModelCommand, Pull, Remove};
use crate::exit::Wrong;
use crate::output::{self, Format};
use crate::progress::Shown;
use crate::store;

/// Runs the subcommand.
pub(crate) async fn run(args: Model) -> anyhow::Result<()> {
    match args.command {
        ModelCommand::Pull(args) => pull(args).await,
        ModelCommand::List(args) => list(&args),
        ModelCommand::Remove(args) => remove(&args),
    }
}

/// The weights of the built-in model.
pub(crate) fn built_in() -> anyhow::Result<WeightsSpec> {
    let manifest = pilotage_plan::default::MANIFEST;
    let resources = pilotage_plan::parse_all([(pilotage_plan::default::FILE, manifest)])
        .map_err(|errors| anyhow::anyhow!(pilotage_plan::manifest::join(&errors)))?;
    let plan = pilotage_plan::plan(&resources, &pilotage_plan::World::with_cores(1))?;
    let first = plan.weights().into_iter().next().cloned();
    first.context("the built-in manifest has no model")
}

async fn pull(args: Pull) -> anyhow::Result<()> {
    let spec = match &args.source {
        None => built_in()?,
        Some(source) => WeightsSpec {
            source: source
                .parse::<WeightsSource>()
                .map_err(|error| Wrong::new(error.to_string()))?,
            digest: args.digest.as_deref().map(digest).transpose()?,
            size_bytes: None,
        },
    };
    let path = store::open()?.ensure(&spec, &Shown::default()).await?;
    if args.print_path {
        output::line(&path.display().to_string());
    } else {
        output::note(&format!("{} is at {}", spec.source, path.display()));
    }
    Ok(())
}

fn list(args: &List) -> anyhow::Result<()> {
    let entries = store::open()?.list();
    match args.output {
        Format::Json => output::json(&entries)?,
        Format::Table => {
            let row = |entry: &pilotage_operator::weights::Entry| {
                let mib = format!("{:.1} MiB", entry.size_bytes as f64 / f64::from(1 << 20));
                vec![entry.source.clone(), mib, entry.digest.to_string()]
            };
            let rows: Vec<Vec<String>> = entries.iter().map(row).collect();
            output::table(&["SOURCE", "SIZE", "DIGEST"], &rows);
        }
    }
    Ok(())
}

fn remove(args: &Remove) -> anyhow::Result<()> {
    let digest = digest(&args.digest)?;
    if store::open()?.remove(&digest)? {
        output::note(&format!("removed {digest}"));
        return Ok(());
    }
    Err(Wrong::new(format!("{digest} is not in the cache"))
        .hint("`pilotage model list` shows what is")
        .into())
}

fn digest(text: &str) -> anyhow::Result<Digest> {
    text.parse()
        .map_err(|error: pilotage_plan::digest::DigestError| Wrong::new(error.to_string()).into())
}
