//! Under which names besides our own measures are shown.

/// Names of OpenTelemetry's conventions for generative AI. They are in development, and change: which are
/// meant is said by `OTEL_SEMCONV_STABILITY_OPT_IN`, as for all instrumentation.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum GenAi {
    /// Those that have been the same for long, of version 1.37.
    #[default]
    Stable,
    /// Those of the repository of their own, where counters of tokens took a histogram's place.
    Latest,
}

impl GenAi {
    /// The version of the conventions that the names are of.
    pub const fn version(self) -> &'static str {
        match self {
            Self::Stable => "1.37.0",
            Self::Latest => "gen_ai_latest_experimental",
        }
    }
}

/// Which names there are.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Names {
    /// OpenTelemetry's.
    pub gen_ai: GenAi,
    /// Whether there are those of llm-d's endpoint picker.
    pub llm_d_epp: bool,
}

/// Values that `OTEL_SEMCONV_STABILITY_OPT_IN` may have for conventions that nothing here follows.
const OTHERS: [&str; 9] = [
    "http",
    "http/dup",
    "database",
    "database/dup",
    "code",
    "code/dup",
    "rpc",
    "rpc/dup",
    "messaging",
];

impl Names {
    /// Reads `OTEL_SEMCONV_STABILITY_OPT_IN`: words with commas in between.
    ///
    /// # Errors
    /// With a word that stands for nothing known: who wrote it expects names that would not come.
    pub fn opt_in(mut self, text: Option<&str>) -> Result<Self, UnknownOptIn> {
        for word in text.unwrap_or_default().split(',').map(str::trim) {
            match word {
                "gen_ai_latest_experimental" => self.gen_ai = GenAi::Latest,
                word if word.is_empty() || OTHERS.contains(&word) => {}
                word => return Err(UnknownOptIn(word.chars().take(80).collect())),
            }
        }
        Ok(self)
    }
}

/// A word that no conventions are known by.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "`{0}` in OTEL_SEMCONV_STABILITY_OPT_IN stands for no conventions known here; use `gen_ai_latest_experimental`, or leave it out"
)]
pub struct UnknownOptIn(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_opted_into_is_known() {
        let check = |text, expect: Result<GenAi, &str>| {
            let read = Names::default().opt_in(text).map(|names| names.gen_ai);
            assert_eq!(read, expect.map_err(|word| UnknownOptIn(word.to_owned())), "{text:?}");
        };
        check(None, Ok(GenAi::Stable));
        check(Some(""), Ok(GenAi::Stable));
        check(Some("http/dup, database"), Ok(GenAi::Stable));
        check(Some("http,gen_ai_latest_experimental"), Ok(GenAi::Latest));
        check(Some("gen_ai_newest"), Err("gen_ai_newest"));
    }
}
