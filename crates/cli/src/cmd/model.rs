//! `pilotage model`: the cache of weights.

use std::path::Path;

use anyhow::Context as _;
use pilotage_operator::weights::{Entry, Pruned, Store, Usage};
use pilotage_plan::{Digest, WeightsSource, WeightsSpec};
use pilotage_shell::date;
use pilotage_shell::env::{self, Var};
use serde::Serialize;

use crate::args::{List, Model, ModelCommand, Prune, Pull};
use crate::exit::Wrong;
use crate::output::{self, Format};
use crate::progress::Shown;
use crate::store;

/// Runs the subcommand.
pub(crate) async fn run(args: Model) -> anyhow::Result<()> {
    match args.command {
        ModelCommand::Pull(args) => pull(args).await,
        ModelCommand::List(args) => list(&args),
        ModelCommand::Pin(args) => pin(&args.digest, true),
        ModelCommand::Unpin(args) => pin(&args.digest, false),
        ModelCommand::Prune(args) => prune(&args),
        ModelCommand::Remove(args) => remove(&args.digest),
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
    let store = store::open()?;
    for spec in wanted(&args)? {
        let path = store.ensure(&spec, &Shown::default()).await?;
        if let Some(at) = &args.link {
            link(&path, at)?;
        }
        if args.print_path {
            output::line(&path.display().to_string());
        } else {
            output::note(&format!("{} is at {}", spec.source, path.display()));
        }
    }
    Ok(())
}

/// Makes a path lead to weights. It is replaced as a whole, so that whoever reads it meanwhile sees the one or
/// the other.
fn link(weights: &Path, at: &Path) -> anyhow::Result<()> {
    let wrong = || format!("cannot make {} a link to the weights", at.display());
    if at.symlink_metadata().is_ok_and(|found| !found.is_symlink()) {
        let wrong = Wrong::new(format!("{} is there and is no link", at.display()));
        return Err(wrong.hint("remove it, or name another path").into());
    }
    let folder = at.parent().filter(|folder| !folder.as_os_str().is_empty());
    std::fs::create_dir_all(folder.unwrap_or_else(|| Path::new("."))).with_context(wrong)?;
    let mut name = at.file_name().with_context(wrong)?.to_owned();
    name.push(format!(".{}", std::process::id()));
    let next = at.with_file_name(name);
    std::os::unix::fs::symlink(std::path::absolute(weights).with_context(wrong)?, &next)
        .and_then(|()| std::fs::rename(&next, at))
        .with_context(wrong)
}

fn wanted(args: &Pull) -> anyhow::Result<Vec<WeightsSpec>> {
    if args.sources.is_empty() {
        return Ok(vec![built_in()?]);
    }
    if args.link.is_some() && args.sources.len() > 1 {
        return Err(Wrong::new("--link is for one source").hint("pull the others apart").into());
    }
    if args.digest.is_some() && args.sources.len() > 1 {
        return Err(Wrong::new("--digest is of one source").hint("pull the others apart").into());
    }
    let digest = args.digest.as_deref().map(digest).transpose()?;
    let wrong = |error: &dyn std::fmt::Display| Wrong::new(error.to_string());
    let signed_by = args.signed_by.as_deref().map(str::parse).transpose();
    let signed_by = signed_by.map_err(|error: pilotage_plan::signer::SignerError| wrong(&error))?;
    let spec = |source: &String| {
        let source = source.parse::<WeightsSource>().map_err(|error| wrong(&error))?;
        Ok(WeightsSpec { source, digest, signed_by, size_bytes: None })
    };
    args.sources.iter().map(spec).collect()
}

/// One row of the list.
#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    entry: Entry,
    #[serde(flatten)]
    usage: Usage,
}

fn list(args: &List) -> anyhow::Result<()> {
    let store = store::open()?;
    let mut rows = Vec::new();
    for entry in store.list() {
        let usage = store.usage(&entry.digest)?;
        rows.push(Row { entry, usage });
    }
    match args.output {
        Format::Json => output::json(&rows)?,
        Format::Table => {
            let rows: Vec<Vec<String>> = rows.iter().map(shown).collect();
            output::table(&["SOURCE", "SIZE", "LAST USED", "KEPT", "DIGEST"], &rows);
        }
    }
    Ok(())
}

fn shown(row: &Row) -> Vec<String> {
    let Usage { used_unix_ms, pinned, users } = &row.usage;
    let used = used_unix_ms.map_or_else(|| "–".to_owned(), |ms| date::utc(ms / 1000));
    let pinned = pinned.then(|| "pinned".to_owned());
    let kept: Vec<String> = pinned.into_iter().chain(users.iter().cloned()).collect();
    let kept = if kept.is_empty() { "–".to_owned() } else { kept.join(", ") };
    let digest = row.entry.digest.to_string();
    vec![row.entry.source.clone(), mib(row.entry.size_bytes), used, kept, digest]
}

fn pin(text: &str, pinned: bool) -> anyhow::Result<()> {
    let digest = digest(text)?;
    if !store::open()?.pin(&digest, pinned)? {
        return Err(missing(&digest));
    }
    output::note(&format!("{} {digest}", if pinned { "pinned" } else { "unpinned" }));
    Ok(())
}

fn prune(args: &Prune) -> anyhow::Result<()> {
    let to = args.to.map_or_else(store::bytes_max, |to| Ok(Some(to)))?;
    let Some(to) = to else {
        let name = env::variable(Var::CacheBytesMax).name;
        return Err(Wrong::new("how much may be left is not said")
            .hint(format!("use --to, as in --to 50G, or set {name}"))
            .hint("--to 0 removes all that is neither pinned nor in use")
            .into());
    };
    say(&store::open()?, to, args.dry_run)
}

fn say(store: &Store, to: u64, dry_run: bool) -> anyhow::Result<()> {
    let Pruned { removed, left_bytes } = store.prune(to, dry_run)?;
    let done = if dry_run { "would remove" } else { "removed" };
    for one in &removed {
        output::note(&format!("{done} {} ({})", one.source, mib(one.bytes)));
    }
    let left = if dry_run { "would be left" } else { "are left" };
    output::note(&format!("{} {left}", mib(left_bytes)));
    if left_bytes > to {
        output::note("the rest is pinned, in use or being downloaded");
    }
    Ok(())
}

fn remove(text: &str) -> anyhow::Result<()> {
    let digest = digest(text)?;
    if !store::open()?.remove(&digest)? {
        return Err(missing(&digest));
    }
    output::note(&format!("removed {digest}"));
    Ok(())
}

fn missing(digest: &Digest) -> anyhow::Error {
    Wrong::new(format!("{digest} is not in the cache"))
        .hint("`pilotage model list` shows what is")
        .into()
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn digest(text: &str) -> anyhow::Result<Digest> {
    text.parse()
        .map_err(|error: pilotage_plan::digest::DigestError| Wrong::new(error.to_string()).into())
}
