//! The gateway itself takes the time.

use super::{Case, Facts, Fix, Outcome, Phase, Rule, Severity, Tier, above};

pub(super) const RULE: Rule = Rule {
    id: "S17",
    name: "gateway_bound",
    title: "the gateway itself takes time",
    severity: Severity::Warning,
    tier: Tier::Time,
    explains: &[Phase::Read, Phase::Other],
    masks: &["S18", "S19"],
    refuted_by: "requests that go past the gateway are as slow",
    check,
};

/// A gateway takes a fraction of a millisecond; this is felt in the time to the first token.
const OWN_MIN_S: f64 = 0.005;

/// An event loop that is this late has work that does not belong there.
const LOOP_MIN_S: f64 = 0.005;

/// Beyond it queues grow faster than the load.
const CPU_MIN: f64 = 0.8;

fn check(facts: &Facts<'_>) -> Outcome {
    let traffic = &facts.evidence.gateway.traffic;
    let mut case = Case::of(&RULE, facts);
    let parts = [Phase::Read, Phase::Other].map(|phase| facts.attribution.each_s(phase));
    let own = parts.into_iter().flatten().reduce(|sum, next| sum + next);
    case.needs(above("its own time for each request", own, OWN_MIN_S, "s"))?;
    case.needs_any(&[
        above("its event loop is late by", traffic.loop_delay_s, LOOP_MIN_S, "s"),
        above("its processors", traffic.cpu_use, CPU_MIN, ""),
    ])?;
    let fix = Fix::new("give the gateway another replica, and keep a profile of the busy one")
        .shell("kubectl -n pilotage scale deployment/pilotage-gateway --replicas=2")
        .predict("its own time falls below a millisecond");
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
            &["S18", "S19", "S20", "S08"],
            &[
                |evidence| evidence.gateway.phases = Default::default(),
                |evidence| {
                    evidence.gateway.traffic.loop_delay_s = None;
                    evidence.gateway.traffic.cpu_use = None;
                },
            ],
        );
    }
}
