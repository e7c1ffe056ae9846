//! How a finding is made: from what it needs, what speaks for it and what against it.
//!
//! What a rule needs must be known and so. What backs it raises the confidence where it is so, lowers
//! it where it is not, and leaves it as it is where it is unknown. Each of these moves it by the same
//! part of what is left, so that ten weak signs make no certainty and no order matters.

use super::attribution::Phase;
use super::facts::Facts;
use super::finding::{Finding, Fix, Impact, Line, Severity};
use super::rules::Rule;

/// Confidence where all that a rule needs is so and nothing else is known: more often right than
/// wrong, and not to be acted on without a look.
const CONFIDENCE: f64 = 0.65;

/// The most that evidence of this sort can give.
const CONFIDENCE_MAX: f64 = 0.97;

/// The part of what is missing that a sign gives.
const BACKED: f64 = 0.4;

/// The part of it that is left after a sign against it.
const AGAINST: f64 = 0.75;

/// Share of the requests' time that a finding counts for where no phase says how much it explains.
const SHARE_UNKNOWN: f64 = 0.05;

/// Most replicas that a finding names.
const NAMED_MAX: usize = 8;

/// Why a rule found nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Miss {
    /// It is not so.
    Fine,
    /// This is not known.
    Unknown(&'static str),
}

/// What a rule says.
pub(super) type Outcome = Result<Finding, Miss>;

/// A measure and a limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Test {
    measure: &'static str,
    value: Option<f64>,
    limit: f64,
    unit: &'static str,
    is_above: bool,
}

/// At least so much.
pub(super) fn above(
    measure: &'static str,
    value: Option<f64>,
    limit: f64,
    unit: &'static str,
) -> Test {
    Test { measure, value: known(value), limit, unit, is_above: true }
}

/// Less than that.
pub(super) fn below(
    measure: &'static str,
    value: Option<f64>,
    limit: f64,
    unit: &'static str,
) -> Test {
    Test { measure, value: known(value), limit, unit, is_above: false }
}

/// Whether it is so.
pub(super) fn is_so(measure: &'static str, value: Option<bool>) -> Test {
    above(measure, value.map(|is| if is { 1.0 } else { 0.0 }), 1.0, "")
}

/// What is no number is not known: it came of a division that made no sense.
fn known(value: Option<f64>) -> Option<f64> {
    value.filter(|value| value.is_finite())
}

impl Test {
    fn holds(&self) -> Option<bool> {
        self.value.map(|value| if self.is_above { value >= self.limit } else { value < self.limit })
    }

    fn line(&self) -> Option<Line> {
        let sign = if self.is_above { ">=" } else { "<" };
        Some(Line {
            measure: self.measure.to_owned(),
            value: self.value?,
            unit: self.unit,
            expected: format!("{sign} {}", super::text::number(self.limit)),
            holds: self.holds()?,
        })
    }
}

/// A finding in the making.
pub(super) struct Case<'a> {
    rule: &'static Rule,
    facts: &'a Facts<'a>,
    lines: Vec<Line>,
    about: Vec<String>,
    confidence: f64,
    share: Option<f64>,
    title: Option<String>,
}

impl<'a> Case<'a> {
    /// Of a rule, over these facts.
    pub(super) fn of(rule: &'static Rule, facts: &'a Facts<'a>) -> Self {
        let (lines, about) = (Vec::new(), Vec::new());
        Self { rule, facts, lines, about, confidence: CONFIDENCE, share: None, title: None }
    }

    /// What must be known and so.
    pub(super) fn needs(&mut self, test: Test) -> Result<(), Miss> {
        self.needs_any(&[test])
    }

    /// Of which one must be known and so; those that are so are shown.
    pub(super) fn needs_any(&mut self, tests: &[Test]) -> Result<(), Miss> {
        if tests.iter().all(|test| test.value.is_none()) {
            return Err(Miss::Unknown(tests.first().map_or("", |test| test.measure)));
        }
        let before = self.lines.len();
        self.lines
            .extend(tests.iter().filter(|test| test.holds() == Some(true)).filter_map(Test::line));
        if self.lines.len() > before { Ok(()) } else { Err(Miss::Fine) }
    }

    /// What must not be so, as far as it is known.
    pub(super) fn unless(&self, test: Test) -> Result<(), Miss> {
        if test.holds() == Some(true) { Err(Miss::Fine) } else { Ok(()) }
    }

    /// What speaks for it, if it is so.
    pub(super) fn backed_by(&mut self, test: Test) {
        match test.holds() {
            Some(true) => self.confidence += (CONFIDENCE_MAX - self.confidence) * BACKED,
            Some(false) => self.confidence *= AGAINST,
            None => {}
        }
        self.lines.extend(test.line());
    }

