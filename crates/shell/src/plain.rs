//! Text of strangers made fit to be shown: what would move a terminal's cursor, colour what follows or
//! turn its direction is written out instead.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with line breaks and tabs as they are.
pub fn lines(text: &str) -> Cow<'_, str> {
    written_out(text, |c| c != '\n' && c != '\t')
}

/// The text as one line.
pub fn line(text: &str) -> Cow<'_, str> {
    written_out(text, |_| true)
}

fn written_out(text: &str, also: impl Fn(char) -> bool) -> Cow<'_, str> {
    let is_bad = |c: char| (c.is_control() && also(c)) || turns(c);
    if !text.contains(is_bad) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_bad(c) {
            // Writing to a text cannot fail.
            let _ = write!(plain, "{}", c.escape_default());
        } else {
            plain.push(c);
        }
    }
    Cow::Owned(plain)
}

/// Characters that turn the direction of those that follow, so that a text reads as another one.
const fn turns(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_written_out() {
        let check = |text: &str, as_lines: &str, as_line: &str| {
            assert_eq!((lines(text).as_ref(), line(text).as_ref()), (as_lines, as_line));
        };
        check("Qwen/Qwen3-8B ä 你好", "Qwen/Qwen3-8B ä 你好", "Qwen/Qwen3-8B ä 你好");
        check("\x1b[2Jm", "\\u{1b}[2Jm", "\\u{1b}[2Jm");
        check("a\rb\x07\u{9b}1m\x7f", "a\\rb\\u{7}\\u{9b}1m\\u{7f}", "a\\rb\\u{7}\\u{9b}1m\\u{7f}");
        check("a\n\tb", "a\n\tb", "a\\n\\tb");
        check("a\u{202e}b", "a\\u{202e}b", "a\\u{202e}b");
    }
}
