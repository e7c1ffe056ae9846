//! The page: what was run, who got what, and how fair that was.

use pilotage_lens::page::escape;

use super::plot::{Line, OTHER, Plot, told};
use super::text::{decimal, percent, time, whole};
use super::{CounterGap, Report, Series, Tenant, bars, tables};

const STYLE: &str = include_str!("style.css");

/// Tenants with a colour of their own; there is no telling more colours apart.
const COLOURS: usize = 8;

/// The report as one HTML page that needs nothing else.
pub fn html(report: &Report) -> String {
    let body = [
        header(report),
        "<main>".to_owned(),
        tables::tenants(report),
        tables::latencies(report),
        plots(report),
        tables::measures(report),
        notes(report),
        "</main>".to_owned(),
    ];
    document(&report.scenario, &body.join("\n"))
}

/// A whole page.
pub(super) fn document(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title} · simulated by Pilotage</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n{body}\n</body>\n</html>\n",
    )
}

fn header(report: &Report) -> String {
    let optional = |text: &str| match text.is_empty() {
        true => String::new(),
        false => format!("<p>{}</p>", escape(text)),
    };
    let requests: u64 = report.tenants.iter().map(|tenant| tenant.requests).sum();
    format!(
        "<header><h1>{}</h1>{}<dl>\
         <div><dt>Setting</dt><dd>{}</dd></div>\
         <div><dt>Tenants</dt><dd>{}</dd></div>\
         <div><dt>Requests</dt><dd>{}</dd></div>\
         <div><dt>Simulated time</dt><dd>{}</dd></div>\
         <div><dt>Seed</dt><dd>{}</dd></div></dl>\
         <p class=\"replay\"><span>Again:</span> <code>{}</code></p></header>",
        escape(&report.scenario),
        optional(&report.description),
        escape(&report.setting),
        report.tenants.len(),
        whole(requests),
        time(report.seconds.get()),
        report.seed,
        escape(&report.replay),
    )
}

fn plots(report: &Report) -> String {
    let rate = "Service over time, in weighted tokens a second";
    let total = "Accumulated service, in weighted tokens";
    let mut figures = vec![
        over_time("rate", rate, report, &report.service_rate),
        over_time("total", total, report, &report.service_total),
    ];
    figures.extend(report.counter_gap.as_ref().map(|gap| counter_gap(report, gap)));
    if report.tenants.iter().any(|tenant| tenant.time_to_first_token.is_some()) {
        figures.push(times(report));
    }
    format!("<div class=\"plots\">{}</div>", figures.concat())
}

/// A figure with a line for each tenant.
fn over_time(id: &str, title: &str, report: &Report, series: &Series) -> String {
    let lines = lines(report, series);
    let description = lines.iter().map(told).collect::<Vec<_>>().join(". ");
    let seconds = report.seconds.get();
    let plot = Plot { id, title, description, seconds, lines, bound: None };
    let others = report.tenants.len().saturating_sub(COLOURS);
    let note = match others {
        0 => String::new(),
        others => format!("<p class=\"note\">Thin grey lines: {others} tenants with less.</p>"),
    };
    let numbers = tables::series(title, report, series);
    figure(title, &[plot.svg(), plot.key(), note, numbers])
}

/// A line for each tenant; those with most service have a colour and come last, on top, but the key
/// keeps the scenario's order.
fn lines<'a>(report: &'a Report, series: &Series) -> Vec<Line<'a>> {
    let mut ranked: Vec<usize> = (0..report.tenants.len()).collect();
    ranked.sort_by(|one, other| {
        let service = |at: usize| report.tenants.get(at).map(|tenant| tenant.service.get());
        service(*other).partial_cmp(&service(*one)).unwrap_or(std::cmp::Ordering::Equal)
    });
    let mut coloured: Vec<usize> = ranked.into_iter().take(COLOURS).collect();
    coloured.sort_unstable();
    let line = |(at, tenant): (usize, &'a Tenant)| {
        let rank = coloured.iter().position(|one| *one == at);
        let class = rank.map_or_else(|| OTHER.to_owned(), |rank| format!("s{rank}"));
        let values = series.tenants.get(at).map(Vec::as_slice).unwrap_or_default();
        let points = series.at.iter().zip(values);
        let points = points.map(|(at, value)| (at.get(), value.get())).collect();
        Line { name: &tenant.name, class, points }
    };
    let mut lines: Vec<Line<'a>> = report.tenants.iter().enumerate().map(line).collect();
    lines.sort_by_key(|line| line.class != OTHER);
    lines
}

fn counter_gap(report: &Report, gap: &CounterGap) -> String {
    let title = "Gap of waiting tenants’ counters, against its bound";
    let (max, bound) = (gap.max.get(), gap.bound.get());
    let part = if bound > 0.0 { percent(max / bound) } else { "–".to_owned() };
    let verdict = if max <= bound { "holds" } else { "is broken" };
    let (class, mark) = if max <= bound { ("good", "✓") } else { ("bad", "✗") };
    let sentence = format!(
        "The bound {verdict}: the widest gap is {} of {}, {part}.",
        decimal(max, 0),
        decimal(bound, 0),
    );
    let points = gap.points.iter().map(|(at, gap)| (at.get(), gap.get())).collect();
    let line = Line { name: "widest gap", class: "s0".to_owned(), points };
    let plot = Plot {
        id: "gap",
        title,
        description: sentence.clone(),
        seconds: report.seconds.get(),
        lines: vec![line],
        bound: Some(bound),
    };
    let verdict = format!("<p class=\"{class}\">{mark} {}</p>", escape(&sentence));
    figure(title, &[plot.svg(), verdict, tables::gap(title, gap)])
}

fn times(report: &Report) -> String {
    let key = "<p class=\"note\">Bar: half of the requests (p50). Thin line: 99 of 100 (p99). \
               Diamond: mean.</p>";
    let timed = report.tenants.iter().filter(|one| one.time_to_first_token.is_some()).count();
    let more = match timed.saturating_sub(bars::TENANTS_MAX) {
        0 => String::new(),
        more => format!("<p class=\"note\">{more} more tenants are in the table only.</p>"),
    };
    figure("Time to first token", &[bars::svg(&report.tenants), key.to_owned(), more])
}

fn figure(title: &str, parts: &[String]) -> String {
    format!("<figure><figcaption>{}</figcaption>{}</figure>", escape(title), parts.concat())
}

fn notes(report: &Report) -> String {
    if report.notes.is_empty() {
        return String::new();
    }
    let items = report.notes.iter().map(|note| format!("<li>{}</li>", escape(note)));
    format!("<section><h2>Notes</h2><ul>{}</ul></section>", items.collect::<String>())
}
