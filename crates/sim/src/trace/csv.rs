//! Tables of comma separated values with a head, as simple as traces are: no quotes.

use super::{TOKENS_MAX, TraceError, lines, wrong};

/// Most characters of a bad value that an error repeats.
const QUOTED_MAX: usize = 40;

/// One row of a table: its values where the wanted columns are.
#[derive(Debug)]
pub(super) struct Record<'a, const N: usize> {
    line: usize,
    /// Where each begins, in characters from one, and what it is; nothing for a column that the
    /// table lacks.
    fields: [Option<(usize, &'a str)>; N],
}

/// The rows of a table. Of the wanted columns, the first `needed` have to be there, in any order
/// and among others.
pub(super) fn records<'a, const N: usize>(
    text: &'a str,
    wanted: [&str; N],
    needed: usize,
) -> Result<Vec<Record<'a, N>>, TraceError> {
    let mut lines = lines(text);
    let (line, head) = lines.next().transpose()?.unwrap_or((1, ""));
    let names: Vec<&str> = head.split(',').map(str::trim).collect();
    let places = wanted.map(|column| names.iter().position(|name| *name == column));
    let missing = places.iter().zip(wanted).take(needed).find(|(place, _)| place.is_none());
    if let Some((_, column)) = missing {
        let expected = format!("a head with the columns {}", wanted[..needed].join(", "));
        return Err(wrong(line, 1, format!("no column `{column}`"), &expected));
    }
    lines
        .map(|next| next.and_then(|(line, text)| record(line, text, names.len(), places)))
        .collect()
}

fn record<const N: usize>(
    line: usize,
    text: &str,
    columns: usize,
    places: [Option<usize>; N],
) -> Result<Record<'_, N>, TraceError> {
    let mut column = 1;
    let mut fields = Vec::with_capacity(columns);
    for field in text.split(',') {
        if field.contains('"') {
            return Err(wrong(line, column, shown(field), "a value without quotes"));
        }
        fields.push((column, field.trim()));
        column += field.chars().count() + 1;
    }
    if fields.len() != columns {
        let found = format!("{} values", fields.len());
        return Err(wrong(line, 1, found, &format!("{columns}, as in the head")));
    }
    let fields = places.map(|place| place.and_then(|place| fields.get(place).copied()));
    Ok(Record { line, fields })
}

impl<'a, const N: usize> Record<'a, N> {
    /// A value as it is; empty where the table lacks the column.
    pub(super) fn text(&self, field: usize) -> &'a str {
        self.fields.get(field).copied().flatten().map_or("", |(_, text)| text)
    }

    pub(super) fn has(&self, field: usize) -> bool {
        !self.text(field).is_empty()
    }

    /// A number of tokens.
    pub(super) fn tokens(&self, field: usize) -> Result<u32, TraceError> {
        let number = self.text(field).parse().ok().filter(|tokens| *tokens <= TOKENS_MAX);
        number.ok_or_else(|| self.wrong(field, "a whole number of tokens, at most 10000000"))
    }

    /// A number of seconds, not below `least`.
    pub(super) fn seconds(&self, field: usize, least: f64) -> Result<f64, TraceError> {
        let number = self.text(field).parse::<f64>().ok();
        let number = number.filter(|seconds| seconds.is_finite() && *seconds >= least);
        number.ok_or_else(|| self.wrong(field, "seconds since the start, such as 12.5"))
    }

    /// That a value is not as it should be.
    pub(super) fn wrong(&self, field: usize, expected: &str) -> TraceError {
        let column = self.fields.get(field).copied().flatten().map_or(1, |(column, _)| column);
        wrong(self.line, column, shown(self.text(field)), expected)
    }
}

fn shown(text: &str) -> String {
    if text.is_empty() {
        return "nothing".to_owned();
    }
    let start: String = text.chars().take(QUOTED_MAX).collect();
    let more = if start.len() < text.len() { "…" } else { "" };
    format!("`{}{more}`", start.escape_debug())
}
