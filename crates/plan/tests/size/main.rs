//! Sizes of real models: what their files say against what they are published with, what fits
//! against what runtimes logged, and what an expert would read.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by them")]

mod counts;
mod headers;
mod hostile;
mod plans;
mod reference;
mod shapes;
mod speed;

use pilotage_plan::size::{Config, ModelFacts};

/// The configuration of a model, of the folder beside this file.
fn config(model: &str) -> String {
    let path = format!("{}/tests/size/models/{model}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What a model is, from its configuration.
fn facts(model: &str) -> ModelFacts {
    let config = Config::parse(config(model).as_bytes()).unwrap();
    config.facts().unwrap_or_else(|error| panic!("{model}: {error}"))
}

/// The rows of a table: lines of fields with tabs between.
fn rows(table: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines = table.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| line.split('\t').collect())
}
