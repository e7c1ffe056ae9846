//! Accelerators read all of their weights for one or two requests at a time.

use super::{Case, Facts, Fix, Outcome, Rule, Severity, Tier, above, below, ratio};

pub(super) const RULE: Rule = Rule {
    id: "S07",
    name: "under_batched",
    title: "accelerators read all weights for one or two requests at a time",
    severity: Severity::Info,
    tier: Tier::Time,
    explains: &[],
    masks: &[],
    refuted_by: "fewer replicas serve the same requests no cheaper",
    check,
};

/// Most requests in a batch that is none.
const RUNNING_MAX: f64 = 2.5;

/// Fewest: a replica with less to do is idle, which costs as much and is nobody's puzzle.
const RUNNING_MIN: f64 = 0.25;

/// Memory is busy: the accelerator works, for hardly anybody.
const MEMORY_MIN: f64 = 0.5;

fn check(facts: &Facts<'_>) -> Outcome {
    let typical = facts.typical();
    let mut case = Case::of(&RULE, facts);
    case.needs(below("requests in a batch", typical.running, RUNNING_MAX, ""))?;
    case.needs(above("requests in a batch", typical.running, RUNNING_MIN, ""))?;
    case.needs(below("requests waiting", facts.waiting(), 1.0, ""))?;
    let memory = facts.gpus(|gpu| gpu.dram_active);
    case.needs_any(&[
        above("memory active", memory, MEMORY_MIN, ""),
        above("bandwidth in use (MBU)", typical.mbu, MEMORY_MIN, ""),
    ])?;
    let replicas = facts.evidence.replicas.len();
    case.unless(below("replicas", Some(replicas as f64), 2.0, ""))?;
    // Half full is where a replica is well used and has room for the next minutes.
    let running = facts.sum(|replica| replica.gauges.running);
    let wanted =
        ratio(running, typical.slots.map(|slots| slots / 2.0)).map_or(1.0, |n| n.ceil().max(1.0));
    let fix = Fix::new(format!("serve them by fewer replicas: {wanted:.0} instead of {replicas}"))
        .manifest(format!("spec.replicas: {wanted:.0}"))
        .predict(
            "the same answers at nearly the same pace: a batch shares each reading of the weights",
        );
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
            &["S06", "S01", "S09"],
            &[
                |evidence| each(evidence, |one| one.gauges.running = None),
                |evidence| each(evidence, |one| one.gauges.waiting = None),
            ],
        );
    }
}
