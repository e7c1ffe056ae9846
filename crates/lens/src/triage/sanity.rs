//! Whether the evidence can be believed, before anything is concluded from it.

use serde::Serialize;

use super::capacity::{Capacity, FULL};
use super::evidence::{Evidence, Run};

/// A sample may be this many intervals old: one can be lost.
const AGE_INTERVALS_MAX: f64 = 3.0;

/// The shortest window: two samples at the usual interval of 15 s.
const WINDOW_MIN_S: f64 = 30.0;

/// Fewest requests for a mean: AIPerf's attribution asks for ten in each window.
pub(super) const REQUESTS_MIN: f64 = 10.0;

/// Fewest requests for a 99th percentile: of 500 five lie beyond it. Of 100 requests the slowest is
/// below the true one in 37 of 100 cases (0.99 to the power of 100).
const TAIL_MIN: f64 = 500.0;

/// A difference of clocks above it makes times between machines worthless.
const SKEW_MAX_S: f64 = 1.0;

/// A queue grows where the time to the first token does so by more than this part of itself between
/// the first third of a run and the last. An effect and not a p-value: of 20 published runs, all stable
/// ones have slopes with t above 2.5.
pub(super) const GROWTH_MAX: f64 = 0.5;

/// Little's law fails by more than this where something is not counted (AIPerf: suspicious).
const RESIDUAL_MAX: f64 = 0.15;

/// What is wrong with the evidence.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Note {
    /// What.
    pub what: String,
    /// What that means for what follows.
    pub so: &'static str,
    /// Whether nothing that follows can be believed.
    pub is_fatal: bool,
}

/// Requests that ended in the window.
pub(super) fn ended(evidence: &Evidence) -> Option<f64> {
    let own = evidence.replicas.iter().filter_map(|replica| replica.deltas.requests);
    evidence.gateway.traffic.requests.or_else(|| own.reduce(|sum, next| sum + next))
}

/// Whether evidence can be believed.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Usable {
    /// What is wrong with it.
    pub notes: Vec<Note>,
}

impl Usable {
    /// Looks at it.
    pub fn of(evidence: &Evidence, capacity: &Capacity) -> Self {
        let mut usable = Self::default();
        usable.sight(evidence);
        usable.numbers(evidence);
        usable.law(capacity);
        evidence.runs.iter().for_each(|run| usable.run(run, capacity));
        usable
    }

    /// Whether it can be believed at all.
    pub fn is_usable(&self) -> bool {
        !self.notes.iter().any(|note| note.is_fatal)
    }

    fn note(&mut self, what: String, so: &'static str, is_fatal: bool) {
        self.notes.push(Note { what, so, is_fatal });
    }

    fn sight(&mut self, evidence: &Evidence) {
        let sight = &evidence.sight;
        let most = sight.interval_s.map(|interval| interval * AGE_INTERVALS_MAX);
        if let Some((age, most)) = sight.age_s.zip(most).filter(|(age, most)| age > most) {
            let what = format!("the newest sample is {age:.0} s old, more than {most:.0} s");
            self.note(what, "this is how it was, not how it is", true);
        }
        if let Some(skew) = sight.skew_s.filter(|skew| skew.abs() > SKEW_MAX_S) {
            let what = format!("clocks differ by {skew:.1} s");
            self.note(what, "times between machines mean nothing", false);
        }
        let resets = evidence.replicas.iter().filter_map(|replica| replica.sight.resets);
        let resets: f64 = sight.resets.into_iter().chain(resets).sum();
        if resets > 0.0 {
            let what = format!("{resets:.0} counters began again in the window");
            self.note(what, "a process started again; what it counted before is lost", false);
        }
    }

    fn numbers(&mut self, evidence: &Evidence) {
        if evidence.runs.is_empty() {
            match evidence.window_s() {
                None => self.note(
                    "the window's length is unknown".to_owned(),
                    "there are no rates",
                    false,
                ),
                Some(window) if window < WINDOW_MIN_S => {
                    let what =
                        format!("the window is {window:.0} s long, below {WINDOW_MIN_S:.0} s");
                    self.note(what, "gauges are single looks, not means", false);
                }
                Some(_) => {}
            }
        }
        if let Some(requests) = ended(evidence).filter(|requests| *requests < REQUESTS_MIN) {
            let what =
                format!("{requests:.0} requests ended in the window, below {REQUESTS_MIN:.0}");
            self.note(what, "means are those of single requests", false);
        }
    }

