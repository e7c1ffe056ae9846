//! Clients go away and their answers are computed on.

use super::{Case, Facts, Fix, Outcome, Phase, Rule, Severity, Tier, above, below, ratio};

pub(super) const RULE: Rule = Rule {
    id: "S25",
    name: "cancel_leak",
    title: "clients go away and their answers are computed to the end",
    severity: Severity::Critical,
    tier: Tier::Fault,
    explains: &[Phase::Decode, Phase::EngineQueue],
    masks: &["S01", "S02", "S13", "S20"],
    refuted_by: "the replica's counter of requests called off follows the clients that leave",
    check,
};

/// Fewest clients that left: some always leave in the moment in which their answer ends.
const LEFT_MIN: f64 = 10.0;

/// Half of them are not called off.
const ABORTED_MAX: f64 = 0.5;

/// Requests in replicas by those of the gateway, where nobody else sends any.
const BEYOND_MIN: f64 = 1.2;

fn check(facts: &Facts<'_>) -> Outcome {
    let traffic = &facts.evidence.gateway.traffic;
    let mut case = Case::of(&RULE, facts);
    case.needs(above("clients that went away", traffic.disconnects, LEFT_MIN, ""))?;
    let aborted = facts.whole(|replica| replica.deltas.finished_abort);
    case.needs(below(
        "called off in replicas, of those",
        ratio(aborted, traffic.disconnects),
        ABORTED_MAX,
        "",
    ))?;
    let inside = facts.sum(|replica| Some(replica.gauges.running? + replica.gauges.waiting?));
    let beyond = ratio(inside, traffic.in_flight);
    case.backed_by(above("requests in replicas, by the gateway's", beyond, BEYOND_MIN, ""));
    case.explains(beyond.map(|beyond| 1.0 - 1.0 / beyond.max(1.0)));
    let fix = Fix::new("find what stands between gateway and replicas and keeps connections open (a proxy, a sidecar), or update the server")
        .shell("curl -sN --max-time 1 \"$REPLICA/v1/completions\" -d '{\"model\":\"M\",\"prompt\":\"x\",\"max_tokens\":4000,\"stream\":true}'; curl -s \"$REPLICA/metrics\" | grep -E 'running|abort'")
        .predict("places and cache come free within a second of a client's leaving");
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
            &["S24", "S19", "S09"],
            &[
                |evidence| evidence.gateway.traffic.disconnects = None,
                |evidence| each(evidence, |one| one.deltas.finished_abort = None),
            ],
        );
    }
}
