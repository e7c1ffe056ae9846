//! `Model.spec.endpoints`: engines that somebody else runs, how to reach them, and when to leave
//! them alone.

use pilotage_wire::dialect;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fleet::PER_NODE_MAX;
use super::url::{EndpointUrl, EnvName, EventsUrl, FilePath};
use super::{Money, ResourceName};

/// Sequences at once of an endpoint when nothing is said: what vLLM and SGLang serve on one
/// accelerator without anybody waiting long, and far from where they begin to swap.
pub const ENDPOINT_PARALLEL_DEFAULT: u32 = 64;

/// Most sequences at once of an endpoint, which may be many engines behind one URL.
pub const ENDPOINT_PARALLEL_MAX: u32 = 65_536;

/// Most tokens in the KV cache of an endpoint.
pub const KV_TOKENS_MAX: u64 = 1_000_000_000_000;

/// Longest pause between two looks at an endpoint, in seconds.
const HEALTH_SECONDS_MAX: u32 = 3600;

/// Most looks that decide.
const HEALTH_COUNT_MAX: u32 = 32;

/// Longest time that an endpoint is left alone, in seconds.
const OPEN_SECONDS_MAX: u32 = 3600;

/// Most failures in a row, or requests of a sample.
const BREAKER_COUNT_MAX: u32 = 10_000;

/// An engine that runs elsewhere.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Endpoint {
    /// Where it is reached: `http://` or `https://`, a host, perhaps a port, and the path before
    /// `/v1`, where there is one.
    pub url: EndpointUrl,
    /// The file that holds the key it asks for (`Authorization: Bearer`); read at the start and
    /// whenever manifests are read again. A manifest never holds a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<FilePath>,
    /// The environment variable that holds the key it asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_env: Option<EnvName>,
    /// The file with the certificates (PEM) that it is trusted by, instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<FilePath>,
    /// The region it is in; Routes name regions in the order in which they are preferred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<ResourceName>,
    /// The zone inside of the region. Where the gateway is told its own (`pilotage up --zone`), replicas of
    /// other zones, or of none, cost a millisecond more: among equals those of its own come first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<ResourceName>,
    /// Sequences that it computes at once; more wait in the gateway, where it is fair.
    #[serde(default = "parallel_default")]
    #[schemars(range(min = 1, max = ENDPOINT_PARALLEL_MAX))]
    pub parallel: u32,
    /// Tokens that its KV cache holds. Without it room for `parallel` sequences of the Model's whole
    /// `context`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = KV_TOKENS_MAX))]
    pub kv_tokens: Option<u64>,
    /// Where it tells what its KV cache holds, so that requests go where their prefix is. Without
    /// it the gateway remembers what it sent where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_events: Option<KvEvents>,
    /// Whether it is another gateway of Pilotage, in another region, that serves the model under the same public
    /// names. It may stand beside a `source`. It gets the name that the client wrote, and the Tenant's, and
    /// sends what comes from here to its own replicas alone.
    #[serde(default, skip_serializing_if = "super::tenant::is_false")]
    pub gateway: bool,
    /// Where it tells how full it is, as text for Prometheus: another address than servers of the Model's
    /// `dialect` have, path included. It gets the key only where it is the host and port of `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics_url: Option<EndpointUrl>,
    /// The class of its hardware, as `pilotage plan hardware` lists them (`h100-sxm`), or a name of your own: what
    /// usage and records are told apart by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware: Option<ResourceName>,
    /// Its accelerators; one without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = PER_NODE_MAX))]
    pub accelerators: Option<u32>,
    /// What it costs in an hour, as text: `"2.49"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_per_hour: Option<Money>,
}

/// Where a vLLM-compatible engine publishes changes of its KV cache (ZeroMQ `PUB`): a port of the
/// same host, or an address; exactly one of the two.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct KvEvents {
    /// The port, on the host of `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: Option<u16>,
    /// The address: `tcp://HOST:PORT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<EventsUrl>,
}

/// Which server answers. What follows from it: where it is asked whether it is well and how full it
/// is, whether it keeps what prompts begin with only once, and whether it can pause a request.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// Not said: what all of them have in common is taken for granted.
    #[default]
    Auto,
    /// OpenAI's own API, and nothing beyond it.
    OpenAi,
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
    /// llama.cpp's `llama-server`.
    LlamaCpp,
    /// Ollama.
    Ollama,
    /// `pilotage engine`, or another Pilotage.
    Pilotage,
}

/// How an answer goes on whose replica failed in the middle of it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Resume {
    /// From the ids of the tokens so far, exactly; needs `tokenIds`.
    Tokens,
    /// From the text so far, which may be cut into other tokens.
    #[default]
    Text,
    /// Not at all: the stream ends with an error.
    Off,
}

/// How replicas are asked whether they are well.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Health {
    /// The path that answers with a status of 200 to 299 when all is well, below the endpoint's URL.
    /// Without it the path that servers of the Model's `dialect` have, where an endpoint that has no
    /// such path counts as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub path: Option<String>,
    /// Seconds between two looks.
    #[schemars(range(min = 1, max = HEALTH_SECONDS_MAX))]
    pub interval_seconds: u32,
    /// Seconds that an answer may take.
    #[schemars(range(min = 1, max = HEALTH_SECONDS_MAX))]
    pub timeout_seconds: u32,
    /// Looks that fail, of the last five or of as many as this, before nothing more is sent there.
    #[schemars(range(min = 1, max = HEALTH_COUNT_MAX))]
    pub failures: u32,
    /// Looks in a row that succeed before work is sent there again.
    #[schemars(range(min = 1, max = HEALTH_COUNT_MAX))]
    pub successes: u32,
}

