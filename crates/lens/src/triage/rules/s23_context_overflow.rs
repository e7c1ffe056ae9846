//! Requests are refused because prompt and answer together are longer than the context.

use super::{Case, Facts, Fix, Knob, Outcome, Rule, Severity, Tier, above};

pub(super) const RULE: Rule = Rule {
    id: "S23",
    name: "context_overflow",
    title: "prompts with their longest answers do not fit the context",
    severity: Severity::Warning,
    tier: Tier::Time,
    explains: &[],
    masks: &[],
    refuted_by: "the refused requests are shorter than the context",
    check,
};

/// One request in a hundred: clients that do so by habit, not by accident.
const SHARE_MIN: f64 = 0.01;

fn check(facts: &Facts<'_>) -> Outcome {
    let mut case = Case::of(&RULE, facts);
    let share = facts.of_requests(facts.sum(|replica| replica.deltas.context_overflows));
    case.needs(above("requests longer than the context", share, SHARE_MIN, ""))?;
    case.explains(share);
    let now = facts.most(|replica| replica.config.max_model_len).map(|most| most.0);
    let fix = Fix::new(
        "have clients ask for fewer tokens, or raise the context if the model and the KV cache allow it",
    );
    let fix = match now {
        Some(now) => fix.set(Knob::Context, facts.runtime(), now * 2.0),
        None => fix,
    };
    Ok(case.finding(fix.predict("these requests are answered; each may take twice the KV cache")))
}

#[cfg(test)]
mod tests {
    use super::super::{each, proves};
    use super::*;

    #[test]
    fn it_is_told_from_its_neighbours() {
        proves(
            &RULE,
            &["S20", "S21", "S22"],
            &[
                |evidence| each(evidence, |one| one.deltas.context_overflows = None),
                |evidence| {
                    evidence.gateway.traffic.requests = None;
                    each(evidence, |one| one.deltas.requests = None);
                },
            ],
        );
    }
}
