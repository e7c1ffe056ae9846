//! Which server it is, from how it behaves: a short list of questions, and what the answers mean together.
//! A name proves nothing, neither a model's nor a header's: what counts are paths that only one server
//! has, the shape of what it answers there, and names of metrics. What was found is told with its reasons.

mod signs;
#[cfg(test)]
mod tests;

use serde::Deserialize;
use serde_json::Value;

use super::call::path_text;
use super::fault::{self, Fault};
use super::{Answer, Capability, Dialect, Metric, Version, observe};
use signs::Sign;

/// Most bytes of an answer that are looked at; of metrics a page.
pub const ANSWER_BYTES_MAX: usize = observe::PAGE_BYTES_MAX;

/// Most models that are listed.
pub const MODELS_MAX: usize = 1000;

/// What it takes to believe that it is some server: one path that no other has, or two signs that few have.
const POINTS_MIN: u32 = 3;

/// What is asked of every server, in this order.
const ASKED: [&str; 14] = [
    "/v1/models",
    "/version",
    "/health",
    "/metrics",
    "/props",
    "/info",
    "/get_server_info",
    "/server_info",
    "/api/version",
    "/api/ps",
    "/v2",
    "/v2/health/ready",
    "/healthz",
    "/prometheus/metrics",
];

/// What a server answered.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// What it was asked for.
    pub path: String,
    /// The status.
    pub status: u16,
    /// Media type of the answer, as it was named.
    pub kind: String,
    /// What it calls itself in the header for that.
    pub server: String,
    /// The body, or the begin of one that is too long.
    pub body: Vec<u8>,
}

/// A model that is served.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Served {
    /// The name to ask for it by.
    pub id: String,
    /// Tokens of context, where that is told.
    pub context: Option<u64>,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The server; [`Dialect::OpenAi`] where it speaks that API and is none of those that are known, and
    /// [`Dialect::Auto`] where not even that is sure.
    pub dialect: Dialect,
    /// Its version, where it tells.
    pub version: Option<Version>,
    /// The models it serves.
    pub models: Vec<Served>,
    /// Tokens of context of each request, where that is told for all.
    pub context: Option<u64>,
    /// What it can do: the table's answer, where it does not say otherwise itself.
    pub capabilities: Vec<(Capability, Answer)>,
    /// Metrics that are there.
    pub metrics: Vec<&'static Metric>,
    /// Metrics that should be there at this version and are not.
    pub missing: Vec<&'static Metric>,
    /// Why it is taken for what it is.
    pub evidence: Vec<String>,
    /// What its owner should know.
    pub warnings: Vec<String>,
    /// Whether the key was refused.
    pub is_refused: bool,
}

/// The paths to ask for, with `GET`. With a model's name those that have it in them come as well.
pub fn paths(model: Option<&str>) -> Vec<String> {
    let mut paths: Vec<String> = ASKED.iter().map(|path| (*path).to_owned()).collect();
    if let Some(model) = model {
        let model = path_text(model);
        paths.push(format!("/v2/models/{model}/ready"));
        paths.push(format!("/mii/{model}"));
    }
    paths
}

/// What the answers mean together. Questions without an answer are left out of them.
pub fn judge(heard: &[Heard], model: Option<&str>) -> Finding {
    let signs = signs::all(heard);
    let (dialect, rival) = most(&signs);
    let speaks = heard.iter().any(|one| one.path == "/v1/models" && list(one).is_some());
    let dialect = dialect.unwrap_or(if speaks { Dialect::OpenAi } else { Dialect::Auto });
    let version = version(dialect, heard);
    let models = models(heard);
    let page = metrics_page(dialect, heard);
    let (metrics, missing) =
        page.map(|page| observe::presence(dialect, version.as_ref(), page)).unwrap_or_default();
    let is_refused = heard.iter().any(|one| matches!(one.status, 401 | 403));
    let mut found = Finding {
        dialect,
        context: context(heard, &models),
        capabilities: capabilities(dialect, version.as_ref(), heard),
        version,
        models,
        metrics,
        missing,
        evidence: signs.iter().filter(|sign| sign.speaks_for(dialect)).map(Sign::told).collect(),
        warnings: Vec::new(),
        is_refused,
    };
    found.warnings = warnings(&found, heard, (rival, page.is_some(), model));
    found
}

