//! Results as tables for people. What must be known to read them comes first.

use pilotage_lab::report::{Report, Sweep, TenantResult};
use pilotage_lab::stats::latency::Latency;
use pilotage_lab::verdict::{Severity, Steady};

use crate::output;

/// One run.
pub(super) fn report(report: &Report) {
    verdicts(report);
    summary(report);
    match (&report.latency, report.refused()) {
        (Some(latency), _) => {
            let rows = [
                ("TTFT", &latency.ttft_ms),
                ("TPOT", &latency.tpot_ms),
                ("ITL", &latency.itl_ms),
                ("E2E", &latency.e2e_ms),
                ("TTFT from send", &latency.ttft_from_send_ms),
                ("E2E from send", &latency.e2e_from_send_ms),
                ("client queue", &latency.client_queue_ms),
                ("schedule delay", &latency.schedule_delay_ms),
            ];
            output::line("");
            let head = ["MS", "COUNT", "MEAN", "P50", "P90", "P95", "P99", "P99.9", "MAX"];
            let rows = rows.into_iter().filter(|(_, latency)| latency.count > 0);
            output::table(
                &head,
                &rows.map(|(name, latency)| row(name, latency)).collect::<Vec<_>>(),
            );
            output::line(
                "Times count from when a request was meant to be sent. - : too few to tell.",
            );
        }
        (None, Some(why)) => {
            output::line("");
            output::line(&why);
        }
        (None, None) => {}
    }
    tenants(report);
    output::line("");
    output::line(&format!("again: {}", report.setting.command));
}

fn verdicts(report: &Report) {
    for finding in &report.findings {
        let (mark, colour) = match finding.severity {
            Severity::Invalid => ("invalid:", "1;31"),
            Severity::Warning => ("warning:", "1;33"),
            Severity::Note => ("note:", "1;36"),
        };
        output::marked((mark, colour), &format!("{}; {}", finding.what, finding.fix));
    }
    let steady = match report.stability.steady {
        Steady::Yes | Steady::Ramp => return,
        Steady::Unclear => ("doubtful:", "1;33"),
        Steady::No => ("not steady:", "1;31"),
    };
    for reason in &report.stability.reasons {
        output::marked(steady, reason);
    }
}

fn summary(report: &Report) {
    let (counts, rates) = (&report.counts, &report.throughput);
    output::line(&format!(
        "{:.2} of {:.2} requests/s answered, {:.0} tokens/s out, {:.0} tokens/s in, over {:.1} s",
        rates.requests, rates.due, rates.output_tokens, rates.input_tokens, rates.seconds,
    ));
    output::line(&format!(
        "{} requests: {} answered, {} rejected, {} failed, {} not ended ({} before that to warm up)",
        counts.total, counts.ok, counts.rejected, counts.failed, counts.unfinished, counts.warm_up,
    ));
    if counts.reconnects > 0 {
        output::line(&format!(
            "{} sent again on a new connection: the server had closed one that was kept open",
            counts.reconnects,
        ));
    }
    if let Some(goodput) = report.goodput {
        let (rate, part) = (goodput.requests, goodput.fraction * 100.0);
        output::line(&format!("{rate:.2} good requests/s: {part:.1} % of all held the objectives"));
    }
    let stability = &report.stability;
    let slots = stability.slots.zip(stability.slot_utilisation).map_or_else(String::new, |slots| {
        format!(", slots {:.0} taken to {:.0} %", slots.0, slots.1 * 100.0)
    });
    output::line(&format!(
        "under way {:.1} on average: {:.1} wait, {:.1} get their answer{slots}",
        stability.in_flight, stability.waiting, stability.decoding,
    ));
    let environment = &report.environment;
    output::line(&format!(
        "the client computed {:.1} s of {:.1} s on {} thread(s)",
        environment.client_cpu_seconds, environment.sending_seconds, environment.threads,
    ));
}

fn tenants(report: &Report) {
    if report.tenants.len() < 2 {
        return;
    }
    output::line("");
    let head = [
        "TENANT", "REQUESTS", "OK", "REJECTED", "FAILED", "REQ/S", "TOK/S", "TTFT P50", "TTFT P99",
        "GOOD",
    ];
    output::table(&head, &report.tenants.iter().map(tenant).collect::<Vec<_>>());
}

fn tenant(tenant: &TenantResult) -> Vec<String> {
    let ttft = |pick: fn(&Latency) -> Option<f64>| number(tenant.ttft_ms.as_ref().and_then(pick));
    let good = tenant.goodput.map(|goodput| format!("{:.1} %", goodput.fraction * 100.0));
    vec![
        tenant.name.clone(),
        tenant.total.to_string(),
        tenant.ok.to_string(),
        tenant.rejected.to_string(),
        tenant.failed.to_string(),
        format!("{:.2}", tenant.requests),
        format!("{:.0}", tenant.output_tokens),
        ttft(|latency| latency.p50),
        ttft(|latency| latency.p99),
        good.unwrap_or_else(|| "-".to_owned()),
    ]
}

fn row(name: &str, latency: &Latency) -> Vec<String> {
    vec![
        name.to_owned(),
        latency.count.to_string(),
        number(latency.mean),
        number(latency.p50),
        number(latency.p90),
        number(latency.p95),
        number(latency.p99),
        number(latency.p999),
        number(latency.max),
    ]
}

/// Three digits that say something.
pub(super) fn number(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value >= 100.0 => format!("{value:.0}"),
        Some(value) if value >= 10.0 => format!("{value:.1}"),
        Some(value) if value >= 1.0 => format!("{value:.2}"),
        Some(value) => format!("{value:.3}"),
    }
}

/// Several loads.
pub(super) fn sweep(sweep: &Sweep) {
    let row = |point: &Report| {
        let latency = point.latency.as_ref();
        let verdict = match (point.holds(sweep.good), point.stability.steady) {
            (_, Steady::No) => "queue grows",
            (true, _) => "holds",
            (false, _) => "does not hold",
        };
        let good = point.goodput.map(|goodput| format!("{:.1} %", goodput.fraction * 100.0));
        vec![
            number(Some(point.asked())),
            format!("{:.2}", point.throughput.requests),
            format!("{:.0}", point.throughput.output_tokens),
            good.unwrap_or_else(|| "-".to_owned()),
            number(latency.and_then(|latency| latency.ttft_ms.p50)),
            number(latency.and_then(|latency| latency.ttft_ms.p99)),
            number(latency.and_then(|latency| latency.tpot_ms.p50)),
            number(latency.and_then(|latency| latency.e2e_ms.p50)),
            point.counts.rejected.to_string(),
            point.counts.failed.to_string(),
            if point.valid { verdict.to_owned() } else { format!("{verdict}, not valid") },
        ]
    };
    let head = [
        "LOAD", "REQ/S", "TOK/S", "GOOD", "TTFT P50", "TTFT P99", "TPOT P50", "E2E P50",
        "REJECTED", "FAILED", "VERDICT",
    ];
    output::table(&head, &sweep.points.iter().map(row).collect::<Vec<_>>());
    let found = match (sweep.best, sweep.limit) {
        (Some(best), Some(limit)) => format!("{best:.2} holds, {limit:.2} does not"),
        (Some(best), None) => format!("{best:.2} holds, and nothing higher was tried"),
        (None, _) => "nothing that was tried holds".to_owned(),
    };
    output::line("");
    output::line(&found);
    output::line(&format!("again: {}", sweep.command));
}
