//! Prompts that begin as others did are computed from their first token again.

use super::{Case, Facts, Fix, Miss, Outcome, Phase, Rule, Severity, Tier, above, below, ratio};

pub(super) const RULE: Rule = Rule {
    id: "S15",
    name: "prefix_cache_miss",
    title: "fewer beginnings of prompts are found in the cache than before",
    severity: Severity::Warning,
    tier: Tier::Time,
    explains: &[Phase::Prefill, Phase::EngineQueue],
    masks: &["S04"],
    refuted_by: "prompts share less with each other than they did",
    check,
};

/// A third less: what is computed grows by more than the hours of a day bring.
const DROP_MAX: f64 = 0.7;

/// Below it there was little to lose.
const BEFORE_MIN: f64 = 0.2;

/// Without a before: fewer than this (llm-d's alert) …
const RATE_MIN: f64 = 0.3;

/// … of prompts that are the same and are sent to so many replicas.
const HOMES_MIN: f64 = 1.5;

fn check(facts: &Facts<'_>) -> Outcome {
    let mut case = Case::of(&RULE, facts);
    let now = rate(facts);
    let homes = facts.evidence.gateway.traffic.prefix_homes;
    let homes = above("replicas that the same beginnings go to", homes, HOMES_MIN, "");
    if let Some(before) = facts.before(rate) {
        case.unless(below("found before", Some(before), BEFORE_MIN, ""))?;
        case.needs(below("found in the cache, by before", ratio(now, Some(before)), DROP_MAX, ""))?;
        case.backed_by(homes);
    } else {
        case.needs(below("found in the cache", now, RATE_MIN, ""))?;
        case.needs(homes)?;
    }
    // Replicas that have just come up have nothing cached, which is another matter.
    let young = facts.evidence.replicas.iter().filter_map(|replica| replica.start.age_s);
    if young.fold(f64::INFINITY, f64::min) < super::s16_cold_start::AGE_MAX_S {
        return Err(Miss::Fine);
    }
    let each = facts.growth(|facts| facts.attribution.each_s(Phase::Prefill));
    case.backed_by(above("time for a prompt, by before", each, 1.2, ""));
    let fix = Fix::new(
        "send the same beginnings to the same replica; keep times and names out of system prompts",
    )
    .manifest("kind: Route\nspec.policy: cost")
    .predict("prompts take the time they took before");
    Ok(case.finding(fix))
}

fn rate(facts: &Facts<'_>) -> Option<f64> {
    facts.ratio(|replica| (replica.deltas.prefix_hits, replica.deltas.prefix_queries))
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
            &["S04", "S16", "S13"],
            &[
                |evidence| each(evidence, |one| one.deltas.prefix_hits = None),
                |evidence| each(evidence, |one| one.deltas.prefix_queries = None),
            ],
        );
    }

    #[test]
    fn without_a_before_it_takes_beginnings_that_wander() {
        let mut evidence = scenario("S15");
        evidence.baseline = None;
        assert!(check(&Facts::of(&evidence)).is_ok());
        evidence.gateway.traffic.prefix_homes = None;
        assert!(matches!(check(&Facts::of(&evidence)), Err(Miss::Unknown(_))));
    }
}
