//! Each token takes as long as reading the weights and the cache once: no setting makes it quicker.

use super::{Case, Facts, Fix, Knob, Outcome, Phase, Rule, Severity, Tier, above, below, ratio};
use crate::triage::capacity::{BANDWIDTH_FULL, FULL, ranks};
use crate::triage::whatif::smaller_weights;

pub(super) const RULE: Rule = Rule {
    id: "S06",
    name: "decode_bandwidth_bound",
    title: "each token takes as long as reading the weights once takes this accelerator",
    severity: Severity::Info,
    tier: Tier::Time,
    explains: &[Phase::Decode],
    masks: &[],
    refuted_by: "the time for each token falls with another setting, at the same weights and cache",
    check,
};

/// Below it there is no batch to speak of (see `under_batched`).
const RUNNING_MIN: f64 = 3.0;

/// The larger half of computing.
const SHARE_MIN: f64 = 0.5;

fn check(facts: &Facts<'_>) -> Outcome {
    let typical = facts.typical();
    let mut case = Case::of(&RULE, facts);
    let memory = facts.gpus(|gpu| gpu.dram_active);
    let mbu = above("bandwidth in use (MBU)", typical.mbu, BANDWIDTH_FULL, "");
    let dram = above("memory active", memory, BANDWIDTH_FULL, "");
    // Dimensions and a data sheet say it better than a counter that knows no useful bytes.
    if typical.mbu.is_some() {
        case.needs(mbu)?;
        case.backed_by(dram);
    } else {
        case.needs(dram)?;
    }
    case.needs(above("requests in a batch", typical.running, RUNNING_MIN, ""))?;
    let answers = facts.prefill_share().map(|prompts| 1.0 - prompts);
    case.needs(above("answers, of computing", answers, SHARE_MIN, ""))?;
    case.unless(above("places taken", typical.slots_used, FULL, ""))?;
    let goal = ratio(typical.step_s, facts.evidence.goals.tpot_s);
    case.unless(below("time for each token, of what was promised", goal, 1.0, ""))?;
    case.backed_by(above("time for each token, of what was promised", goal, 1.0, ""));
    Ok(case.finding(fix(facts)))
}

fn fix(facts: &Facts<'_>) -> Fix {
    let replica = facts.evidence.replicas.first();
    let weights = replica.and_then(|one| one.dims.weight_bytes);
    let ranks = replica.map_or(1.0, ranks);
    let bandwidth =
        replica.and_then(|one| one.accelerator.bandwidth_bytes_s).map(|all| all * ranks);
    let smaller = smaller_weights(facts.typical(), weights, bandwidth);
    let predicted = smaller.map_or_else(
        || "steps get shorter by the bytes that are not read".to_owned(),
        |smaller| {
            let (from, to) = (smaller.from * 1e3, smaller.to * 1e3);
            format!("weights of half the bytes: {to:.1} ms for each token instead of {from:.1}, by the roofline")
        },
    );
    Fix::new("read fewer bytes for each token: weights of fewer bits, or more accelerators that divide them")
        .set(Knob::Quantization, facts.runtime(), "fp8")
        .set(Knob::Tensor, facts.runtime(), ranks * 2.0)
        .predict(predicted)
}

#[cfg(test)]
mod tests {
    use super::super::{each, proves};
    use super::*;

    #[test]
    fn it_is_told_from_its_neighbours() {
        proves(
            &RULE,
            &["S01", "S04", "S05", "S07", "S11"],
            &[
                |evidence| each(evidence, |one| one.gauges.running = None),
                |evidence| {
                    each(evidence, |one| {
                        one.dims = Default::default();
                        one.gpus.clear();
                    });
                },
            ],
        );
    }
}
