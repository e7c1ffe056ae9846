//! What can be turned, and what it is called in each server and in our manifests: what findings give
//! to be copied.

use super::evidence::Runtime::{self, LlamaCpp, Sglang, Tgi, Trtllm, Vllm};
use super::finding::{Change, Fix};

/// Something that a server can be told at its start.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Knob {
    /// Sequences at once.
    Slots,
    /// Tokens of a step.
    StepTokens,
    /// Tokens of a sequence.
    Context,
    /// Share of memory for weights and KV cache.
    Memory,
    /// What the KV cache holds numbers as.
    CacheType,
    /// Accelerators that divide each layer.
    Tensor,
    /// No CUDA graphs.
    NoGraphs,
    /// Processes that take requests in.
    Servers,
    /// Adapters in one batch.
    Adapters,
    /// Drafts.
    Drafts,
    /// Kept prefixes.
    Prefixes,
    /// Weights of fewer bits.
    Quantization,
}

/// What is written for one server.
struct Flag {
    runtime: Runtime,
    flag: &'static str,
    value: Value,
}

/// What stands behind a flag.
enum Value {
    /// What the knob is set to.
    Given,
    /// A word of that server's own.
    Is(&'static str),
    /// Nothing.
    Nothing,
    /// The flag itself is to go.
    Gone,
}

const fn flag(runtime: Runtime, flag: &'static str) -> Flag {
    Flag { runtime, flag, value: Value::Given }
}

const fn fixed(runtime: Runtime, flag: &'static str, value: &'static str) -> Flag {
    Flag { runtime, flag, value: Value::Is(value) }
}

const fn switch(runtime: Runtime, flag: &'static str) -> Flag {
    Flag { runtime, flag, value: Value::Nothing }
}

const fn gone(runtime: Runtime, flag: &'static str) -> Flag {
    Flag { runtime, flag, value: Value::Gone }
}

const SLOTS: &[Flag] = &[
    flag(Vllm, "--max-num-seqs"),
    flag(Sglang, "--max-running-requests"),
    flag(Tgi, "--max-concurrent-requests"),
    flag(Trtllm, "--max_batch_size"),
    flag(LlamaCpp, "--parallel"),
];

const STEP_TOKENS: &[Flag] = &[
    flag(Vllm, "--max-num-batched-tokens"),
    flag(Sglang, "--chunked-prefill-size"),
    flag(Tgi, "--max-batch-prefill-tokens"),
    flag(Trtllm, "--max_num_tokens"),
    flag(LlamaCpp, "--ubatch-size"),
];

const CONTEXT: &[Flag] = &[
    flag(Vllm, "--max-model-len"),
    flag(Sglang, "--context-length"),
    flag(Tgi, "--max-total-tokens"),
    flag(Trtllm, "--max_seq_len"),
    flag(LlamaCpp, "--ctx-size"),
];

const MEMORY: &[Flag] = &[
    flag(Vllm, "--gpu-memory-utilization"),
    flag(Sglang, "--mem-fraction-static"),
    flag(Tgi, "--cuda-memory-fraction"),
];

const CACHE_TYPE: &[Flag] = &[
    fixed(Vllm, "--kv-cache-dtype", "fp8"),
    fixed(Sglang, "--kv-cache-dtype", "fp8_e4m3"),
    fixed(Tgi, "--kv-cache-dtype", "fp8_e4m3fn"),
    fixed(LlamaCpp, "--cache-type-k", "q8_0"),
];

const TENSOR: &[Flag] = &[
    flag(Vllm, "--tensor-parallel-size"),
    flag(Sglang, "--tp-size"),
    flag(Tgi, "--num-shard"),
    flag(Trtllm, "--tp_size"),
];

const NO_GRAPHS: &[Flag] = &[gone(Vllm, "--enforce-eager"), gone(Sglang, "--disable-cuda-graph")];

const SERVERS: &[Flag] =
    &[flag(Vllm, "--api-server-count"), flag(Sglang, "--tokenizer-worker-num")];

const ADAPTERS: &[Flag] = &[flag(Vllm, "--max-loras"), flag(Sglang, "--max-loras-per-batch")];

const DRAFTS: &[Flag] =
    &[gone(Vllm, "--speculative-config"), gone(Sglang, "--speculative-algorithm")];

const PREFIXES: &[Flag] =
    &[switch(Vllm, "--enable-prefix-caching"), gone(Sglang, "--disable-radix-cache")];

const QUANTIZATION: &[Flag] =
    &[fixed(Vllm, "--quantization", "fp8"), fixed(Sglang, "--quantization", "fp8")];

impl Knob {
    /// Every knob.
    #[cfg(test)]
    const ALL: [Self; 12] = [
        Self::Slots,
        Self::StepTokens,
        Self::Context,
        Self::Memory,
        Self::CacheType,
        Self::Tensor,
        Self::NoGraphs,
        Self::Servers,
        Self::Adapters,
        Self::Drafts,
        Self::Prefixes,
        Self::Quantization,
    ];

