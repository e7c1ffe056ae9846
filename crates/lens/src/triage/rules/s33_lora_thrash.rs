//! More adapters are asked for than a batch may hold, and they put each other out.

use super::{Case, Facts, Fix, Knob, Outcome, Phase, Rule, Severity, Tier, above};

pub(super) const RULE: Rule = Rule {
    id: "S33",
    name: "lora_thrash",
    title: "requests wait for adapters, which put each other out",
    severity: Severity::Warning,
    tier: Tier::Time,
    explains: &[Phase::EngineQueue],
    masks: &["S01", "S20"],
    refuted_by: "requests for the model itself wait as long",
    check,
};

/// Somebody always waits for one.
const WAITING_MIN: f64 = 1.0;

/// One request in twenty has its adapter loaded.
const LOADS_MIN: f64 = 0.05;

fn check(facts: &Facts<'_>) -> Outcome {
    let mut case = Case::of(&RULE, facts);
    let waiting = facts.sum(|replica| replica.gauges.lora_waiting);
    case.needs(above("adapters that requests wait for", waiting, WAITING_MIN, ""))?;
    let loads = facts.of_requests(facts.sum(|replica| replica.deltas.loras_loaded));
    case.backed_by(above("loads of adapters for each request", loads, LOADS_MIN, ""));
    let deferred = facts.sum(|replica| replica.gauges.waiting_deferred);
    case.backed_by(above("requests waiting for something else than room", deferred, 1.0, ""));
    let now = facts.most(|replica| replica.config.max_loras).map_or(1.0, |most| most.0);
    let fix = Fix::new(
        "let a batch hold more adapters, or send each adapter's requests to the same replicas",
    )
    .set(Knob::Adapters, facts.runtime(), now * 2.0)
    .predict(
        "requests wait for places alone; each adapter takes its weights' memory from the KV cache",
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
            &["S01", "S02", "S08"],
            &[|evidence| {
                each(evidence, |one| one.gauges.lora_waiting = None);
            }],
        );
    }
}
