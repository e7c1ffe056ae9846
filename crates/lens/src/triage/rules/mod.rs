//! The signatures of trouble, one file each.
//!
//! A rule looks at the facts and says what it found, that it is not so, or which measure it would
//! have needed. Its limits have a source or a reason beside them; those of others are vllm-doctor's
//! and AIPerf's rules, llm-d's alerts and the documentation of the servers.

mod s01_slot_bound;
mod s02_kv_bound;
mod s03_preemption_thrash;
mod s04_prefill_bound;
mod s05_prefill_decode_interference;
mod s06_decode_bandwidth_bound;
mod s07_under_batched;
mod s08_host_bound;
mod s09_engine_hung;
mod s10_slow_replica;
mod s11_throttled;
mod s12_gpu_fault;
mod s13_imbalance;
mod s14_stale_metrics_herd;
mod s15_prefix_cache_miss;
mod s16_cold_start;
mod s17_gateway_bound;
mod s18_connect_bound;
mod s19_slow_client;
mod s20_admission_shed;
mod s21_upstream_quota;
mod s22_long_outputs;
mod s23_context_overflow;
mod s24_client_retry_storm;
mod s25_cancel_leak;
mod s26_kv_transfer_bound;
mod s27_pd_ratio;
mod s28_scale_lag;
mod s29_node_pressure;
mod s30_config_drift;
mod s31_bench_invalid;
mod s32_spec_decode_loss;
mod s33_lora_thrash;
mod s34_alert_rules_dead;

use super::attribution::Phase;
use super::case::{Case, Miss, Outcome, above, below, is_so};
#[cfg(test)]
use super::evidence::Evidence;
use super::evidence::{Replica, ratio};
use super::facts::Facts;
use super::finding::{Fix, Severity};
use super::knob::Knob;

/// A signature.
pub(super) struct Rule {
    /// Its id: `S01`.
    pub(super) id: &'static str,
    /// Its name.
    pub(super) name: &'static str,
    /// What is so, in a sentence.
    pub(super) title: &'static str,
    /// How much it matters.
    pub(super) severity: Severity,
    /// Before which others it is told.
    pub(super) tier: Tier,
    /// The phases whose time it explains; none where it is about something else than time.
    pub(super) explains: &'static [Phase],
    /// What follows from it, and is told after it.
    pub(super) masks: &'static [&'static str],
    /// What would show that it is not so.
    pub(super) refuted_by: &'static str,
    /// Whether it is so.
    pub(super) check: fn(&Facts<'_>) -> Outcome,
}

/// Before which others a finding is told, if none of them follows from another.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Tier {
    /// The measurement is at fault: nothing else can be believed.
    Invalid,
    /// Something is broken.
    Fault,
    /// Something takes time; more of it before less.
    Time,
    /// What protects from the consequences.
    Symptom,
    /// What slows nobody down.
    Hygiene,
}

/// Every signature, by its id.
pub(super) const RULES: &[&Rule] = &[
    &s01_slot_bound::RULE,
    &s02_kv_bound::RULE,
    &s03_preemption_thrash::RULE,
    &s04_prefill_bound::RULE,
    &s05_prefill_decode_interference::RULE,
    &s06_decode_bandwidth_bound::RULE,
    &s07_under_batched::RULE,
    &s08_host_bound::RULE,
    &s09_engine_hung::RULE,
    &s10_slow_replica::RULE,
    &s11_throttled::RULE,
    &s12_gpu_fault::RULE,
    &s13_imbalance::RULE,
    &s14_stale_metrics_herd::RULE,
    &s15_prefix_cache_miss::RULE,
    &s16_cold_start::RULE,
    &s17_gateway_bound::RULE,
    &s18_connect_bound::RULE,
    &s19_slow_client::RULE,
    &s20_admission_shed::RULE,
    &s21_upstream_quota::RULE,
    &s22_long_outputs::RULE,
    &s23_context_overflow::RULE,
    &s24_client_retry_storm::RULE,
    &s25_cancel_leak::RULE,
    &s26_kv_transfer_bound::RULE,
    &s27_pd_ratio::RULE,
    &s28_scale_lag::RULE,
    &s29_node_pressure::RULE,
    &s30_config_drift::RULE,
    &s31_bench_invalid::RULE,
    &s32_spec_decode_loss::RULE,
    &s33_lora_thrash::RULE,
    &s34_alert_rules_dead::RULE,
];

/// The names of replicas.
fn names(replicas: &[&Replica]) -> Vec<String> {
    replicas.iter().map(|replica| replica.name.clone()).collect()
}

/// A replica's name as a command may hold it.
fn word(name: &str) -> String {
    name.chars().filter(|char| char.is_ascii_alphanumeric() || "._-".contains(*char)).collect()
}

/// A rule is found in its scenario and in none of these neighbours, and says what it lacks when what
/// it rests on is unknown.
#[cfg(test)]
fn proves(rule: &Rule, neighbours: &[&str], unknown: &[fn(&mut Evidence)]) {
    use super::scenarios::{healthy, scenario};

    let own = scenario(rule.id);
    let found = (rule.check)(&Facts::of(&own));
    assert!(found.is_ok(), "{} is not found in its scenario: {found:?}", rule.id);
    assert!(
        (rule.check)(&Facts::of(&healthy())).is_err(),
        "{} is found where all is well",
        rule.id
    );
    for neighbour in neighbours {
        let found = (rule.check)(&Facts::of(&scenario(neighbour)));
        assert!(found.is_err(), "{} is found in {neighbour}: {found:?}", rule.id);
    }
    for (at, forget) in unknown.iter().enumerate() {
        let mut evidence = own.clone();
        forget(&mut evidence);
        let missed = (rule.check)(&Facts::of(&evidence));
        assert!(matches!(missed, Err(Miss::Unknown(_))), "{} without {at}: {missed:?}", rule.id);
    }
}

/// Changes every replica.
#[cfg(test)]
fn each(evidence: &mut Evidence, change: impl Fn(&mut Replica)) {
    evidence.replicas.iter_mut().for_each(change);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn names_are_one_word_of_a_command() {
        assert_eq!(word("llama-0.ns"), "llama-0.ns");
        assert_eq!(word("a; rm -rf $(b)\n`c`"), "arm-rfbc");
    }

    #[test]
    fn ids_count_up_and_names_are_those_of_files() {
        for (at, rule) in RULES.iter().enumerate() {
            assert_eq!(rule.id, format!("S{:02}", at + 1));
        }
        assert_eq!(RULES.len(), 34);
    }

    /// Nothing follows from itself, however far around.
    #[test]
    fn what_follows_has_an_order() {
        let masks: BTreeMap<&str, &[&str]> =
            RULES.iter().map(|rule| (rule.id, rule.masks)).collect();
        for rule in RULES {
            let mut reached: Vec<&str> = rule.masks.to_vec();
            let mut at = 0;
            while let Some(id) = reached.get(at).copied() {
                assert_ne!(id, rule.id, "{} follows from itself", rule.id);
                let further = masks[id].iter().filter(|next| !reached.contains(next));
                let further: Vec<&str> = further.copied().collect();
                reached.extend(further);
                at += 1;
            }
        }
    }
}
