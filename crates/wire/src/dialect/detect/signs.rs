//! Signs that tell one server from others, each with how much it says.

use serde_json::Value;

use super::{Dialect, Heard, list};

/// Something that speaks for a server, or for several that have it in common.
#[derive(Clone, Debug)]
pub(super) struct Sign {
    of: &'static [Dialect],
    /// How much it says: three where no other server has it.
    pub(super) points: u32,
    told: String,
}

impl Sign {
    fn new(points: u32, of: &'static [Dialect], told: impl Into<String>) -> Self {
        Self { of, points, told: told.into() }
    }

    pub(super) fn speaks_for(&self, dialect: Dialect) -> bool {
        self.of.contains(&dialect)
    }

    pub(super) fn told(&self) -> String {
        self.told.clone()
    }
}

/// Names of metrics begin so.
const PREFIXES: [(&str, &[Dialect]); 7] = [
    ("vllm:", &[Dialect::Vllm]),
    ("sglang:", &[Dialect::Sglang]),
    ("tgi_", &[Dialect::Tgi]),
    ("trtllm_", &[Dialect::Trtllm]),
    ("llamacpp:", &[Dialect::LlamaCpp]),
    ("nv_inference_", &[Dialect::Triton]),
    ("pilotage_engine_", &[Dialect::Pilotage]),
];

/// Who a list of models says that they belong to: a constant of the server's source.
const OWNERS: [(&str, &[Dialect]); 6] = [
    ("vllm", &[Dialect::Vllm]),
    ("sglang", &[Dialect::Sglang]),
    ("llamacpp", &[Dialect::LlamaCpp]),
    ("deepspeed-mii", &[Dialect::DeepSpeed]),
    ("pilotage", &[Dialect::Pilotage]),
    ("tensorrt_llm", &[Dialect::Trtllm]),
];

/// All that the answers hold.
pub(super) fn all(heard: &[Heard]) -> Vec<Sign> {
    let mut signs = Vec::new();
    for one in heard {
        match &*one.path {
            "/v1/models" => models(one, &mut signs),
            "/metrics" | "/prometheus/metrics" => metrics(one, &mut signs),
            _ => own_paths(one, &mut signs),
        }
        missing(one, &mut signs);
    }
    // Our own engine counts under vLLM's names, with names of its own beside them.
    if signs.iter().any(|sign| sign.speaks_for(Dialect::Pilotage) && sign.points >= 3) {
        signs.retain(|sign| sign.of != [Dialect::Vllm]);
    }
    // A server of Triton with its vLLM backend counts under vLLM's names, too.
    if signs.iter().any(|sign| sign.speaks_for(Dialect::Triton) && sign.points >= 3) {
        signs.retain(|sign| sign.of != [Dialect::Vllm]);
    }
    signs
}

fn models(one: &Heard, signs: &mut Vec<Sign>) {
    let Some(list) = list(one) else { return };
    let owner = list.data.first().and_then(|entry| entry.owned_by.as_deref());
    let found = OWNERS.iter().find(|(name, _)| Some(*name) == owner);
    if let Some((name, of)) = found {
        signs.push(Sign::new(2, of, format!("`/v1/models` says that they are owned by `{name}`")));
    }
    if list.data.iter().any(|entry| entry.max_model_len.is_some()) {
        const OF: &[Dialect] = &[Dialect::Vllm, Dialect::Sglang, Dialect::Pilotage];
        signs.push(Sign::new(1, OF, "`/v1/models` has `max_model_len`"));
    }
}

