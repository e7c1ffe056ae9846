//! The machine below a replica is short of processors or memory, by limits or by neighbours.

use super::{Case, Facts, Fix, Outcome, Phase, Rule, Severity, Tier, above, names};
use crate::triage::evidence::{Host, Replica};

pub(super) const RULE: Rule = Rule {
    id: "S29",
    name: "node_pressure",
    title: "a node is short of processors or memory",
    severity: Severity::Warning,
    tier: Tier::Time,
    explains: &[Phase::EngineQueue, Phase::Prefill, Phase::Decode],
    masks: &["S08", "S10", "S13"],
    refuted_by: "the replica is as slow alone on a node without limits",
    check,
};

/// A measure, where it is found, and what it may be at most.
type Limit = (&'static str, fn(&Host) -> Option<f64>, f64);

/// What each may be at most: a tenth of the time is lost, and each step may need the processor. That
/// of the hypervisor's neighbours is felt sooner, because it comes in long pieces.
const LIMITS: [Limit; 5] = [
    ("periods in which its limit held it back", |host| host.throttled, 0.1),
    ("time given to other machines", |host| host.steal, 0.05),
    ("time waiting for a processor", |host| host.psi_cpu, 0.25),
    ("time waiting for memory", |host| host.psi_memory, 0.1),
    ("time waiting for a disk", |host| host.psi_io, 0.25),
];

fn check(facts: &Facts<'_>) -> Outcome {
    let mut case = Case::of(&RULE, facts);
    let of = |replica: &Replica| {
        let known = LIMITS.iter().filter_map(|(_, of, limit)| Some(of(&replica.host)? >= *limit));
        known.reduce(|any, next| any || next)
    };
    let pressed = facts.which("throttling, steal and pressure of nodes", of)?;
    let host = &pressed[0].host;
    case.needs_any(&LIMITS.map(|(measure, of, limit)| above(measure, of(host), limit, "")))?;
    let pace = |one: &Replica| one.times.tpot.mean().or_else(|| one.times.itl.mean());
    let slower = super::ratio(pace(pressed[0]), facts.others(pressed[0], pace));
    if slower.is_some_and(|slower| slower >= 1.1) {
        case.backed_by(above("time for each token, by the others'", slower, 1.1, ""));
    }
    case.about(names(&pressed));
    let fix = Fix::new("give the pods processors and memory of their own")
        .manifest("spec.podTemplate.cpuMillis: 8000")
        .predict("steps are not held up between kernels");
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
            &["S08", "S10", "S11"],
            &[|evidence| {
                each(evidence, |one| one.host = Host::default());
            }],
        );
    }
}
