//! An issuer's public keys (a JSON Web Key Set), each of one type that only its own algorithms fit.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use serde::Deserialize;
use thiserror::Error;

use super::{Algorithm, JwtError};

/// Most keys of one issuer: several generations for each algorithm.
pub const JWKS_KEYS_MAX: usize = 64;

/// Bytes of an RSA modulus: 2048 to 8192 bits, what the cryptography takes.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// The public keys of an issuer.
#[derive(Clone, Debug)]
pub struct KeySet {
    pub(super) keys: Vec<Key>,
}

/// Why a text is no set of keys.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum KeySetError {
    /// It is not the JSON that RFC 7517 describes.
    #[error("the key set is not JSON of the form `{{\"keys\": [{{\"kty\": …}}]}}`")]
    Malformed,
    /// There are too many.
    #[error("the key set has {0} keys, at most {JWKS_KEYS_MAX} are read")]
    TooMany(usize),
    /// None of them verifies signatures.
    #[error("none of the {0} keys verifies signatures of an algorithm that is accepted")]
    Useless(usize),
}

#[derive(Clone, Debug)]
pub(super) struct Key {
    id: Option<String>,
    /// The one algorithm that the issuer wants it for, if it says so.
    only: Option<Algorithm>,
    material: Material,
}

#[derive(Clone, Debug)]
enum Material {
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// How a signature is held against a key of the type that the algorithm is for.
enum Check<'a> {
    Rsa(&'a RsaPublicKeyComponents<Vec<u8>>, &'static RsaParameters),
    Point(&'a [u8], &'static dyn VerificationAlgorithm),
}

/// A key as the issuer writes it, without what is of no use here.
#[derive(Deserialize)]
struct Written {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads the JSON of a key set. Keys for other purposes or of types that are not known are
    /// passed over, as RFC 7517 wants; so are secrets, which have no place in it.
    ///
    /// # Errors
    /// It is malformed, or holds no key that is of use.
    pub fn parse(json: &[u8]) -> Result<Self, KeySetError> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let set: Set = serde_json::from_slice(json).map_err(|_| KeySetError::Malformed)?;
        let count = set.keys.len();
        if count > JWKS_KEYS_MAX {
            return Err(KeySetError::TooMany(count));
        }
        let read = |value| serde_json::from_value::<Written>(value).ok();
        let keys: Vec<Key> = set.keys.into_iter().filter_map(read).filter_map(Key::of).collect();
        if keys.is_empty() { Err(KeySetError::Useless(count)) } else { Ok(Self { keys }) }
    }

    /// Whether there is a key of that name; a token without a name is content with any.
    pub fn has(&self, key_id: Option<&str>) -> bool {
        key_id.is_none() || self.keys.iter().any(|key| key.id.as_deref() == key_id)
    }

    pub(super) fn find(
        &self,
        key_id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<&Key, JwtError> {
        if !self.has(key_id) {
            return Err(JwtError::UnknownKey);
        }
        let named = |key: &&Key| key_id.is_none() || key.id.as_deref() == key_id;
        let mut fitting =
            self.keys.iter().filter(named).filter(|key| key.check(algorithm).is_some());
        let first = fitting.next().ok_or(JwtError::KeyMismatch)?;
        if key_id.is_none() && fitting.next().is_some() {
            return Err(JwtError::NoKeyId);
        }
        Ok(first)
    }
}

impl Key {
    fn of(written: Written) -> Option<Self> {
        let verifies =
            written.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !verifies || written.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let only = match &written.alg {
            None => None,
            Some(name) => Some(Algorithm::parse(name)?),
        };
        let material = Material::of(&written)?;
        Some(Self { id: written.kid, only, material })
    }

    pub(super) fn verify(
        &self,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), JwtError> {
        let checked = match self.check(algorithm).ok_or(JwtError::KeyMismatch)? {
            Check::Rsa(key, parameters) => key.verify(parameters, message, signature),
            Check::Point(key, parameters) => {
                UnparsedPublicKey::new(parameters, key).verify(message, signature)
            }
        };
        checked.map_err(|_| JwtError::Signature)
    }

    /// How to check a signature of that algorithm; not at all when it is not the key's own.
    fn check(&self, algorithm: Algorithm) -> Option<Check<'_>> {
        use Algorithm as A;
        if self.only.is_some_and(|only| only != algorithm) {
            return None;
        }
        Some(match (&self.material, algorithm) {
            (Material::Rsa(key), A::Rs256) => {
                Check::Rsa(key, &signature::RSA_PKCS1_2048_8192_SHA256)
            }
            (Material::Rsa(key), A::Rs384) => {
                Check::Rsa(key, &signature::RSA_PKCS1_2048_8192_SHA384)
            }
            (Material::Rsa(key), A::Rs512) => {
                Check::Rsa(key, &signature::RSA_PKCS1_2048_8192_SHA512)
            }
            (Material::Rsa(key), A::Ps256) => Check::Rsa(key, &signature::RSA_PSS_2048_8192_SHA256),
            (Material::Rsa(key), A::Ps384) => Check::Rsa(key, &signature::RSA_PSS_2048_8192_SHA384),
            (Material::Rsa(key), A::Ps512) => Check::Rsa(key, &signature::RSA_PSS_2048_8192_SHA512),
            (Material::P256(key), A::Es256) => {
                Check::Point(key, &signature::ECDSA_P256_SHA256_FIXED)
            }
            (Material::P384(key), A::Es384) => {
                Check::Point(key, &signature::ECDSA_P384_SHA384_FIXED)
            }
            (Material::Ed25519(key), A::EdDsa) => Check::Point(key, &signature::ED25519),
            _ => return None,
        })
    }
}

impl Material {
    fn of(written: &Written) -> Option<Self> {
        let number = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?).ok();
        match (written.kty.as_str(), written.crv.as_deref()) {
            ("RSA", _) => {
                let n = without_zeros(number(&written.n)?);
                let e = without_zeros(number(&written.e)?);
                RSA_BYTES.contains(&n.len()).then_some(Self::Rsa(RsaPublicKeyComponents { n, e }))
            }
            ("EC", Some("P-256")) => {
                point(number(&written.x)?, &number(&written.y)?, 32).map(Self::P256)
            }
            ("EC", Some("P-384")) => {
                point(number(&written.x)?, &number(&written.y)?, 48).map(Self::P384)
            }
            ("OKP", Some("Ed25519")) => {
                number(&written.x).filter(|x| x.len() == 32).map(Self::Ed25519)
            }
            _ => None,
        }
    }
}

/// An uncompressed point, as SEC 1 writes it.
fn point(x: Vec<u8>, y: &[u8], bytes: usize) -> Option<Vec<u8>> {
    let fits = x.len() == bytes && y.len() == bytes;
    fits.then(|| [&[4], x.as_slice(), y].concat())
}

/// Some issuers write numbers with a zero byte in front, which the cryptography does not take.
fn without_zeros(mut number: Vec<u8>) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.drain(..zeros);
    number
}
