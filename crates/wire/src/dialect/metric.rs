//! Names of what servers count, what each means for us, and how several samples of one are taken together.

use super::Feature;

/// What a metric means for us.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Meaning {
    /// The part of the KV cache that is in use, 0 to 1.
    KvUse,
    /// Tokens that the KV cache holds.
    KvTokens,
    /// Blocks that the KV cache has.
    KvBlocks,
    /// Tokens to a block.
    KvBlockTokens,
    /// Requests that are computed.
    Running,
    /// Requests that wait.
    Waiting,
    /// What moves with each step of the engine: that it goes on is the sign that it lives.
    Steps,
    /// What moves when an answer ends: a weaker sign.
    Answers,
    /// When it was started, in seconds since 1970.
    Started,
    /// Prompt tokens that were looked up in the cache.
    PrefixQueries,
    /// Prompt tokens that were found there.
    PrefixHits,
    /// Requests that were put aside for want of memory.
    Preemptions,
    /// Seconds to the first token, as a histogram.
    Ttft,
    /// Seconds between two tokens, as a histogram.
    Itl,
    /// Adapters that are loaded.
    Adapters,
}

/// How several samples are taken together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Take {
    /// Their sum: each is a part.
    Sum,
    /// The largest: each is a place of its own, and the fullest is the one that matters.
    Max,
    /// Their number and their sum, of a histogram: `_count` and `_sum` come after the name.
    Histogram,
    /// The sum of what a label says; the value means nothing.
    LabelSum(&'static str),
    /// The largest of what a label says; the value means nothing.
    LabelMax(&'static str),
    /// What a label says, in the sample with the greatest value, which is its time.
    LabelNewest(&'static str),
}

/// A metric of a server.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name on the page; of a histogram without `_count` and `_sum`.
    pub name: &'static str,
    /// What it means.
    pub meaning: Meaning,
    /// How its samples are taken together.
    pub take: Take,
    /// A label and its value, where only samples with it are meant.
    pub only: Option<(&'static str, &'static str)>,
    /// Since when it is there.
    pub feature: Feature,
    /// The first version without it.
    pub until: Option<&'static str>,
}

impl Metric {
    /// One that is a sum.
    pub const fn sum(meaning: Meaning, name: &'static str, feature: Feature) -> Self {
        Self { name, meaning, take: Take::Sum, only: None, feature, until: None }
    }

    /// One of which the largest counts.
    pub const fn max(meaning: Meaning, name: &'static str, feature: Feature) -> Self {
        Self { take: Take::Max, ..Self::sum(meaning, name, feature) }
    }

    /// A histogram.
    pub const fn histogram(meaning: Meaning, name: &'static str, feature: Feature) -> Self {
        Self { take: Take::Histogram, ..Self::sum(meaning, name, feature) }
    }

    /// The same, taken so.
    pub const fn taken(self, take: Take) -> Self {
        Self { take, ..self }
    }

    /// The same, of samples with that label only.
    pub const fn only(self, label: &'static str, value: &'static str) -> Self {
        Self { only: Some((label, value)), ..self }
    }

    /// The same, gone from that version on.
    pub const fn until(self, version: &'static str) -> Self {
        Self { until: Some(version), ..self }
    }
}

impl Meaning {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::KvUse,
        Self::KvTokens,
        Self::KvBlocks,
        Self::KvBlockTokens,
        Self::Running,
        Self::Waiting,
        Self::Steps,
        Self::Answers,
        Self::Started,
        Self::PrefixQueries,
        Self::PrefixHits,
        Self::Preemptions,
        Self::Ttft,
        Self::Itl,
        Self::Adapters,
    ];

    /// For people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::KvUse => "KV cache in use",
            Self::KvTokens => "tokens the KV cache holds",
            Self::KvBlocks => "blocks of the KV cache",
            Self::KvBlockTokens => "tokens to a block",
            Self::Running => "running requests",
            Self::Waiting => "waiting requests",
            Self::Steps => "steps of the engine",
            Self::Answers => "what moves when answers end",
            Self::Started => "start time",
            Self::PrefixQueries => "prompt tokens looked up in the cache",
            Self::PrefixHits => "prompt tokens found there",
            Self::Preemptions => "preemptions",
            Self::Ttft => "time to first token",
            Self::Itl => "time between tokens",
            Self::Adapters => "loaded adapters",
        }
    }
}
