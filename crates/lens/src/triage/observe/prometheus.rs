//! What to ask a Prometheus server, and what its answers say.
//!
//! It is asked for raw points of a window (`NAME[10m]` as an instant query), so that means and growth are
//! made of what was scraped, resets and ages included, by the same code as from pages.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::super::evidence::{AlertRule, Alerts, Role};
use super::deployment::{self, Deployment};
use super::series::{Point, Seen, Series};
use super::{Observed, REPLICAS_MAX, Watched, promql, replica_label};

/// Longest answer that is read.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Most series and most points of each that are kept of an answer.
const SERIES_MAX: usize = 50_000;
const POINTS_MAX: usize = 5000;

/// Most alert rules that are looked at.
const RULES_MAX: usize = 2000;

/// Series of servers that run models.
const ENGINES: &str =
    "(vllm|sglang|trtllm|tgi|llamacpp)[:_].+|process_(cpu_seconds_total|start_time_seconds)";

/// Series of the gateway.
const GATEWAY: &str = "pilotage_.+";

/// Series of accelerators and containers.
const MACHINES: &str =
    "DCGM_FI_.+|container_(cpu_cfs_.*periods_total|pressure_.+_waiting_seconds_total)";

/// Series of deployments and pods.
const CLUSTER: &str = "kube_(deployment_spec_replicas|deployment_status_replicas_ready|statefulset_replicas|statefulset_status_replicas_ready|pod_status_unschedulable|pod_container_status_(restarts_total|waiting_reason))";

/// A window to ask for.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Its end, in seconds since 1970.
    pub until_s: f64,
    /// Its length in seconds.
    pub window_s: f64,
    /// What series must have besides, in Prometheus' language: `namespace="llm"`.
    pub selector: String,
}

/// What an answer is about.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum About {
    /// Servers that run models.
    Engines,
    /// The gateway.
    Gateway,
    /// Accelerators and containers.
    Machines,
    /// Deployments and pods.
    Cluster,
}

impl About {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Engines, Self::Gateway, Self::Machines, Self::Cluster];

    /// The query.
    pub fn query(self, ask: &Ask) -> String {
        let names = match self {
            Self::Engines => ENGINES,
            Self::Gateway => GATEWAY,
            Self::Machines => MACHINES,
            Self::Cluster => CLUSTER,
        };
        let more =
            if ask.selector.is_empty() { String::new() } else { format!(",{}", ask.selector) };
        let seconds = ask.window_s.ceil().max(1.0);
        format!("{{__name__=~\"{names}\",__name__!~\".+_(bucket|created)\"{more}}}[{seconds:.0}s]")
    }
}

/// What is wrong with an answer.
#[derive(Debug)]
pub enum AnswerError {
    /// No JSON of Prometheus' API.
    Json(serde_json::Error),
    /// It says that something is wrong.
    Said(String),
}

impl std::fmt::Display for AnswerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Json(_) => f.write_str("the answer is not one of Prometheus' API"),
            Self::Said(said) => write!(f, "the server says: {said}"),
        }
    }
}

impl std::error::Error for AnswerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Json(error) => Some(error),
            Self::Said(_) => None,
        }
    }
}

#[derive(Deserialize)]
struct Answer<T> {
    #[serde(default)]
    status: String,
    #[serde(default)]
    error: Option<String>,
    data: Option<T>,
}

#[derive(Deserialize)]
struct Matrix {
    #[serde(default)]
    result: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    metric: BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<(f64, String)>,
}

#[derive(Deserialize)]
struct Groups {
    #[serde(default)]
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    #[serde(default)]
    name: String,
    #[serde(default)]
    query: String,
    #[serde(default, rename = "type")]
    kind: String,
}

fn data<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, AnswerError> {
    let answer: Answer<T> = serde_json::from_str(text).map_err(AnswerError::Json)?;
    match answer.data {
        Some(data) if answer.status == "success" => Ok(data),
        _ => Err(AnswerError::Said(answer.error.unwrap_or(answer.status))),
    }
}

