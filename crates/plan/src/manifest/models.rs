//! Finds what no schema can say about a `Model`: weights here or engines elsewhere, fields that
//! have no effect for the one or the other, and endpoints that contradict themselves.

use super::link::error;
use super::{ManifestError, Problem, clusters};
use crate::api::{Endpoint, Model, PublicName, Resource, Resume};
use crate::launch::{self, Severity};

/// Fields that only weights to run here have an effect on.
pub(crate) const FOR_SOURCE: [&str; 22] = [
    "adapterSources",
    "digest",
    "sizeBytes",
    "runtime",
    "runtimeArgs",
    "runtimePath",
    "runtimeEnv",
    "parallelism",
    "startSeconds",
    "warmUp",
    "replicas",
    "parallel",
    "threads",
    "batchTokens",
    "queueMax",
    "region",
    "fleet",
    "scaling",
    "updates",
    "storage",
    "podTemplate",
    "image",
];

/// Fields that only engines elsewhere have an effect on.
pub(crate) const FOR_ENDPOINTS: [&str; 4] = ["servedModel", "dialect", "adapters", "health"];

/// Adds everything about models that does not fit together.
pub(super) fn check(resources: &[Resource], errors: &mut Vec<ManifestError>) {
    for resource in resources {
        let Resource::Model(model) = resource else { continue };
        place(model, errors);
        runtime(model, errors);
        resume(model, errors);
        adapters(model, errors);
        health(model, errors);
        clusters::model(model, errors);
        for (index, endpoint) in model.spec.endpoints.iter().enumerate() {
            one_endpoint(model, index, endpoint, errors);
        }
    }
}

fn report(model: &Model, field: &str, text: impl Into<String>, errors: &mut Vec<ManifestError>) {
    let field = format!("spec.{field}");
    errors.push(error(&model.origin, &field, Problem::Value(text.into())));
}

fn place(model: &Model, errors: &mut Vec<ManifestError>) {
    if model.spec.is_pool() {
        return;
    }
    let is_here = model.spec.source.is_some();
    match (is_here, model.spec.endpoints.is_empty()) {
        (false, true) => {
            let hint =
                "`source:` (weights to run here) or `endpoints:` (engines that run elsewhere)";
            let problem = Problem::Missing { hint: hint.to_owned() };
            return errors.push(error(&model.origin, "spec.source", problem));
        }
        (true, false) if !model.spec.endpoints.iter().all(|endpoint| endpoint.gateway) => {
            let text = "the model runs here, by its `source`, or elsewhere; remove one of the two, or say `gateway: true` of gateways of other regions";
            return report(model, "endpoints", text, errors);
        }
        _ => {}
    }
    let (idle, other): (&[&str], _) =
        if is_here { (&FOR_ENDPOINTS, "endpoints") } else { (&FOR_SOURCE, "source") };
    let written = |name: &&&str| model.origin.fields.contains_key(&format!("spec.{name}"));
    for name in idle.iter().filter(written) {
        let text = format!("this has an effect only where there is `{other}`; remove it");
        report(model, name, text, errors);
    }
}

/// Fields that only runtimes of others have an effect of.
pub(crate) const FOR_OTHERS: [&str; 4] = ["runtimePath", "runtimeEnv", "parallelism", "warmUp"];

fn runtime(model: &Model, errors: &mut Vec<ManifestError>) {
    let (runtime, args) = (model.spec.runtime, &model.spec.runtime_args);
    if model.spec.source.is_none() {
        return;
    }
    if model.spec.is_embedded() {
        let written = |name: &&&str| model.origin.fields.contains_key(&format!("spec.{name}"));
        for name in FOR_OTHERS.iter().filter(written) {
            let text = "the embedded engine runs this model, and this has no effect on it; remove it, or name a `runtime`";
            report(model, name, text, errors);
        }
    }
    if model.spec.engine() == Some(launch::Engine::Ollama) {
        let text = "Ollama serves models of its own library; run it yourself and list it under `endpoints`, or write `llama.cpp`, which runs the same files";
        report(model, "runtime", text, errors);
    }
    for name in model.spec.runtime_env.keys() {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty()
            || !name.bytes().all(plain)
            || name.starts_with(|c: char| c.is_ascii_digit())
        {
            let text = "a variable's name has letters, digits and `_`, and begins with no digit";
            report(model, &format!("runtimeEnv.{name}"), text, errors);
        }
        if name.starts_with("PILOTAGE_") {
            let text = "variables of this name are Pilotage's own; remove it";
            report(model, &format!("runtimeEnv.{name}"), text, errors);
        }
    }
    let Some(engine) = runtime.engine() else {
        if !args.is_empty() {
            let text = "arguments are for one runtime, and here it is Pilotage that chooses; name the `runtime`";
            report(model, "runtimeArgs", text, errors);
        }
        return;
    };
    for finding in launch::check_extra(engine, None, args) {
        if finding.severity() == Severity::Error {
            let field = format!("runtimeArgs[{}]", finding.index);
            report(model, &field, finding.describe(engine, None), errors);
        }
    }
}

