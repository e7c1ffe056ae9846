//! `Tenant`: a team or customer, recognised by its keys.

use std::borrow::Cow;

use pilotage_core::Band;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::digest::DigestError;

/// The `format` of key hashes in the schemas.
pub(crate) const KEY_FORMAT: &str = "sha256-hex";

/// Most keys of one tenant: enough for a key per service, and a bound on the table of keys.
pub const KEYS_MAX: u32 = 1024;

/// A team or customer.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TenantSpec {
    /// The most urgent band its requests may ask for; more urgent ones are lowered to it.
    #[serde(default)]
    pub highest_band: BandName,
    /// Keys that clients prove with that they belong to it, as hashes: a manifest is no place for
    /// a secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = KEYS_MAX))]
    pub keys: Vec<TenantKey>,
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
