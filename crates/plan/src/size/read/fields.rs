//! A JSON object of a stranger, field by field: under several names, with limits, and errors that
//! name the field.

use serde_json::{Map, Value};

use super::ReadError;

/// Bytes of a `config.json`; the largest real ones list thousands of class names.
const BYTES_MAX: usize = 8 << 20;

/// An object with the name of its file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    what: &'static str,
    object: &'a Map<String, Value>,
}

/// Parses an object as Python writes it, where `Infinity` and `NaN` are numbers: they become
/// `null`.
pub(super) fn parse(what: &'static str, bytes: &[u8]) -> Result<Map<String, Value>, ReadError> {
    if bytes.len() > BYTES_MAX {
        let (bytes, max) = (bytes.len() as u64, BYTES_MAX as u64);
        return Err(ReadError::TooLarge { what, bytes, max });
    }
    let not_json = |reason: String| ReadError::NotJson { what, reason };
    match serde_json::from_slice(&without_infinities(bytes)) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(not_json(format!("it is {}", name_of(&other)))),
        Err(error) => Err(not_json(error.to_string())),
    }
}

/// The text with `NaN`, `Infinity` and `-Infinity` outside texts replaced by `null` and blanks.
fn without_infinities(bytes: &[u8]) -> Vec<u8> {
    let mut text = bytes.to_vec();
    let (mut at, mut quoted) = (0, false);
    while at < text.len() {
        match text[at] {
            b'\\' if quoted => at += 1,
            b'"' => quoted = !quoted,
            b'-' | b'I' | b'N' if !quoted => {
                for word in [&b"-Infinity"[..], b"Infinity", b"NaN"] {
                    if text[at..].starts_with(word) {
                        replace(&mut text, at, word.len());
                        break;
                    }
                }
            }
            _ => {}
        }
        at += 1;
    }
    text
}

/// Puts a value that is no number in place of a word: `0` where there is no room for `null`.
fn replace(text: &mut [u8], at: usize, length: usize) {
    let instead: &[u8] = if length >= 4 { b"null" } else { b"0" };
    text[at..at + length].fill(b' ');
    text[at..at + instead.len()].copy_from_slice(instead);
}

impl<'a> Fields<'a> {
    pub(super) const fn new(what: &'static str, object: &'a Map<String, Value>) -> Self {
        Self { what, object }
    }

