//! What flags each program knows, by release: tables that were made from the programs' own sources, and the check
//! of arguments against them.
//!
//! A table is a text beside this file, which says where it comes from. Only the releases named there were looked
//! at; what holds between two of them is known where both agree.

mod arguments;
mod check;

use super::{Engine, Version};

pub(super) use arguments::split;
pub use check::{Fault, Finding, Severity, check};

/// What kind of value a flag takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// None.
    Switch,
    /// None, or a text.
    Optional,
    /// A whole number.
    Integer,
    /// A number of tokens or bytes: whole, with `k`, `M`, `G` behind it, or `auto`.
    Tokens,
    /// A number.
    Number,
    /// Any text.
    Text,
    /// One text or several.
    List,
    /// JSON.
    Json,
}

/// One flag during the releases that it is the same in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Flag {
    /// Its name, with its dashes.
    pub name: &'static str,
    /// Other names.
    pub aliases: Vec<&'static str>,
    /// What value it takes.
    pub kind: Kind,
    /// The first release looked at that has it.
    pub first: Version,
    /// The last release looked at that has it, where a later one has not.
    pub last: Option<Version>,
    /// The first release looked at that warns of it.
    pub old: Option<Version>,
    /// What stands in for it.
    pub instead: Option<&'static str>,
}

/// The flags of one program.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Table {
    /// The releases that were looked at, in order.
    pub releases: Vec<Version>,
    /// The flags, by name.
    pub flags: Vec<Flag>,
    /// Where all this comes from.
    pub source: String,
}

/// The table of a program.
pub fn table(engine: Engine) -> Table {
    read(match engine {
        Engine::Embedded => include_str!("embedded.txt"),
        Engine::Vllm => include_str!("vllm.txt"),
        Engine::Sglang => include_str!("sglang.txt"),
        Engine::Tgi => include_str!("tgi.txt"),
        Engine::TensorRtLlm => include_str!("trtllm.txt"),
        Engine::Triton => include_str!("triton.txt"),
        Engine::DeepSpeed => include_str!("deepspeed.txt"),
        Engine::LlamaCpp => include_str!("llama_cpp.txt"),
        Engine::Ollama => include_str!("ollama.txt"),
    })
}

/// Lines that are not of the form are passed over; a test holds that there are none.
fn read(text: &'static str) -> Table {
    let source = |line: &'static str| line.strip_prefix("# ");
    let about = |line: &&str| !line.starts_with("Columns:") && !line.starts_with("apply alias=");
    let head: Vec<&str> = text.lines().map_while(source).filter(about).collect();
    let releases = text.lines().find_map(|line| line.strip_prefix("looked-at "));
    let releases = releases.unwrap_or("").split(' ').filter_map(Version::parse).collect();
    let flags = text.lines().filter(|line| is_row(line)).filter_map(Flag::read).collect();
    Table { releases, flags, source: head.join(" ") }
}

fn is_row(line: &str) -> bool {
    !line.is_empty() && !line.starts_with('#') && !line.starts_with("looked-at ")
}

impl Flag {
    fn read(line: &'static str) -> Option<Self> {
        let mut columns = line.split(' ');
        let name = columns.next()?;
        let kind = Kind::read(columns.next()?)?;
        let (first, last) = columns.next()?.split_once("..")?;
        let mut flag = Self {
            name,
            aliases: Vec::new(),
            kind,
            first: Version::parse(first)?,
            last: Version::parse(last),
            old: None,
            instead: None,
        };
        for column in columns {
            match column.split_once('=')? {
                ("alias", names) => flag.aliases = names.split(',').collect(),
                ("old", release) => flag.old = Some(Version::parse(release)?),
                ("use", name) => flag.instead = Some(name),
                _ => return None,
            }
        }
        Some(flag)
    }

    /// Whether it goes by that name.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }
}

impl Kind {
    fn read(name: &str) -> Option<Self> {
        Some(match name {
            "switch" => Self::Switch,
            "switch?" => Self::Optional,
            "integer" => Self::Integer,
            "tokens" => Self::Tokens,
            "number" => Self::Number,
            "text" => Self::Text,
            "list" => Self::List,
            "json" => Self::Json,
            _ => return None,
        })
    }

    /// What it takes, in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Switch => "no value",
            Self::Optional => "no value or a text",
            Self::Integer => "a whole number",
            Self::Tokens => "a whole number, with or without k, M or G",
            Self::Number => "a number",
            Self::Text => "a text",
            Self::List => "one value or several",
            Self::Json => "JSON",
        }
    }
}

impl Table {
    /// The newest release that was looked at.
    pub fn newest(&self) -> Option<Version> {
        self.releases.last().copied()
    }

    /// All rows of a name, the latest last.
    pub fn rows(&self, name: &str) -> Vec<&Flag> {
        let mut rows: Vec<&Flag> = self.flags.iter().filter(|f| f.is_called(name)).collect();
        rows.sort_by_key(|flag| flag.first);
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::{Engine, Flag, is_row, table};

    #[test]
    fn every_line_of_every_table_is_read() {
        for engine in Engine::ALL {
            let table = table(engine);
            assert!(!table.releases.is_empty(), "{engine}");
            assert!(table.releases.is_sorted(), "{engine}");
            assert!(table.source.len() > 20, "{engine} says where it comes from");
            let text = [
                include_str!("embedded.txt"),
                include_str!("vllm.txt"),
                include_str!("sglang.txt"),
                include_str!("tgi.txt"),
                include_str!("trtllm.txt"),
                include_str!("triton.txt"),
                include_str!("deepspeed.txt"),
                include_str!("llama_cpp.txt"),
                include_str!("ollama.txt"),
            ];
            for line in text.iter().flat_map(|text| text.lines()).filter(|line| is_row(line)) {
                assert!(Flag::read(line).is_some(), "{line}");
            }
            for flag in &table.flags {
                assert!(table.releases.contains(&flag.first), "{engine}: {flag:?}");
                assert!(flag.last.is_none_or(|last| table.releases.contains(&last)), "{flag:?}");
                assert!(flag.last.is_none_or(|last| last >= flag.first), "{flag:?}");
            }
        }
    }

    #[test]
    fn what_stands_in_for_a_flag_is_itself_a_flag() {
        for engine in Engine::ALL {
            let table = table(engine);
            for flag in &table.flags {
                let Some(instead) = flag.instead else { continue };
                let plain = instead.replace("--no-", "--");
                let is_known = !table.rows(instead).is_empty() || !table.rows(&plain).is_empty();
                assert!(is_known, "{engine}: {} says {instead}", flag.name);
            }
        }
    }
}
