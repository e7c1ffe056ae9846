//! Some replicas have far more to do than others that could do the same.

use super::{Case, Facts, Fix, Miss, Outcome, Phase, Replica, Rule, Severity, Tier, above, ratio};
use crate::triage::facts::median;

pub(super) const RULE: Rule = Rule {
    id: "S13",
    name: "imbalance",
    title: "some replicas have far more to do than others",
    severity: Severity::Warning,
    tier: Tier::Time,
    explains: &[Phase::EngineQueue, Phase::Decode],
    masks: &["S01", "S02", "S07", "S20"],
    refuted_by: "replicas with less to do have other weights, other hardware, or are draining",
    check,
};

/// The busiest by the middle one (vllm-doctor), which is at least a quarter of an even part; of two, by twice the other,
/// for there is none in the middle.
const RUNNING_MIN: f64 = 2.0;

/// Fewest requests for that (vllm-doctor): two against one is chance.
const TOTAL_MIN: f64 = 5.0;

/// The fullest KV cache less the emptiest (vllm-doctor).
const KV_GAP_MIN: f64 = 0.3;

/// One less Jain's index, (Σx)² / (n · Σx²): at 0.9 a tenth of the replicas could have nothing to do. Alone it proves
/// nothing: a long prompt in one of them and requests that come by chance are as uneven.
const UNFAIR_MIN: f64 = 0.1;

fn check(facts: &Facts<'_>) -> Outcome {
    let mut case = Case::of(&RULE, facts);
    if facts.is_divided() {
        // Replicas with different parts of the work have different loads by design.
        return Err(Miss::Fine);
    }
    let replicas = &facts.evidence.replicas;
    let running: Vec<f64> = replicas.iter().filter_map(|replica| replica.gauges.running).collect();
    // Of replicas of different size the larger one is to have more.
    let loads: Option<Vec<f64>> = replicas.iter().map(load).collect();
    let loads = loads.unwrap_or_else(|| running.clone());
    if running.len() < 2 {
        return Err(Miss::Unknown("requests in the batches of two replicas"));
    }
    let kv: Vec<f64> = replicas.iter().filter_map(|replica| replica.gauges.kv_use).collect();
    let total: f64 = running.iter().sum();
    case.needs(above("requests in all batches", Some(total), TOTAL_MIN, ""))?;
    case.needs_any(&[
        above("the busiest, by the middle one", skew(&loads), RUNNING_MIN, ""),
        above("difference of KV cache in use", gap(&kv), KV_GAP_MIN, ""),
    ])?;
    case.backed_by(above("unfairness (1 − Jain)", unfairness(&loads), UNFAIR_MIN, ""));
    let busiest = facts.most(|replica| load(replica).or(replica.gauges.running));
    let busiest = busiest.map(|most| most.1.name.clone());
    case.about(busiest);
    // What the busiest have beyond an even part waits for no good reason.
    let even = total / running.len() as f64;
    let beyond: f64 = running.iter().map(|one| (one - even).max(0.0)).sum();
    case.explains(Some(beyond / total));
    let fix = Fix::new(
        "choose replicas by what answers will cost there, and look for sessions that stick",
    )
    .manifest("kind: Route\nspec.policy: cost")
    .predict("batches of about the same size; the busiest replica's queue goes");
    Ok(case.finding(fix))
}

/// What it has to do, by what it has room for.
fn load(replica: &Replica) -> Option<f64> {
    ratio(replica.gauges.running, replica.config.max_num_seqs.or(replica.gauges.slots_seen))
}

/// The most by the middle one.
fn skew(values: &[f64]) -> Option<f64> {
    let most = values.iter().copied().fold(0.0, f64::max);
    let quarter = values.iter().sum::<f64>() / values.len() as f64 / 4.0;
    let middle = match values {
        [one, other] => Some(one.min(*other) * 2.0),
        _ => median(values.to_vec()),
    };
    ratio(Some(most), middle.map(|middle| middle.max(quarter)))
}

fn gap(values: &[f64]) -> Option<f64> {
    let most = values.iter().copied().reduce(f64::max)?;
    Some(most - values.iter().copied().reduce(f64::min)?)
}

fn unfairness(values: &[f64]) -> Option<f64> {
    let sum: f64 = values.iter().sum();
    let squares: f64 = values.iter().map(|value| value * value).sum();
    ratio(Some(sum * sum), Some(squares * values.len() as f64)).map(|index| 1.0 - index)
}

#[cfg(test)]
mod tests {
    use super::super::{each, proves};
    use super::*;

    #[test]
    fn it_is_told_from_its_neighbours() {
        proves(
            &RULE,
            &["S01", "S10", "S27"],
            &[
                |evidence| each(evidence, |one| one.gauges.running = None),
                |evidence| evidence.replicas.truncate(1),
            ],
        );
    }

    /// Replicas with so many requests, and so many places for them.
    fn found(replicas: &[(f64, Option<f64>)]) -> bool {
        let mut evidence = crate::triage::scenarios::healthy();
        let like = evidence.replicas[0].clone();
        evidence.replicas = replicas
            .iter()
            .enumerate()
            .map(|(at, (running, places))| {
                let mut one = like.clone();
                one.name = format!("r{at}");
                (one.gauges.running, one.gauges.kv_use) = (Some(*running), None);
                (one.config.max_num_seqs, one.gauges.slots_seen) = (*places, None);
                one
            })
            .collect();
        check(&Facts::of(&evidence)).is_ok()
    }

    #[test]
    fn who_has_all_is_seen_and_who_is_larger_is_not_blamed() {
        assert!(found(&[(10.0, None), (0.0, None), (0.0, None)]));
        assert!(found(&[(9.0, None), (1.0, None)]));
        assert!(found(&[(9.0, Some(16.0)), (1.0, Some(16.0))]));
        assert!(!found(&[(7.0, None), (3.0, None)]), "as chance has it");
        assert!(!found(&[(30.0, Some(32.0)), (4.0, Some(4.0)), (4.0, Some(4.0))]));
        assert!(
            !found(&[(1.0, None), (0.0, None), (0.0, None)]),
            "one request has to be somewhere"
        );
    }

    #[test]
    fn even_loads_are_fair() {
        assert_eq!(unfairness(&[3.0, 3.0, 3.0]), Some(0.0));
        assert_eq!(unfairness(&[4.0, 0.0]), Some(0.5));
        assert_eq!(unfairness(&[0.0, 0.0]), None);
    }
}
