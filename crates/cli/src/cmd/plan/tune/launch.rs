//! How the shape that is recommended is run: a command, and the fields of a Model that say the same.

use pilotage_plan::hardware::Accelerator;
use pilotage_plan::launch::{self, Engine, Features, Launch, Weights};
use pilotage_plan::size::{ModelFacts, Shape};
use pilotage_sim::tune::Tried;

use crate::cmd::plan::show::filled;
use crate::cmd::plan::source::Source;

/// Words of a Model's `runtimeArgs` that follow from the shape: a runtime's flag for the cache's type.
const CACHE_FLAGS: [&str; 2] = ["--kv-cache-dtype", "--kv_cache_dtype"];

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
        lines.push("manifest".to_owned());
        lines.extend(
            self.manifest(shape, &spec.leader.args).into_iter().map(|line| format!("  {line}")),
        );
        lines
    }

    fn manifest(&self, shape: &Shape, args: &[String]) -> Vec<String> {
        let source = match self.source {
            Source::Folder(path) | Source::File(path) => format!("file:{}", path.display()),
            Source::Remote { .. } | Source::RemoteFile { .. } => self.typed.to_owned(),
        };
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

/// How a server is used that runs already.
pub(super) fn running(one: &Tried) -> Vec<String> {
    let url = one.url.as_deref().unwrap_or_default();
    let mut lines = vec![
        format!("it runs at {url} already"),
        "manifest".to_owned(),
        "  apiVersion: pilotage.dev/v1alpha1".to_owned(),
        "  kind: Model".to_owned(),
        format!("  metadata: {{name: {}}}", plain(&one.name)),
        "  spec:".to_owned(),
        format!("    endpoints: [{{url: {}}}]", quoted(url)),
    ];
    let model = one.served_model.as_ref();
    lines.extend(model.map(|model| format!("    servedModel: {}", quoted(model))));
    lines
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
