//! Everything a command prints: data on stdout, talk on stderr, tables for people and JSON for
//! machines. Colour only on a terminal and without `NO_COLOR`, and never the only carrier of a
//! meaning. Much of it comes from servers that anybody runs, so that nothing in it acts on a terminal.

#![expect(clippy::print_stderr, reason = "the one place that prints")]

use std::io::{IsTerminal as _, Write as _};

use clap::ValueEnum;
use pilotage_shell::env::{self, Var};
use pilotage_shell::plain;
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
    let _ = writeln!(out, "{}", plain::lines(text));
}

/// The elements of a list of JSON; none where it is no list.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A value of JSON as a table shows it: a text without its quotes.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Lines of data, each in the colour of an ANSI code where that is wanted.
pub(crate) fn coloured<'a>(lines: impl IntoIterator<Item = (&'a str, &'a str)>) {
    let mut out = std::io::stdout().lock();
    let is_wanted = out.is_terminal() && env::get(Var::NoColor).is_none_or(|set| set.is_empty());
    for (text, code) in lines {
        let text = plain::line(text);
        let _ = match code {
            code if is_wanted && !code.is_empty() => writeln!(out, "\x1b[{code}m{text}\x1b[0m"),
            _ => writeln!(out, "{text}"),
        };
    }
}

/// A piece of data as it comes, shown at once; a file gets it as it is.
pub(crate) fn piece(text: &str) {
    let mut out = std::io::stdout().lock();
    let text = if out.is_terminal() { plain::lines(text) } else { text.into() };
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A value as indented JSON.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(&serde_json::to_string_pretty(value)?);
    Ok(())
}

/// A table with aligned columns. Nothing but the head when there are no rows.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) {
    for row in aligned(head, rows) {
        line(&row);
    }
}

/// The lines of a table.
pub(crate) fn aligned(head: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    let plain = |row: &Vec<String>| row.iter().map(|cell| plain::line(cell).into_owned()).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(plain).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let join = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let rows = rows.iter().map(|row| join(row.iter().map(String::as_str).collect()));
    std::iter::once(join(head.to_vec())).chain(rows).collect()
}

/// Talk: something worth knowing, on stderr.
pub(crate) fn note(text: &str) {
    eprintln!("{}", plain::lines(text));
}

/// Talk that begins with a word in the colour of that ANSI code.
pub(crate) fn marked((mark, code): (&str, &str), text: &str) {
    eprintln!("{} {}", paint(mark, code), plain::lines(text));
}

/// Talk: what failed.
pub(crate) fn failure(text: &str) {
    marked(("error:", "1;31"), text);
}

/// Talk: what to do about it.
pub(crate) fn hint(text: &str) {
    marked(("hint:", "1;36"), text);
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

#[cfg(test)]
mod tests {
    use super::aligned;

    #[test]
    fn cells_of_tables_are_one_line_that_acts_on_nothing() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let rows = aligned(&["MODEL", "N"], &[row(["a\x1b[8m", "1"]), row(["b\nc", "2"])]);
        assert_eq!(rows, ["MODEL       N", "a\\u{1b}[8m  1", "b\\nc        2"]);
    }
}
