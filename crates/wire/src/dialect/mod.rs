//! How the servers that run models differ: where they say whether they are well, under which names they
//! tell how full they are, what they can do and since when, and how they say that something is wrong.
//!
//! One table of differences, a small file a runtime; nobody else knows a runtime by name. What is in it
//! was read in the runtime's own source or documentation, or in its output, and says where. What nobody
//! has read up is not guessed: [`Support::Unknown`] is an answer.

pub mod call;
pub mod detect;
pub mod fault;
pub mod loaded;
pub mod metric;
pub mod observe;
pub mod reference;
pub mod retell;
pub mod screen;
pub mod support;
pub mod translate;
pub mod version;

mod auto;
mod deepspeed;
mod llamacpp;
mod ollama;
mod openai;
mod pilotage;
mod sglang;
#[cfg(test)]
mod tests;
mod tgi;
mod triton;
mod trtllm;
mod vllm;

pub use call::Call;
pub use fault::{Fault, Mark, Marked};
pub use metric::{Meaning, Metric, Take};
pub use support::{Answer, Capabilities, Capability, Feature, Support};
pub use version::Version;

/// Which server answers.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Dialect {
    /// Not said: what most of them have in common is taken for granted.
    Auto,
    /// `pilotage engine`, or another Pilotage.
    Pilotage,
    /// vLLM.
    Vllm,
    /// SGLang.
    Sglang,
    /// Text Generation Inference.
    Tgi,
    /// TensorRT-LLM's own server.
    Trtllm,
    /// Triton Inference Server.
    Triton,
    /// DeepSpeed-MII.
    DeepSpeed,
    /// llama.cpp's server.
    LlamaCpp,
    /// Ollama.
    Ollama,
    /// OpenAI's API, and nothing beyond it.
    OpenAi,
}

/// All that differs from one server to another.
#[derive(Debug)]
pub struct Differences {
    /// The server.
    pub dialect: Dialect,
    /// Its name in manifests.
    pub name: &'static str,
    /// Its name as its makers write it.
    pub title: &'static str,
    /// What it is for, in a sentence.
    pub about: &'static str,
    /// The newest version that this was compared with; none of what has no versions.
    pub checked: Option<&'static str>,
    /// Where it was read.
    pub source: &'static str,
    /// Where it answers questions about itself.
    pub paths: Paths,
    /// Names of what it counts.
    pub metrics: &'static [Metric],
    /// How requests reach it.
    pub api: Api,
    /// What it can do.
    pub capabilities: Capabilities,
    /// What it takes to load an adapter while it runs, and to unload it.
    pub adapters: Option<Pair>,
    /// What it takes to make it give its memory back, and take it again.
    pub sleep: Option<Pair>,
    /// How it says that something is wrong.
    pub faults: &'static [Marked],
    /// What surprises those who know others.
    pub quirks: &'static [&'static str],
}

/// Where a server answers questions about itself, below its URL. None where it has no such path.
#[derive(Clone, Copy, Debug)]
pub struct Paths {
    /// Whether it is well.
    pub health: &'static str,
    /// The same, found out by computing something, which costs more.
    pub ready: Option<&'static str>,
    /// Its metrics, as text for Prometheus.
    pub metrics: Option<&'static str>,
    /// The port of its metrics, where that is another one.
    pub metrics_port: Option<u16>,
    /// The models it serves.
    pub models: Option<&'static str>,
    /// Its version.
    pub version: Option<&'static str>,
    /// More about how it is set up.
    pub info: Option<&'static str>,
}

/// How requests reach a server.
#[derive(Clone, Copy, Debug)]
pub struct Api {
    /// Paths of OpenAI's API that it serves.
    pub openai: &'static [Route],
    /// The API of its own that requests are told in where it has no such path.
    pub own: Option<Own>,
    /// Whether that is always so: what serves OpenAI's API is another program there.
    pub is_only_own: bool,
}

/// A path, and since when it is served.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The path.
    pub path: &'static str,
    /// Since when.
    pub feature: Feature,
}

