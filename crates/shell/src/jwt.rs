//! JSON Web Tokens: read, held against their issuer's public keys, then against time and audience.
//!
//! Nothing that a token says is believed before its signature held, except its issuer's name and
//! its key's, by which the key is looked up. The algorithm must be that of the key: a key is never
//! taken for what it is not, and neither "none" nor a shared secret is ever a signature. No error
//! quotes a token.

mod keys;
#[cfg(test)]
mod tests;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use thiserror::Error;

use crate::date;
use crate::wall::Moment;

pub use keys::{JWKS_KEYS_MAX, KeySet, KeySetError};

/// How a token is signed: what both the standard and the cryptography in this program have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Algorithm {
    /// RSA with PKCS #1 v1.5 padding and SHA-256.
    Rs256,
    /// The same with SHA-384.
    Rs384,
    /// The same with SHA-512.
    Rs512,
    /// RSA with PSS padding and SHA-256.
    Ps256,
    /// The same with SHA-384.
    Ps384,
    /// The same with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

/// Why a token is refused.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum JwtError {
    /// It is too long.
    #[error("the token has {bytes} bytes, at most {max} are read; ask for one with fewer claims")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The longest that is read.
        max: usize,
    },
    /// It cannot be read; the text says which part.
    #[error("the token is malformed: {0}; send it as its issuer made it")]
    Malformed(&'static str),
    /// It says that it is not signed.
    #[error("the token is not signed; send one that its issuer signed")]
    Unsigned,
    /// It is signed in a way that is not accepted, such as with a shared secret.
    #[error(
        "the token's algorithm is not accepted; its issuer must sign with RS256, RS384, RS512, \
         PS256, PS384, PS512, ES256, ES384 or EdDSA"
    )]
    Algorithm,
    /// It is another kind of token, for another use.
    #[error("the token is of a type that proves no identity; send an ID token or an access token")]
    Type,
    /// It asks for extensions.
    #[error("the token needs extensions (`crit`), none of which is supported")]
    Critical,
    /// Its issuer has no key of that name.
    #[error(
        "the token's key is none of its issuer's; get a new token, and if that is refused too, \
         retry in a minute"
    )]
    UnknownKey,
    /// Its issuer has several keys, and it names none.
    #[error("the token does not say by which of its issuer's keys it is signed (`kid`)")]
    NoKeyId,
    /// The key is for another algorithm.
    #[error("the token's algorithm is not that of its key")]
    KeyMismatch,
    /// Somebody else made it, or it was changed.
    #[error("the token's signature is wrong")]
    Signature,
    /// It would hold forever.
    #[error("the token does not say when it expires (`exp`); tokens without an end are refused")]
    NoExpiry,
    /// It is over.
    #[error("the token expired at {at}; get a new one")]
    Expired {
        /// When, as RFC 3339.
        at: String,
    },
    /// It begins later.
    #[error("the token is not valid before {at}; if it is new, the clocks differ")]
    NotYet {
        /// When, as RFC 3339.
        at: String,
    },
}

/// A token that was read and is not believed yet.
#[derive(Debug)]
pub struct Token<'a> {
    algorithm: Algorithm,
    key_id: Option<String>,
    issuer: String,
    claims: Value,
    /// Header and claims as they came, which is what is signed.
    signed: &'a str,
    signature: Vec<u8>,
}

/// What a token says, its signature being right.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims(Value);

/// Whether a text has the form of a token: three parts of base64url, of which the last may be empty.
pub fn looks_like(text: &str) -> bool {
    let is_part = |part: &str| {
        part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let parts: Vec<&str> = text.splitn(4, '.').collect();
    match parts.as_slice() {
        [header, claims, signature] => {
            !header.is_empty()
                && !claims.is_empty()
                && [header, claims, signature].into_iter().all(|part| is_part(part))
        }
        _ => false,
    }
}

impl<'a> Token<'a> {
    /// Reads a token of at most `bytes_max`.
    ///
    /// # Errors
    /// It is too long, malformed, or its header says that it cannot be accepted.
    pub fn read(text: &'a str, bytes_max: usize) -> Result<Self, JwtError> {
        if text.len() > bytes_max {
            return Err(JwtError::TooLarge { bytes: text.len(), max: bytes_max });
        }
        let parts = text.rsplit_once('.').and_then(|(signed, signature)| {
            let (header, claims) = signed.split_once('.')?;
            Some((signed, header, claims, signature))
        });
        let Some((signed, header, claims, signature)) = parts else {
            return Err(JwtError::Malformed("it has not three parts"));
        };
        let header = object(header).ok_or(JwtError::Malformed("its header is no JSON object"))?;
        let claims = object(claims).ok_or(JwtError::Malformed("its claims are no JSON object"))?;
        let algorithm = algorithm(&header)?;
        let signature = URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| JwtError::Malformed("its signature is no base64url"))?;
        let issuer = text_of(&claims, "iss", "its issuer (`iss`) is no text")?;
        let issuer = issuer.ok_or(JwtError::Malformed("it names no issuer (`iss`)"))?;
        let key_id = text_of(&header, "kid", "its key's name (`kid`) is no text")?;
        Ok(Self { algorithm, key_id, issuer, claims, signed, signature })
    }

    /// Who made it, as it says itself.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// By which key, as it says itself.
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// Its claims, once its signature is right.
    ///
    /// # Errors
    /// No key fits, or the signature is not of this key and these claims.
    pub fn verify(self, keys: &KeySet) -> Result<Claims, JwtError> {
        let key = keys.find(self.key_id(), self.algorithm)?;
        key.verify(self.algorithm, self.signed.as_bytes(), &self.signature)?;
        Ok(Claims(self.claims))
    }
}

