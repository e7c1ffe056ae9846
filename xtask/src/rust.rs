//! Rust source cut into code and comments, line by line: enough of a lexer to look for words where
//! they mean something, and no parser.

/// One line of a file.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Line {
    /// Its code; what strings hold is replaced by underscores.
    pub(crate) code: String,
    /// What its comments say.
    pub(crate) comment: String,
    /// Whether it belongs to an item under `#[cfg(test)]`.
    pub(crate) test: bool,
}

#[derive(Clone, Copy)]
enum State {
    Code,
    Comment,
    Block { depth: u32 },
    Text { hashes: Option<usize> },
}

/// Takes a file apart.
pub(crate) fn lines(text: &str) -> Vec<Line> {
    let mut state = State::Code;
    let mut lines: Vec<Line> = Vec::new();
    for raw in text.lines() {
        let chars: Vec<char> = raw.chars().collect();
        let mut line = Line::default();
        if matches!(state, State::Comment) {
            state = State::Code;
        }
        let mut at = 0;
        while at < chars.len() {
            at += step(&mut state, &chars[at..], &mut line);
        }
        lines.push(line);
    }
    mark_tests(&mut lines);
    lines
}

/// Takes the next few characters, and says how many.
fn step(state: &mut State, rest: &[char], line: &mut Line) -> usize {
    match state {
        State::Code => step_code(state, rest, line),
        State::Comment => {
            line.comment.push(rest[0]);
            1
        }
        State::Block { depth } => {
            let taken = match rest {
                ['/', '*', ..] => {
                    *depth += 1;
                    2
                }
                ['*', '/', ..] => {
                    *depth -= 1;
                    2
                }
                _ => 1,
            };
            line.comment.extend(&rest[..taken]);
            if matches!(state, State::Block { depth: 0 }) {
                *state = State::Code;
            }
            taken
        }
        State::Text { hashes } => step_text(*hashes, state, rest, line),
    }
}

fn step_code(state: &mut State, rest: &[char], line: &mut Line) -> usize {
    let after_word = line.code.ends_with(|last: char| last.is_alphanumeric() || last == '_');
    let prefixed = ["b", "c"].iter().any(|prefix| {
        let before = line.code.strip_suffix(prefix);
        before
            .is_some_and(|code| !code.ends_with(|last: char| last.is_alphanumeric() || last == '_'))
    });
    match rest {
        ['/', '/', ..] => {
            *state = State::Comment;
            2
        }
        ['/', '*', ..] => {
            *state = State::Block { depth: 1 };
            2
        }
        ['"', ..] => {
            *state = State::Text { hashes: None };
            line.code.push('"');
            1
        }
        ['r', following @ ..] if !after_word || prefixed => {
            let hashes = following.iter().take_while(|next| **next == '#').count();
            if following.get(hashes) != Some(&'"') {
                line.code.push('r');
                return 1;
            }
            *state = State::Text { hashes: Some(hashes) };
            line.code.push('"');
            hashes + 2
        }
        ['\'', '\\', ..] => {
            line.code.push_str("'_'");
            let end = rest.iter().skip(3).position(|next| *next == '\'');
            end.map_or(rest.len(), |end| end + 4)
        }
        ['\'', _, '\'', ..] => {
            line.code.push_str("'_'");
            3
        }
        _ => {
            line.code.push(rest[0]);
            1
        }
    }
}

fn step_text(hashes: Option<usize>, state: &mut State, rest: &[char], line: &mut Line) -> usize {
    let closing = hashes.unwrap_or(0);
    let closes =
        rest[0] == '"' && rest.len() > closing && rest[1..=closing].iter().all(|next| *next == '#');
    if closes {
        *state = State::Code;
        line.code.push('"');
        return closing + 1;
    }
    line.code.push(if rest[0].is_whitespace() { ' ' } else { '_' });
    if hashes.is_none() && rest[0] == '\\' { rest.len().min(2) } else { 1 }
}

/// Marks the items under `#[cfg(test)]`: up to their closing brace, or their semicolon.
fn mark_tests(lines: &mut [Line]) {
    let mut at = 0;
    while at < lines.len() {
        if !lines[at].code.trim_start().starts_with("#[cfg(test)]") {
            at += 1;
            continue;
        }
        let end = item_end(lines, at);
        lines[at..=end].iter_mut().for_each(|line| line.test = true);
        at = end + 1;
    }
}

/// The last line of the item that begins at `start`.
pub(crate) fn item_end(lines: &[Line], start: usize) -> usize {
    let mut depth = 0_i32;
    let mut opened = false;
    for (at, line) in lines.iter().enumerate().skip(start) {
        for char in line.code.chars() {
            match char {
                '{' => opened = true,
                ';' if depth == 0 => return at,
                _ => {}
            }
            depth += match char {
                '{' | '(' | '[' => 1,
                '}' | ')' | ']' => -1,
                _ => 0,
            };
            if opened && depth == 0 && char == '}' {
                return at;
            }
        }
    }
    lines.len().saturating_sub(1)
}

/// Whether a word occurs in code, not as a part of another one.
pub(crate) fn has_word(code: &str, word: &str) -> bool {
    let part = |char: char| char.is_alphanumeric() || char == '_';
    code.match_indices(word)
        .any(|(at, _)| !code[..at].ends_with(part) && !code[at + word.len()..].starts_with(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_comments_are_told_apart() {
        let check = |text: &str, code: &str, comment: &str| {
            let lines = lines(text);
            let got: Vec<&str> = lines.iter().map(|line| &*line.code).collect();
            assert_eq!(got.join("|"), code, "{text}");
            let got: Vec<&str> = lines.iter().map(|line| &*line.comment).collect();
            assert_eq!(got.join("|"), comment, "{text}");
        };
        check("let a = 1; // one", "let a = 1; ", " one");
        check("//! what\nfn f() {}", "|fn f() {}", "! what|");
        check("a /* b /* c */ d */ e", "a  e", " b /* c */ d */");
        check("f(\"// no \\\" x\") // y", "f(\"__ __ _ _\") ", " y");
        check("r#\"a \" // b\"# + br\"c\"", "\"_ _ __ _\" + b\"_\"", "");
        check("'\"' + '\\'' + b'x' + 'a: loop", "'_' + '_' + b'_' + 'a: loop", "");
        check("\"two\nlines\" // c", "\"___|_____\" ", "| c");
        check("for_r\"x\"", "for_r\"_\"", "");
    }

    #[test]
    fn items_for_tests_are_marked() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() {}\n}\nfn c() {}\n#[cfg(test)]\nmod d;\nfn e() {}";
        let marked: Vec<bool> = lines(text).iter().map(|line| line.test).collect();
        assert_eq!(marked, [false, true, true, true, true, false, true, true, false]);
    }

    #[test]
    fn words_are_whole() {
        assert!(has_word("unsafe { }", "unsafe"));
        assert!(!has_word("unsafe_code", "unsafe"));
        assert!(!has_word("not_unsafe", "unsafe"));
    }
}
