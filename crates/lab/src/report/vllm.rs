//! The result file of vLLM's `bench serve`, for tools that read those.
//!
//! As in vLLM, times count from when a request was sent; waiting for it is `client_queue_time` and
//! `e2el_including_client_queue`. Where there is no steady state, statistics are null.

use serde_json::{Map, Value, json};

use crate::load::Run;
use crate::record::{Outcome, Sample};
use crate::stats::latency::quantile;

use super::Report;

/// The file's content.
pub fn vllm(report: &Report, run: &Run, date: &str) -> Value {
    let measured = || run.book.samples.iter().filter(|sample| !sample.warm);
    let good = || measured().filter(|sample| sample.is_good());
    let setting = &report.setting;
    let sum =
        |tokens: fn(&Sample) -> u32| good().map(|sample| u64::from(tokens(sample))).sum::<u64>();
    let (input, output) = (sum(|sample| sample.input_tokens), sum(|sample| sample.output_tokens));
    let mut all = json!({
        "date": date,
        "endpoint_type": setting.endpoint,
        "backend": setting.endpoint,
        "label": null,
        "model_id": setting.model,
        "tokenizer_id": setting.model,
        "num_prompts": report.counts.total,
        "request_rate": setting.rate.map_or_else(|| json!("inf"), Value::from),
        "burstiness": burstiness(setting.arrivals.as_deref()),
        "max_concurrency": setting.concurrency,
        "duration": report.throughput.seconds,
        "completed": report.counts.ok,
        "failed": report.counts.total - report.counts.ok,
        "total_input_tokens": input,
        "total_output_tokens": output,
        "request_throughput": report.throughput.requests,
        "request_goodput": report.goodput.map(|goodput| goodput.requests),
        "output_throughput": report.throughput.output_tokens,
        "total_token_throughput": report.throughput.output_tokens + report.throughput.input_tokens,
        "max_concurrent_requests": report.timeline.in_flight.iter().max(),
        "max_output_tokens_per_s":
            report.timeline.tokens_per_second.iter().copied().fold(0.0, f64::max),
        "rtfx": 0.0,
        "pilotage_valid": report.valid,
        "pilotage_steady": report.stability.steady,
    });
    let steady = report.latency.is_some();
    if let Value::Object(all) = &mut all {
        statistics(all, "ttft", steady, good().filter_map(Sample::ttft_sent).collect());
        statistics(all, "tpot", steady, good().filter_map(Sample::tpot).collect());
        let gaps = good().flat_map(|sample| sample.gaps.iter().map(|gap| f64::from(*gap)));
        statistics(all, "itl", steady, gaps.collect());
        statistics(all, "e2el", steady, good().map(Sample::e2e_sent).collect());
        let queued = |sample: &Sample| sample.schedule_delay() + sample.client_queue();
        statistics(all, "client_queue_time", steady, good().map(queued).collect());
        statistics(all, "e2el_including_client_queue", steady, good().map(Sample::e2e).collect());
        details(all, &measured().collect::<Vec<_>>());
    }
    all
}

/// vLLM names a gamma process by its shape, one over the square of the variation.
fn burstiness(arrivals: Option<&str>) -> Value {
    match arrivals.and_then(|kind| kind.split_once(':')) {
        Some(("gamma", cv)) => cv.parse().map_or(Value::Null, |cv: f64| (1.0 / (cv * cv)).into()),
        _ if arrivals == Some("constant") => json!("inf"),
        _ => json!(1.0),
    }
}

fn statistics(into: &mut Map<String, Value>, name: &str, steady: bool, mut values: Vec<f64>) {
    values.sort_unstable_by(f64::total_cmp);
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    let mut put = |statistic: &str, value: f64| {
        let value = if steady { json!(value * 1e3) } else { Value::Null };
        into.insert(format!("{statistic}_{name}_ms"), value);
    };
    put("mean", mean);
    put("median", quantile(&values, 0.5));
    put("std", variance.sqrt());
    for percent in [50, 90, 95, 99] {
        put(&format!("p{percent}"), quantile(&values, f64::from(percent) / 100.0));
    }
}

/// Lists with one entry for each request; a failed one has no times.
fn details(into: &mut Map<String, Value>, measured: &[&Sample]) {
    let list = |value: &dyn Fn(&Sample) -> Value| -> Value {
        measured.iter().map(|sample| value(sample)).collect::<Vec<_>>().into()
    };
    let ok = |sample: &Sample| sample.outcome == Outcome::Ok;
    let tokens = |sample: &Sample| if ok(sample) { sample.output_tokens } else { 0 };
    let ttft = |sample: &Sample| sample.ttft_sent().filter(|_| ok(sample)).unwrap_or_default();
    let error = |sample: &Sample| match ok(sample) {
        true => json!(""),
        false => {
            json!(format!("{} {}", json!(sample.outcome).as_str().unwrap_or(""), sample.status))
        }
    };
    into.insert("input_lens".to_owned(), list(&|sample| sample.input_tokens.into()));
    into.insert("output_lens".to_owned(), list(&|sample| tokens(sample).into()));
    into.insert("ttfts".to_owned(), list(&|sample| ttft(sample).into()));
    into.insert("itls".to_owned(), list(&|sample| sample.gaps.to_vec().into()));
    into.insert("latencies".to_owned(), list(&|sample| sample.e2e_sent().into()));
    into.insert("start_times".to_owned(), list(&|sample| (sample.sent as f64 / 1e9).into()));
    let queued = |sample: &Sample| sample.schedule_delay() + sample.client_queue();
    into.insert("queue_times".to_owned(), list(&|sample| queued(sample).into()));
    into.insert("generated_texts".to_owned(), list(&|_| "".into()));
    into.insert("errors".to_owned(), list(&error));
}
