//! Checks arguments against a table: unknown, gone, renamed, with a wrong value, or set by Pilotage itself.

use std::fmt;

use serde::Serialize;

use super::arguments::{Argument, split};
use super::{Engine, Flag, Kind, Table, Version, table};

/// How alike names must be to be taken for a slip of the finger (Jaro–Winkler).
const ALIKE: f64 = 0.88;

/// How bad it is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It may work.
    Warning,
    /// The program does not start with it, or Pilotage does not work with it.
    Error,
}

/// Something about one argument.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// Its place among the words that were checked, from 0; 0 also for what concerns all of them.
    pub index: usize,
    /// The flag as it was written; empty for what concerns all of them.
    pub flag: String,
    /// What is the matter.
    pub fault: Fault,
    /// Whether the release is not known well enough for it to be sure.
    pub is_guess: bool,
}

/// What is the matter with an argument.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// No release that was looked at has it.
    Unknown {
        /// A flag with a similar name that this release has.
        nearest: Option<String>,
    },
    /// Later releases have it.
    TooNew {
        /// The first one looked at that does.
        first: Version,
    },
    /// Earlier releases had it.
    Gone {
        /// The last one looked at that did.
        last: Version,
        /// What stands in for it.
        instead: Option<String>,
    },
    /// This release warns of it.
    Old {
        /// What stands in for it.
        instead: Option<String>,
    },
    /// Only one of the two releases around this one has it.
    Unsure {
        /// The one that has it.
        has: Version,
        /// The one that has not.
        lacks: Version,
    },
    /// The value is of another kind.
    Value {
        /// What it takes.
        takes: &'static str,
    },
    /// Pilotage sets it.
    Ours {
        /// What to write instead.
        instead: &'static str,
    },
    /// A word that belongs to no flag.
    Stray,
    /// The same flag twice.
    Twice,
    /// The release is older or newer than all that were looked at, or not known.
    Release {
        /// The one it was checked as.
        checked_as: Version,
    },
}

/// Checks a program's words. `version` is the release they are for; without one the newest that was looked at.
/// `ours` are the flags that Pilotage sets itself, with what to write instead.
pub fn check(
    engine: Engine,
    words: &[String],
    version: Option<Version>,
    ours: &[(&str, &'static str)],
) -> Vec<Finding> {
    let table = table(engine);
    let mut findings = Vec::new();
    let Some(around) = Around::find(&table, version) else { return findings };
    if let Some(checked_as) = around.guessed {
        let fault = Fault::Release { checked_as };
        findings.push(Finding { index: 0, flag: String::new(), fault, is_guess: true });
    }
    let arguments = split(engine, &table, words);
    for (place, argument) in arguments.iter().enumerate() {
        let mut report = |fault| {
            let flag = argument.written.clone();
            let is_guess = around.may_be_wrong(version, &fault);
            findings.push(Finding { index: argument.index, flag, fault, is_guess });
        };
        if argument.name.is_empty() {
            report(Fault::Stray);
            continue;
        }
        if let Some((_, instead)) = ours.iter().find(|(name, _)| *name == argument.name) {
            report(Fault::Ours { instead });
            continue;
        }
        if let Some(fault) = around.presence(&table, &argument.name) {
            let is_fatal = fault.severity() == Severity::Error;
            report(fault);
            if is_fatal {
                continue;
            }
        }
        if let Some(fault) = value(argument) {
            report(fault);
        }
        if is_repeated(argument, &arguments[..place]) {
            report(Fault::Twice);
        }
    }
    findings
}

/// The releases looked at that are nearest to the one that is meant.
struct Around {
    /// The last one that is not later.
    below: Version,
    /// The first one that is not earlier.
    above: Version,
    /// The release that stands for one of which nothing is known.
    guessed: Option<Version>,
}

impl Around {
    fn find(table: &Table, version: Option<Version>) -> Option<Self> {
        let (oldest, newest) = (*table.releases.first()?, table.newest()?);
        let all = |release| Self { below: release, above: release, guessed: Some(release) };
        let Some(version) = version else { return Some(all(newest)) };
        if version > newest {
            return Some(all(newest));
        }
        if version < oldest {
            return Some(all(oldest));
        }
        let below = table.releases.iter().rev().find(|release| **release <= version)?;
        let above = table.releases.iter().find(|release| **release >= version)?;
        Some(Self { below: *below, above: *above, guessed: None })
    }

    /// Whether what is told of a flag may not hold for the release that is meant: a later one than all that
    /// were looked at may have any flag, and where nobody knows the release it may be an earlier one.
    fn may_be_wrong(&self, version: Option<Version>, fault: &Fault) -> bool {
        let is_later = version.is_some_and(|version| version > self.above);
        match fault {
            Fault::Unknown { .. } => is_later,
            Fault::Gone { .. } => is_later || version.is_none(),
            _ => false,
        }
    }

    /// What is wrong with a flag's being there at all.
    fn presence(&self, table: &Table, name: &str) -> Option<Fault> {
        let rows = table.rows(name);
        let (below, above) = (row_at(&rows, self.below), row_at(&rows, self.above));
        match (below, above) {
            (Some(_), Some(flag)) => old(flag, self.below),
            (Some(_), None) => Some(Fault::Unsure { has: self.below, lacks: self.above }),
            (None, Some(_)) => Some(Fault::Unsure { has: self.above, lacks: self.below }),
            (None, None) => Some(absent(table, &rows, self, name)),
        }
    }
}

fn row_at<'a>(rows: &[&'a Flag], release: Version) -> Option<&'a Flag> {
    let holds =
        |flag: &&&Flag| flag.first <= release && flag.last.is_none_or(|last| release <= last);
    rows.iter().find(holds).copied()
}

