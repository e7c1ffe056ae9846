//! Lines of JSON, one object each.

use serde::Deserialize;

use super::{TraceError, lines, wrong};

/// The rows of a file, each with its line. `expected` describes one.
pub(super) fn records<'a, T: Deserialize<'a>>(
    text: &'a str,
    expected: &'static str,
) -> impl Iterator<Item = Result<(usize, T), TraceError>> {
    lines(text).map(move |next| {
        let (line, text) = next?;
        let row = serde_json::from_str(text);
        row.map(|row| (line, row)).map_err(|error| {
            let reason = error.to_string();
            // The parser counts lines of what it was given, which is always one.
            let reason = reason.split(" at line ").next().unwrap_or_default();
            wrong(line, error.column().max(1), reason.to_owned(), expected)
        })
    })
}
