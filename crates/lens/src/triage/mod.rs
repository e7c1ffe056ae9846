//! Why is it slow? From what is known of a system to what is wrong with it, what to change, and what
//! would come of that.
//!
//! In this order: whether the evidence can be believed ([`sanity`]), where the time of requests went
//! ([`attribution`]), what replicas can do and which limit they have reached ([`capacity`]), which
//! signatures of trouble there are (`rules`), and what would happen if one knob were turned
//! ([`whatif`]). The same evidence gives the same report, to the letter.

pub mod attribution;
pub mod bench;
pub mod capacity;
mod case;
pub mod evidence;
mod facts;
pub mod finding;
mod knob;
pub mod observe;
mod reference;
mod rules;
pub mod sanity;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod tests;
pub mod text;
pub mod whatif;

pub use evidence::Evidence;
pub use finding::{Finding, Report, Verdict};
pub use reference::reference;

use case::Miss;
use facts::Facts;
use finding::{Blind, Severity};
use rules::{RULES, Rule, Tier};
use sanity::{Note, Usable};

/// Only what is more likely so than not explains other findings away.
const MASKS_FROM: f64 = 0.5;

/// Most measures that are named as missing.
const MISSING_MAX: usize = 8;

/// What is about the gateway, its benchmark or its alerts, and not about one of its models.
const OF_ALL: [&str; 3] = ["S17", "S31", "S34"];

/// Most findings of several models together.
const FINDINGS_MAX: usize = 64;

/// What is wrong with a running system, by what its gateway sees of it: what [`observe::Collector`] kept, of the lane
/// of that name or the busiest, with the requests that ended.
///
/// What was seen of late, by [`observe::Collector::recent`], is looked at first: means over all that was kept would show
/// a trouble that has just begun when it is an old one. What is rare, or over, only all of it shows; of that, what is
/// broken is told beside what has just begun.
pub fn live(
    recent: &observe::Collector,
    all: &observe::Collector,
    lane: Option<&str>,
    records: Option<&[observe::Ended]>,
) -> Report {
    let (mut recent, mut all) = (recent.report(lane, records), all.report(lane, records));
    let is_found = |report: &Report| matches!(report.verdict, Verdict::Found { .. });
    let has_begun = is_found(&recent) && recent.findings.first().is_some_and(is_sure);
    if !has_begun {
        return if is_found(&recent) && !is_found(&all) { recent } else { all };
    }
    let is_new = |one: &Finding| recent.findings.iter().all(|other| other.id != one.id);
    let is_broken = |one: &Finding| {
        one.severity == Severity::Critical || rule(one.id).is_some_and(|of| of.tier <= Tier::Fault)
    };
    all.findings.retain(|one| is_sure(one) && is_new(one) && is_broken(one));
    let both = recent.findings.drain(..).chain(all.findings);
    recent.findings = rank(both.filter_map(|one| Some((rule(one.id)?, one))).collect());
    recent.tell_first();
    recent
}

/// What is wrong with several models, each looked at by itself, in the order in which they are given: the report of
/// the one whose trouble is gravest, or else of the first that could be judged, with the findings of all that are more
/// likely so than not. What is so of their gateway is told once.
pub fn together(reports: Vec<(String, Report)>) -> Option<Report> {
    let mut reports: Vec<Report> = reports.into_iter().map(named).collect();
    if reports.len() < 2 {
        return reports.pop();
    }
    let mut all: Vec<(usize, Finding)> = Vec::new();
    for (at, report) in reports.iter_mut().enumerate() {
        let is_found = matches!(report.verdict, Verdict::Found { .. });
        for one in report.findings.drain(..).filter(|one| is_found && is_sure(one)) {
            let is_same = |(_, other): &&mut (usize, Finding)| is_same(other, &one);
            match all.iter_mut().find(is_same) {
                Some((_, same)) => same.model = None,
                None => all.push((at, one)),
            }
        }
    }
    all.sort_by(|(_, left), (_, right)| {
        let order = |one: &Finding| {
            let tier = rule(one.id).map(|rule| rule.tier);
            (one.follows_from.is_some(), std::cmp::Reverse(one.severity), tier)
        };
        order(left).cmp(&order(right)).then(weight(right).total_cmp(&weight(left)))
    });
    let is_judged = |report: &Report| !matches!(report.verdict, Verdict::NotEnough { .. });
    let gravest = all.first().map(|(at, _)| *at);
    let at = gravest.or_else(|| reports.iter().position(is_judged)).unwrap_or_default();
    let mut report = reports.swap_remove(at);
    let more = all.len().saturating_sub(FINDINGS_MAX);
    if more > 0 {
        let what = format!("{more} findings more are not shown");
        report.usable.notes.push(Note { what, so: "name a model to see its own", is_fatal: false });
    }
    report.findings = all.into_iter().map(|(_, one)| one).take(FINDINGS_MAX).collect();
    report.tell_first();
    Some(report)
}

