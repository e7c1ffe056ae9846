//! Files and functions stay small enough to be read in one go.

use super::{Check, Finding};
use crate::ratchet::Measured;
use crate::repo::{File, Repo};
use crate::rust::item_end;

pub(super) const CHECK: Check = Check {
    name: "size",
    rule: "a file has at most FILE_LINES_MAX lines of code, a function FUNCTION_LINES_MAX",
    run,
};

/// Lines of code in a file, without its tests.
const FILE_LINES_MAX: usize = 500;

/// Lines of code in a function, from its name to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

fn run(repo: &Repo) -> Vec<Finding> {
    let files: Vec<Measured> = repo.rust().map(measure_file).collect();
    let functions: Vec<Measured> = repo.rust().flat_map(measure_functions).collect();
    let what = "lines of code in the file";
    let mut found = repo.ratchet.hold("file_lines", FILE_LINES_MAX, what, &files);
    let what = "lines of code in the function";
    found.extend(repo.ratchet.hold("function_lines", FUNCTION_LINES_MAX, what, &functions));
    found
}

fn measure_file(file: &File) -> Measured {
    let code = file.rust.iter().filter(|line| !line.test && !line.code.trim().is_empty());
    Measured { key: file.path.clone(), path: file.path.clone(), line: 1, value: code.count() }
}

fn measure_functions(file: &File) -> Vec<Measured> {
    let mut functions = Vec::new();
    for (at, line) in file.rust.iter().enumerate() {
        let Some(name) = function_name(&line.code) else { continue };
        let body = &file.rust[at..=item_end(&file.rust, at)];
        let value = body.iter().filter(|line| !line.code.trim().is_empty()).count();
        let key = format!("{}::{name}", file.path);
        functions.push(Measured { key, path: file.path.clone(), line: at + 1, value });
    }
    functions
}

/// The name of the function that a line declares.
fn function_name(code: &str) -> Option<&str> {
    let code = code.trim_start();
    let at = if code.starts_with("fn ") { 3 } else { code.find(" fn ")? + 4 };
    let name = code[at..].split(|char: char| !(char.is_alphanumeric() || char == '_')).next()?;
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::super::found;
    use super::*;

    #[test]
    fn what_is_too_long_is_found() {
        let check = |text: &str, expect: usize| {
            assert_eq!(found(&CHECK, &[("a.rs", text)]).len(), expect);
        };
        let function = |lines: usize| format!("pub fn f() {{\n{}}}\n", "    g();\n".repeat(lines));
        check(&function(68), 0);
        check(&function(69), 1);
        check(&function(60).repeat(8), 0);
        check(&function(60).repeat(9), 1);
        check(
            &format!("{}#[cfg(test)]\nmod tests {{\n{}}}", function(60).repeat(8), function(60)),
            0,
        );
        check(&function(60).replace("g();\n", "g();\n// why\n\n"), 0);
    }

    #[test]
    fn functions_are_recognised() {
        assert_eq!(function_name("    pub(crate) async fn go(x: u8) {"), Some("go"));
        assert_eq!(function_name("fn go<T>()"), Some("go"));
        assert_eq!(function_name("run: fn(u8) -> u8,"), None);
    }
}