fn metrics(one: &Heard, signs: &mut Vec<Sign>) {
    if one.status != 200 {
        // What is switched off says so.
        let said = String::from_utf8_lossy(&one.body);
        if one.status == 501 && said.contains("--metrics") {
            signs.push(Sign::new(
                3,
                &[Dialect::LlamaCpp],
                "`/metrics` asks for the flag `--metrics`",
            ));
        }
        return;
    }
    let first = one.body.iter().find(|byte| !byte.is_ascii_whitespace());
    if one.path == "/metrics" && first == Some(&b'[') && one.kind.contains("json") {
        signs.push(Sign::new(3, &[Dialect::Trtllm], "`/metrics` is a list of steps in JSON"));
        return;
    }
    for (prefix, of) in PREFIXES {
        let is_named = |line: &[u8]| {
            // A label's value may be anything; a name begins its line.
            line.get(..prefix.len()).is_some_and(|begin| {
                begin
                    .iter()
                    .zip(prefix.as_bytes())
                    .all(|(theirs, ours)| theirs == ours || (*ours == b':' && *theirs == b'_'))
            })
        };
        if one.body.split(|byte| *byte == b'\n').any(is_named) {
            let told = format!("`{}` has names that begin with `{prefix}`", one.path);
            signs.push(Sign::new(3, of, told));
        }
    }
}

fn own_paths(one: &Heard, signs: &mut Vec<Sign>) {
    if one.status == 405 && one.path.starts_with("/mii/") {
        signs.push(Sign::new(
            3,
            &[Dialect::DeepSpeed],
            format!("`{}` takes another method", one.path),
        ));
    }
    if one.status != 200 {
        return;
    }
    let body: Option<Value> = serde_json::from_slice(&one.body).ok();
    let has = |fields: &[&str]| {
        body.as_ref().is_some_and(|body| fields.iter().all(|field| body.get(field).is_some()))
    };
    let mut sign = |points, of, told: &str| signs.push(Sign::new(points, of, told));
    match &*one.path {
        "/version" if has(&["version"]) => {
            const OF: &[Dialect] = &[Dialect::Vllm, Dialect::Trtllm, Dialect::Pilotage];
            sign(1, OF, "`/version` tells a version");
        }
        "/props" if has(&["default_generation_settings", "total_slots"]) => {
            sign(4, &[Dialect::LlamaCpp], "`/props` tells of places and how they generate");
        }
        "/info" if has(&["model_id", "max_concurrent_requests", "version"]) => {
            sign(4, &[Dialect::Tgi], "`/info` tells a model, limits and a version");
        }
        "/get_server_info" | "/server_info" if has(&["model_path", "version"]) => {
            sign(4, &[Dialect::Sglang], &format!("`{}` tells how it was started", one.path));
        }
        "/server_info" if has(&["vllm_config"]) => {
            sign(4, &[Dialect::Vllm], "`/server_info` tells a `vllm_config`");
        }
        "/api/version" if has(&["version"]) => {
            sign(2, &[Dialect::Ollama], "`/api/version` tells a version");
        }
        "/api/ps" if has(&["models"]) => {
            sign(2, &[Dialect::Ollama], "`/api/ps` lists models in memory");
        }
        "/v2" if body.as_ref().is_some_and(is_triton) => {
            sign(4, &[Dialect::Triton], "`/v2` lists extensions that Triton has");
        }
        "/v2/health/ready" => sign(1, &[Dialect::Triton], "`/v2/health/ready` is there"),
        path if path.starts_with("/v2/models/") && path.ends_with("/ready") => {
            sign(1, &[Dialect::Triton], &format!("`{path}` is there"));
        }
        "/healthz" if one.body.trim_ascii() == b"ok" && one.server.starts_with("Werkzeug") => {
            sign(3, &[Dialect::DeepSpeed], "`/healthz` says `ok`, from a server of Flask");
        }
        _ => {}
    }
}

/// Whether metadata of a server list extensions of Triton's own; others serve the same protocol.
fn is_triton(body: &Value) -> bool {
    let extensions = body.get("extensions").and_then(Value::as_array);
    extensions.is_some_and(|all| all.iter().any(|one| one == "model_repository"))
}

/// How it says that it has no such path.
fn missing(one: &Heard, signs: &mut Vec<Sign>) {
    let is_said = one.status == 404
        && one.body.len() < 256
        && one.body.starts_with(br#"{"error":"#)
        && memchr::memmem::find(&one.body, b"\"File Not Found\"").is_some();
    let is_new = !signs.iter().any(|sign| sign.told.starts_with("what is not there"));
    if is_said && is_new {
        let told = "what is not there is `File Not Found`, as llama.cpp says";
        signs.push(Sign::new(2, &[Dialect::LlamaCpp], told));
    }
}