/// The name that requests have to give to a server whose list of models and information are these, where
/// `wanted` is not it: what it calls every model, or the one that it serves. None where `wanted` will do, or
/// there are several.
pub fn name(heard: &[Heard], wanted: &str) -> Option<String> {
    let found = judge(heard, None);
    if let Some(name) = found.dialect.name_of_all() {
        return Some(name.to_owned()).filter(|name| name != wanted);
    }
    let listed = heard.iter().filter(|one| one.path == "/v1/models").find_map(list)?;
    if listed.data.iter().any(|entry| entry.id == wanted) {
        return None;
    }
    // Adapters are listed beside what they belong to.
    let mut own = listed.data.into_iter().filter(|entry| entry.parent.is_none());
    let first = own.next()?;
    own.next().is_none().then_some(first.id).filter(|id| !id.is_empty())
}

/// The server that most speaks for, if it is enough; and the one for which as much speaks.
fn most(signs: &[Sign]) -> (Option<Dialect>, Option<Dialect>) {
    let points = |dialect: Dialect| -> u32 {
        let of = signs.iter().filter(|sign| sign.speaks_for(dialect));
        of.map(|sign| sign.points).sum()
    };
    let mut all: Vec<(u32, Dialect)> = Dialect::ALL
        .into_iter()
        .map(|dialect| (points(dialect), dialect))
        .filter(|(points, _)| *points >= POINTS_MIN)
        .collect();
    all.sort_by_key(|(points, _)| std::cmp::Reverse(*points));
    let [first, rest @ ..] = all.as_slice() else { return (None, None) };
    let rival = rest.first().filter(|(points, _)| *points == first.0).map(|(_, rival)| *rival);
    (Some(first.1), rival)
}

fn warnings(
    found: &Finding,
    heard: &[Heard],
    (rival, has_page, model): (Option<Dialect>, bool, Option<&str>),
) -> Vec<String> {
    let mut warnings = Vec::new();
    if found.is_refused {
        warnings.push(
            "it refused the key, or wants one: what it would tell with one is not known".into(),
        );
    }
    match found.dialect {
        Dialect::OpenAi => warnings.push(
            "it serves OpenAI's API and is none of the servers that are known: only what the API itself has is used".into(),
        ),
        Dialect::Auto if found.is_refused => {}
        Dialect::Auto => warnings
            .push("nothing that it answers is of a server that is known, not even a list of models".into()),
        known => {
            if let Some(rival) = rival {
                warnings.push(format!("as much speaks for {}: something may stand before it", rival.title()));
            }
            warnings.extend(known.warnings(found.version.as_ref()));
        }
    }
    warnings.extend(without_metrics(found.dialect, has_page));
    if !found.missing.is_empty() {
        let names: Vec<&str> = found.missing.iter().map(|metric| metric.name).collect();
        warnings.push(format!("metrics that its version has are missing: {}", names.join(", ")));
    }
    let is_loading = |one: &Heard| {
        one.status == 503 && fault::read(found.dialect, 503, &one.body).fault == Fault::Loading
    };
    if heard.iter().any(is_loading) {
        warnings.push("it is loading its model: ask again when it is ready".into());
    } else if let Some(sick) = heard.iter().find(|one| is_health(one) && one.status >= 500) {
        warnings.push(format!("`{}` says status {}: it is not well", sick.path, sick.status));
    }
    if let Some(model) = model.filter(|_| !found.models.is_empty())
        && !found.models.iter().any(|served| served.id == model)
    {
        let names: Vec<&str> = found.models.iter().take(8).map(|served| &*served.id).collect();
        warnings.push(format!("it serves no `{model}`, but: {}", names.join(", ")));
    }
    warnings
}

fn is_health(one: &Heard) -> bool {
    matches!(&*one.path, "/health" | "/v2/health/ready" | "/healthz")
}

/// Why there may be no metrics.
fn without_metrics(dialect: Dialect, has_page: bool) -> Option<String> {
    let known = dialect.differences();
    if has_page || known.metrics.is_empty() {
        return None;
    }
    let how = match dialect {
        Dialect::LlamaCpp => "start it with `--metrics`",
        Dialect::Sglang => "start it with `--enable-metrics`",
        Dialect::Trtllm => "start it with `return_perf_metrics: true`",
        Dialect::Triton => "they are at port 8002 where nothing else is said",
        _ => "how full it is follows from what was sent there",
    };
    Some(format!("no metrics were found: {how}"))
}

