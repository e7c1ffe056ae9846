//! Replicas for answers wait for the KV cache that replicas for prompts have made.

use super::{Case, Facts, Fix, Outcome, Phase, Rule, Severity, Tier, above, ratio};
use crate::triage::evidence::{Lasted, Times};

pub(super) const RULE: Rule = Rule {
    id: "S26",
    name: "kv_transfer_bound",
    title: "KV cache takes long from one replica to the other",
    severity: Severity::Warning,
    tier: Tier::Time,
    explains: &[Phase::Connect, Phase::EngineQueue],
    masks: &["S27"],
    refuted_by: "the time of transfers does not follow the length of prompts",
    check,
};

/// A third of the time to the first token: then computing the prompt where it is needed would be
/// about as quick.
const SHARE_MIN: f64 = 0.3;

fn check(facts: &Facts<'_>) -> Outcome {
    let mut case = Case::of(&RULE, facts);
    let times = |of: fn(&Times) -> &Lasted| {
        facts.ratio(|one| (of(&one.times).seconds, of(&one.times).count))
    };
    // As the gateway sees it, prompts that were computed elsewhere before are part of it.
    let gateway = &facts.evidence.gateway;
    let seen = gateway.phases.connect.zip(gateway.phases.prefill);
    let first = ratio(seen.map(|(connect, prefill)| connect + prefill), gateway.traffic.requests);
    let share =
        ratio(times(|times| &times.kv_transfer), first.or_else(|| times(|times| &times.ttft)));
    let lost = facts.sum(|one| {
        let known = [one.deltas.kv_transfers_failed, one.deltas.kv_transfers_expired];
        known.into_iter().flatten().reduce(|sum, next| sum + next)
    });
    case.needs_any(&[
        above("transfers, of the time to the first token", share, SHARE_MIN, ""),
        above("transfers that failed or came too late", lost, 1.0, ""),
    ])?;
    case.explains(
        share
            .zip(facts.attribution.share(&[Phase::Connect, Phase::EngineQueue, Phase::Prefill]))
            .map(|(of, first)| of * first),
    );
    let fix = Fix::new("see that transfers go over RDMA and not over TCP, and that cache is kept until it is fetched")
        .shell("ibstat; env | grep -E 'UCX|NCCL_IB'")
        .predict(predicted(facts));
    Ok(case.finding(fix))
}

/// What a transfer takes where the network is what it is sold as.
fn predicted(facts: &Facts<'_>) -> String {
    let bounds = facts.typical();
    match bounds.kv_token_bytes.zip(bounds.input) {
        Some((bytes, input)) => {
            let megabytes = bytes * input / 1e6;
            format!(
                "a prompt's cache is {megabytes:.0} MB: {:.0} ms at 100 Gbit/s",
                megabytes / 12.5
            )
        }
        None => "transfers at the network's rate".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{each, proves};
    use super::*;

    #[test]
    fn it_is_told_from_its_neighbours() {
        proves(
            &RULE,
            &["S27", "S04", "S18"],
            &[|evidence| {
                each(evidence, |one| {
                    one.times.kv_transfer = Default::default();
                    one.deltas.kv_transfers_failed = None;
                    one.deltas.kv_transfers_expired = None;
                });
            }],
        );
    }
}
