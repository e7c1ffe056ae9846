//! A model on trial: it gets a growing share of a route's requests as long as it is not worse than the
//! others in the same period, and none at once when it is.
//!
//! Three things are compared at each step: failures, times until the first token and times for each
//! further token. Failures are a bet that may be looked at after each of them, so that a clear failure
//! ends the trial after a handful; times are compared by ranks among requests of the same size, at
//! a few looks. The chance of rolling back a canary that is not worse is divided among tests, steps and looks, and
//! adds up to one minus the confidence; see [`crate::traffic::stats`] for sources. It holds for
//! requests that are independent; a canary on one bad machine is a bad canary.

mod judgement;
mod plan;
#[cfg(test)]
mod tests;
mod trial;

use serde::{Deserialize, Serialize};

pub use judgement::{Evidence, Finding, Judgement, Metric, Verdict};
pub use plan::{CanaryPlan, OnFail, Step, Tolerance};
use trial::Trial;
pub use trial::{Arm, Count, Slower};

use super::name::Name;
pub use super::tally::Sample;
use crate::{Span, Time};

/// Things that are compared.
const TESTS: f64 = 3.0;

/// Below this a test that is not sure makes a canary wait.
const SUSPICIOUS: f64 = 0.05;

/// From this a bet that is not won makes a canary wait.
const SUSPICIOUS_WORTH: f64 = 3.0;

/// Samples of the baseline that are enough to compare with.
const BASELINE_MIN: u32 = 30;

/// A trial and how far it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Canary {
    plan: CanaryPlan,
    subject: Name,
    seed: u64,
    step: usize,
    /// How long the step had lasted when `since` was set.
    lasted: Span,
    since: Time,
    trial: Trial,
    /// The part of the requests that it gets at most, 0 to 1.
    share_max: f64,
    /// How it ended.
    end: Option<Judgement>,
}

/// What of a trial survives a restart.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Snapshot {
    plan: CanaryPlan,
    subject: Name,
    seed: u64,
    step: usize,
    lasted: Span,
    trial: Trial,
    end: Option<Judgement>,
}

impl Canary {
    /// A trial of a subject, such as a model's name and revision, from its first step.
    pub fn new(now: Time, plan: CanaryPlan, subject: Name, seed: u64) -> Self {
        Self {
            plan,
            subject,
            seed,
            step: 0,
            lasted: Span::ZERO,
            since: now,
            trial: Trial::default(),
            share_max: 1.0,
            end: None,
        }
    }

    /// The part of the requests that it gets at most for now, 0 to 1, whatever its step. Whoever brings
    /// it replicas says so: with a larger share than they can bear it would be worse by that alone.
    pub const fn set_share_max(&mut self, share: f64) {
        self.share_max = share.clamp(0.0, 1.0);
    }

    /// What was last said by [`Self::set_share_max`]; 1 where nothing was.
    pub const fn share_max(&self) -> f64 {
        self.share_max
    }

    /// The step that it is at, from 0; behind the last when it is promoted.
    pub fn step(&self) -> usize {
        match self.end.map(|end| end.verdict) {
            Some(Verdict::Promote) => self.plan.steps.len(),
            Some(Verdict::Rollback | Verdict::Continue | Verdict::Hold) | None => self.step,
        }
    }

    /// What it was made from.
    pub fn plan_and_subject(&self) -> (CanaryPlan, Name) {
        (self.plan.clone(), self.subject.clone())
    }

    /// What survives a restart.
    pub fn snapshot(&self, now: Time) -> Snapshot {
        Snapshot {
            plan: self.plan.clone(),
            subject: self.subject.clone(),
            seed: self.seed,
            step: self.step,
            lasted: self.lasted(now),
            trial: self.trial.clone(),
            end: self.end,
        }
    }

    /// Goes on where it was. Another subject or another plan is another trial.
    pub fn restore(now: Time, plan: CanaryPlan, subject: Name, kept: Snapshot) -> Self {
        if kept.plan != plan || kept.subject != subject {
            return Self::new(now, plan, subject, kept.seed);
        }
        Self {
            plan,
            subject,
            seed: kept.seed,
            step: kept.step,
            lasted: kept.lasted,
            since: now,
            trial: kept.trial,
            share_max: 1.0,
            end: kept.end,
        }
    }

