//! `Route.spec.rules`: which requests go to other Models than the rest, by what they need and who
//! asks.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::capability::{Language, Tier};
use super::model::CONTEXT_MAX;
use super::route::{TARGETS_MAX, Target};
use super::text::text;
use super::{BandName, ResourceName};

/// The `format` of headers' names in the schemas.
pub(crate) const HEADER_FORMAT: &str = "header-name";

/// Longest name of a header.
pub const HEADER_NAME_LEN_MAX: usize = 64;

/// Longest value of a header that a rule asks for.
const HEADER_VALUE_LEN_MAX: u32 = 255;

/// What is wrong with the name of a header.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum HeaderError {
    /// It has characters that no header's name has, or is empty or too long.
    #[error(
        "`{0}` is no name of a header: use 1 to {HEADER_NAME_LEN_MAX} letters, digits and any of \
         - _ ."
    )]
    Form(String),
    /// It holds a secret.
    #[error(
        "`{0}` holds a secret, and a manifest is no place for one; match the tenant with `tenant`"
    )]
    Secret(String),
}

text! {
    /// The name of a header.
    HeaderName, HeaderError, HEADER_FORMAT, HEADER_NAME_LEN_MAX
}

/// Requests that go elsewhere.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Rule {
    /// What the rule is called in records and metrics; unique in the Route.
    pub name: ResourceName,
    /// What a request must be like: everything that is said here at once.
    pub when: When,
    /// Where such requests go, divided by weight. Either this or `model`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = TARGETS_MAX))]
    pub targets: Vec<Target>,
    /// The one Model where such requests go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ResourceName>,
}

/// What a request must be like.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct When {
    /// `true`: it shows images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vision: Option<bool>,
    /// `true`: it holds audio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio: Option<bool>,
    /// `true`: it offers functions to call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<bool>,
    /// `true`: it asks for an answer in a JSON schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json_schema: Option<bool>,
    /// `true`: it asks for embeddings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embeddings: Option<bool>,
    /// Tokens that its prompt has at least, as estimated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = CONTEXT_MAX))]
    pub prompt_tokens_min: Option<u32>,
    /// Tokens that its prompt has at most, as estimated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = CONTEXT_MAX))]
    pub prompt_tokens_max: Option<u32>,
    /// Tokens that prompt and longest possible answer have together at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = CONTEXT_MAX))]
    pub context_tokens_min: Option<u32>,
    /// Tokens that prompt and longest possible answer have together at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = CONTEXT_MAX))]
    pub context_tokens_max: Option<u32>,
    /// A header that it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderMatch>,
    /// The language that it is in, or that it asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
    /// The tier that it asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<Tier>,
    /// The Tenant that it belongs to, or one above that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<ResourceName>,
    /// The band that it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub band: Option<BandName>,
}

/// A header, with whatever value where neither `value` nor `prefix` is there.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HeaderMatch {
    /// Its name, in whatever case.
    pub name: HeaderName,
    /// Its whole value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = HEADER_VALUE_LEN_MAX))]
    pub value: Option<String>,
    /// What its value begins with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = HEADER_VALUE_LEN_MAX))]
    pub prefix: Option<String>,
}

impl Rule {
    /// Where such requests go, written either way.
    pub fn targets(&self) -> Vec<Target> {
        let one = self.model.iter().cloned().map(Target::whole);
        self.targets.iter().cloned().chain(one).collect()
    }
}

impl When {
    /// What a request must need, by the field that says so.
    pub const fn needs(&self) -> [(&'static str, Option<bool>); 5] {
        [
            ("vision", self.vision),
            ("audio", self.audio),
            ("tools", self.tools),
            ("jsonSchema", self.json_schema),
            ("embeddings", self.embeddings),
        ]
    }

    /// Whether nothing is asked of a request.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl FromStr for HeaderName {
    type Err = HeaderError;

    /// Headers have no case; the name is kept in lower case.
    fn from_str(text: &str) -> Result<Self, HeaderError> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if text.is_empty() || text.len() > HEADER_NAME_LEN_MAX || !text.bytes().all(legal) {
            return Err(HeaderError::Form(text.to_owned()));
        }
        let name = text.to_ascii_lowercase();
        if ["authorization", "proxy-authorization", "cookie", "x-api-key"].contains(&name.as_str())
        {
            return Err(HeaderError::Secret(name));
        }
        Ok(Self(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_tokens_without_secrets() {
        let check = |text: &str, expect: Result<&str, HeaderError>| {
            let name = text.parse::<HeaderName>();
            assert_eq!(name.as_ref().map(HeaderName::as_str), expect.as_ref().copied(), "{text}");
        };
        check("X-Team", Ok("x-team"));
        for bad in ["", "x team", "x:team", "é"] {
            check(bad, Err(HeaderError::Form(bad.to_owned())));
        }
        check("Authorization", Err(HeaderError::Secret("authorization".to_owned())));
        check("cookie", Err(HeaderError::Secret("cookie".to_owned())));
    }
}
