//! What triage says: findings with their evidence, and a report that ranks them.

use serde::Serialize;

use super::attribution::Attribution;
use super::capacity::Capacity;
use super::sanity::Usable;

/// How much it matters, if it is so.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Requests are slower, or cost more, than they need to be.
    Warning,
    /// Requests fail or stand still.
    Critical,
}

/// A measure, and what it should have been or was expected to be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// What was measured.
    pub measure: String,
    /// What came out.
    pub value: f64,
    /// In what; empty for shares and numbers.
    pub unit: &'static str,
    /// What the finding expects of it: `>= 0.9`.
    pub expected: String,
    /// Whether it is so. One that is not speaks against the finding.
    pub holds: bool,
}

/// What a finding explains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Impact {
    /// Seconds of all requests of the window together; none where they are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Share of their time, or of the requests themselves, 0 to 1.
    pub share: f64,
}

/// Something to change.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Change {
    /// Where: `vLLM`, `manifest`, `shell`.
    pub place: &'static str,
    /// What to write there, to be copied.
    pub text: String,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Fix {
    /// In a sentence.
    pub what: String,
    /// To be copied.
    pub changes: Vec<Change>,
    /// What will come of it.
    pub predicted: String,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// Its id: `S01`.
    pub id: &'static str,
    /// Its name: `slot_bound`.
    pub name: &'static str,
    /// The model whose trouble it is; none where that was not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How much it matters.
    pub severity: Severity,
    /// What is so, in a sentence.
    pub title: String,
    /// The replicas that it is about; empty where it is about all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub about: Vec<String>,
    /// How sure it is, 0 to 1.
    pub confidence: f64,
    /// What it follows from.
    pub evidence: Vec<Line>,
    /// What it explains.
    pub impact: Impact,
    /// What to do.
    pub fix: Fix,
    /// What would show that it is not so.
    pub refuted_by: &'static str,
    /// Where to read on.
    pub runbook: String,
    /// Findings that follow from it.
    pub masks: &'static [&'static str],
    /// The finding that this one follows from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub follows_from: Option<&'static str>,
}

/// A signature that nobody could look for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Blind {
    /// Its id.
    pub id: &'static str,
    /// The first measure that is missing.
    pub missing: &'static str,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Verdict {
    /// This is why.
    Found {
        /// The first finding's id.
        id: &'static str,
        /// What it says.
        title: String,
        /// How sure it is.
        confidence: f64,
    },
    /// Of what could be looked for, nothing was found.
    NothingWrong {
        /// How many signatures could be looked for.
        judged: usize,
    },
    /// Too little is known to say so.
    NotEnough {
        /// What is missing, most wanted first.
        missing: Vec<&'static str>,
    },
}

/// All that triage says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The model that it is about, the one with the gravest trouble where all were looked at; none where that was not
    /// told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Seconds that it looks back; none where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_s: Option<f64>,
    /// Whether the evidence can be believed.
    pub usable: Usable,
    /// The answer.
    pub verdict: Verdict,
    /// What was found, causes first.
    pub findings: Vec<Finding>,
    /// What could not be looked for.
    pub blind: Vec<Blind>,
    /// Where time went.
    pub attribution: Attribution,
    /// What replicas can do.
    pub capacity: Capacity,
}
