//! A SHA-256 digest, so that weights and keys are named by what they are and not by where they
//! were found.
//!
//! Written as `sha256:` and 64 hexadecimal digits; [`Digest::from_hex`] reads the digits alone.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The `format` of digests in the schemas.
pub(crate) const FORMAT: &str = "sha256-digest";

/// Hexadecimal digits of a SHA-256 digest.
const HEX_LEN: usize = 64;

/// The 32 bytes of a SHA-256 digest.
#[derive(Clone, Copy, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

/// Why a text is not a digest.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum DigestError {
    /// The algorithm is missing or another one.
    #[error("a digest starts with `sha256:`; write `sha256:` and 64 hexadecimal digits")]
    Algorithm,
    /// There are too many digits or too few.
    #[error("a SHA-256 digest has 64 hexadecimal digits, this one has {0}")]
    Length(usize),
    /// A character is none of 0-9 and a-f.
    #[error("`{0}` is not a hexadecimal digit; write 64 of 0-9 and a-f")]
    Digit(char),
}

impl Digest {
    /// The digest with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads 64 hexadecimal digits without the `sha256:` in front.
    ///
    /// # Errors
    /// [`DigestError::Length`] or [`DigestError::Digit`].
    pub fn from_hex(hex: &str) -> Result<Self, DigestError> {
        if let Some(bad) = hex.chars().find(|digit| !digit.is_ascii_hexdigit()) {
            return Err(DigestError::Digit(bad));
        }
        if hex.len() != HEX_LEN {
            return Err(DigestError::Length(hex.len()));
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            *byte = pair.iter().fold(0, |value, &digit| value << 4 | nibble(digit));
        }
        Ok(Self(bytes))
    }

    /// The bytes.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hexadecimal digits, in lower case.
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |value: u8| char::from(DIGITS[usize::from(value & 15)]);
        self.0.iter().flat_map(|&byte| [digit(byte >> 4), digit(byte)]).collect()
    }
}

/// The value of a digit that is known to be hexadecimal.
const fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        Self::from_hex(text.strip_prefix("sha256:").ok_or(DigestError::Algorithm)?)
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl JsonSchema for Digest {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Digest".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": FORMAT, "pattern": "^sha256:[0-9a-fA-F]{64}$" })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_that_are_no_digest() {
        let check = |text: &str, expect: DigestError| {
            assert_eq!(text.parse::<Digest>(), Err(expect), "{text}");
        };
        check("", DigestError::Algorithm);
        check("md5:00", DigestError::Algorithm);
        check("sha256:", DigestError::Length(0));
        check(&format!("sha256:{}", "0".repeat(63)), DigestError::Length(63));
        check(&format!("sha256:{}", "0".repeat(65)), DigestError::Length(65));
        check(&format!("sha256:{}g", "0".repeat(63)), DigestError::Digit('g'));
        check(&format!("sha256:{}é", "0".repeat(62)), DigestError::Digit('é'));
    }

    #[test]
    fn digits_are_read_in_either_case() {
        let upper = Digest::from_hex(&"AF".repeat(32)).unwrap();
        assert_eq!(upper.bytes(), &[0xaf; 32]);
        assert_eq!(upper.hex(), "af".repeat(32));
    }

    proptest! {
        #[test]
        fn every_digest_reads_back(bytes: [u8; 32]) {
            let digest = Digest::from_bytes(bytes);
            prop_assert_eq!(digest.to_string().parse(), Ok(digest));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<Digest>();
            let _ = Digest::from_hex(&text);
        }
    }
}
