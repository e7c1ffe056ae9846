//! A command line while it is put together: each flag is checked against the release's table before it is written.

use super::flags::{self, Severity, Table};
use super::{Engine, Launch, LaunchError, LaunchSpec, Version};

/// Arguments for one program.
pub(super) struct Arguments {
    engine: Engine,
    version: Option<Version>,
    table: Table,
    words: Vec<String>,
}

impl Arguments {
    /// None yet.
    pub(super) fn new(engine: Engine, launch: &Launch) -> Self {
        Self { engine, version: launch.version, table: engine.table(), words: Vec::new() }
    }

    /// A word that is no flag.
    pub(super) fn word(&mut self, word: impl Into<String>) -> &mut Self {
        self.words.push(word.into());
        self
    }

    /// A flag without a value.
    pub(super) fn switch(&mut self, flag: &str) -> &mut Self {
        self.word(flag)
    }

    /// A flag with a value.
    pub(super) fn set(&mut self, flag: &str, value: impl ToString) -> &mut Self {
        self.word(flag).word(value.to_string())
    }

    /// A flag with a value where there is one.
    pub(super) fn maybe(&mut self, flag: &str, value: Option<impl ToString>) -> &mut Self {
        if let Some(value) = value {
            self.set(flag, value);
        }
        self
    }

    /// Whether the release that is meant has a flag; without a release, the newest that was looked at.
    pub(super) fn has(&self, flag: &str) -> bool {
        let release = self.version.or_else(|| self.table.newest());
        let Some(release) = release else { return false };
        let here = |row: &&flags::Flag| {
            row.first <= release && row.last.is_none_or(|last| release <= last)
        };
        self.table.rows(flag).iter().any(here)
    }

    /// The words, with those of the user behind them. Flags that the user gives too are left out, so that a
    /// program does not see them twice.
    ///
    /// # Errors
    /// [`LaunchError::Arguments`] when the release does not take one of ours.
    pub(super) fn finish(
        &self,
        prefix: &[&str],
        launch: &Launch,
    ) -> Result<Vec<String>, LaunchError> {
        let findings = flags::check(self.engine, &self.words, self.version, &[]);
        let fatal = findings.iter().filter(|finding| finding.severity() == Severity::Error);
        let wrong: Vec<_> = fatal.map(|f| f.describe(self.engine, self.version)).collect();
        if !wrong.is_empty() {
            return Err(LaunchError::Arguments(wrong));
        }
        let mut words: Vec<String> = prefix.iter().map(|word| (*word).to_owned()).collect();
        words.extend(self.without(&launch.extra));
        words.extend(launch.extra.iter().cloned());
        Ok(words)
    }

    /// Our words without the flags that others say.
    fn without(&self, others: &[String]) -> Vec<String> {
        let theirs = flags::split(self.engine, &self.table, others);
        let said = |name: &str| theirs.iter().any(|argument| argument.name == name);
        let mut kept = Vec::new();
        for argument in flags::split(self.engine, &self.table, &self.words) {
            if argument.name.is_empty() || !said(&argument.name) {
                kept.extend(self.words.iter().skip(argument.index).take(argument.words).cloned());
            }
        }
        kept
    }
}

/// An error about something that a program does not do.
pub(super) fn unsupported(engine: Engine, what: &str, instead: &str) -> LaunchError {
    LaunchError::Unsupported { engine, what: what.to_owned(), instead: instead.to_owned() }
}

/// Refuses what runs on several nodes.
pub(super) fn one_node(engine: Engine, launch: &Launch) -> Result<(), LaunchError> {
    if launch.nodes() == 1 {
        return Ok(());
    }
    let what = format!("runs on one node, and this shape needs {}", launch.nodes());
    Err(unsupported(engine, &what, "choose vLLM or SGLang, or a shape of one node"))
}

/// Refuses stages.
pub(super) fn no_pipeline(engine: Engine, launch: &Launch) -> Result<(), LaunchError> {
    if launch.shape.pipeline == 1 && launch.shape.data == 1 {
        return Ok(());
    }
    let what = format!("divides a model by tensor parallelism only, not as {}", launch.shape);
    Err(unsupported(engine, &what, "choose vLLM or SGLang, or a shape with TP alone"))
}

/// Refuses adapters, where a program takes none at its start.
pub(super) fn no_adapters(engine: Engine, launch: &Launch) -> Result<(), LaunchError> {
    if launch.features.adapters.is_empty() {
        return Ok(());
    }
    Err(unsupported(
        engine,
        "is not started with LoRA adapters by name here",
        "choose vLLM or SGLang",
    ))
}

/// Says that a program is started without a key, where one is wished.
pub(super) fn note_key(spec: &mut LaunchSpec, launch: &Launch) {
    if launch.has_key {
        let title = spec.engine.title();
        spec.notes.push(format!(
            "{title} takes no key from its environment: none is set, and its port must be reachable by the gateway alone"
        ));
    }
}

/// Notes for what was wished and is not there, in the order of the features.
pub(super) fn note_missing(spec: &mut LaunchSpec, missing: &[(bool, &str)]) {
    for (_, what) in missing.iter().filter(|(wanted, _)| *wanted) {
        spec.notes.push(format!("{} has no {what}: it is left out", spec.engine.title()));
    }
}
