//! What a request needs of a model, what a model offers, and what is missing between the two.
//!
//! Comparing is a few integer operations, so that every candidate can be looked at for every
//! request; words are made only for the error of a request that nothing fits.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::name::{Name, Tag};

/// Something that not every model can do.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Feature {
    /// Answers chats and completions.
    Text,
    /// Reads images.
    Vision,
    /// Reads or speaks audio in a chat.
    Audio,
    /// Calls functions.
    Tools,
    /// Answers in a given JSON schema.
    JsonSchema,
    /// Makes embeddings.
    Embeddings,
    /// Orders documents by how well they fit a question.
    Rerank,
    /// Speaks (`/v1/audio/speech`).
    Speech,
    /// Writes down what it hears (`/v1/audio/transcriptions`).
    Transcription,
    /// Draws (`/v1/images/generations`).
    Images,
}

impl Feature {
    /// Every feature.
    pub const ALL: [Self; 10] = [
        Self::Text,
        Self::Vision,
        Self::Audio,
        Self::Tools,
        Self::JsonSchema,
        Self::Embeddings,
        Self::Rerank,
        Self::Speech,
        Self::Transcription,
        Self::Images,
    ];

    /// The name used in manifests and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Vision => "vision",
            Self::Audio => "audio",
            Self::Tools => "tools",
            Self::JsonSchema => "jsonSchema",
            Self::Embeddings => "embeddings",
            Self::Rerank => "rerank",
            Self::Speech => "speech",
            Self::Transcription => "transcription",
            Self::Images => "images",
        }
    }
}

/// A set of features.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Features(u16);

impl Features {
    /// None.
    pub const NONE: Self = Self(0);

    /// These.
    pub const fn of(features: &[Feature]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < features.len() {
            bits |= 1 << features[at] as u16;
            at += 1;
        }
        Self(bits)
    }

    /// This one as well.
    #[must_use]
    pub const fn with(self, feature: Feature) -> Self {
        Self(self.0 | 1 << feature as u16)
    }

    /// What is here and not there.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of the other's are here.
    pub const fn holds(self, other: Self) -> bool {
        other.without(self).is_empty()
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Feature> {
        Feature::ALL.into_iter().filter(move |feature| self.holds(Self::of(&[*feature])))
    }
}

impl FromIterator<Feature> for Features {
    fn from_iter<I: IntoIterator<Item = Feature>>(features: I) -> Self {
        features.into_iter().fold(Self::NONE, Self::with)
    }
}

impl Serialize for Features {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Features {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<Feature>::deserialize(deserializer).map(|list| list.into_iter().collect())
    }
}

/// What a request needs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Needs {
    /// What the model must be able to do.
    pub features: Features,
    /// Prompt tokens, by estimate, and the longest answer asked for.
    pub context_tokens: u64,
    /// The language asked for.
    pub language: Option<Tag>,
    /// The tier asked for.
    pub tier: Option<Tag>,
}

/// What a model offers.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Capabilities {
    /// What it can do.
    pub features: Features,
    /// Tokens of context, prompt and answer together; none where nobody said.
    pub context_tokens: Option<u64>,
    /// Languages that it is meant for; empty where nobody said, and then it serves any.
    pub languages: Vec<Tag>,
    /// Tiers that it belongs to; empty where nobody said, and then it serves any.
    pub tiers: Vec<Tag>,
}

impl Capabilities {
    /// What a request needs beyond this; none when it fits.
    pub fn lack(&self, needs: &Needs) -> Option<Lack> {
        let misses = |offered: &[Tag], asked: Option<Tag>| {
            asked.filter(|asked| !offered.is_empty() && !offered.contains(asked))
        };
        let lack = Lack {
            features: needs.features.without(self.features),
            context: self
                .context_tokens
                .filter(|offered| *offered < needs.context_tokens)
                .map(|offered| (offered, needs.context_tokens)),
            language: misses(&self.languages, needs.language),
            tier: misses(&self.tiers, needs.tier),
        };
        (lack != Lack::default()).then_some(lack)
    }
}

/// What a model lacks for a request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Lack {
    /// What it cannot do.
    pub features: Features,
    /// Tokens of context that it has, and that the request needs.
    pub context: Option<(u64, u64)>,
    /// The language that it is not meant for.
    pub language: Option<Tag>,
    /// The tier that it does not belong to.
    pub tier: Option<Tag>,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for feature in self.features.iter() {
            write!(f, "{comma}has no {}", feature.name())?;
            comma = ", ";
        }
        if let Some((has, needs)) = self.context {
            write!(f, "{comma}has {has} tokens of context, the request needs {needs}")?;
            comma = ", ";
        }
        if let Some(language) = self.language {
            write!(f, "{comma}is not meant for the language `{language}`")?;
            comma = ", ";
        }
        if let Some(tier) = self.tier {
            write!(f, "{comma}is not of the tier `{tier}`")?;
        }
        Ok(())
    }
}

/// A model, and what it lacks for a request.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Misfit {
    /// Its name.
    pub model: Name,
    /// What it lacks.
    pub lack: Lack,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.model, self.lack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let capabilities = Capabilities {
            features: Features::of(&[Feature::Text, Feature::Tools]),
            context_tokens: Some(8192),
            languages: vec![Tag::new("en").unwrap()],
            tiers: Vec::new(),
        };
        let check = |needs: Needs, expect: Option<&str>| {
            let lack = capabilities.lack(&needs).map(|lack| lack.to_string());
            assert_eq!(lack.as_deref(), expect, "{needs:?}");
        };
        let plain = Needs { features: Features::of(&[Feature::Text]), ..Needs::default() };
        check(plain, None);
        check(Needs { context_tokens: 8192, ..plain }, None);
        check(
            Needs { context_tokens: 12_000, ..plain },
            Some("has 8192 tokens of context, the request needs 12000"),
        );
        let seen = plain.features.with(Feature::Vision).with(Feature::Audio);
        check(Needs { features: seen, ..plain }, Some("has no vision, has no audio"));
        check(Needs { language: Tag::new("EN").ok(), ..plain }, None);
        check(
            Needs { language: Tag::new("de").ok(), ..plain },
            Some("is not meant for the language `de`"),
        );
        check(Needs { tier: Tag::new("premium").ok(), ..plain }, None);
    }

    #[test]
    fn sets_of_features() {
        for feature in Feature::ALL {
            let only: Vec<Feature> = Features::NONE.with(feature).iter().collect();
            assert_eq!(only, [feature]);
        }
        let all: Features = Feature::ALL.into_iter().collect();
        assert!(all.holds(Features::NONE) && all.holds(all) && !Features::NONE.holds(all));
    }
}
