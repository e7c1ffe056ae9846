//! `Tenant`: an organisation, a team or an application, recognised by its keys or by tokens of an
//! identity provider, with its place among the others.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::str::FromStr;

use pilotage_core::Band;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::route::TIMEOUT_SECONDS_MAX;
use super::url::{in_url, split_host};
use super::{Quota, ResourceName, Share};
use crate::Digest;
use crate::digest::DigestError;
use crate::timestamp::Timestamp;

/// The `format` of key hashes in the schemas.
pub(crate) const KEY_FORMAT: &str = "sha256-hex";

/// Most keys of one tenant: enough for a key per service, and a bound on the table of keys.
pub const KEYS_MAX: u32 = 1024;

/// The `format` of issuers in the schemas.
pub(crate) const ISSUER_FORMAT: &str = "issuer-url";

/// Most identities of one tenant: enough for a rule per group of people, and a bound on the rules
/// that a token is held against.
pub const IDENTITIES_MAX: u32 = 64;

/// Most claims that one identity asks for.
pub const CLAIMS_MAX: u32 = 16;

/// Largest weight: a million to one is beyond any use.
pub const WEIGHT_MAX: u32 = 1_000_000;

/// Longest issuer in bytes.
const ISSUER_BYTES_MAX: usize = 512;

/// A team or customer.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TenantSpec {
    /// The name of the `Tenant` it belongs to: an application to its team, a team to its
    /// organisation. Without it the tenant is at the top.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<ResourceName>,
    /// What it gets of the capacity that guarantees leave, beside others of the same parent: twice
    /// the weight is twice the service.
    #[schemars(range(min = 1, max = WEIGHT_MAX))]
    pub weight: u32,
    /// Its share of each lane's capacity.
    pub share: Share,
    /// Limits of the tenant and all that belong to it together; beyond them answers have status 429.
    pub quota: Quota,
    /// Seconds from a request's arrival to the end of its answer, where the request does not say and
    /// the route does not allow less.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = TIMEOUT_SECONDS_MAX))]
    pub deadline_seconds: Option<u32>,
    /// The most urgent band its requests may ask for; more urgent ones are lowered to it.
    pub highest_band: BandName,
    /// Keys that clients prove with that they belong to it, as hashes: a manifest is no place for
    /// a secret.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = KEYS_MAX))]
    pub keys: Vec<TenantKey>,
    /// Tokens of OpenID Connect providers whose bearers belong to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = IDENTITIES_MAX))]
    pub identities: Vec<Identity>,
    /// Whether it is a gateway of another region: its requests say which Tenant's they are, and are that one's
    /// as far as it is known here, with its limits and bands. What anybody else says of that is not believed.
    #[serde(skip_serializing_if = "is_false")]
    pub relay: bool,
}

/// A field that nothing is said by.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
pub(crate) const fn is_false(value: &bool) -> bool {
    !*value
}

/// One key of a tenant.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TenantKey {
    /// What the key is for, so that one can be withdrawn without touching the others.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// SHA-256 of the key, in 64 hexadecimal digits: `printf %s "$KEY" | sha256sum`.
    pub sha256: KeyHash,
    /// From when the key counts (RFC 3339, `2027-01-31T12:00:00Z`); always when it is not set.
    #[serde(default, rename = "notBefore", skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// From when on the key does not count (RFC 3339); never when it is not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// Tokens whose bearers belong to a tenant. Of several that fit a token, the one with the most
/// claims decides.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Identity {
    /// The provider, exactly as its tokens name it (`iss`): an `https://` URL, or an `http://` one
    /// on a loopback address. Its keys are found at `/.well-known/openid-configuration` below it.
    pub issuer: IssuerUrl,
    /// Whom the tokens must be for (`aud`): the name that the provider has for this gateway.
    #[schemars(length(min = 1, max = 255))]
    pub audience: String,
    /// Claims that a token must have, with their values; `{}` takes every token. A claim that is a
    /// list must hold the value. A name that starts with `/` is a JSON pointer to a claim inside of
    /// others (`/realm_access/roles`).
    #[serde(rename = "match")]
    #[schemars(extend("maxProperties" = CLAIMS_MAX))]
    pub claims: BTreeMap<String, String>,
}

/// The URL of an OpenID Connect provider.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct IssuerUrl(String);

