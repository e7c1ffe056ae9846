//! An accelerator runs at a lower clock because of heat or of its power limit.

use super::{Case, Facts, Fix, Outcome, Phase, Rule, Severity, Tier, above, below, names, ratio};
use crate::triage::evidence::{Gpu, Replica};

pub(super) const RULE: Rule = Rule {
    id: "S11",
    name: "throttled",
    title: "heat or a power limit holds an accelerator back",
    severity: Severity::Warning,
    tier: Tier::Time,
    explains: &[Phase::Prefill, Phase::Decode, Phase::EngineQueue],
    masks: &["S10", "S13"],
    refuted_by: "its clock is as low when it has nothing to do and is cool",
    check,
};

/// Accelerators under full load touch their power limit for moments; a twentieth of the time is
/// more than moments.
const HELD_MIN: f64 = 0.05;

/// Boost clocks come and go by a tenth; a sixth less is felt.
const CLOCK_MAX: f64 = 0.85;

fn check(facts: &Facts<'_>) -> Outcome {
    let mut case = Case::of(&RULE, facts);
    let window = facts.evidence.window_s();
    let held = |gpu: &Gpu| {
        let known = [gpu.thermal_violation_s, gpu.power_violation_s].into_iter().flatten();
        ratio(known.reduce(|sum, next| sum + next), window)
    };
    let clock = |gpu: &Gpu| ratio(gpu.sm_clock_mhz, gpu.sm_clock_max_mhz);
    let is = |gpu: &Gpu| Some(held(gpu)? >= HELD_MIN && clock(gpu)? < CLOCK_MAX);
    let of = |replica: &Replica| replica.gpus.iter().filter_map(is).reduce(|any, next| any || next);
    let throttled = facts.which("DCGM_FI_DEV_THERMAL_VIOLATION and _POWER_VIOLATION", of)?;
    let gpu = throttled[0].gpus.iter().find(|gpu| is(gpu) == Some(true));
    case.needs(above("time held back", gpu.and_then(held), HELD_MIN, ""))?;
    case.needs(below("clock, of what it reaches", gpu.and_then(clock), CLOCK_MAX, ""))?;
    // Accelerators begin to slow down between 83 and 95 °C.
    case.backed_by(above("temperature", gpu.and_then(|gpu| gpu.temperature_c), 80.0, "°C"));
    case.about(names(&throttled));
    let fix = Fix::new("look at its cooling, and at the power limit of its node")
        .shell("nvidia-smi -q -d TEMPERATURE,POWER,PERFORMANCE")
        .predict("prompts and steps get quicker by as much as the clock rises");
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
            &["S06", "S10", "S12"],
            &[
                |evidence| each(evidence, |one| one.gpus.clear()),
                |evidence| {
                    each(evidence, |one| {
                        for gpu in &mut one.gpus {
                            gpu.thermal_violation_s = None;
                            gpu.power_violation_s = None;
                        }
                    });
                },
            ],
        );
    }
}