impl Claims {
    /// Whether the token counts at that moment, give or take `leeway` for clocks that differ.
    ///
    /// # Errors
    /// It is over, has not begun, was issued later, or has no end.
    pub fn check_times(&self, now: Moment, leeway: Duration) -> Result<(), JwtError> {
        let leeway_ms = u64::try_from(leeway.as_millis()).unwrap_or(u64::MAX);
        let expires = self.time("exp")?.ok_or(JwtError::NoExpiry)?;
        if now.is_over(expires.saturating_add(leeway_ms)) {
            return Err(JwtError::Expired { at: date::utc(expires / 1000) });
        }
        for name in ["nbf", "iat"] {
            let begins = self.time(name)?.unwrap_or_default();
            if !now.has_begun(begins.saturating_sub(leeway_ms)) {
                return Err(JwtError::NotYet { at: date::utc(begins / 1000) });
            }
        }
        Ok(())
    }

    /// Whom it is for.
    pub fn audiences(&self) -> Vec<String> {
        match &self.0["aud"] {
            Value::String(one) => vec![one.clone()],
            Value::Array(several) => {
                several.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The values of a claim, as text: of a list, its members. A name that starts with `/` is a JSON
    /// pointer to a claim inside of others. Objects, fractions and null have no value.
    pub fn values(&self, name: &str) -> Vec<String> {
        let found = if name.starts_with('/') { self.0.pointer(name) } else { self.0.get(name) };
        match found {
            Some(Value::Array(several)) => several.iter().filter_map(as_text).collect(),
            Some(one) => as_text(one).into_iter().collect(),
            None => Vec::new(),
        }
    }

    /// Milliseconds since 1970; a moment before that is at 1970.
    fn time(&self, name: &str) -> Result<Option<u64>, JwtError> {
        /// What a float of 64 bits holds exactly, and far beyond the year 9999.
        const SECONDS_MAX: f64 = 1e12;
        match self.0.get(name) {
            None => Ok(None),
            Some(value) => {
                let seconds = value
                    .as_f64()
                    .ok_or(JwtError::Malformed("`exp`, `nbf` or `iat` is no number"))?;
                Ok(Some((seconds.clamp(0.0, SECONDS_MAX) * 1000.0) as u64))
            }
        }
    }
}

fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn object(part: &str) -> Option<Value> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice::<Value>(&bytes).ok().filter(Value::is_object)
}

/// The text of a field that may be missing, but not be something else.
fn text_of(object: &Value, name: &str, wrong: &'static str) -> Result<Option<String>, JwtError> {
    match object.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(JwtError::Malformed(wrong)),
    }
}

/// The algorithm in a header, if the header asks for nothing that is not understood.
fn algorithm(header: &Value) -> Result<Algorithm, JwtError> {
    if header.get("crit").is_some() {
        return Err(JwtError::Critical);
    }
    // A logout token or a security event is signed by the same keys, and is no proof of identity.
    let kind = text_of(header, "typ", "its type (`typ`) is no text")?;
    let proves = |kind: &str| {
        let kind = kind.to_ascii_lowercase();
        matches!(kind.strip_prefix("application/").unwrap_or(&kind), "jwt" | "at+jwt")
    };
    if !kind.as_deref().is_none_or(proves) {
        return Err(JwtError::Type);
    }
    let name = text_of(header, "alg", "its algorithm (`alg`) is no text")?;
    let name = name.ok_or(JwtError::Malformed("it names no algorithm (`alg`)"))?;
    if name.eq_ignore_ascii_case("none") {
        return Err(JwtError::Unsigned);
    }
    Algorithm::parse(&name).ok_or(JwtError::Algorithm)
}

impl Algorithm {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "EdDSA" | "Ed25519" => Self::EdDsa,
            _ => return None,
        })
    }
}
