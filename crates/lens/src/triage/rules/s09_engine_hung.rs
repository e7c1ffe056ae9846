//! A replica has requests and makes no step, and says that it is well.

use super::{
    Case, Facts, Fix, Outcome, Rule, Severity, Tier, above, below, is_so, names, ratio, word,
};
use crate::triage::evidence::Replica;

pub(super) const RULE: Rule = Rule {
    id: "S09",
    name: "engine_hung",
    title: "a replica has requests and makes no step",
    severity: Severity::Critical,
    tier: Tier::Fault,
    explains: &[],
    masks: &["S01", "S02", "S07", "S08", "S10", "S13", "S14", "S19", "S20", "S24", "S25"],
    refuted_by: "its counter of steps or of generated tokens moves",
    check,
};

/// Longer than any step: the longest are pieces of prompts, of seconds.
const WINDOW_MIN_S: f64 = 10.0;

fn check(facts: &Facts<'_>) -> Outcome {
    let mut case = Case::of(&RULE, facts);
    case.needs(above("window", facts.evidence.window_s(), WINDOW_MIN_S, "s"))?;
    let window_s = facts.evidence.window_s();
    let stalled = |replica: &Replica| {
        // Who saw it now and then knows since when; who saw it twice, only whether.
        let whole = progress(replica).map(|steps| if steps < 1.0 { window_s } else { Some(0.0) });
        replica.gauges.stalled_s.or(whole?)
    };
    let hung = facts.which("steps", |replica| {
        Some(replica.gauges.running? >= 1.0 && stalled(replica)? >= WINDOW_MIN_S)
    })?;
    let first = hung[0];
    case.needs(above("requests in its batch", first.gauges.running, 1.0, ""))?;
    case.needs(above("time without a step", stalled(first), WINDOW_MIN_S, "s"))?;
    case.backed_by(is_so("says that it is well", first.gauges.health_ok));
    case.backed_by(below(
        "accelerator's memory active",
        first.gpus.first().and_then(|gpu| gpu.dram_active),
        0.1,
        "",
    ));
    case.explains(stuck(facts, &hung));
    case.about(names(&hung));
    let name = word(&first.name);
    let fix = Fix::new(format!("take {name} out, keep its stacks, start it again"))
        .shell(format!("kubectl exec {name} -- py-spy dump --pid 1"))
        .shell(format!("kubectl delete pod {name}"))
        .predict("its requests fail and go elsewhere, as do all later ones");
    Ok(case.finding(fix))
}

/// Steps, or else tokens, since the window began.
fn progress(replica: &Replica) -> Option<f64> {
    replica.deltas.iterations.or(replica.deltas.generation_tokens)
}

/// The share of all running requests that stand still.
fn stuck(facts: &Facts<'_>, hung: &[&Replica]) -> Option<f64> {
    let stuck: f64 = hung.iter().filter_map(|replica| replica.gauges.running).sum();
    ratio(Some(stuck), facts.sum(|replica| replica.gauges.running))
}

#[cfg(test)]
mod tests {
    use super::super::{each, proves};
    use super::*;

    #[test]
    fn it_is_told_from_its_neighbours() {
        proves(
            &RULE,
            &["S07", "S08", "S10", "S16"],
            &[
                |evidence| each(evidence, |one| one.gauges.running = None),
                |evidence| {
                    each(evidence, |one| {
                        one.deltas.iterations = None;
                        one.deltas.generation_tokens = None;
                    });
                },
                |evidence| evidence.window = None,
            ],
        );
    }
}
