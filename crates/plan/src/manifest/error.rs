//! What can be wrong with a manifest, each with what to do about it.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use super::{DOCUMENTS_MAX, MANIFEST_BYTES_MAX};
use crate::api::Kind;

/// One mistake. Whoever wrote the manifest can put it right; trying again does not help.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub struct ManifestError {
    /// The file, as the caller named it; empty when the resource was not read from one.
    pub file: Arc<str>,
    /// The line, from 1; 0 when the mistake is not at one place.
    pub line: u64,
    /// The path of the field (`spec.targets[0].model`); empty for the document as a whole.
    pub field: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong, and what to do.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Problem {
    /// The file is over [`MANIFEST_BYTES_MAX`].
    #[error("the manifest has {bytes} bytes, at most {MANIFEST_BYTES_MAX} are read; split it")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// No document is in the file.
    #[error("the manifest holds no resource; write one, or leave the file out")]
    Empty,
    /// There are more documents than [`DOCUMENTS_MAX`], or one is deeper or larger than allowed
    /// once its aliases are replaced.
    #[error(
        "the manifest is too complex ({0}); write at most {DOCUMENTS_MAX} documents, with less \
         nesting and fewer aliases"
    )]
    TooComplex(String),
    /// It is not YAML.
    #[error("this is not valid YAML: {0}")]
    Syntax(String),
    /// A key was written twice.
    #[error("`{key}` is written twice; remove one of the two")]
    Twice {
        /// The key.
        key: String,
    },
    /// A field that does not exist.
    #[error("there is no such field{} (fields here: {})", suggest(.suggestion), .known.join(", "))]
    UnknownField {
        /// The field that was probably meant.
        suggestion: Option<String>,
        /// The fields there are.
        known: Vec<String>,
    },
    /// A field that must be there.
    #[error("the field is missing; write {hint}")]
    Missing {
        /// What belongs there.
        hint: String,
    },
    /// A value of another type.
    #[error("expected {expected}, found {found}{}", remedy(.expected, .found))]
    Type {
        /// What belongs there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A number outside of its bounds.
    #[error("{found} is out of range; write a number {}", bounds(*.min, *.max))]
    Range {
        /// The number.
        found: String,
        /// The least that is allowed.
        min: Option<u64>,
        /// The most that is allowed.
        max: Option<u64>,
    },
    /// A list or text of the wrong length.
    #[error("there are {found} {unit}; write {}", lengths(*.min, *.max))]
    Length {
        /// How many there are.
        found: u64,
        /// Of what.
        unit: &'static str,
        /// The least that is allowed.
        min: u64,
        /// The most that is allowed.
        max: Option<u64>,
    },
    /// A word that is none of the known ones.
    #[error("{found} is not supported{} (supported: {})", suggest(.suggestion), .known.join(", "))]
    Choice {
        /// What is there.
        found: String,
        /// The word that was probably meant.
        suggestion: Option<String>,
        /// The words there are.
        known: Vec<String>,
    },
    /// A value that does not parse; the text says why.
    #[error("{0}")]
    Value(String),
    /// Two resources of one kind and name.
    #[error("a {kind} of the name `{name}` is defined at {first} already; rename or remove one")]
    Duplicate {
        /// Their kind.
        kind: Kind,
        /// Their name.
        name: String,
        /// Where the first one is.
        first: String,
    },
    /// A reference to a resource that is not there.
    #[error("there is no {kind} of the name `{name}`{}{}", suggest(.suggestion), listed(.known))]
    Dangling {
        /// The kind of what is missing.
        kind: Kind,
        /// Its name.
        name: String,
        /// The name that was probably meant.
        suggestion: Option<String>,
        /// The names there are.
        known: Vec<String>,
    },
    /// Two routes with one public name.
    #[error("the model name `{name}` leads to {first} already; a name leads to one place only")]
    NameTaken {
        /// The public name.
        name: String,
        /// Who has it.
        first: String,
    },
    /// Two routes that want different things of one queue.
    #[error(
        "the Model `{model}` has one queue, and the Route {first} says something else of it; write \
         the same {field} in both, or leave it out in one of them"
    )]
    LaneTaken {
        /// The model.
        model: String,
        /// The field in which they differ.
        field: String,
        /// The other route, and where it says so.
        first: String,
    },
    /// A key that belongs to two tenants, or is listed twice.
    #[error("this key belongs to the tenant `{first}` already; give each tenant keys of its own")]
    KeyTaken {
        /// Who has it.
        first: String,
    },
    /// The same tokens for two tenants, or twice for one.
    #[error(
        "the tenant `{first}` takes exactly these tokens already; match other claims, or remove one of the two"
    )]
    IdentityTaken {
        /// Who takes them.
        first: String,
    },
    /// A tenant that belongs, in the end, to itself.
    #[error("{}", circle(.names))]
    Cycle {
        /// Each belongs to the next, and the last to the first.
        names: Vec<String>,
    },
    /// A tenant below too many others.
    #[error(
        "`{name}` is on level {level} of the tenants, at most {most} are supported; leave out some"
    )]
    TooDeep {
        /// Which one.
        name: String,
        /// Where it is, from 1.
        level: usize,
        /// Levels there can be.
        most: usize,
    },
    /// Guarantees that cannot all be kept.
    #[error("{}", overcommitted(.parent, *.sum, *.most))]
    Overcommitted {
        /// Whose children; none at the top.
        parent: Option<String>,
        /// Percent that they are guaranteed in sum.
        sum: u64,
        /// Percent that there are.
        most: u64,
    },
    /// A second fleet.
    #[error("one machine has one Fleet, and `{first}` is defined already; remove one of the two")]
    SecondFleet {
        /// The name of the first one.
        first: String,
    },
}

