//! Prompts wait for their replicas while those for answers have little to do, or the other way round.

use super::{Case, Facts, Fix, Miss, Outcome, Phase, Rule, Severity, Tier, above, below, ratio};
use crate::triage::evidence::Role;

pub(super) const RULE: Rule = Rule {
    id: "S27",
    name: "pd_ratio",
    title: "replicas for prompts and for answers are in the wrong proportion",
    severity: Severity::Warning,
    tier: Tier::Time,
    explains: &[Phase::Queue, Phase::EngineQueue],
    masks: &["S01", "S02", "S04", "S20"],
    refuted_by: "requests wait as long after a replica has changed sides",
    check,
};

/// Somebody always waits there …
const WAITING_MIN: f64 = 1.0;

/// … while the others are less than half full.
const IDLE_MAX: f64 = 0.5;

fn check(facts: &Facts<'_>) -> Outcome {
    if !facts.is_divided() {
        return Err(Miss::Unknown("replicas for prompts and replicas for answers"));
    }
    let one_way = lack(facts, Role::Prefill, Role::Decode);
    if one_way.is_ok() { one_way } else { lack(facts, Role::Decode, Role::Prefill).or(one_way) }
}

/// Whether there are too few of the one kind and too many of the other.
fn lack(facts: &Facts<'_>, few: Role, many: Role) -> Outcome {
    let mut case = Case::of(&RULE, facts);
    let count = |role: Role| facts.evidence.replicas.iter().filter(|one| one.role == role).count();
    let waiting = facts.sum(|one| one.gauges.waiting.filter(|_| one.role == few));
    case.needs(above(
        "requests waiting for the one kind",
        ratio(waiting, Some(count(few) as f64)),
        WAITING_MIN,
        "",
    ))?;
    let taken = facts
        .ratio(|one| (one.gauges.running.filter(|_| one.role == many), one.config.max_num_seqs));
    case.needs(below("places taken of the other kind", taken, IDLE_MAX, ""))?;
    let (name, other) = match few {
        Role::Prefill => ("prompts", "answers"),
        Role::Both | Role::Decode => ("answers", "prompts"),
    };
    case.title(format!("too few replicas for {name}, too many for {other}"));
    let (now, then) = (count(few), count(many));
    let fix = Fix::new(format!(
        "have {} replicas for {name} instead of {now}, and {} for {other} instead of {then}",
        now + 1,
        then.saturating_sub(1).max(1)
    ))
    .predict("neither kind waits while the other has nothing to do");
    Ok(case.finding(fix))
}

#[cfg(test)]
mod tests {
    use super::super::{each, proves};
    use super::*;
    use crate::triage::scenarios::scenario;

    #[test]
    fn it_is_told_from_its_neighbours() {
        proves(
            &RULE,
            &["S26", "S01", "S04", "S13"],
            &[
                |evidence| each(evidence, |one| one.role = Role::Both),
                |evidence| each(evidence, |one| one.gauges.waiting = None),
                |evidence| each(evidence, |one| one.config.max_num_seqs = None),
            ],
        );
    }

    #[test]
    fn it_is_found_the_other_way_round() {
        let mut evidence = scenario("S27");
        each(&mut evidence, |one| {
            one.role = if one.role == Role::Prefill { Role::Decode } else { Role::Prefill };
        });
        let found = check(&Facts::of(&evidence)).unwrap();
        assert!(found.title.contains("too few replicas for answers"), "{}", found.title);
    }
}
