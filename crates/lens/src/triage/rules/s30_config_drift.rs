//! Replicas that should be alike run with different versions or settings.

use std::collections::{BTreeMap, BTreeSet};

use super::{Case, Facts, Fix, Miss, Outcome, Rule, Severity, Tier, above, names};
use crate::triage::evidence::{Replica, Role};

pub(super) const RULE: Rule = Rule {
    id: "S30",
    name: "config_drift",
    title: "replicas that should be alike are not",
    severity: Severity::Warning,
    tier: Tier::Fault,
    explains: &[],
    masks: &["S10", "S13", "S23"],
    refuted_by: "a rollout is under way, and ends",
    check,
};

fn check(facts: &Facts<'_>) -> Outcome {
    let mut case = Case::of(&RULE, facts);
    let mut by_role: BTreeMap<Role, Vec<&Replica>> = BTreeMap::new();
    for replica in &facts.evidence.replicas {
        by_role.entry(replica.role).or_default().push(replica);
    }
    let mut differing: BTreeSet<&str> = BTreeSet::new();
    let mut odd: Vec<&Replica> = Vec::new();
    let mut compared = 0;
    for replicas in by_role.values() {
        for (name, values) in settings(replicas) {
            compared += 1;
            if values.len() > 1 {
                differing.insert(name);
                odd.extend(rarest(&values));
            }
        }
    }
    if compared == 0 {
        return Err(Miss::Unknown("versions or settings of two replicas"));
    }
    case.needs(above("settings that differ", Some(differing.len() as f64), 1.0, ""))?;
    case.is_certain();
    odd.sort_by(|left, right| left.name.cmp(&right.name));
    odd.dedup_by(|left, right| left.name == right.name);
    case.explains(Some(odd.len() as f64 / facts.evidence.replicas.len() as f64));
    let list: Vec<&str> = differing.into_iter().collect();
    case.title(format!("replicas differ in {}", list.join(", ")));
    case.about(names(&odd));
    let fix = Fix::new("finish the rollout or take it back, and pin the image")
        .shell("kubectl rollout status deployment/MODEL")
        .manifest("spec.image: REGISTRY/IMAGE@sha256:DIGEST")
        .predict("all replicas answer alike, in content and in pace");
    Ok(case.finding(fix))
}

/// Each setting that two replicas or more are known to have, with who has which value.
fn settings<'a>(
    replicas: &[&'a Replica],
) -> Vec<(&'static str, BTreeMap<String, Vec<&'a Replica>>)> {
    let mut found = Vec::new();
    for (name, of) in SETTINGS {
        let mut values: BTreeMap<String, Vec<&Replica>> = BTreeMap::new();
        for replica in replicas {
            if let Some(value) = of(replica) {
                values.entry(value).or_default().push(replica);
            }
        }
        if values.values().map(Vec::len).sum::<usize>() > 1 {
            found.push((*name, values));
        }
    }
    found
}

/// Who has the value that the fewest have.
fn rarest<'a>(values: &BTreeMap<String, Vec<&'a Replica>>) -> Vec<&'a Replica> {
    values.values().min_by_key(|replicas| replicas.len()).cloned().unwrap_or_default()
}

/// A setting and where it is found, as text.
type Setting = (&'static str, fn(&Replica) -> Option<String>);

/// What replicas of one model and one part of the work have in common.
const SETTINGS: &[Setting] = &[
    ("runtime", |one| one.runtime.map(|runtime| runtime.name().to_owned())),
    ("version", |one| one.version.clone()),
    ("dtype", |one| one.config.dtype.clone()),
    ("quantization", |one| one.config.quantization.clone()),
    ("kv_cache_dtype", |one| one.config.kv_cache_dtype.clone()),
    ("max_model_len", |one| one.config.max_model_len.map(|value| value.to_string())),
    ("max_num_seqs", |one| one.config.max_num_seqs.map(|value| value.to_string())),
    ("max_num_batched_tokens", |one| {
        one.config.max_num_batched_tokens.map(|value| value.to_string())
    }),
    ("tensor", |one| one.config.tensor.map(|value| value.to_string())),
    ("enforce_eager", |one| one.config.enforce_eager.map(|value| value.to_string())),
    ("prefix_caching", |one| one.config.prefix_caching.map(|value| value.to_string())),
    ("spec_tokens", |one| one.config.spec_tokens.map(|value| value.to_string())),
];

#[cfg(test)]
mod tests {
    use super::super::{each, proves};
    use super::*;

    #[test]
    fn it_is_told_from_its_neighbours() {
        proves(
            &RULE,
            &["S10", "S13", "S27"],
            &[
                |evidence| evidence.replicas.truncate(1),
                |evidence| {
                    each(evidence, |one| {
                        *one = Replica { name: one.name.clone(), ..Replica::default() };
                    });
                },
            ],
        );
    }
}
