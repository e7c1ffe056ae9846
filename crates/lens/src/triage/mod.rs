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
use finding::Blind;
use rules::{RULES, Rule};
use sanity::Usable;

/// Only what is more likely so than not explains other findings away.
const MASKS_FROM: f64 = 0.5;

/// Most measures that are named as missing.
const MISSING_MAX: usize = 8;

/// Most findings of several models together.
const FINDINGS_MAX: usize = 64;

/// What is wrong with a running system, by what its gateway sees of it: what [`observe::Collector`] kept, of the lane
/// of that name or the busiest, with the requests that ended.
///
/// What was seen of late, by [`observe::Collector::recent`], is looked at first: means over all that was kept would show
/// a trouble that has just begun when it is an old one. What is rare, or over, only all of it shows.
pub fn live(
    recent: &observe::Collector,
    all: &observe::Collector,
    lane: Option<&str>,
    records: &[observe::Ended],
) -> Report {
    let report = recent.report(lane, Some(records));
    if matches!(report.verdict, Verdict::Found { .. }) {
        return report;
    }
    all.report(lane, Some(records))
}

/// What is wrong with several models, each looked at by itself, in the order in which they are given: the report of
/// the one whose trouble is gravest, or of the first, with the findings of all. What is so of all is told once.
pub fn together(reports: Vec<(String, Report)>) -> Option<Report> {
    let mut all: Vec<Report> = reports
        .into_iter()
        .map(|(model, mut report)| {
            report.findings.iter_mut().for_each(|one| one.model = Some(model.clone()));
            Report { model: Some(model), ..report }
        })
        .collect();
    let gravest = |report: &Report| {
        let first =
            report.findings.first().filter(|_| matches!(report.verdict, Verdict::Found { .. }));
        std::cmp::Reverse(first.map(|one| one.severity))
    };
    all.sort_by_key(gravest);
    let mut all = all.into_iter();
    let mut report = all.next()?;
    for one in all.flat_map(|other| other.findings) {
        let is_same = |other: &&mut Finding| {
            (other.id, &other.title, &other.about, &other.evidence)
                == (one.id, &one.title, &one.about, &one.evidence)
        };
        match report.findings.iter_mut().find(is_same) {
            Some(same) => same.model = None,
            None => report.findings.push(one),
        }
    }
    report
        .findings
        .sort_by_key(|one| (one.follows_from.is_some(), std::cmp::Reverse(one.severity)));
    report.findings.truncate(FINDINGS_MAX);
    Some(report)
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
        let (id, title, confidence) = (first.id, first.title.clone(), first.confidence);
        return Verdict::Found { id, title, confidence };
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
