//! The first requests of a replica that has just come up wait for what others had long done: graphs,
//! kernels, caches.

use super::{Case, Facts, Fix, Outcome, Phase, Rule, Severity, Tier, above, below, names, ratio};
use crate::triage::evidence::Replica;

pub(super) const RULE: Rule = Rule {
    id: "S16",
    name: "cold_start",
    title: "a replica got requests before it was warm",
    severity: Severity::Warning,
    tier: Tier::Time,
    explains: &[Phase::Prefill, Phase::EngineQueue, Phase::Connect],
    masks: &["S10", "S13", "S15"],
    refuted_by: "its first tokens are as late an hour later",
    check,
};

/// As long as a cache needs to fill and kernels need to be compiled.
pub(super) const AGE_MAX_S: f64 = 300.0;

/// First requests by those of others.
const SLOWER_MIN: f64 = 3.0;

fn check(facts: &Facts<'_>) -> Outcome {
    let mut case = Case::of(&RULE, facts);
    let ttft = |replica: &Replica| replica.times.ttft.mean();
    let slower = |one: &Replica| ratio(one.start.first_ttft_s, facts.others(one, ttft));
    let cold = facts.which("ages and first times to the first token", |one| {
        Some(one.start.age_s? < AGE_MAX_S && slower(one)? >= SLOWER_MIN)
    })?;
    case.needs(below("age", cold[0].start.age_s, AGE_MAX_S, "s"))?;
    case.needs(above(
        "its first times to the first token, by the others'",
        slower(cold[0]),
        SLOWER_MIN,
        "",
    ))?;
    let prefixes = |one: &Replica| ratio(one.deltas.prefix_hits, one.deltas.prefix_queries);
    let found = ratio(prefixes(cold[0]), facts.others(cold[0], prefixes));
    case.backed_by(below("found in its cache, by the others'", found, 0.7, ""));
    case.about(names(&cold));
    let fix = Fix::new(
        "let a replica answer a request of ours before it gets others, and have more ready in time",
    )
    .manifest("spec.warmUp: true")
    .manifest("spec.updates.readySeconds: 30")
    .predict("first requests take as long as later ones");
    Ok(case.finding(fix))
}

#[cfg(test)]
mod tests {
    use super::super::{each, proves};
    use super::*;

    #[test]
    fn it_is_told_from_its_neighbours() {
        proves(
            &RULE,
            &["S10", "S15", "S28"],
            &[
                |evidence| each(evidence, |one| one.start.age_s = None),
                |evidence| each(evidence, |one| one.start.first_ttft_s = None),
            ],
        );
    }
}
