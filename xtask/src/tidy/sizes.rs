//! How long files and functions are: small ones are read, long ones are skimmed.

use std::collections::BTreeMap;

use super::Source;

/// Lines of code in a file.
pub(super) const FILE_LINES_MAX: usize = 500;

/// Lines in a function.
pub(super) const FUNCTION_LINES_MAX: usize = 70;

/// What is over a limit: the file, or the file and the function, with its lines.
pub(super) fn measure(sources: &[Source]) -> BTreeMap<String, usize> {
    let mut over = BTreeMap::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        let lines = lines_of_code(&source.text);
        if lines > FILE_LINES_MAX {
            over.insert(source.path.clone(), lines);
        }
        for (name, lines) in functions(&source.text) {
            if lines > FUNCTION_LINES_MAX {
                over.insert(format!("{} fn {name}", source.path), lines);
            }
        }
    }
    over
}

/// Lines that are neither empty nor comments, up to the tests at the end.
fn lines_of_code(text: &str) -> usize {
    let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
    lines.map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

/// Functions by rustfmt's indentation: from `fn` to the brace in the same column.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        let Some((before, after)) = trimmed.split_once("fn ") else { continue };
        let words = [
            "",
            "pub",
            "pub(crate)",
            "pub(super)",
            "const",
            "async",
            "pub const",
            "pub async",
            "pub(crate) async",
            "pub(crate) const",
            "pub(super) const",
            "pub(super) async",
        ];
        if !words.contains(&before.trim()) {
            continue;
        }
        let close = format!("{}}}", " ".repeat(indent));
        let Some(length) = lines[at..].iter().position(|line| *line == close) else { continue };
        let name = after.split(['(', '<']).next().unwrap_or_default();
        found.push((name.to_owned(), length + 1));
    }
    found
}

#[test]
fn long_functions_and_files_are_measured() {
    use super::source;
    let body = "    x();\n".repeat(80);
    let long = source(
        "crates/a/src/b.rs",
        &format!("//! H.\nfn long() {{\n{body}}}\nfn short() {{\n    x();\n}}\n"),
    );
    assert_eq!(measure(&[long]), [("crates/a/src/b.rs fn long".to_owned(), 82)].into());
    let file = source("c.rs", &format!("//! H.\n{}", "const A: u32 = 1;\n".repeat(501)));
    assert_eq!(measure(&[file]), [("c.rs".to_owned(), 501)].into());
}
