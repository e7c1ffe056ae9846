//! The two sorts of names people choose: of resources, and of models as clients see them.

use std::str::FromStr;

use thiserror::Error;

use super::text::text;

/// The `format` of resource names in the schemas.
pub(crate) const RESOURCE_FORMAT: &str = "resource-name";
/// The `format` of public model names in the schemas.
pub(crate) const PUBLIC_FORMAT: &str = "public-model-name";

/// Most characters of a resource's name: what a Kubernetes label value can hold, since names end
/// up in labels.
pub const RESOURCE_NAME_LEN_MAX: usize = 63;

/// Most characters of a public model name: longer than any on Hugging Face (96 for the repository
/// plus its owner's), and short enough for a metric label.
pub const PUBLIC_NAME_LEN_MAX: usize = 160;

/// What is wrong with a name.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum NameError {
    /// It is empty or too long.
    #[error("a name has 1 to {max} characters, this one has {len}")]
    Length {
        /// How long it is.
        len: usize,
        /// How long it may be.
        max: usize,
    },
    /// A resource's name with other characters, or with a bad first or last one.
    #[error(
        "`{0}` is not a valid name: use lower-case letters, digits, `-` and `.`, with a letter \
         or digit at both ends and around each `.`"
    )]
    Resource(String),
    /// A public name with spaces, quotes or characters outside of ASCII.
    #[error(
        "`{0}` is not a valid model name: use letters, digits and any of - _ . : / @ +, starting \
         with a letter or digit"
    )]
    Public(String),
}

text! {
    /// A resource's name: a DNS subdomain of at most [`RESOURCE_NAME_LEN_MAX`] characters.
    ResourceName, NameError, RESOURCE_FORMAT, RESOURCE_NAME_LEN_MAX
}
text! {
    /// A model's name as clients write it in a request.
    PublicName, NameError, PUBLIC_FORMAT, PUBLIC_NAME_LEN_MAX
}

impl ResourceName {
    /// A name of our own making beside those that people choose, with characters that theirs never have.
    pub(crate) const fn internal(name: String) -> Self {
        Self(name)
    }
}

impl PublicName {
    /// A name of our own making, with characters that those of people never have.
    pub(crate) const fn internal(name: String) -> Self {
        Self(name)
    }
}

impl FromStr for ResourceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check_len(text, RESOURCE_NAME_LEN_MAX)?;
        let label = |part: &str| {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
            part.bytes().all(|b| plain(b) || b == b'-')
                && part.bytes().next().is_some_and(plain)
                && part.bytes().last().is_some_and(plain)
        };
        if !text.split('.').all(label) {
            return Err(NameError::Resource(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for PublicName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check_len(text, PUBLIC_NAME_LEN_MAX)?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:/@+".contains(&b);
        let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !starts_well || !text.bytes().all(plain) {
            return Err(NameError::Public(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

/// A resource's name serves as a public one: its characters are a subset.
impl From<&ResourceName> for PublicName {
    fn from(name: &ResourceName) -> Self {
        Self(name.0.clone())
    }
}

fn check_len(text: &str, max: usize) -> Result<(), NameError> {
    match text.chars().count() {
        len if len == 0 || len > max => Err(NameError::Length { len, max }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn resource_names() {
        let check = |text: &str, good: bool| {
            assert_eq!(text.parse::<ResourceName>().is_ok(), good, "{text}");
        };
        check("smollm2", true);
        check("llama-3.1-8b", true);
        check(&"a".repeat(RESOURCE_NAME_LEN_MAX), true);
        check(&"a".repeat(RESOURCE_NAME_LEN_MAX + 1), false);
        for bad in ["", "A", "a_b", "-a", "a-", "a..b", ".a", "a.", "a b", "é", "a/b"] {
            check(bad, false);
        }
    }

    #[test]
    fn public_names() {
        let check = |text: &str, good: bool| {
            assert_eq!(text.parse::<PublicName>().is_ok(), good, "{text}");
        };
        check("meta-llama/Llama-3.1-8B-Instruct", true);
        check("gemma3:4b-it_q4@main+lora", true);
        check(&"a".repeat(PUBLIC_NAME_LEN_MAX + 1), false);
        for bad in ["", "a b", "/a", "a\"", "a\n", "modèle"] {
            check(bad, false);
        }
    }

    proptest! {
        #[test]
        fn a_resource_name_is_a_public_name(text in "[a-z0-9.-]{1,63}") {
            if let Ok(name) = text.parse::<ResourceName>() {
                let public = PublicName::from(&name);
                prop_assert_eq!(public.as_str().parse::<PublicName>(), Ok(public));
            }
        }
    }
}
