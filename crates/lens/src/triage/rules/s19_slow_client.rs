//! Answers are there and clients do not take them.

use super::{Case, Facts, Fix, Outcome, Rule, Severity, Tier, above, ratio};

pub(super) const RULE: Rule = Rule {
    id: "S19",
    name: "slow_client",
    title: "answers are there and clients do not take them",
    severity: Severity::Info,
    tier: Tier::Time,
    explains: &[],
    masks: &[],
    refuted_by: "clients on the same network as the gateway see the same pauses",
    check,
};

/// A fifth of all time: more than networks between continents cost a stream.
const SHARE_MIN: f64 = 0.2;

fn check(facts: &Facts<'_>) -> Outcome {
    let gateway = &facts.evidence.gateway;
    let mut case = Case::of(&RULE, facts);
    let share = ratio(gateway.traffic.client_blocked_s, gateway.phases.total);
    case.needs(above("time that clients take nothing", share, SHARE_MIN, ""))?;
    case.explains(share);
    let fix = Fix::new(
        "nothing here makes it faster; see whose clients they are, and that they hold no places",
    )
    .predict("other requests are as fast as without them");
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
            &["S17", "S18", "S24", "S25"],
            &[
                |evidence| evidence.gateway.traffic.client_blocked_s = None,
                |evidence| evidence.gateway.phases.total = None,
            ],
        );
    }
}
