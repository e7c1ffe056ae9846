//! More replicas are wanted than are there, and those that are to come take their time.

use super::{Case, Facts, Fix, Outcome, Phase, Rule, Severity, Tier, above};

pub(super) const RULE: Rule = Rule {
    id: "S28",
    name: "scale_lag",
    title: "replicas that are wanted are not there yet",
    severity: Severity::Warning,
    tier: Tier::Time,
    explains: &[Phase::Queue, Phase::EngineQueue],
    masks: &["S01", "S02", "S13", "S20"],
    refuted_by: "requests wait as long once all replicas are there",
    check,
};

/// Longer than a pod takes that finds a node with its image (AIPerf's watch: pending for 60 s).
const SHORT_MIN_S: f64 = 60.0;

fn check(facts: &Facts<'_>) -> Outcome {
    let cluster = &facts.evidence.cluster;
    let mut case = Case::of(&RULE, facts);
    let missing = cluster.desired.zip(cluster.ready).map(|(desired, ready)| desired - ready);
    case.needs(above("replicas missing", missing, 1.0, ""))?;
    case.needs(above("for", cluster.short_s, SHORT_MIN_S, "s"))?;
    let slow = [cluster.image_pull_s, cluster.weights_s].into_iter().flatten().reduce(f64::max);
    if cluster.pending.is_some_and(|pending| pending >= 1.0) {
        case.backed_by(above("pods without a node", cluster.pending, 1.0, ""));
    } else {
        case.backed_by(above("longest pull or load of weights", slow, SHORT_MIN_S, "s"));
    }
    let reason =
        cluster.reasons.as_ref().and_then(|all| all.iter().max_by(|a, b| a.1.total_cmp(b.1)));
    let why = reason.map_or_else(String::new, |(reason, _)| format!(" ({reason})"));
    let fix = match cluster.pending {
        Some(pending) if pending >= 1.0 => {
            Fix::new(format!("make room: {pending:.0} pods have no node{why}"))
                .shell("kubectl get events --field-selector reason=FailedScheduling")
                .manifest(format!(
                    "kind: Fleet\nspec.nodes: {:.0}",
                    cluster.desired.unwrap_or(pending)
                ))
        }
        _ => Fix::new("keep images and weights where pods start, and one replica more than needed")
            .manifest("spec.storage.kind: claim")
            .manifest("spec.scaling.targetPercent: 50"),
    };
    Ok(case
        .finding(fix.predict("queues go when the replicas are there; next time they are in time")))
}

#[cfg(test)]
mod tests {
    use super::super::proves;
    use super::*;

    #[test]
    fn it_is_told_from_its_neighbours() {
        proves(
            &RULE,
            &["S01", "S16", "S20"],
            &[|evidence| evidence.cluster.ready = None, |evidence| evidence.cluster.short_s = None],
        );
    }
}
