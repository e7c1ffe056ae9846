//! What makes a version of a Model: the part of its spec that says what runs. The rest (how many, at
//! what price, how it is watched) changes without a new version.

use serde_json::{Map, Value};
use thiserror::Error;

use crate::api::ModelSpec;

/// Fields of a Model that say what runs.
pub const RUNS: [&str; 18] = [
    "source",
    "sizeBytes",
    "digest",
    "signedBy",
    "runtime",
    "runtimeArgs",
    "runtimePath",
    "runtimeEnv",
    "parallelism",
    "context",
    "parallel",
    "threads",
    "batchTokens",
    "queueMax",
    "fleet",
    "storage",
    "podTemplate",
    "image",
];

/// What was kept of a version cannot be read.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error(
    "`status.update.servingSpec` is not what this release keeps there ({0}); remove it, and the new \
     version takes over without a trial"
)]
pub struct RevisionError(String);

/// The name of a version: ten digits of a hash of what runs. Fields at their defaults do not count, so
/// that a release with more fields calls the same version the same.
pub fn revision(spec: &ModelSpec) -> String {
    let hash = what_runs(spec)
        .bytes()
        .fold(FNV_BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME));
    format!("{:010x}", hash >> 24)
}

/// FNV-1a with 64 bits, as its authors give it (RFC 9923).
const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// What runs, as JSON: those of [`RUNS`] that are not at their defaults.
pub fn what_runs(spec: &ModelSpec) -> String {
    let usual = fields(&ModelSpec::nowhere());
    let mut all = fields(spec);
    all.retain(|name, value| RUNS.contains(&name.as_str()) && usual.get(name) != Some(value));
    sorted(Value::Object(all)).to_string()
}

/// The same with its fields in the order of their names, which does not change with releases.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> =
                fields.into_iter().map(|(name, value)| (name, sorted(value))).collect();
            fields.sort_by(|(one, _), (other, _)| one.cmp(other));
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(all) => Value::Array(all.into_iter().map(sorted).collect()),
        other => other,
    }
}

/// The Model as it is now, but for what runs, which is what was kept.
///
/// # Errors
/// [`RevisionError`] when another release kept it, and this one cannot read it.
pub fn running(spec: &ModelSpec, kept: &str) -> Result<ModelSpec, RevisionError> {
    let mut all = fields(spec);
    all.retain(|name, _| !RUNS.contains(&name.as_str()));
    let error = |error: serde_json::Error| RevisionError(error.to_string());
    let kept: Map<String, Value> = serde_json::from_str(kept).map_err(error)?;
    all.extend(kept.into_iter().filter(|(name, _)| RUNS.contains(&name.as_str())));
    serde_json::from_value(Value::Object(all)).map_err(error)
}

fn fields(spec: &ModelSpec) -> Map<String, Value> {
    match serde_json::to_value(spec) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) | Err(_) => Map::new(),
    }
}
