//! Makes certificates: an authority of one's own, and what it signs, for a listener whose clients are
//! told whom to trust (an API server that is extended).
//!
//! Contract: keys are of the curve P-256 and never leave but as PEM; of a certificate of others, only
//! whom it names is read, and its signature is somebody else's to check.

mod der;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use thiserror::Error;

use crate::date;
use crate::secret::Secret;

/// Why there is no certificate.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum IssueError {
    /// The system has no randomness.
    #[error("the system gives no random bytes for a key")]
    Chance,
    /// The authority's key cannot be read.
    #[error("the authority's key cannot be used; delete it, so that another one is made")]
    Authority,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose<'a> {
    /// To sign others.
    Authority,
    /// To be a server of these names.
    Server(&'a [&'a str]),
    /// To prove to servers who one is.
    Client,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Whom it names.
    pub name: String,
    /// The certificate, PEM.
    pub certificate: String,
    /// Its key, PEM.
    pub key: Secret,
}

/// Until when, in seconds since 1970.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Validity {
    /// From then on.
    pub from: u64,
    /// And until then.
    pub until: u64,
}

impl Certificate {
    /// A certificate that its own key signs.
    ///
    /// # Errors
    /// [`IssueError::Chance`].
    pub fn authority(name: &str, validity: Validity) -> Result<Self, IssueError> {
        issue(name, Purpose::Authority, validity, None)
    }

    /// One that this authority signs.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn issue(
        &self,
        name: &str,
        purpose: Purpose<'_>,
        validity: Validity,
    ) -> Result<Self, IssueError> {
        issue(name, purpose, validity, Some(self))
    }
}

/// From when until when a certificate (DER) is valid; none where it is no certificate.
pub fn validity(certificate: &[u8]) -> Option<Validity> {
    // After serial number, algorithm and issuer.
    let span = field(certificate, 3)?;
    let mut ends = der::parts(span.content_of(der::SEQUENCE)?).flatten();
    let (from, until) = (seconds(ends.next()?)?, seconds(ends.next()?)?);
    Some(Validity { from, until })
}

/// A time of a certificate as seconds since 1970, and 1970 for what is before it (RFC 5280, 4.1.2.5).
fn seconds(time: der::Element<'_>) -> Option<u64> {
    let text = std::str::from_utf8(time.content).ok()?.strip_suffix('Z')?;
    let two = |at: usize| -> Option<u64> {
        text.get(at..at + 2)
            .filter(|pair| pair.bytes().all(|byte| byte.is_ascii_digit()))?
            .parse()
            .ok()
    };
    let (year, rest) = match (time.tag, text.len()) {
        (der::UTC_TIME, 12) => {
            (two(0).map(|year| if year < 50 { 2000 + year } else { 1900 + year })?, 2)
        }
        (der::TIME, 14) => (two(0)? * 100 + two(2)?, 4),
        _ => return None,
    };
    let [month, day, hour, minute, second] = [0, 2, 4, 6, 8].map(|at| two(rest + at));
    if year < 1970 {
        return Some(0);
    }
    let days = date::day_number(year, month?, day?)?;
    Some(days * 86_400 + hour? * 3600 + minute? * 60 + second?)
}

/// A field of a certificate's body, counted after its version.
fn field(certificate: &[u8], at: usize) -> Option<der::Element<'_>> {
    let mut parts = der::parts(der::only(certificate, der::SEQUENCE)?);
    let body = parts.next()??;
    let mut fields = der::parts(body.content_of(der::SEQUENCE)?).flatten().peekable();
    if fields.peek()?.tag == der::VERSION {
        fields.next();
    }
    fields.nth(at)
}

