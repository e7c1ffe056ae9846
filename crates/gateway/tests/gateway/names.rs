//! What boards, alerts and triage look for in metrics is there, with the labels by which they look for it.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::config;
use pilotage_gateway::Gateway;
use pilotage_lens::boards;
use pilotage_shell::clock::Clock;
use pilotage_shell::metrics::{Described, Metrics};
use pilotage_shell::otlp;

/// A metric as somebody looks for it.
#[derive(Debug)]
struct Asked {
    name: String,
    labels: Vec<String>,
    by: String,
}

const fn is_name(char: char) -> bool {
    char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_'
}

/// Our metrics in an expression of Prometheus', with the labels of their selectors.
fn in_expression(expr: &str, by: &str) -> Vec<Asked> {
    let mut all = Vec::new();
    for (at, _) in expr.match_indices("pilotage_") {
        // What is recorded has a name of its own.
        if expr[..at].ends_with(|char| is_name(char) || char == ':') {
            continue;
        }
        let rest = &expr[at..];
        let end = rest.find(|char| !is_name(char)).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let selector = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let labels = selector.map_or("", |(labels, _)| labels).split("\",");
        let labels = labels
            .filter_map(|label| label.split_once('='))
            .map(|(label, _)| label.trim().trim_end_matches('!').to_owned());
        all.push(Asked { name: name.to_owned(), labels: labels.collect(), by: by.to_owned() });
    }
    all
}

/// Our metrics in the code of triage, with the label that stands behind.
fn in_code(code: &str, by: &str) -> Vec<Asked> {
    let code = code.split("#[cfg(test)]").next().unwrap_or_default();
    let mut all = Vec::new();
    for (at, _) in code.match_indices("\"pilotage_") {
        let rest = &code[at + 1..];
        let Some((name, rest)) = rest.split_once('"') else { continue };
        let behind = rest.trim_start_matches([']', ',', '\n', ' ']);
        let label = behind.strip_prefix("Some((\"").and_then(|rest| rest.split_once('"'));
        let labels = label.map(|(label, _)| label.to_owned()).into_iter().collect();
        all.push(Asked { name: name.to_owned(), labels, by: by.to_owned() });
    }
    all
}

fn asked() -> Vec<Asked> {
    let mut all = Vec::new();
    for alert in boards::alerts() {
        all.extend(in_expression(&alert.expr, alert.name));
    }
    for recording in boards::recordings() {
        all.extend(in_expression(&recording.expr, &recording.record));
    }
    for board in boards::boards() {
        for panel in &board.panels {
            for query in &panel.queries {
                all.extend(in_expression(&query.expr, panel.title));
            }
        }
    }
    let observe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lens/src/triage/observe");
    for file in std::fs::read_dir(observe).unwrap() {
        let path = file.unwrap().path();
        let code = std::fs::read_to_string(&path).unwrap();
        all.extend(in_code(&code, &path.file_name().unwrap().to_string_lossy()));
    }
    all
}

/// What somebody looks for, among what there is.
fn found<'a>(described: &'a [Described], name: &str) -> Option<&'a Described> {
    described.iter().find(|one| match one.kind {
        "counter" => name.strip_suffix("_total") == Some(&one.name),
        "histogram" => ["_bucket", "_sum", "_count", ""]
            .iter()
            .any(|suffix| name.strip_suffix(suffix) == Some(&one.name)),
        _ => name == one.name,
    })
}

#[tokio::test]
async fn what_is_looked_for_is_there() {
    let metrics = Metrics::new();
    drop(Gateway::new(config(), Clock::start(), metrics.clone()).unwrap());
    drop(otlp::Counts::register(&metrics));
    let described = metrics.described();
    let asked = asked();
    let names: BTreeSet<&str> = asked.iter().map(|one| one.name.as_str()).collect();
    for sure in ["pilotage_upstream_faults_total", "pilotage_slo_misses_total"] {
        assert!(names.contains(sure), "{sure} is looked for");
    }
    // What triage itself derives, those of GPUs where nothing here registers any, and what the program has around the
    // gateway: a real Prometheus looks for that.
    let around = ["pilotage_ledger_", "pilotage_certificate_"];
    let gpus = described.iter().any(|one| one.name.starts_with("pilotage_gpu_"));
    let elsewhere = |name: &str| {
        // A pattern is no name.
        !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            || name == "pilotage_replicas_wanted"
            || around.iter().any(|begin| name.starts_with(begin))
            || (!gpus && name.starts_with("pilotage_gpu"))
    };
    for Asked { name, labels, by } in asked.iter().filter(|one| !elsewhere(&one.name)) {
        let known = found(&described, name);
        let known = known.unwrap_or_else(|| panic!("{by} looks for {name}, which is not there"));
        // What is registered without labels has them from a library.
        let has = |label: &String| label == "le" || known.labels.contains(&label.as_str());
        let missing = labels.iter().find(|label| !known.labels.is_empty() && !has(label));
        assert!(
            missing.is_none(),
            "{by} looks for {name} by {missing:?}; it has {:?}",
            known.labels
        );
    }
}
