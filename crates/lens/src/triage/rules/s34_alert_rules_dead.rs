//! Alert rules refer to series that nobody exposes: they will never fire.

use std::collections::BTreeSet;

use super::{Case, Facts, Fix, Miss, Outcome, Rule, Severity, Tier, above};

pub(super) const RULE: Rule = Rule {
    id: "S34",
    name: "alert_rules_dead",
    title: "alert rules refer to series that nobody exposes",
    severity: Severity::Warning,
    tier: Tier::Hygiene,
    explains: &[],
    masks: &[],
    refuted_by: "the series come once something has happened for the first time",
    check,
};

/// Most names that are told.
const NAMED_MAX: usize = 8;

fn check(facts: &Facts<'_>) -> Outcome {
    let mut case = Case::of(&RULE, facts);
    let Some(alerts) = facts.evidence.alerts.as_ref().filter(|alerts| !alerts.exposed.is_empty())
    else {
        return Err(Miss::Unknown("alert rules and the names of series"));
    };
    let is_dead = |name: &&String| !alerts.exposed.contains(*name);
    let dead: BTreeSet<&String> =
        alerts.rules.iter().flat_map(|rule| &rule.refers_to).filter(is_dead).collect();
    let rules = alerts.rules.iter().filter(|rule| rule.refers_to.iter().any(|name| is_dead(&name)));
    let count = rules.clone().count();
    case.needs(above("rules that cannot fire", Some(count as f64), 1.0, ""))?;
    case.is_certain();
    case.explains(Some(0.0));
    let names: Vec<&str> = rules.map(|rule| rule.name.as_str()).take(NAMED_MAX).collect();
    case.title(format!("alert rules cannot fire: {}", names.join(", ")));
    let told = dead.iter().take(NAMED_MAX).map(|name| renamed(name, &alerts.exposed));
    let fix =
        Fix::new(told.collect::<Vec<_>>().join("; ")).predict("the rules fire when they should");
    Ok(case.finding(fix))
}

/// What a series is called now, if one is that only differs in what is often forgotten.
fn renamed(name: &str, exposed: &BTreeSet<String>) -> String {
    let stem = |name: &str| {
        let name = name.replace(':', "_");
        name.strip_suffix("_total").unwrap_or(&name).to_owned()
    };
    match exposed.iter().find(|known| stem(known) == stem(name)) {
        Some(known) => format!("write {known} instead of {name}"),
        None => format!("nobody exposes {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::proves;
    use super::*;

    #[test]
    fn it_is_told_from_its_neighbours() {
        proves(
            &RULE,
            &["S31", "S20"],
            &[
                |evidence| evidence.alerts = None,
                |evidence| evidence.alerts.as_mut().unwrap().exposed.clear(),
            ],
        );
    }

    #[test]
    fn it_says_what_a_series_is_called() {
        let exposed = BTreeSet::from(["vllm:num_preemptions_total".to_owned()]);
        let check = |name: &str, expect: &str| assert_eq!(renamed(name, &exposed), expect);
        check(
            "vllm:num_preemptions",
            "write vllm:num_preemptions_total instead of vllm:num_preemptions",
        );
        check(
            "vllm_num_preemptions_total",
            "write vllm:num_preemptions_total instead of vllm_num_preemptions_total",
        );
        check("inference_model_request_total", "nobody exposes inference_model_request_total");
    }
}
