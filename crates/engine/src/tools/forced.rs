//! A forced call as it streams: the grammar makes the answer `{"name": …, "arguments": …}`, and the
//! client wants the name first and the arguments piece by piece.

use serde_json::Value;

/// Reads a forced call from pieces of text.
#[derive(Debug, Default)]
pub struct Forced {
    text: String,
    /// Where the arguments begin, once the name is known.
    arguments: Option<usize>,
    /// How much of the arguments was given out.
    given: usize,
}

/// What a piece brought.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Parts {
    /// The function's name, once.
    pub name: Option<String>,
    /// More of the arguments.
    pub arguments: String,
}

impl Forced {
    /// Takes in a piece.
    pub fn push(&mut self, piece: &str) -> Parts {
        self.text.push_str(piece);
        let mut parts = Parts::default();
        if self.arguments.is_none()
            && let Some((name, at)) = head(&self.text)
        {
            parts.name = Some(name);
            self.arguments = Some(at);
        }
        if let Some(begin) = self.arguments {
            // Closing braces may be the outer object's: they wait for what comes after.
            let known = &self.text[begin..];
            let certain = known.trim_end_matches(['}', ' ', '\n', '\r', '\t']).len();
            if certain > self.given {
                known[self.given..certain].clone_into(&mut parts.arguments);
                self.given = certain;
            }
        }
        parts
    }

    /// The rest of the arguments, without the outer object's brace, which a cut-off answer lacks.
    pub fn finish(&mut self) -> String {
        let Some(begin) = self.arguments else { return String::new() };
        let held = self.text[begin + self.given..].trim_end();
        let whole = serde_json::from_str::<Value>(&self.text).is_ok();
        let rest = if whole { held.strip_suffix('}').unwrap_or(held) } else { held };
        self.given = self.text.len() - begin;
        rest.trim_end().to_owned()
    }
}

/// The name, and where the arguments begin.
fn head(text: &str) -> Option<(String, usize)> {
    let rest = after(text, "{")?;
    let rest = after(after(rest, "\"name\"")?, ":")?;
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<String>();
    let name = values.next()?.ok()?;
    let rest = after(&rest[values.byte_offset()..], ",")?;
    let rest = after(after(rest, "\"arguments\"")?, ":")?;
    Some((name, text.len() - rest.trim_start().len()))
}

fn after<'a>(text: &'a str, what: &str) -> Option<&'a str> {
    text.trim_start().strip_prefix(what)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(pieces: &[&str]) -> (Option<String>, String) {
        let mut forced = Forced::default();
        let (mut name, mut arguments) = (None, String::new());
        for piece in pieces {
            let parts = forced.push(piece);
            name = name.or(parts.name);
            arguments.push_str(&parts.arguments);
        }
        arguments.push_str(&forced.finish());
        (name, arguments)
    }

    proptest! {
        #[test]
        fn any_cut_gives_name_and_arguments(inner in "[a-z}{ \\\\\"]{0,12}", deep: bool, space: bool, cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
            let value = if deep { serde_json::json!({"q": {"r": inner}}) } else { serde_json::json!({"q": inner}) };
            let gap = if space { " " } else { "" };
            let text = format!("{{{gap}\"name\":{gap}\"look\\u0075p\",{gap}\"arguments\":{gap}{value}{gap}}}");
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len())).collect();
            at.extend([0, text.len()]);
            at.sort_unstable();
            let pieces: Vec<&str> = at.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            let (name, arguments) = read(&pieces);
            prop_assert_eq!(name.as_deref(), Some("lookup"));
            prop_assert_eq!(serde_json::from_str::<Value>(&arguments).unwrap(), value);
        }
    }

    #[test]
    fn a_cut_off_call_gives_what_there_is() {
        assert_eq!(
            read(&["{\"name\":\"f\",\"arguments\":{\"q\":\"ab"]),
            (Some("f".to_owned()), "{\"q\":\"ab".to_owned())
        );
        assert_eq!(read(&["{\"na"]), (None, String::new()));
    }
}