fn old(flag: &Flag, release: Version) -> Option<Fault> {
    let is_old = flag.old.is_some_and(|old| old <= release);
    is_old.then(|| Fault::Old { instead: flag.instead.map(str::to_owned) })
}

fn absent(table: &Table, rows: &[&Flag], around: &Around, name: &str) -> Fault {
    if let Some(gone) = rows.iter().rev().find(|flag| flag.last.is_some_and(|l| l < around.below)) {
        let instead = gone.instead.filter(|instead| {
            let plain = instead.replace("--no-", "--");
            row_at(&table.rows(&plain), around.below).is_some()
        });
        return Fault::Gone {
            last: gone.last.unwrap_or(around.below),
            instead: instead.map(str::to_owned),
        };
    }
    match rows.first() {
        Some(flag) => Fault::TooNew { first: flag.first },
        None => Fault::Unknown { nearest: nearest(table, around, name) },
    }
}

/// The most similar name that the releases around have.
fn nearest(table: &Table, around: &Around, name: &str) -> Option<String> {
    let plain = |name: &str| name.trim_start_matches('-').replace(['_', '-'], "");
    let wanted = plain(name);
    let here = table.flags.iter().filter(|flag| row_at(&[flag], around.below).is_some());
    let scored = here.map(|flag| (strsim::jaro_winkler(&plain(flag.name), &wanted), flag.name));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(a.1)))?;
    (best.0 >= ALIKE).then(|| best.1.to_owned())
}

fn value(argument: &Argument) -> Option<Fault> {
    let kind = argument.kind?;
    let takes = kind.words();
    let wrong = match kind {
        Kind::Switch => !argument.values.is_empty(),
        Kind::Optional => argument.values.len() > 1,
        Kind::List => argument.values.is_empty(),
        _ => match argument.values.as_slice() {
            [value] => !fits(kind, value),
            _ => true,
        },
    };
    wrong.then_some(Fault::Value { takes })
}

fn fits(kind: Kind, value: &str) -> bool {
    // What an executor fills in is a number or a path, which only it knows.
    if value.starts_with('{') && value.ends_with('}') && kind != Kind::Json {
        return true;
    }
    match kind {
        Kind::Integer => value.parse::<i64>().is_ok(),
        Kind::Number => value.parse::<f64>().is_ok(),
        Kind::Tokens => is_amount(value),
        Kind::Json => serde_json::from_str::<serde::de::IgnoredAny>(value).is_ok(),
        _ => true,
    }
}

fn is_amount(value: &str) -> bool {
    let number = value.strip_suffix(['k', 'K', 'm', 'M', 'g', 'G', 't', 'T']);
    value == "auto"
        || value.parse::<i64>().is_ok()
        || number.is_some_and(|number| number.parse::<f64>().is_ok_and(|n| n >= 0.0))
}

/// Flags that may be given again are those with several values, and parts of JSON.
fn is_repeated(argument: &Argument, before: &[Argument]) -> bool {
    let may = matches!(argument.kind, Some(Kind::List | Kind::Json) | None);
    let same = |other: &Argument| other.name == argument.name && other.written == argument.written;
    !may && before.iter().any(same)
}

impl Fault {
    /// How bad it is.
    pub const fn severity(&self) -> Severity {
        match self {
            Self::Old { .. } | Self::Unsure { .. } | Self::Release { .. } | Self::Twice => {
                Severity::Warning
            }
            Self::Unknown { .. }
            | Self::TooNew { .. }
            | Self::Gone { .. }
            | Self::Value { .. }
            | Self::Ours { .. }
            | Self::Stray => Severity::Error,
        }
    }
}

impl Finding {
    /// How bad it is.
    pub const fn severity(&self) -> Severity {
        if self.is_guess { Severity::Warning } else { self.fault.severity() }
    }

    /// The same in words, for the release of a program that was meant.
    pub fn describe(&self, engine: Engine, version: Option<Version>) -> String {
        let flag = &self.flag;
        let release = match version {
            Some(version) => format!("{} {version}", engine.title()),
            None => engine.title().to_owned(),
        };
        match &self.fault {
            Fault::Unknown { nearest: Some(near) } => {
                format!("{release} has no `{flag}`; did you mean `{near}`?")
            }
            Fault::Unknown { nearest: None } => format!("{release} has no `{flag}`; remove it"),
            Fault::TooNew { first } => {
                format!(
                    "{release} has no `{flag}`, {first} is the first known to; use that, or remove the flag"
                )
            }
            Fault::Gone { last, instead: Some(instead) } => {
                format!("{release} has no `{flag}`, {last} is the last known to; write `{instead}`")
            }
            Fault::Gone { last, instead: None } => {
                format!("{release} has no `{flag}`, {last} is the last known to; remove it")
            }
            Fault::Old { instead: Some(instead) } => {
                format!("{release} warns of `{flag}`; write `{instead}`")
            }
            Fault::Old { instead: None } => format!("{release} warns of `{flag}`, which will go"),
            Fault::Unsure { has, lacks } => {
                format!("{release} may not have `{flag}`: {has} has it, {lacks} has not")
            }
            Fault::Value { takes } => format!("`{flag}` takes {takes}"),
            Fault::Ours { instead } => format!("Pilotage sets `{flag}` itself; {instead}"),
            Fault::Stray => format!("`{flag}` belongs to no flag; remove it"),
            Fault::Twice => format!("`{flag}` is there twice, and the last one counts"),
            Fault::Release { checked_as } => {
                format!(
                    "the flags of {release} are not known here; checked as those of {checked_as}"
                )
            }
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}
