//! Answers stall whenever a prompt is computed beside them.

use super::{Case, Facts, Fix, Knob, Outcome, Phase, Rule, Severity, Tier, above, ratio};
use crate::triage::evidence::{Lasted, Times};

pub(super) const RULE: Rule = Rule {
    id: "S05",
    name: "prefill_decode_interference",
    title: "answers stall while prompts are computed beside them",
    severity: Severity::Warning,
    tier: Tier::Time,
    explains: &[Phase::Decode],
    masks: &[],
    refuted_by: "times between tokens are as long while no prompt is computed",
    check,
};

/// E[ITL beside prompts] / E[ITL alone] − 1: AIPerf finds more than 0.5 where both are done by the
/// same accelerators and get into each other's way, less than 0.15 where they are apart.
const FACTOR_MIN: f64 = 0.5;

/// Fewest times in each of the two means (AIPerf).
const COUNT_MIN: f64 = 10.0;

/// Steps of so many tokens take several times as long as steps of answers alone.
const STEP_TOKENS_MIN: f64 = 2048.0;

fn check(facts: &Facts<'_>) -> Outcome {
    let mut case = Case::of(&RULE, facts);
    let mean = |of: fn(&Times) -> &Lasted| {
        facts.ratio(|one| (of(&one.times).seconds, of(&one.times).count))
    };
    let beside = mean(|times| &times.itl_beside_prefill);
    let alone = mean(|times| &times.itl_alone);
    let factor = ratio(beside, alone).map(|factor| factor - 1.0);
    case.needs(above(
        "times between tokens beside prompts, more than alone",
        factor,
        FACTOR_MIN,
        "",
    ))?;
    let count = facts.sum(|replica| replica.times.itl_beside_prefill.count);
    case.needs(above("such times", count, COUNT_MIN, ""))?;
    let budget = facts.most(|replica| replica.config.max_num_batched_tokens).map(|most| most.0);
    case.backed_by(above("tokens of a step, at most", budget, STEP_TOKENS_MIN, ""));
    // What would be won: the part by which steps beside prompts are longer.
    let seconds = facts.sum(|replica| replica.times.itl_beside_prefill.seconds);
    let lost = factor.zip(seconds).map(|(factor, seconds)| seconds * factor / (1.0 + factor));
    let all: f64 = facts.attribution.parts.iter().map(|part| part.seconds).sum();
    case.explains(ratio(lost, Some(all)));
    let next = budget.map_or(512.0, |budget| (budget / 4.0).max(512.0));
    let fix = Fix::new("compute prompts in smaller pieces, or on replicas of their own")
        .set(Knob::StepTokens, facts.runtime(), next)
        .predict("steps with a piece of a prompt get shorter by as much; first tokens come a little later");
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
            &["S01", "S03", "S04", "S06"],
            &[
                |evidence| each(evidence, |one| one.times.itl_beside_prefill = Default::default()),
                |evidence| each(evidence, |one| one.times.itl_alone = Default::default()),
            ],
        );
    }
}
