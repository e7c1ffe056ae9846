//! One replica is slower than the others at a batch as large as theirs.

use super::{
    Case, Facts, Fix, Outcome, Phase, Rule, Severity, Tier, above, below, names, ratio, word,
};
use crate::triage::evidence::Replica;

pub(super) const RULE: Rule = Rule {
    id: "S10",
    name: "slow_replica",
    title: "one replica is slower than the others with no more to do",
    severity: Severity::Warning,
    tier: Tier::Time,
    explains: &[Phase::Decode, Phase::EngineQueue],
    masks: &["S13"],
    refuted_by: "it is as slow after it was moved to another node",
    check,
};

/// Replicas of the same hardware differ by a few percent; half more has a reason.
const SLOWER_MIN: f64 = 1.5;

/// Steps grow with the batch, so that a larger one is allowed to be slower.
const BATCH_MAX: f64 = 1.25;

fn check(facts: &Facts<'_>) -> Outcome {
    let mut case = Case::of(&RULE, facts);
    let pace = |replica: &Replica| replica.times.tpot.mean().or_else(|| replica.times.itl.mean());
    let batch = |replica: &Replica| replica.gauges.running;
    let slower = |replica: &Replica| ratio(pace(replica), facts.others(replica, pace));
    let larger = |replica: &Replica| ratio(batch(replica), facts.others(replica, batch));
    let slow = facts.which("time for each token of three replicas", |replica| {
        Some(slower(replica)? >= SLOWER_MIN && larger(replica)? < BATCH_MAX)
    })?;
    let first = slow[0];
    case.needs(above("time for each token, by the others'", slower(first), SLOWER_MIN, ""))?;
    case.needs(below("requests in its batch, by the others'", larger(first), BATCH_MAX, ""))?;
    let clock = |one: &Replica| one.gpus.first().and_then(|gpu| gpu.sm_clock_mhz);
    case.backed_by(below(
        "clock, by the others'",
        ratio(clock(first), facts.others(first, clock)),
        0.95,
        "",
    ));
    case.about(names(&slow));
    let name = word(&first.name);
    let fix = Fix::new(format!(
        "take {name} out and look at its node: clocks, memory errors, neighbours"
    ))
    .shell(format!("kubectl get pod {name} -o wide"))
    .shell("nvidia-smi -q -d CLOCK,PERFORMANCE,ECC")
    .predict("its requests get the pace of the others");
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
            &["S06", "S09", "S13", "S16"],
            &[
                |evidence| each(evidence, |one| one.gauges.running = None),
                |evidence| each(evidence, |one| one.times = Default::default()),
                |evidence| evidence.replicas.truncate(1),
            ],
        );
    }
}