fn resume(model: &Model, errors: &mut Vec<ManifestError>) {
    if model.spec.resume == Some(Resume::Tokens) && !model.spec.tells_token_ids() {
        let text = "answers go on from tokens only where replicas tell their ids; add `tokenIds: \
                    true` if they do, or write `text`";
        report(model, "resume", text, errors);
    }
}

fn adapters(model: &Model, errors: &mut Vec<ManifestError>) {
    let sources = &model.spec.adapter_sources;
    let engine = model.spec.engine().filter(|_| !sources.is_empty());
    if let Some(engine) = engine
        && engine.dialect().wire().differences().adapters.is_none()
    {
        let text = format!(
            "{} loads no adapters while it runs; write `runtime: vllm` or `runtime: sglang`",
            engine.title()
        );
        report(model, "adapterSources", text, errors);
    }
    for name in sources.keys() {
        if let Err(error) = name.parse::<PublicName>() {
            report(model, &format!("adapterSources.{name}"), error.to_string(), errors);
        }
    }
    let adapters = &model.spec.adapters;
    for (index, adapter) in adapters.iter().enumerate() {
        if adapters[..index].contains(adapter) {
            let text = "this adapter is listed already; remove one of the two";
            report(model, &format!("adapters[{index}]"), text, errors);
        }
    }
}

fn health(model: &Model, errors: &mut Vec<ManifestError>) {
    let health = &model.spec.health;
    let in_path = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    if health.path.as_ref().is_some_and(|path| !path.starts_with('/') || !path.bytes().all(in_path))
    {
        let text = "a path begins with `/` and has no blanks and no `#`";
        report(model, "health.path", text, errors);
    }
    if health.timeout_seconds > health.interval_seconds {
        let text = "a look would not end before the next one; write at most `intervalSeconds`";
        report(model, "health.timeoutSeconds", text, errors);
    }
    let breaker = &model.spec.breaker;
    if breaker.open_seconds > breaker.open_seconds_max {
        let text = "the first time is longer than the longest; write at most `openSecondsMax`";
        report(model, "breaker.openSeconds", text, errors);
    }
    if let Some(served) = &model.spec.served_model
        && served.chars().any(char::is_control)
    {
        report(model, "servedModel", "a name has no control characters", errors);
    }
}

fn one_endpoint(model: &Model, index: usize, endpoint: &Endpoint, errors: &mut Vec<ManifestError>) {
    let mut report = |field: &str, text: &str| {
        report(model, &format!("endpoints[{index}].{field}"), text, errors);
    };
    let earlier = &model.spec.endpoints[..index];
    if earlier.iter().any(|other| other.url == endpoint.url) {
        report("url", "this endpoint is listed already; remove one of the two");
    }
    if endpoint.key_file.is_some() && endpoint.key_env.is_some() {
        report("keyEnv", "the key is in a file or in the environment; remove one of the two");
    }
    if endpoint.ca_file.is_some() && !endpoint.url.is_tls() {
        report("caFile", "only an https URL has certificates; remove this, or write `https://`");
    }
    if endpoint.zone.is_some() && endpoint.region.is_none() {
        report("zone", "a zone is inside of a region; add `region`");
    }
    if let Some(events) = &endpoint.kv_events
        && events.port.is_some() == events.url.is_some()
    {
        report("kvEvents", "events come from a `port` of the same host or from a `url`; write one");
    }
}
