//! Everything that a plan needs before it can be carried out: weights on this machine, and the keys
//! and certificates of endpoints. It changes nothing, so that a plan that cannot be had leaves the one before alone.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use pilotage_operator::local::Placed;
use pilotage_plan::api::Dialect;
use pilotage_plan::{Plan, ProcessSpec, World};

use super::facts::Known;
use super::manifests;
use crate::args::Up;
use crate::cmd::front::prepared::{Prepared, reach};
use crate::cmd::plan::only_gguf;
use crate::exit::Wrong;
use crate::progress::Shown;
use crate::store;

/// Reads the manifests and prepares what they ask for.
pub(super) async fn again(
    args: Arc<Up>,
    world: Arc<World>,
    known: Arc<Known>,
) -> anyhow::Result<Prepared> {
    prepare(manifests::plan(&args, &world, &known).await?).await
}

/// Fetches weights, reads keys and certificates.
pub(super) async fn prepare(mut plan: Plan) -> anyhow::Result<Prepared> {
    let endpoints = reach(&plan.endpoints)?;
    let store = store::open()?;
    let mut processes = Vec::new();
    let mut leases = Vec::new();
    let mut found = BTreeMap::new();
    for process in &plan.processes {
        let held = store.hold(&process.weights, "pilotage up", &Shown::default()).await?;
        let path = placed(process, held.path)?;
        leases.extend(held.lease);
        found.insert(process.lane.clone(), store.identity(&process.weights, &path));
        let mut adapters = Vec::new();
        for adapter in &process.adapters {
            let held = store.hold(&adapter.weights, "pilotage up", &Shown::default()).await?;
            leases.extend(held.lease);
            adapters.push((adapter.name.clone(), held.path));
        }
        processes.push(Placed { spec: process.clone(), weights: path, adapters });
    }
    for lane in plan.lanes.iter_mut().filter(|lane| lane.identity.is_empty()) {
        lane.identity = found.remove(&lane.name).unwrap_or_default();
    }
    Ok(Prepared { plan, processes, endpoints, leases: Arc::new(leases) })
}

/// What a process reads of weights: of a folder, the file where it reads nothing else.
fn placed(process: &ProcessSpec, path: PathBuf) -> anyhow::Result<PathBuf> {
    let reads_file = matches!(process.dialect, Dialect::Pilotage | Dialect::LlamaCpp);
    if !reads_file || !path.is_dir() {
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
            let error = placed(&process(runtime), path.clone()).unwrap_err().to_string();
            assert!(error.contains("has no GGUF file"), "{error}");
        }
        assert_eq!(placed(&process("vllm"), path.clone()).unwrap(), path);
        for file in ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "mmproj-f16.gguf"] {
            std::fs::write(path.join(file), "").unwrap();
        }
        let first = path.join("m-00001-of-00002.gguf");
        assert_eq!(placed(&process("llama.cpp"), path.clone()).unwrap(), first);
        assert_eq!(placed(&process("embedded"), first.clone()).unwrap(), first);
        std::fs::write(path.join("other.gguf"), "").unwrap();
        let error = placed(&process("embedded"), path).unwrap_err();
        assert!(format!("{error:#}").contains("several GGUF files"), "{error:#}");
    }
}
