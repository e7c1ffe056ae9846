//! Whose signature weights must carry: an Ed25519 public key in OpenSSH's form, which everybody has or
//! makes with `ssh-keygen -t ed25519`, and with which `ssh-keygen -Y sign` signs files of any size.
//!
//! Written as in `id_ed25519.pub`: `ssh-ed25519`, the key in Base64, and a comment that is left out here.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The `format` of signers in the schemas.
pub(crate) const FORMAT: &str = "ssh-ed25519-key";

/// The name of the algorithm, in text and in the key's bytes.
const ALGORITHM: &str = "ssh-ed25519";

/// The bytes before the key itself: the lengths of name and key, four bytes each, and the name (RFC 8709).
const HEAD: &[u8; 19] = b"\0\0\0\x0bssh-ed25519\0\0\0\x20";

/// An Ed25519 public key.
#[derive(Clone, Copy, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signer([u8; 32]);

/// Why a text is no signer.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum SignerError {
    /// Another kind of key.
    #[error(
        "a signer is an Ed25519 key: `ssh-ed25519 AAAA…`, the line in a file such as id_ed25519.pub"
    )]
    Algorithm,
    /// What stands after the name is no key.
    #[error("the text after `ssh-ed25519` is not a key; copy the whole line of the .pub file")]
    Key,
}

impl Signer {
    /// The key with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key's bytes.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key in OpenSSH's binary form.
    pub fn blob(&self) -> Vec<u8> {
        [HEAD.as_slice(), &self.0].concat()
    }
}

impl FromStr for Signer {
    type Err = SignerError;

    fn from_str(text: &str) -> Result<Self, SignerError> {
        let mut words = text.split_ascii_whitespace();
        if words.next() != Some(ALGORITHM) {
            return Err(SignerError::Algorithm);
        }
        let blob = words.next().and_then(|word| STANDARD.decode(word).ok());
        let blob = blob.ok_or(SignerError::Key)?;
        let key = blob.strip_prefix(HEAD.as_slice()).ok_or(SignerError::Key)?;
        key.try_into().map(Self).map_err(|_| SignerError::Key)
    }
}

impl TryFrom<String> for Signer {
    type Error = SignerError;

    fn try_from(text: String) -> Result<Self, SignerError> {
        text.parse()
    }
}

impl From<Signer> for String {
    fn from(signer: Signer) -> Self {
        signer.to_string()
    }
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ALGORITHM} {}", STANDARD.encode(self.blob()))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl JsonSchema for Signer {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Signer".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": FORMAT, "pattern": "^ssh-ed25519 " })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_of_key_files_are_read() {
        let line =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICwF8Vna1JZtGc5/9fWzaKl0vZtdp2nj0d5yd5bVAhpa a@b";
        let signer: Signer = line.parse().unwrap();
        assert_eq!(signer.to_string(), line.strip_suffix(" a@b").unwrap());
    }

    #[test]
    fn other_texts_are_none() {
        let check = |text: &str, expect: SignerError| {
            assert_eq!(text.parse::<Signer>(), Err(expect), "{text}");
        };
        check("", SignerError::Algorithm);
        check("ssh-rsa AAAAB3NzaC1yc2E=", SignerError::Algorithm);
        check("ssh-ed25519", SignerError::Key);
        check("ssh-ed25519 ?", SignerError::Key);
        check("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA==", SignerError::Key);
    }

    proptest! {
        #[test]
        fn every_signer_reads_back(bytes: [u8; 32]) {
            let signer = Signer::from_bytes(bytes);
            prop_assert_eq!(signer.to_string().parse(), Ok(signer));
        }

        #[test]
        fn no_text_panics(text in "(ssh-ed25519 )?.{0,80}") {
            let _ = text.parse::<Signer>();
        }
    }
}
