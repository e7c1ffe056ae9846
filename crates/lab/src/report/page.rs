//! The result as one HTML page that needs nothing else: what must be known to read the numbers, the
//! numbers, and drawings of them.

use pilotage_lens::page::escape;

use crate::stats::latency::Latency;
use crate::verdict::{Severity, Steady};

use super::plot::{Line, Plot, short, table};
use super::{Report, Sweep};

const STYLE: &str = include_str!("style.css");

/// A run.
pub fn run(report: &Report) -> String {
    let title = format!("{} at {}", load(report), report.setting.url);
    let body = [
        header(&title, report),
        "<main>".to_owned(),
        findings(report),
        latencies(report),
        tenants(report),
        format!("<div class=\"plots\">{}</div>", [curves(report), timeline(report)].concat()),
        "</main>".to_owned(),
    ];
    page(&title, &body.join("\n"))
}

/// Several loads.
pub fn sweep(sweep: &Sweep) -> String {
    let url = sweep.points.first().map_or("", |point| point.setting.url.as_str());
    let title = format!("Latency against load at {url}");
    let found = match (sweep.best, sweep.limit) {
        (Some(best), Some(limit)) => {
            format!("{} holds, {} does not", short(best), short(limit))
        }
        (Some(best), None) => format!("{} holds, and nothing higher was tried", short(best)),
        (None, _) => "nothing that was tried holds".to_owned(),
    };
    let body = format!(
        "<header><h1>{}</h1><p class=\"good\">{}</p><p>Again: <code>{}</code></p></header>\
         <main>{}<div class=\"plots\">{}</div></main>",
        escape(&title),
        escape(&found),
        escape(&sweep.command),
        points(sweep),
        sweep_plots(sweep),
    );
    page(&title, &body)
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{} · measured by Pilotage</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n{body}\n</body>\n</html>\n",
        escape(title),
    )
}

fn load(report: &Report) -> String {
    match (report.setting.load.as_str(), report.setting.rate, report.setting.concurrency) {
        ("closed", _, Some(concurrency)) => format!("{concurrency} requests at once"),
        ("ramp", ..) => "A changing rate".to_owned(),
        (_, Some(rate), _) => format!("{} requests/s", short(rate)),
        _ => "A recorded load".to_owned(),
    }
}

fn header(title: &str, report: &Report) -> String {
    let (counts, rates, environment) = (&report.counts, &report.throughput, &report.environment);
    let good = report.goodput.map(|goodput| {
        (
            "Good",
            format!("{} requests/s, {} %", short(goodput.requests), short(goodput.fraction * 1e2)),
        )
    });
    let facts = [
        ("Model", report.setting.model.clone()),
        ("Due", format!("{} requests/s", short(rates.due))),
        ("Answered", format!("{} requests/s", short(rates.requests))),
        ("Tokens out", format!("{} /s", short(rates.output_tokens))),
        ("Requests", counts.total.to_string()),
        ("Rejected", counts.rejected.to_string()),
        ("Failed", counts.failed.to_string()),
        ("Not ended", counts.unfinished.to_string()),
        ("Reconnects", counts.reconnects.to_string()),
        ("Counted", format!("{} s", short(rates.seconds))),
        ("Seed", report.setting.seed.to_string()),
        (
            "Client",
            format!(
                "{} s of processor time, {} cores",
                short(environment.client_cpu_seconds),
                environment.cores
            ),
        ),
    ];
    let fact = |(name, value): (&str, String)| {
        format!("<div><dt>{name}</dt><dd>{}</dd></div>", escape(&value))
    };
    let facts: String = facts.into_iter().chain(good).map(fact).collect();
    format!(
        "<header><h1>{}</h1><dl>{facts}</dl><p>Again: <code>{}</code></p></header>",
        escape(title),
        escape(&report.setting.command),
    )
}

