//! What is known of weights whose runtime is open. It is read from this machine where they are here, and
//! again only when their files are others; else it is asked for once: a plan that is made again must not
//! choose another runtime because a hub does not answer, or answers by now.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::future::Future;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use parking_lot::Mutex;
use pilotage_plan::api::Runtime;
use pilotage_plan::size::ModelFacts;
use pilotage_plan::{Resource, WeightsSource};
use pilotage_shell::tasks;

/// How long all answers together may take: all are asked at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sources that are asked about: more than one machine runs models of.
const SOURCES_MAX: usize = 256;

/// Files of a folder that are looked at to see whether they are others; larger ones are read again.
const FILES_MAX: usize = 4096;

/// What was found of sources by now, as manifests have them.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<BTreeMap<WeightsSource, Finding>>);

/// What was found of one source: nothing where nobody said anything.
#[derive(Debug, Default)]
struct Finding {
    facts: Option<ModelFacts>,
    /// The files that it was read from, where they are here.
    read_from: Option<Files>,
}

/// Files by name, with what tells them from others of the same name: size, time of the last change, and which
/// file it is. Those of a folder that was written to have others.
type Files = Vec<(String, (u64, i64, i64, u64))>;

impl Known {
    /// What is known of the weights of these resources, with `read` for what has to be found out.
    pub(super) async fn of<F>(
        &self,
        resources: &[Resource],
        read: impl Fn(WeightsSource) -> F,
    ) -> BTreeMap<String, ModelFacts>
    where
        F: Future<Output = anyhow::Result<ModelFacts>> + Send + 'static,
    {
        let sources: BTreeSet<WeightsSource> = open(resources).take(SOURCES_MAX).collect();
        // Before they are read: what changes meanwhile is seen the next time.
        let there = sources.iter().map(|source| (source, files(source)));
        let reading: Vec<_> = there
            .filter(|(source, files)| self.is_asked(source, files.as_ref()))
            .map(|(source, files)| {
                let reading = tokio::time::timeout(PATIENCE, read(source.clone()));
                (source.clone(), files, tasks::spawn("facts", reading))
            })
            .collect();
        for (source, files, reading) in reading {
            let found = match reading.await.ok().flatten() {
                Some(Ok(Ok(facts))) => Ok(facts),
                Some(Ok(Err(error))) => Err(format!("{error:#}")),
                Some(Err(_)) => Err(format!("nothing was heard for {} s", PATIENCE.as_secs())),
                None => Err("reading was broken off".to_owned()),
            };
            self.take(source, found, files);
        }
        let mut known = self.0.lock();
        if known.len() > SOURCES_MAX {
            known.retain(|source, _| sources.contains(source));
        }
        let known = known.iter().filter(|(source, _)| sources.contains(source));
        known.filter_map(|(source, one)| Some((source.to_string(), one.facts.clone()?))).collect()
    }

    /// Whether a source is to be read: one that is here and cannot be seen to be what it was, or one that
    /// nobody was asked about.
    fn is_asked(&self, source: &WeightsSource, files: Option<&Files>) -> bool {
        let known = self.0.lock();
        let Some(one) = known.get(source) else { return true };
        source.is_local() && (files.is_none() || one.read_from.as_ref() != files)
    }

    fn take(&self, source: WeightsSource, found: Result<ModelFacts, String>, files: Option<Files>) {
        if let Err(reason) = &found {
            let source = source.to_string();
            tracing::warn!(source, reason, "the weights say nothing about what should run them");
        }
        let found = found.ok();
        let mut known = self.0.lock();
        let before = known.entry(source).or_default();
        // Of files that are being replaced there may be nothing to read for a moment.
        if found.is_some() {
            *before = Finding { facts: found, read_from: files };
        }
    }
}

/// The files of weights that are here; none where they are elsewhere, too many, or cannot be seen.
fn files(source: &WeightsSource) -> Option<Files> {
    let WeightsSource::File { path } = source else { return None };
    let path = Path::new(path);
    let known =
        |name: String, of: &Metadata| (name, (of.len(), of.mtime(), of.mtime_nsec(), of.ino()));
    let whole = fs::metadata(path).ok()?;
    let mut all = vec![known(String::new(), &whole)];
    if whole.is_dir() {
        for entry in fs::read_dir(path).ok()? {
            let entry = entry.ok()?;
            // Of a link, the file that it leads to.
            let file = fs::metadata(entry.path()).ok()?;
            all.push(known(entry.file_name().to_string_lossy().into_owned(), &file));
            if all.len() > FILES_MAX {
                return None;
            }
        }
    }
    all.sort();
    Some(all)
}

