//! Sequences are put out of the batch for lack of KV cache and their prompts computed again.

use super::{Case, Facts, Fix, Knob, Outcome, Phase, Rule, Severity, Tier, above, ratio};

pub(super) const RULE: Rule = Rule {
    id: "S03",
    name: "preemption_thrash",
    title: "sequences put each other out of the KV cache and are computed again",
    severity: Severity::Warning,
    tier: Tier::Time,
    explains: &[Phase::Queue, Phase::EngineQueue, Phase::Prefill],
    masks: &["S02", "S04", "S05", "S20"],
    refuted_by: "pauses in answers stay when the counter of preemptions stands still",
    check,
};

/// One request in twenty computed again: a twentieth more prompts, and pauses that the 95th
/// percentile begins to show. Below it preemption does what it is for.
const EACH_MIN: f64 = 0.05;

/// The cache is nearly full when sequences go (vllm-doctor).
const KV_MIN: f64 = 0.8;

/// A pause in which a prompt is computed again is far longer than a step.
const PAUSE_MIN: f64 = 10.0;

/// What there is to be of the places that were too many.
const FEWER: f64 = 0.75;

fn check(facts: &Facts<'_>) -> Outcome {
    let mut case = Case::of(&RULE, facts);
    let each = facts.ratio(|replica| (replica.deltas.preemptions, replica.deltas.requests));
    case.needs(above("preemptions for each request", each, EACH_MIN, ""))?;
    case.backed_by(above("KV cache in use", facts.typical().kv_use, KV_MIN, ""));
    let times = |replica: &super::Replica| ratio(replica.times.itl_max_s, replica.times.itl_p50_s);
    let pause = facts.most(times).map(|most| most.0);
    case.backed_by(above("longest pause in an answer, by the median", pause, PAUSE_MIN, ""));
    let typical = facts.typical();
    let fits = typical.kv_sequences.map_or(typical.running, |fits| Some(fits * 0.9));
    // Requests that are longer than most fill the cache though there are fewer than would fit: fewer than now it is.
    let fewer = typical.slots.map_or(f64::INFINITY, |slots| slots * FEWER);
    let places = fits.map_or(1.0, |fits| fits.min(fewer).floor().max(1.0));
    let fix = Fix::new("let in fewer sequences than the KV cache holds, or give it more room")
        .set(Knob::Slots, facts.runtime(), places)
        .set(Knob::CacheType, facts.runtime(), "fp8")
        .predict("no request is computed twice; answers have no pauses, some wait longer to begin");
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
            &["S01", "S02", "S05"],
            &[
                |evidence| each(evidence, |one| one.deltas.preemptions = None),
                |evidence| each(evidence, |one| one.deltas.requests = None),
            ],
        );
    }
}