/// All mistakes as text, one a line.
pub fn join(errors: &[ManifestError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl ManifestError {
    pub(crate) fn new(file: &Arc<str>, line: u64, field: &str, problem: Problem) -> Self {
        Self { file: Arc::clone(file), line, field: field.to_owned(), problem }
    }
}

impl Problem {
    /// A word that is none of the known ones, with the nearest of them.
    pub(super) fn choice(word: &str, found: String, known: Vec<String>) -> Self {
        Self::Choice { found, suggestion: nearest(word, &known), known }
    }
}

/// The known word that `word` was probably meant to be: as near as one mistake in three letters.
pub(super) fn nearest(word: &str, known: &[String]) -> Option<String> {
    let lower = word.to_lowercase();
    let distance = |other: &String| strsim::damerau_levenshtein(&lower, &other.to_lowercase());
    let best = known.iter().min_by_key(|other| distance(other))?;
    let near = distance(best) <= word.chars().count().max(best.chars().count()) / 3;
    (near && !word.is_empty()).then(|| best.clone())
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}:", self.file)?;
            if self.line > 0 {
                write!(f, "{}:", self.line)?;
            }
            f.write_str(" ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        fmt::Display::fmt(&self.problem, f)
    }
}

fn suggest(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|word| format!("; did you mean `{word}`?")).unwrap_or_default()
}

/// Names that one message lists.
const LISTED_MAX: usize = 20;

fn listed(known: &[String]) -> String {
    match known {
        [] => "; define one".to_owned(),
        known if known.len() > LISTED_MAX => {
            let (first, more) = (&known[..LISTED_MAX], known.len() - LISTED_MAX);
            format!(" (defined: {} and {more} more)", first.join(", "))
        }
        known => format!(" (defined: {})", known.join(", ")),
    }
}

fn circle(names: &[String]) -> String {
    match names {
        [one] => format!("`{one}` is its own parent; name another one, or remove the field"),
        names => format!(
            "these tenants belong to each other in a circle: {}; remove spec.parent of one of them",
            names.join(" → ")
        ),
    }
}

fn overcommitted(parent: &Option<String>, sum: u64, most: u64) -> String {
    match parent {
        None => format!(
            "the guarantees of the tenants at the top add up to {sum} percent; lower them to {most} \
             in sum"
        ),
        Some(parent) => format!(
            "the guarantees of the tenants below `{parent}` add up to {sum} percent, and its own is \
             {most}; lower them, or raise that of `{parent}`"
        ),
    }
}

/// What to do about a value of the wrong type, where that is plain.
fn remedy(expected: &str, found: &str) -> &'static str {
    let scalar = found.starts_with("the number") || found.starts_with("the truth value");
    let digits = found.trim_matches('`').bytes().all(|b| b.is_ascii_digit());
    match expected {
        "text" if scalar => "; put it in quotes",
        "a whole number" if digits => "; remove the quotes",
        _ if found == "nothing" => "; write a value or remove the field",
        _ => "",
    }
}

fn bounds(min: Option<u64>, max: Option<u64>) -> String {
    match (min, max) {
        (Some(min), Some(max)) => format!("from {min} to {max}"),
        (Some(min), None) => format!("of at least {min}"),
        (None, Some(max)) => format!("of at most {max}"),
        (None, None) => "that fits 64 bits".to_owned(),
    }
}

fn lengths(min: u64, max: Option<u64>) -> String {
    match max {
        Some(max) if min == max => format!("exactly {min}"),
        Some(max) => format!("{min} to {max}"),
        None => format!("at least {min}"),
    }
}