/// Why a text does not name a provider.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum IssuerError {
    /// Whoever sits between could replace the keys.
    #[error("an issuer starts with `https://`; `http://` is for loopback addresses only")]
    Scheme,
    /// It is too long.
    #[error("an issuer has at most {ISSUER_BYTES_MAX} bytes")]
    Length,
    /// It is no URL of a host and a path.
    #[error(
        "an issuer is a URL of a host and perhaps a path, without `?`, `#`, user or blanks; write \
         it as the tokens have it in `iss`"
    )]
    Form,
}

/// The SHA-256 of a key, written as 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyHash(pub Digest);

/// Urgency class of a request.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BandName {
    /// Somebody is waiting for each word.
    #[default]
    Realtime,
    /// Somebody is waiting for the answer.
    Standard,
    /// A program is waiting.
    Bulk,
    /// Nobody is waiting.
    Batch,
}

impl Default for TenantSpec {
    fn default() -> Self {
        Self {
            parent: None,
            weight: 1,
            share: Share::default(),
            quota: Quota::default(),
            deadline_seconds: None,
            highest_band: BandName::default(),
            keys: Vec::new(),
            identities: Vec::new(),
            relay: false,
        }
    }
}

impl From<BandName> for Band {
    fn from(name: BandName) -> Self {
        match name {
            BandName::Realtime => Self::Realtime,
            BandName::Standard => Self::Standard,
            BandName::Bulk => Self::Bulk,
            BandName::Batch => Self::Batch,
        }
    }
}

impl TryFrom<String> for KeyHash {
    type Error = DigestError;

    fn try_from(hex: String) -> Result<Self, DigestError> {
        Digest::from_hex(&hex).map(Self)
    }
}

impl From<KeyHash> for String {
    fn from(hash: KeyHash) -> Self {
        hash.0.hex()
    }
}

impl IssuerUrl {
    /// The text, as tokens have it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IssuerUrl {
    type Err = IssuerError;

    fn from_str(text: &str) -> Result<Self, IssuerError> {
        if text.len() > ISSUER_BYTES_MAX {
            return Err(IssuerError::Length);
        }
        let plain = text.strip_prefix("http://");
        let rest = plain.or_else(|| text.strip_prefix("https://")).ok_or(IssuerError::Scheme)?;
        let authority = rest.split('/').next().unwrap_or_default();
        let (host, _) = split_host(authority).ok_or(IssuerError::Form)?;
        if !rest.bytes().all(in_url) {
            return Err(IssuerError::Form);
        }
        if plain.is_some() && !["127.0.0.1", "[::1]", "localhost"].contains(&host) {
            return Err(IssuerError::Scheme);
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for IssuerUrl {
    type Error = IssuerError;

    fn try_from(text: String) -> Result<Self, IssuerError> {
        text.parse()
    }
}

impl From<IssuerUrl> for String {
    fn from(issuer: IssuerUrl) -> Self {
        issuer.0
    }
}

impl JsonSchema for IssuerUrl {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "IssuerUrl".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": ISSUER_FORMAT })
    }
}

impl JsonSchema for KeyHash {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "KeyHash".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": KEY_FORMAT, "pattern": "^[0-9a-fA-F]{64}$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers_are_urls_that_nobody_can_sit_in_front_of() {
        let check = |text: &str, expect: Result<(), IssuerError>| {
            assert_eq!(text.parse::<IssuerUrl>().map(|_| ()), expect, "{text}");
        };
        for good in [
            "https://accounts.google.com",
            "https://id.example.com:8443/realms/a/",
            "https://[2001:db8::1]/x",
            "http://127.0.0.1:9000",
            "http://[::1]:9000/x",
            "http://localhost",
        ] {
            check(good, Ok(()));
        }
        for bad in ["", "accounts.google.com", "ftp://x", "http://example.com", "HTTPS://x"] {
            check(bad, Err(IssuerError::Scheme));
        }
        check("http://127.0.0.1.example.com", Err(IssuerError::Scheme));
        check("http://localhost:80@example.com", Err(IssuerError::Form));
        for bad in [
            "https://",
            "https:///path",
            "https://host:port",
            "https://host?x",
            "https://host/#x",
            "https://user@host",
            "https://ho st",
            "https://h\u{f6}st",
        ] {
            check(bad, Err(IssuerError::Form));
        }
        check(&format!("https://{}", "a".repeat(600)), Err(IssuerError::Length));
    }
}
