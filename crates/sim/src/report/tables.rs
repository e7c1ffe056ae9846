//! The tables of the page: tenants, measures, and the numbers behind each plot.

use pilotage_lens::page::escape;

use super::text::{decimal, figure, percent, time, weight, whole};
use super::{CounterGap, Latency, Report, Rounded, Series, Tenant};

/// Rows of numbers that stand beside a plot, at most.
const ROWS_MAX: usize = 24;

/// How far a share may lie beside its entitlement without being marked.
const SHARE_OFF: f64 = 0.05;

/// A table with its caption in a box that scrolls by itself where the page is narrow.
pub(super) fn table(caption: &str, head: &[&str], rows: &str) -> String {
    let head = head.iter().map(|name| format!("<th scope=\"col\">{}</th>", escape(name)));
    let head: String = head.collect();
    let caption = escape(caption);
    format!(
        "<div class=\"scroll\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\"><table>\
         <caption>{caption}</caption><thead><tr>{head}</tr></thead>\
         <tbody>{rows}</tbody></table></div>"
    )
}

pub(super) fn row(name: &str, cells: impl IntoIterator<Item = String>) -> String {
    let cells: String = cells.into_iter().map(|cell| format!("<td>{cell}</td>")).collect();
    format!("<tr><th scope=\"row\">{}</th>{cells}</tr>", escape(name))
}

/// One row for each tenant: what it asked for and what it got.
pub(super) fn tenants(report: &Report) -> String {
    let head = [
        "Tenant",
        "Weight",
        "Requests",
        "Served",
        "Refused",
        "Tokens in",
        "Tokens out",
        "Service",
        "Share",
        "Entitled to",
    ];
    let rows = report.tenants.iter().map(|tenant| {
        let cells = [
            weight(tenant.weight.get()),
            whole(tenant.requests),
            whole(tenant.served),
            refused(tenant),
            whole(tenant.input_tokens),
            whole(tenant.output_tokens),
            decimal(tenant.service.get(), 0),
            share(tenant),
            percent(tenant.entitlement.get()),
        ];
        row(&tenant.name, cells)
    });
    table("What tenants got", &head, &rows.collect::<String>())
}

/// One row for each tenant: how long it waited.
pub(super) fn latencies(report: &Report) -> String {
    let head = ["Tenant", "TTFT mean", "TTFT p50", "TTFT p99", "Wait mean", "Wait p50", "Wait p99"];
    let rows = report.tenants.iter().map(|tenant| {
        let cells = [tenant.time_to_first_token, tenant.wait].into_iter().flat_map(three);
        row(&tenant.name, cells)
    });
    table("How long tenants waited", &head, &rows.collect::<String>())
}

/// The paper's measures.
pub(super) fn measures(report: &Report) -> String {
    let measures = &report.fairness;
    let rows = [
        ("Service difference, widest", measures.difference_max, "weighted tokens/s"),
        ("Service difference, mean", measures.difference_mean, "weighted tokens/s"),
        ("Service difference, variance", measures.difference_variance, ""),
        ("Accumulated service, widest gap", measures.accumulated_max, "weighted tokens"),
        ("Jain’s index of service", measures.jain, "1 is equal"),
        ("Throughput", measures.tokens_per_second, "tokens/s"),
    ];
    let rows = rows.into_iter().map(|(name, value, unit)| {
        row(name, [figure(value.get()), format!("<span class=\"unit\">{unit}</span>")])
    });
    table("Fairness", &["Measure", "Value", "Unit"], &rows.collect::<String>())
}

/// The numbers of a series, thinned.
pub(super) fn series(caption: &str, report: &Report, series: &Series) -> String {
    let names = report.tenants.iter().map(|tenant| tenant.name.as_str());
    let head: Vec<&str> = std::iter::once("Second").chain(names).collect();
    let rows = thinned(series.at.len()).map(|at| {
        let values = series.tenants.iter().map(|values| value(values.get(at)));
        let second = series.at.get(at).copied().unwrap_or_default();
        row(&decimal(second.get(), 0), values)
    });
    folded(&table(caption, &head, &rows.collect::<String>()))
}

/// The numbers of the counter gap, thinned.
pub(super) fn gap(caption: &str, gap: &CounterGap) -> String {
    let rows = thinned(gap.points.len()).filter_map(|at| gap.points.get(at)).map(|(at, value)| {
        let part = if gap.bound.get() > 0.0 { value.get() / gap.bound.get() } else { 0.0 };
        row(&decimal(at.get(), 0), [decimal(value.get(), 0), percent(part)])
    });
    let head = ["Second", "Gap", "Of the bound"];
    folded(&table(caption, &head, &rows.collect::<String>()))
}

fn folded(table: &str) -> String {
    format!("<details><summary>Numbers</summary>{table}</details>")
}

/// Positions from the first to the last, at most so many.
fn thinned(count: usize) -> impl Iterator<Item = usize> {
    (0..count).step_by(count.div_ceil(ROWS_MAX).max(1))
}

fn value(value: Option<&Rounded>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| decimal(value.get(), 0))
}

fn three(latency: Option<Latency>) -> [String; 3] {
    let shown = |seconds: Rounded| time(seconds.get());
    latency.map_or_else(
        || ["–", "–", "–"].map(str::to_owned),
        |latency| [shown(latency.mean), shown(latency.p50), shown(latency.p99)],
    )
}

/// How many were refused, and why.
fn refused(tenant: &Tenant) -> String {
    if tenant.refused.is_empty() {
        return "0".to_owned();
    }
    let reasons = tenant.refused.iter();
    let reasons = reasons.map(|(why, count)| format!("{} {}", whole(*count), escape(why)));
    reasons.collect::<Vec<_>>().join("<br>")
}

/// Its share, with a mark where it is not what the tenant is entitled to.
fn share(tenant: &Tenant) -> String {
    let off = tenant.share.get() - tenant.entitlement.get();
    let mark = match off {
        off if off > SHARE_OFF => " <span class=\"over\" title=\"above\">▲</span>",
        off if off < -SHARE_OFF => " <span class=\"under\" title=\"below\">▼</span>",
        _ => "",
    };
    format!("{}{mark}", percent(tenant.share.get()))
}
