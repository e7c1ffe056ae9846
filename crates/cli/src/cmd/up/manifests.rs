//! What shall run: the manifests that were named, or the built-in one.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use pilotage_operator::local;
use pilotage_plan::size::ModelFacts;
use pilotage_plan::update::{AllKept, as_they_serve};
use pilotage_plan::{KeySource, Plan, Resource, WeightsSource, World, default, manifest};
use pilotage_shell::env::{self, Var};

use super::facts::Known;
use crate::args::Up;
use crate::cmd::plan::only_gguf;
use crate::exit::Wrong;
use crate::store;

/// Files of one folder that are read.
const FILES_MAX: usize = 1024;

/// The manifests as they are.
pub(super) fn text(files: &[PathBuf]) -> anyhow::Result<String> {
    let texts: Vec<String> = read(files)?.into_iter().map(|(_, text)| text).collect();
    Ok(texts.join("---\n"))
}

/// What manifests ask for, and what is known of the machine and the weights.
pub(super) struct Asked {
    pub(super) resources: Vec<Resource>,
    /// As it was found at the start: what runs by now takes memory that is counted already.
    pub(super) world: World,
}

impl Asked {
    /// The plan of these resources on a machine where nothing runs yet.
    pub(super) fn plan(&self, resources: &[Resource]) -> anyhow::Result<Plan> {
        let plan = pilotage_plan::plan(resources, &self.world);
        plan.map_err(|error| Wrong::new(error.to_string()).into())
    }
}

/// The plan for this machine.
pub(super) async fn plan(args: &Up, world: &World, known: &Known) -> anyhow::Result<Plan> {
    let asked = asked(args, world, (known, &AllKept::new())).await?;
    asked.plan(&asked.resources)
}

/// Reads manifests, and finds out what has to be known of what they ask for and of the versions that were
/// kept.
pub(super) async fn asked(
    args: &Up,
    world: &World,
    (known, kept): (&Known, &AllKept),
) -> anyhow::Result<Asked> {
    let files = read(&args.files)?;
    let named = files.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    let mut resources =
        pilotage_plan::parse_all(named).map_err(|errors| Wrong::new(manifest::join(&errors)))?;
    if let Some(replicas) = args.replicas {
        for resource in &mut resources {
            if let Resource::Model(model) = resource
                && model.spec.source.is_some()
            {
                model.spec.replicas = replicas;
            }
        }
    }
    mark_folders(&mut resources);
    let mut all = as_they_serve(&resources, kept);
    all.extend_from_slice(&resources);
    let programs = pilotage_plan::programs(&all, world);
    let runtimes = Some(local::look_for(programs, &env::search_path()));
    let facts = known.of(&all, facts).await;
    let world = World { runtimes, facts, ..world.clone() };
    Ok(Asked { resources, world })
}

/// What the weights of a source are, from this machine where they are here.
pub(crate) async fn facts(source: WeightsSource) -> anyhow::Result<ModelFacts> {
    let kept = if source.is_local() { None } else { store::open()?.kept(&source) };
    let source =
        kept.map_or(source, |path| WeightsSource::File { path: path.display().to_string() });
    crate::cmd::plan::facts(&source).await
}

/// Writes folders on this machine as such: by its name alone a path is a file. A folder whose only weights
/// are GGUF files is for programs that read one.
fn mark_folders(resources: &mut [Resource]) {
    for resource in resources {
        if let Resource::Model(model) = resource
            && let Some(WeightsSource::File { path }) = &mut model.spec.source
            && !path.ends_with('/')
            && Path::new(path).is_dir()
            && (Path::new(path).join("config.json").is_file() || !holds_gguf(Path::new(path)))
        {
            path.push('/');
        }
    }
}

fn holds_gguf(folder: &Path) -> bool {
    !matches!(only_gguf(folder), Ok(None))
}

/// The files that a plan was made from: manifests, and the keys and certificates that they name.
/// What cannot be seen is left out; reading it says why.
pub(super) fn files(args: &Up, plan: &Plan) -> Vec<PathBuf> {
    let manifests = args.files.iter().flat_map(|path| expand(path).unwrap_or_default());
    let named = plan.endpoints.iter().flat_map(|endpoint| {
        let key = match &endpoint.key {
            Some(KeySource::File(path)) => Some(path),
            Some(KeySource::Env(_)) | None => None,
        };
        key.into_iter().chain(&endpoint.ca_file).map(PathBuf::from)
    });
    manifests.chain(named).collect()
}

/// The manifests that were named, and what their files are called.
pub(crate) fn read(files: &[PathBuf]) -> anyhow::Result<Vec<(String, String)>> {
    if files.is_empty() {
        return Ok(vec![(default::FILE.to_owned(), default::MANIFEST.to_owned())]);
    }
    let mut texts = Vec::new();
    for path in files {
        for file in expand(path)? {
            let text = fs::read_to_string(&file)
                .map_err(|error| Wrong::new(format!("cannot read {}: {error}", file.display())))?;
            texts.push((file.display().to_string(), text));
        }
    }
    Ok(texts)
}

/// A file is itself; a folder is its manifests, by name.
fn expand(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
    let is_manifest =
        |path: &PathBuf| path.extension().is_some_and(|kind| kind == "yaml" || kind == "yml");
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(is_manifest).collect();
    files.sort();
    if files.is_empty() || files.len() > FILES_MAX {
        return Err(Wrong::new(format!(
            "{} holds {} manifests (*.yaml, *.yml)",
            path.display(),
            files.len()
        ))
        .hint(format!("name a file, or a folder with 1 to {FILES_MAX}"))
        .into());
    }
    Ok(files)
}

/// This machine.
pub(super) async fn world() -> World {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut world = World::with_cores(u32::try_from(cores).unwrap_or(1));
    world.memory_bytes = memory_bytes();
    let visible = local::Visible {
        cuda: env::get(Var::CudaVisibleDevices),
        container: env::get(Var::NvidiaVisibleDevices),
    };
    world.gpus = local::accelerators(&env::search_path(), &visible).await;
    world
}

/// Memory that could be had, where the system tells.
fn memory_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_told_from_files() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path).display().to_string();
        for made in ["weights", "gguf", "both"] {
            fs::create_dir(at(made)).unwrap();
        }
        for file in ["weights/config.json", "gguf/m.gguf", "both/config.json", "both/m.gguf"] {
            fs::write(at(file), "").unwrap();
        }
        let check = |path: &str, expect: &str| {
            let text = format!(
                "{{apiVersion: pilotage.dev/v1alpha1, kind: Model, metadata: {{name: m}}, \
                 spec: {{source: 'file:{}'}}}}",
                at(path)
            );
            let mut resources = pilotage_plan::parse_all([("f.yaml", text.as_str())]).unwrap();
            mark_folders(&mut resources);
            let Resource::Model(model) = &resources[0] else { panic!("no model") };
            let source = model.spec.source.as_ref().unwrap().to_string();
            assert_eq!(source, format!("file:{}", at(expect)));
        };
        check("weights", "weights/");
        check("weights/", "weights/");
        check("both", "both/");
        check("gguf", "gguf");
        check("gguf/m.gguf", "gguf/m.gguf");
        check("nothing", "nothing");
    }
}
