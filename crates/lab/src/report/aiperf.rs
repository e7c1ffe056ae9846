//! The summary that AIPerf writes as `profile_export_aiperf.json`, for tools that read those.
//!
//! As in AIPerf, times count from when a request was sent. Where there is no steady state, metrics
//! of latency are left out.

use serde_json::{Map, Value, json};

use crate::load::Run;
use crate::record::Sample;
use crate::stats::latency::quantile;

use super::Report;

/// The version of the form, as AIPerf counts.
const SCHEMA_VERSION: &str = "1.0";

/// The file's content. Dates are as ISO 8601 writes them.
pub fn aiperf(report: &Report, run: &Run, (start, end): (&str, &str)) -> Value {
    let good = || run.book.samples.iter().filter(|sample| sample.is_good());
    let mut all = Map::new();
    let mut put = |name: &str, value: Value| drop(all.insert(name.to_owned(), value));
    put("schema_version", SCHEMA_VERSION.into());
    put("benchmark_id", format!("pilotage-{}", report.environment.started_unix_ms).into());
    let single = |unit: &str, value: f64| json!({"unit": unit, "avg": value});
    let throughput = &report.throughput;
    put("request_throughput", single("requests/sec", throughput.requests));
    put("output_token_throughput", single("tokens/sec", throughput.output_tokens));
    put("request_count", single("requests", report.counts.ok as f64));
    put("error_request_count", single("requests", (report.counts.total - report.counts.ok) as f64));
    put("benchmark_duration", single("sec", throughput.seconds));
    if let Some(goodput) = report.goodput {
        put("goodput", single("requests/sec", goodput.requests));
        let count = (goodput.fraction * report.counts.total as f64).round();
        put("good_request_count", single("requests", count));
    }
    let tokens = |count: fn(&Sample) -> u32| good().map(move |sample| f64::from(count(sample)));
    let inputs: Vec<f64> = tokens(|sample| sample.input_tokens).collect();
    let outputs: Vec<f64> = tokens(|sample| sample.output_tokens).collect();
    put("total_isl", single("tokens", inputs.iter().sum()));
    put("total_osl", single("tokens", outputs.iter().sum()));
    put("total_output_tokens", single("tokens", outputs.iter().sum()));
    put("input_sequence_length", metric("tokens", inputs));
    put("output_sequence_length", metric("tokens", outputs));
    if report.latency.is_some() {
        let millis = |time: fn(&Sample) -> Option<f64>| {
            metric("ms", good().filter_map(time).map(|time| time * 1e3).collect())
        };
        put("time_to_first_token", millis(Sample::ttft_sent));
        put("inter_token_latency", millis(Sample::tpot));
        put("request_latency", millis(|sample| Some(sample.e2e_sent())));
        let gaps = good().flat_map(|sample| sample.gaps.iter().map(|gap| f64::from(*gap) * 1e3));
        put("inter_chunk_latency", metric("ms", gaps.collect()));
        let users = good().filter_map(Sample::tpot).filter(|time| *time > 0.0);
        let users = users.map(f64::recip).collect();
        put("output_token_throughput_per_user", metric("tokens/sec/user", users));
    }
    put("input_config", json!({ "cli_command": report.setting.command }));
    put("was_cancelled", run.interrupted.into());
    put("error_summary", errors(report));
    put("start_time", start.into());
    put("end_time", end.into());
    put("pilotage_valid", report.valid.into());
    Value::Object(all)
}

fn metric(unit: &str, mut values: Vec<f64>) -> Value {
    values.sort_unstable_by(f64::total_cmp);
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    let mut metric = Map::new();
    metric.insert("unit".to_owned(), unit.into());
    if values.is_empty() {
        return Value::Object(metric);
    }
    metric.insert("avg".to_owned(), mean.into());
    for percent in [1, 5, 10, 25, 50, 75, 90, 95, 99] {
        let value = quantile(&values, f64::from(percent) / 100.0);
        metric.insert(format!("p{percent}"), value.into());
    }
    metric.insert("min".to_owned(), values.first().copied().into());
    metric.insert("max".to_owned(), values.last().copied().into());
    metric.insert("std".to_owned(), variance.sqrt().into());
    Value::Object(metric)
}

fn errors(report: &Report) -> Value {
    let failed = report
        .counts
        .outcomes
        .iter()
        .filter(|(outcome, _)| **outcome != crate::record::Outcome::Ok);
    let one = |(outcome, count): (&crate::record::Outcome, &u64)| json!({"error_details": {"type": outcome, "message": outcome}, "count": count});
    failed.map(one).collect::<Vec<_>>().into()
}