/// What must be known to read the numbers, in words that do without colour.
fn findings(report: &Report) -> String {
    let item = |class: &str, text: &str| {
        format!("<li><span class=\"{class}\">{class}:</span> {}</li>", escape(text))
    };
    let mut items = String::new();
    for finding in &report.findings {
        let class = match finding.severity {
            Severity::Invalid => "invalid",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        items.push_str(&item(class, &format!("{}; {}", finding.what, finding.fix)));
    }
    for reason in &report.stability.reasons {
        let class = if report.stability.steady == Steady::No { "invalid" } else { "warning" };
        items.push_str(&item(class, reason));
    }
    if items.is_empty() {
        items = item("good", "a steady state was measured, and the client kept up");
    }
    format!("<h2>Can these numbers be trusted?</h2><ul class=\"findings\">{items}</ul>")
}

fn latencies(report: &Report) -> String {
    let Some(latency) = &report.latency else {
        let why = report.refused().unwrap_or_default();
        return format!("<h2>Latency</h2><p>{}</p>", escape(&why));
    };
    let rows = [
        ("Time to first token", &latency.ttft_ms),
        ("Time per output token", &latency.tpot_ms),
        ("Between two tokens", &latency.itl_ms),
        ("Until the end", &latency.e2e_ms),
        ("First token, from sending", &latency.ttft_from_send_ms),
        ("End, from sending", &latency.e2e_from_send_ms),
        ("Waiting in the client", &latency.client_queue_ms),
        ("Client late", &latency.schedule_delay_ms),
    ];
    let head = ["ms", "count", "mean", "p50", "p90", "p95", "p99", "p99.9", "max"];
    let row = |(name, latency): (&str, &Latency)| {
        let Latency { mean, p50, p90, p95, p99, p999, max, .. } = latency;
        let numbers = [mean, p50, p90, p95, p99, p999, max].map(|value| number(*value));
        [vec![name.to_owned(), latency.count.to_string()], numbers.to_vec()].concat()
    };
    let rows: Vec<Vec<String>> = rows.into_iter().filter(|row| row.1.count > 0).map(row).collect();
    let caption = "Latency, counted from when requests were due (–: too few to tell)";
    table(caption, &head.map(str::to_owned), &rows)
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), short)
}

fn tenants(report: &Report) -> String {
    if report.tenants.len() < 2 {
        return String::new();
    }
    let head = [
        "tenant",
        "requests",
        "answered",
        "rejected",
        "failed",
        "requests/s",
        "tokens/s",
        "TTFT p50",
        "TTFT p99",
        "TPOT p50",
    ];
    let rows = report.tenants.iter().map(|tenant| {
        let of = |latency: &Option<Latency>, pick: fn(&Latency) -> Option<f64>| {
            number(latency.as_ref().and_then(pick))
        };
        vec![
            tenant.name.clone(),
            tenant.total.to_string(),
            tenant.ok.to_string(),
            tenant.rejected.to_string(),
            tenant.failed.to_string(),
            short(tenant.requests),
            short(tenant.output_tokens),
            of(&tenant.ttft_ms, |latency| latency.p50),
            of(&tenant.ttft_ms, |latency| latency.p99),
            of(&tenant.tpot_ms, |latency| latency.p50),
        ]
    });
    table("Tenants, latencies in ms", &head.map(str::to_owned), &rows.collect::<Vec<_>>())
}

/// Distributions of a growing queue depend on how long it grew: they are not drawn.
fn curves(report: &Report) -> String {
    if report.latency.is_none() {
        return String::new();
    }
    let curves = &report.curves;
    let all = [
        ("ttft", "Time to first token", &curves.ttft),
        ("tpot", "Time per output token", &curves.tpot),
        ("itl", "Time between two tokens", &curves.itl),
        ("e2e", "Time until the end", &curves.e2e),
    ];
    let figure = |(id, title, points): (&str, &str, &Vec<(f64, f64)>)| {
        let percent = points.iter().map(|(at, part)| (*at, part * 100.0)).collect();
        let line = Line { name: "requests that took no longer", points: percent };
        Plot { id, title, x: "ms", y: "% of requests", lines: vec![line] }.figure()
    };
    all.into_iter().map(figure).collect()
}