/// A report of that model.
fn named((model, mut report): (String, Report)) -> Report {
    report.findings.iter_mut().for_each(|one| one.model = Some(model.clone()));
    Report { model: Some(model), ..report }
}

/// Whether two findings are one, of the gateway of several models.
fn is_same(one: &Finding, other: &Finding) -> bool {
    let of = |one: &Finding| (one.id, one.title.clone(), one.about.clone());
    OF_ALL.contains(&one.id) && of(one) == of(other)
}

/// More likely so than not.
fn is_sure(one: &Finding) -> bool {
    one.confidence >= MASKS_FROM
}

fn rule(id: &str) -> Option<&'static Rule> {
    RULES.iter().copied().find(|rule| rule.id == id)
}

impl Report {
    /// The verdict is the first finding; where none is left, nothing is wrong that could be looked for.
    fn tell_first(&mut self) {
        match self.findings.first() {
            Some(first) => self.verdict = Verdict::of(first),
            None if matches!(self.verdict, Verdict::Found { .. }) => {
                self.verdict = Verdict::NothingWrong { judged: RULES.len() - self.blind.len() };
            }
            None => {}
        }
    }
}

impl Verdict {
    fn of(first: &Finding) -> Self {
        let Finding { id, title, confidence, .. } = first;
        Self::Found { id, title: title.clone(), confidence: *confidence }
    }
}

/// What is wrong, most important first.
pub fn triage(evidence: &Evidence) -> Report {
    let facts = Facts::of(evidence);
    let mut found: Vec<(&Rule, Finding)> = Vec::new();
    let mut blind = Vec::new();
    for rule in RULES {
        match (rule.check)(&facts) {
            Ok(mut finding) => {
                if facts.is_elsewhere() {
                    finding.fix.leave_to_others(evidence.replicas.len());
                }
                found.push((rule, finding));
            }
            Err(Miss::Unknown(missing)) => blind.push(Blind { id: rule.id, missing }),
            Err(Miss::Fine) => {}
        }
    }
    let findings = rank(found);
    let usable = Usable::of(evidence, &facts.capacity);
    let verdict = verdict(&facts, &usable, &findings, &blind);
    let Facts { capacity, attribution, .. } = facts;
    let window_s = evidence.window_s();
    Report { model: None, window_s, usable, verdict, findings, blind, attribution, capacity }
}

/// Causes before what follows from them, what is broken before what is slow, and of what is slow that
/// first which explains more.
fn rank(found: Vec<(&Rule, Finding)>) -> Vec<Finding> {
    let sure: Vec<(&'static str, &'static [&'static str])> = found
        .iter()
        .filter(|(_, finding)| finding.confidence >= MASKS_FROM)
        .map(|(rule, _)| (rule.id, rule.masks))
        .collect();
    let mut found = found;
    for (rule, finding) in &mut found {
        let cause = sure.iter().find(|(_, masks)| masks.contains(&rule.id));
        finding.follows_from = cause.map(|(id, _)| *id);
    }
    found.sort_by(|(left_rule, left), (right_rule, right)| {
        let order = |rule: &Rule, finding: &Finding| (finding.follows_from.is_some(), rule.tier);
        order(left_rule, left)
            .cmp(&order(right_rule, right))
            .then(weight(right).total_cmp(&weight(left)))
            .then(left.id.cmp(right.id))
    });
    found.into_iter().map(|(_, finding)| finding).collect()
}

/// How much a finding explains, as sure as it is.
fn weight(finding: &Finding) -> f64 {
    finding.impact.share * finding.confidence
}

fn verdict(facts: &Facts<'_>, usable: &Usable, findings: &[Finding], blind: &[Blind]) -> Verdict {
    if !usable.is_usable() {
        return Verdict::NotEnough { missing: vec!["samples that are fresh"] };
    }
    if let Some(first) = findings.first() {
        return Verdict::of(first);
    }
    // Nothing is only known to be wrong where it is known how full replicas are and where time went.
    let typical = facts.typical();
    let is_full_known = typical.slots_used.is_some() || typical.kv_use.is_some();
    if is_full_known && !facts.attribution.parts.is_empty() {
        return Verdict::NothingWrong { judged: RULES.len() - blind.len() };
    }
    Verdict::NotEnough { missing: wanted(blind) }
}

/// What most signatures lack, first; of what equally many lack, that of the more common ones.
fn wanted(blind: &[Blind]) -> Vec<&'static str> {
    let mut missing: Vec<(&'static str, usize)> = Vec::new();
    for one in blind {
        match missing.iter_mut().find(|(measure, _)| *measure == one.missing) {
            Some((_, count)) => *count += 1,
            None => missing.push((one.missing, 1)),
        }
    }
    missing.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    missing.into_iter().map(|(measure, _)| measure).take(MISSING_MAX).collect()
}
