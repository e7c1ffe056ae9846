//! Splits a command line into flags with their values, in the ways in which the programs themselves do.

use super::{Engine, Kind, Table};

/// A flag with what stands behind it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::launch) struct Argument {
    /// Its place among the words of the command line, from 0.
    pub(in crate::launch) index: usize,
    /// Its name as the table has it, or as it was written where the table does not.
    pub(in crate::launch) name: String,
    /// As it was written, without a value behind `=`.
    pub(in crate::launch) written: String,
    /// Whether it says no: `--no-enable-prefix-caching`.
    pub(in crate::launch) is_negated: bool,
    /// How many words it takes, itself and its values.
    pub(in crate::launch) words: usize,
    /// Its values.
    pub(in crate::launch) values: Vec<String>,
    /// The kind of value of the table's latest row; none where the table does not have it.
    pub(in crate::launch) kind: Option<Kind>,
}

/// Splits words. What stands before all flags, or behind the values of one, is an argument with an empty name.
pub(in crate::launch) fn split(engine: Engine, table: &Table, words: &[String]) -> Vec<Argument> {
    let mut found: Vec<Argument> = Vec::new();
    let mut open = false;
    for (index, word) in words.iter().enumerate() {
        if is_flag(engine, word) {
            let (argument, is_open) = flag(engine, table, index, word);
            found.push(argument);
            open = is_open;
            continue;
        }
        match found.last_mut() {
            Some(last) if open => {
                last.take(word);
                open = last.kind == Some(Kind::List) || last.kind.is_none();
            }
            Some(last) if last.kind == Some(Kind::Switch) => last.take(word),
            _ => found.push(stray(index, word)),
        }
    }
    found
}

/// Whether a word is a flag rather than a value. A number may have a sign.
fn is_flag(engine: Engine, word: &str) -> bool {
    if engine.is_set_by_environment() {
        return word.contains('=') || word.starts_with("OLLAMA_");
    }
    let rest = word.strip_prefix('-');
    rest.is_some_and(|rest| rest.starts_with(|c: char| c == '-' || c.is_ascii_alphabetic()))
}

fn flag(engine: Engine, table: &Table, index: usize, word: &str) -> (Argument, bool) {
    let (written, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (word, None),
    };
    let (name, is_negated, kind) = known(engine, table, written);
    let takes_more = match kind {
        Some(Kind::Switch) => false,
        _ => value.is_none(),
    };
    let argument = Argument {
        index,
        name,
        written: written.to_owned(),
        is_negated,
        words: 1,
        values: value.into_iter().collect(),
        kind,
    };
    (argument, takes_more)
}

/// The flag that a word means, whether it says no, and its kind.
fn known(engine: Engine, table: &Table, written: &str) -> (String, bool, Option<Kind>) {
    let mut name = written.to_owned();
    if engine == Engine::Vllm {
        name = vllm_name(written);
    }
    let kind = |name: &str| table.rows(name).last().map(|flag| (flag.name.to_owned(), flag.kind));
    if let Some((canonical, mut kind)) = kind(&name) {
        // A part of a JSON value: `--speculative-config.model NAME`.
        if written.contains('.') {
            kind = Kind::Text;
        }
        // The level may stand right behind the letter: `-O3`.
        if written.starts_with("-O") && engine == Engine::Vllm {
            kind = Kind::Optional;
        }
        return (canonical, name.starts_with("--no-"), Some(kind));
    }
    // Switches of vLLM are pairs: argparse's `BooleanOptionalAction`.
    if let Some(positive) = name.strip_prefix("--no-").filter(|_| engine == Engine::Vllm)
        && let Some((canonical, Kind::Switch)) = kind(&format!("--{positive}"))
    {
        return (canonical, true, Some(Kind::Switch));
    }
    (name, false, None)
}

/// vLLM reads underscores as dashes, `--x.y` as a part of `--x`, and `-O3` as a level of compilation.
fn vllm_name(written: &str) -> String {
    let plain = written.split('.').next().unwrap_or(written);
    if plain.starts_with("--") {
        return plain.replace('_', "-");
    }
    if plain.starts_with("-O") { "--compilation-config".to_owned() } else { plain.to_owned() }
}

fn stray(index: usize, word: &str) -> Argument {
    Argument {
        index,
        name: String::new(),
        written: word.to_owned(),
        is_negated: false,
        words: 1,
        values: Vec::new(),
        kind: None,
    }
}

impl Argument {
    fn take(&mut self, word: &str) {
        self.words += 1;
        self.values.push(word.to_owned());
    }
}
