//! The batch has as many places as it was given, all of them are taken, and others wait.
//!
//! It looks like an overloaded accelerator and is none: a step takes about as long for 32 sequences as
//! for four, because reading the weights is what takes time.

use super::{Case, Facts, Fix, Knob, Outcome, Phase, Rule, Severity, Tier, above, below, ratio};
use crate::triage::capacity::FULL;
use crate::triage::whatif::{WhatIf, more_slots};

pub(super) const RULE: Rule = Rule {
    id: "S01",
    name: "slot_bound",
    title: "all places in the batch are taken and requests wait for one",
    severity: Severity::Warning,
    tier: Tier::Time,
    explains: &[Phase::Queue, Phase::EngineQueue],
    masks: &["S06", "S20"],
    refuted_by: "requests still wait, at the same rate of answers, with twice the places",
    check,
};

/// KV cache below it is not what keeps requests waiting (vllm-doctor, GIE).
const KV_FREE: f64 = 0.8;

/// The rate that places allow predicts the rate of public runs within 5 %; the rest is for means of
/// requests that differ.
const MODEL_FIT: f64 = 0.85;

/// Answers do not come faster at half as much load again: what differs is chance.
const GROWTH_MAX: f64 = 0.1;

fn check(facts: &Facts<'_>) -> Outcome {
    let typical = facts.typical();
    let mut case = Case::of(&RULE, facts);
    case.needs(above("places taken", typical.slots_used, FULL, ""))?;
    case.needs(above("requests waiting", facts.waiting(), 1.0, ""))?;
    case.unless(above("KV cache in use", typical.kv_use, FULL, ""))?;
    case.backed_by(below("KV cache in use", typical.kv_use, KV_FREE, ""));
    let fit = ratio(typical.rps, typical.slots_rps);
    case.backed_by(above("rate, of what places allow: S / (p + n·TPOT)", fit, MODEL_FIT, ""));
    let plateau = crate::triage::bench::growth_at_higher_rates(&facts.evidence.runs);
    case.backed_by(below("more answers for each second at a higher rate", plateau, GROWTH_MAX, ""));
    let slots = typical.slots.unwrap_or(0.0);
    case.title(format!("all {slots:.0} places in the batch are taken and requests wait for one"));
    Ok(case.finding(fix(facts)))
}

fn fix(facts: &Facts<'_>) -> Fix {
    let typical = facts.typical();
    let Some(more) = more_slots(typical) else {
        let replicas = facts.evidence.replicas.len() + 1;
        return Fix::new("add a replica: more places would not make it faster")
            .manifest(format!("spec.replicas: {replicas}"))
            .predict("capacity grows with the replicas");
    };
    let what = format!("raise the places from {:.0} to {:.0}", more.from, more.to);
    Fix::new(what)
        .set(Knob::Slots, facts.runtime(), more.to)
        .predict(predicted(&more, typical.step_s))
}

fn predicted(more: &WhatIf, step_s: Option<f64>) -> String {
    let Some(((gain, then), now)) = more.gain.zip(more.step_s).zip(step_s) else {
        return "more requests at once, until steps get longer or KV cache runs out; look at both, and \
                double again"
            .to_owned();
    };
    let next = more.next.map_or("", |next| next.name());
    format!(
        "about {gain:.1} times the requests for each second, {:.0} ms for each token (now {:.0}); \
         then {next} limits. By the roofline, not measured",
        then * 1e3,
        now * 1e3
    )
}

#[cfg(test)]
mod tests {
    use super::super::{each, proves};
    use super::*;
    use crate::triage::scenarios::scenario;

    #[test]
    fn it_is_told_from_its_neighbours() {
        proves(
            &RULE,
            &["S02", "S04", "S06", "S09", "S13"],
            &[
                |evidence| each(evidence, |one| one.gauges.running = None),
                |evidence| each(evidence, |one| one.config.max_num_seqs = None),
                |evidence| each(evidence, |one| one.gauges.waiting = None),
            ],
        );
    }

    #[test]
    fn it_says_how_many_places() {
        let evidence = scenario("S01");
        let found = check(&Facts::of(&evidence)).unwrap();
        assert_eq!(found.fix.changes[0].text, "--max-num-seqs 64");
        assert!(found.fix.predicted.contains("times the requests"), "{}", found.fix.predicted);
    }
}
