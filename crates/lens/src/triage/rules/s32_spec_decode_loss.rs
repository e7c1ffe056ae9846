//! Drafts are wrong more often than they are worth.

use super::{Case, Facts, Fix, Knob, Outcome, Phase, Rule, Severity, Tier, above, below};

pub(super) const RULE: Rule = Rule {
    id: "S32",
    name: "spec_decode_loss",
    title: "drafts are wrong more often than they are worth",
    severity: Severity::Warning,
    tier: Tier::Time,
    explains: &[Phase::Decode],
    masks: &["S06"],
    refuted_by: "tokens come slower without drafts, at the same load",
    check,
};

/// Of k drafted tokens at acceptance a about (1 − aᵏ) / (1 − a) are kept: below a half less than one
/// beyond the one that a step gives anyway, for a step that computes k more.
const ACCEPTED_MAX: f64 = 0.5;

/// Slower than without them.
const SLOWER_MIN: f64 = 1.05;

fn check(facts: &Facts<'_>) -> Outcome {
    let mut case = Case::of(&RULE, facts);
    let right =
        facts.ratio(|replica| (replica.deltas.accepted_tokens, replica.deltas.draft_tokens));
    case.needs(below("drafted tokens that were right", right, ACCEPTED_MAX, ""))?;
    let slower = facts.growth(|facts| facts.typical().step_s);
    case.backed_by(above("time for each token, by before", slower, SLOWER_MIN, ""));
    let fix = Fix::new("do without drafts, or draft fewer tokens with a model that fits this one")
        .set(Knob::Drafts, facts.runtime(), "")
        .predict("steps as short as they are without drafts");
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
            &["S06", "S05", "S22"],
            &[
                |evidence| each(evidence, |one| one.deltas.draft_tokens = None),
                |evidence| each(evidence, |one| one.deltas.accepted_tokens = None),
            ],
        );
    }
}