/// The common name of whom a certificate (DER) is of; none where it has none, or is none.
pub fn common_name(certificate: &[u8]) -> Option<String> {
    // After serial number, algorithm, issuer and validity.
    let subject = field(certificate, 4)?;
    for set in der::parts(subject.content_of(der::SEQUENCE)?).flatten() {
        for pair in der::parts(set.content_of(der::SET)?).flatten() {
            let mut pair = der::parts(pair.content_of(der::SEQUENCE)?).flatten();
            let (kind, value) = (pair.next()?, pair.next()?);
            if kind.content_of(der::OID) == Some(der::COMMON_NAME) {
                return String::from_utf8(value.content.to_vec()).ok();
            }
        }
    }
    None
}

fn issue(
    name: &str,
    purpose: Purpose<'_>,
    validity: Validity,
    authority: Option<&Certificate>,
) -> Result<Certificate, IssueError> {
    let chance = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &chance)
        .map_err(|_| IssueError::Chance)?;
    let key = pair(pkcs8.as_ref(), &chance)?;
    let signer = match authority {
        None => None,
        Some(authority) => {
            let der = PrivateKeyDer::from_pem_slice(authority.key.expose().as_bytes());
            let der = der.map_err(|_| IssueError::Authority)?;
            Some(pair(der.secret_der(), &chance)?)
        }
    };
    let mut serial = [0_u8; 16];
    chance.fill(&mut serial).map_err(|_| IssueError::Chance)?;
    // A number that is positive, and of as many bytes always.
    serial[0] = serial[0] & 0x3f | 0x40;
    let issuer = authority.map_or(name, |authority| &authority.name);
    let body = body(&serial, issuer, name, purpose, validity, key.public_key().as_ref());
    let signature = signer.as_ref().unwrap_or(&key).sign(&chance, &body);
    let signature = signature.map_err(|_| IssueError::Chance)?;
    let whole = der::sequence(&[&body, &algorithm(), &der::bits(0, signature.as_ref())]);
    Ok(Certificate {
        name: name.to_owned(),
        certificate: pem("CERTIFICATE", &whole),
        key: Secret::new(pem("PRIVATE KEY", pkcs8.as_ref())),
    })
}

fn pair(pkcs8: &[u8], chance: &SystemRandom) -> Result<EcdsaKeyPair, IssueError> {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, chance)
        .map_err(|_| IssueError::Authority)
}

/// What is signed.
fn body(
    serial: &[u8],
    issuer: &str,
    name: &str,
    purpose: Purpose<'_>,
    validity: Validity,
    public: &[u8],
) -> Vec<u8> {
    let key = der::sequence(&[&der::oid(der::EC_KEY), &der::oid(der::P256)]);
    let key = der::sequence(&[&key, &der::bits(0, public)]);
    let span = der::sequence(&[&time(validity.from), &time(validity.until)]);
    let third = der::element(der::VERSION, &der::element(der::INTEGER, &[2]));
    der::sequence(&[
        &third,
        &der::element(der::INTEGER, serial),
        &algorithm(),
        &distinguished(issuer),
        &span,
        &distinguished(name),
        &key,
        &der::element(der::EXTENSIONS, &extensions(purpose)),
    ])
}

fn algorithm() -> Vec<u8> {
    der::sequence(&[&der::oid(der::ECDSA_SHA256)])
}

fn distinguished(name: &str) -> Vec<u8> {
    let text = der::element(der::UTF8, name.as_bytes());
    let pair = der::sequence(&[&der::oid(der::COMMON_NAME), &text]);
    der::sequence(&[&der::element(der::SET, &pair)])
}

/// Two digits of the year until 2049, four from then on.
fn time(unix_seconds: u64) -> Vec<u8> {
    let text = date::utc(unix_seconds);
    let digits: String = text.chars().take(19).filter(char::is_ascii_digit).collect();
    let whole = format!("{digits}Z");
    if whole.as_str() < "2050" {
        return der::element(der::UTC_TIME, &whole.as_bytes()[2..]);
    }
    der::element(der::TIME, whole.as_bytes())
}

