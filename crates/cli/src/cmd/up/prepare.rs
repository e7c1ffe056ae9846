//! Everything that a plan needs before it can be carried out: weights on this machine, and the keys
//! and certificates of endpoints. It changes nothing, so that a plan that cannot be had leaves the one before alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use pilotage_operator::local::Placed;
use pilotage_operator::weights::{Lease, Store};
use pilotage_plan::api::Dialect;
use pilotage_plan::update::{AllKept, as_they_serve};
use pilotage_plan::{Plan, ProcessSpec, WeightsSource, WeightsSpec, World};

use super::facts::Known;
use super::manifests::{self, Asked};
use crate::args::Up;
use crate::cmd::front::prepared::{Leases, Prepared, Reached, reach};
use crate::cmd::plan::only_gguf;
use crate::exit::Wrong;
use crate::progress::Shown;
use crate::store;

/// Everything that manifests ask for, whichever versions of it run at the moment.
pub(super) struct Material {
    pub(super) asked: Asked,
    /// The machine's files, by what they were asked as.
    held: Vec<(WeightsSpec, Held)>,
    endpoints: Vec<Reached>,
    leases: Leases,
}

/// Weights on this machine.
struct Held {
    path: PathBuf,
    /// The same as the processes that read one file are told it.
    file: Option<PathBuf>,
    identity: String,
}

/// Weights while they are brought here.
struct Cellar {
    store: Store,
    held: Vec<(WeightsSpec, Held)>,
    leases: Vec<Lease>,
}

impl Cellar {
    /// Has weights here, and finds the file of them for a process that reads only one.
    async fn hold(
        &mut self,
        spec: &WeightsSpec,
        reader: Option<&ProcessSpec>,
    ) -> anyhow::Result<()> {
        let known = self.held.iter().position(|(known, _)| known == spec);
        let at = known.unwrap_or(self.held.len());
        if known.is_none() {
            let found = self.store.hold(spec, "pilotage up", &Shown::default()).await?;
            self.leases.extend(found.lease);
            let identity = self.store.identity(spec, &found.path);
            self.held.push((spec.clone(), Held { path: found.path, file: None, identity }));
        }
        let (_, own) = &mut self.held[at];
        if let Some(reader) = reader.filter(|_| own.file.is_none()) {
            let file = only_file(reader, own.path.clone())?;
            own.identity = self.store.identity(spec, &file);
            own.file = Some(file);
        }
        Ok(())
    }
}

/// Reads the manifests and prepares what they ask for, and what the versions that were kept do.
pub(super) async fn again(
    args: Arc<Up>,
    world: Arc<World>,
    (known, kept): (Arc<Known>, AllKept),
) -> anyhow::Result<Material> {
    Material::of(manifests::asked(&args, &world, (&known, &kept)).await?, &kept).await
}

impl Material {
    /// Fetches weights, reads keys and certificates.
    pub(super) async fn of(asked: Asked, kept: &AllKept) -> anyhow::Result<Self> {
        let plan = asked.plan(&asked.resources)?;
        let serving = as_they_serve(&asked.resources, kept);
        let before = if serving == asked.resources { None } else { Some(asked.plan(&serving)?) };
        let endpoints = reach(&plan.endpoints)?;
        let mut cellar = Cellar { store: store::open()?, held: Vec::new(), leases: Vec::new() };
        for process in plan.processes.iter().chain(before.iter().flat_map(|one| &one.processes)) {
            cellar.hold(&process.weights, reads_file(process).then_some(process)).await?;
            for adapter in &process.adapters {
                cellar.hold(&adapter.weights, None).await?;
            }
        }
        let Cellar { held, leases, .. } = cellar;
        Ok(Self { asked, held, endpoints, leases: Arc::new(leases) })
    }

    /// A plan of these resources with what it needs; none where that is not here, as it was made for other
    /// versions.
    pub(super) fn prepared(&self, mut plan: Plan) -> Option<Prepared> {
        let mut processes = Vec::new();
        let mut found = BTreeMap::new();
        for process in &plan.processes {
            let held = self.held(&process.weights)?;
            let path = if reads_file(process) { held.file.clone()? } else { held.path.clone() };
            found.insert(process.lane.clone(), held.identity.clone());
            let adapters = process.adapters.iter();
            let adapters = adapters
                .map(|one| Some((one.name.clone(), self.held(&one.weights)?.path.clone())))
                .collect::<Option<Vec<_>>>()?;
            processes.push(Placed { spec: process.clone(), weights: path, adapters });
        }
        for lane in &mut plan.lanes {
            // A version on trial has its name behind.
            if lane.identity.is_empty() || lane.identity.starts_with('#') {
                let found = found.remove(&lane.name).unwrap_or_default();
                lane.identity.insert_str(0, &found);
            }
        }
        let (endpoints, leases) = (self.endpoints.clone(), Arc::clone(&self.leases));
        Some(Prepared { plan, processes, endpoints, leases })
    }

    /// Where weights are, if they are here.
    pub(super) fn path(&self, source: &WeightsSource) -> Option<&Path> {
        let found = self.held.iter().find(|(spec, _)| spec.source == *source);
        found.map(|(_, held)| held.file.as_deref().unwrap_or(&held.path))
    }

    fn held(&self, spec: &WeightsSpec) -> Option<&Held> {
        self.held.iter().find(|(known, _)| known == spec).map(|(_, held)| held)
    }
}

/// Whether a process reads one file and not a folder.
const fn reads_file(process: &ProcessSpec) -> bool {
    matches!(process.dialect, Dialect::Pilotage | Dialect::LlamaCpp)
}

/// What a process reads of weights that reads one file: of a folder, the only one.
fn only_file(process: &ProcessSpec, path: PathBuf) -> anyhow::Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path);
    }
    let only = only_gguf(&path).with_context(|| process.served_model.clone())?;
    let only = only.ok_or_else(|| {
        let (name, folder) = (&process.served_model, path.display());
        Wrong::new(format!("{name}: {folder} has no GGUF file, which its runtime reads"))
            .hint("name a GGUF file in spec.source, or another spec.runtime")
    })?;
    Ok(path.join(only))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_its_one_file_where_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let process = |runtime: &str| {
            let text = format!(
                "{{apiVersion: pilotage.dev/v1alpha1, kind: Model, metadata: {{name: a}}, \
                 spec: {{source: 'file:w', runtime: {runtime}}}}}"
            );
            let resources = pilotage_plan::parse_all([("f.yaml", text.as_str())]).unwrap();
            let plan = pilotage_plan::plan(&resources, &World::with_cores(1)).unwrap();
            plan.processes[0].clone()
        };
        let path = folder.path().to_owned();
        for runtime in ["embedded", "llama.cpp"] {
            let error = only_file(&process(runtime), path.clone()).unwrap_err().to_string();
            assert!(error.contains("has no GGUF file"), "{error}");
        }
        assert!(!reads_file(&process("vllm")) && reads_file(&process("llama.cpp")));
        for file in ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "mmproj-f16.gguf"] {
            std::fs::write(path.join(file), "").unwrap();
        }
        let first = path.join("m-00001-of-00002.gguf");
        assert_eq!(only_file(&process("llama.cpp"), path.clone()).unwrap(), first);
        assert_eq!(only_file(&process("embedded"), first.clone()).unwrap(), first);
        std::fs::write(path.join("other.gguf"), "").unwrap();
        let error = only_file(&process("embedded"), path).unwrap_err();
        assert!(format!("{error:#}").contains("several GGUF files"), "{error:#}");
    }
}
