//! What is wrong with a scenario, and where.

use serde_saphyr::{MessageFormatter as _, UserMessageFormatter};
use thiserror::Error;

/// A mistake in a scenario, or in what it names. Whoever wrote it can put it right.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{}{}{problem}", place(.file, *.line), named(.field))]
pub struct ScenarioError {
    /// The file, as the caller named it.
    pub file: String,
    /// The line, from one; zero where it is not at one place.
    pub line: u64,
    /// The path of the field; empty for the whole.
    pub field: String,
    /// What is wrong with it, and what to do.
    pub problem: String,
}

impl ScenarioError {
    pub(super) fn new(line: u64, field: impl Into<String>, problem: impl ToString) -> Self {
        let (file, field, problem) = (String::new(), field.into(), problem.to_string());
        Self { file, line, field, problem }
    }

    pub(super) fn of_yaml(error: &serde_saphyr::Error, field: &str) -> Self {
        let line = error.location().map_or(0, |location| location.line());
        let message = UserMessageFormatter.format_message(error);
        let plain = message.chars().map(|c| if c.is_control() { ' ' } else { c });
        let problem = suggest(plain.collect());
        // `value` is where a node with a line keeps what it holds; the whole document's path is a dot.
        let field = field.replace(".value.", ".").trim_end_matches(".value").to_owned();
        let field = if field == "." { String::new() } else { field };
        Self { file: String::new(), line, field, problem }
    }

    pub(super) fn in_file(self, file: &str) -> Self {
        Self { file: file.to_owned(), ..self }
    }
}

/// Adds what was probably meant to a message of the form "unknown … `word`, expected one of a, b".
fn suggest(message: String) -> String {
    let Some((unknown, known)) = message.split_once(", expected one of ") else { return message };
    let word = unknown.split('`').nth(1).unwrap_or_default();
    let distance = |known: &str| strsim::damerau_levenshtein(word, known);
    let nearest = known.split(", ").min_by_key(|known| distance(known));
    let near = nearest.filter(|known| distance(known) <= word.chars().count().max(3) / 3);
    match near {
        Some(near) => format!("{unknown}; did you mean `{near}`? (known: {known})"),
        None => format!("{unknown} (known: {known})"),
    }
}

fn place(file: &str, line: u64) -> String {
    match (file, line) {
        ("", 0) => String::new(),
        ("", line) => format!("line {line}: "),
        (file, 0) => format!("{file}: "),
        (file, line) => format!("{file}:{line}: "),
    }
}

fn named(field: &str) -> String {
    if field.is_empty() { String::new() } else { format!("{field}: ") }
}
