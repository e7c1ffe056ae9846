//! Requests run in a herd to the replica that looked empty a while ago.

use super::{Case, Facts, Fix, Outcome, Phase, Rule, Severity, Tier, above, ratio};

pub(super) const RULE: Rule = Rule {
    id: "S14",
    name: "stale_metrics_herd",
    title: "requests go in a herd to the replica that looked empty a while ago",
    severity: Severity::Warning,
    tier: Tier::Time,
    explains: &[Phase::EngineQueue, Phase::Connect],
    masks: &["S13", "S01", "S02", "S05"],
    refuted_by: "picks are as concentrated where the metrics are fresh",
    check,
};

/// Older than two looks: one was missed, and what is known is about other requests.
const AGE_MIN: f64 = 2.0;

/// With an even choice a replica of four gets a quarter between two looks.
const SHARE_MIN: f64 = 0.5;

fn check(facts: &Facts<'_>) -> Outcome {
    let traffic = &facts.evidence.gateway.traffic;
    let mut case = Case::of(&RULE, facts);
    let age = ratio(traffic.metrics_age_s, traffic.metrics_interval_s);
    case.needs(above("age of the metrics, in intervals", age, AGE_MIN, ""))?;
    // Of two replicas one always gets half, of three it is more than twice its part only from 0.67 on.
    let even = 2.0 / (facts.evidence.replicas.len().max(2) as f64);
    let least = even.clamp(SHARE_MIN, 0.9);
    case.needs(above("picks between two looks that went to one", traffic.herd_share, least, ""))?;
    let skew = facts.most(|one| one.gauges.waiting).map(|most| most.0);
    case.backed_by(above("requests waiting in one replica", skew, 1.0, ""));
    let fix = Fix::new(
        "count what is under way oneself, leave out metrics that are stale, look more often",
    )
    .manifest("kind: Route\nspec.policy: cost")
    .predict("picks spread within an interval; queues in replicas go");
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
            &["S13", "S10", "S15"],
            &[
                |evidence| evidence.gateway.traffic.metrics_age_s = None,
                |evidence| evidence.gateway.traffic.herd_share = None,
            ],
        );
    }
}
