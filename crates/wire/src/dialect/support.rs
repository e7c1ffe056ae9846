//! What servers can do, and since when: the answer depends on their version, and may be that nobody knows.

use super::Version;

/// Since when a server can do something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Support {
    /// Never, as far as anybody looked.
    No,
    /// From that version on.
    Since(&'static str),
    /// In that version; since when is not known.
    Seen(&'static str),
    /// In all that call themselves so.
    Always,
    /// Nobody looked, or it is said differently in different places.
    Unknown,
}

/// Whether a server of some version can do something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// It can.
    Yes,
    /// It cannot.
    No,
    /// Nobody knows.
    Unknown,
}

/// Something that a server can do, or not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Feature {
    /// Since when.
    pub support: Support,
    /// What it needs besides, such as a flag, and what to know of it; empty where there is nothing.
    pub note: &'static str,
    /// Where that was read; empty where it is the table's own source.
    pub source: &'static str,
}

/// What servers can do that others cannot.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Capability {
    /// A request says how urgent it is.
    Priority,
    /// A prompt may be a list of token ids.
    TokenIdsIn,
    /// Answers tell the ids of their tokens.
    TokenIdsOut,
    /// Answers can be held to a JSON schema.
    StructuredOutput,
    /// Adapters (LoRA) are served beside the model.
    Adapters,
    /// Adapters are loaded and unloaded while it runs.
    AdaptersAtRunTime,
    /// It makes embeddings, with a model for that.
    Embeddings,
    /// It reads images, with a model for that.
    Vision,
    /// It calls functions, with a model for that.
    Tools,
    /// It ranks documents, with a model for that.
    Rerank,
    /// It stops computing when the client goes away.
    AbortOnDisconnect,
    /// It gives its memory back and takes it again.
    Sleep,
    /// It publishes what its KV cache holds.
    KvEvents,
    /// It keeps what several prompts begin with only once.
    PrefixSharing,
}

/// All of them, of one server. Each has to be said.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
    /// [`Capability::Priority`].
    pub priority: Feature,
    /// [`Capability::TokenIdsIn`].
    pub token_ids_in: Feature,
    /// [`Capability::TokenIdsOut`].
    pub token_ids_out: Feature,
    /// [`Capability::StructuredOutput`].
    pub structured_output: Feature,
    /// [`Capability::Adapters`].
    pub adapters: Feature,
    /// [`Capability::AdaptersAtRunTime`].
    pub adapters_at_run_time: Feature,
    /// [`Capability::Embeddings`].
    pub embeddings: Feature,
    /// [`Capability::Vision`].
    pub vision: Feature,
    /// [`Capability::Tools`].
    pub tools: Feature,
    /// [`Capability::Rerank`].
    pub rerank: Feature,
    /// [`Capability::AbortOnDisconnect`].
    pub abort_on_disconnect: Feature,
    /// [`Capability::Sleep`].
    pub sleep: Feature,
    /// [`Capability::KvEvents`].
    pub kv_events: Feature,
    /// [`Capability::PrefixSharing`].
    pub prefix_sharing: Feature,
}

impl Support {
    /// What that means for a version. Where it is not known, what was there once, and nobody says is
    /// gone, is taken to be there.
    pub fn at(self, version: Option<&Version>) -> Answer {
        match (self, version) {
            (Self::No, _) => Answer::No,
            (Self::Unknown, _) => Answer::Unknown,
            (Self::Always, _) | (Self::Since(_) | Self::Seen(_), None) => Answer::Yes,
            (Self::Since(first), Some(version)) if version.is_at_least(first) => Answer::Yes,
            (Self::Seen(seen), Some(version)) if version.is_at_least(seen) => Answer::Yes,
            (Self::Since(_), Some(_)) => Answer::No,
            (Self::Seen(_), Some(_)) => Answer::Unknown,
        }
    }

    /// For people: `since 0.10.2`, `yes (seen in 0.32.0)`.
    pub fn told(self) -> String {
        match self {
            Self::No => "no".to_owned(),
            Self::Since(version) => format!("since {version}"),
            Self::Seen(version) => format!("yes, seen in {version}"),
            Self::Always => "yes".to_owned(),
            Self::Unknown => "not known".to_owned(),
        }
    }
}

impl Answer {
    /// In a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "unknown",
        }
    }
}

