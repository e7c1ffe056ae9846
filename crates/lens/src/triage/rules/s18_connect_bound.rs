//! Requests wait for connections to replicas to be made.

use super::{Case, Facts, Fix, Outcome, Phase, Rule, Severity, Tier, above, below, ratio};

pub(super) const RULE: Rule = Rule {
    id: "S18",
    name: "connect_bound",
    title: "requests wait for connections to be made",
    severity: Severity::Warning,
    tier: Tier::Time,
    explains: &[Phase::Connect],
    masks: &[],
    refuted_by: "requests over connections that were there take as long to reach replicas",
    check,
};

/// Within a data centre a connection is made in well under a millisecond, with TLS in two.
const DIAL_MIN_S: f64 = 0.005;

/// A pool that fits has nearly every request go over a connection that is there.
const REUSED_MAX: f64 = 0.9;

fn check(facts: &Facts<'_>) -> Outcome {
    let gateway = &facts.evidence.gateway;
    let traffic = &gateway.traffic;
    let mut case = Case::of(&RULE, facts);
    case.needs(above("making a connection", gateway.dial.mean(), DIAL_MIN_S, "s"))?;
    let all = traffic.connections_new.zip(traffic.connections_reused).map(|(new, old)| new + old);
    case.needs(below(
        "requests over a connection that was there",
        ratio(traffic.connections_reused, all),
        REUSED_MAX,
        "",
    ))?;
    let again = ratio(traffic.syn_retransmits, traffic.connections_new);
    case.backed_by(above("first packets sent again", again, 0.01, ""));
    let fix = Fix::new("find out what closes connections (an idle time below the gateway's, a proxy between), and who resolves names")
        .shell("ss -tin state established")
        .shell("kubectl -n kube-system top pod -l k8s-app=kube-dns")
        .predict("the time to reach a replica falls below a millisecond");
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
            &["S17", "S19", "S21"],
            &[
                |evidence| evidence.gateway.dial = Default::default(),
                |evidence| evidence.gateway.traffic.connections_reused = None,
            ],
        );
    }
}
