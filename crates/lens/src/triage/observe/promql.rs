//! The names of series that an expression of Prometheus' language refers to, to hold alert rules against
//! what is exposed. It cuts an expression into words and leaves out what cannot be a series.

use std::collections::BTreeSet;

/// Words that are no series although no bracket follows them.
const WORDS: [&str; 22] = [
    "and",
    "or",
    "unless",
    "bool",
    "offset",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "start",
    "end",
    "inf",
    "nan",
    "atan2",
    "sum",
    "avg",
    "min",
    "max",
    "count",
    "topk",
];

/// Words after which a list of labels stands in brackets.
const LISTS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// Longest expression that is looked at.
const BYTES_MAX: usize = 64 << 10;

/// The series of an expression.
pub fn series(expression: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut rest = expression.get(..expression.len().min(BYTES_MAX)).unwrap_or_default();
    let mut before = "";
    while let Some(char) = rest.chars().next() {
        if char == '"' || char == '\'' || char == '`' {
            rest = after_text(rest, char);
        } else if char == '#' {
            rest = rest.split_once('\n').map_or("", |(_, after)| after);
        } else if char == '{' {
            let (selector, after) = selector(rest);
            found.extend(named(selector));
            rest = after;
        } else if char == '[' {
            rest = rest.split_once(']').map_or("", |(_, after)| after);
        } else if char == '(' && LISTS.contains(&before) {
            rest = rest.split_once(')').map_or("", |(_, after)| after);
            before = "";
        } else if char.is_ascii_digit() {
            let end = rest.find(|char: char| !is_word(char) && char != '.').unwrap_or(rest.len());
            rest = rest.get(end..).unwrap_or_default();
        } else if is_word(char) {
            let end = rest.find(|char| !is_word(char)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            let is_call = after.trim_start().starts_with('(');
            let lower = word.to_ascii_lowercase();
            if !is_call && !WORDS.contains(&lower.as_str()) {
                found.insert(word.to_owned());
            }
            (before, rest) = (word, after);
        } else {
            rest = rest.get(char.len_utf8()..).unwrap_or_default();
        }
    }
    found
}

const fn is_word(char: char) -> bool {
    char.is_ascii_alphanumeric() || char == '_' || char == ':'
}

/// What comes after a text in quotes.
fn after_text(text: &str, quote: char) -> &str {
    let mut chars = text.char_indices().skip(1);
    while let Some((at, char)) = chars.next() {
        if char == '\\' && quote != '`' {
            chars.next();
        } else if char == quote {
            return text.get(at + 1..).unwrap_or_default();
        }
    }
    ""
}

/// What is in curly brackets, which may stand in texts inside, and what comes after.
fn selector(text: &str) -> (&str, &str) {
    let mut rest = text.get(1..).unwrap_or_default();
    while let Some(char) = rest.chars().next() {
        let after = if char == '"' || char == '\'' {
            after_text(rest, char)
        } else {
            rest.get(char.len_utf8()..).unwrap_or_default()
        };
        if char == '}' {
            let end = text.len() - rest.len();
            return (text.get(1..end).unwrap_or_default(), after);
        }
        rest = after;
    }
    (text.get(1..).unwrap_or_default(), "")
}

/// The name in a selector, where it stands there: `{__name__="x"}`.
fn named(selector: &str) -> Option<String> {
    let (_, after) = selector.split_once("__name__")?;
    let after = after.trim_start().strip_prefix('=')?.trim_start();
    let name = after.strip_prefix('"')?.split_once('"')?.0;
    Some(name.to_owned()).filter(|name| !name.is_empty() && name.chars().all(is_word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_told_from_functions_and_labels() {
        let check = |expression: &str, expect: &[&str]| {
            let got = series(expression);
            assert_eq!(got.iter().map(String::as_str).collect::<Vec<_>>(), expect, "{expression}");
        };
        check("up == 0", &["up"]);
        check("sum by (pod, le) (rate(vllm:a_total{pod=~\"x}.*\"}[5m])) > 0.05", &["vllm:a_total"]);
        check("a / on(job) group_left(node) b offset 5m and c", &["a", "b", "c"]);
        check("histogram_quantile(0.99, sum(rate(x_bucket[5m])) by (le)) > 1e3", &["x_bucket"]);
        check("{__name__=\"y\", z!=\"a,b\"} > bool 1", &["y"]);
        check("absent(z{job=\"a\"}) # and w", &["z"]);
        check("max_over_time(a[1h:5m]) unless 'text b'", &["a"]);
        check("\"open", &[]);
        check("{open", &[]);
        check("", &[]);
    }
}
