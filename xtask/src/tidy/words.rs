//! Words that do not belong: promises without an owner, history in comments, paths of somebody's
//! machine; and white space at the end of lines.

use super::{Finding, Source};

/// Words, and what to do instead. Written in two parts, so that this list does not find itself.
const BANNED: [(&str, &str, &str); 6] = [
    ("TO", "DO", "do it now, or file an issue and say nothing here"),
    ("FIX", "ME", "mend it now"),
    ("X", "XX", "say what is meant"),
    ("used ", "to be", "say what is, not what was"),
    ("/ho", "me/", "no path of a machine"),
    ("/Us", "ers/", "no path of a machine"),
];

/// Words of history, in comments of Rust files.
const HISTORY: [(&str, &str); 2] = [("no lo", "nger"), ("previo", "usly")];

/// Words and spaces in one file.
pub(super) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let prose = source.path.ends_with(".lock") || source.path.ends_with("LICENSE");
    if prose || source.path.contains("/tests/cases/") || source.path.contains("/snapshots/") {
        return findings;
    }
    for (at, line) in source.text.lines().enumerate() {
        for (one, other, instead) in BANNED {
            if line.contains(&format!("{one}{other}")) {
                findings.push(source.finding(at + 1, format!("`{one}{other}`; {instead}")));
            }
        }
        let comment = line.trim_start().starts_with("//") && source.is_rust();
        for (one, other) in HISTORY {
            if comment && line.contains(&format!("{one}{other}")) && !source.path.contains("/tidy/")
            {
                findings.push(
                    source.finding(at + 1, "history in a comment; say what is, not what was"),
                );
            }
        }
        if line.ends_with([' ', '\t']) && !source.path.ends_with(".md") {
            findings.push(source.finding(at + 1, "white space at the end of the line"));
        }
    }
    if !source.text.is_empty() && !source.text.ends_with('\n') {
        findings.push(source.finding(0, "no line break at the end"));
    }
    findings
}

#[test]
fn words_and_spaces_are_found() {
    use super::source;
    let check =
        |text: &str, count: usize| assert_eq!(check(&source("a.rs", text)).len(), count, "{text}");
    check("//! fine\n", 0);
    check(&format!("// {}{}: later\n", "TO", "DO"), 1);
    check("let a = 1; \n", 1);
    check("no end", 1);
    check(&format!("// it is {}{} so\n", "no lo", "nger"), 1);
}
