//! What is known of weights whose runtime is open. It is read from this machine where they are here, else
//! asked for once: a plan that is made again must not choose another runtime because a hub does not
//! answer, or answers by now.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
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

/// What was found of sources by now, as manifests have them: nothing where nobody said anything.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<BTreeMap<WeightsSource, Option<ModelFacts>>>);

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
        let asked =
            |source: &WeightsSource| source.is_local() || !self.0.lock().contains_key(source);
        let reading: Vec<_> = sources
            .iter()
            .filter(|source| asked(source))
            .map(|source| {
                let reading = tokio::time::timeout(PATIENCE, read(source.clone()));
                (source.clone(), tasks::spawn("facts", reading))
            })
            .collect();
        for (source, reading) in reading {
            let found = match reading.await.ok().flatten() {
                Some(Ok(Ok(facts))) => Ok(facts),
                Some(Ok(Err(error))) => Err(format!("{error:#}")),
                Some(Err(_)) => Err(format!("nothing was heard for {} s", PATIENCE.as_secs())),
                None => Err("reading was broken off".to_owned()),
            };
            self.take(source, found);
        }
        let mut known = self.0.lock();
        if known.len() > SOURCES_MAX {
            known.retain(|source, _| sources.contains(source));
        }
        let known = known.iter().filter(|(source, _)| sources.contains(source));
        known.filter_map(|(source, facts)| Some((source.to_string(), facts.clone()?))).collect()
    }

    fn take(&self, source: WeightsSource, found: Result<ModelFacts, String>) {
        if let Err(reason) = &found {
            let source = source.to_string();
            tracing::warn!(source, reason, "the weights say nothing about what should run them");
        }
        let found = found.ok();
        let mut known = self.0.lock();
        let before = known.entry(source).or_default();
        // Of files that are being replaced there may be nothing to read for a moment.
        if found.is_some() {
            *before = found;
        }
    }
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
        // Nothing answers, or all does: what is chosen stays. What is here is read again.
        for well in ["nothing", ""] {
            let (found, asked) = known(&facts, &sources, well).await;
            assert_eq!(found, ["file:well/dir", "hf:well/a"]);
            assert_eq!(asked, ["file:well/dir"]);
        }
        let (found, asked) = known(&facts, &["hf:well/e", "file:x.gguf"], "well").await;
        assert_eq!((found.as_slice(), asked.len()), (&["hf:well/e".to_owned()][..], 1));
    }
}
