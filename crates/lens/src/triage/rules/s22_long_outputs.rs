//! Answers have become longer, so that each request keeps its place for longer.

use super::{Case, Facts, Fix, Outcome, Phase, Rule, Severity, Tier, above};

pub(super) const RULE: Rule = Rule {
    id: "S22",
    name: "long_outputs",
    title: "answers have become longer",
    severity: Severity::Warning,
    tier: Tier::Time,
    explains: &[Phase::Decode, Phase::Queue, Phase::EngineQueue],
    masks: &["S01", "S02", "S06", "S20"],
    refuted_by: "requests with answers as long as before are as slow",
    check,
};

/// Half more tokens: half more time in a place.
const GROWTH_MIN: f64 = 1.5;

/// Twice as many answers as before end because they may not be longer.
const CUT_MIN: f64 = 2.0;

fn check(facts: &Facts<'_>) -> Outcome {
    let mut case = Case::of(&RULE, facts);
    let longer = facts.growth(|facts| facts.typical().output);
    case.needs(above("tokens of an answer, by before", longer, GROWTH_MIN, ""))?;
    let cut = facts.growth(|facts| {
        facts.ratio(|replica| (replica.deltas.finished_length, replica.deltas.requests))
    });
    case.backed_by(above("answers cut off at the limit, by before", cut, CUT_MIN, ""));
    let longer = facts.growth(|facts| facts.typical().residence_s);
    case.backed_by(above("time in a place, by before", longer, 1.2, ""));
    let before = facts.before(|facts| facts.typical().output).unwrap_or(0.0);
    // As many as all of them together were given when all was well.
    let minute = facts.before(Facts::per_minute).unwrap_or(0.0);
    let quota = (before * minute).max(1.0);
    let fix = Fix::new(
        "find out whose answers they are; limit their tokens, or give them replicas of their own",
    )
    .manifest(format!("kind: Tenant\nspec.quota.outputTokensPerMinute: {quota:.0}"))
    .predict("requests keep their places for as long as before");
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
            &["S01", "S06", "S23"],
            &[
                |evidence| each(evidence, |one| one.deltas.generation_tokens = None),
                |evidence| evidence.baseline = None,
            ],
        );
    }
}
