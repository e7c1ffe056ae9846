//! How the shape that is recommended is run: a command, and the fields of a Model that say the same.

use std::collections::BTreeMap;

use pilotage_plan::hardware::Accelerator;
use pilotage_plan::launch::{self, Engine, Features, Launch, Weights};
use pilotage_plan::size::{ModelFacts, Shape};
use pilotage_plan::world::{Gpu, World};
use pilotage_plan::{parse_all, plan};
use pilotage_sim::tune::Tried;

use crate::cmd::plan::show::filled;
use crate::cmd::plan::source::Source;

/// Words of a Model's `runtimeArgs` that follow from the shape: a runtime's flag for the cache's type.
const CACHE_FLAGS: [&str; 2] = ["--kv-cache-dtype", "--kv_cache_dtype"];

/// Cores of the machine that a manifest is checked for.
const CORES: u32 = 64;

/// What is launched.
pub(super) struct Launched<'a> {
    pub(super) source: &'a Source,
    /// The source as it was typed.
    pub(super) typed: &'a str,
    pub(super) facts: &'a ModelFacts,
    pub(super) accelerator: &'a Accelerator,
    pub(super) engine: Engine,
}

impl Launched<'_> {
    /// The command for one replica and the manifest, line by line.
    pub(super) fn lines(&self, shape: &Shape) -> Vec<String> {
        let launch = self.launch(*shape);
        let spec = match launch::spec(self.engine, &launch) {
            Ok(spec) => spec,
            Err(error) => return vec![format!("it is not started so: {error}")],
        };
        let place = self.source.place();
        let mut lines =
            vec!["command".to_owned(), format!("  {}", filled(&spec.command_line(), &place))];
        if let Some(worker) = &spec.worker {
            lines.push(format!("  on each other node: {}", filled(&worker.command_line(), &place)));
        }
        if shape.replicas > 1 {
            lines.push(format!("  this starts one of {} replicas", shape.replicas));
        }
        if let Some(why) = beyond_models(shape, launch.nodes()) {
            lines.push(format!(
                "a Model cannot say {why}: start the command, and give a Model its `endpoints`"
            ));
            return lines;
        }
        let manifest = self.manifest(shape, &spec.leader.args);
        match refusal(&manifest, &self.world(shape)) {
            Some(why) => lines.push(format!(
                "Pilotage does not start it by itself: start the command, and give a Model its `endpoints` ({why})"
            )),
            None => lines.extend(shown(manifest)),
        }
        lines
    }

    /// A machine with the accelerators that all replicas take.
    fn world(&self, shape: &Shape) -> World {
        let gpu = Gpu {
            id: None,
            name: self.accelerator.name.to_owned(),
            memory_bytes: Some(self.accelerator.memory_bytes),
        };
        let count = if self.accelerator.is_processor() { 0 } else { shape.accelerators() };
        let gpus = vec![gpu; count as usize];
        let facts = BTreeMap::from([(self.manifest_source(), self.facts.clone())]);
        World { gpus, facts, ..World::with_cores(CORES) }
    }

    fn manifest_source(&self) -> String {
        match self.source {
            Source::Folder(path) | Source::File(path) => format!("file:{}", path.display()),
            Source::Remote { .. } | Source::RemoteFile { .. } => self.typed.to_owned(),
        }
    }

    fn manifest(&self, shape: &Shape, args: &[String]) -> Vec<String> {
        let source = self.manifest_source();
        let mut lines = vec![
            "apiVersion: pilotage.dev/v1alpha1".to_owned(),
            "kind: Model".to_owned(),
            format!("metadata: {{name: {}}}", plain(&self.source.name())),
            "spec:".to_owned(),
            format!("  source: {}", quoted(&source)),
            format!("  runtime: {}", self.engine.name()),
            format!("  parallelism: {{tensor: {}, pipeline: {}}}", shape.tensor, shape.pipeline),
            format!("  replicas: {}", shape.replicas),
            format!("  context: {}", shape.context.max(16)),
            format!("  parallel: {}", shape.sequences),
            format!("  batchTokens: {}", shape.batch_tokens),
        ];
        let own: Vec<String> = cache_args(args).iter().map(|word| quoted(word)).collect();
        if !own.is_empty() {
            lines.push(format!("  runtimeArgs: [{}]", own.join(", ")));
        }
        lines
    }

    fn launch(&self, shape: Shape) -> Launch {
        let weights = match self.source.repository() {
            Some(id) => Weights::Repository {
                id: id.to_owned(),
                revision: self.source.revision().map(str::to_owned),
            },
            None => Weights::Local,
        };
        Launch {
            served: self.source.name(),
            weights,
            weight_bytes: Some(self.facts.weights.total()),
            shape,
            accelerator: *self.accelerator,
            cache_bytes: None,
            threads: None,
            version: None,
            features: Features { task: self.facts.task, ..Features::default() },
            has_key: true,
            extra: Vec::new(),
        }
    }
}