fn timeline(report: &Report) -> String {
    let time = &report.timeline;
    let places = |count: usize| (0..count).map(|at| (at as f64 + 0.5) * time.step);
    let rate = |counts: &[u64]| -> Vec<(f64, f64)> {
        let rates = counts.iter().map(|count| *count as f64 / time.step);
        places(counts.len()).zip(rates).collect()
    };
    let known = |values: &[Option<f64>]| -> Vec<(f64, f64)> {
        let known = places(values.len()).zip(values);
        known.filter_map(|(at, value)| Some((at, (*value)?))).collect()
    };
    let flight = time.in_flight.iter().map(|count| *count as f64);
    let flight = places(time.in_flight.len()).zip(flight).collect();
    let tokens = places(time.tokens_per_second.len()).zip(time.tokens_per_second.iter().copied());
    let plot = |id, title, y, lines| Plot { id, title, x: "seconds", y, lines }.figure();
    let line = |name, points| Line { name, points };
    [
        plot(
            "rates",
            "Requests over time",
            "requests/s",
            vec![
                line("due", rate(&time.due)),
                line("answered", rate(&time.done)),
                line("rejected or failed", rate(&time.lost)),
            ],
        ),
        plot("flight", "Requests under way", "requests", vec![line("under way", flight)]),
        plot(
            "first",
            "Time to first token, by when requests were due",
            "ms",
            vec![line("median", known(&time.ttft_p50)), line("slowest", known(&time.ttft_max))],
        ),
        plot("tokens", "Tokens of answers", "tokens/s", vec![line("tokens", tokens.collect())]),
    ]
    .concat()
}

fn points(sweep: &Sweep) -> String {
    let head = [
        "load",
        "answered/s",
        "tokens/s",
        "good %",
        "TTFT p50",
        "TTFT p99",
        "TPOT p50",
        "rejected",
        "failed",
        "verdict",
    ];
    let rows = sweep.points.iter().map(|point| {
        let latency = point.latency.as_ref();
        let verdict = match (point.holds(sweep.good), point.stability.steady) {
            (_, Steady::No) => "queue grows",
            (true, _) => "holds",
            (false, _) => "does not hold",
        };
        vec![
            short(point.asked()),
            short(point.throughput.requests),
            short(point.throughput.output_tokens),
            number(point.goodput.map(|goodput| goodput.fraction * 100.0)),
            number(latency.and_then(|latency| latency.ttft_ms.p50)),
            number(latency.and_then(|latency| latency.ttft_ms.p99)),
            number(latency.and_then(|latency| latency.tpot_ms.p50)),
            point.counts.rejected.to_string(),
            point.counts.failed.to_string(),
            verdict.to_owned(),
        ]
    });
    table("Loads, latencies in ms", &head.map(str::to_owned), &rows.collect::<Vec<_>>())
}

fn sweep_plots(sweep: &Sweep) -> String {
    type Pick = fn(&Report) -> Option<f64>;
    let points = |pick: Pick| -> Vec<(f64, f64)> {
        let known = sweep.points.iter().filter_map(|point| Some((point.asked(), pick(point)?)));
        known.collect()
    };
    let line = |name, pick: Pick| Line { name, points: points(pick) };
    let closed = sweep.points.iter().all(|point| point.setting.load == "closed");
    let x = if closed { "requests at once" } else { "requests/s asked for" };
    let plot = |id, title, y, lines| Plot { id, title, x, y, lines }.figure();
    [
        plot(
            "ttft",
            "Time to first token against load",
            "ms",
            vec![
                line("p50", |point| point.latency.as_ref()?.ttft_ms.p50),
                line("p90", |point| point.latency.as_ref()?.ttft_ms.p90),
                line("p99", |point| point.latency.as_ref()?.ttft_ms.p99),
            ],
        ),
        plot(
            "tpot",
            "Time per output token against load",
            "ms",
            vec![
                line("p50", |point| point.latency.as_ref()?.tpot_ms.p50),
                line("p99", |point| point.latency.as_ref()?.tpot_ms.p99),
            ],
        ),
        plot(
            "answered",
            "Answered against load",
            "requests/s",
            vec![
                line("answered", |point| Some(point.throughput.requests)),
                line("good", |point| point.goodput.map(|goodput| goodput.requests)),
            ],
        ),
        plot(
            "tokens",
            "Tokens of answers against load",
            "tokens/s",
            vec![line("tokens", |point| Some(point.throughput.output_tokens))],
        ),
    ]
    .concat()
}

#[cfg(test)]
mod tests;