/// The page with what it counts.
fn metrics_page(dialect: Dialect, heard: &[Heard]) -> Option<&[u8]> {
    let path = dialect.differences().paths.metrics?;
    let page = heard.iter().find(|one| one.path == path && one.status == 200)?;
    (!page.body.is_empty()).then_some(&page.body)
}

fn json(heard: &[Heard], path: &str) -> Option<Value> {
    let one = heard.iter().find(|one| one.path == path && one.status == 200)?;
    serde_json::from_slice(&one.body).ok()
}

fn version(dialect: Dialect, heard: &[Heard]) -> Option<Version> {
    let told =
        |path: &str, field: &str| json(heard, path)?.get(field)?.as_str().and_then(Version::parse);
    match dialect {
        Dialect::Vllm | Dialect::Trtllm | Dialect::Pilotage => told("/version", "version"),
        Dialect::Sglang => {
            told("/get_server_info", "version").or_else(|| told("/server_info", "version"))
        }
        Dialect::Tgi => told("/info", "version"),
        Dialect::Ollama => told("/api/version", "version"),
        Dialect::Triton => told("/v2", "version"),
        // Who builds it elsewhere has no number.
        Dialect::LlamaCpp => {
            told("/props", "build_info").filter(|version| version.is_at_least("b1"))
        }
        Dialect::DeepSpeed | Dialect::OpenAi | Dialect::Auto => None,
    }
}

/// The list of models, of those fields that somebody needs.
#[derive(Deserialize)]
struct List {
    data: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    #[serde(default)]
    owned_by: Option<String>,
    #[serde(default)]
    max_model_len: Option<u64>,
    #[serde(default)]
    meta: Option<Meta>,
    /// What an adapter belongs to, as vLLM and SGLang say it.
    #[serde(default)]
    parent: Option<String>,
}

#[derive(Deserialize)]
struct Meta {
    n_ctx: Option<u64>,
}

fn list(one: &Heard) -> Option<List> {
    (one.status == 200).then(|| serde_json::from_slice(&one.body).ok()).flatten()
}

fn models(heard: &[Heard]) -> Vec<Served> {
    let listed = heard.iter().filter(|one| one.path == "/v1/models").find_map(list);
    if let Some(list) = listed {
        let served = |entry: Entry| {
            let context = entry.max_model_len.or_else(|| entry.meta.and_then(|meta| meta.n_ctx));
            Served { id: entry.id, context }
        };
        return list.data.into_iter().take(MODELS_MAX).map(served).collect();
    }
    let id = json(heard, "/info").and_then(|info| Some(info.get("model_id")?.as_str()?.to_owned()));
    id.into_iter().map(|id| Served { id, context: None }).collect()
}

fn context(heard: &[Heard], models: &[Served]) -> Option<u64> {
    let props =
        || json(heard, "/props")?.get("default_generation_settings")?.get("n_ctx")?.as_u64();
    let info = || json(heard, "/info")?.get("max_total_tokens")?.as_u64();
    let contexts = models.iter().filter_map(|model| model.context);
    // Of several models the least is what all have.
    props().or_else(info).or_else(|| contexts.min()).filter(|tokens| *tokens > 0)
}

/// What the table says of its version, and what it says itself of the model it has.
fn capabilities(
    dialect: Dialect,
    version: Option<&Version>,
    heard: &[Heard],
) -> Vec<(Capability, Answer)> {
    let props = json(heard, "/props").filter(|_| dialect == Dialect::LlamaCpp);
    let said = |path: [&str; 2]| {
        let value = props.as_ref()?.get(path[0])?.get(path[1])?.as_bool()?;
        Some(if value { Answer::Yes } else { Answer::No })
    };
    let answer = |capability: Capability| {
        let told = match capability {
            Capability::Vision => said(["modalities", "vision"]),
            Capability::Tools => said(["chat_template_caps", "supports_tools"]),
            _ => None,
        };
        (capability, told.unwrap_or_else(|| dialect.can(capability, version)))
    };
    Capability::ALL.into_iter().map(answer).collect()
}
