//! Who runs the replicas refuses requests for a quota of theirs.

use super::{Case, Facts, Fix, Outcome, Rule, Severity, Tier, above};

pub(super) const RULE: Rule = Rule {
    id: "S21",
    name: "upstream_quota",
    title: "endpoints answer 429: their quota for us is used up",
    severity: Severity::Warning,
    tier: Tier::Time,
    explains: &[],
    masks: &["S20"],
    refuted_by: "they answer 429 at the lowest load, too",
    check,
};

/// One request in a hundred.
const SHARE_MIN: f64 = 0.01;

/// Requests that an endpoint gets at once where nothing is said (`spec.endpoints[].parallel`).
const PARALLEL_DEFAULT: f64 = 64.0;

fn check(facts: &Facts<'_>) -> Outcome {
    let gateway = &facts.evidence.gateway;
    let mut case = Case::of(&RULE, facts);
    let refused = gateway.upstream.as_ref().map(|all| all.get(&429).copied().unwrap_or(0.0));
    let share = facts.of_requests(refused);
    case.needs(above("requests answered 429 by endpoints", share, SHARE_MIN, ""))?;
    case.backed_by(above(
        "answers that say when to come again",
        gateway.traffic.retry_after,
        1.0,
        "",
    ));
    case.explains(share);
    let half = (facts.typical().slots.unwrap_or(PARALLEL_DEFAULT) / 2.0).floor().max(1.0);
    let fix =
        Fix::new("spread requests over more endpoints or keys, and let fewer wait there at once")
            .manifest(format!("spec.endpoints[].parallel: {half}"))
            .manifest("kind: Route\nspec.retries.percent: 10")
            .predict("requests wait here, where it is fair, instead of being refused there");
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
            &["S20", "S23", "S24"],
            &[
                |evidence| evidence.gateway.upstream = None,
                |evidence| {
                    evidence.gateway.traffic.requests = None;
                    evidence.replicas.clear();
                },
            ],
        );
    }
}
