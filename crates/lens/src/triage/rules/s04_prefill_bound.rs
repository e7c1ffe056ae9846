//! Prompts take more of the accelerators than answers: they are long, and nothing of them is cached.

use super::{Case, Facts, Fix, Knob, Outcome, Phase, Rule, Severity, Tier, above, below, ratio};
use crate::triage::capacity::{COMPUTE_FULL, FULL};
use crate::triage::sanity::{REQUESTS_MIN, ended};

pub(super) const RULE: Rule = Rule {
    id: "S04",
    name: "prefill_bound",
    title: "prompts take more time than answers",
    severity: Severity::Warning,
    tier: Tier::Time,
    explains: &[Phase::Prefill, Phase::EngineQueue],
    masks: &["S05"],
    refuted_by: "the time to the first token does not follow the length of prompts",
    check,
};

/// The larger half of computing.
const SHARE_MIN: f64 = 0.5;

/// Tensor cores are busy half of the time with large matrix products and hardly ever without.
const TENSOR_MIN: f64 = 0.4;

/// Prompts of so many tokens for each generated one keep arithmetic and bandwidth about equally busy
/// on accelerators with 300 operations for each byte.
const LENGTHS_MIN: f64 = 8.0;

fn check(facts: &Facts<'_>) -> Outcome {
    let typical = facts.typical();
    let mut case = Case::of(&RULE, facts);
    case.needs(above("prompts, of computing", facts.prefill_share(), SHARE_MIN, ""))?;
    case.unless(above("places taken", typical.slots_used, FULL, ""))?;
    // Of a few short requests a prompt takes longer than its answer, however little there is to do.
    case.unless(below("requests", ended(facts.evidence), REQUESTS_MIN, ""))?;
    let lengths = ratio(typical.input, typical.output);
    case.backed_by(above("tokens of prompts for each generated", lengths, LENGTHS_MIN, ""));
    let tensor = facts.gpus(|gpu| gpu.tensor_active);
    case.backed_by(above("tensor cores active", tensor, TENSOR_MIN, ""));
    case.backed_by(above("arithmetic in use (MFU)", typical.mfu, COMPUTE_FULL * 0.8, ""));
    let mut fix = Fix::new("compute less of the prompts, or divide them over more accelerators");
    let keeps = facts.evidence.replicas.iter().find_map(|replica| replica.config.prefix_caching);
    if keeps != Some(true) {
        fix = fix.set(Knob::Prefixes, facts.runtime(), "");
    }
    let fix = fix
        .set(Knob::Tensor, facts.runtime(), tensor_next(facts))
        .predict("the time for a prompt falls as accelerators are added, less communication");
    Ok(case.finding(fix))
}

fn tensor_next(facts: &Facts<'_>) -> f64 {
    let now = facts.evidence.replicas.iter().find_map(|replica| replica.config.tensor);
    now.unwrap_or(1.0) * 2.0
}

#[cfg(test)]
mod tests {
    use super::super::{each, proves};
    use super::*;

    #[test]
    fn two_requests_say_nothing() {
        let mut evidence = crate::triage::scenarios::scenario("S04");
        assert!(check(&Facts::of(&evidence)).is_ok());
        evidence.gateway.traffic.requests = Some(2.0);
        assert!(check(&Facts::of(&evidence)).is_err());
    }

    #[test]
    fn it_is_told_from_its_neighbours() {
        proves(
            &RULE,
            &["S01", "S05", "S06", "S26"],
            &[|evidence| {
                evidence.gateway.phases = Default::default();
                each(evidence, |one| one.times = Default::default());
            }],
        );
    }
}
