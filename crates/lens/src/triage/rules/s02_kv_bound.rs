//! The KV cache is full: requests wait although there are places in the batch.

use super::{Case, Facts, Fix, Knob, Outcome, Phase, Rule, Severity, Tier, above, ratio};
use crate::triage::capacity::FULL;
use crate::triage::whatif::smaller_cache;

pub(super) const RULE: Rule = Rule {
    id: "S02",
    name: "kv_bound",
    title: "the KV cache is full and requests wait although there are places in the batch",
    severity: Severity::Warning,
    tier: Tier::Time,
    explains: &[Phase::Queue, Phase::EngineQueue],
    masks: &["S20"],
    refuted_by: "requests still wait while the KV cache has room, for example at night",
    check,
};

/// What is left for the driver and for activations that grow with the batch: vLLM's own default is
/// 0.92, and its documentation goes up to 0.95.
const MEMORY_MAX: f64 = 0.95;

fn check(facts: &Facts<'_>) -> Outcome {
    let typical = facts.typical();
    let mut case = Case::of(&RULE, facts);
    case.needs(above("KV cache in use", typical.kv_use, FULL, ""))?;
    case.needs(above("requests waiting", facts.waiting(), 1.0, ""))?;
    case.unless(above("places taken", typical.slots_used, FULL, ""))?;
    let capacity = facts.sum(|replica| replica.gauges.waiting_capacity);
    case.backed_by(above("requests waiting for room", capacity, 1.0, ""));
    // As many as the cache holds by its size and the lengths of requests, give or take a quarter.
    let fit = ratio(typical.running, typical.kv_sequences);
    case.backed_by(above("sequences, of what the cache holds", fit, 0.75, ""));
    Ok(case.finding(fix(facts)))
}

fn fix(facts: &Facts<'_>) -> Fix {
    let runtime = facts.runtime();
    let fix = Fix::new(
        "give the KV cache more room: half the bytes for each token, or more memory",
    )
    .set(Knob::CacheType, runtime, "fp8");
    let memory = facts.evidence.replicas.iter().find_map(|one| one.config.gpu_memory_utilization);
    let fix = match memory.filter(|memory| *memory < MEMORY_MAX) {
        Some(_) => fix.set(Knob::Memory, runtime, MEMORY_MAX),
        None => fix,
    };
    let predicted = smaller_cache(facts.typical()).map_or_else(
        || "as many more sequences as there is more room".to_owned(),
        |smaller| {
            let next = smaller.next.map_or("", |next| next.name());
            let gain = smaller.gain.map_or_else(String::new, |gain| format!(", about {gain:.1} times the rate"));
            format!(
                "room for {:.0} sequences instead of {:.0}{gain}; then {next} limits. By the roofline, \
                 not measured",
                smaller.to, smaller.from
            )
        },
    );
    fix.predict(predicted)
}

#[cfg(test)]
mod tests {
    use super::super::{each, proves};
    use super::*;

    #[test]
    fn it_is_told_from_its_neighbours() {
        proves(
            &RULE,
            &["S01", "S04", "S06", "S13", "S33"],
            &[
                |evidence| each(evidence, |one| one.gauges.kv_use = None),
                |evidence| each(evidence, |one| one.gauges.waiting = None),
            ],
        );
    }
}
