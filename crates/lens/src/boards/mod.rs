//! Boards and alerts, as values: what is worth looking at, with the query that shows it, and what should
//! wake somebody, with what to do then. Grafana's boards, Prometheus' rules and the page of alerts are all
//! made of these tables, so that none of them names a series that there is not.

mod alerts;
mod backing;
mod clients;
mod gpu;
mod grafana;
mod page;
mod panels;
mod rules;
mod servers;
#[cfg(test)]
mod tests;

use std::num::NonZeroU16;

pub use alerts::{Alert, Severity, alerts};
pub use page::page;
pub use panels::{Board, Panel, Query, Unit, boards};
pub use rules::{Recording, recordings};

/// All files below `deploy/`, by their path there: boards for Grafana and rules for Prometheus.
/// Windows and delays of rules are `hurry` times shorter than they should be, which is for trying them.
pub fn files(hurry: NonZeroU16) -> Vec<(String, String)> {
    let board = |board: &Board| (format!("grafana/{}.json", board.uid), grafana::render(board));
    let mut files: Vec<(String, String)> = boards().iter().map(board).collect();
    files.push(("prometheus/rules.yaml".to_owned(), rules::render(hurry)));
    files
}
