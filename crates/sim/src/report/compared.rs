//! The page of a comparison: the same requests, placed in several ways.

use pilotage_lens::page::escape;

use super::page::document;
use super::text::{decimal, figure, percent, time, whole};
use super::{bars, tables};
use crate::compare::{Comparison, Row};

/// The comparison as one HTML page that needs nothing else.
pub fn compared(comparison: &Comparison) -> String {
    let key = "<p class=\"note\">Bar: half of the requests (p50). Thin line: 99 of 100 (p99). \
               Diamond: mean. What is much longer than the best is cut; the table has it.</p>";
    let body = [
        header(comparison),
        "<main>".to_owned(),
        table(&comparison.rows),
        format!(
            "<div class=\"plots\"><figure><figcaption>Time to first token</figcaption>{}{key}\
             </figure></div>",
            bars::ways(&comparison.rows),
        ),
        about(&comparison.rows),
        "</main>".to_owned(),
    ];
    document(&comparison.scenario, &body.join("\n"))
}

fn header(comparison: &Comparison) -> String {
    format!(
        "<header><h1>{}</h1><p>{}</p><dl>\
         <div><dt>Engines</dt><dd>{}</dd></div>\
         <div><dt>Requests that count</dt><dd>{}</dd></div>\
         <div><dt>Seed</dt><dd>{}</dd></div></dl>\
         <p class=\"replay\"><span>Again:</span> <code>{}</code></p></header>",
        escape(&comparison.scenario),
        escape(&comparison.description),
        escape(&comparison.setting),
        whole(comparison.rows.first().map_or(0, |row| row.requests)),
        comparison.seed,
        escape(&comparison.replay),
    )
}

fn table(rows: &[Row]) -> String {
    let head = [
        "Policy",
        "TTFT p50",
        "TTFT p95",
        "TTFT p99",
        "Whole p99",
        "Found in caches",
        "Tokens/s",
        "Refused",
        "Unfinished",
        "Busiest / mean",
    ];
    let rows = rows.iter().map(|row| {
        let times = [row.first_token.p50, row.first_token.p95, row.first_token.p99];
        let mut cells: Vec<String> = times.iter().map(|one| time(one.get())).collect();
        cells.extend([
            time(row.last_token.p99.get()),
            percent(row.hit_rate.get()),
            figure(row.tokens_per_second.get()),
            whole(row.refused),
            whole(row.unfinished),
            decimal(row.imbalance.get(), 2),
        ]);
        tables::row(row.policy, cells)
    });
    tables::table("What each way came to", &head, &rows.collect::<String>())
}

fn about(rows: &[Row]) -> String {
    let item = |row: &Row| format!("<li><b>{}</b>: {}</li>", escape(row.policy), escape(row.about));
    let items: String = rows.iter().map(item).collect();
    format!("<section><h2>Policies</h2><ul>{items}</ul></section>")
}