    pub(super) const fn what(&self) -> &'static str {
        self.what
    }

    /// The first of several names that has a value.
    pub(super) fn get(&self, names: &[&str]) -> Option<(String, &'a Value)> {
        let found = |name: &&str| self.object.get(*name).map(|value| ((*name).to_owned(), value));
        names.iter().filter_map(found).find(|(_, value)| !value.is_null())
    }

    /// A whole number within limits; `None` where there is none, and where it is `null`.
    pub(super) fn number(&self, names: &[&str], max: u64) -> Result<Option<u64>, ReadError> {
        let Some((field, value)) = self.get(names) else { return Ok(None) };
        // Some tools write whole numbers as 4096.0.
        let whole = value.as_u64().or_else(|| {
            value
                .as_f64()
                .filter(|number| number.fract() == 0.0 && *number >= 0.0)
                .map(|n| n as u64)
        });
        match whole {
            Some(number) if number <= max => Ok(Some(number)),
            _ if value.is_number() => Err(self.out_of_range(field, value, max)),
            _ => Err(self.wrong_type(field, "a whole number", value)),
        }
    }

    /// As [`Self::number`], and at least one.
    pub(super) fn positive(&self, names: &[&str], max: u64) -> Result<Option<u64>, ReadError> {
        match self.number(names, max)? {
            Some(0) => {
                let field = self.get(names).map_or_else(String::new, |(field, _)| field);
                Err(self.out_of_range(field, &Value::from(0), max))
            }
            other => Ok(other),
        }
    }

    /// A number that must be there and at least one.
    pub(super) fn required(&self, names: &[&str], max: u64) -> Result<u64, ReadError> {
        self.positive(names, max)?.ok_or_else(|| self.missing(names))
    }

    pub(super) fn missing(&self, names: &[&str]) -> ReadError {
        ReadError::Missing {
            what: self.what,
            field: names.first().copied().unwrap_or_default().to_owned(),
            fix: "take the file that came with the weights",
        }
    }

    /// A text.
    pub(super) fn text(&self, names: &[&str]) -> Option<&'a str> {
        self.get(names)?.1.as_str()
    }

    /// Yes or no; a number counts as yes where it is not 0.
    pub(super) fn flag(&self, names: &[&str]) -> Option<bool> {
        let (_, value) = self.get(names)?;
        value.as_bool().or_else(|| value.as_u64().map(|number| number != 0))
    }

    /// A list.
    pub(super) fn list(&self, names: &[&str]) -> Option<&'a [Value]> {
        self.get(names)?.1.as_array().map(Vec::as_slice)
    }

    /// An object inside.
    pub(super) fn object(&self, names: &[&str]) -> Option<Self> {
        let (_, value) = self.get(names)?;
        Some(Self { what: self.what, object: value.as_object()? })
    }

    /// The names it has.
    pub(super) fn values(&self) -> impl Iterator<Item = &'a Value> {
        self.object.values()
    }

    pub(super) fn unknown_word(
        &self,
        field: String,
        value: &str,
        known: &'static str,
    ) -> ReadError {
        let value = value.chars().take(32).filter(|letter| !letter.is_control()).collect();
        ReadError::UnknownWord { what: self.what, field, value, known }
    }

    fn out_of_range(&self, field: String, value: &Value, max: u64) -> ReadError {
        let value = shortened(value);
        ReadError::OutOfRange { what: self.what, field, value, min: 1, max }
    }

    pub(super) fn wrong_type(
        &self,
        field: String,
        expected: &'static str,
        value: &Value,
    ) -> ReadError {
        ReadError::WrongType { what: self.what, field, expected, found: name_of(value).to_owned() }
    }
}

/// A number as text; none that anybody would have to read for long.
fn shortened(value: &Value) -> String {
    value.to_string().chars().take(32).collect()
}

const fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_writes_infinities() {
        let check = |text: &str, expect: Option<&str>| {
            let parsed = parse("it", text.as_bytes()).ok();
            let parsed = parsed.map(|object| Value::Object(object).to_string());
            assert_eq!(parsed.as_deref(), expect, "{text}");
        };
        check(r#"{"a":[0.0,Infinity]}"#, Some(r#"{"a":[0.0,null]}"#));
        check(r#"{"a":-Infinity,"b":NaN}"#, Some(r#"{"a":null,"b":0}"#));
        check(r#"{"a":"Infinity \" NaN"}"#, Some(r#"{"a":"Infinity \" NaN"}"#));
        check(r#"{"a":I}"#, None);
        check("[1]", None);
        check("", None);
        check(&format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)), None);
    }

    #[test]
    fn numbers_have_limits() {
        let object = parse(
            "it",
            br#"{"a":3,"b":-1,"c":"3","d":9223372036854775807,"e":4.0,"f":null,"g":0}"#,
        );
        let object = object.unwrap();
        let fields = Fields::new("it", &object);
        let check = |name: &str, expect: Result<Option<u64>, &str>| {
            let found = fields.positive(&[name], 100).map_err(|error| error.to_string());
            match expect {
                Ok(value) => assert_eq!(found, Ok(value), "{name}"),
                Err(part) => assert!(found.unwrap_err().contains(part), "{name}"),
            }
        };
        check("a", Ok(Some(3)));
        check("b", Err("`b` in it is -1, which must be 1 to 100"));
        check("c", Err("`c` in it is a text, not a whole number"));
        check("d", Err("9223372036854775807"));
        check("e", Ok(Some(4)));
        check("f", Ok(None));
        check("g", Err("`g` in it is 0"));
        check("h", Ok(None));
    }
}