fn extensions(purpose: Purpose<'_>) -> Vec<u8> {
    let is_authority = purpose == Purpose::Authority;
    let basic = if is_authority {
        der::sequence(&[&der::element(der::BOOLEAN, &[0xff])])
    } else {
        der::sequence(&[])
    };
    // Signs certificates and lists of revoked ones, or what is said in a handshake.
    let usage = if is_authority { der::bits(1, &[0x06]) } else { der::bits(7, &[0x80]) };
    let mut all = vec![extension(der::BASIC, true, &basic), extension(der::USAGE, true, &usage)];
    let extended = match purpose {
        Purpose::Authority => None,
        Purpose::Server(_) => Some(der::SERVER),
        Purpose::Client => Some(der::CLIENT),
    };
    if let Some(extended) = extended {
        let list = der::sequence(&[&der::oid(extended)]);
        all.push(extension(der::EXTENDED_USAGE, false, &list));
    }
    if let Purpose::Server(names) = purpose {
        let names: Vec<Vec<u8>> =
            names.iter().map(|name| der::element(der::DNS_NAME, name.as_bytes())).collect();
        let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        all.push(extension(der::OTHER_NAMES, false, &der::sequence(&names)));
    }
    let all: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
    der::sequence(&all)
}

fn extension(kind: &[u8], is_critical: bool, value: &[u8]) -> Vec<u8> {
    let value = der::element(der::OCTETS, value);
    let kind = der::oid(kind);
    if !is_critical {
        return der::sequence(&[&kind, &value]);
    }
    der::sequence(&[&kind, &der::element(der::BOOLEAN, &[0xff]), &value])
}

fn pem(kind: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut lines = format!("-----BEGIN {kind}-----\n");
    for line in text.as_bytes().chunks(64) {
        lines.extend(line.iter().map(|byte| char::from(*byte)));
        lines.push('\n');
    }
    lines + &format!("-----END {kind}-----\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustls::pki_types::CertificateDer;

    use super::*;

    const DAY: u64 = 86_400;

    #[test]
    fn a_certificate_names_whom_it_is_of() {
        let validity = Validity { from: 1_790_000_000, until: 1_790_000_000 + DAY };
        let authority = Certificate::authority("an authority", validity).unwrap();
        let names = ["a.example", "b.example"];
        let long = "x".repeat(64);
        for name in ["front-proxy-client", "ä", &long] {
            for purpose in [Purpose::Server(&names), Purpose::Client] {
                let made = authority.issue(name, purpose, validity).unwrap();
                let der = CertificateDer::from_pem_slice(made.certificate.as_bytes()).unwrap();
                assert_eq!(common_name(&der).as_deref(), Some(name));
            }
        }
        assert!(!format!("{authority:?}").contains("PRIVATE"));
    }

    #[test]
    fn a_certificate_says_how_long_it_is_valid() {
        for (from, until) in
            [(0, 1), (1_790_000_000, 1_790_000_000 + DAY), (2_524_607_999, 253_402_300_799)]
        {
            let made = Certificate::authority("an authority", Validity { from, until }).unwrap();
            let der = CertificateDer::from_pem_slice(made.certificate.as_bytes()).unwrap();
            assert_eq!(validity(&der), Some(Validity { from, until }));
        }
        let read = |tag, text: &str| seconds(der::Element { tag, content: text.as_bytes() });
        assert_eq!(read(der::UTC_TIME, "700101000001Z"), Some(1));
        assert_eq!(read(der::UTC_TIME, "691231235959Z"), Some(0));
        for (tag, text) in [
            (der::UTC_TIME, "+90101000001Z"),
            (der::UTC_TIME, "700101000001"),
            (der::TIME, "700101000001Z"),
            (der::TIME, "20001301000000Z"),
        ] {
            assert_eq!(read(tag, text), None, "{text}");
        }
    }

    #[test]
    fn times_change_their_form() {
        let check = |unix: u64, expect: &[u8]| assert_eq!(time(unix), expect);
        check(2_524_607_999, b"\x17\x0d491231235959Z");
        check(2_524_608_000, b"\x18\x0f20500101000000Z");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (common_name(&bytes), validity(&bytes));
        }
    }
}