    fn law(&mut self, capacity: &Capacity) {
        let residual = capacity.typical.little_residual;
        if let Some(residual) = residual.filter(|residual| *residual > RESIDUAL_MAX) {
            let percent = residual * 100.0;
            let what = format!(
                "requests inside and rate times time differ by {percent:.0} % (Little's law)"
            );
            self.note(
                what,
                "the load changes within the window, or something is not counted",
                false,
            );
        }
    }

    fn run(&mut self, run: &Run, capacity: &Capacity) {
        let label = run.label.as_deref().unwrap_or("the run");
        if let Some(completed) = run.completed.filter(|completed| *completed < TAIL_MIN) {
            let what = format!("{label}: {completed:.0} answers, below {TAIL_MIN:.0}");
            self.note(what, "its 99th percentiles are chance", false);
        }
        let is_full = capacity.typical.slots_used.is_some_and(|used| used >= FULL);
        if is_full || grows(run) {
            let what = format!("{label}: requests came faster than they were answered");
            self.note(
                what,
                "times to the first token tell how long it ran, not how fast it is",
                false,
            );
        }
        if let Some(failed) = run.failed.filter(|failed| *failed > 0.0) {
            let what = format!("{label}: {failed:.0} requests failed");
            self.note(what, "means are those of the others", false);
        }
    }
}

/// Whether the queue of a run grew.
pub(super) fn grows(run: &Run) -> bool {
    let growth = run.ttft_growth_s.zip(run.ttft_s);
    growth.is_some_and(|(growth, mean)| mean > 0.0 && growth > mean * GROWTH_MAX)
}

#[cfg(test)]
mod tests {
    use pilotage_core::Span;

    use super::super::scenarios::healthy;
    use super::*;

    fn notes(change: impl Fn(&mut Evidence)) -> Usable {
        let mut evidence = healthy();
        change(&mut evidence);
        Usable::of(&evidence, &Capacity::of(&evidence.replicas, evidence.window_s()))
    }

    #[test]
    fn good_evidence_is_not_found_fault_with() {
        assert_eq!(notes(|_| {}), Usable::default());
    }

    #[test]
    fn each_fault_is_named_once() {
        let check = |change: &dyn Fn(&mut Evidence), what: &str, is_usable: bool| {
            let usable = notes(change);
            assert_eq!(usable.notes.len(), 1, "{usable:?}");
            assert!(usable.notes[0].what.contains(what), "{usable:?}");
            assert_eq!(usable.is_usable(), is_usable, "{what}");
        };
        check(&|evidence| evidence.sight.age_s = Some(600.0), "600 s old", false);
        check(&|evidence| evidence.sight.skew_s = Some(-5.0), "clocks", true);
        check(&|evidence| evidence.replicas[1].sight.resets = Some(2.0), "2 counters", true);
        check(&|evidence| evidence.window = None, "window's length is unknown", true);
        check(&|evidence| evidence.window = Some(Span::ZERO), "window's length is unknown", true);
        check(&|evidence| evidence.gateway.traffic.requests = Some(4.0), "4 requests", true);
        let short = |run: Run| move |evidence: &mut Evidence| evidence.runs = vec![run.clone()];
        check(&short(Run { completed: Some(50.0), ..Run::default() }), "50 answers", true);
        check(&short(Run { failed: Some(3.0), ..Run::default() }), "3 requests failed", true);
        let growing = Run { ttft_s: Some(4.0), ttft_growth_s: Some(8.0), ..Run::default() };
        check(&short(growing), "faster than they were answered", true);
    }

    #[test]
    fn unknown_ages_are_not_old() {
        assert!(notes(|evidence| evidence.sight.age_s = None).is_usable());
        assert!(notes(|evidence| evidence.sight.interval_s = None).is_usable());
    }
}
