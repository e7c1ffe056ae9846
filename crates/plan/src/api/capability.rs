//! What a Model can do, so that a request never goes where it cannot be answered.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::text::text;

/// The `format` of language tags in the schemas.
pub(crate) const LANGUAGE_FORMAT: &str = "language-tag";

/// The `format` of tiers in the schemas.
pub(crate) const TIER_FORMAT: &str = "tier-name";

/// Longest language tag and tier: what a request carries along without allocating.
pub const TAG_LEN_MAX: usize = 15;

/// Most languages of one model.
pub const LANGUAGES_MAX: u32 = 256;

/// What is wrong with a language.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error(
    "`{0}` is no language tag; write one of RFC 5646 in lower case with at most {TAG_LEN_MAX} \
     characters, such as `de` or `pt-br`"
)]
pub struct LanguageError(String);

/// What is wrong with a tier.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("`{0}` is no tier; use 1 to {TAG_LEN_MAX} lower-case letters, digits and any of - _ .")]
pub struct TierError(String);

text! {
    /// A language: a tag of RFC 5646 in lower case.
    Language, LanguageError, LANGUAGE_FORMAT, TAG_LEN_MAX
}
text! {
    /// How capable a model is, in the operator's word.
    Tier, TierError, TIER_FORMAT, TAG_LEN_MAX
}

/// What a Model can do.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Capabilities {
    /// Whether it answers chats and completions. Without it yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<bool>,
    /// Whether it reads images. Without it no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vision: Option<bool>,
    /// Whether it hears audio in a chat. Without it no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio: Option<bool>,
    /// Whether it calls functions. Without it yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<bool>,
    /// Whether it can be held to a JSON schema. Without it yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json_schema: Option<bool>,
    /// Whether it makes embeddings. Without it yes for the embedded engine, no for endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embeddings: Option<bool>,
    /// Whether it ranks documents (`/v1/rerank`). Without it no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rerank: Option<bool>,
    /// Whether it speaks (`/v1/audio/speech`). Without it no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speech: Option<bool>,
    /// Whether it writes down what it hears (`/v1/audio/transcriptions`). Without it no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transcription: Option<bool>,
    /// Whether it draws (`/v1/images/generations`). Without it no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<bool>,
    /// Languages it is good at, for rules of Routes: `de`, `pt-br`. Without them any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = LANGUAGES_MAX))]
    pub languages: Vec<Language>,
    /// Your own word for how capable it is (`small`, `large`), for rules of Routes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<Tier>,
}

impl FromStr for Language {
    type Err = LanguageError;

    fn from_str(text: &str) -> Result<Self, LanguageError> {
        let mut parts = text.split('-');
        let plain = |b: u8| b.is_ascii_lowercase();
        let primary = parts.next().unwrap_or_default();
        let legal = (2..=8).contains(&primary.len()) && primary.bytes().all(plain);
        let subtag = |part: &str| {
            (1..=8).contains(&part.len()) && part.bytes().all(|b| plain(b) || b.is_ascii_digit())
        };
        if !legal || text.len() > TAG_LEN_MAX || !parts.all(subtag) {
            return Err(LanguageError(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for Tier {
    type Err = TierError;

    fn from_str(text: &str) -> Result<Self, TierError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
        if !(1..=TAG_LEN_MAX).contains(&text.len()) || !text.bytes().all(plain) {
            return Err(TierError(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_tags_in_lower_case() {
        let check = |text: &str, good: bool| {
            assert_eq!(text.parse::<Language>().is_ok(), good, "{text}");
        };
        for good in ["de", "pt-br", "zh-hant", "haw", "es-419"] {
            check(good, true);
        }
        for bad in ["", "d", "DE", "de_at", "de-", "german language", "zh-hans-cn-x1234"] {
            check(bad, false);
        }
        let check = |text: &str, good: bool| {
            assert_eq!(text.parse::<Tier>().is_ok(), good, "{text}");
        };
        check("large_2.5", true);
        check("Large", false);
        check("", false);
        check(&"a".repeat(16), false);
    }
}
