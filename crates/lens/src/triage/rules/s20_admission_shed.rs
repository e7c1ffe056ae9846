//! The gateway refuses requests, as it is there to do: more come than can be answered, or than their
//! tenants may send.

use super::{Case, Facts, Fix, Outcome, Rule, Severity, Tier, above};
use crate::record::Termination::{Budget, Deadline, QueueFull, Quota};

pub(super) const RULE: Rule = Rule {
    id: "S20",
    name: "admission_shed",
    title: "the gateway refuses requests: more come than it may let in",
    severity: Severity::Warning,
    tier: Tier::Symptom,
    explains: &[],
    masks: &[],
    refuted_by: "requests are refused while nothing waits and no quota is used up",
    check,
};

/// One in a hundred is refused: what a service with two nines has to spare.
const SHARE_MIN: f64 = 0.01;

/// Requests that may wait where nothing is said (`spec.queue.requestsMax`).
const QUEUE_DEFAULT: u32 = 1024;

fn check(facts: &Facts<'_>) -> Outcome {
    let gateway = &facts.evidence.gateway;
    let mut case = Case::of(&RULE, facts);
    let full = facts.of_requests(gateway.ended(&[QueueFull, Deadline]));
    let quota = facts.of_requests(gateway.ended(&[Quota, Budget]));
    case.needs_any(&[
        above("requests refused because too much waits", full, SHARE_MIN, ""),
        above("requests refused for a quota or a budget", quota, SHARE_MIN, ""),
    ])?;
    case.backed_by(above("demand, by capacity", gateway.traffic.saturation, 1.0, ""));
    case.explains(full.zip(quota).map(|(full, quota)| full + quota));
    let is_quota = quota > full;
    let budget = facts.of_requests(gateway.ended(&[Budget]));
    let is_budget = budget.zip(quota).is_some_and(|(budget, quota)| budget * 2.0 > quota);
    let fix = if is_quota && is_budget {
        Fix::new("see whose budget is spent, or has less left than one request may cost, and raise it if it is to have more")
            .shell("pilotage usage budgets")
            .manifest("kind: Tenant\nspec.quota.budgets")
    } else if is_quota {
        let fix = Fix::new(
            "raise the tenant's quota, if it is to have more; all of them sent as many as this",
        );
        let all = facts.per_minute();
        let text = all.map(|all| format!("kind: Tenant\nspec.quota.requestsPerMinute: {all:.0}"));
        text.into_iter().fold(fix, Fix::manifest)
    } else {
        let replicas = facts.evidence.replicas.len() + 1;
        Fix::new("add replicas, or let more wait if clients have the time")
            .manifest(format!("spec.replicas: {replicas}"))
            .manifest(format!("kind: Route\nspec.queue.requestsMax: {}", 2 * QUEUE_DEFAULT))
    };
    Ok(case
        .finding(fix.predict("requests are answered instead of refused, as far as capacity goes")))
}

#[cfg(test)]
mod tests {
    use super::super::proves;
    use super::*;
    use crate::record::Termination;
    use crate::triage::scenarios::scenario;

    #[test]
    fn a_budget_is_no_matter_of_how_many_requests() {
        let fixed = |ended: Termination| {
            let mut evidence = scenario("S20");
            evidence.gateway.traffic.requests = Some(100.0);
            evidence.gateway.outcomes = Some([(Termination::Ok, 10.0), (ended, 90.0)].into());
            let found = check(&Facts::of(&evidence)).unwrap();
            found.fix.changes.iter().map(|one| one.text.clone()).collect::<Vec<_>>().join(" ")
        };
        assert!(fixed(Quota).contains("requestsPerMinute"), "{}", fixed(Quota));
        let budget = fixed(Budget);
        assert!(budget.contains("budgets") && !budget.contains("requestsPerMinute"), "{budget}");
    }

    #[test]
    fn it_is_told_from_its_neighbours() {
        proves(&RULE, &["S21", "S23", "S17"], &[|evidence| evidence.gateway.outcomes = None]);
    }
}
