//! The accelerator waits for the processor: tokenizing, scheduling, launching kernels one by one.

use super::{
    Case, Facts, Fix, Knob, Outcome, Phase, Rule, Severity, Tier, above, below, is_so, ratio,
};

pub(super) const RULE: Rule = Rule {
    id: "S08",
    name: "host_bound",
    title: "accelerators wait for the processor although requests wait",
    severity: Severity::Warning,
    tier: Tier::Time,
    explains: &[Phase::EngineQueue, Phase::Prefill, Phase::Decode],
    masks: &["S01", "S02", "S20"],
    refuted_by: "the processor of the server is idle while the accelerator is",
    check,
};

/// Share of time in which an accelerator that has work does something.
const ACTIVE_MIN: f64 = 0.6;

/// A process of Python that uses nine tenths of its core has no more to give.
const CPU_FULL: f64 = 0.9;

/// Health is answered by the same loop that takes requests in: vLLM's has been seen to take 30 to
/// 40 s under load, and a few milliseconds otherwise.
const HEALTH_MIN_S: f64 = 1.0;

fn check(facts: &Facts<'_>) -> Outcome {
    let mut case = Case::of(&RULE, facts);
    let active = facts.gpus(|gpu| gpu.sm_active);
    case.needs(below("accelerators active", active, ACTIVE_MIN, ""))?;
    case.needs(above("requests waiting", facts.waiting(), 1.0, ""))?;
    let host = |replica: &super::Replica| ratio(replica.host.cpu_cores, replica.host.cpu_cores_max);
    let eager = facts.evidence.replicas.iter().find_map(|replica| replica.config.enforce_eager);
    case.needs_any(&[
        above("processor of the server", facts.most(host).map(|most| most.0), CPU_FULL, ""),
        above(
            "health takes",
            facts.most(|one| one.gauges.health_s).map(|most| most.0),
            HEALTH_MIN_S,
            "s",
        ),
        is_so("steps without CUDA graphs", eager),
    ])?;
    let mut fix = Fix::new("let more processes take requests in, and launch steps as graphs").set(
        Knob::Servers,
        facts.runtime(),
        4,
    );
    if eager == Some(true) {
        fix = fix.set(Knob::NoGraphs, facts.runtime(), "");
    }
    Ok(case.finding(
        fix.predict(
            "gaps between steps go; accelerators are active all the time that requests wait",
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::{each, proves};
    use super::*;

    #[test]
    fn it_is_told_from_its_neighbours() {
        proves(
            &RULE,
            &["S01", "S07", "S09", "S17", "S29"],
            &[
                |evidence| each(evidence, |one| one.gpus.clear()),
                |evidence| each(evidence, |one| one.gauges.waiting = None),
            ],
        );
    }
}