/// When a replica that answers, but badly, is left alone for a while.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Breaker {
    /// Failures in a row after which it gets nothing.
    #[schemars(range(min = 1, max = BREAKER_COUNT_MAX))]
    pub failures: u32,
    /// Percent of its last requests that may fail before it gets nothing.
    #[schemars(range(min = 1, max = 100))]
    pub error_percent: u32,
    /// Requests that this percentage is taken of at least.
    #[schemars(range(min = 1, max = BREAKER_COUNT_MAX))]
    pub requests_min: u32,
    /// Seconds for which it gets nothing, the first time; twice as long after each time in a row.
    #[schemars(range(min = 1, max = OPEN_SECONDS_MAX))]
    pub open_seconds: u32,
    /// The longest time for which it gets nothing, in seconds.
    #[schemars(range(min = 1, max = OPEN_SECONDS_MAX))]
    pub open_seconds_max: u32,
    /// Percent of a Model's replicas that may be left alone at once: beyond it the fault is most
    /// likely not theirs.
    #[schemars(range(min = 0, max = 100))]
    pub ejected_percent_max: u32,
}

impl Endpoint {
    /// The engine at that URL, with every default.
    pub const fn at(url: EndpointUrl) -> Self {
        Self {
            url,
            key_file: None,
            key_env: None,
            ca_file: None,
            region: None,
            zone: None,
            parallel: ENDPOINT_PARALLEL_DEFAULT,
            kv_tokens: None,
            kv_events: None,
            gateway: false,
            metrics_url: None,
            hardware: None,
            accelerators: None,
            price_per_hour: None,
        }
    }

    /// Where a server of that kind tells how full it is, where that is not at its port for requests.
    pub fn metrics_elsewhere(&self, dialect: Dialect) -> Option<String> {
        let paths = &dialect.wire().differences().paths;
        let usual = || {
            let (port, path) = paths.metrics_port.zip(paths.metrics)?;
            let scheme = if self.url.is_tls() { "https" } else { "http" };
            Some(format!("{scheme}://{}:{port}{path}", self.url.host()))
        };
        self.metrics_url.as_ref().map(ToString::to_string).or_else(usual)
    }

    /// Where it tells what its KV cache holds.
    pub fn events_url(&self) -> Option<String> {
        let events = self.kv_events.as_ref()?;
        let at_port = |port| format!("tcp://{}:{port}", self.url.host());
        events.url.as_ref().map(ToString::to_string).or_else(|| events.port.map(at_port))
    }
}

impl Dialect {
    /// The row of the table of differences that it names.
    pub const fn wire(self) -> dialect::Dialect {
        match self {
            Self::Auto => dialect::Dialect::Auto,
            Self::OpenAi => dialect::Dialect::OpenAi,
            Self::Vllm => dialect::Dialect::Vllm,
            Self::Sglang => dialect::Dialect::Sglang,
            Self::Tgi => dialect::Dialect::Tgi,
            Self::Trtllm => dialect::Dialect::Trtllm,
            Self::Triton => dialect::Dialect::Triton,
            Self::DeepSpeed => dialect::Dialect::DeepSpeed,
            Self::LlamaCpp => dialect::Dialect::LlamaCpp,
            Self::Ollama => dialect::Dialect::Ollama,
            Self::Pilotage => dialect::Dialect::Pilotage,
        }
    }

    /// What such a server calls every model; none where it goes by the name that it is given.
    pub const fn name_of_all(self) -> Option<&'static str> {
        self.wire().name_of_all()
    }

    /// Whether such a server tells which name it serves its model by, so that nobody has to say it.
    pub fn lists_its_name(self) -> bool {
        self != Self::Pilotage && self.name_of_all().is_none() && self.wire().own().is_none()
    }

    /// The path that says whether such a server is well.
    pub const fn health_path(self) -> &'static str {
        self.wire().differences().paths.health
    }

    /// The path of such a server's metrics at its port for requests; none where it has none there, or its
    /// owner would rather not be asked every second.
    pub const fn metrics_path(self) -> Option<&'static str> {
        let paths = &self.wire().differences().paths;
        match paths.metrics_port {
            None => paths.metrics,
            Some(_) => None,
        }
    }

    /// Whether such a server keeps what several prompts begin with in its KV cache only once, as vLLM's
    /// blocks and SGLang's tree do, even while all of them are computed.
    pub fn shares_prefixes(self) -> bool {
        self.wire().shares_prefixes()
    }
}

impl Default for Health {
    fn default() -> Self {
        Self { path: None, interval_seconds: 5, timeout_seconds: 2, failures: 3, successes: 2 }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failures: 5,
            error_percent: 50,
            requests_min: 20,
            open_seconds: 5,
            open_seconds_max: 300,
            ejected_percent_max: 50,
        }
    }
}

const fn parallel_default() -> u32 {
    ENDPOINT_PARALLEL_DEFAULT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_and_the_table_have_the_same_names() {
        for row in dialect::Dialect::ALL {
            let named: Dialect = serde_json::from_value(row.name().into()).unwrap();
            assert_eq!(named.wire(), row, "{}", row.name());
        }
    }
}
