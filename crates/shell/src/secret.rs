//! Secrets: made from the system's randomness, compared in constant time, kept as hashes, and
//! never shown by accident.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Random bytes in a generated key: 256 bits, beyond any guessing.
const KEY_BYTES: usize = 32;

/// A text that debug output, logs and errors show as dots.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(String);

/// A SHA-256, which is all that is kept of a key. Keys are random and long, so that no slow hash
/// is needed against guessing.
#[derive(Clone, Copy, Debug)]
pub struct KeyHash([u8; 32]);

impl Secret {
    /// Wraps a text.
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// A new random key, `pk-` and 64 hexadecimal digits.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn generate() -> std::io::Result<Self> {
        let mut bytes = [0; KEY_BYTES];
        getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
        Ok(Self(format!("pk-{}", hex(&bytes))))
    }

    /// The text itself, for the one who must send or show it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Its hash.
    pub fn hash(&self) -> KeyHash {
        KeyHash::of(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl KeyHash {
    /// The hash of a key as it was sent.
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    /// A hash that was stored.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, to store it or to find it by.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether the two are equal, in a time that does not depend on where they differ.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_long_random_and_hidden() {
        let key = Secret::generate().unwrap();
        assert_eq!(key.expose().len(), 3 + 64);
        assert_ne!(key, Secret::generate().unwrap());
        assert!(!format!("{key:?}").contains(key.expose()));
    }

    #[test]
    fn hashes_match_only_their_key() {
        let key = Secret::new("abc".to_owned());
        assert!(key.hash().matches(&KeyHash::of("abc")));
        assert!(!key.hash().matches(&KeyHash::of("abd")));
        let KeyHash(bytes) = key.hash();
        assert!(hex(&bytes).starts_with("ba7816bf"), "SHA-256 of abc, FIPS 180-2 appendix B.1");
    }
}
