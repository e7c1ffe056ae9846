//! Clients give up before their answers come and send the same again, which makes answers later yet.

use super::{Case, Facts, Fix, Outcome, Phase, Rule, Severity, Tier, above};
use crate::record::Termination::{ClientCancel, Deadline, Timeout};

pub(super) const RULE: Rule = Rule {
    id: "S24",
    name: "client_retry_storm",
    title: "clients give up and send the same again",
    severity: Severity::Critical,
    tier: Tier::Time,
    explains: &[Phase::Queue, Phase::EngineQueue, Phase::Prefill, Phase::Decode],
    masks: &["S01", "S02", "S20"],
    refuted_by: "repeated requests come from different clients, or none of theirs was given up",
    check,
};

/// One request in five is one that came before: more than people who ask twice.
const REPEATED_MIN: f64 = 0.2;

/// One in ten is given up.
const GIVEN_UP_MIN: f64 = 0.1;

fn check(facts: &Facts<'_>) -> Outcome {
    let gateway = &facts.evidence.gateway;
    let mut case = Case::of(&RULE, facts);
    let repeated = facts.of_requests(gateway.traffic.repeated);
    case.needs(above("requests that came before", repeated, REPEATED_MIN, ""))?;
    let given_up = facts.of_requests(gateway.ended(&[ClientCancel, Deadline, Timeout]));
    case.needs(above("requests given up", given_up, GIVEN_UP_MIN, ""))?;
    let more = facts.growth(Facts::requests);
    case.backed_by(above("requests, by before", more, 1.2, ""));
    let fix = Fix::new(
        "have clients wait longer than the time to the first token, and come back later and later",
    )
    .manifest("kind: Route\nspec.merge.enabled: true")
    .predict("as many requests as there are questions");
    Ok(case.finding(fix))
}

#[cfg(test)]
mod tests {
    use super::super::proves;
    use super::*;

    #[test]
    fn it_is_told_from_its_neighbours() {
        proves(
            &RULE,
            &["S20", "S25", "S19"],
            &[
                |evidence| evidence.gateway.traffic.repeated = None,
                |evidence| evidence.gateway.outcomes = None,
            ],
        );
    }
}