    const fn flags(self) -> &'static [Flag] {
        match self {
            Self::Slots => SLOTS,
            Self::StepTokens => STEP_TOKENS,
            Self::Context => CONTEXT,
            Self::Memory => MEMORY,
            Self::CacheType => CACHE_TYPE,
            Self::Tensor => TENSOR,
            Self::NoGraphs => NO_GRAPHS,
            Self::Servers => SERVERS,
            Self::Adapters => ADAPTERS,
            Self::Drafts => DRAFTS,
            Self::Prefixes => PREFIXES,
            Self::Quantization => QUANTIZATION,
        }
    }

    /// The field of a `Model`; none where it is one of the runtime's own arguments.
    const fn field(self) -> Option<&'static str> {
        match self {
            Self::Slots => Some("spec.parallel"),
            Self::StepTokens => Some("spec.batchTokens"),
            Self::Context => Some("spec.context"),
            Self::Tensor => Some("spec.parallelism.tensor"),
            _ => None,
        }
    }

    /// What to write to set it to that: for the server that runs, or for all that have it where that is
    /// unknown, and in a manifest.
    pub(super) fn set(self, runtime: Option<Runtime>, value: &str) -> Vec<Change> {
        let all = self.flags();
        let own = |flag: &&Flag| runtime.is_none_or(|runtime| flag.runtime == runtime);
        let mut changes: Vec<Change> = all
            .iter()
            .filter(own)
            .map(|flag| change(flag.runtime.name(), &flag.text(value)))
            .collect();
        let first = all.iter().find(|flag| runtime.is_none_or(|runtime| flag.runtime == runtime));
        let manifest = match (self.field(), first) {
            (Some(field), _) => Some(format!("{field}: {value}")),
            (None, Some(flag)) => Some(flag.in_manifest(value)),
            (None, None) => None,
        };
        changes.extend(manifest.map(|text| change("manifest", &text)));
        changes
    }
}

impl Flag {
    fn text(&self, value: &str) -> String {
        let flag = self.flag;
        match self.value {
            Value::Given => format!("{flag} {value}"),
            Value::Is(value) => format!("{flag} {value}"),
            Value::Nothing => flag.to_owned(),
            Value::Gone => format!("without {flag}"),
        }
    }

    fn in_manifest(&self, value: &str) -> String {
        let flag = self.flag;
        match self.value {
            Value::Given => format!("spec.runtimeArgs: [\"{flag}\", \"{value}\"]"),
            Value::Is(value) => format!("spec.runtimeArgs: [\"{flag}\", \"{value}\"]"),
            Value::Nothing => format!("spec.runtimeArgs: [\"{flag}\"]"),
            Value::Gone => format!("spec.runtimeArgs: without \"{flag}\""),
        }
    }
}

/// Fields of a Model that only have an effect on what is run for it.
const OURS: [&str; 10] = [
    "spec.batchTokens",
    "spec.image",
    "spec.parallelism",
    "spec.podTemplate",
    "spec.runtimeArgs",
    "spec.scaling",
    "spec.storage",
    "spec.threads",
    "spec.updates",
    "spec.warmUp",
];

/// Something to change.
pub(super) fn change(place: &'static str, text: &str) -> Change {
    Change { place, text: text.to_owned() }
}

