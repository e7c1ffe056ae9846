//! Words that travel with every request: names that are cheap to copy, and tags that are plain
//! values, so that a decision allocates nothing for them.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// A name of a model, a rule or an experiment, shared instead of copied.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Name(Arc<str>);

/// The name that stands for every name that no route has. As that of a lane's model it says that requests
/// go there with the name that they came with.
pub const ANY: &str = "*";

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Name {
    fn default() -> Self {
        Self("".into())
    }
}

/// Names are looked up by text, without making one.
impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl std::ops::Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(text.into()))
    }
}

/// The most bytes of a tag.
pub const TAG_BYTES_MAX: usize = 15;

/// A short lower-case word: a language (`de`, `pt-br`) or a tier (`premium`).
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Tag {
    bytes: [u8; TAG_BYTES_MAX],
    len: u8,
}

/// Why a text is no tag.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("a tag is 1 to {TAG_BYTES_MAX} letters, digits, `-`, `_` or `.`")]
pub struct TagError;

impl Tag {
    /// The tag of a text; capitals become small.
    pub fn new(text: &str) -> Result<Self, TagError> {
        let fits = (1..=TAG_BYTES_MAX).contains(&text.len());
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if !fits || !text.bytes().all(plain) {
            return Err(TagError);
        }
        let mut bytes = [0; TAG_BYTES_MAX];
        for (at, byte) in bytes.iter_mut().zip(text.bytes()) {
            *at = byte.to_ascii_lowercase();
        }
        Ok(Self { bytes, len: u8::try_from(text.len()).map_err(|_| TagError)? })
    }

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.len)).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Tag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_short_plain_words() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(Tag::new(text).ok().as_ref().map(Tag::as_str), expect, "{text}");
        };
        check("de", Some("de"));
        check("PT-br", Some("pt-br"));
        check("zh-hans-cn-x123", Some("zh-hans-cn-x123"));
        check("zh-hans-cn-x1234", None);
        check("", None);
        check("ä", None);
        check("a b", None);
    }
}