impl Feature {
    /// It cannot.
    pub const NO: Self = Self::of(Support::No, "", "");
    /// Nobody looked.
    pub const UNKNOWN: Self = Self::of(Support::Unknown, "", "");
    /// All can.
    pub const ALWAYS: Self = Self::of(Support::Always, "", "");

    /// One with all that is known of it.
    pub const fn of(support: Support, note: &'static str, source: &'static str) -> Self {
        Self { support, note, source }
    }

    /// From that version on.
    pub const fn since(version: &'static str) -> Self {
        Self::of(Support::Since(version), "", "")
    }

    /// In that version, and perhaps before.
    pub const fn seen(version: &'static str) -> Self {
        Self::of(Support::Seen(version), "", "")
    }

    /// The same, with what else there is to know.
    pub const fn noted(self, note: &'static str) -> Self {
        Self { note, ..self }
    }

    /// The same, with where that was read.
    pub const fn from(self, source: &'static str) -> Self {
        Self { source, ..self }
    }
}

impl Capability {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Priority,
        Self::TokenIdsIn,
        Self::TokenIdsOut,
        Self::StructuredOutput,
        Self::Adapters,
        Self::AdaptersAtRunTime,
        Self::Embeddings,
        Self::Vision,
        Self::Tools,
        Self::Rerank,
        Self::AbortOnDisconnect,
        Self::Sleep,
        Self::KvEvents,
        Self::PrefixSharing,
    ];

    /// In a word, for machines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Priority => "priority",
            Self::TokenIdsIn => "tokenIdsIn",
            Self::TokenIdsOut => "tokenIdsOut",
            Self::StructuredOutput => "structuredOutput",
            Self::Adapters => "adapters",
            Self::AdaptersAtRunTime => "adaptersAtRunTime",
            Self::Embeddings => "embeddings",
            Self::Vision => "vision",
            Self::Tools => "tools",
            Self::Rerank => "rerank",
            Self::AbortOnDisconnect => "abortOnDisconnect",
            Self::Sleep => "sleep",
            Self::KvEvents => "kvEvents",
            Self::PrefixSharing => "prefixSharing",
        }
    }

    /// For people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Priority => "priorities",
            Self::TokenIdsIn => "prompts of token ids",
            Self::TokenIdsOut => "token ids in answers",
            Self::StructuredOutput => "structured output",
            Self::Adapters => "adapters (LoRA)",
            Self::AdaptersAtRunTime => "adapters loaded at run time",
            Self::Embeddings => "embeddings",
            Self::Vision => "vision",
            Self::Tools => "tools",
            Self::Rerank => "rerank",
            Self::AbortOnDisconnect => "abort when the client leaves",
            Self::Sleep => "sleep and wake",
            Self::KvEvents => "KV cache events",
            Self::PrefixSharing => "shared prefixes",
        }
    }
}

impl Capabilities {
    /// One of them.
    pub const fn get(&self, capability: Capability) -> &Feature {
        match capability {
            Capability::Priority => &self.priority,
            Capability::TokenIdsIn => &self.token_ids_in,
            Capability::TokenIdsOut => &self.token_ids_out,
            Capability::StructuredOutput => &self.structured_output,
            Capability::Adapters => &self.adapters,
            Capability::AdaptersAtRunTime => &self.adapters_at_run_time,
            Capability::Embeddings => &self.embeddings,
            Capability::Vision => &self.vision,
            Capability::Tools => &self.tools,
            Capability::Rerank => &self.rerank,
            Capability::AbortOnDisconnect => &self.abort_on_disconnect,
            Capability::Sleep => &self.sleep,
            Capability::KvEvents => &self.kv_events,
            Capability::PrefixSharing => &self.prefix_sharing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_depends_on_the_version() {
        let check = |support: Support, version: &str, expect: Answer| {
            assert_eq!(
                support.at(Version::parse(version).as_ref()),
                expect,
                "{support:?} {version}"
            );
        };
        check(Support::Since("0.10.2"), "0.10.2", Answer::Yes);
        check(Support::Since("0.10.2"), "0.10.1", Answer::No);
        check(Support::Since("0.10.2"), "latest", Answer::Yes);
        check(Support::Seen("0.32.0"), "0.31.0", Answer::Unknown);
        check(Support::Seen("0.32.0"), "0.33.0", Answer::Yes);
        check(Support::No, "9", Answer::No);
        check(Support::Unknown, "9", Answer::Unknown);
        check(Support::Always, "0.0.1", Answer::Yes);
    }
}