impl Fix {
    /// What to do, in a sentence.
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), ..Self::default() }
    }

    /// With a knob set to that.
    pub(super) fn set(
        mut self,
        knob: Knob,
        runtime: Option<Runtime>,
        value: impl ToString,
    ) -> Self {
        self.changes.extend(knob.set(runtime, &value.to_string()));
        self
    }

    /// With something to write into a manifest.
    pub(super) fn manifest(mut self, text: impl AsRef<str>) -> Self {
        self.changes.push(change("manifest", text.as_ref()));
        self
    }

    /// With a command to type.
    pub(super) fn shell(mut self, text: impl AsRef<str>) -> Self {
        self.changes.push(change("shell", text.as_ref()));
        self
    }

    /// For so many replicas that somebody else runs: of a manifest's fields those that have an effect there. How many
    /// requests an endpoint may have at once is to fit what its server is told.
    pub(super) fn leave_to_others(&mut self, replicas: usize) {
        self.changes.retain_mut(|change| {
            if change.place != "manifest" {
                return true;
            }
            if let Some(wanted) = change.text.strip_prefix("spec.replicas:") {
                let fewer = wanted.trim().parse().is_ok_and(|wanted: usize| wanted < replicas);
                let text = if fewer { "without some of them" } else { "one more, with its url" };
                change.text = format!("spec.endpoints: {text}");
            }
            if let Some(value) = change.text.strip_prefix("spec.parallel:") {
                change.text = format!("spec.endpoints[].parallel:{value}");
            }
            !OURS.iter().any(|field| change.text.starts_with(field))
        });
    }

    /// What will come of it.
    pub(super) fn predict(mut self, text: impl Into<String>) -> Self {
        self.predicted = text.into();
        self
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(path: &str) -> String {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        std::fs::read_to_string(root.join(path)).unwrap()
    }

    /// The tables that manifests are checked against are made of the servers' own sources.
    #[test]
    fn servers_have_the_flags() {
        for knob in Knob::ALL {
            for flag in knob.flags() {
                let table = match flag.runtime {
                    Vllm => "vllm",
                    Sglang => "sglang",
                    Tgi => "tgi",
                    Trtllm => "trtllm",
                    _ => "llama_cpp",
                };
                let table = read(&format!("crates/plan/src/launch/flags/{table}.txt"));
                let own = |line: &str| line.split_whitespace().next() == Some(flag.flag);
                assert!(table.lines().any(own), "{:?} has no {}", flag.runtime, flag.flag);
            }
        }
    }

    #[test]
    fn manifests_have_the_fields() {
        let reference = read("docs/reference/manifests.md");
        for field in Knob::ALL.into_iter().filter_map(Knob::field) {
            assert!(reference.contains(&format!("`{field}`")), "no {field}");
        }
    }

    /// `plan` refuses them beside `endpoints`.
    #[test]
    fn what_others_run_is_not_told_what_has_no_effect_there() {
        let mut fix = Fix::new("more")
            .set(Knob::Slots, Some(Vllm), 32)
            .set(Knob::StepTokens, Some(Vllm), 4096)
            .set(Knob::CacheType, Some(Vllm), 8)
            .manifest("spec.replicas: 3")
            .manifest("kind: Route\nspec.policy: cost")
            .shell("uptime");
        fix.leave_to_others(2);
        let told: Vec<&str> = fix.changes.iter().map(|change| change.text.as_str()).collect();
        let expect = [
            "--max-num-seqs 32",
            "spec.endpoints[].parallel: 32",
            "--max-num-batched-tokens 4096",
            "--kv-cache-dtype fp8",
            "spec.endpoints: one more, with its url",
            "kind: Route\nspec.policy: cost",
            "uptime",
        ];
        assert_eq!(told, expect);
        let mut fewer = Fix::new("fewer").manifest("spec.replicas: 1");
        fewer.leave_to_others(2);
        assert_eq!(fewer.changes[0].text, "spec.endpoints: without some of them");
        let models = read("crates/plan/src/manifest/models.rs");
        for field in OURS {
            let name = field.trim_start_matches("spec.");
            assert!(models.contains(&format!("\"{name}\",")), "{field} is allowed");
        }
    }

    #[test]
    fn what_is_to_be_copied_fits_who_runs() {
        let check = |knob: Knob, runtime: Option<Runtime>, expect: &[&str]| {
            let changes = knob.set(runtime, "32");
            let got: Vec<String> =
                changes.iter().map(|change| format!("{}: {}", change.place, change.text)).collect();
            assert_eq!(got, expect);
        };
        check(Knob::Slots, Some(Vllm), &["vLLM: --max-num-seqs 32", "manifest: spec.parallel: 32"]);
        check(
            Knob::Slots,
            Some(Sglang),
            &["SGLang: --max-running-requests 32", "manifest: spec.parallel: 32"],
        );
        check(Knob::Slots, Some(Runtime::Pilotage), &["manifest: spec.parallel: 32"]);
        check(
            Knob::NoGraphs,
            Some(Vllm),
            &[
                "vLLM: without --enforce-eager",
                "manifest: spec.runtimeArgs: without \"--enforce-eager\"",
            ],
        );
        let fp8 = r#"manifest: spec.runtimeArgs: ["--kv-cache-dtype", "fp8"]"#;
        check(Knob::CacheType, Some(Vllm), &["vLLM: --kv-cache-dtype fp8", fp8]);
        check(Knob::Memory, Some(Runtime::Pilotage), &[]);
        assert_eq!(Knob::Adapters.set(None, "8").len(), 3);
    }
}
