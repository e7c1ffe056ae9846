//! What `pilotage check` looks at in the requests that ended in the last minute: whether they were answered.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Finding;

/// How far it looks back, in milliseconds.
pub(super) const LATE_MS: u64 = 60_000;

/// Fewest requests of which a part says anything.
const REQUESTS_MIN: usize = 5;

/// Of a hundred requests so many failed: a service with one nine is down, one with two has trouble.
const FAILED_WRONG: usize = 10;
const FAILED_WARNING: usize = 1;

/// How requests end that the gateway or its replicas failed, and that their clients did nothing for.
const FAILED: [&str; 6] =
    ["upstream_error", "upstream_interrupted", "timeout", "deadline", "queue_full", "draining"];

/// Whether a model's requests are answered; nothing where too few came.
pub(super) fn of_model(model: &str, records: &[&Value]) -> Option<Finding> {
    let own: Vec<&Value> = records
        .iter()
        .copied()
        .filter(|one| one["lane"] == model && one["mirror"] != true)
        .collect();
    let ends = ends(&own, &FAILED);
    let failed: usize = ends.values().sum();
    let question = format!("requests of {model} are answered");
    if own.len() < REQUESTS_MIN {
        return None;
    }
    let answer = format!("{} of {} in the last minute", own.len() - failed, own.len());
    if failed * 100 < own.len() * FAILED_WARNING {
        return Some(Finding::well(&question, answer));
    }
    let answer = format!("{answer}; the others ended with {}", told(&ends));
    let hint = "`pilotage tap --last 5` names them, `pilotage why ID` says what happened to one";
    Some(if failed * 100 >= own.len() * FAILED_WRONG {
        Finding::wrong(&question, answer, hint)
    } else {
        Finding::warning(&question, answer, hint)
    })
}

/// Tenants most of whose requests are over one of their limits.
pub(super) fn of_tenants(records: &[&Value]) -> Vec<Finding> {
    let mut tenants: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for one in records {
        if let Some(tenant) = one["tenant"].as_str() {
            tenants.entry(tenant).or_default().push(one);
        }
    }
    let finding = |(tenant, own): (&str, Vec<&Value>)| {
        let ends = ends(&own, &["quota", "budget"]);
        let refused: usize = ends.values().sum();
        let is_many = own.len() >= REQUESTS_MIN && refused * 2 >= own.len();
        is_many.then(|| {
            let question = format!("requests of {tenant} are within its limits");
            let answer =
                format!("{refused} of {} in the last minute were not: {}", own.len(), told(&ends));
            let hint = "a budget refuses what may cost more than is left of it: see `pilotage usage budgets`; a \
                        quota is `spec.quota` of its Tenant";
            Finding::warning(&question, answer, hint)
        })
    };
    tenants.into_iter().filter_map(finding).collect()
}

/// How often requests ended in each of these ways.
fn ends<'a>(records: &[&Value], ways: &[&'a str]) -> BTreeMap<&'a str, usize> {
    let mut ends = BTreeMap::new();
    for way in ways {
        let count = records.iter().filter(|one| one["termination"] == *way).count();
        if count > 0 {
            ends.insert(*way, count);
        }
    }
    ends
}

fn told(ends: &BTreeMap<&str, usize>) -> String {
    let each: Vec<String> = ends.iter().map(|(way, count)| format!("{way} ({count})")).collect();
    each.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Grade;
    use super::*;

    fn records(ends: &[(&str, usize)]) -> Vec<Value> {
        let one = |way: &str| json!({"lane": "m", "tenant": "ann", "termination": way});
        let all = ends.iter().flat_map(|(way, count)| std::iter::repeat_n(one(way), *count));
        all.collect()
    }

    #[test]
    fn requests_that_fail_are_told() {
        let check = |ends: &[(&str, usize)], expect: Option<(Grade, &str)>| {
            let all = records(ends);
            let found = of_model("m", &all.iter().collect::<Vec<_>>());
            let told = found.as_ref().map(|one| (one.grade, one.answer.as_str()));
            assert_eq!(told, expect);
            assert!(of_model("other", &all.iter().collect::<Vec<_>>()).is_none());
        };
        check(&[("upstream_error", 4)], None);
        check(&[("ok", 5)], Some((Grade::Well, "5 of 5 in the last minute")));
        check(&[("ok", 4), ("client_cancel", 4)], Some((Grade::Well, "8 of 8 in the last minute")));
        let said = "0 of 26 in the last minute; the others ended with upstream_error (26)";
        check(&[("upstream_error", 26)], Some((Grade::Wrong, said)));
        let said = "48 of 50 in the last minute; the others ended with queue_full (1), timeout (1)";
        check(&[("ok", 48), ("timeout", 1), ("queue_full", 1)], Some((Grade::Warning, said)));
    }

    #[test]
    fn tenants_that_are_refused_are_named() {
        let check = |ends: &[(&str, usize)], expect: &[&str]| {
            let all = records(ends);
            let found = of_tenants(&all.iter().collect::<Vec<_>>());
            let told: Vec<&str> = found.iter().map(|one| one.answer.as_str()).collect();
            assert_eq!(told, expect);
        };
        check(&[("ok", 5), ("quota", 4)], &[]);
        check(&[("budget", 4)], &[]);
        check(
            &[("ok", 1), ("budget", 7), ("quota", 1)],
            &["8 of 9 in the last minute were not: budget (7), quota (1)"],
        );
    }
}
