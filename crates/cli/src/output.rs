//! Everything a command prints: data on stdout, talk on stderr, tables for people and JSON for
//! machines. Colour only on a terminal and without `NO_COLOR`, and never the only carrier of a
//! meaning.

#![expect(clippy::print_stderr, reason = "the one place that prints")]

use std::io::{IsTerminal as _, Write as _};

use clap::ValueEnum;
use pilotage_shell::env::{self, Var};
use serde::Serialize;
use serde_json::Value;

/// What the output looks like.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum Format {
    /// A table for people.
    #[default]
    Table,
    /// JSON for machines.
    Json,
}

/// One line of data.
pub(crate) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}");
}

/// The elements of a list of JSON; none where it is no list.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A value of JSON as a table shows it: a text without its quotes.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A piece of data as it comes, shown at once.
pub(crate) fn piece(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A value as indented JSON.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(&serde_json::to_string_pretty(value)?);
    Ok(())
}

/// A table with aligned columns. Nothing but the head when there are no rows.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let print = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        line(padded.collect::<Vec<_>>().join("  ").trim_end());
    };
    print(head.to_vec());
    for row in rows {
        print(row.iter().map(String::as_str).collect());
    }
}

/// Talk: something worth knowing, on stderr.
pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}

/// Talk: what failed.
pub(crate) fn failure(text: &str) {
    eprintln!("{} {text}", paint("error:", "1;31"));
}

/// Talk: what to do about it.
pub(crate) fn hint(text: &str) {
    eprintln!("{} {text}", paint("hint:", "1;36"));
}

/// Talk without a line break, for prompts.
pub(crate) fn ask(text: &str) {
    eprint!("{text}");
    let _ = std::io::stderr().flush();
}

/// `text` in the colour of that ANSI code, where colour is wanted.
pub(crate) fn paint(text: &str, code: &str) -> String {
    if std::io::stderr().is_terminal() && env::get(Var::NoColor).is_none_or(|set| set.is_empty()) {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}