/// The series of an answer to a query.
///
/// # Errors
/// [`AnswerError`].
pub fn series(text: &str) -> Result<Vec<Series>, AnswerError> {
    let rows = data::<Matrix>(text)?.result;
    let one = |row: Row| {
        let mut labels = row.metric;
        let name = labels.remove("__name__").unwrap_or_default();
        let points = row.values.into_iter().take(POINTS_MAX);
        let points = points.filter_map(|(at_s, value)| {
            let value = value.parse().ok()?;
            Some(Point { at_s, value })
        });
        Series { name, labels, points: points.collect() }
    };
    Ok(rows.into_iter().take(SERIES_MAX).map(one).collect())
}

/// Alert rules of `/api/v1/rules`, against the names of `/api/v1/label/__name__/values`.
///
/// # Errors
/// [`AnswerError`].
pub fn alerts(rules: &str, names: &str) -> Result<Alerts, AnswerError> {
    let exposed: BTreeSet<String> = data(names)?;
    let groups: Groups = data(rules)?;
    let rules = groups.groups.into_iter().flat_map(|group| group.rules);
    let alerts = rules.filter(|rule| rule.kind == "alerting").take(RULES_MAX);
    let rules = alerts
        .map(|rule| AlertRule { name: rule.name, refers_to: promql::series(&rule.query) })
        .collect();
    Ok(Alerts { rules, exposed })
}

/// What answers come to, of one deployment. A replica is what an engine's labels name: a pod, or else an instance.
/// Of the gateway and of a cluster only what is about it counts.
pub fn observed(ask: &Ask, answers: &BTreeMap<About, Vec<Series>>, of: &Deployment) -> Observed {
    let all = |about: About| answers.get(&about).map_or(&[][..], Vec::as_slice);
    let mut engines = deployment::engines(all(About::Engines), of);
    for one in all(About::Machines) {
        let name = replica_label(&one.labels);
        let is_its = |(place, own): &&(Option<String>, String)| {
            name == Some(own.as_str()) && deployment::is_in(one, place)
        };
        let key = engines.keys().find(is_its).cloned();
        if let Some(own) = key.and_then(|key| engines.get_mut(&key)) {
            own.push(one.clone());
        }
    }
    let names: BTreeSet<&str> = engines.keys().map(|(_, name)| name.as_str()).collect();
    let gateway = deployment::gateway(all(About::Gateway), of.model.as_deref(), &names);
    let cluster = deployment::cluster(all(About::Cluster), &engines.keys().collect());
    let replicas = engines.into_iter().take(REPLICAS_MAX).map(|((_, name), series)| Watched {
        role: role(&series),
        name,
        series,
        ..Watched::default()
    });
    Observed {
        from_s: ask.until_s - ask.window_s,
        until_s: ask.until_s,
        replicas: replicas.collect(),
        gateway,
        cluster,
        ..Observed::default()
    }
}