/// The weights for which the runtime is open. GGUF files are for the embedded engine, whatever is in them.
fn open(resources: &[Resource]) -> impl Iterator<Item = WeightsSource> {
    resources.iter().filter_map(|resource| {
        let Resource::Model(model) = resource else { return None };
        let source = model.spec.source.as_ref().filter(|source| !source.is_gguf())?;
        (model.spec.runtime == Runtime::Auto).then(|| source.clone())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pilotage_plan::size::Config;
    use pilotage_shell::clock::Clock;

    use super::*;

    const CONFIG: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64,
"intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
"vocab_size": 256, "max_position_embeddings": 512, "torch_dtype": "bfloat16"}"#;

    fn resources(sources: &[&str]) -> Vec<Resource> {
        let texts: Vec<String> = sources
            .iter()
            .enumerate()
            .map(|(at, source)| {
                format!(
                    "{{apiVersion: pilotage.dev/v1alpha1, kind: Model, metadata: {{name: m{at}}}, \
                     spec: {{source: '{source}'}}}}"
                )
            })
            .collect();
        pilotage_plan::parse_all(texts.iter().map(|text| ("f.yaml", text.as_str()))).unwrap()
    }

    fn facts() -> ModelFacts {
        Config::parse(CONFIG.as_bytes()).unwrap().facts().unwrap()
    }

    /// Which sources are known when those that contain the words answer, fail, or say nothing, and which
    /// were asked.
    async fn known(known: &Known, sources: &[&str], well: &str) -> (Vec<String>, Vec<String>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let read = |source: WeightsSource| {
            let text = source.to_string();
            let is_well = text.contains(well);
            seen.lock().push(text.clone());
            async move {
                if text.contains("hung") {
                    return std::future::pending().await;
                }
                if is_well { Ok(facts()) } else { anyhow::bail!("the hub is away") }
            }
        };
        let found = known.of(&resources(sources), read).await;
        let asked = asked.lock().clone();
        (found.into_keys().collect(), asked)
    }

    #[tokio::test(start_paused = true)]
    async fn a_reload_knows_what_was_known() {
        let facts = Known::default();
        let sources = ["hf:well/a", "hf:bad/b", "hf:hung/c", "hf:hung/d", "file:well/dir"];
        let clock = Clock::start();
        let (found, asked) = known(&facts, &sources, "well").await;
        assert_eq!(Duration::from_nanos(clock.now_nanos()), PATIENCE, "all are asked at once");
        assert_eq!(found, ["file:well/dir", "hf:well/a"]);
        assert_eq!(asked.len(), 5);
        // Nothing answers, or all does: what is chosen stays. What cannot be seen here is read again.
        for well in ["nothing", ""] {
            let (found, asked) = known(&facts, &sources, well).await;
            assert_eq!(found, ["file:well/dir", "hf:well/a"]);
            assert_eq!(asked, ["file:well/dir"]);
        }
        let (found, asked) = known(&facts, &["hf:well/e", "file:x.gguf"], "well").await;
        assert_eq!((found.as_slice(), asked.len()), (&["hf:well/e".to_owned()][..], 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_here_is_read_again_when_its_files_are_others() {
        let (facts, folder) = (Known::default(), tempfile::tempdir().unwrap());
        let at = |file: &str| folder.path().join(file);
        fs::write(at("config.json"), "1").unwrap();
        let source = format!("file:{}/", folder.path().display());
        let asked = async |well: &str| {
            let (found, asked) = known(&facts, &[&source], well).await;
            (found.len(), asked.len())
        };
        assert_eq!(asked("file:").await, (1, 1));
        assert_eq!(asked("file:").await, (1, 0), "nothing changed");
        fs::write(at("model.safetensors"), "").unwrap();
        assert_eq!(asked("file:").await, (1, 1), "a file more");
        fs::write(at("config.json"), "12").unwrap();
        assert_eq!(asked("file:").await, (1, 1), "another size");
        fs::write(at("new"), "34").unwrap();
        fs::rename(at("new"), at("config.json")).unwrap();
        assert_eq!(asked("nothing").await, (1, 1), "another file, which cannot be read yet");
        assert_eq!(asked("file:").await, (1, 1), "and is tried until it can");
        assert_eq!(asked("file:").await, (1, 0));
        fs::remove_file(at("model.safetensors")).unwrap();
        assert_eq!(asked("file:").await, (1, 1), "a file less");
    }
}