    /// The part of the requests that it gets now, 0 to 1.
    pub fn share(&self) -> f64 {
        let share = match self.end.map(|end| end.verdict) {
            Some(Verdict::Promote) => 1.0,
            Some(Verdict::Rollback) => 0.0,
            Some(Verdict::Continue | Verdict::Hold) | None => {
                self.current().map_or(1.0, |step| (step.percent / 100.0).clamp(0.0, 1.0))
            }
        };
        share.min(self.share_max)
    }

    /// A request ended. Samples after the end of the trial are not looked at.
    pub fn note(&mut self, arm: Arm, sample: &Sample) {
        if self.end.is_none() {
            let share = self.share();
            self.trial.note(arm, sample, share, &self.plan.tolerance, self.seed);
        }
    }

    /// What is to be done, and why. A step that is done makes place for the next one here.
    pub fn judge(&mut self, now: Time) -> Judgement {
        if let Some(end) = self.end {
            return end;
        }
        let Some(step) = self.current() else {
            return self.finish(Verdict::Promote, Evidence::Done { count: self.trial.canary });
        };
        let findings = self.findings();
        if let Some(worse) = findings.iter().find(|finding| finding.is_sure()) {
            let verdict = match self.plan.on_fail {
                OnFail::Rollback => Verdict::Rollback,
                OnFail::Pause => Verdict::Hold,
            };
            return self.finish(verdict, Evidence::Worse(*worse));
        }
        let left = step.duration_min.as_nanos().saturating_sub(self.lasted(now).as_nanos());
        let count = self.trial.canary;
        if left > 0 {
            let left = Span::from_nanos(left);
            let evidence = Evidence::Gathering { count, samples_min: step.samples_min, left };
            return self.judgement(Verdict::Continue, evidence);
        }
        let baseline = self.trial.baseline.requests;
        if count.requests < step.samples_min || baseline < BASELINE_MIN {
            let evidence = Evidence::TooFew {
                canary: count.requests,
                baseline,
                samples_min: step.samples_min,
            };
            return self.judgement(Verdict::Hold, evidence);
        }
        if let Some(suspicion) = findings.iter().find(|finding| finding.is_suspicious()) {
            return self.judgement(Verdict::Hold, Evidence::Suspicious(*suspicion));
        }
        self.advance(now, count)
    }

    fn advance(&mut self, now: Time, count: Count) -> Judgement {
        self.step += 1;
        (self.lasted, self.since) = (Span::ZERO, now);
        self.trial = Trial::default();
        let evidence = Evidence::Done { count };
        if self.current().is_none() {
            return self.finish(Verdict::Promote, evidence);
        }
        self.judgement(Verdict::Continue, evidence)
    }

    fn findings(&mut self) -> Vec<Finding> {
        let steps = self.plan.steps.len().max(1) as f64;
        let alpha = (1.0 - self.plan.confidence).clamp(1e-9, 1.0) / TESTS / steps;
        let tolerance = self.plan.tolerance;
        let Trial { canary, baseline, .. } = self.trial;
        let (worth, needed) = (self.trial.worth(), 1.0 / alpha);
        let borne = canary.rate() <= tolerance.error_rate || canary.failed < trial::FAILURES_MIN;
        let errors = Finding::Errors { canary, baseline, worth, needed };
        let [ttft, tpot] = self.trial.look(&tolerance, alpha);
        let slower = |metric: Metric, found: Option<Slower>, borne: f64| {
            found.filter(|found| found.ratio > borne).map(|found| Finding::Slower { metric, found })
        };
        let slower = [
            slower(Metric::Ttft, ttft, tolerance.ttft_ratio),
            slower(Metric::Tpot, tpot, tolerance.tpot_ratio),
        ];
        (!borne).then_some(errors).into_iter().chain(slower.into_iter().flatten()).collect()
    }

    fn current(&self) -> Option<Step> {
        // With all of the requests there is nothing to compare with.
        self.plan.steps.get(self.step).copied().filter(|step| step.percent < 100.0)
    }

    fn lasted(&self, now: Time) -> Span {
        self.lasted + now.since(self.since)
    }

    fn finish(&mut self, verdict: Verdict, evidence: Evidence) -> Judgement {
        let judgement = self.judgement(verdict, evidence);
        self.end = Some(judgement);
        judgement
    }

    fn judgement(&self, verdict: Verdict, evidence: Evidence) -> Judgement {
        let percent = match verdict {
            Verdict::Promote => 100.0,
            Verdict::Rollback => 0.0,
            Verdict::Continue | Verdict::Hold => self.share() * 100.0,
        };
        Judgement { verdict, percent, evidence }
    }
}