/// The part of the work by the label that llm-d and others give.
fn role(series: &[Series]) -> Role {
    let of = Seen(series);
    let label = of.0.iter().find_map(|one| {
        ["role", "llm_d_ai_role", "inference_serving"].iter().find_map(|name| one.labels.get(*name))
    });
    match label.map(String::as_str) {
        Some("prefill") => Role::Prefill,
        Some("decode") => Role::Decode,
        _ => Role::Both,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{Verdict, triage};
    use super::*;

    fn ask() -> Ask {
        Ask { until_s: 1300.0, window_s: 300.0, selector: "namespace=\"llm\"".to_owned() }
    }

    #[test]
    fn queries_ask_for_raw_points() {
        let query = About::Machines.query(&ask());
        assert!(query.starts_with("{__name__=~\"DCGM_FI_"), "{query}");
        assert!(query.ends_with(",namespace=\"llm\"}[300s]"), "{query}");
    }

    fn row(name: &str, labels: &str, values: &[(f64, f64)]) -> String {
        let values: Vec<String> =
            values.iter().map(|(at, value)| format!("[{at},\"{value}\"]")).collect();
        format!(r#"{{"metric":{{"__name__":"{name}",{labels}}},"values":[{}]}}"#, values.join(","))
    }

    fn matrix(rows: &[String]) -> String {
        format!(
            r#"{{"status":"success","data":{{"resultType":"matrix","result":[{}]}}}}"#,
            rows.join(",")
        )
    }

    /// Five minutes of a gauge.
    fn flat(value: f64) -> Vec<(f64, f64)> {
        (0..20).map(|at| (1000.0 + 15.0 * f64::from(at), value)).collect()
    }

    #[test]
    fn a_hung_engine_is_found_in_answers() {
        let mut rows = Vec::new();
        for (pod, speed) in [("m-0", 100.0), ("m-1", 0.0), ("m-2", 100.0)] {
            let labels = format!(r#""pod":"{pod}","model_name":"m""#);
            rows.push(row("vllm:num_requests_running", &labels, &flat(4.0)));
            let steps: Vec<(f64, f64)> =
                flat(0.0).iter().map(|(at, _)| (*at, 5000.0 + (at - 1000.0) * speed)).collect();
            rows.push(row("vllm:iteration_tokens_total_count", &labels, &steps));
        }
        rows.push(row("process_cpu_seconds_total", r#""pod":"node-exporter""#, &flat(1.0)));
        let engines = series(&matrix(&rows)).unwrap();
        let found = deployment::deployments(&engines, &[]);
        assert_eq!(found, [Deployment { model: Some("m".to_owned()), namespace: None }]);
        let observed = observed(&ask(), &BTreeMap::from([(About::Engines, engines)]), &found[0]);
        assert_eq!(observed.replicas.len(), 3);
        let report = triage(&observed.evidence());
        assert!(matches!(report.verdict, Verdict::Found { id: "S09", .. }), "{:?}", report.verdict);
        assert_eq!(report.findings[0].about, ["m-1"]);
        let observed = super::observed(&ask(), &BTreeMap::new(), &Deployment::default());
        assert!(matches!(triage(&observed.evidence()).verdict, Verdict::NotEnough { .. }));
    }

    #[test]
    fn another_models_trouble_is_not_its_own() {
        let (mut engines, mut gateway) = (Vec::new(), Vec::new());
        for (model, waiting) in [("calm", 0.0), ("full", 30.0)] {
            let labels = format!(r#""pod":"{model}-0","namespace":"llm","model_name":"{model}""#);
            engines.push(row("vllm:num_requests_running", &labels, &flat(4.0)));
            let labels = format!(r#""lane":"{model}""#);
            gateway.push(row("pilotage_queue_requests", &labels, &flat(waiting)));
        }
        let cluster = ["calm", "full", "web"].map(|name| {
            let labels = format!(r#""namespace":"llm","deployment":"{name}""#);
            row("kube_deployment_spec_replicas", &labels, &flat(1.0))
        });
        let read = |rows: &[String]| series(&matrix(rows)).unwrap();
        let answers = BTreeMap::from([
            (About::Engines, read(&engines)),
            (About::Gateway, read(&gateway)),
            (About::Cluster, read(&cluster)),
        ]);
        for of in deployment::deployments(&answers[&About::Engines], &[]) {
            let evidence = observed(&ask(), &answers, &of).evidence();
            let waiting = if of.model.as_deref() == Some("full") { 30.0 } else { 0.0 };
            assert_eq!(evidence.gateway.traffic.queued, Some(waiting), "{of}");
            assert_eq!(evidence.cluster.desired, Some(1.0), "{of}");
            assert_eq!(evidence.replicas.len(), 1, "{of}");
        }
    }

    #[test]
    fn rules_are_held_against_names() {
        let rules = r#"{"status":"success","data":{"groups":[{"name":"g","rules":[
            {"type":"alerting","name":"Preempts","query":"rate(vllm:num_preemptions[5m]) > 1"},
            {"type":"recording","name":"r","query":"gone"}]}]}}"#;
        let names = r#"{"status":"success","data":["vllm:num_preemptions_total"]}"#;
        let alerts = alerts(rules, names).unwrap();
        assert_eq!(alerts.rules.len(), 1);
        let evidence = super::super::super::Evidence { alerts: Some(alerts), ..Default::default() };
        let report = triage(&evidence);
        assert!(matches!(report.verdict, Verdict::Found { id: "S34", .. }), "{:?}", report.verdict);
    }

    #[test]
    fn errors_say_what_the_server_says() {
        let said = |text: &str| series(text).unwrap_err().to_string();
        assert!(said(r#"{"status":"error","error":"bad query"}"#).contains("bad query"));
        assert!(said("<html>").contains("not one of Prometheus"));
    }
}