    /// What needs no sign beside it: a comparison of texts, or a counter that can only mean one thing.
    pub(super) fn is_certain(&mut self) {
        self.confidence = CONFIDENCE_MAX;
    }

    /// The replicas that it is about.
    pub(super) fn about(&mut self, names: impl IntoIterator<Item = String>) {
        self.about = names.into_iter().take(NAMED_MAX).collect();
    }

    /// What it says here, instead of what it says in general.
    pub(super) fn title(&mut self, title: String) {
        self.title = Some(title);
    }

    /// The share of the requests, or of their time, that it explains, where that is not all of its phases.
    pub(super) fn explains(&mut self, share: Option<f64>) {
        self.share = share.map(|share| share.clamp(0.0, 1.0));
    }

    /// The finding, with what to do about it.
    pub(super) fn finding(self, fix: Fix) -> Finding {
        let rule = self.rule;
        let attribution = &self.facts.attribution;
        let phases: &[Phase] = rule.explains;
        let part = self.part();
        let of_phases = attribution.share(phases).filter(|_| !phases.is_empty());
        let share = self.share.or_else(|| Some(of_phases? * part)).unwrap_or(SHARE_UNKNOWN);
        let seconds =
            attribution.seconds(phases).filter(|_| self.share.is_none() && !phases.is_empty());
        Finding {
            id: rule.id,
            name: rule.name,
            model: None,
            severity: rule.severity,
            title: self.title.unwrap_or_else(|| rule.title.to_owned()),
            about: self.about,
            confidence: self.confidence,
            evidence: self.lines,
            impact: Impact { seconds: seconds.map(|seconds| seconds * part), share },
            fix,
            refuted_by: rule.refuted_by,
            runbook: runbook(rule),
            masks: rule.masks,
            follows_from: None,
        }
    }

    /// The part of the replicas that it is about.
    fn part(&self) -> f64 {
        let all = self.facts.evidence.replicas.len();
        if self.about.is_empty() || all == 0 { 1.0 } else { self.about.len() as f64 / all as f64 }
    }
}

/// The heading of a signature in the guide.
fn runbook(rule: &Rule) -> String {
    format!("{}-{}", rule.id.to_lowercase(), rule.name.replace('_', "-"))
}

impl Severity {
    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::evidence::Evidence;
    use super::super::rules::RULES;
    use super::*;

    fn confidence(tests: &[Test]) -> f64 {
        let evidence = Evidence::default();
        let facts = Facts::of(&evidence);
        let mut case = Case::of(RULES[0], &facts);
        tests.iter().for_each(|test| case.backed_by(*test));
        case.finding(Fix::default()).confidence
    }

    #[test]
    fn signs_move_confidence_and_unknown_ones_do_not() {
        let sign = |value: Option<f64>| above("apples", value, 3.0, "");
        let plain = confidence(&[]);
        assert!((plain - CONFIDENCE).abs() < 1e-9);
        assert!((confidence(&[sign(None)]) - plain).abs() < 1e-9);
        assert!(confidence(&[sign(Some(3.0))]) > plain);
        assert!(confidence(&[sign(Some(2.9))]) < plain);
        assert!(confidence(&[sign(Some(9.0)); 50]) <= CONFIDENCE_MAX);
    }

    #[test]
    fn what_is_needed_is_known_and_so() {
        let evidence = Evidence::default();
        let facts = Facts::of(&evidence);
        let mut case = Case::of(RULES[0], &facts);
        assert_eq!(case.needs(above("apples", Some(3.0), 3.0, "")), Ok(()));
        assert_eq!(case.needs(below("apples", Some(3.0), 3.0, "")), Err(Miss::Fine));
        assert_eq!(case.needs(above("apples", None, 3.0, "")), Err(Miss::Unknown("apples")));
        assert_eq!(
            case.needs(above("apples", Some(f64::NAN), 3.0, "")),
            Err(Miss::Unknown("apples"))
        );
        let (pears, plums) = (above("pears", None, 1.0, ""), above("plums", Some(1.0), 1.0, ""));
        assert_eq!(case.needs_any(&[pears, plums]), Ok(()));
        assert_eq!(case.needs_any(&[pears]), Err(Miss::Unknown("pears")));
        assert_eq!(case.unless(plums), Err(Miss::Fine));
        assert_eq!(case.unless(pears), Ok(()));
        assert_eq!(case.lines.len(), 2);
    }
}