/// How a server is used that runs already; its key is in that variable.
pub(super) fn running(one: &Tried, key_env: Option<&str>) -> Vec<String> {
    let url = one.url.as_deref().unwrap_or_default();
    // A Model's endpoint is what is before `/v1`.
    let base = url.trim_end_matches('/').trim_end_matches("/v1");
    let key = key_env.map(|name| format!(", keyEnv: {}", quoted(name))).unwrap_or_default();
    let mut lines = vec![
        "apiVersion: pilotage.dev/v1alpha1".to_owned(),
        "kind: Model".to_owned(),
        format!("metadata: {{name: {}}}", plain(&one.name)),
        "spec:".to_owned(),
        format!("  endpoints: [{{url: {}{key}}}]", quoted(base)),
    ];
    let model = one.served_model.as_ref();
    lines.extend(model.map(|model| format!("  servedModel: {}", quoted(model))));
    let told = match refusal(&lines, &World::with_cores(1)) {
        Some(why) => vec![format!("a Model cannot say so: {why}")],
        None => shown(lines),
    };
    std::iter::once(format!("it runs at {url} already")).chain(told).collect()
}

fn shown(manifest: Vec<String>) -> Vec<String> {
    let manifest = manifest.into_iter().map(|line| format!("  {line}"));
    std::iter::once("manifest".to_owned()).chain(manifest).collect()
}

/// Why `pilotage up` does not take a manifest on such a machine.
fn refusal(manifest: &[String], world: &World) -> Option<String> {
    let text = manifest.join(
        "
",
    );
    let resources = match parse_all([("manifest", text.as_str())]) {
        Ok(resources) => resources,
        Err(errors) => {
            let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
            return Some(told.join("; "));
        }
    };
    plan(&resources, world).err().map(|error| error.to_string())
}

/// What of a shape no Model's fields can say.
const fn beyond_models(shape: &Shape, nodes: u32) -> Option<&'static str> {
    if shape.data > 1 {
        return Some("that attention is in parallel");
    }
    if shape.expert_parallel {
        return Some("that experts lie whole on their ranks");
    }
    if nodes > 1 {
        return Some("that one replica is spread over nodes, with `pilotage up` on one");
    }
    None
}

/// The flag for the cache's type among a program's arguments, with its value.
fn cache_args(args: &[String]) -> Vec<String> {
    let is_flag = |word: &String| {
        CACHE_FLAGS.iter().any(|flag| word == flag || word.starts_with(&format!("{flag}=")))
    };
    let Some(at) = args.iter().position(is_flag) else { return Vec::new() };
    let count = if args.get(at).is_some_and(|word| word.contains('=')) { 1 } else { 2 };
    args.iter().skip(at).take(count).cloned().collect()
}

/// A name as resources have them.
fn plain(name: &str) -> String {
    let is_plain = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-';
    let name = name.to_lowercase();
    let name: String =
        name.chars().map(|char| if is_plain(char) { char } else { '-' }).take(63).collect();
    match name.trim_matches('-') {
        "" => "model".to_owned(),
        name => name.to_owned(),
    }
}

/// A text as YAML takes it for one.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use pilotage_plan::size::Config;

    use super::*;

    #[test]
    fn servers_are_named_with_their_model_and_key() {
        let check = |url: &str, key_env: Option<&str>, expect: &str| {
            let one = Tried {
                name: "a".to_owned(),
                url: Some(url.to_owned()),
                served_model: Some("m".to_owned()),
                ..Tried::default()
            };
            let told = running(&one, key_env).join(
                "
",
            );
            assert!(told.contains(expect), "{told}");
        };
        check(
            "http://a:1",
            None,
            "endpoints: [{url: 'http://a:1'}]
    servedModel: 'm'",
        );
        check("http://a:1/v1", Some("KEY"), "endpoints: [{url: 'http://a:1', keyEnv: 'KEY'}]");
        check("http://a:1/?x=y", None, "a Model cannot say so");
    }

    #[test]
    fn what_pilotage_does_not_start_has_no_manifest() {
        const CONFIG: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 1024,
            "intermediate_size": 2816, "num_hidden_layers": 24, "num_attention_heads": 16, "num_key_value_heads": 8,
            "vocab_size": 32000, "max_position_embeddings": 4096, "torch_dtype": "bfloat16"}"#;
        let facts = Config::parse(CONFIG.as_bytes()).unwrap().facts().unwrap();
        let accelerator = Accelerator::by_id("l4").unwrap();
        let source = Source::Folder("/models/m".into());
        let check = |engine, replicas, expect: &str, is_manifest: bool| {
            let launched =
                Launched { source: &source, typed: "", facts: &facts, accelerator, engine };
            let shape = Shape { replicas, ..Shape::single(1024, pilotage_plan::size::Dtype::Bf16) };
            let lines = launched.lines(&shape);
            assert_eq!(lines.iter().any(|line| line == "manifest"), is_manifest, "{lines:#?}");
            assert!(lines.iter().any(|line| line.contains(expect)), "{lines:#?}");
        };
        check(Engine::Vllm, 2, "replicas: 2", true);
        check(Engine::Ollama, 1, "under `endpoints`", false);
        check(Engine::DeepSpeed, 2, "one machine runs one of them", false);
    }
}