/// An API that is not OpenAI's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Own {
    /// Triton's extension `generate`, and `generate_stream`.
    Triton,
    /// `POST /mii/NAME`.
    DeepSpeed,
    /// `POST /generate` and `/generate_stream`.
    Tgi,
    /// `POST /api/chat`, whose stream is a line of JSON after the other.
    Ollama,
}

/// Two calls that undo each other.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// To do it.
    pub on: Call,
    /// To undo it.
    pub off: Call,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Auto,
        Self::Pilotage,
        Self::Vllm,
        Self::Sglang,
        Self::Tgi,
        Self::Trtllm,
        Self::Triton,
        Self::DeepSpeed,
        Self::LlamaCpp,
        Self::Ollama,
        Self::OpenAi,
    ];

    /// Its row of the table.
    pub const fn differences(self) -> &'static Differences {
        match self {
            Self::Auto => &auto::DIFFERENCES,
            Self::Pilotage => &pilotage::DIFFERENCES,
            Self::Vllm => &vllm::DIFFERENCES,
            Self::Sglang => &sglang::DIFFERENCES,
            Self::Tgi => &tgi::DIFFERENCES,
            Self::Trtllm => &trtllm::DIFFERENCES,
            Self::Triton => &triton::DIFFERENCES,
            Self::DeepSpeed => &deepspeed::DIFFERENCES,
            Self::LlamaCpp => &llamacpp::DIFFERENCES,
            Self::Ollama => &ollama::DIFFERENCES,
            Self::OpenAi => &openai::DIFFERENCES,
        }
    }

    /// Its name in manifests.
    pub const fn name(self) -> &'static str {
        self.differences().name
    }

    /// Its name as its makers write it.
    pub const fn title(self) -> &'static str {
        self.differences().title
    }

    /// Whether a server of that version can do something. A version that is not known is taken for one
    /// of which nothing but the table's own is known.
    pub fn can(self, capability: Capability, version: Option<&Version>) -> Answer {
        self.differences().capabilities.get(capability).support.at(version)
    }

    /// What such a server calls every model; none where it goes by the name that it is given. TGI takes any other
    /// name for an adapter's (`ChatRequest::try_into_generate` of its `router/src/lib.rs`).
    pub const fn name_of_all(self) -> Option<&'static str> {
        match self {
            Self::Tgi => Some("tgi"),
            _ => None,
        }
    }

    /// The API of its own in which requests are told to such a server, where it has not OpenAI's.
    pub fn own(self) -> Option<Own> {
        let api = &self.differences().api;
        api.own.filter(|_| api.is_only_own)
    }

    /// Whether it keeps what several prompts begin with in its KV cache only once, even while all of
    /// them are computed, as far as its makers say so of any version.
    pub fn shares_prefixes(self) -> bool {
        self.can(Capability::PrefixSharing, None) == Answer::Yes
    }

    /// What cannot be said of a version with certainty, in sentences for its owner: that it is older
    /// than what the table knows, or newer, or unknown.
    pub fn warnings(self, version: Option<&Version>) -> Vec<String> {
        let known = self.differences();
        let Some(checked) = known.checked else { return Vec::new() };
        let Some(version) = version else {
            let what = self.open(None);
            return vec![format!(
                "{} does not say which version it is{}",
                known.title,
                listed(" so that it is not known whether it has: ", &what)
            )];
        };
        let newest = Version::parse(checked);
        let mut warnings = Vec::new();
        if newest.is_some_and(|newest| *version > newest) {
            warnings.push(format!(
                "{} {version} is newer than what is known of it ({checked}): names of metrics and paths may have changed",
                known.title
            ));
        }
        let open = self.open(Some(version));
        if !open.is_empty() {
            let what = listed("", &open);
            warnings.push(format!("it is not known whether {} {version} has: {what}", known.title));
        }
        warnings
    }

    fn open(self, version: Option<&Version>) -> Vec<&'static str> {
        let open = |one: &Capability| self.can(*one, version) == Answer::Unknown;
        Capability::ALL.into_iter().filter(open).map(Capability::title).collect()
    }
}

fn listed(before: &str, what: &[&str]) -> String {
    if what.is_empty() { String::new() } else { format!("{before}{}", what.join(", ")) }
}
